//! What fuzzing does to frames of lanes, and valid ones to begin with. Not part of the product: `tests/fuzz` calls it with
//! what libFuzzer makes up, and a test of the workspace with a few mutations of the seeds.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use apogee_model::store::{
    Append, Appended, CheckBack, CommitOffset, DeadLetters, Delivery, DeliveryKey, EndTransaction, Fetch, FetchFrom,
    Fetched, Find, FindBy, GroupQueue, GroupRef, Half, HalfId, KeptId, LeaseTerms, LiteSubscribed, LiteSubscription,
    Pop, Recall, RequestId, Reset, ResetTo, Resolution, Seal, Settlement, StoreError, TopicRef, Trace,
    TransactionEnded,
};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryAttempt, DeliveryOrder, DeliverySeq, Epoch, Filter, GroupId, InvisibleDuration,
    QueueId, QueueOffset, StoredMessage, Timestamp, Topic, TopicId,
};
use bytes::Bytes;
use prost::Message as _;

use crate::Malformed;
use crate::store::v1::lane_answer::Result as Answered;
use crate::store::v1::lane_request::Ask;
use crate::store::v1::{self, LaneAnswer, LaneAnswers, LaneRequest, LaneRequests};

/// What is read of a frame of a lane is written and read as the same again.
///
/// # Panics
/// When it is not.
pub fn lanes(data: &[u8]) {
    if let Ok(frame) = LaneRequests::decode(data) {
        frame.requests.into_iter().filter_map(|request| request.ask).for_each(asked);
    }
    if let Ok(frame) = LaneAnswers::decode(data) {
        frame.answers.into_iter().filter_map(|answer| answer.result).for_each(answered);
        frame.checks.into_iter().for_each(|check| stays(check, CheckBack::try_from, |check| check.into()));
    }
}

/// One frame of requests and one of answers for each of their kinds.
pub fn lane_seeds() -> Vec<Vec<u8>> {
    let requests = asks().into_iter().map(|ask| {
        let request = LaneRequest { id: 1, deadline_ms: 3000, ask: Some(ask) };
        LaneRequests { hello: None, requests: vec![request] }.encode_to_vec()
    });
    let answers = answers().into_iter().map(|result| {
        let answers = vec![LaneAnswer { id: 1, result: Some(result) }];
        LaneAnswers { answers, ..LaneAnswers::default() }.encode_to_vec()
    });
    requests.chain(answers).collect()
}

fn asked(ask: Ask) {
    match ask {
        Ask::Append(ask) if !ask.messages.is_empty() => {
            stays(ask, v1::AppendAsk::into_appends, |all| v1::AppendAsk::of(all).unwrap_or_default());
        }
        Ask::Pop(ask) => stays(ask, Pop::try_from, |pop| pop.into()),
        Ask::Settle(ask) => stays(ask, v1::SettleAsk::into_settlement, |(key, what)| v1::SettleAsk::of(*key, what)),
        Ask::Release(keys) | Ask::Confirm(keys) => {
            stays(keys, v1::DeliveryKeys::into_keys, |keys| v1::DeliveryKeys::of(keys));
        }
        Ask::Heard(clients) | Ask::HungUp(clients) => stays(
            clients,
            |clients| Ok(clients.into_heard()),
            |heard| v1::Clients::heard(heard.iter().map(|(client, ago)| (client, *ago))),
        ),
        Ask::Lost(clients) => stays(clients, |clients| Ok(clients.into_clients()), |clients| v1::Clients::of(clients)),
        Ask::Watch(ask) => {
            let _any = (ask.group.map(GroupRef::try_from), ask.topic.map(TopicRef::try_from));
            stays(ask.filter, v1::Filter::into_filter, v1::Filter::of);
        }
        Ask::Reset(ask) => stays(ask, Reset::try_from, |reset| reset.into()),
        Ask::Fetch(ask) => stays(ask, Fetch::try_from, |fetch| fetch.into()),
        Ask::Recall(ask) => stays(ask, Recall::try_from, |recall| (*recall).into()),
        Ask::Producers(ask) => stays(ask, |ask| Ok(ask.into_topics()), v1::ProducersAsk::of),
        Ask::EndTransaction(ask) => stays(ask, EndTransaction::try_from, |end| (*end).into()),
        Ask::Checked(ask) => stays(ask, |ask| Ok(ask.into_checked()), |checked| v1::Checked::of(checked)),
        Ask::CommitOffset(ask) => stays(ask, CommitOffset::try_from, |commit| commit.into()),
        Ask::CommittedOffset(ask) => stays(ask, GroupQueue::try_from, |of| (*of).into()),
        Ask::Seal(ask) => stays(ask, Seal::try_from, |seal| seal.into()),
        Ask::Find(ask) => stays(ask, Find::try_from, |find| find.into()),
        Ask::Trace(ask) => stays(ask, Trace::try_from, |trace| (*trace).into()),
        Ask::LiteSubscribe(ask) => stays(ask, LiteSubscription::try_from, |subscription| subscription.into()),
        Ask::Append(_)
        | Ask::Unwatch(_)
        | Ask::LiteList(_)
        | Ask::TopicStatus(_)
        | Ask::GroupStatus(_)
        | Ask::DropTopic(_)
        | Ask::DropGroup(_)
        | Ask::Transactions(_) => {}
    }
}

