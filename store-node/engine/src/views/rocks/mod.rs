//! Views in RocksDB, in two folders of the data folder: `store/views` (live) and `store/bases/<index>`.
//!
//! RocksDB keeps no log of its own here: the CommitLog is that log. Flushes take all tables at once, so that what a
//! crash leaves is at one position. One thread does everything but short reads, and that is what makes a base exact:
//! no batch comes in between.
//!
//! Reading order: this file (the store), `live` (the open database), `options` and `filter` (how it is tuned),
//! `folders` (what is on disk besides).

mod filter;
mod folders;
mod live;
mod options;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_host::Lane;
use apogee_model::BlockIndex;
use bytes::Bytes;

use self::folders::Folders;
use self::live::{Live, RocksViews};
use super::{Base, BaseFile, LiveViews, Rows as _, ViewStore, ViewsError, ViewsFuture};

/// Jobs that wait for the index thread before the next one has to wait outside.
const LANE_QUEUE: usize = 64;

/// What people tune.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RocksSettings {
    /// Memory for rows that are not flushed and for cached blocks, together.
    pub views_bytes: usize,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self { views_bytes: 128 << 20 }
    }
}

/// Views and bases in a data folder, with one thread for them. The folder is locked by whoever made it.
pub struct RocksViewStore {
    lane: Arc<Lane>,
    inner: Arc<Inner>,
}

/// What the thread works on.
struct Inner {
    folders: Folders,
    settings: RocksSettings,
    live: Mutex<Option<Arc<Live>>>,
}

impl RocksViewStore {
    /// Starts the thread for the views under `data_folder`; touches no file yet.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(data_folder: &Path, settings: RocksSettings) -> io::Result<Self> {
        let lane = Arc::new(Lane::start("index", 1, LANE_QUEUE)?);
        let inner = Inner { folders: Folders::of(data_folder), settings, live: Mutex::default() };
        Ok(Self { lane, inner: Arc::new(inner) })
    }

    /// The files change no more by themselves: they can be copied as a crash would leave them.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        if let Some(live) = self.inner.live().as_ref() {
            live.settle();
        }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ViewsError> + Send + 'static,
    ) -> ViewsFuture<T> {
        let inner = Arc::clone(&self.inner);
        on_lane(&self.lane, move || work(&inner))
    }
}

/// Runs `work` on the index thread. It must not own the lane, which waits for its threads when it is dropped.
fn on_lane<T: Send + 'static>(
    lane: &Lane,
    work: impl FnOnce() -> Result<T, ViewsError> + Send + 'static,
) -> ViewsFuture<T> {
    let answer = lane.run(move || Ok(work()));
    Box::pin(async move { answer.await.map_err(ViewsError::disk("use the index thread"))? })
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, Option<Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> Result<(), ViewsError> {
        self.live().take().map_or(Ok(()), |live| live.close())
    }

    /// The live views as they are, else from the newest base that works, else empty.
    fn open(&self) -> Result<Arc<Live>, ViewsError> {
        self.close()?;
        self.folders.clean_up()?;
        let bases = self.folders.bases()?;
        let live = match self.folders.check_live().and_then(|()| self.open_live()) {
            Ok((live, at)) => {
                let ahead = bases.iter().filter(|base| base.index() > at).cloned().collect::<Vec<_>>();
                if ahead.is_empty() { live } else { self.catch_up(live, &ahead)? }
            }
            Err(why) => {
                if self.folders.has_live() {
                    tracing::warn!(event = "views_unusable", %why, "the views are restored from a base");
                }
                self.restore(&bases)?.map_or_else(|| self.begin(), Ok)?
            }
        };
        *self.live() = Some(Arc::clone(&live));
        Ok(live)
    }

    /// A base is ahead of the live views: it came from another replica, and the live views were not removed yet.
    fn catch_up(&self, live: Arc<Live>, ahead: &[Base]) -> Result<Arc<Live>, ViewsError> {
        live.close()?;
        let restored = self.restore(ahead)?;
        restored.map_or_else(|| Ok(self.open_live()?.0), Ok)
    }

    fn open_live(&self) -> Result<(Arc<Live>, BlockIndex), ViewsError> {
        let live = Live::open(self.folders.live(), self.settings, false)?;
        let index = live.position()?.index;
        Ok((live, index))
    }

    /// From the newest of `bases` that works; what is live stays when none does.
    fn restore(&self, bases: &[Base]) -> Result<Option<Arc<Live>>, ViewsError> {
        for base in bases.iter().rev() {
            let index = base.index();
            match self.restore_from(base) {
                Ok(()) => {
                    tracing::info!(event = "views_restored", %index, "the views are restored from a base");
                    return Ok(Some(self.open_live()?.0));
                }
                Err(why) => tracing::error!(event = "base_unusable", %index, %why, "a base cannot be used"),
            }
        }
        Ok(None)
    }

    fn restore_from(&self, base: &Base) -> Result<(), ViewsError> {
        let copy = self.folders.copy_base(base.index())?;
        let tried = Live::open(&copy, self.settings, false)?;
        let at = tried.position()?;
        tried.close()?;
        if at != base.position {
            return Err(ViewsError::damaged(format!("it is at index {}", at.index)));
        }
        self.folders.make_live(&copy)
    }

    /// Empty views.
    fn begin(&self) -> Result<Arc<Live>, ViewsError> {
        self.folders.remove_live()?;
        self.folders.create_store()?;
        Live::open(self.folders.live(), self.settings, true)
    }

    /// Opens a copy of what came in before it becomes a base: afterwards others count on it.
    fn finish_incoming(&self, index: BlockIndex) -> Result<Base, ViewsError> {
        let (copy, position) = self.folders.copy_incoming(index)?;
        let bad = |why: String| ViewsError::BadBase { index, why };
        let tried = Live::open(&copy, self.settings, false).map_err(|error| bad(error.to_string()))?;
        let at = tried.position();
        tried.close()?;
        self.folders.remove_copy()?;
        if at.map_err(|error| bad(error.to_string()))? != position {
            return Err(bad("its rows are at another position".to_owned()));
        }
        self.folders.finish_incoming(index)
    }

    fn take_base(&self) -> Result<Base, ViewsError> {
        let live = self.live().clone().ok_or(ViewsError::Closed)?;
        let index = live.position()?.index;
        if let Some(newest) = self.folders.bases()?.into_iter().next_back().filter(|base| base.index() == index) {
            return Ok(newest);
        }
        let folder = self.folders.begin_base()?;
        live.checkpoint(&folder)?;
        // This thread is the only one that writes: the database is still where the checkpoint is.
        let base = self.folders.finish_base(&folder, live.position()?)?;
        self.folders.prune()?;
        Ok(base)
    }
}

