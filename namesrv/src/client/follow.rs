//! The copy of the cluster: one stream from one namesrv, and from another one when it falls silent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apogee_model::Cluster;
use apogee_proto::namesrv::v1::{Update, WatchRequest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::links::Links;
use crate::server::lock;
use crate::wire;

/// Namesrv says something every second; one that did not for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Pause after a failure, twice as long after the next one.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

pub(super) struct Follower {
    pub(super) links: Arc<Links>,
    pub(super) publisher: watch::Sender<Option<Arc<Cluster>>>,
    /// Why nobody tells of changes.
    pub(super) causes: watch::Sender<Option<String>>,
    /// When somebody in touch with the others said something last.
    pub(super) told: Arc<Mutex<Instant>>,
    pub(super) cluster_id: Option<u64>,
}

impl Follower {
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.run_until_cancelled(self.follow()).await;
        Ok(())
    }

    async fn follow(&self) {
        let (mut pause, mut at) = (BACKOFF_MIN, 0);
        loop {
            let (address, heard) = self.listen(at).await;
            if heard {
                pause = BACKOFF_MIN;
            }
            tracing::debug!(event = "watch_ended", address, cause = ?*self.causes.borrow(), "another namesrv is followed");
            at += 1;
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Follows one namesrv until it fails. Says which, and whether it told anything.
    async fn listen(&self, at: usize) -> (String, bool) {
        let (address, mut client) = self.links.nth(at);
        let known = self.publisher.borrow().as_ref().map(|cluster| cluster.cluster_id);
        let request = WatchRequest { cluster_id: self.cluster_id.or(known).unwrap_or_default() };
        let mut heard = false;
        let failure = match timeout(SILENCE_MAX, client.watch(request)).await {
            Ok(Ok(updates)) => self.take(updates.into_inner(), &mut heard).await,
            Ok(Err(status)) => status,
            Err(_) => silent(),
        };
        let cause = format!("{address}: {}", failure.message());
        let before = self.causes.send_replace(Some(cause.clone()));
        if before.as_ref() != Some(&cause) {
            tracing::warn!(event = "namesrv_lost", address, why = failure.message(), "a namesrv tells of no changes");
        }
        (address, heard)
    }

    async fn take(&self, mut updates: Streaming<Update>, heard: &mut bool) -> Status {
        // Updates lead on from what this stream said, not from what another one did.
        let mut told: Option<Arc<Cluster>> = None;
        loop {
            let update = match timeout(SILENCE_MAX, updates.message()).await {
                Ok(Ok(Some(update))) => update,
                Ok(Ok(None)) => return Status::unavailable("it has ended the stream"),
                Ok(Err(status)) => return status,
                Err(_) => return silent(),
            };
            match wire::follow(told.as_deref(), update) {
                Ok(Some(cluster)) => {
                    let cluster = Arc::new(cluster);
                    told = Some(Arc::clone(&cluster));
                    self.publish(cluster);
                }
                Ok(None) => {}
                Err(malformed) => return Status::internal(malformed.to_string()),
            }
            *heard = true;
            if told.is_some() {
                *lock(&self.told) = Instant::now();
                self.causes.send_if_modified(|cause| cause.take().is_some());
            }
        }
    }

    /// Never goes back: a namesrv that is behind catches up.
    fn publish(&self, cluster: Arc<Cluster>) {
        self.publisher.send_if_modified(|published| {
            let newer = published.as_ref().is_none_or(|before| before.version < cluster.version);
            if newer {
                *published = Some(cluster);
            }
            newer
        });
    }
}

fn silent() -> Status {
    Status::unavailable(format!("it said nothing for {SILENCE_MAX:?}"))
}
