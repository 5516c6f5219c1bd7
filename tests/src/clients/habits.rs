//! Who asks what, and when. Clients survive the lives of a system, as real ones do.

use std::time::Duration;

use apogee_model::Timestamp;
use apogee_model::store::{Delivery, KeptId};
use tokio::time::Instant;

use super::payload::QUEUES;
use super::transactions::Open;
use super::{Dice, Door, Over, Patience, Receive, Site};
use crate::history::{MessageId, ResetTo};

/// How large bodies are.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// Some hundred bytes, seldom some KiB.
    Small,
    /// Up to 300 KiB.
    Mixed,
    /// Large bodies are common, so that segments fill up.
    Heavy,
}

/// Sends messages of ascending ids.
pub struct Producer {
    dice: Dice,
    next: u64,
    sizes: Sizes,
    /// Delayed messages that may still wait.
    waiting: Vec<(MessageId, KeptId)>,
    open: Open,
}

impl Producer {
    /// `number` is unique in the run: message ids are.
    pub fn new(dice: Dice, number: u64, sizes: Sizes) -> Producer {
        Producer { dice, next: number * 1_000_000, sizes, waiting: Vec::new(), open: Open::default() }
    }

    /// Sends until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        while !site.over.is_cancelled() {
            if let Some(began) = site.began
                && (self.later(site, began).await.is_err() || self.transact(site).await.is_err())
            {
                return;
            }
            let batch = if self.dice.one_in(4) { self.dice.size(2, 3) } else { 1 };
            let messages: Vec<_> = (0..batch).map(|_| (self.id(), self.body_size())).collect();
            let queue = u16::try_from(self.dice.below(QUEUES.into())).expect("a queue");
            let patience = if self.dice.one_in(24) { Patience::Leaves } else { Patience::Waits };
            if site.send(queue, &messages, patience).await.is_err() {
                return;
            }
            site.pause(self.dice.millis(site.tempo.pace)).await;
        }
    }

    /// Sometimes sends a message that comes later, and sometimes takes one back.
    async fn later(&mut self, site: &Site<impl Door>, began: Timestamp) -> Result<(), Over> {
        if self.dice.one_in(5) {
            let queue = u16::try_from(self.dice.below(QUEUES.into())).expect("a queue");
            let (message, size) = (self.id(), self.body_size());
            let after = self.dice.millis(u64::try_from(site.tempo.window.as_millis()).expect("short") * 2);
            let kept = site.send_delayed(queue, (message, size), after, began).await?;
            self.waiting.extend(kept.map(|id| (message, id)));
        }
        if !self.waiting.is_empty() && self.dice.one_in(10) {
            let which = self.dice.size(0, self.waiting.len() - 1);
            let (message, id) = self.waiting.swap_remove(which);
            site.recall(message, id).await?;
        }
        Ok(())
    }

    async fn transact(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        if self.dice.one_in(5) {
            let message = (self.id(), self.body_size());
            self.open.begin(&self.dice, site, message).await?;
        }
        self.open.end_some(&self.dice, site).await
    }

    /// Ends all transactions that may be open.
    pub async fn end_all(&mut self, site: &Site<impl Door>) {
        self.open.end_all(&self.dice, site).await;
    }

    /// Takes back whatever still waits, so that nobody has to wait for it: clocks may be far behind.
    pub async fn recall_all(&mut self, site: &Site<impl Door>) {
        for (message, id) in std::mem::take(&mut self.waiting) {
            while site.recall(message, id).await.is_ok_and(|answered| !answered) {
                tokio::time::sleep(site.tempo.window / 10).await;
            }
        }
    }

    fn id(&mut self) -> MessageId {
        self.next += 1;
        MessageId(self.next)
    }

    fn body_size(&self) -> usize {
        match (self.sizes, self.dice.below(16)) {
            (Sizes::Heavy, 0..=4) => self.dice.size(300 << 10, 2 << 20),
            (Sizes::Small, 0) => self.dice.size(600, 20 << 10),
            (Sizes::Mixed, 0) => self.dice.size(10 << 10, 300 << 10),
            (_, 1..=3) => self.dice.size(0, 16),
            (Sizes::Small, _) => self.dice.size(16, 400),
            (Sizes::Mixed | Sizes::Heavy, _) => self.dice.size(16, 2000),
        }
    }
}

/// What a consumer means to do with a message it holds.
#[derive(Copy, Clone)]
enum Intent {
    Ack,
    Change,
    Release,
    Forget,
}

struct Holding {
    delivery: Delivery,
    intent: Intent,
    due: Instant,
}

