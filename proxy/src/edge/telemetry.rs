//! Telemetry on the wire: every settings command of a client is answered with the settings both will follow.
//!
//! The response stream is returned before the first command arrives: some SDKs await the headers first.
//!
//! What was agreed is told again when an operator changed it, and questions of operators (`ask`) and check-backs go the
//! same way: all only behind the first answer, which is what SDKs wait for when they start.
//!
//! A stream has no end of its own. When its connection leaves, the client is asked to connect again, and the stream ends
//! well behind the GOAWAY, so that the client opens its next one elsewhere.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::Entropy;
use apogee_model::store::CheckBack;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, Code};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Status, Streaming};

use super::admit::Permit;
use super::ask;
use super::budget::Held;
use super::convert::{Parse as _, merged};
use super::status::{code, failed, ok};
use super::{Edge, Receiver};
use crate::listen::{Departure, Stage};
use crate::metrics::{Metrics, Rpc, Up};
use crate::service::telemetry::{Agreed, ClientSettings, Service};
use crate::service::{Call, ServiceError};
use crate::session::{OpenStream, Role, Sessions, Streams, Word};

/// How long the stream of a connection that leaves waits for its first command: a client that has just begun fails to start
/// when its stream ends without any answer.
const FIRST_COMMAND_MAX: Duration = Duration::from_secs(1);

/// Settings of at most so many bytes are kept, to be told again when they change; who has larger ones is told when it
/// syncs them the next time, as SDKs do every five minutes.
const KEPT_MAX: usize = 16 * 1024;

/// One open stream.
struct Conversation {
    call: Call,
    inbound: Streaming<v2::TelemetryCommand>,
    service: Arc<Service>,
    sessions: Arc<Sessions>,
    streams: Arc<Streams>,
    /// Open to words from inside from the first settings on.
    open: Option<OpenStream>,
    /// What the client said last, and what was agreed.
    kept: Option<Kept>,
    metrics: Arc<Metrics>,
    entropy: Arc<dyn Entropy>,
    receiver: Receiver,
    /// How far we noticed that the connection leaves.
    stage: Stage,
    /// A command was answered.
    began: bool,
    /// The bytes of the command that is arriving or handled.
    held: Option<Arc<Held>>,
    over: bool,
    _permit: Permit,
    _open: Up,
}

/// What both sides follow.
struct Kept {
    wire: v2::Settings,
    role: Role,
    agreed: Agreed,
}

type Reply = Result<v2::TelemetryCommand, Status>;

impl Edge {
    pub(super) fn converse(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> BoxStream<'static, Reply> {
        let admitted = self.gate.admit(Rpc::Telemetry, &request).and_then(|(call, permit)| {
            self.sessions.greet(&call)?;
            Ok((call, permit))
        });
        let (call, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.done(Rpc::Telemetry, code(&error), Some(&error), std::time::Duration::ZERO);
                return stream::once(std::future::ready(Ok(status_only(&error)))).boxed();
            }
        };
        let conversation = Conversation {
            call,
            held: request.extensions().get().cloned(),
            inbound: request.into_inner(),
            service: Arc::clone(&self.telemetry),
            sessions: Arc::clone(&self.sessions),
            streams: Arc::clone(&self.streams),
            open: None,
            kept: None,
            metrics: Arc::clone(&self.metrics),
            entropy: Arc::clone(&self.entropy),
            receiver: self.receiver.clone(),
            stage: Stage::Stays,
            began: false,
            over: false,
            _permit: permit,
            _open: self.metrics.telemetry_stream(),
        };
        stream::unfold(conversation, |mut conversation| async move {
            let reply = conversation.next().await?;
            Some((reply, conversation))
        })
        .boxed()
    }
}

impl Conversation {
    /// The next thing to say to the client; `None` ends the stream well.
    async fn next(&mut self) -> Option<Reply> {
        while !self.over {
            let command = tokio::select! {
                biased;
                () = leaves(&self.call.departure, self.stage, self.began) => match self.farewell() {
                    Some(farewell) => return Some(farewell),
                    None => continue,
                },
                word = from_inside(&mut self.open) => match self.told(word) {
                    Some(told) => return Some(told),
                    None => continue,
                },
                command = self.inbound.message() => command,
            };
            let Ok(Some(command)) = command else { return self.ended() };
            if self.is_answer(&command) {
                continue; // it was asked for, and counts for nothing
            }
            self.pace(&command).await?;
            let reply = self.handle(command).await;
            self.began = true;
            if let Some(held) = &self.held {
                held.give_back();
            }
            if reply.is_some() {
                return reply;
            }
        }
        None
    }

    /// What a word from inside is for the client, if anything.
    fn told(&mut self, word: Word) -> Option<Reply> {
        let command = match word {
            Word::Asked(asked) => ask::command(asked)?,
            Word::Stale => {
                let kept = self.kept.as_mut()?;
                let agreed = self.service.agreed(&self.call, &kept.role);
                // Producers are told of their topics, of which nothing is in what was agreed.
                if kept.agreed == agreed && agreed != Agreed::Producer {
                    return None;
                }
                let told = merged(kept.wire.clone(), &agreed);
                kept.agreed = agreed;
                Command::Settings(told)
            }
            Word::CheckBack { check, transaction_id } => self.orphan(&check, transaction_id)?,
            Word::Evicted { lite_topic } => {
                let lite_topic = lite_topic.into();
                Command::NotifyUnsubscribeLiteCommand(v2::NotifyUnsubscribeLiteCommand { lite_topic })
            }
        };
        Some(Ok(v2::TelemetryCommand { status: Some(ok()), command: Some(command) }))
    }

