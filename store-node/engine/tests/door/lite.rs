//! Lite topics: subscribed clients get their messages, each lite topic in order.

use std::time::Duration;

use apogee_host::SimDisk;
use apogee_model::store::{
    Append, DeadLetters, DeliveryKey, LeaseTerms, LiteChange, LiteGroupStatus, LiteList, LiteName, LiteStart,
    LiteStatus, LiteSubscribed, LiteSubscription, LiteTerms, Pop, RequestId, Settled, Settlement, StoreError, TopicRef,
};
use apogee_model::{ClientId, DeliveryOrder, InvisibleDuration, QueueId, QueueOffset, Topic, TopicId};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::support::{COMMIT, Store, TEN_SECONDS};
use crate::words::{group, message, receive, topic};

const TERMS: LiteTerms = LiteTerms {
    exclusive: false,
    reset_on_takeover: false,
    reset_on_unsubscribe: false,
    client_max: 1000,
    expiration: None,
};

fn id(client: &str) -> ClientId {
    ClientId::parse(client).expect("not blank")
}

fn subscription(client: &str, change: LiteChange, names: &[&str]) -> LiteSubscription {
    LiteSubscription {
        group: group(),
        topic: topic(),
        client: id(client),
        change,
        names: names.iter().map(|name| (*name).into()).collect(),
        from: LiteStart::Last,
        terms: TERMS,
    }
}

fn of(client: &str, batch: usize) -> Pop {
    Pop { client: id(client), order: DeliveryOrder::Fifo, lite: true, ..receive(batch) }
}

fn push(client: &str, batch: usize) -> Pop {
    Pop { lease: LeaseTerms::AutoRenew, ..of(client, batch) }
}

impl Store {
    async fn send_lite(&self, name: &str, body: &str) -> Result<QueueOffset, StoreError> {
        self.send_lite_for(name, body, None).await
    }

    async fn send_lite_for(&self, name: &str, body: &str, life: Option<Duration>) -> Result<QueueOffset, StoreError> {
        let request = RequestId { proxy_incarnation: 0, sequence: 1 };
        let lite = Some(LiteName { name: name.into(), expiration: life });
        let (queue, message) = (QueueId(2), message("", body));
        let append =
            Append { topic: topic(), queue, message, request, due: None, half: None, lite, indexed: true, epoch: 0 };
        Ok(self.engine.append(vec![append]).await?[0].offset)
    }

    async fn subscribe(&self, subscription: LiteSubscription) -> LiteSubscribed {
        self.engine.lite_subscribe(subscription).await.expect("the store answers")
    }

    async fn add(&self, client: &str, names: &[&str]) -> LiteSubscribed {
        self.subscribe(subscription(client, LiteChange::Add, names)).await
    }

    async fn all(&self) -> Vec<LiteStatus> {
        let list = LiteList { topic: topic().id, after: None, only: None, max: 100 };
        self.engine.lite_list(list).await.expect("the store answers")
    }

    async fn names(&self) -> Vec<String> {
        self.all().await.into_iter().map(|it| it.name.into()).collect()
    }

