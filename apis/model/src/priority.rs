//! PRIORITY messages: the queues of their topic are levels, and consumers begin at the highest.

use serde::{Deserialize, Serialize};

use crate::{MetadataError, QueueId};

/// The queue of a message of this priority in a topic of so many queues: one for each level, and the last one for all that
/// are higher.
///
/// Source: rocketmq RIP-80, priority messages.
pub fn priority_queue(priority: u32, queues: u16) -> QueueId {
    QueueId(u16::try_from(priority).unwrap_or(u16::MAX).min(queues.saturating_sub(1)))
}

/// How many of a group's receives from a PRIORITY topic begin at the highest level, in percent. The others take the levels
/// in turn, so that low ones get their share.
///
/// Source: apache/rocketmq group attribute `priority.factor`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PriorityFactor(u8);

impl PriorityFactor {
    const MAX: u8 = 100;

    /// # Errors
    /// [`MetadataError::OutOfRange`] for more than 100.
    pub fn new(percent: u32) -> Result<Self, MetadataError> {
        let max = Self::MAX;
        let out_of_range = || {
            let (asked, max) = (u64::from(percent), u64::from(max));
            MetadataError::OutOfRange { what: "priority factor", asked, min: 0, max }
        };
        u8::try_from(percent).ok().filter(|percent| *percent <= max).map(Self).ok_or_else(out_of_range)
    }

    pub fn percent(self) -> u8 {
        self.0
    }

    /// Where a receive begins, by its number from 0 on. Both kinds are spread evenly.
    pub fn turn(self, nth: u64) -> PriorityTurn {
        let before = |nth| nth * u64::from(self.0) / u64::from(Self::MAX);
        let highest = before(nth);
        match before(nth + 1) > highest {
            true => PriorityTurn::Highest(highest),
            false => PriorityTurn::Rotating(nth - highest),
        }
    }
}

/// Where a receive begins, and how many like it there were before.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PriorityTurn {
    /// At the most urgent message.
    Highest(u64),
    /// At another queue each time.
    Rotating(u64),
}

impl Default for PriorityFactor {
    /// Every receive.
    fn default() -> Self {
        Self(Self::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_levels() {
        let level = |priority| priority_queue(priority, 4).0;
        assert_eq!([0, 1, 3, 4, 70_000, u32::MAX].map(level), [0, 1, 3, 3, 3, 3]);
        assert_eq!(priority_queue(5, 1), QueueId(0));
    }

    #[test]
    fn a_factor_is_spread_evenly() {
        for percent in [0, 1, 20, 50, 99, 100] {
            let factor = PriorityFactor::new(percent).unwrap();
            let highest = |nth: &u64| matches!(factor.turn(*nth), PriorityTurn::Highest(_));
            let served: Vec<u64> = (7..107).filter(highest).collect();
            assert_eq!(served.len(), usize::try_from(percent).unwrap());
            let gaps = served.windows(2).map(|pair| pair[1] - pair[0]);
            let (most, least) = gaps.fold((0, 100), |(most, least), gap| (gap.max(most), gap.min(least)));
            assert!(served.len() < 2 || most - least <= 1, "{percent}: {served:?}");
        }
    }

    #[test]
    fn receives_of_each_kind_are_counted() {
        for percent in [0, 50, 80, 100] {
            let (mut highest, mut rotating) = (0, 0);
            for nth in 0..300 {
                let count = match PriorityFactor::new(percent).unwrap().turn(nth) {
                    PriorityTurn::Highest(before) => (before, &mut highest),
                    PriorityTurn::Rotating(before) => (before, &mut rotating),
                };
                assert_eq!(count.0, *count.1);
                *count.1 += 1;
            }
        }
    }

    #[test]
    fn a_factor_is_a_percentage() {
        assert_eq!(PriorityFactor::default().percent(), 100);
        let refused = PriorityFactor::new(101).unwrap_err().to_string();
        assert_eq!(refused, "priority factor is 101, allowed are 0 to 100");
        assert!(PriorityFactor::new(256).is_err());
    }
}
