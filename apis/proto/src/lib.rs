//! The wire: protobuf messages and gRPC services, generated from `proto/` at build time.
//!
//! [`v2`] is the contract of the official RocketMQ 5 SDKs (`apache.rocketmq.v2`) and changes only when theirs does;
//! `tests/wire.rs` holds it to a table, `tests/compat/python/check_descriptors.py` of the workspace to a published SDK.
//! [`admin::v1`] is our own admin API. [`store`] is what proxies and store-nodes, and store-nodes among themselves, speak;
//! [`namesrv::v1`] what everybody speaks with namesrv.
//! [`token`] is what they show each other, [`reach`] the way there.
//!
//! Invariant: no behaviour but that, and that our internal messages become words of `apogee_model` and come from them. `bytes`
//! fields are [`bytes::Bytes`], maps are `BTreeMap`, an unset or unknown enum number stays an `i32` until someone parses
//! it.

/// Package `apache.rocketmq.v2`: what SDKs speak on port 8081.
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
#[allow(rustdoc::all, reason = "generated from comments written for .proto files")]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// What operators speak on port 8088.
pub mod admin {
    /// Package `apogee.admin.v1`.
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
    #[allow(rustdoc::all, reason = "generated from comments written for .proto files")]
    pub mod v1 {
        tonic::include_proto!("apogee.admin.v1");
    }
}

/// What store-nodes and proxies ask of namesrv on port 9876, and what its members tell each other on port 9878.
pub mod namesrv {
    /// Package `apogee.namesrv.v1`.
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]
    #[allow(rustdoc::all, reason = "generated from comments written for .proto files")]
    pub mod v1 {
        tonic::include_proto!("apogee.namesrv.v1");
    }
}

#[doc(hidden)]
pub mod fuzz;
pub mod reach;
pub mod store;
pub mod token;

/// Part of a message from the network that is missing, or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is missing or makes no sense")]
pub struct Malformed {
    pub what: &'static str,
}

/// An encoded `google.protobuf.FileDescriptorSet` of every file above and its imports, without comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
