//! Topics that become otherwise.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::{Cluster, MetadataError, NewTopic, TopicChanges, TopicConfig, TopicType};

use super::groups::belongs_to_nobody;
use super::{existing_topic, placement, within};

/// The topic as it is wanted. The queues it has stay where they are; new ones go where those of a new topic would, and
/// new levels of a PRIORITY topic to the others. A topic with message groups gets them when it is opened.
///
/// # Errors
/// [`MetadataError::NoSuchTopic`]; [`MetadataError::OutOfRange`] for fewer queues than there are or too many;
/// [`MetadataError::Refused`] for other queues of a topic that hashes lite topics over them.
pub(super) fn altered(cluster: &Cluster, changes: &TopicChanges) -> Result<Arc<TopicConfig>, MetadataError> {
    let mut topic = (*existing_topic(cluster, &changes.topic)?).clone();
    if let Some(epoch) = changes.open {
        open(cluster, &mut topic, epoch);
        return Ok(Arc::new(topic));
    }
    if let Some(queues) = changes.queues.filter(|queues| *queues != topic.queues || topic.growing.is_some()) {
        belongs_to_nobody(&topic.topic)?;
        if topic.topic_type == TopicType::Lite {
            let why = format!("topic {} keeps lite topics in order, so its queues stay as they are", topic.topic);
            return Err(MetadataError::Refused { why });
        }
        within("queues", u64::from(queues), u64::from(topic.queues)..=u64::from(TopicConfig::QUEUES_MAX))?;
        if matches!(topic.topic_type, TopicType::Fifo | TopicType::Mixed) {
            topic.growing = Some(queues);
        } else {
            grow(cluster, &mut topic, queues);
        }
    }
    topic.permission = changes.permission.unwrap_or(topic.permission);
    topic.key_index = changes.key_index.unwrap_or(topic.key_index);
    Ok(Arc::new(topic))
}

/// Nothing happens when it was opened before.
fn open(cluster: &Cluster, topic: &mut TopicConfig, epoch: u32) {
    if let Some(queues) = topic.growing.take_if(|_| topic.epoch == epoch) {
        grow(cluster, topic, queues);
        topic.epoch = epoch.saturating_add(1);
    }
}

fn grow(cluster: &Cluster, topic: &mut TopicConfig, queues: u16) {
    let wanted = match topic.placement.first() {
        Some(group) if topic.topic_type == TopicType::Priority => vec![*group; usize::from(queues)],
        _ => placement::queues(cluster, topic.id, topic.topic_type, queues),
    };
    topic.placement.extend(wanted.into_iter().skip(usize::from(topic.queues)));
    topic.queues = queues;
}

