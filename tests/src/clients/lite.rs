//! Clients that are subscribed to lite topics. Of one lite topic all messages are in order.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::store::{
    Append, Delivery, LeaseTerms, LiteChange, LiteName, LiteStart, LiteSubscribed, LiteSubscription, LiteTerms, Pop,
    Popped, RequestId,
};
use apogee_model::{ClientId, DeliveryOrder, Filter, InvisibleDuration, QueueId};
use tokio::time::Instant;

use super::payload::{self, LITE};
use super::site::{millis, name, outcome, over};
use super::{Dice, Door, NoAnswer, Over, Patience, Site};
use crate::history::{Delivered, MessageId, Name, Outcome, What};

/// Messages to a lite topic carry ids of this many apart: such ids are in no message group.
const APART: u64 = 4;
/// Subscriptions of a client that are never too many.
const CLIENT_MAX: usize = 100;
/// Ids of the last messages begin here.
const DRAIN: u64 = 950_000_000;

/// Sends to lite topics, which come into being by it.
pub struct LiteProducer {
    dice: Dice,
    next: u64,
}

impl LiteProducer {
    /// `number` is unique in the run: message ids are.
    pub fn new(dice: Dice, number: u64) -> LiteProducer {
        LiteProducer { dice, next: number * 1_000_000 }
    }

    /// Sends until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        while !site.over.is_cancelled() {
            self.next += APART;
            let patience = if self.dice.one_in(24) { Patience::Leaves } else { Patience::Waits };
            if site.send_lite((MessageId(self.next), self.dice.size(0, 300)), patience).await.is_err() {
                return;
            }
            site.pause(self.dice.millis(site.tempo.pace * 2)).await;
        }
    }
}

/// Subscribes, receives, and acks what it got, some of it late or never.
pub struct LiteConsumer {
    dice: Dice,
    client: ClientId,
    attempts: u64,
    holding: Vec<(Delivery, Instant)>,
}

impl LiteConsumer {
    /// `number` is unique in the run: client ids and attempt ids are.
    pub fn new(dice: Dice, number: u64) -> LiteConsumer {
        let client = ClientId::parse(&format!("lite-{number}")).expect("not blank");
        LiteConsumer { dice, client, attempts: number * 1_000_000, holding: Vec::new() }
    }

    /// Receives and acks until it is over.
    pub async fn run(&mut self, site: &Site<impl Door>) {
        site.tell_lite_order();
        while !site.over.is_cancelled() && self.turn(site).await.is_ok() {
            site.pause(self.dice.millis(site.tempo.pace)).await;
        }
    }

    async fn turn(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        let now = Instant::now();
        let (due, rest) = std::mem::take(&mut self.holding).into_iter().partition(|(_, due)| *due <= now);
        self.holding = rest;
        for (delivery, _) in due {
            site.ack(&delivery).await?;
        }
        match self.dice.below(12) {
            0 | 1 => site.subscribe(&self.client, LiteChange::Complete, payload::lite_names()).await.map(drop),
            2 => {
                let change = if self.dice.one_in(2) { LiteChange::Add } else { LiteChange::Remove };
                let names = payload::lite_names().into_iter().filter(|_| self.dice.one_in(2)).collect();
                site.subscribe(&self.client, change, names).await.map(drop)
            }
            _ => self.receive(site).await,
        }
    }

    async fn receive(&mut self, site: &Site<impl Door>) -> Result<(), Over> {
        self.attempts += u64::from(!self.dice.one_in(4));
        let attempt_id = Some(self.attempts).filter(|_| !self.dice.one_in(3));
        let (batch, window) = (self.dice.size(1, 6), site.tempo.window);
        for delivery in site.receive_lite(&self.client, batch, attempt_id, window).await? {
            let ack_after = match self.dice.below(8) {
                0 => window * 2,
                1 => window / 2,
                _ => Duration::ZERO,
            };
            if !self.dice.one_in(16) {
                self.holding.push((delivery, Instant::now() + ack_after));
            }
        }
        Ok(())
    }
}

