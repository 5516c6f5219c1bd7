//! Producers and consumers with all the habits of real ones. They survive the engine's lives, as clients do.

use std::time::Duration;

use apogee_model::store::Delivery;
use apogee_tests::history::MessageId;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::payload::QUEUES;
use crate::site::{Over, Patience, Receive, Site};

/// Sends messages of ascending ids.
pub(crate) struct Producer {
    dice: Dice,
    next: u64,
    /// Whether large bodies are common, so that segments fill up.
    heavy: bool,
}

impl Producer {
    pub(crate) fn new(dice: Dice, number: u64, heavy: bool) -> Producer {
        Producer { dice, next: number * 1_000_000, heavy }
    }

    /// Sends until the life of the engine is over.
    pub(crate) async fn run(&mut self, site: &Site) {
        while !site.over.is_cancelled() {
            let batch = if self.dice.one_in(4) { self.dice.size(2, 3) } else { 1 };
            let messages: Vec<_> = (0..batch).map(|_| (self.id(), self.body_size())).collect();
            let queue = u16::try_from(self.dice.below(QUEUES.into())).expect("a queue");
            let patience = if self.dice.one_in(24) { Patience::Leaves } else { Patience::Waits };
            if site.send(queue, &messages, patience).await.is_err() {
                return;
            }
            site.pause(self.dice.millis(site.pace)).await;
        }
    }

    fn id(&mut self) -> MessageId {
        self.next += 1;
        MessageId(self.next)
    }

    fn body_size(&self) -> usize {
        match self.dice.below(16) {
            0..=4 if self.heavy => self.dice.size(300 << 10, 2 << 20),
            0 => self.dice.size(10 << 10, 300 << 10),
            1..=3 => self.dice.size(0, 16),
            _ => self.dice.size(16, 2000),
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
pub(crate) struct Consumer {
    dice: Dice,
    group: u32,
    attempts: u64,
    /// The receive whose answer was lost, or pretended to be.
    again: Option<Receive>,
    holding: Vec<Holding>,
}

impl Consumer {
    /// `number` is unique in the run: attempt ids are.
    pub(crate) fn new(dice: Dice, group: u32, number: u64) -> Consumer {
        Consumer { dice, group, attempts: number * 1_000_000, again: None, holding: Vec::new() }
    }

    /// Receives and settles until the life of the engine is over.
    pub(crate) async fn run(&mut self, site: &Site) {
        while !site.over.is_cancelled() && self.turn(site).await.is_ok() {
            site.pause(self.dice.millis(site.pace)).await;
        }
    }

    async fn turn(&mut self, site: &Site) -> Result<(), Over> {
        self.settle_due(site).await?;
        if self.dice.one_in(8) {
            site.progress(self.group).await?;
        }
        if self.dice.one_in(3) {
            return Ok(());
        }
        let receive = self.next_receive();
        self.again = Some(receive).filter(|receive| receive.attempt_id.is_some());
        let patience = if self.dice.one_in(24) { Patience::Leaves } else { Patience::Waits };
        let messages = site.receive(receive, patience).await?;
        if patience == Patience::Waits && !self.dice.one_in(6) {
            self.again = None;
        }
        let now = Instant::now();
        for delivery in messages {
            let (intent, due) = (self.intent(), now + self.delay());
            self.holding.push(Holding { delivery, intent, due });
        }
        Ok(())
    }

    fn next_receive(&mut self) -> Receive {
        if let Some(again) = self.again.take().filter(|_| !self.dice.one_in(4)) {
            return again;
        }
        self.attempts += 1;
        let attempt_id = (!self.dice.one_in(3)).then_some(self.attempts);
        let invisible = Duration::from_secs(10) + self.dice.millis(2) * 4000;
        Receive { group: self.group, batch: self.dice.size(1, 6), attempt_id, invisible }
    }

    /// Does what is due. What was asked for and not answered is asked for again in the next life.
    async fn settle_due(&mut self, site: &Site) -> Result<(), Over> {
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

    async fn settle(&self, site: &Site, holding: &mut Holding) -> Result<(), Over> {
        match holding.intent {
            Intent::Ack => {
                site.ack(&holding.delivery).await?;
                if self.dice.one_in(8) {
                    site.ack(&holding.delivery).await?;
                }
            }
            Intent::Change => {
                let after = if self.dice.one_in(3) { Duration::ZERO } else { self.dice.millis(20_000) };
                site.change(&holding.delivery, after).await?;
                holding.intent = self.intent();
                holding.due += Duration::from_millis(1) + self.delay();
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

    fn delay(&self) -> Duration {
        match self.dice.below(4) {
            0 | 1 => Duration::ZERO,
            2 => self.dice.millis(9000),
            _ => self.dice.millis(20_000),
        }
    }
}
