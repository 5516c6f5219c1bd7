//! What is true in the cluster, and what a command does to it.

mod change;
mod command;
mod groups;
mod moves;
mod nodes;
mod picture;
mod placement;
mod topics;

use std::ops::RangeInclusive;
use std::sync::Arc;

use apogee_model::{
    Cluster, ConsumerGroup, GroupConfig, GroupId, MacKey, MacKeys, MetadataError, NewTopic, ReplicaGroupId, Timestamp,
    Topic, TopicConfig, TopicId,
};

use serde::{Deserialize, Serialize};

pub(crate) use change::Change;
pub(crate) use command::{Command, Secret};
pub(crate) use moves::are_due as moves_are_due;

/// Why a command does nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the cluster is born already")]
    BornAlready,
    #[error("the cluster is not born yet")]
    NotBorn,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The version that has it, or at which it was refused.
    pub(crate) version: u64,
    pub(crate) answer: Result<Change, MetadataError>,
}

impl From<Refusal> for MetadataError {
    fn from(refusal: Refusal) -> MetadataError {
        match refusal {
            Refusal::Metadata(error) => error,
            Refusal::BornAlready | Refusal::NotBorn => MetadataError::Refused { why: refusal.to_string() },
        }
    }
}

/// The state machine. Facts come in as [`Command`]s; no clock, no randomness, no IO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "picture::Picture", from = "picture::Picture")]
pub(crate) struct State {
    /// `None` until [`Command::Birth`].
    cluster: Option<Arc<Cluster>>,
    /// The largest ids ever given; 0 before the first. Deletion does not lower them.
    last_topic: TopicId,
    last_group: GroupId,
    /// The id of the next replica group; the first is 0.
    next_replica_group: ReplicaGroupId,
}

