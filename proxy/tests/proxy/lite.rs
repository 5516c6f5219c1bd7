//! Lite topics: what the proxy asks of the store, and whom it refuses.

use apogee_model::store::{LiteChange, LiteStart};
use apogee_model::{DeliveryOrder, Permission, TopicType, message_group_queue};
use apogee_proto::v2::offset_option::{OffsetType, Policy};
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, ClientType, Code, LiteSubscriptionAction};

use crate::settings::{command, connect, consumer};
use crate::support::{World, from, message, receive, resource, sdk, status, world};

async fn lite_world() -> World {
    let world = world().await;
    world.routes.topic("orders", TopicType::Lite, Permission::ReadWrite);
    world.routes.topic("other", TopicType::Lite, Permission::ReadWrite);
    world.routes.topic("plain", TopicType::Normal, Permission::ReadWrite);
    world.routes.lite_group("agents", "orders");
    world.routes.group("workers", DeliveryOrder::Concurrent, 17);
    world
}

async fn sync(
    world: &mut World,
    action: LiteSubscriptionAction,
    (topic, group): (&str, &str),
    names: &[&str],
    from: Option<OffsetType>,
) -> (i32, String) {
    let ask = v2::SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: resource(topic),
        group: resource(group),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        version: None,
        offset_option: from.map(|from| v2::OffsetOption { offset_type: Some(from) }),
    };
    status(world.client.sync_lite_subscription(sdk(ask)).await.unwrap().into_inner().status)
}

