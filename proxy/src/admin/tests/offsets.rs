//! Resets, from the wish to what the store is asked.

use std::sync::Arc;

use apogee_model::store::ResetTo;
use apogee_model::{QueueId, QueueOffset, Timestamp};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::reset_offset_request::To;
use tonic::Code;

use super::{Client, FakeStore, client, new_topic, refused};

async fn with_names(store: &Arc<FakeStore>) -> Client {
    let mut admin = client(store);
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    let order = v1::DeliveryOrder::Concurrent.into();
    let (namespace, name, max_attempts, retry) = (String::new(), "g".to_owned(), 3, None);
    let ask = v1::CreateGroupRequest { namespace, name, order, max_attempts, retry, priority_factor: None, lite: None };
    admin.create_group(ask).await.expect("a fair wish");
    admin
}

fn wish(to: Option<To>) -> v1::ResetOffsetRequest {
    let (group, topic) = ("g".to_owned(), "orders".to_owned());
    v1::ResetOffsetRequest { namespace: String::new(), group, topic, to, dry_run: false }
}

fn offsets(offsets: &[(Option<u32>, u64)]) -> To {
    let offset = |(queue_id, offset): &(Option<u32>, u64)| v1::QueueOffset { queue_id: *queue_id, offset: *offset };
    To::Offsets(v1::QueueOffsets { offsets: offsets.iter().map(offset).collect() })
}

#[tokio::test]
async fn what_is_wished_is_asked_of_the_store_and_told_in_order() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_names(&store).await;
    let at = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_999_999 };
    let all = |pairs: &[(u16, u64)]| {
        ResetTo::Offsets(pairs.iter().map(|(queue, offset)| (QueueId(*queue), QueueOffset(*offset))).collect())
    };
    let wishes = [
        (To::Place(v1::Place::Earliest.into()), ResetTo::Earliest),
        (To::Place(v1::Place::Latest.into()), ResetTo::Latest),
        (To::Time(at), ResetTo::Time(Timestamp(1_700_000_000_005))),
        (offsets(&[(None, 7)]), all(&[(0, 7), (1, 7)])),
        (offsets(&[(Some(1), 9), (None, 7)]), all(&[(0, 7), (1, 9)])),
        (offsets(&[(Some(1), 9)]), all(&[(1, 9)])),
    ];
    for (wished, asked) in wishes {
        let answer = admin.reset_offset(wish(Some(wished))).await.expect("a fair wish").into_inner();
        let told: Vec<_> =
            answer.queues.iter().map(|row| (row.queue_id, row.before, row.after, row.in_flight)).collect();
        assert_eq!(told, [(0, 3, 0, 2), (1, 3, 1, 2)]);
        let reset = store.resets.lock().expect("no test panics inside").pop().expect("it was asked");
        assert_eq!((reset.to, reset.dry_run, reset.topic.queues), (asked, false, 2));
        assert_eq!((reset.topic.name.name(), reset.group.name.name()), ("orders", "g"));
    }
    let dry = v1::ResetOffsetRequest { dry_run: true, ..wish(Some(To::Place(v1::Place::Latest.into()))) };
    admin.reset_offset(dry).await.expect("a fair wish");
    assert!(store.resets.lock().expect("no test panics inside")[0].dry_run);
}

#[tokio::test]
async fn bad_wishes_reach_no_store() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_names(&store).await;
    let latest = || Some(To::Place(v1::Place::Latest.into()));
    let wishes = [
        (wish(None), Code::InvalidArgument, "the request does not say where the group is to go on"),
        (wish(Some(To::Place(0))), Code::InvalidArgument, "place is 0, which is none of EARLIEST, LATEST"),
        (wish(Some(offsets(&[]))), Code::InvalidArgument, "the request does not say an offset"),
        (wish(Some(offsets(&[(Some(2), 1)]))), Code::InvalidArgument, "topic orders has 2 queues, and no queue 2"),
        (
            v1::ResetOffsetRequest { group: "nobody".to_owned(), ..wish(latest()) },
            Code::NotFound,
            "consumer group nobody does not exist",
        ),
        (
            v1::ResetOffsetRequest { topic: "nowhere".to_owned(), ..wish(latest()) },
            Code::NotFound,
            "topic nowhere does not exist",
        ),
    ];
    for (wish, code, told) in wishes {
        assert_eq!(refused(admin.reset_offset(wish).await), (code, told.to_owned()));
    }
    assert!(store.resets.lock().expect("no test panics inside").is_empty());
}
