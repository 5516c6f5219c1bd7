//! One client of the proxy, as an SDK is one: it says what it is by telemetry, asks for the route, is heard by
//! heartbeats, and takes its leave.

use std::error::Error as _;
use std::time::Duration;

use apogee_host::{Entropy as _, OsEntropy};
use apogee_proto::v2;
use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tonic::Request;

use super::super::error::{CliError, RequestId};
use super::super::message::{check, endpoints, hostname, resource};
use super::super::target::{Api, Messaging, Target};
use super::{Receiving, Run};

/// Between two heartbeats, as SDKs have it.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What an empty long poll takes.
pub(super) const POLL: Duration = Duration::from_secs(5);
/// Until another consumer gets a message that was not acknowledged, unless the run is about that.
pub(super) const INVISIBLE: Duration = Duration::from_secs(60);
/// Messages of one receive, at most.
const BATCH: i32 = 32;
/// Of a call that did not leave.
const TRIES: usize = 3;
/// For the last word.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// A client with its connections. Dropped, it is gone without a word.
pub(super) struct Client {
    connections: Vec<Messaging>,
    role: Role,
    timeout: Duration,
    host: String,
    _background: JoinSet<()>,
}

/// What a client is.
#[derive(Clone)]
struct Role {
    topic: v2::Resource,
    /// `None` for a producer.
    group: Option<v2::Resource>,
}

impl Client {
    /// Connects a producer.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses the topic.
    pub(super) async fn producer(target: &Target, run: &Run, id: &RequestId) -> Result<Client, CliError> {
        Client::open(target, run, None, id).await
    }

    /// Connects a consumer.
    ///
    /// # Errors
    /// As [`Client::producer`].
    pub(super) async fn consumer(
        target: &Target,
        run: &Run,
        receiving: &Receiving,
        id: &RequestId,
    ) -> Result<Client, CliError> {
        Client::open(target, run, Some(resource(&receiving.group)), id).await
    }

    async fn open(target: &Target, run: &Run, group: Option<v2::Resource>, id: &RequestId) -> Result<Client, CliError> {
        let (timeout, host) = (target.timeout(), hostname());
        let client_id = format!("{host}@{}@bench-{:08x}", std::process::id(), OsEntropy.next_u64() >> 32);
        let mut connections = Vec::new();
        for _ in 0..run.connections {
            connections.push(target.messaging(&client_id, id).await?);
        }
        let role = Role { topic: resource(&run.topic), group };
        let mut client = Client { connections, role, timeout, host, _background: JoinSet::new() };
        client.ask_route().await?;
        client.tell_settings().await?;
        client.keep_heard();
        Ok(client)
    }

    pub(super) fn topic(&self) -> &v2::Resource {
        &self.role.topic
    }

    /// Name of this machine.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a message by one of the connections.
    pub(super) fn sender(&self, number: u32) -> Sender {
        let (messaging, topic) = (self.connection(number).clone(), self.role.topic.clone());
        Sender { messaging, topic, timeout: self.timeout }
    }

    /// Receives by one of the connections.
    ///
    /// # Panics
    /// On a producer.
    pub(super) fn receiver(&self, number: u32, invisible: Duration) -> Receiver {
        let group = self.role.group.clone().expect("a consumer has a group");
        let (messaging, topic, timeout) = (self.connection(number).clone(), self.role.topic.clone(), self.timeout);
        Receiver { messaging, topic, group, timeout, invisible }
    }

    fn connection(&self, number: u32) -> &Messaging {
        let count = self.connections.len();
        &self.connections[usize::try_from(number).expect("32 bits fit") % count]
    }

    /// Takes its leave.
    pub(super) async fn end(&self) {
        let ask = v2::NotifyClientTerminationRequest { group: self.role.group.clone() };
        let mut api = self.connection(0).api.clone();
        let _it_is_missed_anyway = timeout(LEAVE_MAX, api.notify_client_termination(ask)).await;
    }

