//! Transactions: producers commit some, roll back some, and forget some until they are asked.

use std::time::Duration;

use apogee_model::QueueId;
use apogee_model::store::{
    Append, CheckBack, Checked, EndTransaction, Half, HalfId, RequestId, Resolution, TransactionEnded,
};

use super::{Dice, Door, NoAnswer, Over, Site, payload};
use crate::history::{EndAnswer, MessageId, What};

/// A producer that forgot is asked after this time, in milliseconds: less than a run takes.
const CHECK_AFTER_MAX: u64 = 2000;

impl<D: Door> Site<D> {
    /// Sends a half message; returns its name, if there is an answer.
    pub async fn send_half(
        &self,
        queue: u16,
        (message, size): (MessageId, usize),
        check_after: Duration,
    ) -> Result<Option<HalfId>, Over> {
        let stored = payload::message(message, size);
        let digest = payload::digest_of(&stored);
        let group = super::site::name(payload::FILTERED);
        let refused = super::site::refuses(&stored).then_some(What::Refused { group, message });
        let start = self.history.start();
        let append = Append {
            topic: payload::topic(),
            queue: QueueId(queue),
            message: stored,
            request: RequestId { proxy_incarnation: 1, sequence: message.0 },
            due: None,
            half: Some(Half { check_after }),
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let answer = Some(self.door.append(vec![append]).await);
        let (topic, outcome) = (payload::topic_name(), super::site::outcome(&answer));
        let sent = What::Send { message, topic, digest, place: None, outcome };
        self.history.end_all(start, [sent, What::Half { message }].into_iter().chain(refused));
        super::site::over(&answer)?;
        Ok(answer.and_then(Result::ok).and_then(|all| all[0].half))
    }

    /// Ends a transaction; says whether there was an answer.
    pub async fn end(&self, message: MessageId, id: HalfId, commit: bool) -> Result<bool, Over> {
        let resolution = if commit { Resolution::Commit } else { Resolution::Rollback };
        let start = self.history.start();
        let answer = self.door.end_transaction(EndTransaction { topic: payload::topic().id, id, resolution }).await;
        let told = match answer {
            Ok(TransactionEnded::Done) => EndAnswer::Done,
            Ok(TransactionEnded::Otherwise) => EndAnswer::Otherwise,
            Ok(TransactionEnded::Unknown) => EndAnswer::Unknown,
            Err(_) => EndAnswer::None,
        };
        self.history.end(start, What::End { message, commit, answer: told });
        if answer == Err(NoAnswer::Over) { Err(Over) } else { Ok(told != EndAnswer::None) }
    }
}

/// The transactions of one producer that are open as far as it knows.
#[derive(Default)]
pub(super) struct Open(Vec<(MessageId, HalfId)>);

impl Open {
    /// Begins a transaction.
    pub(super) async fn begin(
        &mut self,
        dice: &Dice,
        site: &Site<impl Door>,
        message: (MessageId, usize),
    ) -> Result<(), Over> {
        let queue = u16::try_from(dice.below(payload::QUEUES.into())).expect("a queue");
        let half = site.send_half(queue, message, dice.millis(CHECK_AFTER_MAX)).await?;
        self.0.extend(half.map(|half| (message.0, half)));
        Ok(())
    }

    /// Sometimes ends a transaction, less often than some are begun: the others are forgotten.
    pub(super) async fn end_some(&mut self, dice: &Dice, site: &Site<impl Door>) -> Result<(), Over> {
        if !self.0.is_empty() && dice.one_in(8) {
            let which = dice.size(0, self.0.len() - 1);
            let (message, id) = self.0[which];
            if site.end(message, id, dice.one_in(2)).await? && !dice.one_in(4) {
                self.0.swap_remove(which);
            }
        }
        Ok(())
    }

    /// Ends all of them.
    pub(super) async fn end_all(&mut self, dice: &Dice, site: &Site<impl Door>) {
        for (message, id) in std::mem::take(&mut self.0) {
            while site.end(message, id, dice.one_in(2)).await.is_ok_and(|answered| !answered) {
                tokio::time::sleep(site.tempo.window / 10).await;
            }
        }
    }
}

/// Answers for producers when they are asked.
pub struct Asked {
    dice: Dice,
}

impl Asked {
    pub fn new(dice: Dice) -> Asked {
        Asked { dice }
    }

    /// Until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        while !site.over.is_cancelled() {
            let checks = match site.door.checks().await {
                Ok(checks) => checks,
                Err(NoAnswer::Over) => return,
                Err(NoAnswer::Refused | NoAnswer::Unknown) => Vec::new(),
            };
            for CheckBack { topic, id, check, message, .. } in checks {
                let _best_effort = site.door.checked(Checked { topic, id, check }).await;
                // Some do not know either.
                if !self.dice.one_in(3) && site.end(payload::id_of(&message), id, self.dice.one_in(2)).await.is_err() {
                    return;
                }
            }
            site.pause(self.dice.millis(site.tempo.pace)).await;
        }
    }
}
