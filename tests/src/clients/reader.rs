//! Somebody who reads queues by offset, and commits how far it came.

use std::collections::BTreeMap;

use apogee_model::store::{CommitOffset, Fetch, FetchFrom, GroupQueue, OffsetCommitted};
use apogee_model::{Filter, QueueId, QueueOffset};

use super::payload::{self, QUEUES};
use super::{Dice, Door, NoAnswer, Over, Site};
use crate::history::{Name, Outcome, What};

/// The only one of its group, which nobody resets: what it commits never goes back.
pub struct Reader {
    dice: Dice,
    group: u32,
    next: BTreeMap<u16, QueueOffset>,
}

impl Reader {
    /// Nobody else is of this group.
    pub fn new(dice: Dice, group: u32) -> Reader {
        Reader { dice, group, next: BTreeMap::new() }
    }

    /// Reads until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        while !site.over.is_cancelled() && self.turn(site).await.is_ok() {
            site.pause(self.dice.millis(site.tempo.pace * 2)).await;
        }
    }

    async fn turn(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        let queue = u16::try_from(self.dice.below(QUEUES.into())).expect("a queue");
        if self.dice.one_in(3) {
            return self.look(site, queue).await;
        }
        let at = self.next.get(&queue).copied().unwrap_or_default();
        let fetch = Fetch {
            topic: payload::topic().id,
            queue: QueueId(queue),
            from: FetchFrom::Offset(at),
            messages: self.dice.size(1, 8),
            bytes: Fetch::BYTES_MAX,
            message_id: None,
            filter: Filter::default(),
        };
        match site.door.fetch(fetch).await {
            Ok(fetched) => self.commit(site, queue, at.max(fetched.next)).await,
            Err(NoAnswer::Over) => Err(Over),
            Err(NoAnswer::Refused | NoAnswer::Unknown) => Ok(()),
        }
    }

    async fn commit(&mut self, site: &Site<impl Door>, queue: u16, offset: QueueOffset) -> Result<(), Over> {
        self.next.insert(queue, offset);
        let (group, topic) = (payload::group(self.group), payload::topic());
        let start = site.history.start();
        let answer = site.door.commit_offset(CommitOffset { group, topic, queue: QueueId(queue), offset }).await;
        let outcome = match answer {
            Ok(OffsetCommitted::Done) => Outcome::Ok,
            Ok(OffsetCommitted::Beyond { .. }) | Err(NoAnswer::Refused) => Outcome::Failed,
            Err(NoAnswer::Unknown | NoAnswer::Over) => Outcome::Indeterminate,
        };
        let (group, topic, queue, offset) = (self.name(), payload::topic_name(), queue.into(), offset.0);
        site.history.end(start, What::Commit { group, topic, queue, offset, outcome });
        if answer == Err(NoAnswer::Over) { Err(Over) } else { Ok(()) }
    }

    /// Notes what the system says was committed.
    async fn look(&self, site: &Site<impl Door>, queue: u16) -> Result<(), Over> {
        let (group, topic) = (payload::group(self.group).id, payload::topic().id);
        let start = site.history.start();
        match site.door.committed_offset(GroupQueue { group, topic, queue: QueueId(queue) }).await {
            Ok(offset) => {
                let (group, topic, queue) = (self.name(), payload::topic_name(), queue.into());
                let offset = offset.map(|offset| offset.0);
                site.history.end(start, What::Committed { group, topic, queue, offset });
                Ok(())
            }
            Err(NoAnswer::Over) => Err(Over),
            Err(NoAnswer::Refused | NoAnswer::Unknown) => Ok(()),
        }
    }

    fn name(&self) -> Name {
        format!("group-{}", self.group).into()
    }
}
