//! What openraft has committed, on its way to the one task that applies it.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::mpsc;

use super::join::Committed;
use super::snapshot::{NewestBase, Shown, Snapshot, SnapshotMeta};
use super::types::{LogId, StoredMembership, Types, index_of};
use crate::block::Block;
use crate::commitlog::Log;
use crate::views::ViewStore;

/// Hands committed blocks over, in order. The channel is the bound of what waits.
pub(crate) struct Machine {
    log: Log,
    blocks: mpsc::Sender<Block>,
    applied: Option<LogId>,
    membership: Committed,
    base: NewestBase,
}

impl Machine {
    pub(crate) fn new(
        log: Log,
        blocks: mpsc::Sender<Block>,
        applied: Option<LogId>,
        membership: Committed,
        views: Arc<dyn ViewStore>,
    ) -> Self {
        Self { log, blocks, applied, membership, base: NewestBase::new(views) }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Shown;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.get()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let index = index_of(&entry.log_id);
            let block = match entry.payload {
                EntryPayload::Normal(payload) => Block::trusted(payload.bytes)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a committed block has no header"))?,
                EntryPayload::Membership(members) => {
                    self.membership.set(StoredMembership::new(Some(entry.log_id), members));
                    self.log.read_block(index).await?
                }
                EntryPayload::Blank => self.log.read_block(index).await?,
            };
            self.applied = Some(entry.log_id);
            self.blocks
                .send(block)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the replica has stopped"))?;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    /// Declines while there is no base, unless openraft insists: it starts and finds blocks given up.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Shown> {
        let shown = self.base.show(self.applied.as_ref()).await;
        let applied = || {
            let (last_log_id, last_membership) = (self.applied, self.membership.get());
            Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: () }
        };
        shown.or_else(|| force.then(applied)).map(Shown)
    }

    async fn get_snapshot_builder(&mut self) -> Shown {
        self.try_create_snapshot_builder(true).await.expect("it never declines when it is forced")
    }

    /// Bases come in by other ways, and are taken over by a start.
    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, _snapshot: ()) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A log without its beginning needs one to start; there is nothing in it that could be sent.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.base.show(self.applied.as_ref()).await)
    }
}
