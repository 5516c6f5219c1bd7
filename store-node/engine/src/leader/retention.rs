//! Deciding which messages have been kept long enough.
//!
//! Every some seconds the leader walks through the queues, beginning with the one that holds the oldest message of all,
//! and trims each. The walk ends at the first queue that has nothing old: those behind it hold younger messages only. So
//! queues without old messages cost nothing, however many they are. A walk that has much to do is spread over turns with
//! a few looks at the views each, and other requests come in between.
//!
//! By time, messages that a consumer holds, or that wait to be delivered again, keep what is behind them. By size,
//! nothing does: a log that outgrows its room loses its oldest segments.
//!
//! Source: apache/rocketmq `store/.../MessageStoreConfig.java` (fileReservedTime, 72 hours).

use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use super::{Leader, Now};
use crate::block::Lsn;
use crate::record::{QueueOf, Record};
use crate::views::Place;

/// Rows of the ConsumeQueue one turn looks at.
const LOOKS: usize = 32;
/// Queues one turn looks at.
const QUEUES: usize = 256;
/// Between two turns of a walk that is not over.
const PAUSE: Duration = Duration::from_millis(10);

/// How long messages are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A message that is older goes, unless a consumer holds it or has not settled one before it.
    pub time: Duration,
    /// A log that has more bytes loses its oldest segments, whoever holds their messages.
    pub bytes: Option<u64>,
    /// How often the leader looks for messages that are to go.
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { time: Duration::from_secs(72 * 3600), bytes: None, every: Duration::from_secs(10) }
    }
}

impl Retention {
    /// How long messages of a topic are kept: all the same, as long as topics have no say of their own.
    fn of(&self, _topic: TopicId) -> Duration {
        self.time
    }

    /// No topic keeps its messages for less time.
    fn shortest(&self) -> Duration {
        self.time
    }

    /// Messages before this are too many, when the log ends at `end`. Always the start of a segment.
    fn cut(&self, end: Lsn, segment_bytes: u64) -> Lsn {
        let excess = self.bytes.map_or(0, |bytes| end.0.saturating_sub(bytes));
        let pen = end.0 - end.0 % segment_bytes;
        Lsn(excess.next_multiple_of(segment_bytes).min(pen))
    }
}

type Key = (TopicId, QueueId);

/// What the leader remembers between two turns.
#[derive(Debug)]
pub(super) struct Retaining {
    rules: Retention,
    segment_bytes: u64,
    /// When this replica began to lead.
    began: Now,
    due: Monotonic,
    /// The queue a walk came to, with where its oldest message was.
    at: Option<(Lsn, Key)>,
}

impl Retaining {
    pub(super) fn new(rules: Retention, segment_bytes: u64, now: Now) -> Self {
        Self { rules, segment_bytes, began: now, due: now.monotonic + rules.every, at: None }
    }

    /// What is too old. A wall clock that jumps ahead while this replica leads makes nothing older, because what is
    /// trimmed does not come back when it is set right.
    fn limits(&self, now: Now, end: Lsn) -> Limits {
        let lived = now.monotonic.saturating_sub(self.began.monotonic);
        let now = now.wall.min(self.began.wall.plus(lived));
        Limits { rules: self.rules, now, cut: self.rules.cut(end, self.segment_bytes) }
    }

    /// Where the log could begin, at the start of a segment, when its queues need it from `needed` on.
    pub(super) fn floor(&self, needed: Lsn, end: Lsn, now: Now) -> Lsn {
        Lsn(needed.0 - needed.0 % self.segment_bytes).max(self.limits(now, end).cut)
    }

    /// When there is something to do again.
    pub(super) fn due(&self) -> Monotonic {
        self.due
    }
}

/// What is too old, at one moment.
#[derive(Copy, Clone)]
struct Limits {
    rules: Retention,
    now: Timestamp,
    cut: Lsn,
}

impl Limits {
    fn expired(&self, topic: TopicId, place: &Place) -> bool {
        self.now.since(place.stored_at) > self.rules.of(topic)
    }

    /// Whether a queue that holds `place` first, and all with older first messages, have nothing old.
    fn all_young(&self, place: &Place) -> bool {
        place.visible >= self.cut && self.now.since(place.stored_at) <= self.rules.shortest()
    }
}