/// Receives, and settles in time, late or never.
pub struct Consumer {
    dice: Dice,
    group: u32,
    attempts: u64,
    /// The receive whose answer was lost, or pretended to be.
    again: Option<Receive>,
    holding: Vec<Holding>,
    /// One turn in so many, the group is let go on elsewhere.
    resets: Option<u64>,
}

impl Consumer {
    /// `number` is unique in the run: attempt ids are.
    pub fn new(dice: Dice, group: u32, number: u64) -> Consumer {
        Consumer { dice, group, attempts: number * 1_000_000, again: None, holding: Vec::new(), resets: None }
    }

    /// One turn in so many, somebody lets the group go on elsewhere.
    #[must_use]
    pub fn with_resets(self, one_in: u64) -> Consumer {
        Consumer { resets: Some(one_in), ..self }
    }

    /// Receives and settles until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        while !site.over.is_cancelled() && self.turn(site).await.is_ok() {
            site.pause(self.dice.millis(site.tempo.pace)).await;
        }
    }

    async fn turn(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        self.settle_due(site).await?;
        if self.resets.is_some_and(|one_in| self.dice.one_in(one_in)) {
            // One group skips nothing, so that somebody sees every message.
            let to = if self.group == 1 && self.dice.one_in(2) { ResetTo::Latest } else { ResetTo::Earliest };
            site.reset(self.group, to).await?;
        }
        if self.dice.one_in(8) {
            site.progress(self.group).await?;
        }
        if self.dice.one_in(3) {
            return Ok(());
        }
        let receive = self.next_receive(site.tempo.window);
        self.again = Some(receive).filter(|receive| receive.attempt_id.is_some());
        let patience = if self.dice.one_in(24) { Patience::Leaves } else { Patience::Waits };
        let messages = site.receive(receive, patience).await?;
        if patience == Patience::Waits && !self.dice.one_in(6) {
            self.again = None;
        }
        let now = Instant::now();
        for delivery in messages {
            let (intent, due) = (self.intent(), now + self.delay(site.tempo.window));
            self.holding.push(Holding { delivery, intent, due });
        }
        Ok(())
    }

    fn next_receive(&mut self, window: Duration) -> Receive {
        if let Some(again) = self.again.take().filter(|_| !self.dice.one_in(4)) {
            return again;
        }
        self.attempts += 1;
        let attempt_id = (!self.dice.one_in(3)).then_some(self.attempts);
        let invisible = if self.dice.one_in(2) { window } else { window * 7 / 5 };
        Receive { group: self.group, batch: self.dice.size(1, 6), attempt_id, invisible }
    }

    /// Does what is due. What was asked for and not answered is asked for again in the next life.
    async fn settle_due(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        let now = Instant::now();
        let mut rest = std::mem::take(&mut self.holding).into_iter();
        let mut outcome = Ok(());
        for mut holding in rest.by_ref() {
            if holding.due > now {
                self.holding.push(holding);
                continue;
            }
            outcome = self.settle(site, &mut holding).await;
            if outcome.is_err() || holding.due > now {
                self.holding.push(holding);
            }
            if outcome.is_err() {
                break;
            }
        }
        self.holding.extend(rest);
        outcome
    }

    async fn settle(&self, site: &Site<impl Door>, holding: &mut Holding) -> Result<(), Over> {
        match holding.intent {
            Intent::Ack if site.dead_letters(self.group).is_some() && self.dice.one_in(12) => {
                site.give_up(&holding.delivery).await?;
                if self.dice.one_in(4) {
                    site.ack(&holding.delivery).await?;
                }
            }
            Intent::Ack => {
                site.ack(&holding.delivery).await?;
                if self.dice.one_in(8) {
                    site.ack(&holding.delivery).await?;
                }
            }
            Intent::Change => {
                let after = if self.dice.one_in(3) { Duration::ZERO } else { self.below(site.tempo.window * 2) };
                site.change(&holding.delivery, after).await?;
                holding.intent = self.intent();
                holding.due += Duration::from_millis(1) + self.delay(site.tempo.window);
            }
            Intent::Release => site.release(&holding.delivery),
            Intent::Forget => {}
        }
        Ok(())
    }

    fn intent(&self) -> Intent {
        match self.dice.below(16) {
            0..=10 => Intent::Ack,
            11..=13 => Intent::Change,
            14 => Intent::Release,
            _ => Intent::Forget,
        }
    }

    fn delay(&self, window: Duration) -> Duration {
        match self.dice.below(4) {
            0 | 1 => Duration::ZERO,
            2 => self.below(window * 9 / 10),
            _ => self.below(window * 2),
        }
    }

    /// Whole milliseconds below `end`.
    fn below(&self, end: Duration) -> Duration {
        self.dice.millis(u64::try_from(end.as_millis()).expect("windows are short"))
    }
}
