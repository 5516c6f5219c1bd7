//! What topics and consumer groups have in common as objects that are kept in the cluster.

use std::fmt::Debug;

use apogee_proto::admin::v1 as admin;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::crds::{ConsumerGroup, ConsumerGroupStatus, DeletionPolicy, Topic, TopicStatus};
use crate::decide::{self, Decision, Refusal};
use crate::watched::{Watched, with_nulls};

/// An annotation with which an object takes over what is there already: `"true"`.
pub(crate) const ADOPT: &str = "apogeemq.io/adopt";

/// What an object has in the cluster, as its status remembers it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The number the cluster gave what belongs to this object.
    pub(crate) id: Option<u32>,
    /// The cluster had nothing of this name when this object asked for it, so what comes belongs to it. Written before the
    /// object asks, because its answer may get lost.
    pub(crate) claimed: bool,
}

impl Held {
    /// Whether what is there under this number belongs to the object.
    pub(crate) fn owns(self, id: u32) -> bool {
        self.claimed || self.id == Some(id)
    }

    pub(crate) fn something(self) -> bool {
        self.claimed || self.id.is_some()
    }
}

/// A kind of object that is kept in the cluster.
pub(crate) trait Kept: Watched {
    /// As the cluster has it.
    type There: Clone + Debug + Send + Sync + 'static;
    type Create: Clone + Debug + Send + 'static;
    type Alter: Clone + Debug + Send + 'static;

    fn cluster_ref(&self) -> Option<&str>;
    fn deletion_policy(&self) -> DeletionPolicy;
    fn held(&self) -> Held;

    /// What is to be done, when that is there.
    ///
    /// # Errors
    /// [`Refusal`] when nothing can or may be done.
    fn decide(&self, held: Held, there: Option<&Self::There>) -> Result<Decision<Self>, Refusal>;

    fn id(there: &Self::There) -> u32;

    /// What it is now, for people.
    fn describe(there: &Self::There) -> String;

    /// The status as JSON, with `null` for what it does not have; `None` for `there` leaves what was known of it.
    fn status(&self, held: Held, there: Option<&Self::There>, conditions: Vec<Condition>) -> serde_json::Value;

    /// Whether it takes over what it did not make.
    fn adopts(&self) -> bool {
        self.annotations().get(ADOPT).is_some_and(|value| value == "true")
    }
}

impl Watched for Topic {
    const NOUN: &'static str = "topic";
    const RESOURCE: &'static str = "topics.apogeemq.io";

    fn name_there(&self) -> String {
        self.spec.topic_name.clone().unwrap_or_else(|| self.name_any())
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |known| &known.conditions)
    }

    fn observed_generation(&self) -> i64 {
        self.status.as_ref().map_or(0, |known| known.observed_generation)
    }
}

impl Kept for Topic {
    type There = admin::Topic;
    type Create = admin::CreateTopicRequest;
    type Alter = admin::AlterTopicRequest;

    fn cluster_ref(&self) -> Option<&str> {
        self.spec.cluster_ref.as_deref()
    }

    fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn held(&self) -> Held {
        let known = self.status.as_ref();
        known.map_or_else(Held::default, |known| Held { id: known.topic_id, claimed: known.claimed })
    }

    fn decide(&self, held: Held, there: Option<&admin::Topic>) -> Result<Decision<Topic>, Refusal> {
        decide::topic(self, held, there)
    }

    fn id(there: &admin::Topic) -> u32 {
        there.id
    }

    fn describe(there: &admin::Topic) -> String {
        format!("topic {} has {} queues", there.name, there.write_queues)
    }

    fn status(&self, held: Held, there: Option<&admin::Topic>, conditions: Vec<Condition>) -> serde_json::Value {
        let known = self.status.as_ref().and_then(|known| known.queues);
        let status = TopicStatus {
            observed_generation: self.metadata.generation.unwrap_or_default(),
            topic_id: held.id,
            claimed: held.claimed,
            queues: there.map(|there| there.write_queues).or(known),
            conditions,
        };
        with_nulls(&status, &["topicId", "queues"])
    }
}

impl Watched for ConsumerGroup {
    const NOUN: &'static str = "consumer group";
    const RESOURCE: &'static str = "consumergroups.apogeemq.io";

    fn name_there(&self) -> String {
        self.spec.group_name.clone().unwrap_or_else(|| self.name_any())
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |known| &known.conditions)
    }

    fn observed_generation(&self) -> i64 {
        self.status.as_ref().map_or(0, |known| known.observed_generation)
    }
}

impl Kept for ConsumerGroup {
    type There = admin::Group;
    type Create = admin::CreateGroupRequest;
    type Alter = admin::AlterGroupRequest;

    fn cluster_ref(&self) -> Option<&str> {
        self.spec.cluster_ref.as_deref()
    }

    fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn held(&self) -> Held {
        let known = self.status.as_ref();
        known.map_or_else(Held::default, |known| Held { id: known.group_id, claimed: known.claimed })
    }

    fn decide(&self, held: Held, there: Option<&admin::Group>) -> Result<Decision<ConsumerGroup>, Refusal> {
        decide::group(self, held, there)
    }

    fn id(there: &admin::Group) -> u32 {
        there.id
    }

    fn describe(there: &admin::Group) -> String {
        format!("consumer group {} delivers a message {} times at most", there.name, there.max_attempts)
    }

    fn status(&self, held: Held, _: Option<&admin::Group>, conditions: Vec<Condition>) -> serde_json::Value {
        let status = ConsumerGroupStatus {
            observed_generation: self.metadata.generation.unwrap_or_default(),
            group_id: held.id,
            claimed: held.claimed,
            conditions,
        };
        with_nulls(&status, &["groupId"])
    }
}
