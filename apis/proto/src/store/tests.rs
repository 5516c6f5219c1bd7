//! Every word survives the road, and nothing from the road panics.

use std::time::Duration;

use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeadLetters, Delivered, Delivery, DeliveryKey, EndTransaction,
    Fetch, FetchFrom, Fetched, FetchedMessage, Find, FindBy, Found, GroupQueue, GroupRef, GroupStatus, GroupTrace,
    Half, HalfId, KeptId, LeaseTerms, LiteChange, LiteGroupStatus, LiteList, LiteName, LiteStart, LiteStatus,
    LiteSubscribed, LiteSubscription, LiteTerms, OffsetCommitted, OpenTransaction, Pop, Progress, QueueReset,
    QueueStatus, Recall, Recalled, RequestId, Reset, ResetTo, Resolution, Seal, Sealed, Settled, Settlement,
    StoreError, TopicRef, Trace, TransactionEnded, Whereabouts,
};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryAttempt, DeliveryOrder, DeliverySeq, Epoch, Filter, GroupId, InvisibleDuration,
    PriorityFactor, QueueId, QueueOffset, ReplicaId, RetryPolicy, StoredMessage, TagFilter, Timestamp, Topic, TopicId,
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::v1;

fn topic() -> TopicRef {
    TopicRef { id: TopicId(7), name: Topic::parse("ns", "orders").unwrap(), queues: 8 }
}

fn group() -> GroupRef {
    GroupRef { id: GroupId(9), name: ConsumerGroup::parse("", "billing").unwrap() }
}

fn message() -> StoredMessage {
    StoredMessage { body_part: Bytes::from_static(b"body"), properties_part: Bytes::from_static(b"properties") }
}

fn key() -> DeliveryKey {
    DeliveryKey {
        epoch: Epoch(3),
        group: GroupId(9),
        topic: TopicId(7),
        queue: QueueId(u16::MAX),
        offset: QueueOffset(1 << 40),
        delivery: DeliverySeq(u64::MAX),
    }
}

/// Over the wire and back.
fn travelled<M: prost::Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("just encoded")
}

#[test]
fn appends_keep_their_request_ids() {
    let append = |sequence, due| Append {
        topic: topic(),
        queue: QueueId(5),
        message: message(),
        request: RequestId { proxy_incarnation: u64::MAX, sequence },
        due,
        half: (sequence == 2).then_some(Half { check_after: Duration::from_millis(9) }),
        lite: (sequence == 1).then(|| LiteName { name: "s-1".into(), expiration: Some(Duration::from_secs(60)) }),
        indexed: true,
        epoch: 0,
    };
    let sent = [append(1, None), append(2, Some(Timestamp(8)))];
    let got = travelled(&v1::AppendAsk::of(&sent).unwrap()).into_appends().unwrap();
    assert_eq!(format!("{got:?}"), format!("{sent:?}"));
    assert_eq!(v1::AppendAsk::of(&[]), None);

    let kept = Some(KeptId { due: Timestamp(8), number: 9 });
    let at =
        Appended { queue: QueueId(5), offset: QueueOffset(6), stored_at: Timestamp(7), kept, half: Some(HalfId(3)) };
    assert_eq!(travelled(&v1::Appended::of(&[at])).into_appended(), Ok(vec![at]));
}

#[test]
fn recalls_survive() {
    let recall = Recall { topic: TopicId(7), id: KeptId { due: Timestamp(8), number: 9 } };
    assert_eq!(Recall::try_from(travelled(&v1::RecallAsk::from(recall))), Ok(recall));
    assert!(Recall::try_from(v1::RecallAsk { topic: 7, id: None }).is_err());
    for recalled in [Recalled::Done, Recalled::TooLate] {
        assert_eq!(Recalled::from(travelled(&v1::Recalled::from(recalled))), recalled);
    }
}