fn answered(answer: Answered) {
    match answer {
        Answered::Appended(it) => stays(it, v1::Appended::into_appended, |all| v1::Appended::of(all)),
        Answered::Popped(part) => {
            part.messages.into_iter().for_each(|it| stays(it, Delivery::try_from, |delivery| delivery.into()));
        }
        Answered::TopicStatus(it) => stays(it, v1::TopicStatus::into_status, |all| v1::TopicStatus::of(all)),
        Answered::GroupStatus(it) => stays(it, v1::GroupStatus::into_status, |all| v1::GroupStatus::of(all)),
        Answered::Error(it) => {
            let _its_words_may_become_others = StoreError::try_from(it);
        }
        Answered::Reset(it) => stays(it, v1::QueueResets::into_queues, |all| v1::QueueResets::of(all)),
        Answered::Fetched(it) => stays(it, Fetched::try_from, |fetched| fetched.into()),
        Answered::TransactionEnded(it) => stays(it, TransactionEnded::try_from, |ended| (*ended).into()),
        Answered::Transactions(it) => stays(it, v1::Transactions::into_open, |all| v1::Transactions::of(all)),
        Answered::Found(it) => stays(it, v1::Finds::into_found, |all| v1::Finds::of(all)),
        Answered::Traced(it) => stays(it, v1::Traces::into_groups, |all| v1::Traces::of(all)),
        Answered::LiteSubscribed(it) => stays(it, LiteSubscribed::try_from, |subscribed| (*subscribed).into()),
        Answered::Settled(_)
        | Answered::LiteList(_)
        | Answered::Sealed(_)
        | Answered::Done(_)
        | Answered::Recalled(_)
        | Answered::OffsetCommitted(_)
        | Answered::CommittedOffset(_) => {}
    }
}

/// What makes sense is written as something that is read as the same.
fn stays<W, T: Debug>(wire: W, read: impl Fn(W) -> Result<T, Malformed>, write: impl FnOnce(&T) -> W) {
    let Ok(once) = read(wire) else { return };
    let again = read(write(&once)).expect("it was read before");
    assert_eq!(format!("{again:?}"), format!("{once:?}"));
}

