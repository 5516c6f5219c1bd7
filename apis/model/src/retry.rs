//! How long a message rests after a consumer failed on it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::InvisibleDuration;

/// Rests between the deliveries of a message, as a consumer group has them.
///
/// Source: apache/rocketmq `remoting/.../CustomizedRetryPolicy.java`, `ExponentialRetryPolicy.java`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPolicy {
    /// Rests after the first and later deliveries that failed; the last one for ever.
    Customized { next: Vec<Duration> },
    /// `initial` after the first failure, then `multiplier` times as long each time, up to `max`.
    Exponential { initial: Duration, max: Duration, multiplier: u32 },
}

/// What a retry policy says is outside of what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {asked}, allowed are {min} to {max}")]
pub struct BadRetryPolicy {
    pub what: &'static str,
    pub asked: u64,
    pub min: u64,
    pub max: u64,
}

/// Seconds of the default policy.
const STEPS: [u64; 18] = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

impl Default for RetryPolicy {
    /// 1 s, 5 s, 10 s, 30 s, 1 min … 10 min, 20 min, 30 min, 1 h, 2 h.
    fn default() -> Self {
        Self::Customized { next: STEPS.map(Duration::from_secs).into() }
    }
}

impl RetryPolicy {
    /// Steps of a customized policy at most.
    pub const STEPS_MAX: usize = 32;
    /// Shortest and longest rest; the longest is that of ChangeInvisibleDuration.
    pub const REST_MIN: Duration = Duration::from_millis(1);
    pub const REST_MAX: Duration = InvisibleDuration::MAX;
    pub const MULTIPLIER_MAX: u32 = 100;
    /// What may be out of range, by the names that [`BadRetryPolicy`] uses.
    pub const BOUNDS: [&'static str; 3] =
        ["steps of the retry policy", "milliseconds of a rest of the retry policy", "multiplier of the retry policy"];

    /// An exponential policy when nobody says otherwise.
    pub const EXPONENTIAL: Self =
        Self::Exponential { initial: Duration::from_secs(5), max: Duration::from_secs(7200), multiplier: 2 };

    /// # Errors
    /// [`BadRetryPolicy`] names the first bound that does not hold.
    pub fn check(&self) -> Result<(), BadRetryPolicy> {
        let [steps, rest, factor] = Self::BOUNDS;
        let (min, max) = (millis(Self::REST_MIN), millis(Self::REST_MAX));
        match self {
            Self::Customized { next } => {
                within(steps, count(next.len()), 1, count(Self::STEPS_MAX))?;
                next.iter().try_for_each(|step| within(rest, millis(*step), min, max))
            }
            Self::Exponential { initial, max: longest, multiplier } => {
                within(rest, millis(*longest), min, max)?;
                within(rest, millis(*initial), min, millis(*longest))?;
                within(factor, u64::from(*multiplier), 1, u64::from(Self::MULTIPLIER_MAX))
            }
        }
    }

    /// The rests one after the other; the last one stays.
    pub fn rests(&self) -> Rests {
        let rests = match self {
            Self::Customized { next } => next.clone(),
            Self::Exponential { initial, max, multiplier } => {
                let next = |rest: &Duration| (rest < max && *multiplier > 1).then(|| longer(*rest, *multiplier, *max));
                std::iter::successors(Some(*initial), next).take(Self::STEPS_MAX).collect()
            }
        };
        Rests(rests.into())
    }
}

fn longer(rest: Duration, multiplier: u32, max: Duration) -> Duration {
    rest.checked_mul(multiplier).unwrap_or(max).min(max)
}

/// The rests of a policy, one for each failure; the last one for all that follow. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rests(Arc<[Duration]>);

impl Rests {
    /// Those of a policy somebody else checked; none is the default policy. What is more than there can be is cut off.
    pub fn from_millis(rests: impl IntoIterator<Item = u64>) -> Self {
        let max = RetryPolicy::REST_MAX;
        let rests: Arc<[Duration]> =
            rests.into_iter().take(RetryPolicy::STEPS_MAX).map(|rest| Duration::from_millis(rest).min(max)).collect();
        if rests.is_empty() { RetryPolicy::default().rests() } else { Self(rests) }
    }

    pub fn as_millis(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied().map(millis)
    }

    /// The rest after a failed delivery, the `attempt`th of its message.
    pub fn after(&self, attempt: u32) -> InvisibleDuration {
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(self.0.len() - 1);
        InvisibleDuration::from_millis(millis(self.0[step]))
    }

    /// A push consumer that asks for less did not read the policy.
    pub fn shortest(&self) -> Duration {
        self.0.iter().copied().min().unwrap_or_default()
    }
}

fn within(what: &'static str, asked: u64, min: u64, max: u64) -> Result<(), BadRetryPolicy> {
    if (min..=max).contains(&asked) { Ok(()) } else { Err(BadRetryPolicy { what, asked, min, max }) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(policy: &RetryPolicy, attempts: &[u32]) -> Vec<u64> {
        attempts.iter().map(|attempt| policy.rests().after(*attempt).get().as_secs()).collect()
    }

    #[test]
    fn the_first_failure_rests_shortest_and_the_last_step_stays() {
        let rests = RetryPolicy::default();
        assert_eq!(seconds(&rests, &[0, 1, 2, 17, 18, 19, u32::MAX]), [1, 1, 5, 3600, 7200, 7200, 7200]);
        assert_eq!(rests.rests().shortest(), Duration::from_secs(1));
    }

    #[test]
    fn exponential_rests_grow_up_to_their_limit() {
        assert_eq!(seconds(&RetryPolicy::EXPONENTIAL, &[1, 2, 3, 11, 12, 99]), [5, 10, 20, 5120, 7200, 7200]);
        let (initial, max) = (Duration::from_secs(3), Duration::from_secs(9));
        let constant = RetryPolicy::Exponential { initial, max, multiplier: 1 };
        assert_eq!(seconds(&constant, &[1, 2, 99]), [3, 3, 3]);
    }

    #[test]
    fn policies_have_bounds() {
        let customized = |next: Vec<Duration>| RetryPolicy::Customized { next }.check().map_err(|bad| bad.to_string());
        assert_eq!(customized(vec![Duration::from_secs(1); 32]), Ok(()));
        let told = "steps of the retry policy is 33, allowed are 1 to 32";
        assert_eq!(customized(vec![Duration::from_secs(1); 33]), Err(told.to_owned()));
        assert!(customized(vec![]).is_err() && customized(vec![Duration::ZERO]).is_err());
        assert!(customized(vec![RetryPolicy::REST_MAX + RetryPolicy::REST_MIN]).is_err());
        let (initial, max) = (Duration::from_secs(10), Duration::from_secs(5));
        for (initial, max, multiplier) in [(initial, max, 2), (max, initial, 0), (max, initial, 101)] {
            assert!(RetryPolicy::Exponential { initial, max, multiplier }.check().is_err());
        }
        assert_eq!((RetryPolicy::default().check(), RetryPolicy::EXPONENTIAL.check()), (Ok(()), Ok(())));
    }

    #[test]
    fn rests_travel_as_milliseconds() {
        let rests = RetryPolicy::EXPONENTIAL.rests();
        assert_eq!(Rests::from_millis(rests.as_millis()), rests);
        assert_eq!(Rests::from_millis([]), RetryPolicy::default().rests());
        assert_eq!(Rests::from_millis([u64::MAX]).after(1).get(), RetryPolicy::REST_MAX);
    }
}
