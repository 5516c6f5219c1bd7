//! Questions of operators to clients, through the proxy that hears them or through another.

use std::time::Duration;

use apogee_model::{DeliveryOrder, Permission, TopicType};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::verify_message_request::By;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, ClientType, Code};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clients::{Admin, node, proxy, serve, token};
use crate::settings::{Answers, Commands, consumer, open, producer};
use crate::support::{World, from, message, resource, sdk};

fn stack(client: &str) -> v1::PrintThreadStackRequest {
    v1::PrintThreadStackRequest { client: client.to_owned(), wait_ms: 0, local_only: false }
}

fn verify(client: &str, place: u64) -> v1::VerifyMessageRequest {
    v1::VerifyMessageRequest {
        client: client.to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        by: Some(By::Place(v1::QueueOffset { queue_id: Some(0), offset: place })),
        ..Default::default()
    }
}

fn says(code: Code, command: Command) -> v2::TelemetryCommand {
    v2::TelemetryCommand {
        status: Some(v2::Status { code: code.into(), message: String::new() }),
        command: Some(command),
    }
}

async fn asked(answers: &mut Answers) -> Command {
    let told = timeout(Duration::from_secs(2), answers.message()).await.expect("it is asked at once");
    told.unwrap().unwrap().command.expect("a question")
}

async fn nonce(answers: &mut Answers) -> String {
    match asked(answers).await {
        Command::PrintThreadStackTraceCommand(asked) => asked.nonce,
        Command::VerifyMessageCommand(asked) => asked.nonce,
        other => panic!("a question, not {other:?}"),
    }
}

async fn tell_stack(commands: &Commands, nonce: &str, text: &str) {
    let trace = v2::ThreadStackTrace { nonce: nonce.to_owned(), thread_stack_trace: Some(text.to_owned()) };
    commands.send(says(Code::Ok, Command::ThreadStackTrace(trace))).await.unwrap();
}

async fn tell_verified(commands: &Commands, nonce: String, code: Code) {
    commands.send(says(code, Command::VerifyMessageResult(v2::VerifyMessageResult { nonce }))).await.unwrap();
}

/// Two proxies that know of each other, and the admin API of each. Each has a store of its own, with messages
/// in every queue.
async fn two() -> (World, Admin, World, Admin) {
    let (mut one, mut two) = (proxy("p1").await, proxy("p2").await);
    for world in [&mut one, &mut two] {
        world.routes.topic("orders", TopicType::Normal, Permission::ReadWrite);
        world.routes.group("g", DeliveryOrder::Concurrent, 17);
        for nth in 0..8 {
            world.send(vec![message("orders", &format!("id-{nth}"), "hello")]).await; // each to the next queue
        }
    }
    let (first, at_one) = serve(&one, one.proxy.admin(Some(token()), CancellationToken::new())).await;
    let (second, at_two) = serve(&two, two.proxy.admin(Some(token()), CancellationToken::new())).await;
    for world in [&one, &two] {
        *world.routes.proxies.lock().unwrap() = Ok(vec![node("p1", &at_one), node("p2", &at_two)]);
    }
    (one, first, two, second)
}

#[tokio::test]
async fn a_stack_comes_back_from_whichever_proxy_hears_the_client() {
    let (mut one, mut first, _two, mut second) = two().await;
    let (commands, mut answers) = open(&mut one, "c", producer()).await;
    for (admin, text) in [(&mut first, "main: idle"), (&mut second, "main: busy")] {
        let answering = async {
            let nonce = nonce(&mut answers).await;
            tell_stack(&commands, "never asked", "something else").await;
            tell_stack(&commands, &nonce, text).await;
        };
        let (told, ()) = tokio::join!(admin.print_thread_stack(stack("c")), answering);
        let told = told.unwrap().into_inner();
        assert_eq!((told.proxy.as_str(), told.stack.as_str()), ("p1", text));
    }
    let known = second.describe_client(v1::DescribeClientRequest { id: "c".into(), local_only: false }).await.unwrap();
    assert_eq!(known.into_inner().clients[0].streams, 1);
}

