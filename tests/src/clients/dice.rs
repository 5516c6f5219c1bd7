//! Seeded choices. Every client has dice of its own, so that one more call here does not change another's luck.

use std::time::Duration;

use apogee_host::{Entropy, SeededEntropy};

pub struct Dice(SeededEntropy);

impl Dice {
    /// The dice of one `player` of the run of `seed`.
    pub fn new(seed: u64, player: u64) -> Dice {
        Dice(SeededEntropy::new(SeededEntropy::new(seed ^ player.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()))
    }

    /// A number in `0..end`.
    pub fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// A size in `min..=max`.
    pub fn size(&self, min: usize, max: usize) -> usize {
        let span = u64::try_from(max - min + 1).expect("sizes fit into 64 bits");
        min + usize::try_from(self.below(span)).expect("below a size")
    }

    /// True once in `chances` times.
    pub fn one_in(&self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// Whole milliseconds below `end`.
    pub fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}
