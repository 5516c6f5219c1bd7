//! The groups on all topics.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use apogee_model::{GroupId, TopicId};

use super::GroupTopic;

/// Reads like a map by (group, topic), and knows the groups of a topic too.
#[derive(Debug, Default)]
pub(crate) struct Pops {
    all: BTreeMap<(GroupId, TopicId), GroupTopic>,
    by_topic: BTreeSet<(TopicId, GroupId)>,
}

impl Deref for Pops {
    type Target = BTreeMap<(GroupId, TopicId), GroupTopic>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Pops {
    /// The group on the topic, made now if need be.
    pub(crate) fn or_create(&mut self, group: GroupId, topic: TopicId) -> &mut GroupTopic {
        self.by_topic.insert((topic, group));
        self.all.entry((group, topic)).or_default()
    }

    pub(crate) fn get_mut(&mut self, group: GroupId, topic: TopicId) -> Option<&mut GroupTopic> {
        self.all.get_mut(&(group, topic))
    }

    pub(crate) fn remove(&mut self, group: GroupId, topic: TopicId) -> Option<GroupTopic> {
        self.by_topic.remove(&(topic, group));
        self.all.remove(&(group, topic))
    }

    /// The groups that are known on a topic.
    pub(crate) fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = (GroupId, &GroupTopic)> + '_ {
        let groups = self.by_topic.range((topic, GroupId(0))..=(topic, GroupId(u32::MAX)));
        groups.filter_map(|(topic, group)| Some((*group, self.all.get(&(*group, *topic))?)))
    }
}
