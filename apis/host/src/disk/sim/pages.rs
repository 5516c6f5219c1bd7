//! The bytes of a simulated file. Zeros nobody wrote take no memory, and copies share what they have in common, so that
//! a segment of many megabytes costs what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one page.
const PAGE: usize = 4096;

/// A sequence of bytes that grows with what is written to it.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    len: usize,
    /// By number. The others hold zeros.
    written: BTreeMap<usize, Arc<[u8; PAGE]>>,
}

impl Pages {
    pub(super) fn zeros(len: usize) -> Pages {
        Pages { len, written: BTreeMap::new() }
    }

    pub(super) fn holding(content: &[u8]) -> Pages {
        let mut pages = Pages::zeros(content.len());
        pages.write(0, content);
        pages
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `None` when they are not all there.
    pub(super) fn read(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        let end = at.checked_add(len).filter(|end| *end <= self.len)?;
        let mut read = vec![0; len];
        for (number, page) in self.written.range(at / PAGE..end.div_ceil(PAGE)) {
            let (start, page_end) = ((number * PAGE).max(at), ((number + 1) * PAGE).min(end));
            read[start - at..page_end - at].copy_from_slice(&page[start - number * PAGE..page_end - number * PAGE]);
        }
        Some(read)
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.len = self.len.max(at + bytes.len());
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let (number, inside) = (at / PAGE, at % PAGE);
            let (part, later) = rest.split_at(rest.len().min(PAGE - inside));
            self.page(number)[inside..inside + part.len()].copy_from_slice(part);
            (rest, at) = (later, at + part.len());
        }
    }

    /// # Panics
    /// Behind the end.
    pub(super) fn flip(&mut self, at: usize, bit: usize) {
        assert!(at < self.len, "byte {at} of {}", self.len);
        self.page(at / PAGE)[at % PAGE] ^= 1 << bit;
    }

    fn page(&mut self, number: usize) -> &mut [u8; PAGE] {
        Arc::make_mut(self.written.entry(number).or_insert_with(|| Arc::new([0; PAGE])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_across_pages_are_read_back_and_copies_part() {
        let mut pages = Pages::zeros(3 * PAGE);
        let bytes: Vec<u8> = (0..PAGE + 10).map(|at| u8::try_from(at % 251).unwrap()).collect();
        pages.write(PAGE - 5, &bytes);
        let copy = pages.clone();
        pages.write(PAGE - 5, &[9; 3]);
        assert_eq!(copy.read(PAGE - 5, bytes.len()), Some(bytes));
        assert_eq!(pages.read(PAGE - 6, 5), Some(vec![0, 9, 9, 9, 3]));
        assert_eq!((copy.read(0, 4), copy.read(3 * PAGE - 1, 1)), (Some(vec![0; 4]), Some(vec![0])));
        assert_eq!((copy.read(3 * PAGE, 1), copy.read(usize::MAX, 2)), (None, None));
    }

    #[test]
    fn a_write_behind_the_end_leaves_zeros_in_between() {
        let mut pages = Pages::holding(b"abc");
        pages.write(PAGE + 1, b"z");
        pages.flip(0, 1);
        assert_eq!(pages.len(), PAGE + 2);
        assert_eq!(pages.read(0, 4), Some(b"cbc\0".to_vec()));
        assert_eq!(pages.read(PAGE, 2), Some(b"\0z".to_vec()));
    }
}
