//! What proxies ask of store-nodes ([`v1::lane_server`]), and what the replicas of a replica group tell each other
//! ([`v1::replication_server`]). Lanes speak the words of `apogee_model::store`; here they become messages and back.
//!
//! Whatever comes from the network may be wrong: it becomes a word of ours or [`Malformed`].

mod deliver;
mod fail;
mod fetch;
mod find;
mod kept;
mod lite;
mod name;
mod offsets;
mod reset;
mod seal;
mod send;
mod status;
mod transaction;

use std::time::Duration;

use crate::Malformed;

/// Package `apogee.store.v1`.
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
#[allow(rustdoc::all, reason = "generated from comments written for .proto files")]
pub mod v1 {
    tonic::include_proto!("apogee.store.v1");
}

fn required<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed { what })
}

fn narrow<T: TryFrom<u32>>(number: u32, what: &'static str) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| Malformed { what })
}

/// More than anybody waits becomes the most that can be said.
fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
