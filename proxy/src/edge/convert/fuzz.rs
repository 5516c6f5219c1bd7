//! What fuzzing does to the requests of clients; see [`crate::fuzz`].

use std::sync::LazyLock;

use apogee_model::{ClientId, StoredMessage, Timestamp, Topic, wire};
use apogee_proto::v2;
use futures::FutureExt as _;
use prost::Message;
use tokio::time::Instant;

use super::Parse;
use crate::service::ack::Ack;
use crate::service::change_invisible::ChangeInvisible;
use crate::service::dead_letter::Forward;
use crate::service::end_transaction::End;
use crate::service::heartbeat::Beat;
use crate::service::offsets::{Get, Query, Update};
use crate::service::pull::Pull;
use crate::service::query_assignment::AssignmentQuery;
use crate::service::query_route::RouteQuery;
use crate::service::recall::Recall;
use crate::service::receive::Receive;
use crate::service::send::Batch;
use crate::service::telemetry::ClientSettings;
use crate::service::{Call, Language};

/// A request is refused, or makes sense; what would be stored of a message can be read and moved. The first byte of the
/// input says of which RPC.
///
/// # Panics
/// When it is otherwise.
pub fn requests(data: &[u8]) {
    let Some((rpc, bytes)) = data.split_first() else { return };
    let call = call();
    match rpc % 15 {
        0 => parsed::<v2::SendMessageRequest, Batch>(bytes, &call).into_iter().for_each(stored),
        1 => tried::<v2::ReceiveMessageRequest, Receive>(bytes, &call),
        2 => tried::<v2::AckMessageRequest, Ack>(bytes, &call),
        3 => tried::<v2::ChangeInvisibleDurationRequest, ChangeInvisible>(bytes, &call),
        4 => tried::<v2::ForwardMessageToDeadLetterQueueRequest, Forward>(bytes, &call),
        5 => tried::<v2::EndTransactionRequest, End>(bytes, &call),
        6 => tried::<v2::RecallMessageRequest, Recall>(bytes, &call),
        7 => tried::<v2::QueryRouteRequest, RouteQuery>(bytes, &call),
        8 => tried::<v2::QueryAssignmentRequest, AssignmentQuery>(bytes, &call),
        9 => tried::<v2::HeartbeatRequest, Beat>(bytes, &call),
        10 => tried::<v2::PullMessageRequest, Pull>(bytes, &call),
        11 => tried::<v2::UpdateOffsetRequest, Update>(bytes, &call),
        12 => tried::<v2::GetOffsetRequest, Get>(bytes, &call),
        13 => tried::<v2::QueryOffsetRequest, Query>(bytes, &call),
        _ => tried::<v2::Settings, ClientSettings>(bytes, &call),
    }
}

