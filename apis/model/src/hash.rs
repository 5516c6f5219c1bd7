//! The hash of everything that proxies of two versions, or a log and its reader years later, must agree on.

/// What [`hash`] starts from.
pub const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// A stable hash of 64 bits (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    hash_on(HASH_START, bytes)
}

/// The hash of what was hashed before and of these bytes behind it.
pub fn hash_on(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the authors of the hash (draft-eastlake-fnv, appendix C).
    #[test]
    fn what_is_stored_stays_readable() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(hash_on(hash(b"foo"), b"bar"), hash(b"foobar"));
    }
}
