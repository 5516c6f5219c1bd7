//! When what happens, by hand.

use std::time::Duration;

use apogee_model::Epoch;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::executor::block_on;

use super::*;
use crate::block::{Block, BlockKind, HEADER, Header};
use crate::views::MemoryViewStore;

struct Site {
    store: MemoryViewStore,
    state: State,
    keeper: Keeper,
}

const PACE: Pace = Pace { batch_every: Duration::from_secs(1), flush_every: Duration::from_secs(30) };

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_duration(Duration::from_secs(seconds))
}

impl Site {
    fn new() -> Self {
        let store = MemoryViewStore::default();
        let state = block_on(async { State::open(store.open().await.unwrap().0).await.unwrap() });
        let keeper = Keeper::new(Arc::new(store.clone()), &state, PACE, at(0));
        Self { store, state, keeper }
    }

    /// A block of nothing that takes `bytes` of the log.
    fn apply(&mut self, bytes: usize) {
        let position = self.state.position();
        let mut block = vec![0; HEADER.max(bytes)];
        let header = Header {
            kind: BlockKind::Membership,
            records: 0,
            total_len: block.len(),
            previous: position.hash,
            term: Epoch(1),
            leader: 1,
            index: BlockIndex(position.index.0 + 1),
            lsn: position.end,
            commit: position.index,
            log_time: position.log_time,
        };
        header.seal(&mut block);
        self.state.apply(&Block::read(&Bytes::from(block), position.end).unwrap()).unwrap();
    }

    /// What ends of what was started.
    fn turn(&mut self, durable: u64, seconds: u64) -> Option<Kept> {
        self.keeper.turn(&mut self.state, BlockIndex(durable), at(seconds));
        let kept = self.keeper.ended().now_or_never()?.unwrap();
        if let Kept::Written(index) = kept {
            self.state.written(index);
        }
        Some(kept)
    }
}

#[test]
fn a_batch_waits_for_its_time_and_for_the_log() {
    let mut site = Site::new();
    site.apply(104);
    assert_eq!(site.turn(1, 0), None, "too early");
    assert_eq!(site.keeper.next_turn(&site.state), Some(at(1)));
    assert_eq!(site.turn(0, 1), None, "the log is not durable");
    site.apply(104);
    assert_eq!(site.turn(1, 1), Some(Kept::Written(BlockIndex(1))), "what was taken, not what is applied");
    assert_eq!(site.turn(2, 1), None);
    assert_eq!(site.turn(2, 2), Some(Kept::Written(BlockIndex(2))));
    assert!(site.keeper.is_idle(&site.state));
}

#[test]
fn a_flush_comes_with_time_or_with_the_log() {
    let mut site = Site::new();
    site.apply(104);
    assert_eq!(site.turn(1, 1), Some(Kept::Written(BlockIndex(1))));
    assert_eq!(site.keeper.next_turn(&site.state), Some(at(30)));
    assert_eq!(site.turn(1, 30), Some(Kept::Flushed(BlockIndex(1))));
    assert_eq!((site.turn(1, 90), site.keeper.next_turn(&site.state)), (None, None), "nothing is new");
    for _ in 0..9 {
        site.apply(8 << 20);
    }
    assert_eq!(site.turn(10, 91), Some(Kept::Written(BlockIndex(10))));
    assert_eq!(site.turn(10, 91), Some(Kept::Flushed(BlockIndex(10))));
}

#[test]
fn a_base_is_of_all_that_was_applied_when_it_was_wanted() {
    let mut site = Site::new();
    site.apply(104);
    assert_eq!(site.turn(1, 1), Some(Kept::Written(BlockIndex(1))));
    site.apply(104);
    site.keeper.want_base();
    assert_eq!(site.turn(2, 1), Some(Kept::Written(BlockIndex(2))), "before its time");
    let Some(Kept::Based(base)) = site.turn(2, 1) else { panic!("no base") };
    assert_eq!((base.index(), base.position), (BlockIndex(2), site.state.position()));
    assert!(site.keeper.is_idle(&site.state));
    site.store.crash();
    assert_eq!(block_on(site.store.bases()).unwrap().len(), 1);
}

#[test]
fn a_base_waits_for_the_batch_under_way() {
    let mut site = Site::new();
    site.apply(104);
    site.keeper.turn(&mut site.state, BlockIndex(1), at(1));
    site.keeper.want_base();
    site.apply(104);
    site.keeper.turn(&mut site.state, BlockIndex(1), at(1));
    assert_eq!(site.keeper.ended().now_or_never().unwrap().unwrap(), Kept::Written(BlockIndex(1)));
    assert_eq!(site.turn(1, 1), None, "a batch waits for the log");
    assert_eq!(site.turn(2, 1), Some(Kept::Written(BlockIndex(2))));
    assert!(matches!(site.turn(2, 1), Some(Kept::Based(_))));
}
