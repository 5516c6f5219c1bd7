//! Where the views of one replica group live across restarts.

use std::sync::Arc;

use apogee_model::BlockIndex;
use bytes::Bytes;

use super::{Base, BaseFile, Views, ViewsFuture};

/// The views of one replica group and the bases taken of them. [`super::RocksViewStore`] keeps them on disk,
/// [`super::MemoryViewStore`] forgets what was not flushed when a test says so.
///
/// A base is named by the index of its position. Files of a base are handed on in pieces of at most
/// [`super::PIECE_MAX`]; the manifest is one of them. All of it is for the one replica that owns the store; requests
/// take effect one after the other.
pub trait ViewStore: Send + Sync + 'static {
    /// Opens the live views. When they are gone, damaged, or older than the newest base, they are restored from that
    /// base; when it is damaged, from the one before; empty when there is none. Handles from before are closed.
    fn open(&self) -> ViewsFuture<LiveViews>;

    /// Flushes and closes the live views; the next opening finds all that was written.
    fn close(&self) -> ViewsFuture<()>;

    /// Closes the live views and removes them: the next opening begins at the newest base.
    fn remove_live(&self) -> ViewsFuture<()>;

    /// Closes the live views and moves them and all bases to this folder of the data folder, in place of what an earlier
    /// call left there: the next opening begins with nothing.
    fn set_aside(&self, folder: &'static str) -> ViewsFuture<()>;

    /// Takes a base of what was written so far, and removes all but the newest two. Durable when it returns.
    fn take_base(&self) -> ViewsFuture<Base>;

    /// Removes a base, if it is there.
    fn remove_base(&self, index: BlockIndex) -> ViewsFuture<()>;

    /// The sound bases, oldest first.
    fn bases(&self) -> ViewsFuture<Vec<Base>>;

    /// The files of a base, its manifest last.
    fn base_files(&self, index: BlockIndex) -> ViewsFuture<Vec<BaseFile>>;

    /// At most `len` bytes of a file of a base, fewer at its end.
    fn read_base(&self, index: BlockIndex, file: String, at: u64, len: usize) -> ViewsFuture<Bytes>;

    /// Begins to take in a base of another replica; what an earlier attempt left is dropped.
    fn begin_incoming(&self, index: BlockIndex) -> ViewsFuture<()>;

    /// Writes a piece of a file of the base that is coming in; pieces of one file come in order.
    fn write_incoming(&self, index: BlockIndex, file: String, at: u64, bytes: Bytes) -> ViewsFuture<()>;

    /// Makes what came in a base of this store, durable when it returns. From here on an opening may begin at it, even
    /// if the process ends before anybody removes the live views.
    fn finish_incoming(&self, index: BlockIndex) -> ViewsFuture<Base>;
}

/// Live views that were opened.
#[derive(Clone)]
pub struct LiveViews(pub(crate) Arc<dyn Views>);
