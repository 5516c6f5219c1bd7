//! The one task that writes: takes all that waits, makes it durable with one sync, and says so, in order.

use std::io;
use std::sync::Arc;

use apogee_host::Disk;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Applied, Book, JournalError, OpenFile, QUEUE, Step, file_name};

/// Told once the steps before it are durable, or never will be.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Where steps are handed in. Clones hand in to the same journal.
#[derive(Clone)]
pub(crate) struct Journal(pub(super) mpsc::Sender<Job>);

pub(super) enum Job {
    Steps(Vec<Step>, Option<Done>),
    Install(Box<Applied>, Done),
}

/// See the module.
pub(crate) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) file: OpenFile,
    pub(super) book: Book,
    pub(super) inbox: mpsc::Receiver<Job>,
}

impl Journal {
    /// Returns when the steps have their place in the order of all steps, not yet durable.
    ///
    /// # Errors
    /// When the journal has ended.
    pub(crate) async fn hand_in(&self, steps: Vec<Step>, done: Option<Done>) -> io::Result<()> {
        self.0.send(Job::Steps(steps, done)).await.map_err(|_| ended())
    }

    /// Returns when `step` is durable.
    ///
    /// # Errors
    /// Those of the disk; when the journal has ended.
    pub(crate) async fn keep(&self, step: Step) -> io::Result<()> {
        let (done, kept) = done();
        self.hand_in(vec![step], Some(done)).await?;
        kept.await.map_err(|_| ended())?
    }

    /// Takes a state from elsewhere over; durable when it returns.
    ///
    /// # Errors
    /// As [`Journal::keep`].
    pub(crate) async fn install(&self, applied: Applied) -> io::Result<()> {
        let (done, kept) = done();
        self.0.send(Job::Install(Box::new(applied), done)).await.map_err(|_| ended())?;
        kept.await.map_err(|_| ended())?
    }
}

impl Writer {
    /// Writes until nobody can hand in any more, or until `stop` and what waits by then.
    ///
    /// # Errors
    /// [`JournalError`] when the last steps may or may not be durable. Whoever waited was told; a start from disk decides.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                taken = self.inbox.recv_many(&mut waiting, QUEUE) => match taken {
                    0 => return Ok(()),
                    _ => self.serve(std::mem::take(&mut waiting)).await?,
                },
            }
        }
    }

    async fn serve(&mut self, jobs: Vec<Job>) -> Result<(), JournalError> {
        let (mut all, mut waiting, mut installed) = (Vec::new(), Vec::new(), false);
        for job in jobs {
            match job {
                Job::Steps(steps, done) => {
                    for step in &steps {
                        self.book.turn(step).expect("consensus appends without gap");
                    }
                    all.extend(steps);
                    waiting.extend(done);
                }
                Job::Install(applied, done) => {
                    self.book.install(*applied);
                    installed = true;
                    waiting.push(done);
                }
            }
        }
        let number = self.file.number;
        let written = self.write(all, installed).await;
        let failure = written.as_ref().err().map(|cause| (cause.kind(), cause.to_string()));
        for done in waiting {
            done(failure.clone().map_or(Ok(()), |(kind, why)| Err(io::Error::new(kind, why))));
        }
        written.map_err(|cause| JournalError::new(file_name(number), cause))
    }

    async fn write(&mut self, steps: Vec<Step>, installed: bool) -> io::Result<()> {
        if installed || !self.file.append(self.disk.as_ref(), steps).await? {
            self.begin_next().await?;
        }
        Ok(())
    }

    /// A new file with all that is known, and the older one goes.
    async fn begin_next(&mut self) -> io::Result<()> {
        self.book.settle();
        let next = OpenFile::begin(self.disk.as_ref(), self.file.number + 1, &self.book).await?;
        let full = std::mem::replace(&mut self.file, next);
        self.disk.close(full.id).await?;
        self.disk.remove(&file_name(full.number)).await
    }
}

fn done() -> (Done, tokio::sync::oneshot::Receiver<io::Result<()>>) {
    let (reply, kept) = tokio::sync::oneshot::channel();
    let done: Done = Box::new(|outcome| {
        let _nobody_waits = reply.send(outcome);
    });
    (done, kept)
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the journal has ended")
}
