//! What the clients of a system saw, and whether it can have been right.
//!
//! A [`History`] collects every call with its start, its end and its outcome. [`check`] judges it by the invariants of
//! the operations contract that one replica group owes its clients: *acked is durable; unacked comes back; one lease
//! at a time; progress never goes back.* It knows nothing of the system's inside, so simulation, crash tests and load
//! are judged alike. Where a test can look inside, [`agree`] judges what the replicas hold.
//!
//! A history ends with a drain: every group receives and acks until nothing comes for longer than any lease.
//!
//! Reading order: `call` (the facts), `recorder` (how they are collected), `check` (the judgement).

mod call;
mod check;
mod recorder;

pub use call::{Call, Delivered, EndAnswer, Handle, MessageId, Moment, Name, Outcome, Place, ResetTo, Span, What};
pub use check::{Block, Invariant, Replica, Rules, Violation, agree, check};
pub use recorder::History;

/// A stable hash (after FNV-1a, eight bytes at a time) for digests of payloads and for handles.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
        }
        for byte in rest {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Where one part ends and the next begins matters.
        hash = (hash ^ u64::try_from(part.len()).unwrap_or(u64::MAX)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
