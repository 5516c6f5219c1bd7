//! Owns the segment files: writes blocks in order, syncs, prepares the next segment, keeps the checkpoint.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Disk, FileId};
use apogee_model::BlockIndex;
use futures::future::{BoxFuture, FutureExt as _, OptionFuture};
use tokio::sync::{mpsc, watch};

use super::{Checkpoint, LogFailed, LogReader, Sealed, segment_name};
use crate::block::Lsn;
use crate::metrics::Metrics;

/// A checkpoint is written when the log grew by this much…
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// …or changed at all since this long ago.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// How far the log is durable.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Durable {
    pub(crate) index: BlockIndex,
    pub(crate) end: Lsn,
}

/// The task that writes. Writing block N + 1 overlaps the sync of block N; everything written while a sync runs
/// shares the next one.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    reader: LogReader,
    segment_bytes: u64,
    inbox: mpsc::Receiver<Sealed>,
    durable: watch::Sender<Durable>,
    metrics: Arc<Metrics>,
    /// The segment under the pen and its start.
    current: (Lsn, FileId),
    next: Option<BoxFuture<'static, std::io::Result<FileId>>>,
    prepared: Option<FileId>,
    /// Preparing failed: try again later, and give up only when the segment is needed.
    paused: bool,
    /// Files with unsynced writes, oldest first.
    dirty: Vec<FileId>,
    written: Durable,
    checkpoint: Checkpoint,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "constructed once, from the parts of the engine")]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        reader: LogReader,
        segment_bytes: u64,
        current: (Lsn, FileId),
        inbox: mpsc::Receiver<Sealed>,
        durable: watch::Sender<Durable>,
        checkpoint: Checkpoint,
        metrics: Arc<Metrics>,
    ) -> Self {
        let written = *durable.borrow();
        let (next, prepared, paused, dirty) = (None, None, false, Vec::new());
        Self {
            disk,
            reader,
            segment_bytes,
            inbox,
            durable,
            metrics,
            current,
            next,
            prepared,
            paused,
            dirty,
            written,
            checkpoint,
        }
    }

    /// Runs until the appender is gone; then everything is durable and the checkpoint says so.
    ///
    /// # Errors
    /// [`LogFailed`] on the first disk error. Nothing is retried: after a failed sync nobody knows what is on disk.
    pub(crate) async fn run(mut self) -> Result<(), LogFailed> {
        let mut syncing: Option<BoxFuture<'static, Result<Durable, LogFailed>>> = None;
        let mut noting: Option<BoxFuture<'static, Result<(), LogFailed>>> = None;
        let mut open = true;
        let mut checkpoint_due = tokio::time::interval(CHECKPOINT_EVERY);
        checkpoint_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while open || syncing.is_some() {
            self.prepare_next();
            tokio::select! {
                biased;
                Some(synced) = OptionFuture::from(syncing.as_mut()) => {
                    syncing = None;
                    self.durable.send_replace(synced?);
                    noting = noting.or_else(|| self.checkpoint(CHECKPOINT_BYTES));
                }
                Some(noted) = OptionFuture::from(noting.as_mut()) => {
                    noting = None;
                    noted?;
                }
                sealed = self.inbox.recv(), if open => match sealed {
                    Some(sealed) => self.write_waiting(sealed).await?,
                    None => open = false,
                },
                Some(file) = OptionFuture::from(self.next.as_mut()), if self.prepared.is_none() => {
                    self.next = None;
                    match file {
                        Ok(file) => self.prepared = Some(file),
                        Err(error) => {
                            tracing::warn!(event = "segment_not_prepared", %error, "the next segment cannot be created");
                            self.paused = true;
                        }
                    }
                }
                _ = checkpoint_due.tick() => {
                    self.paused = false;
                    noting = noting.or_else(|| self.checkpoint(0));
                }
            }
            if syncing.is_none() && !self.dirty.is_empty() {
                syncing = Some(self.sync());
            }
        }
        if let Some(noting) = noting {
            noting.await?;
        }
        match self.checkpoint(0) {
            Some(noting) => noting.await,
            None => Ok(()),
        }
    }

    async fn write_waiting(&mut self, first: Sealed) -> Result<(), LogFailed> {
        self.write(first).await?;
        while let Ok(sealed) = self.inbox.try_recv() {
            self.write(sealed).await?;
        }
        Ok(())
    }

    async fn write(&mut self, sealed: Sealed) -> Result<(), LogFailed> {
        let lsn = sealed.header.lsn;
        let offset = lsn.0 % self.segment_bytes;
        if lsn.0 - offset != self.current.0.0 {
            self.roll(Lsn(lsn.0 - offset)).await?;
        }
        let write = self.disk.write_at(self.current.1, offset, sealed.bytes);
        write.await.map_err(|cause| LogFailed { what: "write", cause })?;
        if self.dirty.last() != Some(&self.current.1) {
            self.dirty.push(self.current.1);
        }
        let len = u64::try_from(sealed.header.total_len).expect("blocks are at most 8 MiB");
        self.written = Durable { index: sealed.header.index, end: Lsn(lsn.0 + len) };
        Ok(())
    }

    async fn roll(&mut self, start: Lsn) -> Result<(), LogFailed> {
        self.paused = false;
        self.prepare_next();
        let file = match (self.prepared.take(), self.next.take()) {
            (Some(file), _) => Ok(file),
            (None, Some(next)) => next.await,
            (None, None) => unreachable!("prepare_next left one of the two"),
        };
        let file = file.map_err(|cause| LogFailed { what: "extend", cause })?;
        self.current = (start, file);
        self.reader.add_segment(start, file);
        Ok(())
    }

    /// Starts to create the segment after the current one, unless that happened.
    fn prepare_next(&mut self) {
        if self.prepared.is_some() || self.next.is_some() || self.paused {
            return;
        }
        let name = segment_name(Lsn(self.current.0.0 + self.segment_bytes));
        let (disk, len) = (Arc::clone(&self.disk), self.segment_bytes);
        self.next = Some(open_or_create(disk, name, len).boxed());
    }

    fn sync(&mut self) -> BoxFuture<'static, Result<Durable, LogFailed>> {
        let (disk, files, reached) = (Arc::clone(&self.disk), std::mem::take(&mut self.dirty), self.written);
        let metrics = Arc::clone(&self.metrics);
        async move {
            let started = tokio::time::Instant::now();
            for file in files {
                disk.sync(file).await.map_err(|cause| LogFailed { what: "sync", cause })?;
            }
            metrics.synced(started.elapsed());
            Ok(reached)
        }
        .boxed()
    }

    /// Writes a checkpoint when the log grew by more than `grown_by` since the last. It does not hold up the log.
    fn checkpoint(&mut self, grown_by: u64) -> Option<BoxFuture<'static, Result<(), LogFailed>>> {
        let durable = self.durable.borrow().end;
        if durable.0 <= self.checkpoint.durable.0 + grown_by {
            return None;
        }
        self.checkpoint.durable = durable;
        let (disk, checkpoint) = (Arc::clone(&self.disk), self.checkpoint);
        let write = async move { checkpoint.write(&*disk).await };
        Some(write.map(|written| written.map_err(|cause| LogFailed { what: "checkpoint", cause })).boxed())
    }
}

/// A crash may have left the segment behind, empty.
async fn open_or_create(disk: Arc<dyn Disk>, name: String, len: u64) -> std::io::Result<FileId> {
    match disk.open(&name).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk.create(&name, len).await,
        opened => opened,
    }
}
