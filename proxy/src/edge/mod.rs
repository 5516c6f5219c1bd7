//! `apache.rocketmq.v2.MessagingService`: the table of contents of the product, one line per RPC.
//!
//! Business and server errors travel as a `status` inside the response; a gRPC error is kept for a broken transport and
//! for settings nobody can agree on. Reading order: this table, `budget`, `admit`, `convert`, `answer`, `status`,
//! `deliver`, `pull`, `telemetry`.

mod admit;
mod answer;
mod ask;
mod budget;
mod convert;
mod deliver;
mod pull;
mod status;
mod stored;
mod telemetry;

pub(crate) mod fuzz {
    pub use super::admit::fuzz::{header_seeds, headers};
    pub use super::convert::fuzz::{request_seeds, requests};
}

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use apogee_proto::v2::{self, Code};
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

pub use self::admit::AdmissionLimits;
pub(crate) use self::admit::Gate;
use self::admit::Permit;
use self::answer::Answer;
pub use self::budget::Budgeted;
pub(crate) use self::budget::ByteBudget;
use self::convert::Parse;
use self::deliver::Parts;
pub(crate) use self::deliver::Receiver;
use crate::metrics::{Metrics, Rpc, ours};
use crate::service::{self, Call, ServiceError, UNARY_MAX};

type Reply<T> = Result<Response<T>, Status>;

/// Every verb, and what stands before all of them.
pub(crate) struct Edge {
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    /// Draws nonces.
    pub(crate) entropy: Arc<dyn apogee_host::Entropy>,
    pub(crate) receiver: Receiver,
    pub(crate) sessions: Arc<crate::session::Sessions>,
    pub(crate) streams: Arc<crate::session::Streams>,
    pub(crate) query_route: service::query_route::Service,
    pub(crate) heartbeat: service::heartbeat::Service,
    pub(crate) send: service::send::Service,
    pub(crate) recall: service::recall::Service,
    pub(crate) end_transaction: service::end_transaction::Service,
    pub(crate) query_assignment: service::query_assignment::Service,
    pub(crate) receive: service::receive::Service,
    pub(crate) pull: service::pull::Service,
    pub(crate) offsets: service::offsets::Service,
    pub(crate) ack: service::ack::Service,
    pub(crate) change_invisible: service::change_invisible::Service,
    pub(crate) dead_letter: service::dead_letter::Service,
    pub(crate) telemetry: Arc<service::telemetry::Service>,
    pub(crate) terminate: service::terminate::Service,
    pub(crate) lite: service::lite::Service,
}

