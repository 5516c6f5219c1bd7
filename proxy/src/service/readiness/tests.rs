use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, Find, Found,
    GroupQueue, GroupStatus, GroupTrace, HalfId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription,
    OffsetCommitted, OpenTransaction, Pop, Popped, QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed,
    Settled, Settlement, StoreError, TopicRef, Trace, TransactionEnded,
};
use apogee_model::{ClientId, ConsumerGroup, Permission, QueueOffset, Timestamp, Topic, TopicType};
use futures::future::BoxFuture;

use super::*;
use crate::store::{Checks, ClientHeard, StoreNode};

/// A store that only watches, and never sees anything. It may be without a leader.
#[derive(Default)]
struct Blind {
    without_leader: AtomicBool,
}

struct Never;

impl Watch for Never {
    fn ready(&mut self) -> BoxFuture<'_, u64> {
        Box::pin(std::future::pending())
    }
}

impl Checks for Never {
    fn set_topics(&self, _: BTreeSet<TopicId>) {}

    fn next(&mut self) -> BoxFuture<'_, CheckBack> {
        Box::pin(std::future::pending())
    }
}

impl StoreNode for Blind {
    fn leads(&self) -> bool {
        !self.without_leader.load(Ordering::Relaxed)
    }
    fn append(&self, _: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn pop(&self, _: Pop) -> BoxFuture<'_, Result<Popped, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn settle(&self, _: DeliveryKey, _: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn release(&self, _: Vec<DeliveryKey>) {}
    fn confirm(&self, _: Vec<DeliveryKey>) {}
    fn heard(&self, _: Vec<ClientHeard>) {}
    fn hung_up(&self, _: Vec<ClientHeard>) {}
    fn lost(&self, _: ClientId) {}
    fn watch(&self, _: GroupRef, _: TopicRef, _: Filter) -> Box<dyn Watch> {
        Box::new(Never)
    }
    fn watch_lite(&self, _: GroupRef, _: TopicRef, _: ClientId) -> Box<dyn Watch> {
        Box::new(Never)
    }
    fn lite_subscribe(&self, _: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn seal(&self, _: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        unreachable!("no topic gets more queues here")
    }

    fn find(&self, _: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn trace(&self, _: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn lite_list(&self, _: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn topic_status(&self, _: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn group_status(&self, _: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn reset_offset(&self, _: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn recall(&self, _: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn end_transaction(&self, _: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn transactions(&self, _: TopicId, _: HalfId, _: usize) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn checks(&self, _: BTreeSet<TopicId>) -> Box<dyn Checks> {
        Box::new(Never)
    }
    fn checked(&self, _: Checked) {}
    fn fetch(&self, _: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn commit_offset(&self, _: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn committed_offset(&self, _: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn drop_topic(&self, _: TopicId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
    fn drop_group(&self, _: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Stopped) })
    }
}

fn readiness(limits: ReadinessLimits) -> Readiness {
    let stores = Stores::one(ReplicaGroupId(0), Arc::<Blind>::default());
    Readiness::new(stores, Tasks::new(), limits)
}

fn join(readiness: &Readiness, topic: u32, batch: usize) -> Result<Place, ServiceError> {
    attempt(readiness, topic, batch, None)
}

fn attempt(readiness: &Readiness, topic: u32, batch: usize, attempt: Option<Bytes>) -> Result<Place, ServiceError> {
    let group = GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "g").unwrap() };
    let all = readiness.stores.groups();
    let topic = TopicConfig {
        topic: Topic::parse("", "t").unwrap(),
        id: TopicId(topic),
        topic_type: TopicType::Mixed,
        queues: 8,
        placement: all.into_iter().cycle().take(8).collect(),
        permission: Permission::ReadWrite,
        lite_expiration: None,
        key_index: true,
        epoch: 0,
        growing: None,
        created: Timestamp(0),
    };
    readiness.join(&group, &topic, &Interest::All(Filter::default()), batch, attempt)
}

fn edge(readiness: &Readiness, group: u32, ready: u64) {
    let key = (GroupId(1), TopicId(1), 8, Interest::All(Filter::default()));
    readiness.shared.wake(&key, ReplicaGroupId(group), ready);
}

fn is_awake(place: &mut Place) -> bool {
    let woken = std::pin::pin!(place.woken());
    woken.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

/// Runs a script over a line of receives with a batch of 2 and says which of those still there are awake after it.
///
/// `join`, `edge N`, `drop I`, `empty I` (woken, found nothing), `use I` (woken, not yet answered), `served I`,
/// `more I`; places are numbered in order of arrival.
fn check(script: &str, awake: &[usize]) {
    let readiness = readiness(ReadinessLimits::default());
    let mut places: VecDeque<Option<Place>> = VecDeque::new();
    let mut offers = BTreeMap::new();
    for step in script.split(';').map(str::trim) {
        let (verb, number) = step.split_once(' ').unwrap_or((step, "0"));
        let number: usize = number.parse().unwrap();
        match verb {
            "join" => places.push_back(Some(join(&readiness, 1, 2).unwrap())),
            "edge" => edge(&readiness, 0, number as u64),
            "drop" => places[number] = None,
            "empty" => {
                let place = places[number].as_mut().unwrap();
                assert!(is_awake(place), "{script}: {step}");
                while let Some(offer) = place.offer() {
                    place.found_nothing(offer);
                }
            }
            "use" => {
                let place = places[number].as_mut().unwrap();
                assert!(is_awake(place), "{script}: {step}");
                offers.insert(number, place.offer().expect("it was woken for something"));
            }
            "served" | "more" => {
                let mut place = places[number].take().unwrap();
                let offer = offers.remove(&number).or_else(|| place.offer()).expect("nobody has been asked yet");
                place.served(offer, verb == "more");
            }
            other => panic!("no verb {other}"),
        }
    }
    let places = places.iter_mut().enumerate();
    let found: Vec<_> = places.filter_map(|(at, place)| is_awake(place.as_mut()?).then_some(at)).collect();
    assert_eq!(found, awake, "{script}");
}

#[tokio::test]
async fn first_come_first_woken_and_no_more_than_needed() {
    check("join; join; join", &[]);
    check("join; join; join; edge 1", &[0]);
    check("join; join; join; edge 2", &[0]);
    check("join; join; join; edge 3", &[0, 1]);
    check("join; join; edge 100", &[0, 1]);
    check("join; join; join; edge 1; edge 1", &[0, 1]);
    check("edge 5; join", &[]); // the first question to the store finds it
}

#[tokio::test]
async fn who_found_nothing_keeps_its_place() {
    check("join; join; edge 1; empty 0", &[]);
    check("join; join; edge 1; empty 0; edge 1", &[0]);
    check("join; join; edge 1; use 0; edge 1", &[0]); // the second edge came during its question
}

#[tokio::test]
async fn a_wake_is_a_debt() {
    check("join; join; edge 1; drop 0", &[1]);
    check("join; join; edge 1; use 0; drop 0", &[1]);
    check("join; join; edge 1; empty 0; drop 0", &[]);
    check("join; join; edge 1; use 0; edge 1; served 0", &[1]);
    check("join; join; edge 1; use 0; served 0", &[]);
    check("join; join; join; edge 1; use 0; more 0", &[1]);
    check("join; join; more 0", &[1]); // its first question found more than it can carry
    check("join; join; join; edge 1; drop 0; drop 1", &[2]);
}

#[tokio::test]
async fn replica_groups_that_may_have_something_are_asked_in_turn() {
    let (readiness, gone) = (readiness(ReadinessLimits::default()), Arc::<Blind>::default());
    readiness.stores.insert(ReplicaGroupId(1), Arc::<Blind>::default());
    readiness.stores.insert(ReplicaGroupId(2), Arc::clone(&gone) as Arc<dyn StoreNode>);
    let mut place = join(&readiness, 1, 1).unwrap();
    let turn: Vec<_> = (0..4).filter_map(|_| place.offer()).collect();
    assert_eq!(turn.iter().map(|offer| offer.group.0).collect::<Vec<_>>(), [0, 1, 2, 0]);
    for offer in &turn[..3] {
        place.found_nothing(*offer);
    }
    assert_eq!(place.offer(), None);
    edge(&readiness, 1, 1);
    edge(&readiness, 2, 1);
    gone.without_leader.store(true, Ordering::Relaxed);
    let offer = place.offer().unwrap();
    assert_eq!(offer.group, ReplicaGroupId(1));
    edge(&readiness, 1, 1);
    place.found_nothing(offer);
    assert_eq!(place.offer().map(|offer| offer.group), Some(ReplicaGroupId(1)), "an edge came while it was asked");
    gone.without_leader.store(false, Ordering::Relaxed);
    let mut next = join(&readiness, 1, 1).unwrap();
    let offer = place.offer().unwrap();
    assert_eq!(offer.group, ReplicaGroupId(2));
    assert!(!is_awake(&mut next));
    place.served(offer, false);
    assert!(is_awake(&mut next), "broker-1 may have more");
}

#[tokio::test]
async fn a_repeated_try_begins_with_who_served_it() {
    let readiness = readiness(ReadinessLimits::default());
    readiness.stores.insert(ReplicaGroupId(1), Arc::<Blind>::default());
    let again = || attempt(&readiness, 1, 1, Some(Bytes::from_static(b"again"))).unwrap();
    let mut place = again();
    let [first, second] = [place.offer().unwrap(), place.offer().unwrap()];
    place.found_nothing(first);
    assert_eq!(second.group, ReplicaGroupId(1));
    place.served(second, false);
    let mut others = attempt(&readiness, 1, 1, Some(Bytes::from_static(b"other"))).unwrap();
    assert_eq!(others.offer().map(|offer| offer.group), Some(ReplicaGroupId(0)), "who may be another try asks once");
    assert_eq!(others.offer(), None);
    assert_eq!(join(&readiness, 1, 1).unwrap().offer(), None, "who is none sleeps where somebody has just asked");
    let _another = join(&readiness, 1, 1).unwrap().offer();
    edge(&readiness, 0, 1);
    assert_eq!(again().offer().map(|offer| offer.group), Some(ReplicaGroupId(1)));
}

#[tokio::test]
async fn lines_are_bounded() {
    let readiness = readiness(ReadinessLimits { waiting_max: 3, waiting_per_line_max: 2, lines_max: 2 });
    let _two = [join(&readiness, 1, 1).unwrap(), join(&readiness, 1, 1).unwrap()];
    assert!(matches!(join(&readiness, 1, 1), Err(ServiceError::TooMany { limit: 2, .. })));
    let third = join(&readiness, 2, 1).unwrap();
    assert!(matches!(join(&readiness, 2, 1), Err(ServiceError::TooMany { limit: 3, .. })));
    drop(third);
    assert!(matches!(join(&readiness, 3, 1), Err(ServiceError::TooMany { limit: 2, .. })));
    assert_eq!(readiness.shared.lines().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_its_last_receive_by_a_minute() {
    let readiness = readiness(ReadinessLimits::default());
    let lines = || readiness.shared.lines().by_key.len();
    drop(join(&readiness, 1, 1).unwrap());
    tokio::time::sleep(Duration::from_secs(50)).await;
    drop(join(&readiness, 1, 1).unwrap());
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(lines(), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(lines(), 0);
    drop(join(&readiness, 1, 1).unwrap());
    assert_eq!(lines(), 1);
}