#[tokio::test]
async fn questions_at_once_do_not_mix() {
    let (mut one, first, _two, second) = two().await;
    let (commands, mut answers) = open(&mut one, "c", producer()).await;
    let ask = |admin: &Admin| {
        let mut admin = admin.clone();
        async move { admin.print_thread_stack(stack("c")).await.unwrap().into_inner().stack }
    };
    let answering = async {
        let mut nonces = Vec::new();
        for _ in 0..3 {
            nonces.push(nonce(&mut answers).await);
        }
        for nonce in nonces.iter().rev() {
            tell_stack(&commands, nonce, nonce).await;
        }
        nonces.sort();
        nonces
    };
    let (a, b, c, nonces) = tokio::join!(ask(&first), ask(&second), ask(&first), answering);
    let mut told = [a, b, c];
    told.sort();
    assert_eq!(told[..], nonces[..]);
}

#[tokio::test]
async fn a_message_is_tried_by_a_consumer_of_any_proxy() {
    let (_one, first, mut two, second) = two().await;
    let (commands, mut answers) = open(&mut two, "c", consumer(ClientType::PushConsumer, "g")).await;
    for (admin, code, outcome) in [
        (&first, Code::Ok, v1::VerifyOutcome::Consumed),
        (&second, Code::FailedToConsumeMessage, v1::VerifyOutcome::Failed),
        (&first, Code::NotImplemented, v1::VerifyOutcome::Unsupported),
    ] {
        let mut admin = admin.clone();
        let answering = async {
            let Command::VerifyMessageCommand(asked) = asked(&mut answers).await else { panic!("a message to try") };
            let message = asked.message.unwrap();
            let system = message.system_properties.unwrap();
            assert_eq!((&message.body[..], message.topic.unwrap().name.as_str()), (&b"hello"[..], "orders"));
            assert_eq!((system.queue_id, system.queue_offset, &system.receipt_handle), (0, Some(0), &None));
            assert!(system.message_id.starts_with("id-") && system.body_digest.is_some(), "{system:?}");
            tell_verified(&commands, asked.nonce, code).await;
        };
        let (told, ()) = tokio::join!(admin.verify_message(verify("c", 0)), answering);
        let told = told.unwrap().into_inner();
        assert_eq!((told.proxy.as_str(), told.outcome(), told.code.as_str()), ("p2", outcome, code.as_str_name()));
        assert!(told.message_id.starts_with("id-") && told.offset == 0, "{told:?}");
    }
    assert_eq!(two.store.told().pops, 0, "nothing was consumed");
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    let (mut one, mut first, mut two, mut second) = two().await;
    let refused = |status: tonic::Status| (status.code(), status.message().to_owned());
    let words = |code, text: &str| (code, text.to_owned());
    let (commands, mut answers) = open(&mut one, "c", producer()).await;
    let (_silent, _) = open(&mut two, "silent", consumer(ClientType::PushConsumer, "g")).await;
    let beat = v2::HeartbeatRequest { group: resource("g"), client_type: ClientType::SimpleConsumer.into() };
    two.client.heartbeat(from("beats", beat)).await.unwrap();

    let nobody = refused(first.print_thread_stack(stack("nobody")).await.unwrap_err());
    assert_eq!(nobody, words(tonic::Code::NotFound, "no proxy hears a client nobody"));
    let beats = refused(first.print_thread_stack(stack("beats")).await.unwrap_err());
    assert_eq!(
        beats,
        words(
            tonic::Code::FailedPrecondition,
            "no telemetry stream of client beats is open, so it cannot be asked anything"
        )
    );
    let other = refused(second.verify_message(verify("c", 0)).await.unwrap_err());
    assert_eq!(other, words(tonic::Code::FailedPrecondition, "client c is no consumer of group g"));
    let nothing = refused(first.verify_message(verify("silent", 7)).await.unwrap_err());
    assert_eq!(nothing, words(tonic::Code::NotFound, "topic orders holds no message at offset 7 of queue 0"));
    let soon = v1::PrintThreadStackRequest { wait_ms: 300, ..stack("silent") };
    let (code, text) = refused(first.print_thread_stack(soon).await.unwrap_err());
    assert_eq!(code, tonic::Code::DeadlineExceeded, "{text}");
    assert!(text.starts_with("client silent did not answer within "), "{text}");

    let answering = async {
        let nonce = nonce(&mut answers).await;
        let trace = v2::ThreadStackTrace { nonce, thread_stack_trace: None };
        commands.send(says(Code::Unsupported, Command::ThreadStackTrace(trace))).await.unwrap();
    };
    let (told, ()) = tokio::join!(second.print_thread_stack(stack("c")), answering);
    let told = refused(told.unwrap_err());
    assert_eq!(told, words(tonic::Code::FailedPrecondition, "client c does not answer that: UNSUPPORTED "));

    let hanging = async {
        nonce(&mut answers).await;
        drop(commands);
    };
    let (told, ()) = tokio::join!(first.print_thread_stack(stack("c")), hanging);
    assert_eq!(refused(told.unwrap_err()), words(tonic::Code::Unavailable, "client c hung up before it answered"));
    assert!(one.client.query_route(sdk(v2::QueryRouteRequest::default())).await.is_ok());
}

