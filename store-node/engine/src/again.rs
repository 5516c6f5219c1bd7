//! The end of a replica's life that is the beginning of its next one.
//!
//! Some things are done by a start and by nothing else, because a start has to be safe in the face of crashes anyway:
//! taking over a base of another replica is one. Whoever wants such a thing writes it down durably and says that the
//! replica has to begin again; whoever runs the replica closes it, with its tasks and ports, and opens it anew.

use tokio::sync::watch;

/// The replica has to be closed and opened again, by the same process or another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the replica begins again: {why}")]
pub struct BeginAgain {
    pub why: String,
}

/// Where that is said, once. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Again(watch::Sender<Option<BeginAgain>>);

impl Again {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// The first reason counts.
    pub(crate) fn because(&self, why: impl Into<String>) {
        self.0.send_if_modified(|said| {
            let first = said.is_none();
            said.get_or_insert_with(|| BeginAgain { why: why.into() });
            first
        });
    }

    /// Waits until it is said. Cancel safe.
    pub(crate) async fn said(&self) -> BeginAgain {
        let mut said = self.0.subscribe();
        let said = said.wait_for(Option::is_some).await.expect("the sender lives in self");
        said.clone().expect("waited for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts() {
        let again = Again::new();
        let waits = again.said();
        again.because("one");
        again.because("two");
        assert_eq!(waits.await.to_string(), "the replica begins again: one");
        assert_eq!(again.said().await.why, "one");
    }
}
