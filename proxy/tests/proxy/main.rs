//! The proxy through its door: a generated gRPC client, a pipe, and a small store in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ask;
mod bad_input;
mod budget;
mod clients;
mod dead_letters;
mod delay;
mod fifo;
mod leaving;
mod lite;
mod long_poll;
mod messages;
mod metrics;
mod offsets;
mod priority;
mod pull;
mod push;
mod sessions;
mod settings;
mod support;
mod transactions;