fn subscribing(expression: &str) -> v2::Settings {
    let mut settings = consumer(ClientType::PushConsumer, "g");
    if let Some(v2::settings::PubSub::Subscription(subscription)) = &mut settings.pub_sub {
        let expression = Some(v2::FilterExpression { r#type: 1, expression: expression.to_owned() });
        subscription.subscriptions[0].expression = expression;
    }
    settings
}

#[tokio::test]
async fn different_subscriptions_of_a_group_are_found_across_proxies() {
    let (mut one, _first, mut two, mut second) = two().await;
    let _a = open(&mut one, "a", subscribing("red || blue")).await;
    let _b = open(&mut two, "b", subscribing("blue||red")).await;
    let ask = |inconsistent_only| v1::ListSubscriptionsRequest { inconsistent_only, ..Default::default() };
    assert_eq!(second.list_subscriptions(ask(true)).await.unwrap().into_inner().groups, []);
    let _c = open(&mut one, "c", subscribing("red")).await;
    let groups = second.list_subscriptions(ask(true)).await.unwrap().into_inner().groups;
    let [group] = &groups[..] else { panic!("{groups:?}") };
    let set = |set: &v1::SubscriptionSet| {
        let one = &set.subscriptions[0];
        (one.topic.clone(), one.expression.clone(), set.members, set.clients.join(" "))
    };
    let words = |topic: &str, expression: &str, members, clients: &str| {
        (topic.to_owned(), expression.to_owned(), members, clients.to_owned())
    };
    let found: Vec<_> = group.sets.iter().map(set).collect();
    assert_eq!(found, [words("orders", "blue || red", 2, "a b"), words("orders", "red", 1, "c")]);
    let known = second.describe_client(v1::DescribeClientRequest { id: "c".into(), local_only: false }).await.unwrap();
    let known = known.into_inner().clients.remove(0);
    assert_eq!(
        (known.subscriptions[0].kind(), known.subscriptions[0].expression.as_str()),
        (v1::FilterKind::Tag, "red")
    );
}

#[tokio::test(start_paused = true)]
async fn groups_whose_consumers_differ_are_counted() {
    let mut world = proxy("p1").await;
    let _admin = world.proxy.admin(None, CancellationToken::new());
    let _a = open(&mut world, "a", subscribing("red")).await;
    let b = open(&mut world, "b", subscribing("blue")).await;
    let counted = |world: &World, count: u64| {
        let scrape = world.scrape();
        assert!(scrape.contains(&format!("rocketmq_proxy_inconsistent_subscriptions {count}\n")), "{scrape}");
    };
    counted(&world, 0);
    tokio::time::sleep(Duration::from_secs(31)).await;
    counted(&world, 1);
    let farewell = v2::NotifyClientTerminationRequest::default();
    world.client.notify_client_termination(from("b", farewell)).await.unwrap();
    drop(b);
    tokio::time::sleep(Duration::from_secs(31)).await;
    counted(&world, 0);
}
