//! Sizes and durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes, written `4MiB`. Units: B, KiB, MiB, GiB, TiB, and kB, MB, GB, TB in thousands; a bare number is bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct ByteSize(pub u64);

/// A duration, written `30s` or `1h30m`. Units: us, ms, s, m, h, d; only zero needs none.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct HumanDuration(pub Duration);

/// Text that is not a number with a unit we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

/// What a configuration may hold for either of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// The binary units first and largest first, as [`ByteSize`] is printed.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// Microseconds per unit, largest first.
const DURATIONS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<ByteSize, UnitError> {
        let wrong = || UnitError { text: text.to_owned(), expected: "a size such as 4MiB" };
        if let Ok(bytes) = text.trim().parse() {
            return Ok(ByteSize(bytes));
        }
        match amounts(text, &SIZES).as_deref() {
            Some([bytes]) => Ok(ByteSize(*bytes)),
            _ => Err(wrong()),
        }
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<HumanDuration, UnitError> {
        let wrong = || UnitError { text: text.to_owned(), expected: "a duration such as 30s" };
        if text.trim() == "0" {
            return Ok(HumanDuration(Duration::ZERO));
        }
        let parts = amounts(text, &DURATIONS).ok_or_else(wrong)?;
        let micros = parts.into_iter().try_fold(0_u64, u64::checked_add).ok_or_else(wrong)?;
        Ok(HumanDuration(Duration::from_micros(micros)))
    }
}

/// `1h30m` as the amounts of its parts in the smallest unit; `None` when a part is no number with a unit, or too large.
fn amounts(text: &str, units: &[(&str, u64)]) -> Option<Vec<u64>> {
    let mut rest = text.trim();
    let mut amounts = Vec::new();
    while !rest.is_empty() || amounts.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_end())?;
        amounts.push(number.parse::<u64>().ok()?.checked_mul(*factor)?);
        rest = tail;
    }
    Some(amounts)
}

/// The number in the largest unit that leaves no rest.
fn show(amount: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match units.iter().find(|(_, factor)| amount.is_multiple_of(*factor)) {
        Some((unit, factor)) if amount > 0 => write!(f, "{}{unit}", amount / factor),
        _ => f.write_str("0"),
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, &SIZES, f)
    }
}

/// In whole microseconds.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX), &DURATIONS, f)
    }
}

impl TryFrom<Written> for ByteSize {
    type Error = UnitError;

    fn try_from(written: Written) -> Result<ByteSize, UnitError> {
        match written {
            Written::Number(bytes) => Ok(ByteSize(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Written> for HumanDuration {
    type Error = UnitError;

    fn try_from(written: Written) -> Result<HumanDuration, UnitError> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> String {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("4MiB", 4 << 20, "4MiB"),
            ("1536KiB", 1_536 << 10, "1536KiB"),
            ("10 GB", 10_000_000_000, "9765625KiB"),
            ("512", 512, "512B"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for wrong in ["", "MiB", "4mib", "4 potatoes", "-1", "1.5GiB", "16777216TiB", "1MiB1KiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        for (text, micros, shown) in [
            ("30s", 30_000_000, "30s"),
            ("1h30m", 5_400_000_000, "90m"),
            ("1500ms", 1_500_000, "1500ms"),
            ("500us", 500, "500us"),
            ("2d", 172_800_000_000, "2d"),
            ("0", 0, "0"),
        ] {
            let duration: HumanDuration = text.parse().expect(text);
            assert_eq!((duration.0, duration.to_string().as_str()), (Duration::from_micros(micros), shown));
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        for wrong in ["", "30", "s", "30 seconds", "-1s", "300000000d", "1h30"] {
            assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong}");
        }
    }
}
