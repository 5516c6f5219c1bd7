//! Owns the segment files: does what the log asks in its order, syncs, prepares the next segment, keeps the checkpoint.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Disk, FileId};
use apogee_model::BlockIndex;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, OptionFuture};
use tokio::sync::{mpsc, oneshot, watch};

use super::layout::{Layout, Sealed};
use super::{Checkpoint, Log, LogFailed, Vote, segment_name};
use crate::block::Lsn;
use crate::metrics::Metrics;

/// A checkpoint is written when the log grew by this much…
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// …or changed at all since this long ago.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Called once, when the blocks are durable or never will be.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the log asks of the writer. Everything takes effect in the order it was asked.
pub(crate) enum Job {
    /// Blocks that follow on each other; the log is then `layout`.
    Write {
        blocks: Vec<Sealed>,
        layout: Layout,
        done: Done,
    },
    /// The log is `layout` again, and zeros up to where it ended before.
    Truncate {
        layout: Layout,
        old_end: Lsn,
        reply: oneshot::Sender<()>,
    },
    Vote {
        vote: Vote,
        reply: oneshot::Sender<()>,
    },
    /// There are segments to remove. They do not hold up the log.
    Remove,
}

/// The task that writes. Writing block N + 1 overlaps the sync of block N; everything written while a sync runs
/// shares the next one.
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log: Log,
    pub(crate) segment_bytes: u64,
    pub(crate) inbox: mpsc::Receiver<Job>,
    /// The log as far as it is durable.
    pub(crate) durable: watch::Sender<Layout>,
    pub(crate) metrics: Arc<Metrics>,
    /// The segment under the pen and its start.
    pub(crate) current: (Lsn, FileId),
    pub(crate) checkpoint: Checkpoint,
    pub(crate) progress: Progress,
}

/// What is on its way.
pub(crate) struct Progress {
    next: Option<BoxFuture<'static, io::Result<FileId>>>,
    prepared: Option<FileId>,
    /// Preparing failed: try again later, and give up only when the segment is needed.
    paused: bool,
    /// Files with unsynced writes, oldest first.
    dirty: Vec<FileId>,
    written: Layout,
    /// Who waits for the sync that covers them.
    waiting: VecDeque<(BlockIndex, Done)>,
}

impl Progress {
    pub(crate) fn new(written: Layout) -> Self {
        Self { next: None, prepared: None, paused: false, dirty: Vec::new(), written, waiting: VecDeque::new() }
    }
}

type Step<T> = Option<BoxFuture<'static, Result<T, LogFailed>>>;

impl Writer {
    /// Runs until the log is closed; then everything is durable and the checkpoint says so.
    ///
    /// # Errors
    /// [`LogFailed`] on the first disk error. Nothing is retried: after a failed sync nobody knows what is on disk.
    pub(crate) async fn run(mut self) -> Result<(), LogFailed> {
        let outcome = self.work().await;
        if let Err(LogFailed { what, cause }) = &outcome {
            self.log.set_failure(cause);
            for (_, done) in self.progress.waiting.drain(..) {
                done(Err(io::Error::new(cause.kind(), format!("cannot {what} the CommitLog: {cause}"))));
            }
        }
        outcome
    }

