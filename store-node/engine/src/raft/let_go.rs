//! Lets go of blocks: openraft gives up none but those below a snapshot that it knows.

use std::time::Duration;

use apogee_model::BlockIndex;
use futures::future::{BoxFuture, FutureExt as _};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use tokio::time::timeout;

use super::machine::Machine;
use super::types::{Types, index_of};

/// Openraft looks for the base at once, unless it has much to apply before. Whoever wants blocks to go asks again.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// Ends when openraft was told.
pub(super) type LettingGo = BoxFuture<'static, ()>;

pub(super) fn let_go(raft: Raft<Types, Machine>, upto: BlockIndex) -> LettingGo {
    async move {
        match timeout(KNOWN_MAX, knows_base(&raft, upto)).await {
            Ok(Ok(())) => {
                let index = upto.0.saturating_sub(1);
                let _stopped = raft.trigger().purge_log(index).await;
            }
            Ok(Err(stopped)) => tracing::debug!(event = "not_let_go", %upto, %stopped, "consensus has ended"),
            Err(_) => tracing::warn!(event = "not_let_go", %upto, "consensus knows of no base of these blocks"),
        }
    }
    .boxed()
}

/// Shows openraft the newest base, and waits until it knows of one that covers `upto`.
async fn knows_base(raft: &Raft<Types, Machine>, upto: BlockIndex) -> Result<(), Fatal<Types>> {
    let mut metrics = raft.data_metrics();
    let covers = |snapshot: Option<_>| snapshot.is_some_and(|snapshot| index_of(&snapshot) >= upto);
    if !covers(metrics.borrow_watched().snapshot) {
        raft.trigger().snapshot().await?;
    }
    while !covers(metrics.borrow_watched().snapshot) {
        metrics.changed().await.map_err(|_| Fatal::Stopped)?;
    }
    Ok(())
}