#[test]
fn words_about_transactions_survive() {
    let topics = [TopicId(1), TopicId(7)].into();
    assert_eq!(travelled(&v1::ProducersAsk::of(&topics)).into_topics(), topics);
    for resolution in [Resolution::Commit, Resolution::Rollback] {
        let end = EndTransaction { topic: TopicId(7), id: HalfId(u64::MAX), resolution };
        assert_eq!(EndTransaction::try_from(travelled(&v1::EndTransactionAsk::from(end))), Ok(end));
    }
    assert!(EndTransaction::try_from(v1::EndTransactionAsk { topic: 7, half: 1, resolution: 0 }).is_err());
    for ended in [TransactionEnded::Done, TransactionEnded::Otherwise, TransactionEnded::Unknown] {
        assert_eq!(TransactionEnded::try_from(travelled(&v1::TransactionEnded::from(ended))), Ok(ended));
    }
    assert!(TransactionEnded::try_from(v1::TransactionEnded { outcome: None }).is_err());
    let (topic, queue, id, stored_at) = (TopicId(7), QueueId(5), HalfId(3), Timestamp(9));
    let check = CheckBack { topic, queue, id, check: 2, stored_at, message: message() };
    assert_eq!(CheckBack::try_from(travelled(&v1::CheckBack::from(&check))), Ok(check));
    let checked = vec![Checked { topic, id, check: 2 }];
    assert_eq!(travelled(&v1::Checked::of(&checked)).into_checked(), checked);
    let open = vec![OpenTransaction { queue, id, checks: 15, parked: true, stored_at, message: message() }];
    assert_eq!(travelled(&v1::Transactions::of(&open)).into_open(), Ok(open));
}

#[test]
fn pops_and_deliveries_survive() {
    let tags = Filter::from(TagFilter::parse("a||b").unwrap());
    let sql = Filter::sql("a > 5").unwrap();
    let fixed = LeaseTerms::Fixed(InvisibleDuration::for_receive(Duration::from_secs(30)).unwrap());
    let (often, never) = (PriorityFactor::new(80).ok(), PriorityFactor::new(0).ok());
    for (filter, lease, attempt_id, order, priority) in [
        (Filter::default(), LeaseTerms::AutoRenew, None, DeliveryOrder::Fifo, None),
        (tags, fixed, Some(Bytes::from_static(b"try 1")), DeliveryOrder::Concurrent, often),
        (sql, fixed, None, DeliveryOrder::Concurrent, never),
    ] {
        let client = ClientId::parse("c1").unwrap();
        let dead_letters = attempt_id.is_some().then(dead_letters);
        let (group, topic) = (group(), topic());
        let lite = order == DeliveryOrder::Fifo;
        let pop =
            Pop { group, topic, filter, batch: 32, lease, attempt_id, client, dead_letters, order, priority, lite };
        let got = Pop::try_from(travelled(&v1::PopAsk::from(&pop))).unwrap();
        assert_eq!(format!("{got:?}"), format!("{pop:?}"));
    }
    let beyond = v1::PopAsk { priority_factor: Some(101), ..v1::PopAsk::default() };
    assert!(Pop::try_from(beyond).is_err());
    let bad = v1::Filter { tags: Vec::new(), sql: Some("a >".to_owned()) };
    assert!(v1::Filter::into_filter(Some(bad)).is_err());
    let delivery = Delivery {
        key: key(),
        attempt: DeliveryAttempt(2),
        stored_at: Timestamp(5),
        invisible: InvisibleDuration::AUTO_RENEW,
        message: message(),
    };
    assert_eq!(Delivery::try_from(travelled(&v1::Delivery::from(&delivery))), Ok(delivery));
}

fn dead_letters() -> DeadLetters {
    DeadLetters { max_attempts: 3, topic: topic(), queue: QueueId(2) }
}