    async fn work(&mut self) -> Result<(), LogFailed> {
        let mut syncing: Step<Layout> = None;
        let mut noting: Step<()> = None;
        let mut removing: Option<BoxFuture<'static, ()>> = None;
        // A job that waits until everything before it is durable.
        let mut barrier: Option<Job> = None;
        let mut open = true;
        let mut checkpoint_due = tokio::time::interval(CHECKPOINT_EVERY);
        checkpoint_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tell_size();
        while open || syncing.is_some() || barrier.is_some() {
            self.prepare_next();
            tokio::select! {
                biased;
                Some(synced) = OptionFuture::from(syncing.as_mut()) => {
                    syncing = None;
                    self.synced(synced?);
                    noting = noting.or_else(|| self.checkpoint(CHECKPOINT_BYTES));
                }
                Some(noted) = OptionFuture::from(noting.as_mut()) => {
                    noting = None;
                    noted?;
                }
                Some(()) = OptionFuture::from(removing.as_mut()) => {
                    removing = None;
                    self.tell_size();
                }
                job = self.inbox.recv(), if open && barrier.is_none() => match job {
                    Some(job) => {
                        barrier = self.take_waiting(job).await?;
                        removing = removing.or_else(|| self.remove());
                    }
                    None => open = false,
                },
                Some(file) = OptionFuture::from(self.progress.next.as_mut()), if self.progress.prepared.is_none() => {
                    self.progress.next = None;
                    match file {
                        Ok(file) => self.progress.prepared = Some(file),
                        Err(error) => {
                            tracing::warn!(event = "segment_not_prepared", %error, "the next segment cannot be created");
                            self.progress.paused = true;
                        }
                    }
                }
                _ = checkpoint_due.tick() => {
                    self.progress.paused = false;
                    noting = noting.or_else(|| self.checkpoint(0));
                    removing = removing.or_else(|| self.remove());
                }
            }
            if syncing.is_none() && !self.progress.dirty.is_empty() {
                syncing = Some(self.sync());
            }
            if syncing.is_none()
                && let Some(job) = barrier.take()
            {
                // The checkpoint may be about to promise what a truncation takes back.
                if let Some(noting) = noting.take() {
                    noting.await?;
                }
                self.alone(job).await?;
            }
        }
        if let Some(noting) = noting {
            noting.await?;
        }
        if let Some(removing) = removing {
            removing.await;
        }
        match self.checkpoint(0) {
            Some(noting) => noting.await,
            None => Ok(()),
        }
    }