    /// Hands an answer to whoever asked; false for everything else.
    fn is_answer(&self, command: &v2::TelemetryCommand) -> bool {
        let Some((nonce, kind, said)) = ask::said(command) else { return false };
        let wanted = self.streams.answered(&self.call.client, nonce, kind, said);
        if wanted {
            self.sessions.heard(&self.call);
            if let Some(held) = &self.held {
                held.give_back();
            }
        }
        wanted
    }

    /// Takes notice of how far the connection is, and says so to the client where it helps.
    fn farewell(&mut self) -> Option<Reply> {
        let noticed = std::mem::replace(&mut self.stage, self.call.departure.stage());
        if noticed >= Stage::Left {
            self.over = true;
        }
        let announced = self.stage == Stage::Announced && self.sessions.may_reconnect(&self.call.client);
        announced.then(|| {
            let nonce = format!("{:016x}", self.entropy.next_u64());
            let command = Some(Command::ReconnectEndpointsCommand(v2::ReconnectEndpointsCommand { nonce }));
            Ok(v2::TelemetryCommand { status: Some(ok()), command })
        })
    }

    /// The client is gone or half-closed: we close our side. Or there was no room for its command, and it is told.
    fn ended(&mut self) -> Option<Reply> {
        self.over = true;
        let error = self.held.as_ref()?.refusal()?;
        self.metrics.calls.answered(Rpc::Telemetry, code(&error), std::time::Duration::ZERO);
        Some(Ok(status_only(&error)))
    }

    /// Waits until the client may give this command; what it sends meanwhile stays in the window of its stream.
    /// `None`: its connection leaves.
    async fn pace(&self, command: &v2::TelemetryCommand) -> Option<()> {
        while let Err(later) = self.sessions.may_command(&self.call.client, command.encoded_len()) {
            tokio::select! {
                biased;
                () = self.call.departure.reached(Stage::Left) => return None,
                () = tokio::time::sleep_until(later) => {}
            }
        }
        Some(())
    }

    async fn handle(&mut self, command: v2::TelemetryCommand) -> Option<Reply> {
        self.sessions.heard(&self.call);
        match command.command {
            Some(Command::Settings(settings)) => Some(self.settings(settings).await),
            _ => None, // no other command is a client's to give, or is asked for yet
        }
    }

    /// A check-back in the words of the wire; `None` when the half message is damaged.
    fn orphan(&self, check: &CheckBack, transaction_id: String) -> Option<Command> {
        let message = self.receiver.orphan(check).inspect_err(|error| {
            let (topic, queue) = (check.topic, check.queue);
            tracing::error!(event = "half_message_broken", %topic, %queue, half = check.id.0, %error);
        });
        let command = v2::RecoverOrphanedTransactionCommand { message: Some(message.ok()?), transaction_id };
        Some(Command::RecoverOrphanedTransactionCommand(command))
    }

    async fn settings(&mut self, wire: v2::Settings) -> Reply {
        let started = Instant::now();
        let open = self.open.get_or_insert_with(|| self.streams.open(&self.call.client));
        let (agreed, role) = match ClientSettings::parse(wire.clone(), &self.call) {
            Ok(settings) => {
                let role = settings.role.clone();
                let produces = if role == Role::Producer { settings.named.clone() } else { Vec::new() };
                let agreed = self.service.run(&self.call, settings).await;
                open.produces(&produces);
                (agreed, Some(role))
            }
            Err(error) => (Err(error), None),
        };
        let code = agreed.as_ref().map_or_else(code, |_| Code::Ok);
        self.metrics.calls.answered(Rpc::Telemetry, code, started.elapsed());
        match agreed {
            Ok(agreed) => {
                let small = wire.encoded_len() <= KEPT_MAX;
                let kept = |role| Kept { wire: wire.clone(), role, agreed: agreed.clone() };
                self.kept = role.filter(|_| small).map(kept);
                let command = Some(Command::Settings(merged(wire, &agreed)));
                Ok(v2::TelemetryCommand { status: Some(ok()), command })
            }
            Err(error) => {
                self.over = true;
                tracing::debug!(event = "settings_refused", client = %self.call.client, %error);
                refusal(&error)
            }
        }
    }
}

/// What comes from inside; nothing before the first settings. Cancel safe.
async fn from_inside(open: &mut Option<OpenStream>) -> Word {
    match open {
        Some(open) => open.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until a stream has something to do about the leave of its connection, which it noticed to be at `stage`.
async fn leaves(departure: &Departure, stage: Stage, began: bool) {
    match stage {
        Stage::Stays => departure.reached(Stage::Announced).await,
        Stage::Announced => departure.reached(Stage::Left).await,
        Stage::Left | Stage::Ends if began => {}
        Stage::Left | Stage::Ends => tokio::time::sleep(FIRST_COMMAND_MAX).await,
    }
}

/// Settings that are wrong fail the stream; what another try may cure, or what comes later, is a status.
///
/// Source: apache/rocketmq `proxy/.../ClientActivity.java`.
fn refusal(error: &ServiceError) -> Reply {
    match code(error) {
        Code::TooManyRequests => Ok(status_only(error)),
        Code::UnrecognizedClientType | Code::InternalServerError => Err(Status::internal(format!("settings: {error}"))),
        _ => Err(Status::invalid_argument(format!("settings: {error}"))),
    }
}

fn status_only(error: &ServiceError) -> v2::TelemetryCommand {
    v2::TelemetryCommand { status: Some(failed(error)), command: None }
}
