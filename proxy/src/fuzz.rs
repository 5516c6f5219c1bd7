//! What fuzzing does to what clients send, and valid inputs to begin with. Not part of the product: `tests/fuzz` calls it
//! with what libFuzzer makes up, and a test of the workspace with a few mutations of the seeds.

pub use crate::edge::fuzz::{header_seeds, headers, request_seeds, requests};
