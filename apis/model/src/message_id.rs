//! Message ids, as far as they say something. To the store they are opaque.

use crate::Timestamp;

/// Ids count seconds from 2021-01-01T00:00:00Z.
const EPOCH_SECONDS: u64 = 1_609_459_200;
/// Hexadecimal digits of an id: version, six bytes of a machine, two of a process, four of seconds, four that count.
const DIGITS: usize = 34;
const SECONDS: std::ops::Range<usize> = 18..26;

/// The second in which a message was born, if its id is of the kind that official SDKs make.
///
/// Source: the message id of the official SDKs, version 1.
pub fn born(message_id: &str) -> Option<Timestamp> {
    let sound = message_id.len() == DIGITS && message_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let seconds = message_id.get(SECONDS).filter(|_| sound && message_id.starts_with("01"))?;
    let since_epoch = u64::from(u32::from_str_radix(seconds, 16).ok()?);
    Some(Timestamp((EPOCH_SECONDS + since_epoch) * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_its_message_was_born() {
        assert_eq!(born("01ABCDEF012345000106B0F8400000002A"), Some(Timestamp(1_721_720_384_000)));
        assert_eq!(born("01abcdef012345000106b0f8400000002a"), Some(Timestamp(1_721_720_384_000)));
        for other in ["", "02ABCDEF012345000106B0F8400000002A", "01ABCDEF012345000106B0F8400000002", "AC14000200002A9F"]
        {
            assert_eq!(born(other), None, "{other}");
        }
        assert_eq!(born(&"é".repeat(17)), None);
    }
}
