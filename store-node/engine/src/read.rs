//! Reading without consuming, and what those who read that way remember.

use apogee_model::store::{CommitOffset, Fetch, Fetched, FetchedMessage, GroupQueue, OffsetCommitted, StoreError};
use apogee_model::{QueueOffset, StoredMessage};

use crate::Engine;
use crate::leader::{Ask, Located};
use crate::record::QueueOf;

impl Engine {
    /// Reads committed messages of a queue, in order, without consuming them.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::Unreadable`] when the disk does not give the first of
    /// the messages back; one that cannot be read ends the answer before it.
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, StoreError> {
        let (wanted, max) = (Wanted::of(&fetch), fetch.messages);
        let located = self.ask(|reply| Ask::Fetch { fetch, reply }).await?;
        let mut fetched =
            Fetched { min: located.min, max: located.max, next: located.next, reached: None, messages: Vec::new() };
        let Located { places, .. } = located;
        for (nth, (offset, place)) in places.into_iter().enumerate() {
            if fetched.messages.len() >= max {
                fetched.next = offset;
                break;
            }
            let message = match self.read(&place).await {
                Ok(message) => message,
                Err(_) if self.is_gone(&place) => continue,
                Err(error) if nth == 0 => return Err(error),
                Err(_) => {
                    fetched.next = offset;
                    break;
                }
            };
            fetched.reached = Some(place.stored_at);
            if wanted.is(&message) {
                fetched.messages.push(FetchedMessage { offset, stored_at: place.stored_at, message });
            }
            // What is in memory is read without a pause.
            tokio::task::consume_budget().await;
        }
        Ok(fetched)
    }

    /// Remembers where a group goes on in a queue, by its own word; returns when that is committed.
    ///
    /// # Errors
    /// [`StoreError::NoSuchQueue`], [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn commit_offset(&self, commit: CommitOffset) -> Result<OffsetCommitted, StoreError> {
        if commit.queue.0 >= commit.topic.queues {
            let (topic, queues) = (commit.topic.name, commit.topic.queues);
            return Err(StoreError::NoSuchQueue { topic, queue: commit.queue, queues });
        }
        self.ask(|reply| Ask::CommitOffset { commit, reply }).await
    }

    /// The offset that a group committed last in a queue, if it ever did.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn committed_offset(&self, of: GroupQueue) -> Result<Option<QueueOffset>, StoreError> {
        let of = QueueOf { group: of.group, topic: of.topic, queue: of.queue };
        self.ask(|reply| Ask::CommittedOffset { of, reply }).await
    }
}

/// Which of the messages that are read are found.
struct Wanted {
    message_id: Option<String>,
    filter: apogee_model::Filter,
}

impl Wanted {
    fn of(fetch: &Fetch) -> Self {
        Self { message_id: fetch.message_id.clone(), filter: fetch.filter.clone() }
    }

    fn is(&self, message: &StoredMessage) -> bool {
        self.message_id.as_deref().is_none_or(|wanted| message.message_id() == Some(wanted))
            && self.filter.wants(message)
    }
}
