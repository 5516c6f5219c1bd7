//! How a connection leaves, told to whoever has calls on it.

use std::sync::Arc;

use tokio::sync::watch;

/// How far a connection is on its way out. It only goes forward, and may skip steps.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is known against it.
    #[default]
    Stays,
    /// It has reached its age: the GOAWAY follows in a moment.
    Announced,
    /// The GOAWAY is on its way. What has no end of its own should end now, so that the connection can close.
    Left,
    /// As before, and the process ends: what waits should end too.
    Ends,
}

/// Request extension: the [`Stage`] of its connection. Clones follow the same one.
///
/// The default is a connection that stays for ever, as far as anybody knows.
#[derive(Clone, Debug, Default)]
pub struct Departure(Option<Arc<watch::Sender<Stage>>>);

impl Departure {
    /// Of a connection that stays so far.
    pub fn open() -> Departure {
        Departure(Some(Arc::default()))
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.0.as_ref().map_or(Stage::Stays, |stage| *stage.borrow())
    }

    /// Goes on to `stage`, unless it is there or further.
    pub fn advance(&self, stage: Stage) {
        if let Some(current) = &self.0 {
            current.send_if_modified(|current| {
                let further = *current < stage;
                *current = stage.max(*current);
                further
            });
        }
    }

    /// Waits until it is at `stage` or further.
    ///
    /// Cancel safe.
    pub async fn reached(&self, stage: Stage) {
        let reached = match &self.0 {
            Some(current) => current.subscribe().wait_for(|current| *current >= stage).await.is_ok(),
            None => false,
        };
        if !reached {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_connection_never_comes_back() {
        let departure = Departure::open();
        let follower = departure.clone();
        assert_eq!(follower.reached(Stage::Announced).now_or_never(), None);
        departure.advance(Stage::Left);
        departure.advance(Stage::Announced);
        assert_eq!(follower.stage(), Stage::Left);
        assert_eq!(follower.reached(Stage::Announced).now_or_never(), Some(()));
        assert_eq!(follower.reached(Stage::Ends).now_or_never(), None);
    }

    #[test]
    fn one_that_nobody_knows_stays() {
        let departure = Departure::default();
        departure.advance(Stage::Ends);
        assert_eq!((departure.stage(), departure.reached(Stage::Left).now_or_never()), (Stage::Stays, None));
    }
}
