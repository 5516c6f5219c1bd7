//! Finding messages by what their senders called them.

use apogee_model::store::{Find, FindBy, Found, GroupTrace, StoreError, Trace};
use apogee_model::{QueueId, StoredMessage, TopicId};
use bytes::Bytes;

use crate::Engine;
use crate::block::Lsn;
use crate::leader::{Ask, Spoor, Track, Was};
use crate::record::{NotARecord, Record};

/// Messages that are read before the leader is asked where they are now.
const AT_ONCE: usize = 64;
/// Bytes of them, unless one has more.
const BYTES: usize = 1 << 20;

impl Engine {
    /// Finds committed messages of a topic, the newest first. Those that retention took, that were recalled or rolled back
    /// are not found.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::Unreadable`] when the disk does not give a message
    /// back.
    pub async fn find(&self, find: Find) -> Result<Vec<Found>, StoreError> {
        let (by, max) = (find.by.clone(), find.messages.min(Find::MESSAGES_MAX));
        let tracks = self.ask(|reply| Ask::Find { find, reply }).await?;
        let (mut found, mut tracks) = (Vec::new(), tracks.into_iter().peekable());
        let mut bytes = 0;
        while found.len() < max && bytes < BYTES && tracks.peek().is_some() {
            let mut seen = Vec::new();
            for track in tracks.by_ref().take(AT_ONCE) {
                if let Some((spoor, message)) = self.sniff(track).await?.filter(|(_, message)| is(message, &by)) {
                    bytes += message.len();
                    seen.push((spoor, message));
                }
                if found.len() + seen.len() >= max || bytes >= BYTES {
                    break;
                }
            }
            let spoors = seen.iter().map(|(spoor, _)| *spoor).collect();
            let places = self.ask(|reply| Ask::Follow { spoors, reply }).await?;
            found.extend(seen.into_iter().zip(places).filter_map(|((spoor, message), whereabouts)| {
                let Spoor { track, topic, queue, .. } = spoor;
                Some(Found { message, stored_at: track.stored_at, topic, queue, whereabouts: whereabouts? })
            }));
        }
        Ok(found)
    }

    /// What became of a message in each group that reads its topic. Empty when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn trace(&self, trace: Trace) -> Result<Vec<GroupTrace>, StoreError> {
        self.ask(|reply| Ask::Trace { trace, reply }).await
    }

    /// The message of a record, and what the record says of it; nothing when its segment went meanwhile.
    async fn sniff(&self, track: Track) -> Result<Option<(Spoor, StoredMessage)>, StoreError> {
        match self.record(track.lsn, track.len).await {
            Err(_) if track.lsn < self.log.begin() => Ok(None),
            Err(error) => Err(error),
            Ok(Written { topic, queue, was, message }) => Ok(Some((Spoor { track, topic, queue, was }, message))),
        }
    }

    /// The message that is written at a place of the log.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`].
    pub(crate) async fn record(&self, lsn: Lsn, len: u32) -> Result<Written, StoreError> {
        let unreadable = |why: String| StoreError::Unreadable { why: format!("position {}: {why}", lsn.0) };
        let len = usize::try_from(len).expect("records are smaller than a block");
        let record = self.log.read(lsn, len).await.map_err(|error| unreadable(error.to_string()))?;
        Written::read(&record).map_err(|why| unreadable(self.log.damaged(lsn, &why).to_string()))
    }
}

/// A message, and what its record says of it.
pub(crate) struct Written {
    topic: TopicId,
    queue: QueueId,
    was: Was,
    pub message: StoredMessage,
}

impl Written {
    /// # Errors
    /// Also when the record is not one of a message.
    pub(crate) fn read(record: &Bytes) -> Result<Self, NotARecord> {
        let (topic, queue, was, message) = match Record::read(record)?.0 {
            Record::Message { topic, queue, offset, message, .. } => (topic, queue, Was::At(offset), message),
            Record::DeadLetter(dead) => (dead.topic, dead.queue, Was::At(dead.offset), dead.message),
            Record::Kept(kept) => (kept.topic, kept.queue, Was::Kept(kept.id), kept.message),
            Record::Carried(it) => (it.topic, it.queue, Was::Kept(it.id), it.message),
            Record::Half(half) => (half.topic, half.queue, Was::Half(half.id), half.message),
            Record::HalfCarried(it) => (it.was.kept.topic, it.was.kept.queue, Was::Half(it.id), it.message),
            _ => return Err(NotARecord::Kind(record[0])),
        };
        Ok(Self { topic, queue, was, message })
    }
}

/// The index knows only hashes.
fn is(message: &StoredMessage, by: &FindBy) -> bool {
    match by {
        FindBy::Key(key) => message.keys().any(|of| of == key),
        FindBy::MessageId(id) => message.message_id() == Some(id),
    }
}
