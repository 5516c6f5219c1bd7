//! Pops from a topic whose queues are levels.

use std::cmp::Reverse;
use std::time::Duration;

use apogee_model::store::{DeliveryKey, Pop};
use apogee_model::{Filter, PriorityFactor, QueueOffset, TagFilter};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{Store, TEN_SECONDS};
use crate::words::{dead, dead_letters, receive};

/// With so many percent that begin at the highest level.
fn urgent(percent: u32, batch: usize) -> Pop {
    Pop { priority: PriorityFactor::new(percent).ok(), ..receive(batch) }
}

/// How many messages of each level so many pops of one message bring, when there are enough of each.
async fn shares(percent: u32, pops: usize) -> [usize; 4] {
    let store = Store::new().await;
    for level in 0..4 {
        for _ in 0..pops {
            store.send(level, "", &level.to_string()).await;
        }
    }
    let mut shares = [0; 4];
    for _ in 0..pops {
        let got = store.pop(urgent(percent, 1)).await;
        shares[usize::from(got[0].2.queue.0)] += 1;
        store.ack(got[0].2).await;
    }
    shares
}

#[tokio::test(start_paused = true)]
async fn a_factor_leaves_low_levels_their_share() {
    assert_eq!(shares(100, 40).await, [0, 0, 0, 40]);
    assert_eq!(shares(0, 40).await, [10, 10, 10, 10]);
    assert_eq!(shares(50, 40).await, [5, 5, 5, 25]);
    assert_eq!(shares(80, 40).await, [2, 2, 2, 34]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_keeps_its_level() {
    let store = Store::new().await;
    for (level, body) in [(1, "low"), (3, "high")] {
        store.send(level, "", body).await;
    }
    assert_eq!(store.bodies(urgent(100, 32)).await, ["high", "low"]);
    tokio::time::sleep(TEN_SECONDS).await;
    for (level, body) in [(0, "new lowest"), (2, "new"), (3, "new high")] {
        store.send(level, "", body).await;
    }
    let again: Vec<_> =
        store.pop(urgent(100, 32)).await.into_iter().map(|(body, attempt, _)| (body, attempt)).collect();
    let wanted = [("high", 2), ("new high", 1), ("new", 1), ("low", 2), ("new lowest", 1)];
    assert_eq!(again, wanted.map(|(body, attempt)| (body.to_owned(), attempt)));
}

#[tokio::test(start_paused = true)]
async fn a_replayed_batch_is_in_the_same_order() {
    let store = Store::new().await;
    for (level, body) in [(0, "a"), (2, "b"), (1, "c"), (2, "d")] {
        store.send(level, "", body).await;
    }
    let attempt = || Pop { attempt_id: Some(Bytes::from_static(b"one")), ..urgent(100, 3) };
    let first = store.pop(attempt()).await;
    assert_eq!(first.iter().map(|(body, _, _)| &**body).collect::<Vec<_>>(), ["b", "d", "c"]);
    assert_eq!(store.pop(attempt()).await, first);
}

#[tokio::test(start_paused = true)]
async fn the_dead_of_a_high_level_do_not_hold_back_the_others() {
    let store = Store::new().await;
    for (level, body) in [(3, "dying"), (0, "low")] {
        store.send(level, "", body).await;
    }
    let once = || Pop { dead_letters: Some(dead_letters(1)), ..urgent(100, 1) };
    assert_eq!(store.bodies(once()).await, ["dying"]);
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.bodies(once()).await, ["low"]);
    assert_eq!(dead(&store).await, ["dying"]);
}

#[derive(Clone, Debug)]
enum Step {
    Send { level: u16, wanted: bool },
    Pop { batch: usize },
    Ack { which: usize },
    Release { which: usize },
    Wait { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u16..4, prop::bool::weighted(0.7)).prop_map(|(level, wanted)| Step::Send { level, wanted }),
        5 => (1usize..6).prop_map(|batch| Step::Pop { batch }),
        3 => any::<usize>().prop_map(|which| Step::Ack { which }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        2 => (1u64..15).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let tag = Filter::Tags(TagFilter::parse("a").expect("a good filter"));
    prop_oneof![Just(Filter::default()), Just(tag), Just(Filter::sql("TAGS = 'a'").expect("a good expression"))]
}

/// A message that is not settled and that the filter wants.
struct Message {
    level: u16,
    body: String,
    key: Option<DeliveryKey>,
    out_until: Instant,
}

/// Every pop brings the most urgent of all that is there, in order.
async fn run(filter: Filter, steps: Vec<Step>) {
    let (mut store, mut unsettled, mut sent) = (Store::tiny().await, Vec::<Message>::new(), 0);
    for step in steps {
        match step {
            Step::Send { level, wanted } => {
                let body = format!("{sent:05}");
                sent += 1;
                store.send(level, if wanted { "a" } else { "b" }, &body).await;
                if wanted || filter == Filter::default() {
                    unsettled.push(Message { level, body, key: None, out_until: Instant::now() });
                }
            }
            Step::Pop { batch } => {
                unsettled.sort_by_key(|message| (Reverse(message.level), message.body.clone()));
                let there: Vec<_> = unsettled.iter().filter(|it| it.out_until <= Instant::now()).collect();
                let levels: Vec<_> = there.iter().take(batch).map(|message| message.level).collect();
                let known: Vec<_> = there.iter().map(|message| message.body.clone()).collect();
                let got = store.pop(Pop { filter: filter.clone(), ..urgent(100, batch) }).await;
                assert!(got.iter().all(|(body, _, _)| known.contains(body)), "{got:?} of {known:?}");
                let came: Vec<_> = got.iter().map(|(_, _, key)| key.queue.0).collect();
                match filter {
                    Filter::Tags(_) => assert_eq!(came, levels),
                    // What nobody looked at yet may end a batch, and only that.
                    Filter::Sql(_) => assert!(levels.starts_with(&came) && came.is_empty() == levels.is_empty()),
                }
                assert!(got.is_sorted_by_key(|(_, _, key)| (Reverse(key.queue), key.offset)));
                for (body, _, key) in got {
                    let message = unsettled.iter_mut().find(|message| message.body == body).expect("it is known");
                    (message.key, message.out_until) = (Some(key), Instant::now() + TEN_SECONDS);
                }
            }
            Step::Ack { which } => {
                let Some(at) = which.checked_rem(unsettled.len()) else { continue };
                if let Some(key) = unsettled[at].key {
                    store.ack(key).await;
                    unsettled.remove(at);
                }
            }
            Step::Release { which } => {
                let Some(message) = which.checked_rem(unsettled.len()).map(|at| &mut unsettled[at]) else { continue };
                if let Some(key) = message.key.take() {
                    store.engine.release(vec![key]);
                    store.ack(DeliveryKey { offset: QueueOffset(9999), ..key }).await;
                    message.out_until = Instant::now();
                }
            }
            Step::Wait { seconds } => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::Restart => {
                store = store.restart().await;
                // A restart may prolong a lease, by its whole duration at most.
                tokio::time::sleep(TEN_SECONDS * 2).await;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_pop_brings_the_most_urgent(filter in filter(), steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(filter, steps));
    }
}
