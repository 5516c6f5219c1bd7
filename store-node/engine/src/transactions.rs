//! The door of transactions: how they end, who is asked about them, and what operators see.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::store::{Checked, EndTransaction, HalfId, OpenTransaction, Resolution, StoreError, TransactionEnded};
use apogee_model::{Topic, TopicId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::checks::{Checks, read_half};
use crate::engine::Engine;
use crate::leader::{Ask, CHECKS_MAX, Decided, Fresh};
use crate::state::State;

/// Half messages, and bytes of them, that are given at once.
const LISTED_MAX: usize = 256;
const LISTED_BYTES_MAX: usize = 2 << 20;

/// What is told about transactions.
#[derive(Clone)]
pub(crate) struct TransactionMetrics {
    group: KeyValue,
    open: Gauge<u64>,
    commits: Counter<u64>,
    rollbacks: Counter<u64>,
    latency: Histogram<f64>,
}

impl TransactionMetrics {
    pub(crate) fn new(meter: &Meter, group: &str) -> Self {
        let latency = vec![5.0, 60.0, 600.0, 3600.0, 43_200.0, 86_400.0];
        Self {
            group: KeyValue::new("group", group.to_owned()),
            open: meter.u64_gauge("rocketmq_half_messages").build(),
            commits: meter.u64_counter("rocketmq_commit_messages_total").build(),
            rollbacks: meter.u64_counter("rocketmq_rollback_messages_total").build(),
            latency: meter
                .f64_histogram("rocketmq_finish_message_latency")
                .with_unit("s")
                .with_boundaries(latency)
                .build(),
        }
    }

    /// A topic has so many half messages that are not decided.
    pub(crate) fn open(&self, topic: &Topic, count: u64) {
        self.open.record(count, &self.labels(topic));
    }

    fn ended(&self, Fresh { topic, resolution, after }: &Fresh) {
        let labels = self.labels(topic);
        match resolution {
            Resolution::Commit => self.commits.add(1, &labels),
            Resolution::Rollback => self.rollbacks.add(1, &labels),
        }
        self.latency.record(after.as_secs_f64(), &labels);
    }

    fn labels(&self, topic: &Topic) -> [KeyValue; 2] {
        [self.group.clone(), KeyValue::new("topic", topic.to_string())]
    }
}

/// Tells how many half messages each topic has, when that changed.
pub(crate) struct OpenHalves {
    metrics: TransactionMetrics,
    told: BTreeMap<TopicId, u64>,
}

impl OpenHalves {
    pub(crate) fn new(metrics: TransactionMetrics) -> Self {
        Self { metrics, told: BTreeMap::new() }
    }

    /// Some blocks were applied.
    pub(crate) fn tell(&mut self, state: &State) {
        let open = state.open_halves();
        if *open == self.told {
            return;
        }
        for topic in self.told.keys().chain(open.keys()) {
            let count = |of: &BTreeMap<TopicId, u64>| of.get(topic).copied().unwrap_or_default();
            if count(&self.told) != count(open)
                && let Some(name) = state.topic_name(*topic)
            {
                self.metrics.open(name, count(open));
            }
        }
        self.told.clone_from(open);
    }
}

impl Engine {
    /// Ends a transaction, and returns when that is committed: its message is in its queue, or nobody will ever see it.
    /// Asked again, it says the same, for a day of ends at least.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn end_transaction(&self, end: EndTransaction) -> Result<TransactionEnded, StoreError> {
        let Decided { ended, fresh } = self.ask(|reply| Ask::EndTransaction { end, reply }).await?;
        if let Some(fresh) = fresh {
            self.transactions.ended(&fresh);
        }
        Ok(ended)
    }

    /// There are producers of these topics behind one proxy: it is told what they are to be asked while this replica
    /// leads.
    pub fn checks(&self, topics: BTreeSet<TopicId>) -> Checks {
        Checks::new(self.clone(), topics)
    }

    /// A producer was asked: this check counts, and the next one comes later. Best effort: what is not said is asked
    /// again.
    pub fn checked(&self, checked: Checked) {
        self.tell(Ask::Checked(checked));
    }

    /// Half messages of a topic that are not decided, in the order of their ids, `from` the first on. At most `max`, and
    /// no more than 256 and some 2 MiB; none when there are no more.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::Unreadable`] when the disk does not give the first of
    /// the messages back; one that cannot be read ends the answer before it.
    pub async fn transactions(
        &self,
        topic: TopicId,
        from: HalfId,
        max: usize,
    ) -> Result<Vec<OpenTransaction>, StoreError> {
        let (mut from, max) = (from, max.min(LISTED_MAX));
        let (mut open, mut bytes) = (Vec::new(), 0);
        while open.is_empty() && max > 0 && from < HalfId(u64::MAX) {
            let (rows, next) = self.ask(|reply| Ask::Transactions { topic, from, max, reply }).await?;
            for (id, row) in rows {
                let message = match read_half(self, &row).await {
                    Ok(message) => message,
                    // It was decided or carried forward meanwhile.
                    Err(_) if row.kept.lsn < self.log.begin() => continue,
                    Err(error) if open.is_empty() => return Err(error),
                    Err(_) => return Ok(open),
                };
                bytes += message.len();
                if bytes > LISTED_BYTES_MAX && !open.is_empty() {
                    return Ok(open);
                }
                let (queue, stored_at, checks) = (row.kept.queue, row.stored_at, row.checks);
                open.push(OpenTransaction { queue, id, checks, parked: checks >= CHECKS_MAX, stored_at, message });
            }
            from = next;
        }
        Ok(open)
    }
}
