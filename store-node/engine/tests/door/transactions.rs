//! Half messages: nobody sees them before they are committed, producers are asked about them, and all of it survives.

use std::collections::BTreeSet;
use std::time::Duration;

use apogee_engine::Checks;
use apogee_host::{Clock as _, SimDisk, TokioClock};
use apogee_model::store::{
    Append, Appended, CheckBack, Checked, EndTransaction, Half, HalfId, OpenTransaction, RequestId, Resolution,
    TransactionEnded,
};
use apogee_model::{QueueId, TopicId};
use tokio::time::{Instant, sleep, timeout};

use crate::support::Store;
use crate::words::{message, receive, topic};

const CHECK_AFTER: Duration = Duration::from_secs(6);

async fn send(store: &Store, body: &str, sequence: u64) -> Appended {
    let request = RequestId { proxy_incarnation: 7, sequence };
    let half = Some(Half { check_after: CHECK_AFTER });
    let append = Append {
        topic: topic(),
        queue: QueueId(0),
        message: message("", body),
        request,
        due: None,
        half,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    store.engine.append(vec![append]).await.expect("the store takes it")[0]
}

async fn half(store: &Store, body: &str, sequence: u64) -> HalfId {
    send(store, body, sequence).await.half.expect("it is a half message")
}

async fn end_of(store: &Store, topic: TopicId, id: HalfId, resolution: Resolution) -> TransactionEnded {
    store.engine.end_transaction(EndTransaction { topic, id, resolution }).await.expect("the store answers")
}

async fn end(store: &Store, id: HalfId, resolution: Resolution) -> TransactionEnded {
    end_of(store, topic().id, id, resolution).await
}

async fn listed(store: &Store) -> Vec<OpenTransaction> {
    store.engine.transactions(topic().id, HalfId(0), 100).await.expect("the store answers")
}

fn topics() -> BTreeSet<TopicId> {
    [topic().id].into()
}

/// What a producer is asked within a time; nothing is `None`.
async fn asked(checks: &mut Checks, within: Duration) -> Option<CheckBack> {
    timeout(within, checks.next()).await.ok()
}

fn reached(store: &Store, check: &CheckBack) {
    store.engine.checked(Checked { topic: check.topic, id: check.id, check: check.check });
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_what_is_not_committed() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let sent = send(&store, "yes", 1).await;
    assert_eq!((sent, sent.kept), (send(&store, "again", 1).await, None), "a resend gets the first result");
    let (yes, no) = (sent.half.expect("it is a half message"), half(&store, "no", 2).await);
    assert_eq!(store.bodies(receive(9)).await, Vec::<String>::new());
    assert_eq!(end_of(&store, TopicId(9), yes, Resolution::Commit).await, TransactionEnded::Unknown);
    assert_eq!(end(&store, yes, Resolution::Commit).await, TransactionEnded::Done);
    assert_eq!(store.bodies(receive(9)).await, ["yes"]);
    assert_eq!(end(&store, no, Resolution::Rollback).await, TransactionEnded::Done);
    for _ in 0..2 {
        assert_eq!(end(&store, yes, Resolution::Commit).await, TransactionEnded::Done);
        assert_eq!(end(&store, yes, Resolution::Rollback).await, TransactionEnded::Otherwise);
        assert_eq!(end(&store, no, Resolution::Commit).await, TransactionEnded::Otherwise);
        assert_eq!(end(&store, HalfId(99), Resolution::Commit).await, TransactionEnded::Unknown);
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(store.bodies(receive(9)).await, ["yes"], "it came again, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn two_ends_at_once_agree() {
    let store = Store::since(Instant::now(), SimDisk::new(1)).await;
    for nth in 0..50 {
        let id = half(&store, "x", nth + 1).await;
        let (commit, rollback) = (Resolution::Commit, Resolution::Rollback);
        let ends = tokio::join!(end(&store, id, commit), end(&store, id, rollback), end(&store, id, commit));
        assert_eq!(ends, (TransactionEnded::Done, TransactionEnded::Otherwise, TransactionEnded::Done));
    }
    assert_eq!(store.bodies(receive(99)).await.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn ends_and_half_messages_survive() {
    let began = Instant::now();
    let mut store = Store::since(began, SimDisk::new(1)).await;
    let ids = [half(&store, "a", 1).await, half(&store, "b", 2).await, half(&store, "c", 3).await];
    assert_eq!(end(&store, ids[0], Resolution::Commit).await, TransactionEnded::Done);
    assert_eq!(end(&store, ids[1], Resolution::Rollback).await, TransactionEnded::Done);
    assert_eq!(store.tasks.close(Duration::from_secs(10)).await, Vec::<&str>::new());
    store = Store::since(began, store.disk).await;
    let disk = store.disk.power_cut();
    drop(store);
    store = Store::since(began, disk).await;
    assert_eq!(end(&store, ids[0], Resolution::Rollback).await, TransactionEnded::Otherwise);
    assert_eq!(end(&store, ids[1], Resolution::Rollback).await, TransactionEnded::Done);
    assert_eq!(store.bodies(receive(9)).await, ["a"]);
    let open = listed(&store).await;
    assert_eq!((open.len(), open[0].id, open[0].checks, open[0].parked), (1, ids[2], 0, false));
    assert_eq!(open[0].message, message("", "c"));
    let mut checks = store.engine.checks(topics());
    let check = asked(&mut checks, CHECK_AFTER * 2).await.expect("it is asked about");
    assert_eq!((check.id, check.check, check.message), (ids[2], 1, message("", "c")));
    assert_eq!(end(&store, ids[2], Resolution::Commit).await, TransactionEnded::Done);
    assert_eq!(store.bodies(receive(9)).await, ["c"]);
    assert_eq!(half(&store, "d", 9).await, HalfId(ids[2].0 + 1), "no name is given twice");
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_asked_in_time_and_so_often() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let mut checks = store.engine.checks(topics());
    let stored = began.elapsed();
    let id = half(&store, "x", 1).await;
    for nth in 1..=15 {
        let check = asked(&mut checks, Duration::from_secs(60)).await.expect("it is asked about");
        let due = stored + CHECK_AFTER + Duration::from_secs(30) * (nth - 1);
        let late = began.elapsed().checked_sub(due).expect("not early");
        assert!(late < Duration::from_millis(100) * nth, "{late:?} late");
        assert_eq!((check.id, check.check), (id, nth));
        reached(&store, &check);
        reached(&store, &check);
    }
    assert_eq!(asked(&mut checks, Duration::from_secs(3600)).await, None, "it is parked");
    let open = listed(&store).await;
    assert_eq!((open.len(), open[0].checks, open[0].parked), (1, 15, true));
    assert_eq!(end(&store, id, Resolution::Commit).await, TransactionEnded::Done);
    assert_eq!(store.bodies(receive(9)).await, ["x"]);
    assert_eq!(listed(&store).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_reached_no_producer_is_asked_elsewhere_and_not_counted() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let id = half(&store, "x", 1).await;
    sleep(Duration::from_secs(3600)).await;
    let [mut one, mut other] = [store.engine.checks(topics()), store.engine.checks(topics())];
    let elsewhere = store.engine.checks([TopicId(9)].into());
    let within = Duration::from_secs(12);
    let found = |check: Option<CheckBack>| check.map(|check| (check.id, check.check));
    let first = Some((id, 1));
    assert_eq!(found(asked(&mut one, within).await), first);
    assert_eq!(found(asked(&mut other, within).await), first, "the other one has its turn");
    drop(one);
    assert_eq!(found(asked(&mut other, within).await), first);
    let mut late = store.engine.checks(BTreeSet::new());
    drop(other);
    late.set_topics(topics());
    let check = asked(&mut late, Duration::from_secs(2)).await.expect("who is there is asked at once");
    assert_eq!(check.check, 1);
    reached(&store, &check);
    assert_eq!(asked(&mut late, Duration::from_secs(29)).await, None);
    assert_eq!(found(asked(&mut late, Duration::from_secs(2)).await), Some((id, 2)));
    drop(elsewhere);
}

#[tokio::test(start_paused = true)]
async fn many_are_asked_about_as_fast_as_they_are_answered() {
    let store = Store::since(Instant::now(), SimDisk::new(1)).await;
    let mut open = BTreeSet::new();
    for nth in 0..1000 {
        open.insert(half(&store, "x", nth + 1).await);
    }
    sleep(CHECK_AFTER).await;
    let mut checks = store.engine.checks(topics());
    let begun = Instant::now();
    while let Some(check) = asked(&mut checks, Duration::from_secs(5)).await {
        assert!(open.remove(&check.id), "asked twice");
        reached(&store, &check);
    }
    assert!(open.is_empty() && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let (first, rest) = (listed(&store).await, store.engine.transactions(topic().id, HalfId(100), 9999).await);
    assert_eq!((first.len(), first[99].id, rest.map(|rest| rest.len())), (100, HalfId(99), Ok(256)));
    assert_eq!(store.engine.transactions(topic().id, HalfId(1000), 9999).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_topic_goes_with_it() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let due = Some(TokioClock::since(began).wall().plus(Duration::from_secs(20)));
    for nth in 0..700 {
        half(&store, "x", nth + 1).await;
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        let message = message("", "later");
        let append = Append {
            topic: topic(),
            queue: QueueId(1),
            message,
            request,
            due,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        store.engine.append(vec![append]).await.expect("the store takes it");
    }
    store.engine.drop_topic(topic().id).await.expect("the store answers");
    assert_eq!(listed(&store).await, []);
    assert_eq!(end(&store, HalfId(0), Resolution::Commit).await, TransactionEnded::Unknown);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(store.bodies(receive(9)).await, Vec::<String>::new());
    let dump = store.engine.dump().await.expect("it is whole");
    let left: Vec<_> = dump.views.lines().filter(|line| line.contains("HalfId") || line.contains("KeptId")).collect();
    assert_eq!(left, Vec::<&str>::new());
}
