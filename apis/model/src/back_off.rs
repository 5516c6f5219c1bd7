//! How long a message rests after a consumer failed on it.

use std::time::Duration;

use crate::time::InvisibleDuration;

/// Rests after the first and later deliveries that failed, in seconds; the last one for ever.
///
/// Source: apache/rocketmq `remoting/.../CustomizedRetryPolicy.java`.
pub const BACK_OFF_STEPS: [u32; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The rest after a failed delivery, the `attempt`th of its message.
pub fn back_off(attempt: u32) -> InvisibleDuration {
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(BACK_OFF_STEPS.len() - 1);
    InvisibleDuration::from_millis(u64::from(BACK_OFF_STEPS[step]) * 1000)
}

/// A push consumer that asks for less than the shortest step did not read the steps.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_rests_shortest_and_the_last_step_stays() {
        let seconds = |attempt| back_off(attempt).get().as_secs();
        assert_eq!([1, 2, 17, 18, 19, u32::MAX].map(seconds), [1, 5, 3600, 7200, 7200, 7200]);
        assert_eq!((seconds(0), back_off(1).get()), (1, BACK_OFF_MIN));
    }
}
