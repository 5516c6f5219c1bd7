//! The metadata of one cluster: store-nodes, replica groups, topics, consumer groups, their ids, and the keys that sign
//! receipt handles. One namesrv or three keep it; whoever of three remains goes on with any other one.
//!
//! Invariant: [`state`] decides alone and knows neither time, chance nor disk; whatever comes from them is inside the
//! command, so applying the commands gives the same state everywhere. Nothing is visible or answered before a majority
//! has it on disk. Knows no other role.
//!
//! A change is logged as the command that asked for it, not as its result: every member decides for itself and must come
//! to the same end. The price is that a rule of [`state`] may change only together with the feature level.
//!
//! Reading order: `server` (the door), `state` (what is true), `raft` (who agrees), `journal` (what is kept), `life` (what
//! the leader does), `leases`, `proxies`; then the network: `network` (between members), `registry` (what others ask), `wire`
//! (messages), [`client`].

mod server;

mod state;

mod raft;

mod journal;

mod life;

mod leases;

mod metrics;

mod proxies;

mod network;

mod registry;

mod wire;

pub mod client;

pub use client::{NamesrvClient, NamesrvClientParts};
pub use journal::OpenError;
pub use leases::{BEAT, LEASE};
pub use network::serve_consensus;
pub use registry::serve_registry;
pub use server::{Member, Namesrv, NamesrvParts};