impl<D: Door> Site<D> {
    /// Sends a message to every lite topic, then receives and acks until nothing is left.
    pub async fn drain_lites(&self) {
        let (client, mut next) = (ClientId::parse("lite-drain").expect("not blank"), DRAIN);
        for _ in payload::lite_names() {
            loop {
                next += APART;
                if let Ok(true) = self.send_lite((MessageId(next), 40), Patience::Waits).await {
                    break;
                }
            }
        }
        loop {
            let subscribed = self.subscribe(&client, LiteChange::Complete, payload::lite_names()).await;
            let received = self.receive_lite(&client, 32, None, self.tempo.window).await;
            for delivery in received.into_iter().flatten() {
                // What is not acked comes again.
                let _answered = self.ack(&delivery).await;
            }
            let status = self.door.group_status(payload::group(LITE).id).await;
            let unsettled = status.map(|all| all.iter().map(|queue| queue.max.0 - queue.floor.0).sum::<u64>());
            if matches!((subscribed, unsettled), (Ok(true), Ok(0))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Notes that lite topics are in order.
    fn tell_lite_order(&self) {
        self.history.end(self.history.start(), What::InOrder { group: name(LITE) });
    }

    /// Sends a message to its lite topic; says whether that is certain.
    async fn send_lite(&self, (message, size): (MessageId, usize), patience: Patience) -> Result<bool, Over> {
        let stored = payload::message(message, size);
        let digest = payload::digest_of(&stored);
        let append = Append {
            topic: payload::sessions(),
            queue: QueueId(0),
            message: stored,
            request: RequestId { proxy_incarnation: 1, sequence: message.0 },
            due: None,
            half: None,
            lite: Some(LiteName { name: payload::lite_name(message), expiration: None }),
            indexed: true,
            epoch: 0,
        };
        let start = self.history.start();
        let answer = self.patiently(self.door.append(vec![append]), patience).await;
        let appended = answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|all| all[0]);
        let place = appended.map(|appended| payload::lite_place(message, appended.offset.0));
        let (topic, outcome) = (payload::lite_topic(message), outcome(&answer));
        self.history.end(start, What::Send { message, topic, digest, place, outcome });
        over(&answer)?;
        Ok(outcome == Outcome::Ok)
    }

    /// Says whether that was done. A group begins with a lite topic when its first client subscribes, so this is noted as a
    /// receive that found nothing.
    async fn subscribe(&self, client: &ClientId, change: LiteChange, names: Vec<Box<str>>) -> Result<bool, Over> {
        let terms = LiteTerms {
            exclusive: false,
            reset_on_takeover: false,
            reset_on_unsubscribe: false,
            client_max: CLIENT_MAX,
            expiration: None,
        };
        let (group, topic, client) = (payload::group(LITE), payload::sessions(), client.clone());
        let begins = if change == LiteChange::Remove { Vec::new() } else { names.clone() };
        let subscription = LiteSubscription { group, topic, client, change, names, from: LiteStart::Last, terms };
        let start = self.history.start();
        match self.door.lite_subscribe(subscription).await {
            Ok(LiteSubscribed::Done) => {
                let (attempt_id, invisible, outcome) = (None, self.tempo.window, Outcome::Ok);
                let notes = begins.iter().map(|lite| {
                    let (group, topic, deliveries) = (name(LITE), payload::lite_topic_of(lite), Vec::new());
                    What::Receive { group, topic, attempt_id, invisible, deliveries, outcome }
                });
                self.history.end_all(start, notes);
                Ok(true)
            }
            Ok(LiteSubscribed::TooManySubscriptions { .. } | LiteSubscribed::TooManyTopics { .. }) => Ok(false),
            Err(NoAnswer::Over) => Err(Over),
            Err(NoAnswer::Refused | NoAnswer::Unknown) => Ok(false),
        }
    }

    /// Receives, and notes it once for each lite topic.
    async fn receive_lite(
        &self,
        client: &ClientId,
        batch: usize,
        attempt_id: Option<u64>,
        invisible: Duration,
    ) -> Result<Vec<Delivery>, Over> {
        let pop = Pop {
            group: payload::group(LITE),
            topic: payload::sessions(),
            filter: Filter::default(),
            batch,
            lease: LeaseTerms::Fixed(InvisibleDuration::from_millis(millis(invisible))),
            attempt_id: attempt_id.map(payload::attempt_id),
            client: client.clone(),
            dead_letters: None,
            order: DeliveryOrder::Fifo,
            priority: None,
            lite: true,
        };
        let start = self.history.start();
        let answer = Some(self.door.pop(pop).await);
        let outcome = outcome(&answer);
        let messages = match &answer {
            Some(Ok(Popped { messages, .. })) => messages.clone(),
            Some(Err(_)) | None => Vec::new(),
        };
        let mut topics: BTreeMap<Name, Vec<Delivered>> = BTreeMap::new();
        // An empty answer says nothing: nobody knows here what the client is subscribed to.
        if outcome == Outcome::Indeterminate {
            topics.extend(payload::lite_topics().map(|topic| (topic, Vec::new())));
        }
        for delivery in messages.iter().map(payload::delivered) {
            topics.entry(delivery.place.topic.clone()).or_default().push(delivery);
        }
        let notes = topics.into_iter().map(|(topic, deliveries)| {
            let group = name(LITE);
            What::Receive { group, topic, attempt_id, invisible, deliveries, outcome }
        });
        self.history.end_all(start, notes);
        over(&answer)?;
        Ok(messages)
    }
}
