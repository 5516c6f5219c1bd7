//! A refusal in the details of a status, so that the asker has the same word as if it had asked in the same process.

use apogee_model::{MetadataError, ReplicaGroupId, RetryPolicy};
use apogee_proto::Malformed;
use apogee_proto::namesrv::v1;
use apogee_proto::namesrv::v1::refusal::Why;
use prost::Message as _;
use tonic::{Code, Status};

use super::{Read, group_name, read_group_name, read_node_name, read_topic_name, topic_name};

/// The status that says `error`.
pub(crate) fn status_of(error: &MetadataError) -> Status {
    let (code, why) = match error {
        MetadataError::TopicExists { topic } => (Code::AlreadyExists, Why::TopicExists(topic_name(topic))),
        MetadataError::NoSuchTopic { topic } => (Code::NotFound, Why::NoSuchTopic(topic_name(topic))),
        MetadataError::GroupExists { group } => (Code::AlreadyExists, Why::GroupExists(group_name(group))),
        MetadataError::NoSuchGroup { group } => (Code::NotFound, Why::NoSuchGroup(group_name(group))),
        MetadataError::OutOfRange { what, asked, min, max } => {
            let range = v1::OutOfRange { what: (*what).to_owned(), asked: *asked, min: *min, max: *max };
            (Code::InvalidArgument, Why::OutOfRange(range))
        }
        MetadataError::NoReplicaGroups { nodes, needed } => {
            let nodes = u64::try_from(*nodes).unwrap_or(u64::MAX);
            let missing = v1::NoReplicaGroups { nodes, needed: u32::from(*needed) };
            (Code::FailedPrecondition, Why::NoReplicaGroups(missing))
        }
        MetadataError::NoSuchNode { node } => (Code::NotFound, Why::NoSuchNode(node.as_str().to_owned())),
        MetadataError::OtherIncarnation { node } => {
            (Code::FailedPrecondition, Why::OtherIncarnation(node.as_str().to_owned()))
        }
        MetadataError::NoTurn { group } => (Code::FailedPrecondition, Why::NoTurn(group.0)),
        MetadataError::KeepsReplicas { node, replicas } => {
            let replicas = u64::try_from(*replicas).unwrap_or(u64::MAX);
            let keeps = v1::KeepsReplicas { node: node.as_str().to_owned(), replicas };
            (Code::FailedPrecondition, Why::KeepsReplicas(keeps))
        }
        MetadataError::NotLeader { leader } => (Code::Unavailable, Why::NotLeader(leader.clone().unwrap_or_default())),
        MetadataError::Unreachable { why } => (Code::Unavailable, Why::Unreachable(why.clone())),
        MetadataError::Refused { why } => (Code::FailedPrecondition, Why::Refused(why.clone())),
        MetadataError::Stopped => (Code::Unavailable, Why::Stopped(true)),
    };
    let details = v1::Refusal { why: Some(why) }.encode_to_vec();
    Status::with_details(code, error.to_string(), details.into())
}

/// What a status of namesrv says; `None` when it is not from there, but from the way to it.
pub(crate) fn refusal_of(status: &Status) -> Option<MetadataError> {
    if status.details().is_empty() {
        let refused = matches!(
            status.code(),
            Code::Unauthenticated | Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented
        );
        return refused.then(|| MetadataError::Refused { why: status.message().to_owned() });
    }
    let why = v1::Refusal::decode(status.details()).ok()?.why?;
    read(why).ok()
}

fn read(why: Why) -> Read<MetadataError> {
    Ok(match why {
        Why::TopicExists(topic) => MetadataError::TopicExists { topic: read_topic_name(Some(topic))? },
        Why::NoSuchTopic(topic) => MetadataError::NoSuchTopic { topic: read_topic_name(Some(topic))? },
        Why::GroupExists(group) => MetadataError::GroupExists { group: read_group_name(Some(group))? },
        Why::NoSuchGroup(group) => MetadataError::NoSuchGroup { group: read_group_name(Some(group))? },
        Why::OutOfRange(v1::OutOfRange { what, asked, min, max }) => {
            MetadataError::OutOfRange { what: known(&what), asked, min, max }
        }
        Why::NoReplicaGroups(v1::NoReplicaGroups { nodes, needed }) => MetadataError::NoReplicaGroups {
            nodes: usize::try_from(nodes).unwrap_or(usize::MAX),
            needed: u8::try_from(needed).map_err(|_| Malformed { what: "the replication factor" })?,
        },
        Why::NoSuchNode(node) => MetadataError::NoSuchNode { node: read_node_name(&node)? },
        Why::OtherIncarnation(node) => MetadataError::OtherIncarnation { node: read_node_name(&node)? },
        Why::NoTurn(group) => MetadataError::NoTurn { group: ReplicaGroupId(group) },
        Why::KeepsReplicas(v1::KeepsReplicas { node, replicas }) => MetadataError::KeepsReplicas {
            node: read_node_name(&node)?,
            replicas: usize::try_from(replicas).unwrap_or(usize::MAX),
        },
        Why::NotLeader(leader) => MetadataError::NotLeader { leader: Some(leader).filter(|leader| !leader.is_empty()) },
        Why::Unreachable(why) => MetadataError::Unreachable { why },
        Why::Refused(why) => MetadataError::Refused { why },
        Why::Stopped(_) => MetadataError::Stopped,
    })
}

/// The ranges that namesrv knows.
fn known(what: &str) -> &'static str {
    let plain = ["queues", "max attempts", "topic id", "group id"];
    plain.into_iter().chain(RetryPolicy::BOUNDS).find(|known| *known == what).unwrap_or("a number")
}

#[cfg(test)]
mod tests {
    use apogee_model::{ConsumerGroup, NodeName, Topic};

    use super::*;

    #[test]
    fn every_refusal_arrives_as_it_was_said() {
        let (topic, group) = (Topic::parse("a", "t").unwrap(), ConsumerGroup::parse("", "g").unwrap());
        let (node, why) = (NodeName::parse("n1").unwrap(), "because".to_owned());
        for error in [
            MetadataError::TopicExists { topic: topic.clone() },
            MetadataError::NoSuchTopic { topic },
            MetadataError::GroupExists { group: group.clone() },
            MetadataError::NoSuchGroup { group },
            MetadataError::OutOfRange { what: "queues", asked: 0, min: 1, max: 1024 },
            MetadataError::OutOfRange { what: RetryPolicy::BOUNDS[1], asked: 0, min: 1, max: 2 },
            MetadataError::NoReplicaGroups { nodes: 1, needed: 3 },
            MetadataError::NoSuchNode { node: node.clone() },
            MetadataError::OtherIncarnation { node: node.clone() },
            MetadataError::KeepsReplicas { node, replicas: 3 },
            MetadataError::NoTurn { group: ReplicaGroupId(3) },
            MetadataError::NotLeader { leader: None },
            MetadataError::NotLeader { leader: Some("h:1".to_owned()) },
            MetadataError::Unreachable { why: why.clone() },
            MetadataError::Refused { why },
            MetadataError::Stopped,
        ] {
            assert_eq!(refusal_of(&status_of(&error)), Some(error));
        }
        assert_eq!(refusal_of(&Status::unavailable("gone")), None);
        let refused = MetadataError::Refused { why: "no token".to_owned() };
        assert_eq!(refusal_of(&Status::unauthenticated("no token")), Some(refused));
    }
}
