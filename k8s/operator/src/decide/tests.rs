use super::*;
use crate::crds::{ConsumerGroupSpec, TopicSpec};

fn topic_of(spec: serde_json::Value) -> Topic {
    let spec: TopicSpec = serde_json::from_value(spec).expect("a spec");
    Topic::new("orders", spec)
}

fn group_of(spec: serde_json::Value) -> ConsumerGroup {
    let spec: ConsumerGroupSpec = serde_json::from_value(spec).expect("a spec");
    ConsumerGroup::new("billing", spec)
}

/// What the cluster makes of a topic that says nothing.
fn topic_there() -> admin::Topic {
    admin::Topic {
        name: "orders".to_owned(),
        r#type: admin::TopicType::Normal.into(),
        read_queues: 8,
        write_queues: 8,
        id: 7,
        permission: admin::Permission::ReadWrite.into(),
        ..admin::Topic::default()
    }
}

fn group_there() -> admin::Group {
    let standard = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
    let next_ms = standard.iter().map(|seconds| seconds * 1_000).collect();
    let kind = admin::retry_policy::Kind::Customized(admin::CustomizedRetry { next_ms });
    admin::Group {
        name: "billing".to_owned(),
        order: admin::DeliveryOrder::Concurrent.into(),
        max_attempts: 17,
        id: 3,
        retry: Some(admin::RetryPolicy { kind: Some(kind) }),
        priority_factor: 100,
        ..admin::Group::default()
    }
}

const OURS: Held = Held { id: Some(7), claimed: false };

fn altered(spec: serde_json::Value, there: &admin::Topic) -> Option<admin::AlterTopicRequest> {
    match topic(&topic_of(spec), OURS, Some(there)).expect("it is ours").step {
        Step::Alter(ask) => Some(ask),
        Step::Nothing => None,
        Step::Create(_) => panic!("it is there"),
    }
}

