//! Sending at a steady rate.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Clock as _, Entropy as _, OsEntropy, RealClock};
use apogee_model::Timestamp;
use apogee_proto::v2::{self, TransactionResolution};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::error::CliError;
use super::client::Client;
use super::pace::Pacer;
use super::tally::Calls;

/// From the beginning of a load to its first message.
const LEAD: Duration = Duration::from_millis(10);

/// How much to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Messages per second.
    pub(super) rate: u32,
    pub(super) messages: u32,
    pub(super) size: u32,
    pub(super) in_flight: u32,
    /// Messages are delayed ones.
    pub(super) later: Option<Later>,
    /// They are half messages, whose transactions end at once.
    pub(super) ends: Option<Ends>,
}

/// Of a hundred transactions, so many are rolled back and the others are committed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) rollbacks: u32,
}

impl Ends {
    /// How the transaction with this number ends; both kinds are spread evenly.
    pub(super) fn of(self, number: u32) -> TransactionResolution {
        let rolled_back = |count: u64| count * u64::from(self.rollbacks) / 100;
        let number = u64::from(number);
        if rolled_back(number + 1) > rolled_back(number) {
            TransactionResolution::Rollback
        } else {
            TransactionResolution::Commit
        }
    }
}

/// When delayed messages are due: so long after the message itself, or after the last one, was due to be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Later {
    Each(Duration),
    Together(Duration),
}

impl Plan {
    /// When a message is due, counted from the first one.
    pub(super) fn due(&self, number: u32) -> Duration {
        Duration::from_nanos(u64::from(number) * 1_000_000_000 / u64::from(self.rate))
    }

    /// From when on a consumer may have it, counted from the first send.
    pub(super) fn visible(&self, number: u32) -> Duration {
        match self.later {
            None => self.due(number),
            Some(Later::Each(by)) => self.due(number) + by,
            Some(Later::Together(by)) => self.due(self.messages.saturating_sub(1)) + by,
        }
    }
}

/// The names of the messages of one run: ids as SDKs make them, with random bytes that no other run has.
#[derive(Copy, Clone, Debug)]
pub(super) struct Names {
    run: u64,
}

impl Names {
    pub(super) fn draw() -> Names {
        Names { run: OsEntropy.next_u64() }
    }

    /// 17 bytes in hexadecimal: version 1, eight of this run, four of zero, and the number.
    pub(super) fn id(self, number: u32) -> String {
        format!("01{:016X}00000000{number:08X}", self.run)
    }

    /// The number of a message of this run.
    pub(super) fn number(self, id: &str) -> Option<u32> {
        let rest = id.strip_prefix("01")?.strip_prefix(&format!("{:016X}00000000", self.run))?;
        u32::from_str_radix(rest, 16).ok()
    }
}

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// From when a message was due to its OK.
    pub(super) sends: Calls,
    /// From when a message was due to the OK of the end of its transaction.
    pub(super) commits: Calls,
    pub(super) rollbacks: Calls,
    /// From the first message to the last answer.
    pub(super) took: Duration,
    /// How late sends began: at most, and the last one.
    pub(super) behind_max: Duration,
    pub(super) behind_last: Duration,
}

/// A load that may begin.
pub(super) struct Load<'a> {
    client: &'a Client,
    plan: Plan,
    pub(super) names: Names,
    body: Bytes,
    pacer: Pacer,
    /// When the first message is due.
    pub(super) start: Instant,
    born: Timestamp,
}

/// One send that has ended, and its transaction.
struct Ended {
    sent: Result<Duration, String>,
    end: Option<(TransactionResolution, Result<Duration, String>)>,
}