fn asks() -> Vec<Ask> {
    let (group, topic) = (group(), topic());
    let append = |due, half| {
        let request = RequestId { proxy_incarnation: 5, sequence: 6 };
        Append {
            topic: topic.clone(),
            queue: QueueId(5),
            message: message(),
            request,
            due,
            half,
            lite: None,
            indexed: true,
            epoch: 0,
        }
    };
    let half = Some(Half { check_after: Duration::from_millis(6000) });
    let dead = DeadLetters { max_attempts: 16, topic: topic.clone(), queue: QueueId(0) };
    let filter = Filter::sql("a > 5 AND b = 'x'").expect("it compiles");
    let pop = Pop {
        group: group.clone(),
        topic: topic.clone(),
        filter: filter.clone(),
        batch: 32,
        lease: LeaseTerms::Fixed(InvisibleDuration::from_millis(30_000)),
        attempt_id: Some(Bytes::from_static(b"attempt")),
        client: client(),
        dead_letters: Some(dead.clone()),
        order: DeliveryOrder::Fifo,
        priority: None,
        lite: true,
    };
    let change = Settlement::Change(InvisibleDuration::from_millis(30_000));
    let offsets = ResetTo::Offsets([(QueueId(3), QueueOffset(7))].into());
    let from = FetchFrom::Time(Timestamp(1_767_225_600_000));
    let fetch =
        Fetch { topic: topic.id, queue: QueueId(1), from, messages: 9, bytes: 1 << 20, message_id: None, filter };
    let (by, until) = (FindBy::Key("k".to_owned()), Timestamp(1_767_225_600_000));
    let find = Find { topic: topic.id, by, from: Timestamp(5), until, messages: 9 };
    vec![
        Ask::Append(v1::AppendAsk::of(&[append(None, None), append(Some(Timestamp(8)), half)]).unwrap_or_default()),
        Ask::Pop((&pop).into()),
        Ask::Settle(v1::SettleAsk::of(key(), &Settlement::Ack)),
        Ask::Settle(v1::SettleAsk::of(key(), &change)),
        Ask::Settle(v1::SettleAsk::of(key(), &Settlement::DeadLetter(dead))),
        Ask::Release(v1::DeliveryKeys::of(&[key()])),
        Ask::Heard(v1::Clients::heard([(&client(), Duration::from_millis(9))])),
        Ask::Watch(v1::WatchAsk {
            id: 1,
            group: Some((&group).into()),
            topic: Some((&topic).into()),
            filter: None,
            client: None,
        }),
        Ask::Reset((&Reset { group: group.clone(), topic: topic.clone(), to: offsets, dry_run: true }).into()),
        Ask::Fetch((&fetch).into()),
        Ask::Find((&find).into()),
        Ask::Trace(Trace { topic: topic.id, queue: QueueId(1), offset: QueueOffset(7) }.into()),
        Ask::Recall(Recall { topic: topic.id, id: KeptId { due: Timestamp(8), number: 9 } }.into()),
        Ask::Producers(v1::ProducersAsk::of(&BTreeSet::from([topic.id]))),
        Ask::EndTransaction(EndTransaction { topic: topic.id, id: HalfId(3), resolution: Resolution::Commit }.into()),
        Ask::CommitOffset((&CommitOffset { group, topic, queue: QueueId(3), offset: QueueOffset(7) }).into()),
    ]
}

fn answers() -> Vec<Answered> {
    let (queue, offset, stored_at) = (QueueId(5), QueueOffset(6), Timestamp(1_767_225_600_000));
    let kept = Some(KeptId { due: Timestamp(8), number: 9 });
    let appended = Appended { queue, offset, stored_at, kept, half: Some(HalfId(3)) };
    let delivery = Delivery {
        key: key(),
        attempt: DeliveryAttempt(2),
        stored_at,
        invisible: InvisibleDuration::from_millis(30_000),
        message: message(),
    };
    let part =
        v1::PoppedPart { messages: vec![(&delivery).into()], last: true, more: true, ..v1::PoppedPart::default() };
    let error = StoreError::NoSuchQueue { topic: topic().name, queue, queues: 4 };
    vec![
        Answered::Appended(v1::Appended::of(&[appended])),
        Answered::Popped(part),
        Answered::Error((&error).into()),
        Answered::TransactionEnded(TransactionEnded::Otherwise.into()),
    ]
}

fn topic() -> TopicRef {
    TopicRef { id: TopicId(7), name: Topic::parse("ns", "orders").expect("a name"), queues: 8 }
}

fn group() -> GroupRef {
    GroupRef { id: GroupId(9), name: ConsumerGroup::parse("", "billing").expect("a name") }
}

fn client() -> ClientId {
    ClientId::parse("host@1@0@abc").expect("it is not blank")
}

fn message() -> StoredMessage {
    StoredMessage { body_part: Bytes::from_static(b"body"), properties_part: Bytes::from_static(b"properties") }
}

fn key() -> DeliveryKey {
    let (epoch, group, topic, queue) = (Epoch(3), GroupId(9), TopicId(7), QueueId(2));
    DeliveryKey { epoch, group, topic, queue, offset: QueueOffset(1 << 40), delivery: DeliverySeq(9) }
}