    /// Takes everything that comes to a client, one batch after the other, and acknowledges it.
    async fn drain(&self, client: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let got = self.pop(of(client, 2)).await;
            if got.is_empty() {
                return bodies;
            }
            for (body, _, key) in got {
                bodies.push(body);
                assert_eq!(self.ack(key).await, Settled::Done);
            }
        }
    }

    async fn evicted(&self, client: &str) -> Vec<String> {
        let popped = self.engine.pop(of(client, 1)).await.expect("the store answers");
        popped.evicted.into_iter().map(String::from).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_what_it_subscribed_to_in_order() {
    let store = Store::new().await;
    assert_eq!(store.add("a", &["one", "two"]).await, LiteSubscribed::Done);
    assert_eq!(store.add("b", &["three"]).await, LiteSubscribed::Done);
    for (name, body) in [("one", "1a"), ("two", "2a"), ("one", "1b"), ("three", "3a"), ("four", "4a"), ("one", "1c")] {
        store.send_lite(name, body).await.expect("it is taken");
    }
    assert_eq!(store.drain("a").await, ["1a", "1b", "2a", "1c"]);
    assert_eq!(store.drain("b").await, ["3a"]);
    assert_eq!(store.drain("c").await, [""; 0], "nobody is subscribed to the fourth");
    assert_eq!(store.add("c", &["four"]).await, LiteSubscribed::Done);
    assert_eq!(store.drain("c").await, ["4a"], "a young lite topic is read from its beginning");
}

#[tokio::test(start_paused = true)]
async fn a_push_consumer_gets_one_lite_topic_at_a_time_and_nobody_overtakes() {
    let store = Store::new().await;
    store.add("a", &["one", "two"]).await;
    store.add("b", &["one"]).await;
    for (name, body) in [("one", "1a"), ("one", "1b"), ("two", "2a"), ("one", "1c")] {
        store.send_lite(name, body).await.expect("it is taken");
    }
    let first = store.pop(push("a", 2)).await;
    assert_eq!(first.iter().map(|(body, ..)| body.as_str()).collect::<Vec<_>>(), ["1a", "1b"]);
    assert_eq!(store.bodies(push("b", 32)).await, [""; 0], "the first lite topic is out");
    assert_eq!(store.bodies(push("a", 32)).await, ["2a"]);
    store.ack(first[0].2).await;
    assert_eq!(store.bodies(push("b", 32)).await, [""; 0], "a part of it still is");
    store.ack(first[1].2).await;
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.bodies(push("b", 32)).await, ["1c"], "whoever of the group asks first");
}

#[tokio::test(start_paused = true)]
async fn what_fails_comes_again_before_what_is_behind_it() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    for body in ["a", "b"] {
        store.send_lite("one", body).await.expect("it is taken");
    }
    let first = store.pop(of("a", 1)).await.remove(0);
    tokio::time::sleep(TEN_SECONDS + COMMIT).await;
    let again = store.pop(of("a", 32)).await;
    let seen: Vec<_> = again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect();
    assert_eq!(seen, [("a", 2), ("b", 1)]);
    assert_eq!(store.ack(first.2).await, Settled::Stale);
}

#[tokio::test(start_paused = true)]
async fn the_same_attempt_gets_the_same_batch() {
    let store = Store::new().await;
    store.add("a", &["one", "two"]).await;
    for name in ["one", "two"] {
        store.send_lite(name, name).await.expect("it is taken");
    }
    let attempt = |id: &'static str| Pop { attempt_id: Some(Bytes::from_static(id.as_bytes())), ..of("a", 1) };
    let first = store.pop(attempt("x")).await;
    assert_eq!(store.pop(attempt("x")).await, first);
    let store = store.restart().await;
    assert_eq!(store.pop(attempt("x")).await, first, "the next leader knows it, too");
    assert_eq!(store.bodies(attempt("y")).await, ["two"]);
}

#[tokio::test(start_paused = true)]
async fn who_suspends_a_message_has_not_tried_it() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    store.send_lite("one", "x").await.expect("it is taken");
    let suspend = || Settlement::Suspend(InvisibleDuration::for_change(Duration::from_secs(3)).expect("in range"));
    for _ in 0..3 {
        let (_, attempt, key) = store.pop(push("a", 1)).await.remove(0);
        assert_eq!(attempt, 1);
        for _ in 0..2 {
            assert_eq!(store.engine.settle(key, suspend()).await, Ok(Settled::Done));
        }
        assert_eq!(store.bodies(push("a", 1)).await, [""; 0]);
        tokio::time::sleep(Duration::from_secs(3) + COMMIT).await;
    }
}

fn dead() -> DeadLetters {
    let name = Topic::parse("", "%DLQ%billing").expect("a good name");
    DeadLetters { max_attempts: 2, topic: TopicRef { id: TopicId(9), name, queues: 1 }, queue: QueueId(0) }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_make_room_for_what_is_behind_them() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    for body in ["a", "b"] {
        store.send_lite("one", body).await.expect("it is taken");
    }
    let until = || Pop { dead_letters: Some(dead()), ..of("a", 1) };
    for attempt in 1..=2 {
        assert_eq!(store.pop(until()).await.remove(0).1, attempt);
        tokio::time::sleep(TEN_SECONDS + COMMIT).await;
    }
    assert_eq!(store.bodies(until()).await, [""; 0], "it is buried");
    tokio::time::sleep(COMMIT).await;
    let key = store.pop(until()).await.remove(0).2;
    assert_eq!(store.engine.settle(key, Settlement::DeadLetter(dead())).await, Ok(Settled::Done));
    let kept = store.engine.topic_status(TopicId(9)).await.expect("the store answers");
    assert_eq!(kept[0].max, QueueOffset(2));
}