#[tonic::async_trait]
impl v2::messaging_service_server::MessagingService for Edge {
    type ReceiveMessageStream = Parts;
    type PullMessageStream = pull::Parts;
    type TelemetryStream = BoxStream<'static, Result<v2::TelemetryCommand, Status>>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Reply<v2::QueryRouteResponse> {
        self.unary(Rpc::QueryRoute, request, |call, query| self.query_route.run(call, query)).await
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Reply<v2::HeartbeatResponse> {
        self.unary(Rpc::Heartbeat, request, |call, beat| self.heartbeat.run(call, beat)).await
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Reply<v2::SendMessageResponse> {
        self.unary(Rpc::SendMessage, request, |call, batch| self.send.run(call, batch)).await
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Reply<v2::QueryAssignmentResponse> {
        self.unary(Rpc::QueryAssignment, request, |call, query| self.query_assignment.run(call, query)).await
    }

    // By hand what the macro does, so that the future holds what was parsed and not the request: thousands of them wait.
    fn receive_message<'me, 'call>(
        &'me self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> BoxFuture<'call, Reply<Parts>>
    where
        'me: 'call,
        Self: 'call,
    {
        match self.begin_receive(request) {
            Ok(begun) => Box::pin(self.receive(begun)),
            Err(refused) => Box::pin(ready(Ok(Response::new(*refused)))),
        }
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Reply<v2::AckMessageResponse> {
        self.unary(Rpc::AckMessage, request, |call, ack| self.ack.run(call, ack)).await
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Reply<v2::ChangeInvisibleDurationResponse> {
        let (rpc, handle) = (Rpc::ChangeInvisibleDuration, request.get_ref().receipt_handle.clone());
        let mut changed = self.unary(rpc, request, |call, change| self.change_invisible.run(call, change)).await?;
        changed.get_mut().receipt_handle = handle; // of every outcome: a client may overwrite its own with it
        Ok(changed)
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Reply<Self::TelemetryStream> {
        Ok(Response::new(self.converse(request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Reply<v2::NotifyClientTerminationResponse> {
        self.unary(Rpc::NotifyClientTermination, request, |call, farewell| self.terminate.run(call, farewell)).await
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Reply<v2::ForwardMessageToDeadLetterQueueResponse> {
        let rpc = Rpc::ForwardMessageToDeadLetterQueue;
        self.unary(rpc, request, |call, forward| self.dead_letter.run(call, forward)).await
    }

    async fn end_transaction(&self, request: Request<v2::EndTransactionRequest>) -> Reply<v2::EndTransactionResponse> {
        self.unary(Rpc::EndTransaction, request, |call, end| self.end_transaction.run(call, end)).await
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Reply<v2::RecallMessageResponse> {
        self.unary(Rpc::RecallMessage, request, |call, recall| self.recall.run(call, recall)).await
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Reply<v2::SyncLiteSubscriptionResponse> {
        self.unary(Rpc::SyncLiteSubscription, request, |call, subscribe| self.lite.run(call, subscribe)).await
    }

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Reply<Self::PullMessageStream> {
        let (rpc, started) = (Rpc::PullMessage, Instant::now());
        let outcome = async {
            let (call, _permit) = self.gate.admit(rpc, &request)?;
            let span = span(rpc, &call);
            let ask = service::pull::Pull::parse(request.into_inner(), &call)?;
            self.pull.run(call, ask).instrument(span).await
        };
        let outcome = outcome.await;
        let code = outcome.as_ref().map_or_else(status::code, pull::code);
        self.done(rpc, code, outcome.as_ref().err(), started.elapsed());
        Ok(Response::new(self.receiver.pulled(outcome)))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Reply<v2::UpdateOffsetResponse> {
        self.unary(Rpc::UpdateOffset, request, |call, update| self.offsets.update(call, update)).await
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Reply<v2::GetOffsetResponse> {
        let found = self.unary(Rpc::GetOffset, request, |call, get| self.offsets.get(call, get)).await?;
        let same = |v2::QueryOffsetResponse { status, offset }| v2::GetOffsetResponse { status, offset };
        Ok(found.map(same))
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Reply<v2::QueryOffsetResponse> {
        self.unary(Rpc::QueryOffset, request, |call, query| self.offsets.query(call, query)).await
    }
}

/// A ReceiveMessage that was let in and makes sense.
struct BegunReceive {
    call: Call,
    ask: service::receive::Receive,
    started: Instant,
    _permit: Permit,
}

impl Edge {
    /// Admits, parses, runs, answers: the same for every unary RPC.
    async fn unary<W, In, Out, Run>(
        &self,
        rpc: Rpc,
        request: Request<W>,
        service: impl FnOnce(Call, In) -> Run,
    ) -> Reply<Out::Wire>
    where
        In: Parse<W>,
        Out: Answer,
        Run: Future<Output = Result<Out, ServiceError>>,
    {
        let started = Instant::now();
        let outcome = async {
            let (call, _permit) = self.gate.admit(rpc, &request)?;
            let span = span(rpc, &call);
            let until = call.answer_by(UNARY_MAX);
            let ask = In::parse(request.into_inner(), &call)?;
            let answered = timeout_at(until, service(call, ask).instrument(span)).await;
            answered.unwrap_or_else(|_| Err(ServiceError::DeadlinePassed { waited: started.elapsed() }))
        };
        let outcome = outcome.await;
        self.done(
            rpc,
            outcome.as_ref().map_or_else(status::code, Answer::code),
            outcome.as_ref().err(),
            started.elapsed(),
        );
        Ok(Response::new(Out::answer(outcome)))
    }

    /// Admits and parses a ReceiveMessage, or refuses it.
    fn begin_receive(&self, request: Request<v2::ReceiveMessageRequest>) -> Result<BegunReceive, Box<Parts>> {
        let (rpc, started) = (Rpc::ReceiveMessage, Instant::now());
        let refuse = |error: &ServiceError| self.done(rpc, status::code(error), Some(error), started.elapsed());
        let (call, permit) = match self.gate.admit(rpc, &request) {
            Ok(admitted) => admitted,
            Err(error) => {
                refuse(&error);
                return Err(Box::new(self.receiver.refused(&error)));
            }
        };
        match service::receive::Receive::parse(request.into_inner(), &call) {
            Ok(ask) => Ok(BegunReceive { call, ask, started, _permit: permit }),
            Err(error) => {
                refuse(&error);
                Err(Box::new(self.receiver.parts(Err(error))))
            }
        }
    }

    /// The same as for unary RPCs for ReceiveMessage, whose time is the long poll and whose answer comes in parts.
    async fn receive(&self, begun: BegunReceive) -> Reply<Parts> {
        let BegunReceive { call, ask, started, _permit } = begun;
        let rpc = Rpc::ReceiveMessage;
        let span = span(rpc, &call);
        let outcome = self.receive.run(call, ask).instrument(span).await;
        let code = outcome.as_ref().map_or_else(status::code, deliver::code);
        self.done(rpc, code, outcome.as_ref().err(), started.elapsed());
        Ok(Response::new(self.receiver.parts(outcome)))
    }

    /// Counts an answer, and logs what a person may have to look after.
    fn done(&self, rpc: Rpc, code: Code, error: Option<&ServiceError>, took: Duration) {
        self.metrics.calls.answered(rpc, code, took);
        match error {
            Some(error) if ours(code) => tracing::warn!(event = "call_failed", rpc = rpc.name(), %error, ?took),
            Some(error) => tracing::debug!(event = "call_refused", rpc = rpc.name(), %error, ?took),
            None => {}
        }
    }
}

fn span(rpc: Rpc, call: &Call) -> tracing::Span {
    tracing::debug_span!("call", rpc = rpc.name(), client = %call.client, request = %call.request_id)
}
