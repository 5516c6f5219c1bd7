//! Lite topics, for operators.

use std::collections::BTreeMap;

use apogee_model::store::{LiteList, LiteStatus};
use apogee_model::{Cluster, GroupId, ReplicaGroupId, Topic, message_group_queue};
use apogee_proto::admin::v1;

use super::convert::time;
use super::error::AdminError;
use super::{Admin, known_topic, page};

impl Admin {
    pub(super) async fn do_list_lite_topics(
        &self,
        ask: v1::ListLiteTopicsRequest,
    ) -> Result<v1::ListLiteTopicsResponse, AdminError> {
        let size = page::size(ask.page_size)?;
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let mut place = Place::read(&ask.page_token)?;
        let (names, mut lite_topics) = (group_names(&cluster), Vec::new());
        for group in topic.replica_groups().range(place.group..) {
            let after = if *group == place.group { place.after } else { None };
            place = Place { after, group: *group };
            loop {
                let left = size - lite_topics.len();
                if left == 0 {
                    return Ok(v1::ListLiteTopicsResponse { lite_topics, next_page_token: place.token() });
                }
                let list = LiteList { topic: topic.id, after: place.after.clone(), only: None, max: left };
                let some = self.stores.of(*group)?.lite_list(list).await?;
                let Some(last) = some.last() else { break };
                place.after = Some(last.name.clone());
                lite_topics.extend(some.iter().map(|it| shown(*group, it, &names)));
            }
        }
        Ok(v1::ListLiteTopicsResponse { lite_topics, next_page_token: String::new() })
    }

    pub(super) async fn do_describe_lite_topic(
        &self,
        ask: v1::DescribeLiteTopicRequest,
    ) -> Result<v1::DescribeLiteTopicResponse, AdminError> {
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let missing = || AdminError::NoSuchLiteTopic { topic: topic.topic.clone(), name: ask.name.clone() };
        let group = topic.replica_group(message_group_queue(&ask.name, topic.queues)).ok_or_else(missing)?;
        let list = LiteList { topic: topic.id, after: None, only: Some(ask.name.as_str().into()), max: 1 };
        let found = self.stores.of(group)?.lite_list(list).await?;
        let lite_topic = found.first().ok_or_else(missing)?;
        Ok(v1::DescribeLiteTopicResponse { lite_topic: Some(shown(group, lite_topic, &group_names(&cluster))) })
    }
}

fn group_names(cluster: &Cluster) -> BTreeMap<GroupId, &str> {
    cluster.groups.values().map(|group| (group.id, group.group.name())).collect()
}

/// Groups that were deleted a moment ago are left out.
fn shown(group: ReplicaGroupId, it: &LiteStatus, names: &BTreeMap<GroupId, &str>) -> v1::LiteTopic {
    let groups = it.groups.iter().filter_map(|status| {
        Some(v1::LiteTopicGroup {
            group: (*names.get(&status.group)?).to_owned(),
            committed: status.floor.0,
            in_flight: status.in_flight,
            clients: status.clients.iter().map(ToString::to_string).collect(),
        })
    });
    v1::LiteTopic {
        name: it.name.to_string(),
        broker: group.broker_name(),
        min_offset: it.min.0,
        max_offset: it.max.0,
        written: Some(time(it.written)),
        groups: groups.collect(),
    }
}

/// Where a page begins.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    group: ReplicaGroupId,
    after: Option<Box<str>>,
}

impl Place {
    fn read(token: &str) -> Result<Self, AdminError> {
        if token.is_empty() {
            return Ok(Self { group: ReplicaGroupId(0), after: None });
        }
        let read = || {
            let (group, after) = token.split_once('/')?;
            let after = Some(after).filter(|after| !after.is_empty()).map(Into::into);
            Some(Self { group: ReplicaGroupId(group.parse().ok()?), after })
        };
        read().ok_or_else(|| AdminError::PageToken { token: token.chars().take(300).collect() })
    }

    fn token(&self) -> String {
        format!("{}/{}", self.group, self.after.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_one_before_ended() {
        for place in [(0, None), (3, Some("s-1"))] {
            let place = Place { group: ReplicaGroupId(place.0), after: place.1.map(Into::into) };
            assert_eq!(Place::read(&place.token()).unwrap(), place);
        }
        assert!(Place::read("x").is_err() && Place::read("x/y").is_err());
    }
}
