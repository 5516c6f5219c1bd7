//! The metadata of one cluster: topics, consumer groups, their ids, and the keys that sign receipt handles.
//!
//! Invariant: [`state`] decides alone and knows neither time, chance nor disk; whatever comes from them is inside the
//! command, so replaying the commands gives the same state everywhere. Nothing is visible or answered before the
//! journal has it on disk. Knows no protocol and no other role.
//!
//! A change is journaled as the command that asked for it, not as its result: the same commands will be the entries of
//! a Raft log, where every member decides for itself and must come to the same end. The price is that a rule of
//! [`state`] may change only together with the format number.
//!
//! Reading order: `server` (the door), `state` (what is true), `owner` (who changes it), `journal` (what is kept).

mod server;

mod state;

mod owner;

mod journal;

pub use journal::OpenError;
pub use server::{Namesrv, NamesrvParts};
