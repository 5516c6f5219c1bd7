//! Durations and timestamps as protobuf writes them, hostile ones included.

use std::time::Duration;

use apogee_model::Timestamp;

const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// 9999-12-31T23:59:59Z, the last second protobuf knows.
const SECONDS_MAX: i64 = 253_402_300_799;

/// The span; `None` when it is negative or no span at all.
pub(super) fn duration(wire: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos).ok().filter(|_| wire.nanos < NANOS_PER_SECOND)?;
    Some(Duration::new(seconds, nanos))
}

/// The moment in whole milliseconds; before the epoch counts as the epoch, after the year 9999 as its end.
pub(super) fn timestamp(wire: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(wire.seconds.clamp(0, SECONDS_MAX)).expect("not negative");
    let nanos = u64::try_from(wire.nanos.clamp(0, NANOS_PER_SECOND - 1)).expect("not negative");
    Timestamp(seconds * 1000 + nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times() {
        let span = |seconds, nanos| duration(prost_types::Duration { seconds, nanos });
        assert_eq!(span(1, 500_000_000), Some(Duration::from_millis(1500)));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, NANOS_PER_SECOND), (i64::MIN, i32::MIN)] {
            assert_eq!(span(seconds, nanos), None, "{seconds} {nanos}");
        }
        let moment = |seconds, nanos| timestamp(&prost_types::Timestamp { seconds, nanos }).0;
        assert_eq!(moment(2, 3_999_999), 2003);
        assert_eq!(moment(i64::MIN, i32::MIN), 0);
        assert_eq!(moment(i64::MAX, i32::MAX), 253_402_300_799_999);
    }
}
