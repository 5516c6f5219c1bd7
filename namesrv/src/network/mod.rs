//! The network between the members: questions and answers of consensus, carried to the right member, and only there.

mod peers;
mod serve;

pub(crate) use peers::TonicPeers;
pub use serve::serve_consensus;

/// Largest message: a snapshot of some hundred thousand topics.
const MESSAGE_MAX: usize = 256 << 20;
