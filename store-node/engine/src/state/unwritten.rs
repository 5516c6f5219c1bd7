//! Rows of one table that the views do not have yet.
//!
//! What begins and ends between two batches never becomes a row: only what an earlier batch has, or may have, is deleted.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use apogee_model::BlockIndex;

/// See the module. Ids are in the order of the keys.
#[derive(Debug)]
pub(super) struct Unwritten<Id, Row> {
    /// Rows in no batch yet.
    new: BTreeMap<Id, New<Row>>,
    /// Rows of batches that are taken and not written, oldest first. `None` for one that is gone.
    taken: VecDeque<(BlockIndex, BTreeMap<Id, Option<Row>>)>,
}

#[derive(Copy, Clone, Debug)]
struct New<Row> {
    /// `None` when it is gone.
    row: Option<Row>,
    /// An earlier batch has, or may have, a row of it.
    below: bool,
}

/// What a batch says of one row.
#[derive(Copy, Clone, Debug)]
pub(super) enum Change<'a, Row> {
    Put(&'a Row),
    Delete,
}

impl<Id, Row> Default for Unwritten<Id, Row> {
    fn default() -> Self {
        Self { new: BTreeMap::new(), taken: VecDeque::new() }
    }
}

impl<Id: Copy + Ord, Row: Copy> Unwritten<Id, Row> {
    /// A row that there never was before.
    pub(super) fn insert(&mut self, id: Id, row: Row) {
        self.new.insert(id, New { row: Some(row), below: false });
    }

    /// A row that there was is another one.
    pub(super) fn change(&mut self, id: Id, row: Row) {
        let below = self.new.get(&id).is_none_or(|new| new.below);
        self.new.insert(id, New { row: Some(row), below });
    }

    /// A row that there was is gone.
    pub(super) fn remove(&mut self, id: Id) {
        match self.new.get_mut(&id) {
            Some(new) if new.below => new.row = None,
            Some(_) => drop(self.new.remove(&id)),
            None => drop(self.new.insert(id, New { row: None, below: true })),
        }
    }

    /// Rows that a batch would hold.
    pub(super) fn untaken(&self) -> usize {
        self.new.len()
    }

    /// All rows.
    pub(super) fn rows(&self) -> usize {
        self.new.len() + self.taken.iter().map(|(_, rows)| rows.len()).sum::<usize>()
    }

    /// Bytes of all rows.
    pub(super) fn bytes(&self) -> usize {
        self.rows() * (size_of::<Id>() + size_of::<New<Row>>())
    }

    /// Puts the rows into the batch of `index`.
    pub(super) fn take(&mut self, index: BlockIndex, mut put: impl FnMut(Id, Change<'_, Row>)) {
        let new = std::mem::take(&mut self.new);
        for (id, New { row, below }) in &new {
            match row {
                Some(row) => put(*id, Change::Put(row)),
                None if *below => put(*id, Change::Delete),
                None => {}
            }
        }
        if !new.is_empty() {
            self.taken.push_back((index, new.into_iter().map(|(id, new)| (id, new.row)).collect()));
        }
    }

    /// The views have the batch of `index` and those before it.
    pub(super) fn written(&mut self, index: BlockIndex) {
        while self.taken.pop_front_if(|(taken, _)| *taken <= index).is_some() {}
    }

    /// What is known of a row here; `None` when only the views know.
    pub(super) fn get(&self, id: Id) -> Option<Option<Row>> {
        let new = self.new.get(&id).map(|new| new.row);
        new.or_else(|| self.taken.iter().rev().find_map(|(_, rows)| rows.get(&id).copied()))
    }

    /// Makes of what the views say of a range what there is.
    pub(super) fn lay_over(&self, rows: &mut BTreeMap<Id, Row>, range: Range<Id>) {
        let taken = self.taken.iter().flat_map(|(_, taken)| taken.range(range.clone()).map(|(id, row)| (*id, *row)));
        let new = self.new.range(range.clone()).map(|(id, new)| (*id, new.row));
        for (id, row) in taken.chain(new) {
            match row {
                Some(row) => drop(rows.insert(id, row)),
                None => drop(rows.remove(&id)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Unwritten<u64, char>;

    fn batch(rows: &mut Rows, index: u64) -> String {
        let mut said = Vec::new();
        rows.take(BlockIndex(index), |id, change| {
            said.push(match change {
                Change::Put(row) => format!("{id}={row}"),
                Change::Delete => format!("{id}-"),
            });
        });
        said.join(" ")
    }

    #[test]
    fn a_batch_says_what_earlier_ones_do_not() {
        let mut rows = Rows::default();
        (0..3).for_each(|id| rows.insert(id, 'a'));
        rows.remove(0);
        rows.change(1, 'b');
        assert_eq!(batch(&mut rows, 1), "1=b 2=a");
        rows.insert(3, 'a');
        rows.change(3, 'b');
        rows.remove(3);
        rows.remove(1);
        rows.change(2, 'c');
        rows.remove(2);
        assert_eq!(batch(&mut rows, 2), "1- 2-", "of the third nobody ever heard");
        assert_eq!(batch(&mut rows, 3), "");
        assert_eq!((rows.untaken(), rows.rows()), (0, 4));
        rows.written(BlockIndex(1));
        assert_eq!(rows.rows(), 2);
    }

    #[test]
    fn what_is_newer_goes_before_what_the_views_say() {
        let mut rows = Rows::default();
        (1..4).for_each(|id| rows.insert(id, 'a'));
        batch(&mut rows, 1);
        rows.change(1, 'b');
        rows.remove(2);
        batch(&mut rows, 2);
        rows.change(1, 'c');
        rows.insert(5, 'c');
        assert_eq!(
            [0, 1, 2, 3, 5].map(|id| rows.get(id)),
            [None, Some(Some('c')), Some(None), Some(Some('a')), Some(Some('c'))]
        );
        let mut all = BTreeMap::from([(0, 'v'), (2, 'v')]);
        rows.lay_over(&mut all, 0..5);
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [(0, 'v'), (1, 'c'), (3, 'a')]);
    }
}
