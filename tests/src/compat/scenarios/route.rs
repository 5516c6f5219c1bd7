//! QueryRoute and QueryAssignment.

use apogee_proto::v2;

use crate::compat::client::{self, Client, resource};
use crate::compat::script::Script;
use crate::compat::target::{GroupShape, TopicKind};

pub(super) async fn route_of_topics(s: &mut Script) -> anyhow::Result<()> {
    for kind in TopicKind::ALL {
        let topic = s.topic(kind.name(), kind, 3).await?;
        let route = s.client.route(&topic).await;
        let told = route.map_or_else(|status| client::grpc(&status), |route| route_told(&route, &s.client, &topic));
        s.note(format_args!("QueryRoute {} topic", kind.name()), told);
    }
    Ok(())
}

pub(super) async fn route_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    for (told, name) in [
        ("unknown topic", "route-nobody-made"),
        ("empty name", ""),
        ("name with a space", "a b"),
        ("name with a dot", "a.b"),
        ("name of 128 letters", &"t".repeat(128)),
        ("system topic TBW102", "TBW102"),
        ("system topic rmq_sys_x", "rmq_sys_x"),
    ] {
        let answer = s.client.route(name).await.map(|route| route.status);
        s.note(format_args!("QueryRoute {told}"), client::told(&answer));
    }
    let ask = |topic, endpoints| v2::QueryRouteRequest { topic, endpoints };
    for (told, request) in [
        ("no topic", ask(None, Some(s.client.endpoints()))),
        ("no endpoints", ask(Some(resource(&topic)), None)),
        ("endpoints without scheme", ask(Some(resource(&topic)), Some(without_scheme(&s.client)))),
    ] {
        let answer = s.client.stub().query_route(s.client.ask(request)).await.map(|route| route.into_inner().status);
        s.note(format_args!("QueryRoute {told}"), client::told(&answer));
    }
    Ok(())
}

pub(super) async fn assignments(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.topic("t", TopicKind::Normal, 3).await?;
    let ordered = s.topic("fifo", TopicKind::Fifo, 3).await?;
    let concurrent_group = s.group("g", GroupShape::default()).await?;
    let fifo_group = s.group("fifo-g", GroupShape { fifo: true, ..GroupShape::default() }).await?;
    for (told, topic, group) in [
        ("concurrent group", topic.as_str(), concurrent_group.as_str()),
        ("fifo group", &ordered, &fifo_group),
        ("concurrent group of a fifo topic", &ordered, &concurrent_group),
        ("unknown topic", "assignments-nobody-made", &concurrent_group),
        ("unknown group", &topic, "assignments-nobody-made"),
        ("topic with a space", "a b", &concurrent_group),
        ("group with a space", &topic, "a b"),
    ] {
        let request = v2::QueryAssignmentRequest {
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            endpoints: Some(s.client.endpoints()),
        };
        let answer = s.client.stub().query_assignment(s.client.ask(request)).await;
        let told_answer = answer.map_or_else(|status| client::grpc(&status), |answer| assigned(&answer.into_inner()));
        s.note(format_args!("QueryAssignment {told}"), told_answer);
    }
    Ok(())
}

/// Everything of a route that a client relies on.
fn route_told(route: &v2::QueryRouteResponse, client: &Client, topic: &str) -> String {
    let queue = |queue: &v2::MessageQueue| {
        let broker = queue.broker.clone().unwrap_or_default();
        let echoed = broker.endpoints == Some(client.endpoints());
        let types: Vec<_> = queue.accept_message_types().map(|kind| kind.as_str_name()).collect();
        format!(
            "queue {} {} of {} at broker {} {}{}",
            queue.id,
            queue.permission().as_str_name(),
            types.join("+"),
            broker.id,
            if echoed { "with the endpoints asked with" } else { "with other endpoints" },
            if queue.topic == Some(resource(topic)) { "" } else { ", another topic" },
        )
    };
    let mut queues: Vec<_> = route.message_queues.iter().map(queue).collect();
    queues.sort_unstable();
    format!("{}; {}", client::code(route.status.as_ref()), queues.join("; "))
}

fn assigned(answer: &v2::QueryAssignmentResponse) -> String {
    let queue = |assignment: &v2::Assignment| {
        let queue = assignment.message_queue.clone().unwrap_or_default();
        format!("{} {}", queue.id, queue.permission().as_str_name())
    };
    let mut queues: Vec<_> = answer.assignments.iter().map(queue).collect();
    queues.sort_unstable();
    let queues = if queues.is_empty() { "none".to_owned() } else { queues.join(", ") };
    format!("{}; queues {queues}", client::code(answer.status.as_ref()))
}

fn without_scheme(client: &Client) -> v2::Endpoints {
    v2::Endpoints { scheme: v2::AddressScheme::Unspecified.into(), ..client.endpoints() }
}
