//! A base: the views at one position, whole and durable, and the manifest that says so.

use apogee_model::BlockIndex;

use super::Position;
use crate::codec::{Reader, crc32c, put_text, u32_at};

/// Bytes of a base that are read or written at once, at most.
pub const PIECE_MAX: usize = 1 << 20;

/// Bases that are kept; older ones go when a new one is taken.
pub(crate) const KEPT: usize = 2;

/// Name of the manifest inside a base; written when everything else is durable.
pub(crate) const MANIFEST: &str = "BASE";

/// Files one base may have; more in a manifest is nonsense.
const FILES_MAX: usize = 1 << 20;

const MAGIC: &[u8; 4] = b"APB1";

/// The views at one position of the log, kept outside the live views.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    pub(crate) position: Position,
    /// Bytes of all its files.
    pub bytes: u64,
}

impl Base {
    /// The block whose state it is; also its name.
    pub fn index(&self) -> BlockIndex {
        self.position.index
    }
}

/// One file of a base.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseFile {
    pub name: String,
    pub len: u64,
}

/// What a base consists of. A base without a sound manifest, or without a file of it, is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub(crate) position: Position,
    pub(crate) files: Vec<BaseFile>,
}

impl Manifest {
    pub(crate) fn base(&self) -> Base {
        Base { position: self.position.clone(), bytes: self.files.iter().map(|file| file.len).sum() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut position = Vec::new();
        self.position.encode(&mut position);
        let count = |len: usize| u32::try_from(len).expect("positions and lists of files are small").to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&count(position.len()));
        bytes.extend_from_slice(&position);
        bytes.extend_from_slice(&count(self.files.len()));
        for file in &self.files {
            put_text(&mut bytes, &file.name);
            bytes.extend_from_slice(&file.len.to_le_bytes());
        }
        let crc = crc32c(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless every byte is as [`Manifest::encode`] wrote it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let body = body.strip_prefix(MAGIC).filter(|_| crc32c(&[body]) == u32_at(crc, 0))?;
        let mut rest = Reader::new(body);
        let len = usize::try_from(rest.u32()?).ok()?;
        let position = Position::decode(rest.bytes(len)?)?;
        let count = usize::try_from(rest.u32()?).ok().filter(|count| *count <= FILES_MAX)?;
        let mut files = Vec::new();
        for _ in 0..count {
            let name = rest.text().filter(|name| is_plain(name))?.to_owned();
            files.push(BaseFile { name, len: rest.u64()? });
        }
        rest.bytes(1).is_none().then_some(Self { position, files })
    }
}

/// Names of files in a base, so that none leaves its folder.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Manifest {
        let file = |name: &str, len| BaseFile { name: name.to_owned(), len };
        Manifest { position: Position::default(), files: vec![file("000012.sst", 77), file("CURRENT", 16)] }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(Manifest::decode(&sample().encode()), Some(sample()));
    }

    const GOLDEN: &str = concat!(
        "415042312e000000",
        "01000000000000000000000000000000000000000000000000000000000000000000000000010000000000000000",
        "02000000",
        "0a003030303031322e7373744d00000000000000",
        "070043555252454e541000000000000000",
        "e1bf7e8e"
    );

    #[test]
    fn names_stay_inside_the_folder() {
        assert!(is_plain("000012.sst") && is_plain("MANIFEST-000005") && is_plain("CURRENT"));
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "a b", "ä"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_flipped_bit_passes(bit in 0usize..sample().encode().len() * 8) {
            let mut bytes = sample().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Manifest::decode(&bytes), None);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut sealed = MAGIC.to_vec();
            sealed.extend_from_slice(&bytes);
            let crc = crc32c(&[&sealed]);
            sealed.extend_from_slice(&crc.to_le_bytes());
            let _maybe = Manifest::decode(&sealed);
            prop_assert_eq!(Manifest::decode(&bytes), None);
        }
    }
}
