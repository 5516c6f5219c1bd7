//! Messages that were delivered often enough, and those that consumers give up.

use std::time::Duration;

use apogee_model::InvisibleDuration;
use apogee_model::store::{DeliveryKey, Pop, Settled, Settlement};
use futures::FutureExt as _;

use crate::support::{COMMIT, Store, TEN_SECONDS};
use crate::words::{dead, dead_letters, receive};

/// How long the leader waits for the bytes of a message.
const ERRAND: Duration = Duration::from_secs(5);

fn twice(batch: usize) -> Pop {
    Pop { dead_letters: Some(dead_letters(2)), ..receive(batch) }
}

async fn give_up(store: &Store, key: DeliveryKey) -> Settled {
    let given_up = store.engine.settle(key, Settlement::DeadLetter(dead_letters(2))).await;
    given_up.expect("the store answers")
}

/// Delivers the first message until its attempts are used up, and lets its last lease end.
async fn use_up(store: &Store) -> DeliveryKey {
    store.pop(twice(1)).await;
    tokio::time::sleep(TEN_SECONDS + COMMIT).await;
    let last = store.pop(twice(1)).await.remove(0);
    assert_eq!(last.1, 2);
    tokio::time::sleep(TEN_SECONDS + COMMIT).await;
    last.2
}

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_as_often_as_its_group_allows_and_then_it_is_a_dead_letter_once() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let last = use_up(&store).await;
    assert_eq!(dead(&store).await, Vec::<String>::new(), "nobody asked yet");
    store.send(1, "", "b").await;
    let popped = store.engine.pop(twice(8)).await.expect("the store answers");
    assert_eq!((popped.messages.len(), popped.more), (1, true), "what is alive comes with the same call");
    assert_eq!(dead(&store).await, ["a"]);
    assert_eq!(store.ack(last).await, Settled::Done, "settled, if not by whom it thinks");
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.bodies(twice(8)).await, ["b"]);
    let store = store.restart().await;
    assert_eq!(dead(&store).await, ["a"]);
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.bodies(twice(8)).await, Vec::<String>::new());
    assert_eq!(dead(&store).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn attempts_survive_a_restart() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    use_up(&store).await;
    let store = store.restart().await;
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.bodies(twice(8)).await, Vec::<String>::new());
    assert_eq!(dead(&store).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_without_dead_letters_gets_a_message_again_and_again() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    use_up(&store).await;
    assert_eq!(store.pop(receive(1)).await.remove(0).1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_gives_up_once() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(twice(1)).await.remove(0).2;
    tokio::time::sleep(TEN_SECONDS + COMMIT).await;
    let second = store.pop(twice(1)).await.remove(0).2;
    assert_eq!(give_up(&store, first).await, Settled::Stale, "somebody else works on it");
    assert_eq!(dead(&store).await, Vec::<String>::new());
    let (one, other) = tokio::join!(give_up(&store, second), give_up(&store, second));
    assert_eq!([one, other, give_up(&store, second).await, give_up(&store, first).await], [Settled::Done; 4]);
    assert_eq!(dead(&store).await, ["a"]);
    assert_eq!(store.ack(second).await, Settled::Done);
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.bodies(receive(8)).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_acked_is_never_given_up() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let held = store.pop(twice(1)).await.remove(0).2;
    let (given_up, acked) = tokio::join!(give_up(&store, held), store.ack(held));
    assert_eq!((given_up, acked), (Settled::Done, Settled::Done));
    assert!(dead(&store).await.is_empty(), "the ack came before the bytes of the message");
}

/// Whoever popped went away before the leader had the bytes of the message.
#[tokio::test(start_paused = true)]
async fn a_lost_errand_is_done_again() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    use_up(&store).await;
    let mut pop = Box::pin(store.engine.pop(twice(1)));
    assert!((&mut pop).now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(pop);
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.bodies(twice(1)).await, Vec::<String>::new(), "nobody gets it meanwhile");
    assert_eq!(dead(&store).await, Vec::<String>::new());
    tokio::time::sleep(ERRAND).await;
    assert_eq!(store.bodies(twice(1)).await, Vec::<String>::new());
    assert_eq!(dead(&store).await, ["a"]);
}

/// A consumer that is slower than its lease says what it wants while the leader waits for the bytes.
#[tokio::test(start_paused = true)]
async fn a_late_word_of_the_last_consumer_counts_until_the_message_is_dead() {
    for acks in [true, false] {
        let store = Store::new().await;
        store.send(0, "", "a").await;
        let last = use_up(&store).await;
        let longer = Settlement::Change(InvisibleDuration::for_change(TEN_SECONDS * 2).expect("in range"));
        let mut pop = Box::pin(store.engine.pop(twice(1)));
        assert!((&mut pop).now_or_never().is_none());
        let what = if acks { Settlement::Ack } else { longer };
        let (popped, settled) = tokio::join!(pop, store.engine.settle(last, what));
        assert_eq!((popped.expect("the store answers").messages.len(), settled), (0, Ok(Settled::Done)));
        assert!(dead(&store).await.is_empty());
        tokio::time::sleep(TEN_SECONDS).await;
        assert_eq!(store.bodies(twice(1)).await, Vec::<String>::new());
        assert!(dead(&store).await.is_empty(), "it holds the message for longer, or was done with it");
        tokio::time::sleep(TEN_SECONDS * 2).await;
        assert_eq!(store.bodies(twice(1)).await, Vec::<String>::new());
        assert_eq!(dead(&store).await.len(), usize::from(!acks));
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_read_like_any_other_messages() {
    let store = Store::new().await;
    for body in ["a", "b", "c"] {
        store.send(0, "red", body).await;
    }
    for (_, _, key) in store.pop(twice(8)).await {
        assert_eq!(give_up(&store, key).await, Settled::Done);
    }
    let pop = Pop { topic: dead_letters(2).topic, ..receive(8) };
    let found = store.pop(pop).await;
    assert_eq!(
        found.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("a", 1), ("b", 1), ("c", 1)]
    );
    assert_eq!(store.ack(found[0].2).await, Settled::Done);
}