impl ViewStore for RocksViewStore {
    fn open(&self) -> ViewsFuture<LiveViews> {
        let lane = Arc::clone(&self.lane);
        let opened = self.run(Inner::open);
        Box::pin(async move { Ok(LiveViews(Arc::new(RocksViews::new(lane, opened.await?)))) })
    }

    fn close(&self) -> ViewsFuture<()> {
        self.run(Inner::close)
    }

    fn remove_live(&self) -> ViewsFuture<()> {
        self.run(|inner| {
            // What does not get flushed any more is removed anyway.
            if let Err(why) = inner.close() {
                tracing::warn!(event = "views_not_closed", %why, "the views that are removed did not close well");
            }
            inner.folders.remove_live()
        })
    }

    fn set_aside(&self, folder: &'static str) -> ViewsFuture<()> {
        self.run(move |inner| {
            if let Err(why) = inner.close() {
                tracing::warn!(event = "views_not_closed", %why, "the views that are set aside did not close well");
            }
            inner.folders.set_aside(folder)
        })
    }

    fn take_base(&self) -> ViewsFuture<Base> {
        self.run(Inner::take_base)
    }

    fn remove_base(&self, index: BlockIndex) -> ViewsFuture<()> {
        self.run(move |inner| inner.folders.remove_base(index))
    }

    fn bases(&self) -> ViewsFuture<Vec<Base>> {
        self.run(|inner| inner.folders.bases())
    }

    fn base_files(&self, index: BlockIndex) -> ViewsFuture<Vec<BaseFile>> {
        self.run(move |inner| inner.folders.files(index))
    }

    fn read_base(&self, index: BlockIndex, file: String, at: u64, len: usize) -> ViewsFuture<Bytes> {
        self.run(move |inner| inner.folders.read(index, &file, at, len))
    }

    fn begin_incoming(&self, index: BlockIndex) -> ViewsFuture<()> {
        self.run(move |inner| inner.folders.begin_incoming(index))
    }

    fn write_incoming(&self, index: BlockIndex, file: String, at: u64, bytes: Bytes) -> ViewsFuture<()> {
        self.run(move |inner| inner.folders.write_incoming(index, &file, at, &bytes))
    }

    fn finish_incoming(&self, index: BlockIndex) -> ViewsFuture<Base> {
        self.run(move |inner| inner.finish_incoming(index))
    }
}

#[cfg(test)]
mod tests;