impl State {
    /// What everybody may know; `None` before the birth.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// How many changes were made.
    pub(crate) fn version(&self) -> u64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.version)
    }

    /// Decides and applies: what becomes of a command that consensus has committed.
    pub(crate) fn run(&mut self, command: &Command) -> Outcome {
        let answer = self.decide(command).map_err(MetadataError::from);
        if let Ok(change) = &answer {
            self.apply(change);
        }
        Outcome { version: self.version(), answer }
    }

    /// What `command` would change. Changes nothing.
    pub(crate) fn decide(&self, command: &Command) -> Result<Change, Refusal> {
        match (&self.cluster, command) {
            (None, Command::Birth { cluster_id, replication_factor, mac_key }) => Ok(Change::Born {
                cluster_id: *cluster_id,
                replication_factor: *replication_factor,
                mac_keys: Arc::new(first_keys(mac_key)),
            }),
            (Some(_), Command::Birth { .. }) => Err(Refusal::BornAlready),
            (None, _) => Err(Refusal::NotBorn),
            (Some(cluster), Command::CreateTopic { new, created }) => {
                groups::belongs_to_nobody(&new.topic)?;
                Ok(Change::TopicCreated(self.new_topic(cluster, new, *created)?))
            }
            (Some(cluster), Command::AlterTopic { changes }) => {
                Ok(Change::TopicAltered(topics::altered(cluster, changes)?))
            }
            (Some(cluster), Command::DeleteTopic { topic }) => {
                groups::belongs_to_nobody(topic)?;
                Ok(Change::TopicDeleted(existing_topic(cluster, topic)?))
            }
            (Some(cluster), Command::CreateGroup { new, created }) => Ok(self.new_group(cluster, new, *created)?),
            (Some(cluster), Command::AlterGroup { changes }) => {
                Ok(Change::GroupAltered(groups::altered(cluster, changes)?))
            }
            (Some(cluster), Command::DeleteGroup { group }) => {
                Ok(Change::GroupDeleted(existing_group(cluster, group)?))
            }
            (Some(cluster), Command::RotateMacKey { secret }) => {
                Ok(Change::KeysRotated(Arc::new(next_keys(&cluster.mac_keys, secret))))
            }
            (Some(cluster), Command::RegisterNode { new }) => Ok(self.register(cluster, new)),
            (Some(cluster), Command::NodeHeard { node, incarnation, alive }) => {
                Ok(self.node_heard(cluster, node, *incarnation, *alive)?)
            }
            (Some(cluster), Command::LeaveInTurn { node, incarnation }) => {
                Ok(self.leave_in_turn(cluster, node, *incarnation)?)
            }
            (Some(cluster), Command::DrainNode { node }) => Ok(self.drain(cluster, node)?),
            (Some(cluster), Command::UndrainNode { node }) => Ok(self.undrain(cluster, node)?),
            (Some(cluster), Command::RemoveNode { node }) => Ok(nodes::removed(cluster, node)?),
            (Some(cluster), Command::BeginMoves) => Ok(moves::begin(cluster)),
            (Some(cluster), Command::MoveReady { group, comes }) => Ok(moves::ready(cluster, *group, *comes)),
            (Some(cluster), Command::MoveDone { group, comes }) => Ok(moves::done(cluster, *group, *comes)?),
        }
    }

    /// Makes a change that [`State::decide`] of this very state returned: the only mutation.
    ///
    /// # Panics
    /// When the cluster is not born and the change is not its birth, which `decide` never returns.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::TopicCreated(topic) => self.last_topic = topic.id,
            Change::GroupCreated(group, dead_letters) => {
                (self.last_group, self.last_topic) = (group.id, dead_letters.id);
            }
            Change::NodeChanged { groups, .. } => {
                if let Some(last) = groups.last() {
                    self.next_replica_group = ReplicaGroupId(last.id.0.saturating_add(1));
                }
            }
            Change::Nothing => return,
            Change::Born { .. }
            | Change::TopicAltered(_)
            | Change::TopicDeleted(_)
            | Change::GroupAltered(_)
            | Change::GroupDeleted(_)
            | Change::KeysRotated(_)
            | Change::NodeRemoved(_)
            | Change::ReplicasMoved(_) => {}
        }
        self.cluster = Some(Arc::new(change.after(self.cluster.as_deref())));
    }

    fn new_topic(
        &self,
        cluster: &Cluster,
        new: &NewTopic,
        created: Timestamp,
    ) -> Result<Arc<TopicConfig>, MetadataError> {
        within("queues", u64::from(new.queues), 1..=u64::from(TopicConfig::QUEUES_MAX))?;
        if let Some(expiration) = new.lite_expiration {
            topics::check_lite_expiration(new, expiration)?;
        }
        if cluster.topics.contains_key(&new.topic) {
            return Err(MetadataError::TopicExists { topic: new.topic.clone() });
        }
        let id = TopicId(following("topic id", self.last_topic.0)?);
        let placement = placement::queues(cluster, id, new.topic_type, new.queues);
        if placement.is_empty() {
            return Err(MetadataError::NoReplicaGroups {
                nodes: cluster.nodes.len(),
                needed: cluster.replication_factor,
            });
        }
        Ok(Arc::new(TopicConfig {
            topic: new.topic.clone(),
            id,
            topic_type: new.topic_type,
            queues: new.queues,
            placement,
            permission: new.permission,
            lite_expiration: new.lite_expiration,
            key_index: new.key_index,
            epoch: 0,
            growing: None,
            created,
        }))
    }
}

fn existing_topic(cluster: &Cluster, topic: &Topic) -> Result<Arc<TopicConfig>, MetadataError> {
    cluster.topics.get(topic).cloned().ok_or_else(|| MetadataError::NoSuchTopic { topic: topic.clone() })
}

fn existing_group(cluster: &Cluster, group: &ConsumerGroup) -> Result<Arc<GroupConfig>, MetadataError> {
    cluster.groups.get(group).cloned().ok_or_else(|| MetadataError::NoSuchGroup { group: group.clone() })
}

fn first_keys(secret: &Secret) -> MacKeys {
    MacKeys { current: MacKey { generation: 1, secret: secret.0 }, previous: None }
}

/// Generations wrap after 256 rotations; only two of them live at a time.
fn next_keys(keys: &MacKeys, secret: &Secret) -> MacKeys {
    let generation = keys.current.generation.wrapping_add(1);
    MacKeys { current: MacKey { generation, secret: secret.0 }, previous: Some(keys.current.clone()) }
}

fn following(what: &'static str, last: u32) -> Result<u32, MetadataError> {
    let max = u64::from(u32::MAX);
    last.checked_add(1).ok_or(MetadataError::OutOfRange { what, asked: max + 1, min: 1, max })
}

fn within(what: &'static str, asked: u64, allowed: RangeInclusive<u64>) -> Result<(), MetadataError> {
    if allowed.contains(&asked) {
        return Ok(());
    }
    Err(MetadataError::OutOfRange { what, asked, min: *allowed.start(), max: *allowed.end() })
}

#[cfg(test)]
mod tests;