    async fn ask_route(&self) -> Result<(), CliError> {
        let mut messaging = self.connection(0).clone();
        let ask =
            v2::QueryRouteRequest { topic: Some(self.role.topic.clone()), endpoints: Some(endpoints(&messaging)) };
        let answer = messaging.api.query_route(timely(ask, self.timeout)).await;
        check(answer.map_err(|status| CliError::call(&messaging.address, status))?.into_inner().status)
    }

    /// Opens the telemetry stream, tells the settings, and waits for those of the server.
    async fn tell_settings(&mut self) -> Result<(), CliError> {
        let mut messaging = self.connection(0).clone();
        let command = v2::telemetry_command::Command::Settings(self.role.settings(&messaging, self.timeout));
        let command = v2::TelemetryCommand { status: None, command: Some(command) };
        let commands = futures::stream::iter([command]).chain(futures::stream::pending()); // open until we go
        let told = async {
            let mut answers = messaging.api.telemetry(commands).await?.into_inner();
            Ok((answers.message().await?, answers))
        };
        let late = || tonic::Status::deadline_exceeded("the server did not answer the settings of the client");
        let (answer, mut answers) = timeout(self.timeout, told)
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|status| CliError::call(&messaging.address, status))?;
        check(answer.and_then(|answer| answer.status))?;
        self._background.spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        Ok(())
    }

    fn keep_heard(&mut self) {
        let (mut api, role, limit) = (self.connection(0).api.clone(), self.role.clone(), self.timeout);
        self._background.spawn(async move {
            let mut beats = interval(HEARTBEAT);
            loop {
                beats.tick().await;
                let ask = v2::HeartbeatRequest { group: role.group.clone(), client_type: role.kind().into() };
                let _the_next_one_may_arrive = api.heartbeat(timely(ask, limit)).await;
            }
        });
    }
}

impl Role {
    fn kind(&self) -> v2::ClientType {
        if self.group.is_some() { v2::ClientType::SimpleConsumer } else { v2::ClientType::Producer }
    }

    fn settings(&self, messaging: &Messaging, timeout: Duration) -> v2::Settings {
        let pub_sub = match &self.group {
            None => v2::settings::PubSub::Publishing(v2::Publishing {
                topics: vec![self.topic.clone()],
                ..v2::Publishing::default()
            }),
            Some(group) => v2::settings::PubSub::Subscription(v2::Subscription {
                group: Some(group.clone()),
                subscriptions: vec![v2::SubscriptionEntry {
                    topic: Some(self.topic.clone()),
                    expression: Some(everything()),
                }],
                long_polling_timeout: Some(span(POLL)),
                ..v2::Subscription::default()
            }),
        };
        let user_agent = v2::Ua {
            language: v2::Language::Rust.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: hostname(),
            ..v2::Ua::default()
        };
        v2::Settings {
            client_type: Some(self.kind().into()),
            access_point: Some(endpoints(messaging)),
            request_timeout: Some(span(timeout)),
            pub_sub: Some(pub_sub),
            user_agent: Some(user_agent),
            ..v2::Settings::default()
        }
    }
}

/// One send, and the end of its transaction.
pub(super) struct Sender {
    messaging: Messaging,
    topic: v2::Resource,
    timeout: Duration,
}

impl Sender {
    /// The id of its transaction, empty of a message that has none.
    ///
    /// # Errors
    /// Why the message may not have been stored, in words.
    pub(super) async fn send(&mut self, message: v2::Message) -> Result<String, String> {
        let ask = v2::SendMessageRequest { messages: vec![message] };
        let answer = called(&self.messaging, ask, self.timeout, async |api, ask| api.send_message(ask).await).await?;
        ok(answer.status)?;
        let entry = answer.entries.into_iter().next().unwrap_or_default();
        ok(entry.status)?;
        Ok(entry.transaction_id)
    }

