//! What openraft calls a snapshot is a base, and it is shown the newest one. Bases are taken by the replica, when the
//! log has grown, never at the wish of openraft; it only wants to know of one before it lets go of blocks.

use std::io;
use std::sync::Arc;

use openraft::RaftSnapshotBuilder;

use super::types::{LogId, StoredMembership, Types, log_id, membership_of_bytes};
use crate::views::{Position, ViewStore};

pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, ()>;

/// The newest base, as openraft sees it.
pub(crate) struct NewestBase {
    views: Arc<dyn ViewStore>,
    /// Shown before.
    known: Option<SnapshotMeta>,
}

impl NewestBase {
    pub(crate) fn new(views: Arc<dyn ViewStore>) -> Self {
        Self { views, known: None }
    }

    /// The newest base of what was applied. One that was shown is shown again when none can be found any more: openraft
    /// has let go of blocks for its sake, and sending it will fail until another one is taken.
    pub(crate) async fn show(&mut self, applied: Option<&LogId>) -> Option<Snapshot> {
        match self.views.bases().await {
            Ok(bases) => {
                let metas = bases.iter().rev().map(|base| meta(&base.position));
                let newest =
                    metas.filter(|meta| meta.last_log_id.as_ref() <= applied).find(|meta| meta.last_log_id.is_some());
                self.known = newest.or(self.known.take());
            }
            Err(error) => tracing::warn!(event = "bases_unreadable", %error, "nobody knows which bases there are"),
        }
        self.known.clone().map(|meta| Snapshot { meta, snapshot: () })
    }
}

/// What openraft has to know of a base.
pub(crate) fn meta(position: &Position) -> SnapshotMeta {
    let membership = position.membership.as_ref().and_then(|found| {
        Some(StoredMembership::new(log_id(found.term, found.index), membership_of_bytes(&found.bytes)?))
    });
    SnapshotMeta { last_log_id: log_id(position.term, position.index), last_membership: membership.unwrap_or_default() }
}

/// Shows a base that is there already.
pub(crate) struct Shown(pub(crate) Snapshot);

impl RaftSnapshotBuilder<Types> for Shown {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        Ok(self.0.clone())
    }
}
