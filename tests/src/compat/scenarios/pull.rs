//! Messages by offset, and the offsets of a group: in the contract, and answered by no released Apache RocketMQ.

use std::time::Duration;

use apogee_proto::v2;
use apogee_proto::v2::pull_message_response::Content;

use crate::compat::client::{self, duration, resource};
use crate::compat::consumer::tags;
use crate::compat::draft::Draft;
use crate::compat::script::Script;

pub(super) async fn pull_and_offsets(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let group = s.group("g", crate::compat::target::GroupShape::default()).await?;
    for name in ["m1", "m2", "m3"] {
        s.send(name, &Draft::new(&topic, name)).await;
    }
    let queue = v2::MessageQueue { topic: Some(resource(&topic)), id: 0, ..v2::MessageQueue::default() };
    for policy in [v2::QueryOffsetPolicy::Beginning, v2::QueryOffsetPolicy::End] {
        let told = query(s, &queue, policy).await;
        s.note(format_args!("QueryOffset {}", policy.as_str_name()), told);
    }
    let told = committed(s, &group, &queue).await;
    s.note("GetOffset before there is one", told);
    let told = pull(s, &group, &queue, 1).await;
    s.note("PullMessage from offset 1", told);
    let told = update(s, &group, &queue, 2).await;
    s.note("UpdateOffset 2", told);
    let told = committed(s, &group, &queue).await;
    s.note("GetOffset after that", told);
    let told = update(s, &group, &queue, -1).await;
    s.note("UpdateOffset -1", told);
    Ok(())
}

async fn query(s: &Script, queue: &v2::MessageQueue, policy: v2::QueryOffsetPolicy) -> String {
    let query_offset_policy = policy.into();
    let request = v2::QueryOffsetRequest { message_queue: Some(queue.clone()), query_offset_policy, timestamp: None };
    match s.client.stub().query_offset(s.client.ask(request)).await {
        Ok(answer) => offset(answer.get_ref().status.as_ref(), answer.get_ref().offset),
        Err(status) => client::grpc(&status),
    }
}

async fn committed(s: &Script, group: &str, queue: &v2::MessageQueue) -> String {
    let request = v2::GetOffsetRequest { group: Some(resource(group)), message_queue: Some(queue.clone()) };
    match s.client.stub().get_offset(s.client.ask(request)).await {
        Ok(answer) => offset(answer.get_ref().status.as_ref(), answer.get_ref().offset),
        Err(status) => client::grpc(&status),
    }
}

async fn update(s: &Script, group: &str, queue: &v2::MessageQueue, offset: i64) -> String {
    let message_queue = Some(queue.clone());
    let request = v2::UpdateOffsetRequest { group: Some(resource(group)), message_queue, offset };
    let answer = s.client.stub().update_offset(s.client.ask(request)).await;
    client::told(&answer.map(|answer| answer.into_inner().status))
}

/// The code, the messages, and where to go on.
async fn pull(s: &Script, group: &str, queue: &v2::MessageQueue, from: i64) -> String {
    let request = v2::PullMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue.clone()),
        offset: from,
        batch_size: 32,
        filter_expression: Some(tags("*")),
        long_polling_timeout: Some(duration(Duration::from_secs(5))),
    };
    let mut stream = match s.client.stub().pull_message(s.client.ask(request)).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return client::grpc(&status),
    };
    let mut parts = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(part)) => parts.push(match part.content {
                Some(Content::Status(status)) => client::code(Some(&status)),
                Some(Content::Message(message)) => String::from_utf8_lossy(&message.body).into_owned(),
                Some(Content::NextOffset(next)) => format!("next {next}"),
                None => "nothing".to_owned(),
            }),
            Ok(None) => return parts.join(", "),
            Err(status) => return client::grpc(&status),
        }
    }
}

fn offset(status: Option<&v2::Status>, offset: i64) -> String {
    match client::code(status) {
        ok if ok == "OK" => format!("{ok}; offset {offset}"),
        code => code,
    }
}
