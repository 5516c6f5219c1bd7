//! The storage engine of one replica group: CommitLog, ConsumeQueues and Pop.
//!
//! Invariant: knows neither gRPC nor its peers; the world comes in through `apogee_host` (clock, disk). Nothing that a
//! client can see leaves before its record is committed, which with one voter means durable.
//!
//! Reading order: `engine` (the door), `record` and `block` (the formats), `state` and `pop` (what records mean),
//! `leader` and `lease_clock` (decisions), `proposer` (the loop), `commitlog` (files and recovery), `floor` (how much of the log
//! may go).
//!
//! The leader keeps an overlay of uncommitted changes over the applied view instead of applying its proposals at once.
//! The alternative, one state that runs ahead of the log, is shorter, but it has to be rebuilt when leadership is
//! lost, and it must remember of every change whether a client may see it. An overlay is dropped, and that is all.

mod again;
mod block;
mod bury;
mod carry;
mod checks;
mod codec;
mod commitlog;
mod damage;
mod deliver;
mod engine;
mod find;
mod floor;
#[doc(hidden)]
pub mod fuzz;
mod hand_over;
mod incoming;
mod leader;
mod lease_clock;
mod look;
mod metrics;
mod open;
mod peers;
mod pop;
mod proposer;
mod raft;
mod read;
mod record;
mod replica;
mod seating;
mod state;
mod timings;
mod transactions;
mod views;
mod watch;

pub use again::BeginAgain;
pub use checks::Checks;
pub use commitlog::OpenError;
pub use engine::{Dump, Engine, EngineParts, ReplicaParts, Settings};
pub use leader::{Retention, Ticket};
pub use open::Nobody;
pub use peers::{Answers, FRAME_MAX, NotAFrame, Peers, Unreachable};
pub use proposer::{AfterCommit, AnswerRule};
pub use raft::Ear;
pub use replica::{AckMode, Members, Role};
pub use seating::{Exchange, Reached, ReachedHow, Seating};
pub use views::{
    Base, BaseFile, LiveViews, MemoryViewStore, PIECE_MAX, RocksSettings, RocksViewStore, ViewStore, ViewsError,
    ViewsFuture,
};
pub use watch::Watch;

/// Smallest segment that takes every message: one largest block and then some.
pub const SEGMENT_MIN: u64 = 16 << 20;
/// Smallest segment at all, for simulations. A block fills at most half of a segment, so that larger messages are refused.
pub const SEGMENT_TINY: u64 = 16 << 10;

/// How records and the leader know a client.
fn client_hash(client: &apogee_model::ClientId) -> u64 {
    apogee_model::store::client_hash(client.as_str())
}
