//! The verbs of the product: one file per verb, each reading as the story of its decision.
//!
//! Knows the model and the two seams [`crate::Routes`] and [`crate::StoreNode`]; never tonic, never the wire.

pub(crate) mod ack;
mod call;
pub(crate) mod change_invisible;
pub(crate) mod check_back;
pub(crate) mod dead_letter;
mod draft;
pub(crate) mod end_transaction;
mod error;
pub(crate) mod heartbeat;
pub(crate) mod in_order;
pub(crate) mod lite;
pub(crate) mod mismatch;
pub(crate) mod offsets;
pub(crate) mod pull;
pub(crate) mod query_assignment;
pub(crate) mod query_route;
pub(crate) mod readiness;
pub(crate) mod recall;
pub(crate) mod receipt;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod telemetry;
pub(crate) mod terminate;

pub(crate) use call::{Call, Language};
pub(crate) use draft::Draft;
pub(crate) use error::{ClientIdProblem, MessageError, ServiceError};

/// Longest time a unary call may take, whatever its client would accept.
pub(crate) const UNARY_MAX: std::time::Duration = std::time::Duration::from_secs(10);
