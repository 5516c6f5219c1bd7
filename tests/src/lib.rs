//! Judges of the whole product: real processes, official SDKs, simulated disasters.
//!
//! Invariant: nothing depends on this crate.
//! Reading order: `server` (a real `apogee dev` under test), `cluster` (with store-nodes of its own), `history` (what
//! clients saw, and the judge of it), `grpc` (who asks a real server), `sdk` (the official ones), `at_work` (both of them),
//! `clients` (who asks a simulated one), `machine` (what simulated processes run on), `compat` (scenarios that Apache
//! RocketMQ is asked, too).

pub mod at_work;
pub mod clients;
pub mod cluster;
pub mod compat;
pub mod endure;
pub mod grpc;
pub mod history;
pub mod machine;
pub mod sdk;
pub mod server;
