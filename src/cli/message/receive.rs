//! `apogee message receive`.

use std::time::Duration;

use apogee_proto::v2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Request, Status, Streaming};

use super::super::duration;
use super::super::error::CliError;
use super::super::output::{Output, line, plain};
use super::super::target::Messaging;
use super::{check, resource};

/// Messages of one long poll at most, as the server has it.
const BATCH: i32 = 32;
/// Time to print and acknowledge before another consumer gets the message.
const INVISIBLE: Duration = Duration::from_secs(30);
/// Shortest and longest poll the server offers.
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(20);
/// Time for the answer once the poll is over.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the topic
    topic: String,
    /// Consumer group to receive for
    #[arg(long, default_value = "apogee-cli")]
    group: String,
    /// Tags wanted, joined by ||
    #[arg(long, value_name = "EXPRESSION", default_value = "*")]
    tag: String,
    /// SQL92 expression over properties, such as "size > 5 AND color = 'red'"
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tag")]
    sql: Option<String>,
    /// How long to wait for the first message, at most 20s
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = wait)]
    timeout: Duration,
}

pub(super) async fn run(args: Args, mut messaging: Messaging, output: &Output) -> Result<(), CliError> {
    let Some(mut stream) = poll(&args, &mut messaging).await? else { return Err(nothing(&args)) };
    let mut printed = false;
    while let Some(part) = next(&mut stream).await.map_err(|status| CliError::call(&messaging.address, status))? {
        let Some(v2::receive_message_response::Content::Message(message)) = part.content else { continue };
        print(&message, output, !printed)?;
        printed = true;
        ack(&args, &mut messaging, &message).await?;
    }
    if printed { Ok(()) } else { Err(nothing(&args)) }
}

/// The next part of an answer that has begun.
async fn next(
    stream: &mut Streaming<v2::ReceiveMessageResponse>,
) -> Result<Option<v2::ReceiveMessageResponse>, Status> {
    let silence = |_| Status::deadline_exceeded(format!("the answer stopped for {ANSWER_MAX:?}"));
    timeout(ANSWER_MAX, stream.message()).await.map_err(silence)?
}

/// One long poll; `None` when it ended without messages. A shorter wait than the server offers ends by our hanging
/// up, which gives back whatever was on its way.
async fn poll(
    args: &Args,
    messaging: &mut Messaging,
) -> Result<Option<Streaming<v2::ReceiveMessageResponse>>, CliError> {
    let polling = args.timeout.clamp(*POLL.start(), *POLL.end());
    let mut request = Request::new(v2::ReceiveMessageRequest {
        group: Some(resource(&args.group)),
        message_queue: Some(v2::MessageQueue {
            topic: Some(resource(&args.topic)),
            id: -1,
            permission: v2::Permission::Read.into(),
            ..v2::MessageQueue::default()
        }),
        filter_expression: Some(filter(args)),
        batch_size: BATCH,
        invisible_duration: Some(span(INVISIBLE)),
        auto_renew: false,
        long_polling_timeout: Some(span(polling)),
        attempt_id: None,
    });
    request.set_timeout(polling + ANSWER_MAX);
    let patience = if args.timeout < polling { args.timeout } else { polling + ANSWER_MAX };
    let first = timeout(patience, async {
        let mut stream = messaging.api.receive_message(request).await?.into_inner();
        Ok((stream.message().await?, stream))
    });
    let (part, stream) = match first.await {
        Err(_) => return Ok(None),
        Ok(Err(status)) => return Err(CliError::call(&messaging.address, status)),
        Ok(Ok(first)) => first,
    };
    match part.and_then(|part| part.content) {
        Some(v2::receive_message_response::Content::Status(status)) => match status.code() {
            v2::Code::MessageNotFound => Ok(None),
            _ => check(Some(status)).map(|()| Some(stream)),
        },
        _ => Err(CliError::Incomplete { what: "status" }),
    }
}

fn filter(args: &Args) -> v2::FilterExpression {
    let (filter_type, expression) = match &args.sql {
        Some(sql) => (v2::FilterType::Sql, sql),
        None => (v2::FilterType::Tag, &args.tag),
    };
    v2::FilterExpression { r#type: filter_type.into(), expression: expression.clone() }
}

async fn ack(args: &Args, messaging: &mut Messaging, message: &v2::Message) -> Result<(), CliError> {
    let system = message.system_properties.as_ref().ok_or(CliError::Incomplete { what: "system properties" })?;
    let entry = v2::AckMessageEntry {
        message_id: system.message_id.clone(),
        receipt_handle: system.receipt_handle().to_owned(),
        lite_topic: None,
    };
    let mut request = Request::new(v2::AckMessageRequest {
        group: Some(resource(&args.group)),
        topic: Some(resource(&args.topic)),
        entries: vec![entry],
    });
    request.set_timeout(ANSWER_MAX);
    let answer = messaging.api.ack_message(request).await;
    check(answer.map_err(|status| CliError::call(&messaging.address, status))?.into_inner().status)
}

fn print(message: &v2::Message, output: &Output, first: bool) -> Result<(), CliError> {
    let system = message.system_properties.clone().unwrap_or_default();
    let body = std::str::from_utf8(&message.body);
    let mut document = document(message, &system);
    match body {
        Ok(text) => document["body"] = text.into(),
        Err(_) => document["body_base64"] = STANDARD.encode(&message.body).into(),
    }
    if output.item(&document)? {
        return Ok(());
    }
    if first && !output.no_headers {
        line(&row("MESSAGE_ID", "ATTEMPT", "TAG", "BODY"))?;
    }
    let (attempt, tag) = (system.delivery_attempt().to_string(), system.tag.as_deref().unwrap_or("-"));
    let body = body.map_or_else(|_| format!("({} bytes, not text)", message.body.len()), plain);
    Ok(line(&row(&system.message_id, &attempt, &plain(tag), &body))?)
}

/// Columns of fixed width: a line is printed before the next one is known.
fn row(id: &str, attempt: &str, tag: &str, body: &str) -> String {
    format!("{id:34}  {attempt:7}  {tag:12}  {body}")
}

fn document(message: &v2::Message, system: &v2::SystemProperties) -> Value {
    json!({
        "message_id": system.message_id,
        "topic": message.topic.as_ref().map(|topic| topic.name.as_str()),
        "tag": system.tag,
        "keys": system.keys,
        "properties": message.user_properties,
        "queue_id": system.queue_id,
        "queue_offset": system.queue_offset,
        "delivery_attempt": system.delivery_attempt,
        "priority": system.priority,
        "born": system.born_timestamp.map(|at| at.to_string()),
        "stored": system.store_timestamp.map(|at| at.to_string()),
    })
}

fn nothing(args: &Args) -> CliError {
    CliError::NothingCame { topic: args.topic.clone(), group: args.group.clone(), waited: args.timeout }
}

fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).expect("at most 30 s")
}

fn wait(text: &str) -> Result<Duration, String> {
    let asked = duration(text)?;
    if asked > *POLL.end() { Err(format!("{text} is longer than {:?}", POLL.end())) } else { Ok(asked) }
}
