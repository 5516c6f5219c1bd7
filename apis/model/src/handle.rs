//! Texts that clients keep for us and cannot forge: a payload and a MAC over it, URL-safe.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;

use crate::MacKeys;
use crate::receipt::mac;

/// Bytes of the MAC.
pub(crate) const MAC: usize = 12;
/// Bytes before the payload: what kind of text it is, and which key signed it.
pub(crate) const HEAD: usize = 2;

/// The text with this payload. Kinds differ, so that no text is ever taken for one of another kind.
pub(crate) fn seal(kind: u8, payload: &[u8], keys: &MacKeys) -> String {
    let mut bytes = Vec::with_capacity(HEAD + payload.len() + MAC);
    bytes.extend_from_slice(&[kind, keys.current.generation]);
    bytes.extend_from_slice(payload);
    let signature = mac(&keys.current, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&signature[..MAC]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The payload, at most `max` bytes, of a text that [`seal`] made with one of these keys.
pub(crate) fn open(kind: u8, text: &str, max: usize, keys: &MacKeys) -> Option<Vec<u8>> {
    if text.len() > (HEAD + max + MAC) * 4 / 3 + 4 {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (signed, given) = bytes.split_at_checked(bytes.len().saturating_sub(MAC))?;
    if signed.first() != Some(&kind) {
        return None;
    }
    let key = keys.by_generation(*signed.get(1)?)?;
    mac(key, signed).verify_truncated_left(given).ok()?;
    bytes.truncate(bytes.len() - MAC);
    bytes.drain(..HEAD);
    Some(bytes)
}

/// Numbers one after the other, as they were written, and what is behind them.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn rest_as_text(self) -> Option<String> {
        std::str::from_utf8(self.0).ok().map(str::to_owned)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*number)
    }
}
