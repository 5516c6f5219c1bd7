//! Consumer groups, and the topics of their dead letters: a group has one from its beginning to its end.

use std::sync::Arc;

use apogee_model::{
    Cluster, GroupChanges, GroupConfig, GroupId, LiteGroup, MetadataError, NewGroup, Permission, ReplicaGroup,
    Timestamp, Topic, TopicConfig, TopicId, TopicType,
};

use super::{Change, State, existing_group, existing_topic, following, within};

impl State {
    /// # Errors
    /// [`MetadataError::GroupExists`]; [`MetadataError::OutOfRange`] for attempts and rests beyond their bounds; as
    /// [`check_lite`].
    pub(super) fn new_group(
        &self,
        cluster: &Cluster,
        new: &NewGroup,
        created: Timestamp,
    ) -> Result<Change, MetadataError> {
        let NewGroup { group, order, max_attempts, retry, priority_factor, lite } = new.clone();
        check_attempts(max_attempts)?;
        retry.check()?;
        lite.as_ref().map_or(Ok(()), |lite| check_lite(cluster, lite))?;
        if cluster.groups.contains_key(&group) {
            return Err(MetadataError::GroupExists { group });
        }
        let dead_letters = TopicConfig {
            topic: group.dead_letter_topic(),
            id: TopicId(following("topic id", self.last_topic.0)?),
            topic_type: TopicType::Mixed,
            queues: 0,
            placement: Vec::new(),
            permission: Permission::ReadWrite,
            lite_expiration: None,
            key_index: true,
            epoch: 0,
            growing: None,
            created,
        };
        let dead_letters = in_all(&dead_letters, cluster.replica_groups.values());
        let id = GroupId(following("group id", self.last_group.0)?);
        let group = GroupConfig { group, id, order, max_attempts, retry, priority_factor, lite, created };
        Ok(Change::GroupCreated(Arc::new(group), Arc::new(dead_letters)))
    }
}

/// The group as it is wanted.
///
/// # Errors
/// [`MetadataError::NoSuchGroup`]; [`MetadataError::OutOfRange`] as for a new group.
pub(super) fn altered(cluster: &Cluster, changes: &GroupChanges) -> Result<Arc<GroupConfig>, MetadataError> {
    let mut group = (*existing_group(cluster, &changes.group)?).clone();
    if let Some(max_attempts) = changes.max_attempts {
        check_attempts(max_attempts)?;
        group.max_attempts = max_attempts;
    }
    if let Some(retry) = &changes.retry {
        retry.check()?;
        group.retry = retry.clone();
    }
    group.priority_factor = changes.priority_factor.unwrap_or(group.priority_factor);
    Ok(Arc::new(group))
}

/// # Errors
/// [`MetadataError::Refused`] for a topic that belongs to a group, which alone decides when it is there and where.
pub(super) fn belongs_to_nobody(topic: &Topic) -> Result<(), MetadataError> {
    let Some(group) = topic.dead_letters_of() else { return Ok(()) };
    let why =
        format!("topic {topic} is for the dead letters of consumer group {group}: it comes and goes with the group");
    Err(MetadataError::Refused { why })
}

/// Topics of dead letters as they are when there are `new` replica groups too: with a queue in each of them.
pub(super) fn grown<'a>(
    cluster: &'a Cluster,
    new: &'a [Arc<ReplicaGroup>],
) -> impl Iterator<Item = Arc<TopicConfig>> + 'a {
    let topics = cluster.topics.values().filter(|topic| !new.is_empty() && topic.topic.dead_letters_of().is_some());
    topics.map(|topic| Arc::new(in_all(topic, new.iter())))
}

fn in_all<'a>(topic: &TopicConfig, groups: impl Iterator<Item = &'a Arc<ReplicaGroup>>) -> TopicConfig {
    let mut placement = topic.placement.clone();
    for group in groups.filter(|group| !topic.placement.contains(&group.id)) {
        if placement.len() < usize::from(u16::MAX) {
            placement.push(group.id);
        }
    }
    let queues = u16::try_from(placement.len()).expect("no more than fit");
    TopicConfig { placement, queues, ..topic.clone() }
}

/// # Errors
/// [`MetadataError::NoSuchTopic`]; [`MetadataError::Refused`] for a topic without lite topics; [`MetadataError::OutOfRange`].
fn check_lite(cluster: &Cluster, lite: &LiteGroup) -> Result<(), MetadataError> {
    let topic = existing_topic(cluster, &lite.topic)?;
    if topic.topic_type != TopicType::Lite {
        let why = format!("topic {} is of another type than LITE: it has no lite topics", topic.topic);
        return Err(MetadataError::Refused { why });
    }
    within("lite topics of a client", u64::from(lite.client_max), 1..=u64::from(u32::MAX))
}

fn check_attempts(max_attempts: u32) -> Result<(), MetadataError> {
    within("max attempts", u64::from(max_attempts), 1..=u64::from(u32::MAX))
}
