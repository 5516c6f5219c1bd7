//! Finding messages by what their senders called them.

use apogee_model::store::{Find, FindBy, Found, GroupTrace, StoreError, Trace};
use apogee_model::{QueueId, StoredMessage, TopicId};

use crate::Engine;
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
        let unreadable = |why: String| StoreError::Unreadable { why: format!("position {}: {why}", track.lsn.0) };
        let len = usize::try_from(track.len).expect("records are smaller than a block");
        let record = match self.log.read(track.lsn, len).await {
            Err(_) if track.lsn < self.log.begin() => return Ok(None),
            record => record.map_err(|error| unreadable(error.to_string()))?,
        };
        let damaged = |why: NotARecord| unreadable(self.log.damaged(track.lsn, &why).to_string());
        let (record, _) = Record::read(&record).map_err(damaged)?;
        let (topic, queue, was, message) = message_of(record).ok_or_else(|| unreadable("no message".to_owned()))?;
        Ok(Some((Spoor { track, topic, queue, was }, message)))
    }
}

fn message_of(record: Record) -> Option<(TopicId, QueueId, Was, StoredMessage)> {
    match record {
        Record::Message { topic, queue, offset, message, .. } => Some((topic, queue, Was::At(offset), message)),
        Record::DeadLetter(dead) => Some((dead.topic, dead.queue, Was::At(dead.offset), dead.message)),
        Record::Kept(kept) => Some((kept.topic, kept.queue, Was::Kept(kept.id), kept.message)),
        Record::Carried(it) => Some((it.topic, it.queue, Was::Kept(it.id), it.message)),
        Record::Half(half) => Some((half.topic, half.queue, Was::Half(half.id), half.message)),
        Record::HalfCarried(it) => Some((it.was.kept.topic, it.was.kept.queue, Was::Half(it.id), it.message)),
        _ => None,
    }
}

/// The index knows only hashes.
fn is(message: &StoredMessage, by: &FindBy) -> bool {
    match by {
        FindBy::Key(key) => message.keys().any(|of| of == key),
        FindBy::MessageId(id) => message.message_id() == Some(id),
    }
}
