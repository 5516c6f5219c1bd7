//! What the leader is told without anybody waiting for it: in order, many at once, and again when a lane breaks.

use std::convert::Infallible;
use std::time::Duration;

use apogee_model::ClientId;
use apogee_model::store::DeliveryKey;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{Clients, DeliveryKeys};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::remote::Resender;

/// Notes that wait.
const WAITING_MAX: usize = 16_384;
/// Notes that are told together.
const AT_ONCE: usize = 256;
/// Keys or clients of one item.
const ITEM_MAX: usize = 512;
/// How long a note is worth telling.
const NOTE_MAX: Duration = Duration::from_secs(10);
/// And when the proxy ends.
const LAST_NOTE_MAX: Duration = Duration::from_millis(200);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Release(Vec<DeliveryKey>),
    Confirm(Vec<DeliveryKey>),
    Heard(Vec<ClientId>),
    Lost(Vec<ClientId>),
}

/// Where they are left.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    inbox: mpsc::Sender<Note>,
}

impl Notes {
    /// The inbox, and its other end for [`deliver`].
    pub(super) fn new() -> (Self, mpsc::Receiver<Note>) {
        let (inbox, notes) = mpsc::channel(WAITING_MAX);
        (Self { inbox }, notes)
    }

    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self::new().0
    }

    /// Leaves a note. Never waits.
    pub(super) fn take(&self, note: Note) {
        if let Err(TrySendError::Full(note)) = self.inbox.try_send(note) {
            tracing::warn!(event = "note_dropped", ?note, "too many notes wait for the leader of the store");
        }
    }
}

/// Tells them to whoever leads, until `stop`; then what is left, quickly.
pub(super) async fn deliver(
    resender: Resender,
    mut notes: mpsc::Receiver<Note>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut some = Vec::new();
    loop {
        some.clear();
        let stopping = tokio::select! {
            _ = notes.recv_many(&mut some, AT_ONCE) => stop.is_cancelled(),
            () = stop.cancelled() => {
                while let Ok(note) = notes.try_recv() {
                    some.push(note);
                }
                true
            }
        };
        let limit = if stopping { LAST_NOTE_MAX } else { NOTE_MAX };
        let told = merged(&some).into_iter().map(|ask| tell(&resender, ask, limit));
        futures::future::join_all(told).await;
        if stopping {
            return Ok(());
        }
    }
}

async fn tell(resender: &Resender, ask: Ask, limit: Duration) {
    if let Err(error) = resender.note(ask, limit).await {
        tracing::warn!(event = "note_lost", %error, "the leader of the store could not be told");
    }
}

/// Neighbours of one kind become one item, large ones several.
fn merged(notes: &[Note]) -> Vec<Ask> {
    let mut asks = Vec::new();
    for same in notes.chunk_by(|one, other| std::mem::discriminant(one) == std::mem::discriminant(other)) {
        let (mut keys, mut clients) = (Vec::new(), Vec::new());
        for note in same {
            match note {
                Note::Release(some) | Note::Confirm(some) => keys.extend_from_slice(some),
                Note::Heard(some) | Note::Lost(some) => clients.extend_from_slice(some),
            }
        }
        let confirm = matches!(same.first(), Some(Note::Confirm(_)));
        let lost = matches!(same.first(), Some(Note::Lost(_)));
        asks.extend(keys.chunks(ITEM_MAX).map(DeliveryKeys::of).map(if confirm { Ask::Confirm } else { Ask::Release }));
        asks.extend(clients.chunks(ITEM_MAX).map(Clients::of).map(if lost { Ask::Lost } else { Ask::Heard }));
    }
    asks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_travel_together() {
        let clients = |names: std::ops::Range<usize>| names.filter_map(|it| ClientId::parse(&it.to_string())).collect();
        let notes = [
            Note::Heard(clients(0..600)),
            Note::Heard(clients(600..601)),
            Note::Lost(clients(0..1)),
            Note::Heard(clients(1..2)),
        ];
        let sizes = merged(&notes).into_iter().map(|ask| match ask {
            Ask::Heard(clients) => ("heard", clients.ids.len()),
            Ask::Lost(clients) => ("lost", clients.ids.len()),
            other => panic!("{other:?} was not noted"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [("heard", 512), ("heard", 89), ("lost", 1), ("heard", 1)]);
    }
}
