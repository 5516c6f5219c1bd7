//! What openraft has committed, on its way to the one task that applies it.

use std::io;

use apogee_model::BlockIndex;
use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::mpsc;

use super::types::{LogId, StoredMembership, Types, index_of};
use crate::block::Block;
use crate::commitlog::Log;

pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, ()>;

/// Hands committed blocks over, in order. The channel is the bound of what waits.
pub(crate) struct Machine {
    log: Log,
    blocks: mpsc::Sender<Block>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    pub(crate) fn new(
        log: Log,
        blocks: mpsc::Sender<Block>,
        applied: Option<LogId>,
        membership: StoredMembership,
    ) -> Self {
        Self { log, blocks, applied, membership }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
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
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
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

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<NoSnapshots> {
        None
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, _snapshot: ()) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A log without its beginning needs one to start; there is nothing in it that could be sent.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let begins_later = self.log.floor() > BlockIndex(1);
        Ok(begins_later.then_some(Snapshot { meta, snapshot: () }))
    }
}

/// Bases are taken by the replica, not at the wish of openraft.
pub(crate) struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