#[test]
fn what_is_not_there_is_made_with_all_that_it_says() {
    let spec = serde_json::json!({
        "topicName": "orders-eu", "messageType": "LITE", "queues": 3, "liteExpirationSeconds": 60, "keyIndex": false,
    });
    let Step::Create(ask) = topic(&topic_of(spec), Held::default(), None).expect("nothing is there").step else {
        panic!("nothing is there")
    };
    assert_eq!((ask.name.as_str(), ask.r#type(), ask.read_queues), ("orders-eu", admin::TopicType::Lite, 3));
    assert_eq!((ask.write_queues, ask.lite_expiration_ms, ask.no_key_index), (3, Some(60_000), true));

    let spec = serde_json::json!({
        "deliveryOrder": "ORDERLY", "maxDeliveryAttempts": 4, "backoff": {"customizedSeconds": [1, 2]}, "liteTopic": "chat",
    });
    let Step::Create(ask) = group(&group_of(spec), Held::default(), None).expect("nothing is there").step else {
        panic!("nothing is there")
    };
    assert_eq!((ask.name.as_str(), ask.order(), ask.max_attempts), ("billing", admin::DeliveryOrder::Orderly, 4));
    let kind = admin::retry_policy::Kind::Customized(admin::CustomizedRetry { next_ms: vec![1_000, 2_000] });
    assert_eq!(ask.retry, Some(admin::RetryPolicy { kind: Some(kind) }));
    assert_eq!(ask.lite.map(|lite| lite.topic).as_deref(), Some("chat"));
}

#[test]
fn an_object_that_says_nothing_is_what_the_cluster_makes_by_itself() {
    assert_eq!(altered(serde_json::json!({}), &topic_there()), None);
    let held = Held { id: Some(3), claimed: false };
    let decision = group(&group_of(serde_json::json!({})), held, Some(&group_there())).expect("it is ours");
    assert_eq!((decision.step, decision.lack), (Step::Nothing, None));
}

#[test]
fn what_differs_is_altered_and_nothing_else() {
    let there = topic_there();
    let ask = altered(serde_json::json!({"queues": 12}), &there).expect("more queues");
    assert_eq!((ask.queues, ask.permission, ask.key_index), (12, 0, None));
    let ask = altered(serde_json::json!({"permission": "Read"}), &there).expect("another permission");
    assert_eq!((ask.queues, ask.permission(), ask.key_index), (0, admin::Permission::Read, None));
    let ask = altered(serde_json::json!({"keyIndex": false}), &there).expect("no index");
    assert_eq!((ask.queues, ask.permission, ask.key_index), (0, 0, Some(false)));

    let held = Held { id: Some(3), claimed: false };
    let mut there = group_there();
    let alter = |spec, there: &admin::Group| match group(&group_of(spec), held, Some(there)).expect("it is ours").step {
        Step::Alter(ask) => ask,
        step => panic!("{step:?}"),
    };
    let ask = alter(serde_json::json!({"maxDeliveryAttempts": 3, "priorityFactor": 50}), &there);
    assert_eq!((ask.max_attempts, ask.retry, ask.priority_factor), (Some(3), None, Some(50)));
    let exponential = serde_json::json!({"exponential": {"initialSeconds": 1, "maxSeconds": 9, "multiplier": 3}});
    let ask = alter(serde_json::json!({ "backoff": exponential }), &there);
    let kind = admin::ExponentialRetry { initial_ms: 1_000, max_ms: 9_000, multiplier: 3 };
    let kind = admin::retry_policy::Kind::Exponential(kind);
    assert_eq!(ask.retry, Some(admin::RetryPolicy { kind: Some(kind) }));
    // Who stops saying what it wants gets what everybody gets.
    there.retry = ask.retry;
    assert_eq!(alter(serde_json::json!({}), &there).retry, group_there().retry);
}

#[test]
fn fewer_queues_than_there_are_stay_and_the_rest_is_altered() {
    let mut there = topic_there();
    there.write_queues = 12;
    there.permission = admin::Permission::None.into();
    let decision = topic(&topic_of(serde_json::json!({})), OURS, Some(&there)).expect("it is ours");
    let Step::Alter(ask) = decision.step else { panic!("the permission is another one") };
    assert_eq!((ask.queues, ask.permission()), (0, admin::Permission::ReadWrite));
    assert_eq!(decision.lack, Some(Lack::FewerQueues { there: 12 }));
}

#[test]
fn a_topic_that_grows_is_not_asked_to_grow_again() {
    let mut there = topic_there();
    there.growing_to = Some(12);
    let look = |queues: u32| {
        let decision =
            topic(&topic_of(serde_json::json!({ "queues": queues })), OURS, Some(&there)).expect("it is ours");
        let asked = match decision.step {
            Step::Alter(ask) => ask.queues,
            _ => 0,
        };
        (asked, decision.lack)
    };
    assert_eq!(look(12), (0, Some(Lack::Growing { to: 12 })));
    assert_eq!(look(16), (16, Some(Lack::Growing { to: 12 })));
    assert_eq!(look(8), (0, Some(Lack::FewerQueues { there: 12 })));
}

#[test]
fn what_this_object_did_not_make_is_left_alone_unless_it_adopts() {
    let (mut wanted, there) = (topic_of(serde_json::json!({"queues": 9})), topic_there());
    let refusal = topic(&wanted, Held::default(), Some(&there)).map(drop).expect_err("somebody made it");
    assert_eq!(refusal, Refusal::Foreign { name: "topic orders".to_owned() });
    // Made by it, but another one of the same name since.
    assert!(topic(&wanted, Held { id: Some(6), claimed: false }, Some(&there)).is_err());
    // It asked for it, and the answer was lost.
    assert!(topic(&wanted, Held { id: None, claimed: true }, Some(&there)).is_ok());
    let mut adopt = |value: &str| {
        let annotations = [(ADOPT.to_owned(), value.to_owned())];
        wanted.metadata.annotations = Some(annotations.into());
        topic(&wanted, Held::default(), Some(&there)).is_ok()
    };
    assert_eq!((adopt("true"), adopt("yes")), (true, false));
}

#[test]
fn what_is_for_good_is_refused_with_both_values() {
    let told =
        |spec| topic(&topic_of(spec), OURS, Some(&topic_there())).map(drop).map_err(|refusal| refusal.to_string());
    let fixed = "orders has messageType NORMAL in the cluster, and that cannot be changed to FIFO";
    assert_eq!(told(serde_json::json!({"messageType": "FIFO"})), Err(fixed.to_owned()));
    let fixed = "orders has liteExpirationSeconds none in the cluster, and that cannot be changed to 60";
    assert_eq!(told(serde_json::json!({"liteExpirationSeconds": 60})), Err(fixed.to_owned()));
    let held = Held { id: Some(3), claimed: false };
    let told =
        |spec| group(&group_of(spec), held, Some(&group_there())).map(drop).map_err(|refusal| refusal.to_string());
    let fixed = "billing has deliveryOrder CONCURRENT in the cluster, and that cannot be changed to ORDERLY";
    assert_eq!(told(serde_json::json!({"deliveryOrder": "ORDERLY"})), Err(fixed.to_owned()));
    let fixed = "billing has liteTopic none in the cluster, and that cannot be changed to chat";
    assert_eq!(told(serde_json::json!({"liteTopic": "chat"})), Err(fixed.to_owned()));
}
