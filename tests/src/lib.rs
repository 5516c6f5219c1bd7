//! Judges of the whole product: real processes, official SDKs, simulated disasters.
//!
//! Invariant: nothing depends on this crate.
//! Reading order: `server` (a real `apogee dev` under test), `history` (what its clients saw, and the judge of it),
//! `clients` (who asks), `machine` (what simulated processes run on).

pub mod clients;
pub mod history;
pub mod machine;
pub mod server;
