//! The layer before decoding: bytes of requests in progress, per connection and for the whole proxy.
//!
//! HTTP/2 windows bound what waits in the transport, not what was taken out of it: 2,048 calls of one connection may
//! each hold 32 MiB of a message that is not complete yet. So every DATA frame is counted as it is taken, before
//! anybody allocates for it, and the call whose frame has no room is answered at once. Its connection lives on, and the
//! rest of its body is thrown away as it arrives.
//!
//! Reading order: this layer, `held` (what counts), `body` (what is counted), `discard` (what was refused).
//!
//! Source: operations contract, section 12, in-flight bytes.

mod body;
mod discard;
mod held;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apogee_host::Tasks;
use apogee_proto::v2;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use pin_project_lite::pin_project;
use prost::Message as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::{Layer, Service};

use self::body::BudgetedBody;
use self::discard::Discard;
use self::held::Budgets;
pub(super) use self::held::Held;
use super::admit::AdmissionLimits;
use super::status::{code, failed};
use crate::listen::ConnectionBytes;
use crate::metrics::{Metrics, Rpc};
use crate::service::ServiceError;

/// Bytes before each message: not compressed, and its length.
const PREFIX: usize = 5;

/// Holds the requests of a service to the byte budgets. Clones share them.
#[derive(Clone)]
pub(crate) struct ByteBudget {
    budgets: Arc<Budgets>,
}

impl ByteBudget {
    /// Starts the task that reads what was refused.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(metrics: Arc<Metrics>, limits: AdmissionLimits, tasks: &Tasks) -> Self {
        Self { budgets: Arc::new(Budgets::new(metrics, limits, Discard::start(tasks))) }
    }
}

impl<S> Layer<S> for ByteBudget {
    type Service = Budgeted<S>;

    fn layer(&self, inner: S) -> Budgeted<S> {
        Budgeted { inner, budgets: Arc::clone(&self.budgets) }
    }
}

/// A service whose requests are held to the byte budgets.
///
/// A call keeps its bytes until its body and the future of its response are both dropped. The inner service reads a
/// body within that future, or, as Telemetry does, takes `Arc<Held>` out of the request's extensions, gives bytes back
/// as it is done with them, and tells the client itself when a body ends for want of room.
#[derive(Clone)]
pub struct Budgeted<S> {
    inner: S,
    budgets: Arc<Budgets>,
}

impl<S: NamedService> NamedService for Budgeted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Budgeted<S>
where
    S: Service<Request<BudgetedBody<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Answer<S::Future> {
        let connection = request.extensions().get::<ConnectionBytes>().cloned();
        let held = Arc::new(Held::new(Arc::clone(&self.budgets), connection));
        let rpc = Rpc::of_path(request.uri().path());
        if rpc == Some(Rpc::Telemetry) {
            request.extensions_mut().insert(Arc::clone(&held));
        }
        let request = request.map(|body| BudgetedBody::new(body, Arc::clone(&held)));
        Answer { call: Some(self.inner.call(request)), held, rpc, started: Instant::now() }
    }
}

pin_project! {
    /// The answer of the inner service, or ours as soon as the body had no room.
    pub struct Answer<F> {
        #[pin]
        call: Option<F>,
        held: Arc<Held>,
        rpc: Option<Rpc>,
        started: Instant,
    }
}

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call.as_mut().as_pin_mut() else { return Poll::Pending }; // polled after its end
        let answer = call.poll(context);
        // The body is read within that poll, so nobody has to wake us for this.
        let Some(error) = this.held.refusal() else {
            return answer.map_ok(|mut response| {
                blame_the_size(response.headers_mut());
                response
            });
        };
        this.call.set(None);
        if let Some(rpc) = *this.rpc {
            this.held.metrics().calls.answered(rpc, code(&error), this.started.elapsed());
        }
        tracing::debug!(event = "call_refused", rpc = this.rpc.map(Rpc::name), %error);
        Poll::Ready(Ok(refused(&error)))
    }
}

/// tonic says OUT_OF_RANGE of a message above its limit, and nothing here says it of anything else. gRPC's own word for
/// it is RESOURCE_EXHAUSTED.
fn blame_the_size(headers: &mut HeaderMap) {
    const OUT_OF_RANGE: &str = "11";
    if let Some(status) = headers.get_mut("grpc-status").filter(|status| **status == OUT_OF_RANGE) {
        *status = HeaderValue::from_static("8");
    }
}

/// One message with only a status, which is field 1 of every response, also of those that come in parts.
fn refused(error: &ServiceError) -> Response<Body> {
    let message = v2::HeartbeatResponse { status: Some(failed(error)) };
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("a status is short"));
    message.encode(&mut frame).expect("there is room");
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests;