    /// Ends a transaction.
    ///
    /// # Errors
    /// Why it may be open still, in words.
    pub(super) async fn end(
        &mut self,
        message_id: String,
        transaction_id: String,
        how: v2::TransactionResolution,
    ) -> Result<(), String> {
        let ask = v2::EndTransactionRequest {
            topic: Some(self.topic.clone()),
            message_id,
            transaction_id,
            resolution: how.into(),
            source: v2::TransactionSource::SourceClient.into(),
            trace_context: String::new(),
        };
        let answer = called(&self.messaging, ask, self.timeout, async |api, ask| api.end_transaction(ask).await);
        ok(answer.await?.status)
    }
}

/// One loop of long polls.
#[derive(Clone)]
pub(super) struct Receiver {
    messaging: Messaging,
    topic: v2::Resource,
    group: v2::Resource,
    timeout: Duration,
    invisible: Duration,
}

impl Receiver {
    /// One long poll: every message is given to `each` as it comes. Messages of a poll that is dropped go back.
    ///
    /// # Errors
    /// Why the server gave nothing, in words.
    pub(super) async fn poll(&mut self, mut each: impl FnMut(v2::Message)) -> Result<(), String> {
        let queue = v2::MessageQueue { topic: Some(self.topic.clone()), id: -1, ..v2::MessageQueue::default() };
        let ask = v2::ReceiveMessageRequest {
            group: Some(self.group.clone()),
            message_queue: Some(queue),
            filter_expression: Some(everything()),
            batch_size: BATCH,
            invisible_duration: Some(span(self.invisible)),
            auto_renew: false,
            long_polling_timeout: Some(span(POLL)),
            attempt_id: None,
        };
        let limit = POLL + self.timeout;
        let mut parts = called(&self.messaging, ask, limit, async |api, ask| api.receive_message(ask).await).await?;
        while let Some(part) = parts.message().await.map_err(|status| said(&status))? {
            match part.content {
                Some(v2::receive_message_response::Content::Message(message)) => each(message),
                Some(v2::receive_message_response::Content::Status(status))
                    if status.code() != v2::Code::MessageNotFound =>
                {
                    ok(Some(status))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Acknowledges one message.
    ///
    /// # Errors
    /// Why it may come again, in words.
    pub(super) async fn ack(&mut self, message: v2::Message) -> Result<(), String> {
        let system = message.system_properties.unwrap_or_default();
        let entry = v2::AckMessageEntry {
            message_id: system.message_id,
            receipt_handle: system.receipt_handle.unwrap_or_default(),
            lite_topic: None,
        };
        let ask = v2::AckMessageRequest {
            group: Some(self.group.clone()),
            topic: Some(self.topic.clone()),
            entries: vec![entry],
        };
        let answer = called(&self.messaging, ask, self.timeout, async |api, ask| api.ack_message(ask).await).await?;
        ok(answer.status)?;
        ok(answer.entries.into_iter().next().and_then(|entry| entry.status))
    }
}

/// Calls, and calls again when the call did not leave: a connection that is about to end takes no more, and what was on its
/// way there comes back. gRPC libraries of other languages take the next connection unasked.
async fn called<Q: Clone, A>(
    messaging: &Messaging,
    ask: Q,
    limit: Duration,
    call: impl AsyncFn(&mut Api, Request<Q>) -> Result<tonic::Response<A>, tonic::Status>,
) -> Result<A, String> {
    let mut api = messaging.api.clone();
    let mut tries = 1;
    loop {
        match call(&mut api, timely(ask.clone(), limit)).await {
            Err(status) if unsent(&status) && tries < TRIES => tries += 1,
            answer => return answer.map(tonic::Response::into_inner).map_err(|status| said(&status)),
        }
    }
}

/// Whether a call never left, or the server said with its GOAWAY that it did nothing about it.
fn unsent(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused =
            |error: &h2::Error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(refused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn everything() -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() }
}

fn timely<T>(ask: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(ask);
    request.set_timeout(limit);
    request
}

fn ok(status: Option<v2::Status>) -> Result<(), String> {
    match status {
        Some(status) if status.code() == v2::Code::Ok => Ok(()),
        Some(status) => Err(format!("{}: {}", status.code().as_str_name(), status.message)),
        None => Err("an answer without a status".to_owned()),
    }
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn span(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