/// # Errors
/// [`MetadataError::OutOfRange`]; [`MetadataError::Refused`] for a topic without lite topics.
pub(super) fn check_lite_expiration(new: &NewTopic, expiration: Duration) -> Result<(), MetadataError> {
    if new.topic_type != TopicType::Lite {
        let why = format!("topic {} is of another type than LITE: it has no lite topics", new.topic);
        return Err(MetadataError::Refused { why });
    }
    let allowed = TopicConfig::LITE_EXPIRATION_MIN.as_secs()..=TopicConfig::LITE_EXPIRATION_MAX.as_secs();
    within("lite expiration in seconds", expiration.as_secs(), allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use apogee_model::{
        MacKey, MacKeys, Permission, ReplicaGroup, ReplicaGroupId, ReplicaId, Timestamp, Topic, TopicId,
    };

    use super::*;

    fn cluster(topic_type: TopicType) -> Cluster {
        let mac_keys = Arc::new(MacKeys { current: MacKey { generation: 1, secret: [0; 32] }, previous: None });
        let mut cluster = Cluster::born(1, 1, mac_keys);
        for id in (0..3).map(ReplicaGroupId) {
            let group = ReplicaGroup::new(id, BTreeMap::new(), ReplicaId(1));
            cluster.replica_groups.insert(id, Arc::new(group));
        }
        let topic = TopicConfig {
            topic: orders(),
            id: TopicId(1),
            topic_type,
            queues: 2,
            placement: vec![ReplicaGroupId(0); 2], // of a time when there was only one
            permission: Permission::ReadWrite,
            lite_expiration: None,
            key_index: true,
            epoch: 0,
            growing: None,
            created: Timestamp(0),
        };
        cluster.topics.insert(orders(), Arc::new(topic));
        cluster
    }

    fn orders() -> Topic {
        Topic::parse("", "orders").expect("a good name")
    }

    fn alter(
        topic_type: TopicType,
        queues: Option<u16>,
        permission: Option<Permission>,
    ) -> Result<Arc<TopicConfig>, MetadataError> {
        altered(
            &cluster(topic_type),
            &TopicChanges { topic: orders(), queues, permission, key_index: None, open: None },
        )
    }

    #[test]
    fn queues_are_added_behind_those_that_stay_where_they_are() {
        let grown = alter(TopicType::Normal, Some(5), None).unwrap();
        let placement: Vec<_> = grown.placement.iter().map(|group| group.0).collect();
        assert_eq!((grown.queues, placement), (5, vec![0, 0, 0, 1, 2]));
        assert_eq!((grown.id, grown.permission), (TopicId(1), Permission::ReadWrite));
    }

    #[test]
    fn levels_stay_together() {
        let grown = alter(TopicType::Priority, Some(5), None).unwrap();
        assert_eq!((grown.queues, &grown.placement), (5, &vec![ReplicaGroupId(0); 5]));
    }

    #[test]
    fn queues_never_become_fewer_or_too_many() {
        for asked in [1, 1025] {
            let refused = MetadataError::OutOfRange { what: "queues", asked: u64::from(asked), min: 2, max: 1024 };
            assert_eq!(alter(TopicType::Normal, Some(asked), None), Err(refused));
        }
    }

    #[test]
    fn the_queues_of_lite_topics_are_fixed_and_the_permission_is_not() {
        assert!(matches!(alter(TopicType::Lite, Some(3), None), Err(MetadataError::Refused { .. })));
        let altered = alter(TopicType::Lite, Some(2), Some(Permission::Read)).unwrap();
        assert_eq!((altered.queues, altered.permission), (2, Permission::Read));
    }

    #[test]
    fn message_groups_get_their_queues_when_the_topic_is_opened() {
        for topic_type in [TopicType::Fifo, TopicType::Mixed] {
            let mut cluster = cluster(topic_type);
            let mut change = |queues, open| {
                let (topic, permission, key_index) = (orders(), None, None);
                let topic = altered(&cluster, &TopicChanges { topic, queues, permission, key_index, open })?;
                cluster.topics.insert(orders(), Arc::clone(&topic));
                Ok::<_, MetadataError>((topic.queues, topic.growing, topic.epoch, topic.placement.len()))
            };
            assert!(matches!(change(Some(1), None), Err(MetadataError::OutOfRange { .. })));
            assert_eq!(change(Some(2), None), Ok((2, None, 0, 2)), "it has so many");
            assert_eq!(change(Some(5), None), Ok((2, Some(5), 0, 2)));
            assert_eq!(change(Some(4), None), Ok((2, Some(4), 0, 2)), "somebody thought better of it");
            assert_eq!(change(None, Some(1)), Ok((2, Some(4), 0, 2)), "that was another time");
            assert_eq!(change(None, Some(0)), Ok((4, None, 1, 4)));
            assert_eq!(change(None, Some(0)), Ok((4, None, 1, 4)), "it is open already");
        }
    }

    #[test]
    fn what_is_not_there_is_not_altered() {
        let nowhere = TopicChanges {
            topic: Topic::parse("", "x").unwrap(),
            queues: None,
            permission: None,
            key_index: None,
            open: None,
        };
        let missing = altered(&cluster(TopicType::Normal), &nowhere);
        assert!(matches!(missing, Err(MetadataError::NoSuchTopic { .. })));
    }
}
