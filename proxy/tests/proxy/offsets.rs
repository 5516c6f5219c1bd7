//! UpdateOffset, GetOffset, QueryOffset.

use apogee_model::store::StoreError;
use apogee_proto::v2::{self, Code, QueryOffsetPolicy};
use apogee_proxy::ProxySettings;

use crate::pull::{queue, sent};
use crate::support::{World, resource, sdk, status, world, world_with};

type Status = Option<v2::Status>;

fn code(found: Status) -> Code {
    Code::try_from(status(found).0).unwrap()
}

impl World {
    async fn update(&mut self, id: i32, offset: i64) -> Code {
        let (group, message_queue) = (resource("readers"), queue("orders", id));
        let ask = v2::UpdateOffsetRequest { group, message_queue, offset };
        code(self.client.update_offset(sdk(ask)).await.unwrap().into_inner().status)
    }

    async fn get(&mut self, id: i32) -> (Code, i64) {
        let ask = v2::GetOffsetRequest { group: resource("readers"), message_queue: queue("orders", id) };
        let found = self.client.get_offset(sdk(ask)).await.unwrap().into_inner();
        (code(found.status), found.offset)
    }

    async fn query(&mut self, id: i32, policy: i32, seconds: Option<i64>) -> (Code, i64) {
        let ask = v2::QueryOffsetRequest {
            message_queue: queue("orders", id),
            query_offset_policy: policy,
            timestamp: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        };
        let found = self.client.query_offset(sdk(ask)).await.unwrap().into_inner();
        (code(found.status), found.offset)
    }
}

#[tokio::test]
async fn an_offset_is_there_once_it_was_committed() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a"), ("", "b")]).await;
    assert_eq!(world.get(queue).await, (Code::OffsetNotFound, 0), "nobody knows the group");
    assert_eq!(world.update(queue, 2).await, Code::Ok);
    assert_eq!(world.get(queue).await, (Code::Ok, 2));
    assert_eq!(world.update(queue, 0).await, Code::Ok, "a group may go back");
    assert_eq!(world.get(queue).await, (Code::Ok, 0));
    assert_eq!(world.get((queue + 1) % 4).await, (Code::OffsetNotFound, 0), "it is of one queue");
    for impossible in [3, -1, i64::MAX, i64::MIN] {
        assert_eq!(world.update(queue, impossible).await, Code::IllegalOffset, "{impossible}");
    }
    assert_eq!(world.get(queue).await, (Code::Ok, 0));
}

#[tokio::test]
async fn a_queue_has_a_beginning_an_end_and_times() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a"), ("", "b"), ("", "c"), ("", "d")]).await;
    world.store.trim(1);
    let (beginning, end) = (QueryOffsetPolicy::Beginning.into(), QueryOffsetPolicy::End.into());
    let time = QueryOffsetPolicy::Timestamp.into();
    assert_eq!(world.query(queue, beginning, None).await, (Code::Ok, 1));
    assert_eq!(world.query(queue, end, Some(2)).await, (Code::Ok, 4), "which has no time");
    for (seconds, offset) in [(0, 1), (2, 2), (3, 3), (4, 4), (i64::MAX, 4), (i64::MIN, 1)] {
        assert_eq!(world.query(queue, time, Some(seconds)).await, (Code::Ok, offset), "{seconds}");
    }
    assert_eq!(world.query(queue, time, None).await, (Code::BadRequest, 0));
    assert_eq!(world.query(queue, 7, None).await, (Code::BadRequest, 0));
    assert_eq!(world.query((queue + 1) % 4, end, None).await, (Code::Ok, 0), "nothing was ever sent there");
}

#[tokio::test]
async fn who_asks_for_what_is_not_there_hears_it() {
    let mut world = world().await;
    for missing in [world.update(0, 0).await, world.get(0).await.0, world.query(0, 0, None).await.0] {
        assert_eq!(missing, Code::TopicNotFound, "to ask for a topic does not create it");
    }
    sent(&mut world, &[("", "a")]).await;
    for id in [-1, 8] {
        for missing in [world.update(id, 0).await, world.get(id).await.0, world.query(id, 0, None).await.0] {
            assert_eq!(missing, Code::BadRequest, "queue {id}");
        }
    }
    world.store.fail(Some(StoreError::Busy { what: "inbox" }));
    for refused in [world.update(0, 0).await, world.query(0, 0, None).await.0] {
        assert_eq!(refused, Code::TooManyRequests);
    }
    let client = &mut world.client;
    let unnamed = client.update_offset(sdk(v2::UpdateOffsetRequest::default())).await.unwrap().into_inner();
    assert_eq!(code(unnamed.status), Code::IllegalTopic);
    let (group, message_queue) = (resource("a b"), queue("orders", 0));
    let misnamed = client.get_offset(sdk(v2::GetOffsetRequest { group, message_queue })).await.unwrap().into_inner();
    assert_eq!(code(misnamed.status), Code::IllegalConsumerGroup);
    let unnamed = client.query_offset(sdk(v2::QueryOffsetRequest::default())).await.unwrap().into_inner();
    assert_eq!(code(unnamed.status), Code::IllegalTopic);
}

#[tokio::test]
async fn a_group_must_be_known_where_first_use_creates_nothing() {
    let mut world = world_with(ProxySettings { auto_create: false, ..ProxySettings::default() }).await;
    let (normal, open) = (apogee_model::TopicType::Normal, apogee_model::Permission::ReadWrite);
    world.routes.topic("orders", normal, open);
    assert_eq!(world.update(0, 0).await, Code::ConsumerGroupNotFound);
    assert_eq!(world.get(0).await, (Code::ConsumerGroupNotFound, 0));
    world.routes.group("readers", apogee_model::DeliveryOrder::Concurrent, 17);
    assert_eq!(world.get(0).await, (Code::OffsetNotFound, 0));
}
