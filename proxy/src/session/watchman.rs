//! The one task that ages sessions and tells the leaders who lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Sessions;
use crate::store::Stores;

/// How often the leaders are told. They give a client 90 s.
const ROUND: Duration = Duration::from_secs(5);

/// Makes its rounds until `stop`; the last one tells the leaders everything heard until then.
pub(crate) async fn watch(sessions: Arc<Sessions>, stores: Stores, stop: CancellationToken) -> Result<(), Infallible> {
    let mut rounds = tokio::time::interval_at(Instant::now() + ROUND, ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            _ = rounds.tick() => false,
            () = stop.cancelled() => true,
        };
        tell(&sessions, &stores);
        if stopping {
            return Ok(());
        }
    }
}

/// Tells the leaders who was heard since they were told last, and who is lost.
pub(crate) fn tell(sessions: &Sessions, stores: &Stores) {
    let report = sessions.book().report(Instant::now());
    if !report.heard.is_empty() {
        stores.heard(&report.heard);
    }
    if !report.hung_up.is_empty() {
        tracing::debug!(event = "clients_hung_up", clients = ?report.hung_up);
        stores.hung_up(&report.hung_up);
    }
}