#[tokio::test(start_paused = true)]
async fn a_lite_topic_has_one_queue_whatever_the_client_says() {
    let mut world = lite_world().await;
    let lite = |name: &str, queue_id| {
        let mut one = message("orders", "id", "x");
        let properties = one.system_properties.as_mut().unwrap();
        (properties.lite_topic, properties.queue_id) = (Some(name.to_owned()), queue_id);
        one
    };
    for (name, queue_id) in [("a", 0), ("a", 3), ("b", 2)] {
        let sent = world.send(vec![lite(name, queue_id); 2]).await;
        assert_eq!(status(sent.status).0, i32::from(Code::Ok));
    }
    let queues = ["a", "a", "a", "a", "b", "b"].map(|name| message_group_queue(name, 4).0);
    assert_eq!(world.store.told().queues, queues);
    let mixed = status(world.send(vec![lite("a", 0), lite("b", 0)]).await.status);
    assert_eq!(mixed.0, i32::from(Code::IllegalLiteTopic), "{}", mixed.1);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_reach_the_store() {
    let mut world = lite_world().await;
    let here = ("orders", "agents");
    use LiteSubscriptionAction::{CompleteAdd, CompleteRemove, PartialAdd, PartialRemove};
    for (action, names, from) in [
        (PartialAdd, &["a"][..], Some(OffsetType::Policy(Policy::Min.into()))),
        (PartialAdd, &["b"], Some(OffsetType::TailN(3))),
        (PartialRemove, &["a"], None),
        (CompleteAdd, &["a", "b"], None),
        (CompleteRemove, &[], None),
    ] {
        let (code, words) = sync(&mut world, action, here, names, from).await;
        assert_eq!(code, i32::from(Code::Ok), "{words}");
    }
    let told = world.store.told().subscribed;
    let seen: Vec<_> = told.iter().map(|it| (it.change, it.names.len(), it.from)).collect();
    let expected = [
        (LiteChange::Add, 1, LiteStart::Earliest),
        (LiteChange::Add, 1, LiteStart::Tail(3)),
        (LiteChange::Remove, 1, LiteStart::Last),
        (LiteChange::Complete, 2, LiteStart::Last),
        (LiteChange::RemoveAll, 0, LiteStart::Last),
    ];
    assert_eq!(seen, expected);
    assert_eq!((told[0].client.as_str(), told[0].terms.client_max), ("client-1", 303));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_subscribe() {
    let mut world = lite_world().await;
    let add = LiteSubscriptionAction::PartialAdd;
    let many: Vec<String> = (0..304).map(|nth| nth.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(65);
    for (topic, group, names, expected) in [
        ("other", "agents", &["a"][..], Code::IllegalTopic),
        ("orders", "workers", &["a"], Code::IllegalTopic),
        ("orders", "nobody", &["a"], Code::IllegalConsumerGroup),
        ("nothing", "agents", &["a"], Code::TopicNotFound),
        ("orders", "agents", &["a.b"], Code::IllegalLiteTopic),
        ("orders", "agents", &[""], Code::IllegalLiteTopic),
        ("orders", "agents", &[&long], Code::IllegalLiteTopic),
        ("orders", "agents", &many, Code::LiteSubscriptionQuotaExceeded),
    ] {
        let (code, words) = sync(&mut world, add, (topic, group), names, None).await;
        assert_eq!(code, i32::from(expected), "{topic} {group}: {words}");
    }
    let negative = Some(OffsetType::Offset(-1));
    let (code, _) = sync(&mut world, add, ("orders", "agents"), &["a"], negative).await;
    assert_eq!(code, i32::from(Code::IllegalOffset));
    assert_eq!(world.store.told().subscribed, []);
}

#[tokio::test(start_paused = true)]
async fn a_receive_of_a_lite_group_is_of_lite_topics() {
    let mut world = lite_world().await;
    let code = |parts: Vec<v2::receive_message_response::Content>| match parts.into_iter().next() {
        Some(v2::receive_message_response::Content::Status(status)) => status.code(),
        other => panic!("{other:?} is no status"),
    };
    assert_eq!(code(world.receive(receive("orders", "agents")).await), Code::MessageNotFound);
    let told = world.store.told();
    assert_eq!((told.lite_pops, told.orders.last()), (told.pops, Some(&DeliveryOrder::Fifo)));
    assert_eq!(code(world.receive(receive("other", "agents")).await), Code::IllegalTopic);
    assert_eq!(code(world.receive(receive("orders", "workers")).await), Code::IllegalConsumerGroup);
    world.store.unsettled(101);
    assert_eq!(code(world.receive(receive("orders", "agents")).await), Code::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn client_types_fit_their_groups() {
    let mut world = lite_world().await;
    for (client_type, group, expected) in [
        (ClientType::LitePushConsumer, "agents", true),
        (ClientType::LiteSimpleConsumer, "agents", true),
        (ClientType::LitePushConsumer, "workers", false),
        (ClientType::LitePushConsumer, "nobody", false),
        (ClientType::PushConsumer, "agents", false),
        (ClientType::PushConsumer, "workers", true),
    ] {
        let beat = v2::HeartbeatRequest { group: resource(group), client_type: client_type.into() };
        let code = status(world.client.heartbeat(sdk(beat)).await.unwrap().into_inner().status).0;
        let refused = if expected { Code::Ok } else { Code::IllegalConsumerGroup };
        assert_eq!(code, i32::from(refused), "{client_type:?} of {group}");
        let (commands, mut answers) = connect(&mut world, |_| {}).await;
        commands.send(command(consumer(client_type, group))).await.unwrap();
        assert_eq!(answers.message().await.is_ok(), expected, "{client_type:?} of {group}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_evicted_client_is_told() {
    let mut world = lite_world().await;
    let (commands, mut answers) = connect(&mut world, |_| {}).await;
    commands.send(command(consumer(ClientType::LitePushConsumer, "agents"))).await.unwrap();
    let first = answers.message().await.unwrap().unwrap();
    let Some(Command::Settings(settings)) = first.command else { panic!("{first:?} is no settings") };
    let Some(v2::settings::PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("no subscription") };
    assert_eq!((subscription.lite_subscription_quota, subscription.max_lite_topic_size), (Some(3), Some(64)));
    assert_eq!(subscription.fifo, Some(true));
    world.store.evict("a");
    let mut parts = world.client.receive_message(from("c", receive("orders", "agents"))).await.unwrap().into_inner();
    while parts.message().await.unwrap().is_some() {}
    let told = answers.message().await.unwrap().unwrap();
    let Some(Command::NotifyUnsubscribeLiteCommand(lost)) = told.command else { panic!("{told:?} is no eviction") };
    assert_eq!(lost.lite_topic, "a");
}