#[test]
fn words_about_lite_topics_survive() {
    let starts = [
        LiteStart::Last,
        LiteStart::Earliest,
        LiteStart::Latest,
        LiteStart::At(QueueOffset(7)),
        LiteStart::Tail(3),
        LiteStart::Time(Timestamp(9)),
    ];
    let changes = [LiteChange::Add, LiteChange::Remove, LiteChange::Complete, LiteChange::RemoveAll];
    for (from, change) in starts.into_iter().zip(changes.into_iter().cycle()) {
        let exclusive = from == LiteStart::Last;
        let expiration = exclusive.then_some(Duration::from_secs(60));
        let terms = LiteTerms {
            exclusive,
            reset_on_takeover: !exclusive,
            reset_on_unsubscribe: exclusive,
            client_max: 2300,
            expiration,
        };
        let (group, topic, client) = (group(), topic(), ClientId::parse("c1").unwrap());
        let names = vec!["a".into(), "b".into()];
        let asked = LiteSubscription { group, topic, client, change, names, from, terms };
        assert_eq!(LiteSubscription::try_from(travelled(&v1::LiteSubscribeAsk::from(&asked))), Ok(asked));
    }
    let too_many = LiteSubscribed::TooManySubscriptions { max: 1 };
    for done in [LiteSubscribed::Done, too_many, LiteSubscribed::TooManyTopics { max: 2 }] {
        assert_eq!(LiteSubscribed::try_from(travelled(&v1::LiteSubscribed::from(done))), Ok(done));
    }
    let list = LiteList { topic: TopicId(7), after: Some("a".into()), only: Some("b".into()), max: 9 };
    assert_eq!(LiteList::from(travelled(&v1::LiteListAsk::from(&list))), list);
    let clients = vec![ClientId::parse("c1").unwrap()];
    let status = LiteStatus {
        name: "s-1".into(),
        id: TopicId::LITE,
        min: QueueOffset(1),
        max: QueueOffset(5),
        written: Timestamp(8),
        groups: vec![LiteGroupStatus { group: GroupId(2), floor: QueueOffset(3), in_flight: 1, clients }],
    };
    let statuses = travelled(&v1::LiteStatuses::of(std::slice::from_ref(&status)));
    assert_eq!(statuses.into_statuses(), Ok(vec![status]));
}

#[test]
fn settlements_and_counters_survive() {
    let rest = Settlement::Rest { asked: InvisibleDuration::ZERO, rests: RetryPolicy::EXPONENTIAL.rests() };
    let dead = Settlement::DeadLetter(dead_letters());
    let suspend = Settlement::Suspend(InvisibleDuration::ZERO);
    for what in [Settlement::Ack, Settlement::Change(InvisibleDuration::ZERO), suspend, rest, dead] {
        assert_eq!(travelled(&v1::SettleAsk::of(key(), &what)).into_settlement(), Ok((key(), what)));
    }
    for settled in [Settled::Done, Settled::Stale] {
        assert_eq!(Settled::from(travelled(&v1::Settled::from(settled))), settled);
    }
    assert_eq!(travelled(&v1::DeliveryKeys::of(&[key(), key()])).into_keys(), Ok(vec![key(), key()]));
    let queue = QueueStatus { queue: QueueId(1), min: QueueOffset(2), max: QueueOffset(3), delayed: 4 };
    assert_eq!(travelled(&v1::TopicStatus::of(&[queue])).into_status(), Ok(vec![queue]));
    let status = GroupStatus {
        topic: TopicId(1),
        queue: QueueId(2),
        floor: QueueOffset(3),
        cursor: QueueOffset(4),
        max: QueueOffset(5),
        in_flight: 6,
        pulled: Some(QueueOffset(0)),
    };
    assert_eq!(travelled(&v1::GroupStatus::of(std::slice::from_ref(&status))).into_status(), Ok(vec![status]));
    let clients: Vec<_> = ["a", "b"].into_iter().filter_map(ClientId::parse).collect();
    assert_eq!(travelled(&v1::Clients::of(&clients)).into_clients(), clients);
    let heard: Vec<_> = clients.iter().cloned().zip((1..).map(Duration::from_secs)).collect();
    let timed = v1::Clients::heard(heard.iter().map(|(client, ago)| (client, *ago)));
    assert_eq!(travelled(&timed).into_heard(), heard);
}

#[test]
fn resets_survive() {
    let offsets = [(QueueId(1), QueueOffset(2)), (QueueId(3), QueueOffset(4))].into();
    for to in [ResetTo::Earliest, ResetTo::Latest, ResetTo::Time(Timestamp(5)), ResetTo::Offsets(offsets)] {
        for dry_run in [false, true] {
            let reset = Reset { group: group(), topic: topic(), to: to.clone(), dry_run };
            assert_eq!(Reset::try_from(travelled(&v1::ResetAsk::from(&reset))), Ok(reset));
        }
    }
    let (before, after) = (QueueOffset(2), QueueOffset(3));
    let row = QueueReset { queue: QueueId(1), before, after, in_flight: 4 };
    assert_eq!(travelled(&v1::QueueResets::of(&[row])).into_queues(), Ok(vec![row]));
    assert!(Reset::try_from(v1::ResetAsk::default()).is_err());
}

