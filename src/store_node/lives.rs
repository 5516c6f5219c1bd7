//! The lives of a store-node: one process may live several, because a replica sometimes has to begin again.
//!
//! Each life has a runtime of its own, so that nothing of it is left when the next one begins: no task, no connection
//! that another replica goes on using, no lock of the data folder.

use std::time::Duration;

use apogee_engine::BeginAgain;
use apogee_host::{Clock as _, Exit, ExitWith, Identity, Monotonic, RealClock, Stop, shutdown::Signals};
use tokio::runtime::{Builder, Runtime};

use super::config::{Checked, Config};
use super::server;
use crate::process::shell;

/// Lives that may begin again within [`WITHIN`].
const AGAIN_MAX: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);

/// How a life ends, if not by an error.
pub(super) enum End {
    /// So does the process.
    Exit(Exit),
    /// The next one begins.
    Again(BeginAgain),
}

/// A replica that does nothing but begin again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica began again {AGAIN_MAX} times within {WITHIN:?}, and wants to once more: {why}")]
pub(super) struct Restless {
    why: String,
}

impl ExitWith for Restless {
    fn exit(&self) -> Exit {
        Exit::Bug
    }
}

/// Lives until somebody asks to stop or something fails.
pub(super) fn live(mut config: Config, checked: &Checked, identity: &Identity) -> Result<Exit, Stop> {
    let mut lives = Lives::default();
    let runtime = runtime()?;
    let mut signals = runtime.block_on(async { Signals::install() })?;
    let mut next = Some(runtime);
    loop {
        let runtime = next.take().map_or_else(self::runtime, Ok)?;
        match runtime.block_on(server::run(&mut config, checked.clone(), identity, &mut signals)) {
            Ok(End::Again(why)) => {
                shell::end(runtime);
                tracing::info!(event = "begins_again", why = %why.why, "the replica begins again");
                lives.another(why, RealClock.monotonic())?;
            }
            ended => {
                shell::end(runtime);
                return ended.map(|end| match end {
                    End::Exit(exit) => exit,
                    End::Again(_) => unreachable!("the arm above"),
                });
            }
        }
    }
}

fn runtime() -> Result<Runtime, Stop> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// When lives began again.
#[derive(Debug, Default)]
struct Lives {
    began: Vec<Monotonic>,
}

impl Lives {
    /// # Errors
    /// [`Restless`].
    fn another(&mut self, again: BeginAgain, now: Monotonic) -> Result<(), Restless> {
        self.began.retain(|began| now.saturating_sub(*began) < WITHIN);
        if self.began.len() >= AGAIN_MAX {
            return Err(Restless { why: again.why });
        }
        self.began.push(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restless_replica_is_stopped() {
        let mut lives = Lives::default();
        let mut another = |second| {
            let again = BeginAgain { why: "a base".to_owned() };
            lives.another(again, Monotonic::from_duration(Duration::from_secs(second)))
        };
        for second in 0..5 {
            another(second).unwrap();
        }
        let told = another(59).unwrap_err().to_string();
        assert_eq!(told, "the replica began again 5 times within 60s, and wants to once more: a base");
        another(60).unwrap();
        another(60).unwrap_err();
        another(200).unwrap();
    }
}
