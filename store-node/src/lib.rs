//! What surrounds the engine in a store-node: lanes to the proxies on one port, frames between replicas on another.
//!
//! Invariants: decides nothing about messages or deliveries, the engine does; knows no proxy and no namesrv, only what
//! `apogee.store.v1` says. Whatever comes from the network may be wrong and never panics.
//!
//! Reading order: [`lanes`] (what proxies ask), [`raft`] (what replicas tell each other), `serve` (the two ports).

pub mod lanes;
pub mod raft;
mod serve;

pub use serve::{serve_lanes, serve_replication};