/// Requests that make sense.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let name = |name: &str| Some(v2::Resource { resource_namespace: "ns".to_owned(), name: name.to_owned() });
    let system = v2::SystemProperties {
        tag: Some("TagA".to_owned()),
        keys: vec!["key".to_owned()],
        message_id: "01ABCDEF012345000106B0F8400000002A".to_owned(),
        born_timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 5_000_000 }),
        born_host: "host".to_owned(),
        ..v2::SystemProperties::default()
    };
    let message = |system| v2::Message {
        topic: name("orders"),
        user_properties: [("k".to_owned(), "v".to_owned())].into(),
        system_properties: Some(system),
        body: "body".into(),
    };
    let later = v2::SystemProperties { delivery_timestamp: system.born_timestamp, ..system.clone() };
    let grouped = v2::SystemProperties { message_group: Some("g".to_owned()), ..system.clone() };
    let half = v2::SystemProperties { message_type: v2::MessageType::Transaction.into(), ..system.clone() };
    let sent = [system, later, grouped, half].map(|system| v2::SendMessageRequest { messages: vec![message(system)] });
    let sql = v2::FilterExpression { r#type: v2::FilterType::Sql.into(), expression: "a > 5".to_owned() };
    let receive = v2::ReceiveMessageRequest {
        group: name("billing"),
        message_queue: Some(v2::MessageQueue { topic: name("orders"), id: -1, ..v2::MessageQueue::default() }),
        filter_expression: Some(sql.clone()),
        batch_size: 32,
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..v2::ReceiveMessageRequest::default()
    };
    let entry = v2::AckMessageEntry { receipt_handle: "handle".to_owned(), ..v2::AckMessageEntry::default() };
    let ack = v2::AckMessageRequest { group: name("billing"), topic: name("orders"), entries: vec![entry] };
    let end = v2::EndTransactionRequest {
        topic: name("orders"),
        transaction_id: "id".to_owned(),
        resolution: v2::TransactionResolution::Commit.into(),
        ..v2::EndTransactionRequest::default()
    };
    let subscription = v2::Subscription {
        group: name("billing"),
        subscriptions: vec![v2::SubscriptionEntry { topic: name("orders"), expression: Some(sql) }],
        ..v2::Subscription::default()
    };
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::SimpleConsumer.into()),
        pub_sub: Some(v2::settings::PubSub::Subscription(subscription)),
        ..v2::Settings::default()
    };
    let of = |rpc: u8, request: Vec<u8>| [vec![rpc], request].concat();
    let sent = sent.iter().map(|request| of(0, request.encode_to_vec()));
    let others = [(1, receive.encode_to_vec()), (2, ack.encode_to_vec()), (5, end.encode_to_vec())];
    let others = others.into_iter().chain([(14, settings.encode_to_vec())]);
    sent.chain(others.map(|(rpc, request)| of(rpc, request))).collect()
}

fn tried<W: Message + Default, T: Parse<W>>(bytes: &[u8], call: &Call) {
    let _refused_or_not: Option<T> = parsed(bytes, call);
}

fn parsed<W: Message + Default, T: Parse<W>>(bytes: &[u8], call: &Call) -> Option<T> {
    T::parse(W::decode(bytes).ok()?, call).ok()
}

/// What is stored is what was sent, reads as a message, becomes a dead letter, and then the same message again.
fn stored(batch: Batch) {
    let topic = batch.topic;
    for draft in batch.messages {
        let (message_id, body) = (draft.message_id.clone(), draft.body.clone());
        let message = draft.seal().now_or_never().expect("a small body is hashed at once");
        for part in [&message.body_part, &message.properties_part] {
            assert!(wire::fields(part).all(|field| field.is_ok()), "a part is no message");
        }
        let read = v2::Message::decode(message.body_part.clone()).expect("a part is a message");
        v2::SystemProperties::decode(message.properties_part.clone()).expect("a part is a message");
        assert_eq!((read.body, message.message_id()), (body, Some(&*message_id)));
        assert_eq!(message.topic(), Some((topic.namespace(), topic.name())));
        moved(&message, &topic);
    }
}

fn moved(message: &StoredMessage, topic: &Topic) {
    static DEAD: LazyLock<Topic> = LazyLock::new(|| Topic::parse("ns", "%DLQ%billing").expect("a name"));
    let dead = message.dead_letter(&DEAD);
    assert_eq!((dead.topic(), dead.message_id()), (Some(("ns", DEAD.name())), message.message_id()));
    if message.origin_topic().is_none() {
        assert_eq!(dead.revived(topic).as_ref(), Some(message), "a dead letter is what it was");
    }
}

fn call() -> Call {
    Call {
        client: ClientId::parse("c").expect("it is not blank"),
        language: Language::Java,
        version: "".into(),
        namespace: "".into(),
        request_id: "".into(),
        peer: None,
        connection: None,
        departure: crate::listen::Departure::default(),
        received: Timestamp(1_767_225_600_000),
        started: Instant::now(),
        deadline: None,
    }
}
