//! Tasks with names and owners: none floats, and each has an answer to "what if it fails?".

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::{Exit, Stop};

/// What the failure of a task means for the process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The process cannot be right without this task: walk the shutdown ladder with its error as the reason.
    StopProcess,
    /// The task's own work is lost and nothing else: write an error to the log.
    LogAndEnd,
}

/// The failure that stops the process, and the name of the task it came from.
#[derive(Debug)]
pub struct TaskFailure {
    pub task: &'static str,
    pub stop: Stop,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} failed: {}", self.task, self.stop)
    }
}

/// The owner of tasks. Clones own the same ones.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
    token: CancellationToken,
    tracker: TaskTracker,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    failure_known: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, &'static str>,
    failure: Option<TaskFailure>,
}

impl Tasks {
    /// An owner without tasks.
    pub fn new() -> Tasks {
        Tasks { shared: Arc::default(), token: CancellationToken::new(), tracker: TaskTracker::new() }
    }

    /// The token that [`Tasks::close`] cancels. Loops watch it where stopping is safe.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts `task` on the current runtime. A panic counts as a failure with [`Exit::Bug`] and stops the process
    /// whatever `on_error` says.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F, E>(&self, name: &'static str, on_error: OnError, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Stop>,
    {
        let running = Running::enter(Arc::clone(&self.shared), name);
        self.tracker.spawn(async move {
            let outcome = task.await.map_err(Into::into);
            running.leave(on_error, outcome);
        });
    }

    /// Waits until a task failed that must stop the process, and returns the first such failure once. The others
    /// are in the log.
    ///
    /// Cancel safe: a failure stays until it is returned.
    pub async fn failed(&self) -> TaskFailure {
        loop {
            if let Some(failure) = self.shared.state().failure.take() {
                return failure;
            }
            self.shared.failure_known.notified().await;
        }
    }

    /// Cancels the token and waits up to `grace` for all tasks. Returns, and logs, the names of those that are late;
    /// they keep running until the process ends.
    pub async fn close(&self, grace: Duration) -> Vec<&'static str> {
        self.token.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late: Vec<_> = self.shared.state().running.values().copied().collect();
        tracing::warn!(event = "tasks_late", ?late, ?grace, "tasks did not end in time");
        late
    }
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks::new()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first failure for [`Tasks::failed`].
    fn stop_process(&self, failure: TaskFailure) {
        tracing::error!(event = "task_failed", task = failure.task, error = %failure.stop, "task failed, the process stops");
        self.state().failure.get_or_insert(failure);
        self.failure_known.notify_one();
    }
}

/// One entry in the list of running tasks; leaves it however the task ends.
struct Running {
    shared: Arc<Shared>,
    id: u64,
    name: &'static str,
}

impl Running {
    fn enter(shared: Arc<Shared>, name: &'static str) -> Running {
        let id = {
            let mut state = shared.state();
            state.next += 1;
            let id = state.next;
            state.running.insert(id, name);
            id
        };
        Running { shared, id, name }
    }

    fn leave(self, on_error: OnError, outcome: Result<(), Stop>) {
        match (outcome, on_error) {
            (Ok(()), _) => {}
            (Err(stop), OnError::StopProcess) => self.shared.stop_process(TaskFailure { task: self.name, stop }),
            (Err(stop), OnError::LogAndEnd) => {
                tracing::error!(event = "task_failed", task = self.name, error = %stop, "task failed");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.state().running.remove(&self.id);
        if std::thread::panicking() {
            self.shared.stop_process(TaskFailure { task: self.name, stop: Stop::new(Exit::Bug, "the task panicked") });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_failed_task_stops_the_process_with_its_code() {
        let tasks = Tasks::new();
        tasks.spawn("tiering", OnError::LogAndEnd, async { Err(io::Error::other("ignored")) });
        tasks.spawn("apply", OnError::StopProcess, async { Err(io::Error::other("disk gone")) });
        let failure = tasks.failed().await;
        assert_eq!((failure.task, failure.stop.exit), ("apply", Exit::Io));
        assert_eq!(failure.to_string(), "task apply failed: disk gone");
        assert!(tasks.close(GRACE).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_bug_and_stops_the_process() {
        let tasks = Tasks::new();
        tasks.spawn("index", OnError::LogAndEnd, async {
            if true { panic!("announced by this test") } else { Ok::<(), Infallible>(()) }
        });
        assert_eq!(tasks.failed().await.stop.exit, Exit::Bug);
    }

    #[tokio::test(start_paused = true)]
    async fn close_cancels_waits_and_names_the_late() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", OnError::StopProcess, async move {
            token.cancelled().await;
            Ok::<(), Infallible>(())
        });
        tasks.spawn("deaf", OnError::StopProcess, std::future::pending::<Result<(), Infallible>>());
        assert_eq!(tasks.close(GRACE).await, ["deaf"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_fails_while_all_is_well() {
        let tasks = Tasks::new();
        tasks.spawn("short", OnError::StopProcess, async { Ok::<(), Infallible>(()) });
        assert!(tasks.close(GRACE).await.is_empty());
        assert!(tokio::time::timeout(GRACE, tasks.failed()).await.is_err());
    }
}
