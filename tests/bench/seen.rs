//! Which messages of the run came, and when they were sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// More messages than are ever on the way at once; a later one takes over the place of an older one.
const PLACES: usize = 1 << 20;

/// When each of the last million messages was sent, by number.
pub(crate) struct SentAt {
    start: Instant,
    micros: Vec<AtomicU64>,
}

impl SentAt {
    pub(crate) fn new() -> SentAt {
        SentAt { start: Instant::now(), micros: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn note(&self, number: u32, at: Instant) {
        let micros = u64::try_from((at - self.start).as_micros()).unwrap_or(u64::MAX);
        self.place(number).store(micros, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, number: u32) -> Instant {
        self.start + Duration::from_micros(self.place(number).load(Ordering::Relaxed))
    }

    fn place(&self, number: u32) -> &AtomicU64 {
        &self.micros[usize::try_from(number).expect("32 bits") % PLACES]
    }
}

/// The numbers that were delivered, one bit each.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Vec<u64>>);

impl Seen {
    /// Notes `number`; false when it was there already.
    pub(crate) fn insert(&self, number: u32) -> bool {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(number / 64).expect("32 bits");
        if words.len() <= at {
            words.resize(at + 1, 0);
        }
        let bit = 1 << (number % 64);
        let fresh = words[at] & bit == 0;
        words[at] |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_fresh_once() {
        let seen = Seen::default();
        assert!(seen.insert(200) && seen.insert(0) && seen.insert(201));
        assert!(!seen.insert(200) && !seen.insert(0));
    }
}