impl<'a> Load<'a> {
    /// The first message is due in a moment.
    pub(super) fn new(client: &'a Client, plan: Plan) -> Result<Load<'a>, CliError> {
        let mut body = vec![0; usize::try_from(plan.size).expect("32 bits fit")];
        OsEntropy.fill(&mut body); // nothing on the way can compress it
        let pacer = Pacer::new().map_err(CliError::Runtime)?;
        let (start, born) = (Instant::now() + LEAD, RealClock.wall());
        Ok(Load { client, plan, names: Names::draw(), body: body.into(), pacer, start, born })
    }

    /// Sends everything, or what is due before `stop`, and waits for all answers.
    pub(super) async fn send(self, stop: &CancellationToken) -> Result<Sent, CliError> {
        let (mut sent, mut sends) = (Sent::default(), JoinSet::new());
        let permits = Arc::new(Semaphore::new(usize::try_from(self.plan.in_flight).expect("32 bits fit")));
        for number in 0..self.plan.messages {
            let due = self.start + self.plan.due(number);
            let permit = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                permit = self.turn(due, &permits) => permit?,
            };
            sent.behind_last = due.elapsed();
            sent.behind_max = sent.behind_max.max(sent.behind_last);
            let (mut sender, message, id) = (self.client.sender(number), self.message(number), self.names.id(number));
            let how = self.plan.ends.map(|ends| ends.of(number));
            sends.spawn(async move {
                let answer = sender.send(message).await;
                let sent = answer.as_ref().map(|_| due.elapsed()).map_err(Clone::clone);
                let end = match (answer, how) {
                    (Ok(transaction), Some(how)) => {
                        Some((how, sender.end(id, transaction, how).await.map(|()| due.elapsed())))
                    }
                    _ => None,
                };
                drop(permit);
                Ended { sent, end }
            });
            while let Some(ended) = sends.try_join_next() {
                sent.count(ended);
            }
        }
        while let Some(ended) = sends.join_next().await {
            sent.count(ended);
        }
        sent.took = self.start.elapsed();
        Ok(sent)
    }

    /// Waits until a message is due and there is room for one more send.
    async fn turn(
        &self,
        due: Instant,
        permits: &Arc<Semaphore>,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, CliError> {
        self.pacer.until(due).await.map_err(CliError::Runtime)?;
        Ok(Arc::clone(permits).acquire_owned().await.expect("nobody closes it"))
    }

    /// Born when it is due, by the clock of this machine.
    fn message(&self, number: u32) -> v2::Message {
        let at = |since_first| wall(Duration::from_millis(self.born.0) + LEAD + since_first);
        let born = at(self.plan.due(number));
        let (message_type, delivery_timestamp) = match (self.plan.later, self.plan.ends) {
            (None, None) => (v2::MessageType::Normal, None),
            (None, Some(_)) => (v2::MessageType::Transaction, None),
            (Some(_), _) => (v2::MessageType::Delay, Some(at(self.plan.visible(number)))),
        };
        let system = v2::SystemProperties {
            message_id: self.names.id(number),
            body_encoding: v2::Encoding::Identity.into(),
            message_type: message_type.into(),
            delivery_timestamp,
            born_timestamp: Some(born),
            born_host: self.client.host().to_owned(),
            ..v2::SystemProperties::default()
        };
        v2::Message {
            topic: Some(self.client.topic().clone()),
            user_properties: [].into(),
            system_properties: Some(system),
            body: self.body.clone(),
        }
    }
}

fn wall(since_epoch: Duration) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: since_epoch.subsec_nanos().cast_signed(),
    }
}

impl Sent {
    fn count(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { sent, end } = match ended {
            Ok(ended) => ended,
            Err(panicked) => Ended { sent: Err(panicked.to_string()), end: None },
        };
        self.sends.count(sent);
        match end {
            Some((TransactionResolution::Rollback, ended)) => self.rollbacks.count(ended),
            Some((_, ended)) => self.commits.count(ended),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly() {
        let plan = Plan { rate: 3, messages: 9, size: 1, in_flight: 1, later: None, ends: None };
        assert_eq!(plan.due(0), Duration::ZERO);
        assert_eq!(plan.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(plan.due(3), Duration::from_secs(1));
        assert_eq!(plan.visible(3), Duration::from_secs(1));
        let (each, together) = (Later::Each(Duration::from_secs(2)), Later::Together(Duration::from_secs(2)));
        assert_eq!(Plan { later: Some(each), ..plan }.visible(3), Duration::from_secs(3));
        assert_eq!(Plan { messages: 10, later: Some(together), ..plan }.visible(3), Duration::from_secs(5));
    }

    #[test]
    fn so_many_of_a_hundred_are_rolled_back() {
        for rollbacks in [0, 1, 10, 50, 99, 100] {
            let rolled_back = |number: &u32| Ends { rollbacks }.of(*number) == TransactionResolution::Rollback;
            assert_eq!((0..1000).filter(rolled_back).count(), usize::try_from(rollbacks * 10).unwrap());
        }
        let ends: Vec<_> = (0..4).map(|number| Ends { rollbacks: 50 }.of(number).as_str_name()).collect();
        assert_eq!(ends, ["COMMIT", "ROLLBACK", "COMMIT", "ROLLBACK"]);
    }

    #[test]
    fn only_ids_of_this_run_are_known() {
        let (ours, theirs) = (Names { run: 7 }, Names { run: 8 });
        assert_eq!((ours.id(258).len(), ours.number(&ours.id(258))), (34, Some(258)));
        assert_eq!(ours.number(&theirs.id(258)), None);
        assert_eq!(ours.number("01"), None);
    }
}
