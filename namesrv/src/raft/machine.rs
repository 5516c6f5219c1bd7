//! What consensus has committed becomes the state that everybody may know.

use std::io;
use std::sync::Arc;

use apogee_model::Cluster;
use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use super::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, Types, log_id, of_entry, stored_membership};
use crate::journal::{Applied, Journal};

/// Applies, publishes, answers; in this order.
pub(crate) struct Machine {
    applied: Applied,
    published: watch::Sender<Option<Arc<Cluster>>>,
    journal: Journal,
}

impl Machine {
    /// Shows what `applied` knows.
    pub(crate) fn new(applied: Applied, journal: Journal, published: watch::Sender<Option<Arc<Cluster>>>) -> Self {
        let machine = Self { applied, published, journal };
        machine.publish();
        machine
    }

    fn publish(&self) {
        let cluster = self.applied.state.cluster();
        self.published.send_if_modified(|published| {
            let version = |cluster: Option<&Arc<Cluster>>| cluster.map(|cluster| cluster.version);
            let differs = version(published.as_ref()) != version(cluster);
            if differs {
                *published = cluster.cloned();
            }
            differs
        });
    }

    fn snapshot(&self) -> Snapshot {
        let last_log_id = self.applied.at.map(log_id);
        let meta = SnapshotMeta { last_log_id, last_membership: stored_membership(&self.applied) };
        Snapshot { meta, snapshot: Box::new(self.applied.clone()) }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Box<Applied>;
    type SnapshotBuilder = Shown;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.at.map(log_id), stored_membership(&self.applied)))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.applied.apply(&of_entry(entry));
            self.publish();
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Shown {
        Shown(Some(self.snapshot()))
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: Box<Applied>) -> io::Result<()> {
        if self.applied.at >= snapshot.at {
            return Ok(());
        }
        self.journal.install((*snapshot).clone()).await?;
        self.applied = *snapshot;
        self.publish();
        Ok(())
    }

    /// Every state is a snapshot: it is in memory, and the journal comes to it.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.applied.at.is_some().then(|| self.snapshot()))
    }
}

/// A snapshot that was taken when it was asked for.
pub(crate) struct Shown(Option<Snapshot>);

impl RaftSnapshotBuilder<Types> for Shown {
    type SnapshotData = Box<Applied>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        self.0.take().ok_or_else(|| io::Error::other("this snapshot was taken already"))
    }
}
