//! A small walk over protobuf fields, for code that must look into stored messages without decoding them.

/// One field as found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
}

/// What the field holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Varint, 32-bit or 64-bit field.
    Number(u64),
    /// String, bytes or a nested message.
    Bytes(&'a [u8]),
}

/// The bytes are not a protobuf message.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed protobuf at byte {at}")]
pub struct Malformed {
    pub at: usize,
}

/// Walks the top-level fields of one message; ends after the first malformed one.
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, at: 0 }
}

/// Iterator of [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let field = self.field();
        if field.is_none() {
            self.at = self.bytes.len();
        }
        Some(field.ok_or(Malformed { at: start }))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some(Field { number, value })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn walks_fields_and_stops_at_rubbish() {
        let bytes = [0x0a, 2, b'h', b'i', 0x10, 0x96, 0x01, 0x0b];
        let found: Vec<_> = fields(&bytes).collect();
        assert_eq!(found[0], Ok(Field { number: 1, value: Value::Bytes(b"hi") }));
        assert_eq!(found[1], Ok(Field { number: 2, value: Value::Number(150) }));
        assert_eq!(found[2], Err(Malformed { at: 7 }));
        assert_eq!(found.len(), 3);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