#[test]
fn fetches_survive() {
    for from in [FetchFrom::Offset(QueueOffset(1)), FetchFrom::Time(Timestamp(2)), FetchFrom::End] {
        let (queue, message_id) = (QueueId(3), Some("id".to_owned()));
        let filter = Filter::sql("a = 1").unwrap();
        let fetch = Fetch { topic: TopicId(7), queue, from, messages: 4, bytes: 5, message_id, filter };
        assert_eq!(Fetch::try_from(travelled(&v1::FetchAsk::from(&fetch))), Ok(fetch));
    }
    let stored = FetchedMessage { offset: QueueOffset(4), stored_at: Timestamp(5), message: message() };
    let (min, max, next) = (QueueOffset(1), QueueOffset(9), QueueOffset(5));
    let fetched = Fetched { min, max, next, reached: Some(Timestamp(6)), messages: vec![stored.clone(), stored] };
    assert_eq!(Fetched::try_from(travelled(&v1::Fetched::from(&fetched))), Ok(fetched));
    assert!(Fetch::try_from(v1::FetchAsk::default()).is_err());
}

#[test]
fn committed_offsets_survive() {
    let commit = CommitOffset { group: group(), topic: topic(), queue: QueueId(3), offset: QueueOffset(0) };
    assert_eq!(CommitOffset::try_from(travelled(&v1::CommitOffsetAsk::from(&commit))), Ok(commit));
    for committed in [OffsetCommitted::Done, OffsetCommitted::Beyond { max: QueueOffset(0) }] {
        assert_eq!(OffsetCommitted::from(travelled(&v1::OffsetCommitted::from(committed))), committed);
    }
    let of = GroupQueue { group: GroupId(1), topic: TopicId(2), queue: QueueId(3) };
    assert_eq!(GroupQueue::try_from(travelled(&v1::CommittedOffsetAsk::from(of))), Ok(of));
    for offset in [None, Some(QueueOffset(0))] {
        assert_eq!(Option::from(travelled(&v1::CommittedOffset::from(offset))), offset);
    }
    assert!(CommitOffset::try_from(v1::CommitOffsetAsk::default()).is_err());
}

#[test]
fn failures_survive() {
    let errors = [
        StoreError::Busy { what: "a queue of the store-node" },
        StoreError::TooLarge { bytes: 10, max: 9 },
        StoreError::NoSuchQueue { topic: topic().name, queue: QueueId(8), queues: 8 },
        StoreError::Timeout { waited: Duration::from_millis(3) },
        StoreError::Unreadable { why: "a bit flipped".to_owned() },
        StoreError::Stopped,
        StoreError::NotLeader { leader: None },
        StoreError::NotLeader { leader: Some(ReplicaId(2)) },
        StoreError::LeaderLost,
    ];
    for error in errors {
        assert_eq!(StoreError::try_from(travelled(&v1::LaneError::from(&error))), Ok(error));
    }
}

#[test]
fn seals_travel() {
    let topic = TopicRef { id: TopicId(7), name: Topic::parse("ns", "orders").unwrap(), queues: 8 };
    let seal = Seal { topic, epoch: 3, groups: [GroupId(1), GroupId(2)].into() };
    assert_eq!(Seal::try_from(travelled(&v1::SealAsk::from(&seal))), Ok(seal));
    for drained in [true, false] {
        assert_eq!(Sealed::from(travelled(&v1::Sealed::from(Sealed { drained }))), Sealed { drained });
    }
}

