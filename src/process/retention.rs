//! How long messages are kept, as people write it.

use std::time::Duration;

use apogee_engine::Retention;
use apogee_host::config::{ByteSize, HumanDuration};
use apogee_host::{Exit, ExitWith};

/// Less would make messages go while clients still try to send or settle them.
const TIME_MIN: Duration = Duration::from_secs(60);
/// Segments a log needs room for: one that is written, and one that is read.
const SEGMENTS_MIN: u64 = 2;

/// How long messages are kept by default.
pub(crate) fn default_time() -> HumanDuration {
    HumanDuration(Retention::default().time)
}

/// A retention that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRetention {
    #[error(
        "store.retention is {given}, at least {} is needed; to keep messages for good, write 36500d",
        HumanDuration(TIME_MIN)
    )]
    Time { given: HumanDuration },
    #[error("store.retention_bytes is {given}, at least {least} is needed: {SEGMENTS_MIN} segments of the CommitLog")]
    Bytes { given: ByteSize, least: ByteSize },
}

impl ExitWith for BadRetention {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// As the engine knows it, for a log with segments of this many bytes.
pub(crate) fn retention(
    time: HumanDuration,
    bytes: Option<ByteSize>,
    segment_bytes: u64,
) -> Result<Retention, BadRetention> {
    if time.0 < TIME_MIN {
        return Err(BadRetention::Time { given: time });
    }
    let least = ByteSize(segment_bytes.saturating_mul(SEGMENTS_MIN));
    if let Some(given) = bytes.filter(|bytes| *bytes < least) {
        return Err(BadRetention::Bytes { given, least });
    }
    Ok(Retention { time: time.0, bytes: bytes.map(|bytes| bytes.0), ..Retention::default() })
}
