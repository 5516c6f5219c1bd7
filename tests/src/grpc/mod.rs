//! Clients of a real server: the bare calls of a 5.x SDK, each noted in the history.
//!
//! Reading order: `client` (the calls), `load` (who calls, and the drain), `judged` (what the history says).

mod client;
mod judged;
mod load;

pub use client::{Client, Received};
pub use judged::judged;
pub use load::{Crowd, Load};