    /// Writes everything that waits, up to a job that cannot share its sync.
    async fn take_waiting(&mut self, first: Job) -> Result<Option<Job>, LogFailed> {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write { blocks, layout, done } => {
                    self.progress.waiting.push_back((layout.index, done));
                    for sealed in blocks {
                        self.write(sealed).await?;
                    }
                    self.progress.written = layout;
                    self.log.set_written(layout.index);
                }
                Job::Remove => {}
                Job::Truncate { .. } | Job::Vote { .. } => return Ok(Some(job)),
            }
            next = self.inbox.try_recv().ok();
        }
        Ok(None)
    }

    fn synced(&mut self, reached: Layout) {
        self.durable.send_replace(reached);
        while let Some((_, done)) = self.progress.waiting.pop_front_if(|(index, _)| *index <= reached.index) {
            done(Ok(()));
        }
    }

    async fn write(&mut self, sealed: Sealed) -> Result<(), LogFailed> {
        let lsn = sealed.header.lsn;
        let offset = lsn.0 % self.segment_bytes;
        if lsn.0 - offset != self.current.0.0 {
            self.roll(Lsn(lsn.0 - offset)).await?;
        }
        let write = self.disk.write_at(self.current.1, offset, sealed.bytes);
        write.await.map_err(|cause| LogFailed { what: "write", cause })?;
        if self.progress.dirty.last() != Some(&self.current.1) {
            self.progress.dirty.push(self.current.1);
        }
        Ok(())
    }

    async fn roll(&mut self, start: Lsn) -> Result<(), LogFailed> {
        self.progress.paused = false;
        self.prepare_next();
        let file = match (self.progress.prepared.take(), self.progress.next.take()) {
            (Some(file), _) => Ok(file),
            (None, Some(next)) => next.await,
            (None, None) => unreachable!("prepare_next left one of the two"),
        };
        let file = file.map_err(|cause| LogFailed { what: "extend", cause })?;
        self.current = (start, file);
        self.log.set_file(start, file);
        self.tell_size();
        Ok(())
    }

    fn tell_size(&self) {
        let begin = self.log.begin();
        self.metrics.log_is(begin, self.current.0.0 + self.segment_bytes - begin.0);
    }

    /// Starts to create the segment after the current one, unless that happened.
    fn prepare_next(&mut self) {
        if self.progress.prepared.is_some() || self.progress.next.is_some() || self.progress.paused {
            return;
        }
        let name = segment_name(Lsn(self.current.0.0 + self.segment_bytes));
        let (disk, len) = (Arc::clone(&self.disk), self.segment_bytes);
        self.progress.next = Some(open_or_create(disk, name, len).boxed());
    }

    fn sync(&mut self) -> BoxFuture<'static, Result<Layout, LogFailed>> {
        let (disk, files) = (Arc::clone(&self.disk), std::mem::take(&mut self.progress.dirty));
        let (reached, metrics) = (self.progress.written, Arc::clone(&self.metrics));
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

    /// Does what must not overlap anything else.
    async fn alone(&mut self, job: Job) -> Result<(), LogFailed> {
        match job {
            Job::Write { .. } | Job::Remove => unreachable!("they are done beside others"),
            Job::Vote { vote, reply } => {
                vote.write(&*self.disk).await.map_err(|cause| LogFailed { what: "write a vote beside", cause })?;
                let _nobody_waits = reply.send(());
            }
            Job::Truncate { layout, old_end, reply } => {
                let cut = self.truncate(layout, old_end).await;
                cut.map_err(|cause| LogFailed { what: "truncate", cause })?;
                self.progress.written = layout;
                self.durable.send_replace(layout);
                let _nobody_waits = reply.send(());
            }
        }
        Ok(())
    }

    /// First the checkpoint, which must not promise what is going to go; then zeros, from the end back, so that a power
    /// cut leaves no gap that something rises behind.
    async fn truncate(&mut self, layout: Layout, old_end: Lsn) -> io::Result<()> {
        if self.checkpoint.0.end > layout.end {
            self.checkpoint = Checkpoint(layout);
            self.checkpoint.write(&*self.disk).await?;
        }
        let first = layout.end.0 - layout.end.0 % self.segment_bytes;
        let mut start = old_end.0.saturating_sub(1) / self.segment_bytes * self.segment_bytes;
        while start >= first {
            let (from, to) = (layout.end.0.max(start), old_end.0.min(start + self.segment_bytes));
            self.zero(Lsn(start), from, to).await?;
            let Some(before) = start.checked_sub(self.segment_bytes) else { break };
            start = before;
        }
        if Lsn(first) != self.current.0 {
            self.roll_back(Lsn(first)).await?;
        }
        Ok(())
    }

    /// Writes zeros over a part of one segment.
    async fn zero(&mut self, segment: Lsn, from: u64, to: u64) -> io::Result<()> {
        let file = self.file_of(segment).await?;
        if let Some(len) = to.checked_sub(from).filter(|len| *len > 0) {
            let zeros = Bytes::from(vec![0; usize::try_from(len).expect("segments fit into memory")]);
            self.disk.write_at(file, from - segment.0, zeros).await?;
            self.disk.sync(file).await?;
        }
        Ok(())
    }

    async fn file_of(&mut self, segment: Lsn) -> io::Result<FileId> {
        match self.log.file(segment) {
            Some(file) => Ok(file),
            None => {
                let file = open_or_create(Arc::clone(&self.disk), segment_name(segment), self.segment_bytes).await?;
                self.log.set_file(segment, file);
                Ok(file)
            }
        }
    }

    /// The pen goes back to an earlier segment; those behind are empty and are found again when it comes there.
    async fn roll_back(&mut self, start: Lsn) -> io::Result<()> {
        self.current = (start, self.file_of(start).await?);
        self.progress.next = None;
        if let Some(prepared) = self.progress.prepared.take() {
            self.disk.close(prepared).await?;
        }
        Ok(())
    }

    /// Removes the segments that are to go, if there are any.
    fn remove(&self) -> Option<BoxFuture<'static, ()>> {
        super::remove::doomed(&self.disk, &self.log, &self.metrics)
    }

    /// Writes a checkpoint when the log grew by more than `grown_by` since the last. It does not hold up the log.
    fn checkpoint(&mut self, grown_by: u64) -> Option<BoxFuture<'static, Result<(), LogFailed>>> {
        let durable = *self.durable.borrow();
        if durable.end.0 <= self.checkpoint.0.end.0 + grown_by {
            return None;
        }
        self.checkpoint = Checkpoint(durable);
        let (disk, checkpoint) = (Arc::clone(&self.disk), self.checkpoint);
        let write = async move { checkpoint.write(&*disk).await };
        Some(write.map(|written| written.map_err(|cause| LogFailed { what: "checkpoint", cause })).boxed())
    }
}

/// A crash, or a log that was cut back, may have left the segment behind, empty.
async fn open_or_create(disk: Arc<dyn Disk>, name: String, len: u64) -> io::Result<FileId> {
    match disk.open(&name).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&name, len).await,
        opened => opened,
    }
}
