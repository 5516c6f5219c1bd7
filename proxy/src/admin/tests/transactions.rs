//! Transactions, page by page, and how they are ended.

use std::sync::Arc;

use apogee_model::store::{EndTransaction, HalfId, OpenTransaction, Resolution, TransactionEnded};
use apogee_model::{QueueId, StoredMessage, Timestamp};
use apogee_proto::admin::v1;
use apogee_proto::v2;
use prost::Message as _;
use tonic::Code;

use super::{Client, FakeStore, client, new_topic, refused};

/// Half messages of every topic, and how many are told at once.
const HALVES: u64 = 5;
const AT_ONCE: usize = 2;

pub(super) fn open(from: HalfId, max: usize) -> Vec<OpenTransaction> {
    let one = |id: u64| {
        let system = v2::SystemProperties { message_id: format!("01A{id}"), ..v2::SystemProperties::default() };
        OpenTransaction {
            queue: QueueId(1),
            id: HalfId(id),
            checks: 15,
            parked: id == 0,
            stored_at: Timestamp(1_700_000_000_000),
            message: StoredMessage { properties_part: system.encode_to_vec().into(), ..StoredMessage::default() },
        }
    };
    (from.0..HALVES).take(max.min(AT_ONCE)).map(one).collect()
}

/// The first one had been committed, the last one is forgotten.
pub(super) fn ended(end: EndTransaction) -> TransactionEnded {
    match (end.id.0, end.resolution) {
        (0, Resolution::Rollback) => TransactionEnded::Otherwise,
        (id, _) if id + 1 == HALVES => TransactionEnded::Unknown,
        _ => TransactionEnded::Done,
    }
}

async fn page(admin: &mut Client, page_size: u32, page_token: &str) -> (Vec<v1::Transaction>, String) {
    let (namespace, topic) = (String::new(), "pay".to_owned());
    let ask = v1::ListTransactionsRequest { namespace, topic, page_size, page_token: page_token.to_owned() };
    let answer = admin.list_transactions(ask).await.expect("a fair question").into_inner();
    (answer.transactions, answer.next_page_token)
}

async fn with_topic() -> Client {
    let mut admin = client(&Arc::<FakeStore>::default());
    admin.create_topic(new_topic("pay")).await.expect("a fair wish");
    admin
}

#[tokio::test]
async fn pages_hold_every_transaction_once() {
    let mut admin = with_topic().await;
    for size in [0, 1, 2, 3, 5, 6] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let (some, next) = page(&mut admin, size, &token).await;
            seen.extend(some.into_iter().map(|one| one.message_id));
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["01A0", "01A1", "01A2", "01A3", "01A4"], "{size} per page");
    }
    let (all, _) = page(&mut admin, 0, "").await;
    assert_eq!((all[0].parked, all[1].parked, all[0].checks, all[0].queue_id), (true, false, 15, 1));
    let (namespace, topic) = (String::new(), "pay".to_owned());
    let ask = v1::ListTransactionsRequest { namespace, topic, page_size: 0, page_token: "here".to_owned() };
    assert_eq!(refused(admin.list_transactions(ask).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn an_operator_hears_what_became_of_a_transaction() {
    let mut admin = with_topic().await;
    let (all, _) = page(&mut admin, 0, "").await;
    let ask = |transaction_id: &str, resolution: v1::TransactionResolution| v1::EndTransactionRequest {
        namespace: String::new(),
        topic: "pay".to_owned(),
        transaction_id: transaction_id.to_owned(),
        resolution: resolution.into(),
    };
    let (commit, rollback) = (v1::TransactionResolution::Commit, v1::TransactionResolution::Rollback);
    let done = admin.end_transaction(ask(&all[0].id, commit)).await.expect("a fair wish").into_inner();
    assert_eq!(done.message_id, "01A0");
    let (code, words) = refused(admin.end_transaction(ask(&all[0].id, rollback)).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(words.contains("01A0 was ended before, and not by a rollback"), "{words}");
    let (code, words) = refused(admin.end_transaction(ask(&all[4].id, rollback)).await);
    assert_eq!(code, Code::NotFound);
    assert!(words.contains("forgotten"), "{words}");
    for (id, resolution) in [("nonsense", commit), (&*all[1].id, v1::TransactionResolution::Unspecified)] {
        assert_eq!(refused(admin.end_transaction(ask(id, resolution)).await).0, Code::InvalidArgument);
    }
}