/// The end of the messages in `from..to` that are old; all that are, come first. Looks at a few of them, more closely
/// the nearer to `from`, and settles for less than all when `look` has no answer any more.
fn end_of_old(from: QueueOffset, to: QueueOffset, mut look: impl FnMut(QueueOffset) -> Option<bool>) -> QueueOffset {
    // Everything below `old` is, nothing from `young` on.
    let (mut old, mut young, mut leap) = (from.0, to.0, Some(1));
    while old < young {
        let room = young - old;
        let at = old + leap.map_or(room / 2, |leap: u64| leap.min(room) - 1);
        match look(QueueOffset(at)) {
            Some(true) => {
                old = at + 1;
                leap = leap.map(|leap| leap.saturating_mul(2));
            }
            Some(false) => (young, leap) = (at, None),
            None => break,
        }
    }
    QueueOffset(old)
}

/// What became of one queue.
enum Looked {
    /// Nothing here is old, nor in the queues behind.
    Young,
    /// It holds this first from now on.
    Trimmed(QueueOffset),
    Kept,
    /// No more looks are left for this turn.
    Tired,
}

impl Leader {
    /// Trims what is due, a little at a time.
    pub(super) fn retain(&mut self, now: Now) {
        if now.monotonic < self.retention.due {
            return;
        }
        let Retaining { rules, at, .. } = self.retention;
        let limits = self.retention.limits(now, self.state.end);
        let queues: Vec<_> = self.state.by_age(at).take(QUEUES).collect();
        let (mut looks, mut over) = (LOOKS, queues.len() < QUEUES);
        let (mut messages, mut unsettled) = (0, 0);
        for queue in queues {
            let before = self.min(queue.1.0, queue.1.1);
            match self.look_at(queue, &limits, &mut looks) {
                Looked::Young => {
                    over = true;
                    break;
                }
                Looked::Tired => {
                    over = false;
                    break;
                }
                Looked::Kept => {}
                Looked::Trimmed(min) => {
                    let (topic, queue) = queue.1;
                    messages += min.0 - before.0;
                    unsettled += self.unsettled_below(topic, queue, min);
                    self.propose(Record::Trim { topic, queue, min }, now);
                }
            }
            self.retention.at = Some(queue);
        }
        if messages > 0 {
            tracing::info!(event = "messages_trimmed", messages, cut = limits.cut.0, "messages were kept long enough");
        }
        if unsettled > 0 {
            tracing::warn!(
                event = "unsettled_trimmed",
                unsettled,
                "the log outgrew its room, and consumers lose messages"
            );
        }
        if over {
            self.retention.at = None;
        }
        self.retention.due = now.monotonic + if over { rules.every } else { PAUSE };
    }

    /// Where one queue begins from now on. `oldest` is where its oldest message is, trims on their way apart.
    fn look_at(&self, (oldest, (topic, queue)): (Lsn, Key), limits: &Limits, looks: &mut usize) -> Looked {
        let mut glance = |offset| {
            *looks = looks.checked_sub(1)?;
            self.state.glance(topic, queue, offset)
        };
        let (min, next) = (self.min(topic, queue), self.state.queue(topic, queue).next);
        if min >= next {
            return Looked::Kept;
        }
        let Some(first) = glance(min) else { return Looked::Tired };
        if limits.all_young(&first) {
            // With a trim on its way, the queue may hold something younger than those behind it.
            return if first.visible == oldest { Looked::Young } else { Looked::Kept };
        }
        let mut kept = min;
        if first.visible < limits.cut {
            kept = end_of_old(kept, next, |offset| Some(glance(offset)?.visible < limits.cut));
        }
        if limits.expired(topic, &first) {
            let held = self.first_held(topic, queue).map_or(next, |held| held.min(next));
            kept = kept.max(end_of_old(kept, held, |offset| Some(limits.expired(topic, &glance(offset)?))));
        }
        if kept > min { Looked::Trimmed(kept) } else { Looked::Kept }
    }

    /// The first message that a consumer may hold or that waits to be delivered again.
    fn first_held(&self, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        let held = self.state.pops.of_topic(topic).filter_map(|(_, pop)| pop.queues.get(&queue)?.entries.keys().next());
        // Deliveries on their way to the log are of messages behind the cursor it knows, or of held ones, unless a reset is
        // on its way before them.
        let on_their_way = self.overlay.readers(topic, queue).map(|group| {
            let applied = self.state.pops.get(&(group, topic)).and_then(|pop| pop.queues.get(&queue));
            applied.map_or(QueueOffset(0), |queue| queue.cursor)
        });
        held.copied().chain(on_their_way).chain(self.overlay.first_held(topic, queue)).min()
    }

    /// Messages below `min` that consumers hold or wait for.
    fn unsettled_below(&self, topic: TopicId, queue: QueueId, min: QueueOffset) -> usize {
        let groups = self.state.pops.of_topic(topic).map(|(group, _)| QueueOf { group, topic, queue });
        groups.map(|of| self.state.unsettled_below(of, min)).sum()
    }
}

#[cfg(test)]
mod tests;
