//! Pop: who holds which message, without IO and without a clock.
//!
//! Of every queue of every group we know a cursor (below it everything was delivered or skipped) and one entry for
//! each message below it that is not settled. What is below the cursor and has no entry is done; the floor is the
//! first entry. `apply` turns records into changes of entries; it runs on the applied view and, the same code, on the
//! leader's overlay of uncommitted records.

mod entry;
mod group_topic;
mod overlay;
mod pops;

pub(crate) use entry::{Entry, PopStore, When, apply};
pub(crate) use group_topic::{GroupTopic, PopQueue};
pub(crate) use overlay::Overlay;
pub(crate) use pops::Pops;
