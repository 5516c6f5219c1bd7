//! The other replicas of the group, as the engine reaches them. What the frames mean is the engine's own business
//! (`raft::wire`); whoever carries them sees bytes.

use apogee_model::ReplicaId;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// Largest frame: a few of the largest blocks and what is said about them.
pub const FRAME_MAX: usize = 20 << 20;

/// The way to the other replicas.
///
/// Frames of one pipeline arrive in order, each at most once; calls may overtake each other. The other side hands what
/// arrives to [`crate::Ear::answer`] and [`crate::Ear::answer_pipeline`].
pub trait Peers: Send + Sync + 'static {
    /// One question, one answer. The carrier gives up after some seconds; the caller may do so earlier by dropping it.
    fn call(&self, to: ReplicaId, frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>>;

    /// Many questions without waiting: the answers come in the order of the frames, one each. Ends after the last
    /// answer when `frames` ends; an error ends it too.
    fn pipeline(&self, to: ReplicaId, frames: BoxStream<'static, Bytes>) -> Answers;
}

/// The answers of a pipeline.
pub type Answers = BoxStream<'static, Result<Bytes, Unreachable>>;

/// A replica did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("replica {to} is out of reach: {why}")]
pub struct Unreachable {
    pub to: ReplicaId,
    pub why: String,
}

/// Bytes from another replica that are no frame of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of another replica cannot be read: {why}")]
pub struct NotAFrame {
    pub why: &'static str,
}
