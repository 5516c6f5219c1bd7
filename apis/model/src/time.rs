//! Points in time and spans a client may ask for.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment moved by `span`, cut to whole milliseconds.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`, zero when that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// How long a delivered message stays hidden from the rest of its group, in whole milliseconds.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InvisibleDuration(Duration);

/// The duration and the range it left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invisible duration is {}, allowed are {} to {}", in_words(*asked), in_words(*min), in_words(*max))]
pub struct InvisibleDurationError {
    pub asked: Duration,
    pub min: Duration,
    pub max: Duration,
}

impl InvisibleDuration {
    /// Shortest duration a receive may ask for.
    pub const RECEIVE_MIN: Duration = Duration::from_secs(10);
    /// Longest duration anybody may ask for.
    pub const MAX: Duration = Duration::from_secs(12 * 3600);
    /// What every auto-renewed delivery starts with.
    pub const AUTO_RENEW: Self = Self(Duration::from_secs(60));
    /// Visible again at once.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// For ReceiveMessage: 10 s to 12 h.
    ///
    /// # Errors
    /// [`InvisibleDurationError`] outside the range.
    ///
    /// Source: apache/rocketmq `proxy/.../ProxyConfig.java` (minInvisibleTimeMillsForRecv, maxInvisibleTimeMills).
    pub fn for_receive(asked: Duration) -> Result<Self, InvisibleDurationError> {
        Self::within(asked, Self::RECEIVE_MIN)
    }

    /// For ChangeInvisibleDuration: 0 to 12 h; 0 makes the message visible at once.
    ///
    /// # Errors
    /// [`InvisibleDurationError`] outside the range.
    pub fn for_change(asked: Duration) -> Result<Self, InvisibleDurationError> {
        Self::within(asked, Duration::ZERO)
    }

    /// A stored duration; was checked before it was written.
    pub fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub fn get(self) -> Duration {
        self.0
    }

    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).expect("at most 12 h, or read from 64 bits of milliseconds")
    }

    /// The durations from `min` on that anybody may ask for, in words.
    pub fn allowed_from(min: Duration) -> String {
        format!("{} to {}", in_words(min), in_words(Self::MAX))
    }

    fn within(asked: Duration, min: Duration) -> Result<Self, InvisibleDurationError> {
        if (min..=Self::MAX).contains(&asked) {
            Ok(Self(asked))
        } else {
            Err(InvisibleDurationError { asked, min, max: Self::MAX })
        }
    }
}

/// The span in the largest unit that says it exactly, down to milliseconds.
fn in_words(span: Duration) -> String {
    match (span.as_secs(), span.subsec_nanos()) {
        (seconds, 0) if seconds > 0 && seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        (seconds, 0) => format!("{seconds} s"),
        _ => format!("{} ms", span.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_duration_is_told_in_words() {
        let told = |asked| InvisibleDuration::for_receive(asked).unwrap_err().to_string();
        assert_eq!(told(Duration::ZERO), "invisible duration is 0 s, allowed are 10 s to 12 h");
        assert_eq!(told(Duration::from_millis(9999)), "invisible duration is 9999 ms, allowed are 10 s to 12 h");
        assert_eq!(told(Duration::from_secs(13 * 3600)), "invisible duration is 13 h, allowed are 10 s to 12 h");
        assert_eq!(told(Duration::from_secs(43_201)), "invisible duration is 43201 s, allowed are 10 s to 12 h");
    }
}