#[test]
fn searches_and_traces_travel() {
    let (from, until) = (Timestamp(5), Timestamp(9));
    for by in [FindBy::Key("k 1".to_owned()), FindBy::MessageId("01AA".to_owned())] {
        let find = Find { topic: TopicId(7), by, from, until, messages: 9 };
        assert_eq!(Find::try_from(travelled(&v1::FindAsk::from(&find))), Ok(find));
    }
    let queued = |offset| Whereabouts::Queued { offset };
    let half = Whereabouts::Half { id: HalfId(8), checks: 2 };
    let found = [queued(Some(QueueOffset(3))), queued(None), Whereabouts::Waits { due: Timestamp(7) }, half];
    let found = found.map(|whereabouts| {
        let (stored_at, topic, queue) = (Timestamp(5), TopicId(7), QueueId(1));
        Found { message: message(), stored_at, topic, queue, whereabouts }
    });
    assert_eq!(travelled(&v1::Finds::of(&found)).into_found(), Ok(found.to_vec()));
    let trace = Trace { topic: TopicId(7), queue: QueueId(1), offset: QueueOffset(3) };
    assert_eq!(Trace::try_from(travelled(&v1::TraceAsk::from(trace))), Ok(trace));
    let (at, until) = (Timestamp(5), Timestamp(9));
    let delivered = Progress::Delivered(Delivered { attempt: 2, at, until, ready: true, auto_renew: true, client: 4 });
    let groups = [Progress::Ahead, Progress::Waits, delivered, Progress::Settled].map(|progress| {
        let GroupRef { id, name } = group();
        GroupTrace { group: id, name, progress }
    });
    assert_eq!(travelled(&v1::Traces::of(&groups)).into_groups(), Ok(groups.to_vec()));
    let nothing = v1::FindAsk { by: None, ..v1::FindAsk::default() };
    assert_eq!(Find::try_from(nothing), Err(crate::Malformed { what: "what to look for" }));
}

/// Turns every item of a frame of requests into our words, as a store-node does.
fn read(frame: v1::LaneRequests) -> usize {
    use v1::lane_request::Ask;
    let asks = frame.requests.into_iter().filter_map(|request| request.ask);
    let sound = asks.filter(|ask| match ask.clone() {
        Ask::Append(it) => it.into_appends().is_ok(),
        Ask::Pop(it) => Pop::try_from(it).is_ok(),
        Ask::Settle(it) => it.into_settlement().is_ok(),
        Ask::Release(it) | Ask::Confirm(it) => it.into_keys().is_ok(),
        Ask::Heard(it) | Ask::HungUp(it) => !it.into_heard().is_empty(),
        Ask::Lost(it) => !it.into_clients().is_empty(),
        Ask::Reset(it) => Reset::try_from(it).is_ok(),
        Ask::Fetch(it) => Fetch::try_from(it).is_ok(),
        Ask::Watch(it) => it.group.map(GroupRef::try_from).is_some_and(|group| group.is_ok()),
        Ask::Recall(recall) => Recall::try_from(recall).is_ok(),
        Ask::Producers(it) => !it.into_topics().is_empty(),
        Ask::EndTransaction(it) => EndTransaction::try_from(it).is_ok(),
        Ask::Checked(it) => !it.into_checked().is_empty(),
        Ask::Transactions(_) | Ask::LiteList(_) => true,
        Ask::Find(it) => Find::try_from(it).is_ok(),
        Ask::Seal(it) => Seal::try_from(it).is_ok(),
        Ask::Trace(it) => Trace::try_from(it).is_ok(),
        Ask::LiteSubscribe(it) => LiteSubscription::try_from(it).is_ok(),
        Ask::CommitOffset(commit) => CommitOffset::try_from(commit).is_ok(),
        Ask::CommittedOffset(of) => GroupQueue::try_from(of).is_ok(),
        Ask::Unwatch(_) | Ask::TopicStatus(_) | Ask::GroupStatus(_) | Ask::DropTopic(_) | Ask::DropGroup(_) => true,
    });
    sound.count()
}

proptest! {
    #[test]
    fn hostile_frames_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), flip in any::<usize>()) {
        let _ = v1::LaneRequests::decode(bytes.as_slice()).map(read);
        let _ = v1::LaneAnswers::decode(bytes.as_slice());
        let ask = v1::lane_request::Ask::Settle(v1::SettleAsk::of(key(), &Settlement::Ack));
        let request = v1::LaneRequest { id: 1, deadline_ms: 2, ask: Some(ask) };
        bytes = v1::LaneRequests { hello: None, requests: vec![request] }.encode_to_vec();
        let bits = bytes.len() * 8;
        bytes[flip % bits / 8] ^= 1 << (flip % 8);
        let _ = v1::LaneRequests::decode(bytes.as_slice()).map(read);
    }
}