#[tokio::test(start_paused = true)]
async fn a_complete_set_says_what_begins_and_what_ends() {
    let store = Store::new().await;
    store.add("a", &["one", "two"]).await;
    let complete = |names: &[&str]| subscription("a", LiteChange::Complete, names);
    store.subscribe(complete(&["two", "three"])).await;
    for name in ["one", "two", "three"] {
        store.send_lite(name, name).await.expect("it is taken");
    }
    assert_eq!(store.drain("a").await, ["two", "three"]);
    store.subscribe(subscription("a", LiteChange::Remove, &["two", "nothing"])).await;
    store.send_lite("two", "later").await.expect("it is taken");
    assert_eq!(store.drain("a").await, [""; 0]);
    store.subscribe(subscription("a", LiteChange::RemoveAll, &[])).await;
    store.send_lite("three", "later").await.expect("it is taken");
    assert_eq!(store.drain("a").await, [""; 0]);
    assert_eq!(store.names().await, ["one", "three", "two"], "what nobody reads stays");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_says_where_the_group_goes_on() {
    let store = Store::new().await;
    for body in ["a", "b", "c"] {
        store.send_lite("one", body).await.expect("it is taken");
    }
    let from = |from| LiteSubscription { from, ..subscription("a", LiteChange::Add, &["one"]) };
    let leave = || subscription("a", LiteChange::RemoveAll, &[]);
    for (start, expected) in [
        (LiteStart::Latest, &[][..]),
        (LiteStart::Earliest, &["a", "b", "c"]),
        (LiteStart::Last, &[]),
        (LiteStart::At(QueueOffset(1)), &["b", "c"]),
        (LiteStart::At(QueueOffset(99)), &[]),
        (LiteStart::Tail(1), &["c"]),
        (LiteStart::Tail(99), &["a", "b", "c"]),
    ] {
        store.subscribe(from(start)).await;
        assert_eq!(store.drain("a").await, expected, "{start:?}");
        store.subscribe(leave()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn quotas_are_kept() {
    let store = Store::new().await;
    let few = LiteTerms { client_max: 2, ..TERMS };
    let few = |names: &[&str]| LiteSubscription { terms: few, ..subscription("a", LiteChange::Add, names) };
    let refused = LiteSubscribed::TooManySubscriptions { max: 2 };
    assert_eq!(store.subscribe(few(&["a", "b", "c"])).await, refused);
    assert_eq!(store.names().await, [""; 0], "nothing was done");
    assert_eq!(store.subscribe(few(&["a", "b"])).await, LiteSubscribed::Done);
    assert_eq!(store.subscribe(few(&["a"])).await, LiteSubscribed::Done, "it is there already");
    assert_eq!(store.subscribe(few(&["c"])).await, refused);
}

#[tokio::test(start_paused = true)]
async fn who_holds_too_much_gets_no_more() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    for nth in 0..110 {
        store.send_lite("one", &nth.to_string()).await.expect("it is taken");
    }
    store.add("a", &["two"]).await;
    store.send_lite("two", "x").await.expect("it is taken");
    assert_eq!(store.pop(push("a", 110)).await.len(), 110);
    let popped = store.engine.pop(push("a", 1)).await.expect("the store answers");
    assert_eq!((popped.messages.len(), popped.unsettled), (0, Some(110)));
}

#[tokio::test(start_paused = true)]
async fn the_newest_client_takes_over_and_the_other_one_is_told() {
    let store = Store::new().await;
    let terms = LiteTerms { exclusive: true, ..TERMS };
    let subscribe = |client, change| LiteSubscription { terms, ..subscription(client, change, &["one"]) };
    store.subscribe(subscribe("a", LiteChange::Add)).await;
    store.subscribe(subscribe("b", LiteChange::Add)).await;
    assert_eq!(store.evicted("a").await, ["one"]);
    assert_eq!(store.evicted("a").await, [""; 0], "once");
    store.subscribe(subscribe("a", LiteChange::Complete)).await;
    assert_eq!(store.evicted("a").await, ["one"], "it is still sure of it");
    store.send_lite("one", "x").await.expect("it is taken");
    assert_eq!((store.drain("a").await, store.drain("b").await), (vec![], vec!["x".to_owned()]));
    let again = LiteTerms { reset_on_takeover: true, ..terms };
    store.subscribe(LiteSubscription { terms: again, ..subscribe("a", LiteChange::Add) }).await;
    assert_eq!((store.evicted("b").await, store.drain("a").await), (vec!["one".to_owned()], vec!["x".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_for_long_is_subscribed_to_nothing() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    store.add("silent", &["one"]).await;
    store.add("loud", &["one"]).await;
    let clients = async || {
        let groups: Vec<LiteGroupStatus> = store.all().await.remove(0).groups;
        groups[0].clients.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        assert_eq!(clients().await.len(), 2);
        tokio::time::sleep(Duration::from_secs(30)).await;
        store.subscribe(subscription("loud", LiteChange::Complete, &["one"])).await;
    }
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(clients().await, ["loud"]);
    store.engine.lost(&id("loud"));
    tokio::time::sleep(COMMIT).await;
    assert_eq!(clients().await, [""; 0], "it said good-bye");
}

#[tokio::test(start_paused = true)]
async fn a_lite_topic_goes_when_nobody_writes() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let life = Some(Duration::from_secs(60));
    let terms = LiteTerms { expiration: life, ..TERMS };
    store.subscribe(LiteSubscription { terms, ..subscription("a", LiteChange::Add, &["one", "two"]) }).await;
    store.send_lite_for("one", "x", life).await.expect("it is taken");
    let held = store.pop(of("a", 1)).await.remove(0).2;
    tokio::time::sleep(Duration::from_secs(50)).await;
    store.send_lite_for("two", "kept", life).await.expect("it is taken");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(store.names().await, ["two"]);
    assert_eq!(store.ack(held).await, Settled::Done, "its messages are gone");
    assert_eq!(store.send_lite_for("one", "new", life).await, Ok(QueueOffset(0)), "it begins anew");
    let dump = store.engine.dump().await.expect("it can be read").views;
    let store = Store::since(began, {
        let Store { disk, tasks, .. } = store;
        tasks.close(TEN_SECONDS).await;
        disk
    })
    .await;
    assert_eq!(store.names().await, ["one", "two"]);
    let again = store.engine.dump().await.expect("it can be read").views;
    let lites =
        |dump: &str| dump.lines().filter(|line| line.starts_with("lite ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lites(&again), lites(&dump));
    assert_eq!(store.drain("a").await, ["kept"], "nobody is subscribed to the new one");
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_goes_on() {
    let store = Store::new().await;
    store.add("a", &["one", "two"]).await;
    for (name, body) in [("one", "1a"), ("one", "1b"), ("two", "2a")] {
        store.send_lite(name, body).await.expect("it is taken");
    }
    let key: DeliveryKey = store.pop(of("a", 1)).await.remove(0).2;
    let store = store.restart().await;
    assert_eq!(store.bodies(of("a", 32)).await, ["2a"], "the first lite topic is out");
    assert_eq!(store.ack(key).await, Settled::Done);
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.bodies(of("a", 32)).await, ["1b"]);
}

#[tokio::test(start_paused = true)]
async fn only_who_has_work_is_woken() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    store.add("b", &["two"]).await;
    let (mut a, mut b) =
        (store.engine.watch_lite(&group(), &topic(), &id("a")), store.engine.watch_lite(&group(), &topic(), &id("b")));
    store.send_lite("one", "x").await.expect("it is taken");
    assert_eq!(timeout(COMMIT, a.ready()).await, Ok(1));
    assert!(timeout(TEN_SECONDS, b.ready()).await.is_err());
    let key = store.pop(of("a", 1)).await.remove(0).2;
    store.send_lite("one", "y").await.expect("it is taken");
    assert!(timeout(Duration::from_secs(5), a.ready()).await.is_err(), "the lite topic is out");
    store.ack(key).await;
    assert_eq!(timeout(COMMIT, a.ready()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_topic_takes_its_lite_topics_along() {
    let store = Store::new().await;
    store.add("a", &["one"]).await;
    store.send_lite("two", "x").await.expect("it is taken");
    store.engine.drop_topic(topic().id).await.expect("the store answers");
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.names().await, [""; 0]);
}
