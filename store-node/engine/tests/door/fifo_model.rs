//! Ordered pops against a model that fits on a page: random requests; per message group nothing overtakes, nothing is out
//! twice, and nothing that is free is kept back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apogee_model::store::{DeliveryKey, LeaseTerms, Pop, ResetTo, Settled, Settlement};
use apogee_model::{InvisibleDuration, QueueId, QueueOffset};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{CASES, Store};
use crate::words::in_order;

#[derive(Clone, Debug)]
enum Step {
    Send { queue: u16, group: usize },
    Pop { batch: usize, push: bool, attempt_id: Option<u8> },
    Ack { which: usize },
    Change { which: usize, seconds: u64 },
    Release { which: usize },
    Reset { queue: u16, to: u64 },
    Wait { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let attempt_id = prop::option::weighted(0.3, 0u8..3);
    prop_oneof![
        6 => (0u16..2, 0usize..4).prop_map(|(queue, group)| Step::Send { queue, group }),
        6 => (1usize..5, prop::bool::weighted(0.3), attempt_id)
            .prop_map(|(batch, push, attempt_id)| Step::Pop { batch, push, attempt_id }),
        5 => any::<usize>().prop_map(|which| Step::Ack { which }),
        2 => (any::<usize>(), 0u64..20).prop_map(|(which, seconds)| Step::Change { which, seconds }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (0u16..2, 0u64..6).prop_map(|(queue, to)| Step::Reset { queue, to }),
        2 => (1u64..15).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// Queue and name of a message group.
type Line = (u16, &'static str);
type Place = (u16, u64);

const GROUPS: [&str; 4] = ["", "a", "b", "c"];

#[derive(Clone, Debug)]
struct Message {
    line: Line,
    settled: bool,
    key: Option<DeliveryKey>,
    attempts: u32,
    out_until: Instant,
    attempt_id: Option<u8>,
    /// Given twice to the same receive: not released any more.
    replayed: bool,
    /// Its newest delivery is to a push consumer that asked for no rest yet.
    auto_renew: bool,
}

#[derive(Default)]
struct Model {
    messages: BTreeMap<Place, Message>,
    /// Every delivery ever made, the newest last.
    deliveries: Vec<(Place, DeliveryKey)>,
    /// Receives of this life of the store that were no other try.
    turns: u64,
}

impl Model {
    fn line(&self, line: Line) -> impl Iterator<Item = (Place, &Message)> {
        let same = move |(_, message): &(&Place, &Message)| message.line == line && !message.settled;
        self.messages.iter().filter(same).map(|(place, message)| (*place, message))
    }

    fn is_free(&self, line: Line) -> bool {
        let now = Instant::now();
        self.line(line).all(|(_, message)| message.out_until <= now)
    }

    fn lines(&self) -> BTreeSet<Line> {
        self.messages.values().filter(|message| !message.settled).map(|message| message.line).collect()
    }

    /// How many messages an unlimited receive would get.
    fn free(&self) -> usize {
        self.lines().into_iter().filter(|line| self.is_free(*line)).map(|line| self.line(line).count()).sum()
    }

    /// What a receive that is tried again gets: of each message group the earliest ones, unless somebody else has others.
    fn replayable(&self, attempt_id: u8) -> Vec<Place> {
        let now = Instant::now();
        let same = |message: &Message| message.attempt_id == Some(attempt_id);
        let mut all = Vec::new();
        for line in self.lines() {
            if self.line(line).all(|(_, message)| same(message) || message.out_until <= now) {
                all.extend(self.line(line).take_while(|(_, message)| same(message)).map(|(place, _)| place));
            }
        }
        all.sort_unstable();
        all
    }

    fn pick(&self, which: usize) -> Option<(Place, DeliveryKey, bool)> {
        let (place, key) = *self.deliveries.get(which.checked_rem(self.deliveries.len())?)?;
        let message = &self.messages[&place];
        Some((place, key, !message.settled && message.key == Some(key)))
    }

    fn message(&mut self, place: Place) -> &mut Message {
        self.messages.get_mut(&place).expect("it was sent")
    }
}

async fn run(steps: Vec<Step>) {
    let (mut store, mut model) = (Store::tiny().await, Model::default());
    for step in steps {
        match step {
            Step::Send { queue, group } => {
                let QueueOffset(offset) = store.send_in(queue, GROUPS[group], "body").await;
                let line = (queue, GROUPS[group]);
                model.messages.insert((queue, offset), fresh(line));
            }
            Step::Pop { batch, push, attempt_id } => pop(&store, &mut model, batch, push, attempt_id).await,
            Step::Ack { which } => {
                let Some((place, key, newest)) = model.pick(which) else { continue };
                let message = model.message(place);
                let expected = if newest || message.settled { Settled::Done } else { Settled::Stale };
                message.settled |= newest;
                assert_eq!(store.ack(key).await, expected, "ack of {place:?}");
            }
            Step::Change { which, seconds } => {
                let Some((place, key, newest)) = model.pick(which) else { continue };
                let span = Duration::from_secs(seconds);
                let change = Settlement::Change(InvisibleDuration::for_change(span).expect("in range"));
                let settled = model.message(place).settled;
                let expected = if newest || settled { Settled::Done } else { Settled::Stale };
                assert_eq!(store.engine.settle(key, change).await, Ok(expected), "change of {place:?}");
                if newest {
                    let message = model.message(place);
                    message.out_until = Instant::now() + span;
                    message.auto_renew = false;
                }
            }
            Step::Release { which } => {
                let Some((place, key, newest)) = model.pick(which) else { continue };
                store.engine.release(vec![key]);
                let nothing = DeliveryKey { offset: QueueOffset(9999), ..key };
                store.engine.settle(nothing, Settlement::Ack).await.ok();
                let message = model.message(place);
                if newest && !message.replayed {
                    (message.out_until, message.attempt_id, message.auto_renew) = (Instant::now(), None, false);
                    message.attempts = message.attempts.saturating_sub(1);
                }
            }
            Step::Reset { queue, to } => {
                let stored = model.messages.keys().filter(|(of, _)| *of == queue).count();
                if stored == 0 {
                    continue;
                }
                let to = to.min(u64::try_from(stored).expect("a few"));
                store.reset(ResetTo::Offsets([(QueueId(queue), QueueOffset(to))].into())).await;
                for ((of, offset), message) in &mut model.messages {
                    if *of == queue {
                        *message = Message { settled: *offset < to, ..fresh(message.line) };
                    }
                }
            }
            Step::Wait { seconds } => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::Restart => {
                store = store.restart().await;
                model.turns = 0;
                // A restart may prolong a lease, by its whole duration at most.
                tokio::time::sleep(Duration::from_secs(61)).await;
                let now = Instant::now();
                model.messages.values_mut().for_each(|message| message.out_until = message.out_until.min(now));
            }
        }
    }
}

fn fresh(line: Line) -> Message {
    Message {
        line,
        settled: false,
        key: None,
        attempts: 0,
        out_until: Instant::now(),
        attempt_id: None,
        replayed: false,
        auto_renew: false,
    }
}

async fn pop(store: &Store, model: &mut Model, batch: usize, push: bool, attempt_id: Option<u8>) {
    let replay = attempt_id.map(|id| model.replayable(id)).unwrap_or_default();
    let lease = if push { LeaseTerms::AutoRenew } else { in_order(batch).lease };
    let attempt = attempt_id.map(|id| Bytes::copy_from_slice(&[b'a' + id]));
    let got = store.pop(Pop { attempt_id: attempt, lease, ..in_order(batch) }).await;
    let places: Vec<Place> = got.iter().map(|(_, _, key)| (key.queue.0, key.offset.0)).collect();
    if replay.is_empty() {
        model.turns += 1;
        judge(model, &places, batch, push);
    } else {
        assert_eq!(places, replay, "the same batch");
    }
    let out_until = Instant::now() + Duration::from_secs(if push { 60 } else { 10 });
    for ((_, attempt, key), place) in got.into_iter().zip(places) {
        let message = model.message(place);
        assert!(!message.settled, "{place:?} was settled");
        if replay.is_empty() {
            message.attempts += 1;
        } else {
            assert_eq!(Some(key), message.key, "the same delivery");
        }
        assert_eq!(attempt, message.attempts, "attempts of {place:?}");
        (message.key, message.out_until, message.attempt_id) = (Some(key), out_until, attempt_id);
        message.replayed = !replay.is_empty();
        message.auto_renew = if replay.is_empty() { push } else { message.auto_renew };
        model.deliveries.push((place, key));
    }
}

/// What a receive got that is no other try.
fn judge(model: &Model, places: &[Place], batch: usize, push: bool) {
    let mut lines: BTreeMap<Line, Vec<Place>> = BTreeMap::new();
    places.iter().for_each(|place| lines.entry(model.messages[place].line).or_default().push(*place));
    for (line, given) in &lines {
        assert!(model.is_free(*line), "{line:?} is locked and gave {given:?}");
        let earliest: Vec<_> = model.line(*line).map(|(place, _)| place).take(given.len()).collect();
        assert_eq!(*given, earliest, "in the order of {line:?}");
    }
    if push {
        assert!(lines.len() <= 1, "one message group for a push consumer: {lines:?}");
    }
    assert_eq!(places.is_empty(), model.free() == 0, "something that is free is given");
    // Every fifth receive looks at new messages first, and leaves those whose message group is not new.
    if !push && !model.turns.is_multiple_of(5) {
        assert_eq!(places.len(), model.free().min(batch), "everything that is free is given");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn message_groups_never_overtake_and_never_get_stuck(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(steps));
    }
}
