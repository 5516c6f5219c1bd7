//! Threads that take requests from one bounded queue: where work runs that blocks.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::disk::DiskFuture;

type Job = Box<dyn FnOnce() + Send>;

/// The owner of the threads. Dropping it waits until they have done the jobs they have; so a job must not own it.
#[derive(Debug)]
pub struct Lane {
    /// `None` while dropping only.
    inbox: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Lane {
    /// Starts `threads` threads called `name` on one queue of `queue` jobs.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(name: &str, threads: usize, queue: usize) -> io::Result<Lane> {
        let (inbox, jobs) = mpsc::channel::<Job>(queue);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut lane = Lane { inbox: Some(inbox), threads: Vec::new() };
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            let work = move || {
                while let Some(job) = next(&jobs) {
                    job();
                }
            };
            lane.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        Ok(lane)
    }

    /// Runs `work` on one of the threads, after what was asked before. Waits while the queue is full. Nothing happens
    /// before the first poll; dropped later, the work takes place and nobody hears of it.
    ///
    /// # Errors
    /// Those of `work`; [`io::ErrorKind::BrokenPipe`] when it panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> DiskFuture<'static, T> {
        let inbox = self.inbox.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let job: Job = Box::new(move || {
                let _nobody_waits = reply.send(work());
            });
            inbox.ok_or_else(ended)?.send(job).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.inbox = None;
        for thread in self.threads.drain(..) {
            let _its_panic_was_reported = thread.join();
        }
    }
}

/// One thread waits in the channel, the others wait for its place.
fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the thread has ended")
}
