//! The proxy: where SDKs connect. Stateless but for what a client can lose with one retry.
//!
//! Invariants: the only crate that speaks `apache.rocketmq.v2`; knows stores and namesrv through two traits,
//! [`StoreNode`] and [`Routes`]; no unary call depends on what an earlier call left behind here.
//!
//! Reading order: `edge` (the table of contents of the product), `service` (one file per verb), `route`, `store`,
//! `session`, `metrics`; beside them [`listen`] (the port) and [`admin`] (the API of the CLI).

pub mod admin;
mod edge;
#[doc(hidden)]
pub mod fuzz;
pub mod listen;
mod metrics;
mod proxy;
mod route;
mod service;
mod session;
mod store;

pub use edge::{AdmissionLimits, Budgeted};
pub use proxy::{Proxy, ProxyParts, ProxySettings};
pub use route::Routes;
pub use service::readiness::ReadinessLimits;
pub use store::{
    BadStoreAddress, Checks, ClientHeard, Connections, Follower, RemoteGroup, RemoteGroupParts, StoreMetrics,
    StoreNode, Stores, Watch,
};
