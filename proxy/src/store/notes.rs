//! What the leader is told without anybody waiting for it: in order, many at once, and again when a lane breaks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use apogee_model::ClientId;
use apogee_model::store::{Checked, DeliveryKey};
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{self, Clients, DeliveryKeys};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ClientHeard;
use super::remote::Resender;

/// Notes that wait.
const WAITING_MAX: usize = 16_384;
/// Notes that are told together.
const AT_ONCE: usize = 256;
/// Keys or clients of one item.
const ITEM_MAX: usize = 512;
/// From the end of a call to the note that its batch was written: what was yielded last may take so long until it is on its
/// way. A client that heard no end throws the batch away, and nobody may renew it then if this proxy was killed between.
const SETTLES: Duration = Duration::from_millis(100);
/// Those that are due within so long go along.
const ALONG: Duration = Duration::from_millis(25);
/// How long a note is worth telling.
const NOTE_MAX: Duration = Duration::from_secs(10);
/// And when the proxy ends.
const LAST_NOTE_MAX: Duration = Duration::from_millis(200);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Release(Vec<DeliveryKey>),
    Confirm(Vec<DeliveryKey>),
    Heard(Vec<ClientHeard>),
    HungUp(Vec<ClientHeard>),
    Lost(Vec<ClientId>),
    Checked(Vec<Checked>),
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
    let (mut some, mut settling) = (Vec::new(), Settling::default());
    loop {
        let stopping = tokio::select! {
            _ = notes.recv_many(&mut some, AT_ONCE), if settling.has_room() => stop.is_cancelled(),
            () = settling.first_is_over() => false,
            () = stop.cancelled() => {
                while let Ok(note) = notes.try_recv() {
                    some.push(note);
                }
                true
            }
        };
        let limit = if stopping { LAST_NOTE_MAX } else { NOTE_MAX };
        let due = settling.pass(some.drain(..), stopping);
        let told = merged(&due).into_iter().map(|note| tell(&resender, note, limit));
        futures::future::join_all(told).await;
        if stopping {
            return Ok(());
        }
    }
}

/// Confirmations of batches that may still be on their way, the oldest first.
#[derive(Default)]
struct Settling(VecDeque<(Instant, Note)>);

impl Settling {
    fn has_room(&self) -> bool {
        self.0.len() < WAITING_MAX
    }

    /// Waits until the first of them is due. Cancel safe.
    async fn first_is_over(&self) {
        match self.0.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// What is to be told now: of `notes` all but confirmations, and the confirmations that are due, or all of them.
    fn pass(&mut self, notes: impl Iterator<Item = Note>, all: bool) -> Vec<Note> {
        let now = Instant::now();
        let (confirmed, mut due): (Vec<_>, Vec<_>) = notes.partition(|note| matches!(note, Note::Confirm(_)));
        self.0.extend(confirmed.into_iter().map(|note| (now + SETTLES, note)));
        let over = self.0.partition_point(|(due, _)| all || *due <= now + ALONG);
        due.extend(self.0.drain(..over).map(|(_, note)| note));
        due
    }
}

async fn tell(resender: &Resender, note: Note, limit: Duration) {
    if let Err(error) = resender.note(|| note.ask(), limit).await {
        tracing::warn!(event = "note_lost", %error, "the leader of the store could not be told");
    }
}

impl Note {
    /// As it is said now.
    fn ask(&self) -> Ask {
        let now = Instant::now();
        let heard = |clients: &[ClientHeard]| {
            Clients::heard(clients.iter().map(|heard| (&heard.client, now.saturating_duration_since(heard.at))))
        };
        match self {
            Self::Release(keys) => Ask::Release(DeliveryKeys::of(keys)),
            Self::Confirm(keys) => Ask::Confirm(DeliveryKeys::of(keys)),
            Self::Heard(clients) => Ask::Heard(heard(clients)),
            Self::HungUp(clients) => Ask::HungUp(heard(clients)),
            Self::Lost(clients) => Ask::Lost(Clients::of(clients)),
            Self::Checked(checks) => Ask::Checked(v1::Checked::of(checks)),
        }
    }
}

/// Neighbours of one kind become one note, large ones several.
fn merged(notes: &[Note]) -> Vec<Note> {
    let mut all = Vec::new();
    for same in notes.chunk_by(|one, other| std::mem::discriminant(one) == std::mem::discriminant(other)) {
        let (mut keys, mut heard, mut clients, mut checks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for note in same {
            match note {
                Note::Release(some) | Note::Confirm(some) => keys.extend_from_slice(some),
                Note::Heard(some) | Note::HungUp(some) => heard.extend_from_slice(some),
                Note::Lost(some) => clients.extend_from_slice(some),
                Note::Checked(some) => checks.extend_from_slice(some),
            }
        }
        let confirm = matches!(same.first(), Some(Note::Confirm(_)));
        let hung_up = matches!(same.first(), Some(Note::HungUp(_)));
        let keys = keys.chunks(ITEM_MAX).map(<[DeliveryKey]>::to_vec);
        let heard = heard.chunks(ITEM_MAX).map(<[ClientHeard]>::to_vec);
        all.extend(keys.map(if confirm { Note::Confirm } else { Note::Release }));
        all.extend(heard.map(if hung_up { Note::HungUp } else { Note::Heard }));
        all.extend(checks.chunks(ITEM_MAX).map(|some| Note::Checked(some.to_vec())));
        all.extend(clients.chunks(ITEM_MAX).map(|some| Note::Lost(some.to_vec())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn neighbours_travel_together() {
        let clients = |names: std::ops::Range<usize>| names.filter_map(|it| ClientId::parse(&it.to_string()));
        let at = Instant::now();
        let heard = |names| Note::Heard(clients(names).map(|client| ClientHeard { client, at }).collect());
        let notes = [heard(0..600), heard(600..601), Note::Lost(clients(0..1).collect()), heard(1..2)];
        tokio::time::advance(Duration::from_secs(3)).await;
        let sizes = merged(&notes).into_iter().map(|note| match note.ask() {
            Ask::Heard(clients) => {
                assert_eq!(clients.ago_ms, vec![3000; clients.ids.len()]);
                ("heard", clients.ids.len())
            }
            Ask::Lost(clients) => ("lost", clients.ids.len()),
            other => panic!("{other:?} was not noted"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [("heard", 512), ("heard", 89), ("lost", 1), ("heard", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_counts_as_written_only_when_it_is_on_its_way() {
        let confirm = |offset| {
            let key = v1::DeliveryKey { offset, ..v1::DeliveryKey::default() };
            Note::Confirm(vec![key.try_into().unwrap()])
        };
        let (mut settling, begin) = (Settling::default(), Instant::now());
        assert_eq!(settling.pass([confirm(1), Note::Release(vec![])].into_iter(), false), [Note::Release(vec![])]);
        tokio::time::advance(SETTLES * 3 / 5).await;
        assert_eq!(settling.pass([confirm(2)].into_iter(), false), []);
        settling.first_is_over().await;
        assert!(begin.elapsed() >= SETTLES, "{:?}", begin.elapsed());
        assert_eq!(settling.pass(std::iter::empty(), false), [confirm(1)]);
        assert_eq!(settling.pass([confirm(3)].into_iter(), true), [confirm(2), confirm(3)], "when the proxy ends");
    }
}
