//! The engine against a model that fits on a page: random requests, the same answers.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::store::{DeliveryKey, Pop, ResetTo, Settled, Settlement};
use apogee_model::{InvisibleDuration, QueueId, QueueOffset};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{CASES, Store};
use crate::words::{dead, dead_letters, receive};

#[derive(Clone, Debug)]
enum Step {
    Send { queue: u16 },
    Pop { batch: usize, attempt_id: Option<u8>, dead_after: Option<u32> },
    GiveUp { which: usize },
    Ack { which: usize },
    Change { which: usize, seconds: u64 },
    Release { which: usize },
    Reset { queue: u16, to: u64 },
    Wait { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u16..4).prop_map(|queue| Step::Send { queue }),
        4 => (1usize..5, prop::option::weighted(0.2, 0u8..3), prop::option::weighted(0.4, 1u32..4))
            .prop_map(|(batch, attempt_id, dead_after)| Step::Pop { batch, attempt_id, dead_after }),
        1 => any::<usize>().prop_map(|which| Step::GiveUp { which }),
        4 => any::<usize>().prop_map(|which| Step::Ack { which }),
        2 => (any::<usize>(), 0u64..20).prop_map(|(which, seconds)| Step::Change { which, seconds }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (0u16..4, 0u64..6).prop_map(|(queue, to)| Step::Reset { queue, to }),
        2 => (1u64..15).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// What a message is to the group.
#[derive(Copy, Clone, Debug)]
struct Held {
    key: Option<DeliveryKey>,
    attempts: u32,
    visible_at: Instant,
    attempt_id: Option<u8>,
    /// Given twice to the same receive: it may be in a consumer's hands, and is not released any more.
    replayed: bool,
}

#[derive(Default)]
struct Model {
    unsettled: BTreeMap<String, Held>,
    /// Every delivery ever made, the newest last.
    deliveries: Vec<(String, DeliveryKey)>,
    sent: usize,
    /// The bodies of each queue.
    stored: BTreeMap<u16, Vec<String>>,
    /// The dead letters, in order.
    dead: Vec<String>,
}

impl Held {
    fn fresh() -> Self {
        Self { key: None, attempts: 0, visible_at: Instant::now(), attempt_id: None, replayed: false }
    }
}

impl Model {
    fn available(&self) -> Vec<&String> {
        let now = Instant::now();
        self.unsettled.iter().filter(|(_, held)| held.visible_at <= now).map(|(body, _)| body).collect()
    }

    /// Those that nobody holds and that were delivered often enough.
    fn used_up(&self, dead_after: Option<u32>) -> Vec<String> {
        let used_up = |body: &&String| dead_after.is_some_and(|max| self.unsettled[*body].attempts >= max);
        self.available().into_iter().filter(used_up).cloned().collect()
    }

    fn replayable(&self, attempt_id: u8) -> BTreeMap<String, DeliveryKey> {
        let same = self.unsettled.iter().filter(|(_, held)| held.attempt_id == Some(attempt_id));
        same.filter_map(|(body, held)| Some((body.clone(), held.key?))).collect()
    }

    /// The delivery a step is about, and whether it is the newest of its message.
    fn pick(&self, which: usize) -> Option<(String, DeliveryKey, bool)> {
        let (body, key) = self.deliveries.get(which.checked_rem(self.deliveries.len())?)?;
        let newest = self.unsettled.get(body).is_some_and(|held| held.key == Some(*key));
        Some((body.clone(), *key, newest))
    }
}

async fn run(steps: Vec<Step>) {
    let (mut store, mut model) = (Store::tiny().await, Model::default());
    for step in steps {
        match step {
            Step::Send { queue } => {
                let body = format!("{:05}", model.sent);
                model.sent += 1;
                store.send(queue, "", &body).await;
                model.stored.entry(queue).or_default().push(body.clone());
                model.unsettled.insert(body, Held::fresh());
            }
            Step::Pop { batch, attempt_id, dead_after } => pop(&store, &mut model, batch, attempt_id, dead_after).await,
            Step::GiveUp { which } => {
                let Some((body, key, newest)) = model.pick(which) else { continue };
                let expected =
                    if newest || !model.unsettled.contains_key(&body) { Settled::Done } else { Settled::Stale };
                let given_up = store.engine.settle(key, Settlement::DeadLetter(dead_letters(9))).await;
                assert_eq!(given_up, Ok(expected), "giving up on {body}");
                if newest {
                    model.unsettled.remove(&body);
                    model.dead.push(body);
                }
                assert_eq!(dead(&store).await, model.dead);
            }
            Step::Ack { which } => {
                let Some((body, key, newest)) = model.pick(which) else { continue };
                let expected =
                    if newest || !model.unsettled.contains_key(&body) { Settled::Done } else { Settled::Stale };
                assert_eq!(store.ack(key).await, expected, "ack of {body}");
                if newest {
                    model.unsettled.remove(&body);
                }
            }
            Step::Change { which, seconds } => {
                let Some((body, key, newest)) = model.pick(which) else { continue };
                let span = Duration::from_secs(seconds);
                let change = Settlement::Change(InvisibleDuration::for_change(span).expect("in range"));
                let settled = !model.unsettled.contains_key(&body);
                let expected = if newest || settled { Settled::Done } else { Settled::Stale };
                assert_eq!(store.engine.settle(key, change).await, Ok(expected), "change of {body}");
                if let Some(held) = model.unsettled.get_mut(&body).filter(|_| newest) {
                    held.visible_at = Instant::now() + span;
                }
            }
            Step::Release { which } => {
                let Some((body, key, newest)) = model.pick(which) else { continue };
                store.engine.release(vec![key]);
                store
                    .engine
                    .settle(DeliveryKey { offset: apogee_model::QueueOffset(9999), ..key }, Settlement::Ack)
                    .await
                    .ok();
                if let Some(held) = model.unsettled.get_mut(&body).filter(|held| newest && !held.replayed) {
                    (held.visible_at, held.attempt_id) = (Instant::now(), None);
                    held.attempts = held.attempts.saturating_sub(1);
                }
            }
            Step::Reset { queue, to } => {
                let Some(bodies) = model.stored.get(&queue) else { continue };
                let to = to.min(u64::try_from(bodies.len()).expect("a few"));
                let rows = store.reset(ResetTo::Offsets([(QueueId(queue), QueueOffset(to))].into())).await;
                assert_eq!(rows.iter().map(|row| row.after.0).collect::<Vec<_>>(), [to]);
                for (body, offset) in bodies.iter().zip(0..) {
                    match offset < to {
                        true => drop(model.unsettled.remove(body)),
                        false => drop(model.unsettled.insert(body.clone(), Held::fresh())),
                    }
                }
            }
            Step::Wait { seconds } => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::Restart => {
                store = store.restart().await;
                // A restart may prolong a lease, by its whole duration at most.
                tokio::time::sleep(Duration::from_secs(20)).await;
                let now = Instant::now();
                model.unsettled.values_mut().for_each(|held| held.visible_at = held.visible_at.min(now));
            }
        }
    }
}

async fn pop(store: &Store, model: &mut Model, batch: usize, attempt_id: Option<u8>, dead_after: Option<u32>) {
    let replay = attempt_id.map(|id| model.replayable(id)).unwrap_or_default();
    let attempt = attempt_id.map(|id| Bytes::copy_from_slice(&[b'a' + id]));
    let ask = Pop { attempt_id: attempt, dead_letters: dead_after.map(dead_letters), ..receive(batch) };
    let used_up = model.used_up(dead_after);
    let got = store.pop(ask).await;
    let visible_at = Instant::now() + Duration::from_secs(10);
    if replay.is_empty() {
        let buried = dead(store).await.split_off(model.dead.len());
        assert!(buried.iter().all(|body| used_up.contains(body)), "{buried:?} of {used_up:?}");
        assert!(got.len() == batch || buried.len() == used_up.len(), "a pop that finds less buries all that is dead");
        model.unsettled.retain(|body, _| !buried.contains(body));
        model.dead.extend(buried);
        let available: Vec<_> = model.available().into_iter().filter(|body| !used_up.contains(body)).collect();
        assert!(got.iter().all(|(body, _, _)| available.contains(&body)), "{got:?} of {available:?}");
        assert_eq!(got.len(), available.len().min(batch), "everything available is given");
    } else {
        let given: BTreeMap<_, _> = got.iter().map(|(body, _, key)| (body.clone(), *key)).collect();
        assert_eq!(given, replay, "the same batch, the same deliveries");
    }
    for (body, attempt, key) in got {
        let held = model.unsettled.get_mut(&body).expect("what is settled never comes again");
        held.attempts += u32::from(replay.is_empty());
        assert_eq!(attempt, held.attempts, "attempts of {body}");
        (held.key, held.visible_at, held.attempt_id) = (Some(key), visible_at, attempt_id);
        held.replayed = !replay.is_empty();
        model.deliveries.push((body, key));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_engine_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(steps));
    }
}
