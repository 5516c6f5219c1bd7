//! What proxies ask of store-nodes ([`v1::lane_server`]), and what the replicas of a replica group tell each other
//! ([`v1::replication_server`]). Lanes speak the words of `apogee_model::store`; here they become messages and back.
//!
//! Whatever comes from the network may be wrong: it becomes a word of ours or [`Malformed`].

mod deliver;
mod fail;
mod name;
mod send;
mod status;

/// Package `apogee.store.v1`.
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
#[allow(rustdoc::all, reason = "generated from comments written for .proto files")]
pub mod v1 {
    tonic::include_proto!("apogee.store.v1");
}

/// Part of a message from the network that is missing, or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is missing or makes no sense")]
pub struct Malformed {
    pub what: &'static str,
}

fn required<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed { what })
}

fn narrow<T: TryFrom<u32>>(number: u32, what: &'static str) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| Malformed { what })
}

#[cfg(test)]
mod tests;
