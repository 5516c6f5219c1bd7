//! How a replica that is too far behind gets a base and the log behind it.
//!
//! Openraft says when: a follower needs blocks that the leader gave up. The leader sends the files of its newest base,
//! then its segments from the oldest block it has not given up to the block of the base, so that old messages can be
//! read where they were. Positions are the same on all replicas; a copy of the leader's blocks is as good as blocks of
//! one's own. The receiver goes on as before until it has everything, then it falls silent, for who told the leader that
//! it has a base must not tell it of a shorter log; it makes everything durable and begins again
//! ([`crate::incoming`]).
//!
//! One question is on its way at a time, and none is larger than a piece. What takes long is asked for again, so that no
//! call of the carrier takes long.
//!
//! Reading order: `frames`, `send`, `receive` (questions and answers), `work` (what the receiver does), `chain`.

mod chain;
pub(super) mod frames;
mod receive;
mod send;
mod work;

pub(crate) use frames::{answer, read_question};
pub(crate) use receive::{Receiver, ReceiverParts};
pub(crate) use send::Source;
