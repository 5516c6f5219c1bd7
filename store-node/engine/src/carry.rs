//! Writes messages again that wait for their time, or for the end of their transaction, so that what is around them in the log may go.
//!
//! The leader says which, see `leader::carry`; reading them takes a disk, which the leader does not know.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::commitlog::Log;
use crate::find::Written;
use crate::leader::{Aged, Ask};
use crate::views::kept::KeptRow;

/// Between two looks while there is something to carry.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Carrier {
    /// Weak: that of a replica nobody uses any more ends.
    pub(crate) inbox: mpsc::WeakSender<Ask>,
    pub(crate) log: Log,
    /// Between two looks.
    pub(crate) every: Duration,
}

impl Carrier {
    /// Runs until nobody decides any more, or it is dropped. Whatever it cannot read stays where it is.
    pub(crate) async fn run(self) {
        let mut pause = self.every;
        loop {
            tokio::time::sleep(pause).await;
            let Some(inbox) = self.inbox.upgrade() else { return };
            pause = if self.turn(&inbox).await { PAUSE } else { self.every };
        }
    }

    /// Says whether there may be more. Replicas that do not lead do not answer.
    async fn turn(&self, inbox: &mpsc::Sender<Ask>) -> bool {
        let (reply, aged) = oneshot::channel();
        if inbox.try_send(Ask::Aged { reply }).is_err() {
            return false;
        }
        let Ok(Aged { messages, halves, more }) = aged.await else { return false };
        for (id, row) in messages {
            let Some(message) = self.read(&row).await else { continue };
            let (reply, carried) = oneshot::channel();
            if inbox.try_send(Ask::Carry { id, row, message, reply }).is_err() || carried.await.is_err() {
                return false;
            }
        }
        for (id, row) in halves {
            let Some(message) = self.read(&row.kept).await else { continue };
            let (reply, carried) = oneshot::channel();
            if inbox.try_send(Ask::CarryHalf { id, row, message, reply }).is_err() || carried.await.is_err() {
                return false;
            }
        }
        more
    }

    async fn read(&self, row: &KeptRow) -> Option<apogee_model::StoredMessage> {
        let len = usize::try_from(row.len).ok()?;
        match self.log.read(row.lsn, len).await {
            Ok(record) => {
                let written = Written::read(&record).inspect_err(|why| drop(self.log.damaged(row.lsn, why)));
                Some(written.ok()?.message)
            }
            Err(error) => {
                tracing::warn!(event = "message_not_carried", %error, "a delayed message cannot be read now");
                None
            }
        }
    }
}
