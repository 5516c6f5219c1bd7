//! Settings that an operator changes, on open telemetry streams.

use std::time::Duration;

use apogee_model::{ConsumerGroup, DeliveryOrder, GroupChanges, Permission, RetryPolicy, TopicType};
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, ClientType, Code};
use apogee_proxy::Routes as _;
use tokio::time::timeout;

use crate::settings::{Answers, backoff, command, connect, consumer, open, producer};
use crate::support::{World, from, resource, status, world};

async fn pushed(answers: &mut Answers) -> v2::Settings {
    let told = timeout(Duration::from_millis(100), answers.message()).await.expect("it is told at once");
    let told = told.unwrap().unwrap();
    assert_eq!(status(told.status).0, i32::from(Code::Ok), "or the Python SDK passes it over");
    let Some(Command::Settings(settings)) = told.command else { panic!("settings, not {:?}", told.command) };
    settings
}

async fn nothing(answers: &mut Answers) {
    let told = timeout(Duration::from_secs(20), answers.message()).await;
    assert!(told.is_err(), "{told:?}");
}

async fn alter(world: &World, max_attempts: Option<u32>, retry: Option<RetryPolicy>) {
    let group = ConsumerGroup::parse("", "workers").unwrap();
    world.routes.alter_group(GroupChanges { group, max_attempts, retry, priority_factor: None }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn consumers_of_an_altered_group_hear_of_it() {
    let mut world = world().await;
    let (_push, mut push) = open(&mut world, "push", consumer(ClientType::PushConsumer, "workers")).await;
    let (_simple, mut simple) = open(&mut world, "simple", consumer(ClientType::SimpleConsumer, "workers")).await;
    let (_other, mut other) = open(&mut world, "other", consumer(ClientType::PushConsumer, "idlers")).await;
    let (_producer, mut producer) = open(&mut world, "producer", producer()).await;
    alter(&world, Some(4), None).await;
    for answers in [&mut push, &mut simple] {
        let settings = pushed(answers).await;
        assert_eq!(backoff(&settings).0, 4);
        let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("a subscription") };
        assert_eq!((subscription.group, subscription.subscriptions.len()), (resource("workers"), 1));
        assert_eq!(subscription.receive_batch_size, Some(32));
    }
    let next = vec![Duration::from_secs(2), Duration::from_secs(3)];
    alter(&world, None, Some(RetryPolicy::Customized { next })).await;
    assert_eq!(backoff(&pushed(&mut push).await), (4, vec![2000, 3000]));
    alter(&world, Some(4), None).await;
    world.routes.topic("another", TopicType::Normal, Permission::ReadWrite);
    let _told = pushed(&mut simple).await;
    for answers in [&mut push, &mut simple, &mut other, &mut producer] {
        nothing(answers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_told_to_each_sdk_as_it_can_follow_it() {
    let mut world = world().await;
    let (commands, mut answers) = connect(&mut world, |request| {
        *request = from("node", ());
        request.metadata_mut().insert("x-mq-language", "HTTP".parse().unwrap());
    })
    .await;
    commands.send(command(consumer(ClientType::PushConsumer, "workers"))).await.unwrap();
    assert_eq!(backoff(&pushed(&mut answers).await), (17, vec![5000, 900_000]));
    alter(&world, Some(3), Some(RetryPolicy::Customized { next: vec![Duration::from_secs(1)] })).await;
    assert_eq!(backoff(&pushed(&mut answers).await), (3, vec![5000, 900_000]));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_made_anew_is_told() {
    let mut world = world().await;
    let (_commands, mut answers) = open(&mut world, "c", consumer(ClientType::PushConsumer, "workers")).await;
    let group = ConsumerGroup::parse("", "workers").unwrap();
    world.routes.delete_group(&group).await.unwrap();
    world.routes.group("workers", DeliveryOrder::Fifo, 5);
    let settings = pushed(&mut answers).await;
    let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("a subscription") };
    assert_eq!(subscription.fifo, Some(true));
}

#[tokio::test(start_paused = true)]
async fn producers_of_a_topic_of_another_type_hear_of_it() {
    let mut world = world().await;
    world.routes.topic("orders", TopicType::Normal, Permission::ReadWrite);
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    world.routes.forget_topic("orders");
    nothing(&mut answers).await;
    world.routes.topic("orders", TopicType::Fifo, Permission::ReadWrite);
    let settings = pushed(&mut answers).await;
    assert_eq!(backoff(&settings), (3, vec![10, 1000]));
    let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("publishing") };
    assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
}
