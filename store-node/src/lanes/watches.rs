//! The watches of one lane: each tells its edges, one at a time.

use std::collections::BTreeMap;

use apogee_engine::Watch;
use futures::StreamExt as _;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;

/// Watches of one lane. A proxy has fewer combinations of group, topic and filter.
const WATCHES_MAX: usize = 65_536;

/// An edge, and the watch it came from.
type Told = (u64, u64, Watch);

/// Set and not ended.
#[derive(Default)]
pub(super) struct Watches {
    by_id: BTreeMap<u64, AbortHandle>,
    waiting: FuturesUnordered<Abortable<BoxFuture<'static, Told>>>,
}

impl Watches {
    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= WATCHES_MAX
    }

    /// Sets a watch in place of the one with this id.
    pub(super) fn set(&mut self, id: u64, watch: Watch) {
        self.end(id);
        self.wait(id, watch);
    }

    pub(super) fn end(&mut self, id: u64) {
        if let Some(earlier) = self.by_id.remove(&id) {
            earlier.abort();
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.waiting.clear();
    }

    /// The next edge; never ends while nothing is watched. Cancel safe.
    pub(super) async fn next(&mut self) -> (u64, u64) {
        loop {
            match self.waiting.next().await {
                Some(Ok((id, ready, watch))) => {
                    self.wait(id, watch);
                    return (id, ready);
                }
                Some(Err(_aborted)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn wait(&mut self, id: u64, mut watch: Watch) {
        let (handle, registration) = AbortHandle::new_pair();
        self.by_id.insert(id, handle);
        let edge: BoxFuture<'static, Told> = Box::pin(async move {
            let ready = watch.ready().await;
            (id, ready, watch)
        });
        self.waiting.push(Abortable::new(edge, registration));
    }
}
