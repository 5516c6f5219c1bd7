//! The way down, written once for every role.

mod panic;
mod signals;

use std::time::Duration;

pub use panic::install_panic_hook;
pub use signals::Signals;

use crate::exit::{Exit, Stop};
use crate::health::Health;
use crate::tasks::Tasks;

/// The shutdown ladder: not ready -> the role drains -> tasks end -> exit code.
#[derive(Debug)]
pub struct Ladder {
    pub health: Health,
    pub tasks: Tasks,
    /// Time for the role's own steps: no new calls, long polls answered, calls in flight finished, engine synced.
    pub drain_max: Duration,
    /// Time for the tasks to end after that.
    pub close_max: Duration,
}

impl Ladder {
    /// Waits until somebody asks to stop or a task fails that must stop the process, walks down, and returns the code
    /// to end the process with, at once (`std::process::exit`): nothing of value is running any more.
    ///
    /// `drain` are the role's own steps; it is called once, when readiness is already gone. A second signal ends the
    /// walk where it is. The code is that of the first failure: of a task, or else of `drain`.
    pub async fn run<D, F>(self, signals: &mut Signals, drain: D) -> Exit
    where
        D: FnOnce() -> F,
        F: Future<Output = Result<(), Stop>>,
    {
        let exit = self.wait(signals).await;
        self.walk_down(exit, signals, drain()).await
    }

    /// The first half of [`Ladder::run`]: waits for a reason to stop, and returns the code to end with.
    ///
    /// Cancel safe, unless the answer gets lost.
    pub async fn wait(&self, signals: &mut Signals) -> Exit {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(event = "stopping", signal, "asked to stop");
                Exit::Clean
            }
            failure = self.tasks.failed() => {
                tracing::error!(event = "stopping", task = failure.task, "stopping because a task failed");
                failure.stop.exit
            }
        }
    }

    /// The second half of [`Ladder::run`], for the code that [`Ladder::wait`] gave.
    pub async fn walk_down(
        self,
        exit: Exit,
        signals: &mut Signals,
        drain: impl Future<Output = Result<(), Stop>>,
    ) -> Exit {
        tokio::select! {
            after = self.walk(drain) => {
                let exit = if exit == Exit::Clean { after } else { exit };
                tracing::info!(event = "stopped", code = exit.code(), "stopped");
                exit
            }
            signal = signals.next() => {
                tracing::warn!(event = "stopped_early", signal, code = exit.code(), "asked again, stopping now");
                exit
            }
        }
    }

    /// Walks down without a signal to end the walk: readiness goes, then what `drain` does, then the tasks.
    pub async fn walk(&self, drain: impl Future<Output = Result<(), Stop>>) -> Exit {
        self.health.start_draining();
        let exit = match tokio::time::timeout(self.drain_max, drain).await {
            Ok(Ok(())) => Exit::Clean,
            Ok(Err(stop)) => {
                tracing::error!(event = "drain_failed", error = %stop, "drain failed");
                stop.exit
            }
            Err(_) => {
                tracing::warn!(event = "drain_late", drain_max = ?self.drain_max, "drain did not end in time");
                Exit::Clean
            }
        };
        self.tasks.close(self.close_max).await;
        exit
    }
}

#[cfg(test)]
mod tests;
