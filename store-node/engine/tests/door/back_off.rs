//! Rests that push consumers ask for after a failure.

use std::time::Duration;

use apogee_model::store::{Settled, Settlement};
use apogee_model::{InvisibleDuration, RetryPolicy};

use crate::support::{COMMIT, Store, push};

fn rest(millis: u64) -> Settlement {
    let asked = InvisibleDuration::for_change(Duration::from_millis(millis)).expect("in range");
    Settlement::Rest { asked, rests: RetryPolicy::default().rests() }
}

/// The Node.js SDK takes 5 s for 5 ms, and a list of steps for no rest at all.
#[tokio::test(start_paused = true)]
async fn who_asks_for_less_than_the_shortest_step_gets_the_step_of_the_attempt() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    for (attempt, asked_ms, step) in [(1, 0, 1), (2, 5, 5), (3, 999, 10)] {
        let failed = store.pop(push(1)).await.remove(0);
        assert_eq!(failed.1, attempt);
        assert_eq!(store.engine.settle(failed.2, rest(asked_ms)).await, Ok(Settled::Done));
        tokio::time::sleep(Duration::from_secs(step) - Duration::from_millis(100)).await;
        assert_eq!(store.pop(push(1)).await, [], "attempt {attempt}");
        tokio::time::sleep(Duration::from_millis(100) + COMMIT).await;
    }
    assert_eq!(store.pop(push(1)).await.remove(0).1, 4);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_gets_what_was_asked_for() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(push(1)).await.remove(0);
    assert_eq!(store.engine.settle(first.2, rest(1000)).await, Ok(Settled::Done));
    tokio::time::sleep(Duration::from_secs(1) + COMMIT).await;
    let second = store.pop(push(1)).await.remove(0);
    assert_eq!(store.engine.settle(second.2, rest(2000)).await, Ok(Settled::Done));
    tokio::time::sleep(Duration::from_secs(2) + COMMIT).await;
    assert_eq!(store.pop(push(1)).await.remove(0).1, 3, "not the second step, 5 s");
}
