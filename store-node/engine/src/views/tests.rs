//! What both lives of the seam promise.

pub(crate) mod site;

use std::ops::ControlFlow;

use apogee_model::{BlockIndex, QueueId, QueueOffset, TopicId};
use futures::executor::block_on;

use self::site::Site;
use super::*;
use crate::block::Lsn;

/// A batch that brings rows to `index` and says so in every table.
pub(crate) fn batch(index: u64) -> Batch {
    let mut batch = Batch::new(Position { index: BlockIndex(index), end: Lsn(index * 100), ..Position::default() });
    for table in [Table::Lease, Table::Name, Table::ConsumeQueue] {
        let key = consume_queue_key(TopicId(1), QueueId(0), QueueOffset(index));
        batch.put(table, &key, |row| row.extend_from_slice(&index.to_le_bytes()));
    }
    batch
}

pub(crate) fn rows(views: &dyn Rows, table: Table) -> Vec<u64> {
    let mut found = Vec::new();
    let key = |offset| consume_queue_key(TopicId(1), QueueId(0), QueueOffset(offset));
    let scanned = views.scan(table, &key(0), &key(u64::MAX), &mut |key, _| {
        found.push(offset_of_key(key).unwrap().0);
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    found
}

fn both(check: impl Fn(Site)) {
    check(Site::memory());
    check(Site::rocks());
}

fn write(views: &dyn Views, indexes: impl IntoIterator<Item = u64>) {
    indexes.into_iter().for_each(|index| block_on(views.write(batch(index))).unwrap());
}

fn indexes(site: &Site) -> Vec<u64> {
    block_on(site.store().bases()).unwrap().iter().map(|base| base.index().0).collect()
}

fn based_at(site: &Site, index: u64) -> Vec<BaseFile> {
    let views = site.open();
    write(&*views, [index]);
    assert_eq!(block_on(site.store().take_base()).unwrap().index(), BlockIndex(index));
    block_on(site.store().base_files(BlockIndex(index))).unwrap()
}

/// Hands the base of `index` on, in pieces of `piece` bytes.
fn hand_on(from: &Site, to: &Site, index: BlockIndex, piece: usize) {
    block_on(to.store().begin_incoming(index)).unwrap();
    for file in block_on(from.store().base_files(index)).unwrap() {
        let mut at = 0;
        loop {
            let bytes = block_on(from.store().read_base(index, file.name.clone(), at, piece)).unwrap();
            let len = u64::try_from(bytes.len()).unwrap();
            block_on(to.store().write_incoming(index, file.name.clone(), at, bytes)).unwrap();
            at += len;
            if len == 0 || at == file.len {
                break;
            }
        }
        assert_eq!(at, file.len);
    }
}

#[test]
fn batches_are_read_at_once_and_survive_from_the_flush_on() {
    both(|site| {
        let views = site.open();
        write(&*views, [1, 2]);
        block_on(views.flush()).unwrap();
        write(&*views, [3]);
        assert_eq!(rows(&*views, Table::ConsumeQueue), [1, 2, 3]);
        let views = site.crash().open();
        assert_eq!(views.position().unwrap().index, BlockIndex(2));
        for table in [Table::Lease, Table::Name, Table::ConsumeQueue] {
            assert_eq!(rows(&*views, table), [1, 2], "{table:?}");
        }
    });
}

#[test]
fn a_clean_close_keeps_everything() {
    both(|site| {
        write(&*site.open(), [1, 2, 3]);
        block_on(site.store().close()).unwrap();
        assert_eq!(rows(&*site.crash().open(), Table::Lease), [1, 2, 3]);
    });
}

#[test]
fn ranges_go_before_what_is_put_after_them() {
    both(|site| {
        let views = site.open();
        write(&*views, 1..=5);
        let key = |offset| consume_queue_key(TopicId(1), QueueId(0), QueueOffset(offset));
        let mut change = Batch::new(Position { index: BlockIndex(6), ..Position::default() });
        change.delete_range(Table::Lease, &key(2), &key(5));
        change.put(Table::Lease, &key(3), |_| {});
        change.delete(Table::Lease, &key(1));
        block_on(views.write(change)).unwrap();
        assert_eq!(rows(&*views, Table::Lease), [3, 5]);
    });
}

#[test]
fn an_opening_closes_the_one_before() {
    both(|site| {
        let old = site.open();
        let new = site.open();
        assert!(matches!(block_on(old.write(batch(1))), Err(ViewsError::Closed)));
        assert!(matches!(old.position(), Err(ViewsError::Closed)));
        write(&*new, [1]);
    });
}

#[test]
fn two_bases_are_kept() {
    both(|site| {
        let views = site.open();
        for index in 1..=4 {
            write(&*views, [index]);
            block_on(site.store().take_base()).unwrap();
        }
        assert_eq!(indexes(&site), [3, 4]);
        assert_eq!(block_on(site.store().take_base()).unwrap().index(), BlockIndex(4), "nothing is new");
        assert_eq!(indexes(&site), [3, 4]);
    });
}

#[test]
fn views_begin_at_the_newest_base_when_they_are_removed() {
    both(|site| {
        based_at(&site, 7);
        write(&*site.open(), [8]);
        block_on(site.store().remove_live()).unwrap();
        assert_eq!(rows(&*site.open(), Table::Lease), [7]);
    });
}

#[test]
fn views_begin_with_nothing_when_they_are_set_aside() {
    both(|site| {
        for index in [7, 8] {
            based_at(&site, index);
            write(&*site.open(), [index + 1]);
            block_on(site.store().set_aside("aside")).unwrap();
            assert!(block_on(site.store().bases()).unwrap().is_empty());
            assert_eq!(rows(&*site.open(), Table::Lease), Vec::<u64>::new());
        }
        block_on(site.store().set_aside("aside")).unwrap();
        block_on(site.store().set_aside("aside")).unwrap();
    });
}

#[test]
fn the_older_base_serves_when_the_newer_is_damaged() {
    both(|site| {
        based_at(&site, 7);
        based_at(&site, 8);
        site.damage_newest_base();
        let site = site.damage_live();
        assert_eq!(site.open().position().unwrap().index, BlockIndex(7));
        let site = site.damage_live();
        assert_eq!(site.open().position().unwrap().index, BlockIndex(7));
    });
}

#[test]
fn sound_views_stay_when_the_base_ahead_of_them_is_damaged() {
    both(|site| {
        based_at(&site, 7);
        site.damage_newest_base();
        let site = site.damage_live();
        write(&*site.open(), [1, 2]);
        block_on(site.store().close()).unwrap();
        assert_eq!(rows(&*site.open(), Table::Lease), [1, 2]);
    });
}

#[test]
fn damaged_views_without_a_base_are_empty() {
    both(|site| {
        write(&*site.open(), [1]);
        let site = site.damage_live();
        let views = site.open();
        assert_eq!(views.position().unwrap(), Position::default());
        write(&*views, [1]);
        assert_eq!(rows(&*views, Table::Lease), [1]);
    });
}

#[test]
fn a_base_goes_to_another_replica() {
    for pair in [(Site::memory(), Site::memory()), (Site::rocks(), Site::rocks())] {
        let (from, to) = pair;
        let files = based_at(&from, 7);
        assert_eq!(files.last().map(|file| file.name.as_str()), Some("BASE"));
        write(&*to.open(), [1, 2]);
        hand_on(&from, &to, BlockIndex(7), 1000);
        let base = block_on(to.store().finish_incoming(BlockIndex(7))).unwrap();
        assert_eq!(base, block_on(from.store().bases()).unwrap()[0]);
        // Even without removing the live views, which are behind.
        let views = to.crash().open();
        assert_eq!((rows(&*views, Table::Lease), views.position().unwrap().end), (vec![7], Lsn(700)));
    }
}

#[test]
fn hostile_pieces_are_refused() {
    both(|site| {
        let index = BlockIndex(3);
        let store = site.store();
        let send =
            |file: &str, at, bytes: Vec<u8>| block_on(store.write_incoming(index, file.to_owned(), at, bytes.into()));
        assert!(matches!(send("a", 0, vec![1]), Err(ViewsError::NoSuchBase { .. })));
        block_on(store.begin_incoming(index)).unwrap();
        for (file, at, len) in [("../a", 0, 1), ("a/b", 0, 1), (".a", 0, 1), ("a", 1, 1), ("a", 0, PIECE_MAX + 1)] {
            assert!(matches!(send(file, at, vec![0; len]), Err(ViewsError::BadBase { .. })), "{file} {at} {len}");
        }
        send("a", 0, vec![1]).unwrap();
        assert!(matches!(send("a", 0, vec![1]), Err(ViewsError::BadBase { .. })), "twice");
        send("BASE", 0, vec![0; 20]).unwrap();
        assert!(matches!(block_on(store.finish_incoming(index)), Err(ViewsError::BadBase { .. })));
        assert_eq!(indexes(&site), [0; 0]);
    });
}

#[test]
fn a_base_of_another_index_or_with_a_short_file_is_refused() {
    both(|site| {
        let from = match &site {
            Site::Memory(_) => Site::memory(),
            Site::Rocks(..) => Site::rocks(),
        };
        based_at(&from, 7);
        block_on(site.store().begin_incoming(BlockIndex(8))).unwrap();
        for file in block_on(from.store().base_files(BlockIndex(7))).unwrap() {
            let bytes = block_on(from.store().read_base(BlockIndex(7), file.name.clone(), 0, PIECE_MAX)).unwrap();
            block_on(site.store().write_incoming(BlockIndex(8), file.name, 0, bytes)).unwrap();
        }
        assert!(matches!(block_on(site.store().finish_incoming(BlockIndex(8))), Err(ViewsError::BadBase { .. })));
        block_on(site.store().begin_incoming(BlockIndex(7))).unwrap();
        for file in block_on(from.store().base_files(BlockIndex(7))).unwrap() {
            let short = if file.name == "BASE" { PIECE_MAX } else { 10 };
            let bytes = block_on(from.store().read_base(BlockIndex(7), file.name.clone(), 0, short)).unwrap();
            block_on(site.store().write_incoming(BlockIndex(7), file.name, 0, bytes)).unwrap();
        }
        assert!(matches!(block_on(site.store().finish_incoming(BlockIndex(7))), Err(ViewsError::BadBase { .. })));
    });
}

#[test]
fn what_is_not_there_is_said() {
    both(|site| {
        let (store, index) = (site.store(), BlockIndex(9));
        assert!(matches!(block_on(store.take_base()), Err(ViewsError::Closed)) || matches!(site, Site::Memory(_)));
        assert!(matches!(block_on(store.base_files(index)), Err(ViewsError::NoSuchBase { .. })));
        assert!(matches!(block_on(store.read_base(index, "BASE".into(), 0, 1)), Err(ViewsError::NoSuchBase { .. })));
        assert!(matches!(block_on(store.finish_incoming(index)), Err(ViewsError::NoSuchBase { .. })));
        based_at(&site, 9);
        let read = |file: &str, at| block_on(store.read_base(index, file.into(), at, 1));
        assert!(matches!(read("../../log", 0), Err(ViewsError::NoSuchBase { .. })));
        assert_eq!(read("BASE", u64::MAX).unwrap().len(), 0, "beyond the end");
    });
}
