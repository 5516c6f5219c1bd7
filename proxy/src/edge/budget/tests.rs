use apogee_proto::v2::receive_message_response::Content;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;

use super::*;

type Frames = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn budget(connection_bytes_max: usize, bytes_max: usize) -> ByteBudget {
    let metrics = Metrics::new(&opentelemetry::global::meter("test"), &Arc::default());
    ByteBudget::new(
        Arc::new(metrics),
        AdmissionLimits { connection_bytes_max, bytes_max, ..Default::default() },
        &Tasks::new(),
    )
}

/// A request for `rpc` with frames of these sizes.
fn request(rpc: &str, on: &ConnectionBytes, frames: &[usize]) -> Request<Frames> {
    let frames: Vec<_> = frames.iter().map(|size| Ok(Frame::data(vec![0; *size].into()))).collect();
    let mut request = Request::new(StreamBody::new(stream::iter(frames)));
    *request.uri_mut() = format!("/service/{rpc}").parse().unwrap();
    request.extensions_mut().insert(on.clone());
    request
}

/// A call that takes its whole body and answers, or never answers a `ReceiveMessage`.
fn call(budget: &ByteBudget, request: Request<Frames>) -> BoxFuture<'static, Response<Body>> {
    let run = async |request: Request<BudgetedBody<Frames>>| {
        let waits = request.uri().path().ends_with("/ReceiveMessage");
        if request.into_body().collect().await.is_ok() && waits {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(Body::empty()))
    };
    let answer = budget.layer(tower::service_fn(run)).call(request);
    answer.map(|answer| answer.unwrap_or_else(|never| match never {})).boxed()
}

/// A call that is in progress from now on.
#[track_caller]
fn waiting(budget: &ByteBudget, on: &ConnectionBytes, frames: &[usize]) -> BoxFuture<'static, Response<Body>> {
    let mut call = call(budget, request("ReceiveMessage", on, frames));
    assert!((&mut call).now_or_never().is_none(), "it has room");
    call
}

/// What a call that has no room is told.
#[track_caller]
fn refusal(budget: &ByteBudget, on: &ConnectionBytes, frames: &[usize]) -> String {
    let answer = call(budget, request("ReceiveMessage", on, frames)).now_or_never().expect("answered at once");
    let message = answer.into_body().collect().now_or_never().unwrap().unwrap().to_bytes().slice(PREFIX..);
    v2::HeartbeatResponse::decode(message).unwrap().status.expect("no room").message
}

fn used(budget: &ByteBudget, connections: [&ConnectionBytes; 2]) -> (usize, [usize; 2]) {
    (budget.budgets.used(), connections.map(|connection| connection.0.load(std::sync::atomic::Ordering::Relaxed)))
}

#[tokio::test]
async fn connections_and_the_proxy_have_a_budget() {
    let (budget, a, b) = (budget(10, 15), ConnectionBytes::default(), ConnectionBytes::default());
    let _six = waiting(&budget, &a, &[3, 3]);
    let connection = "bytes of requests in progress on this connection: at most 10, try again later";
    assert_eq!(refusal(&budget, &a, &[5]), connection);
    let _ten = waiting(&budget, &a, &[4]);
    let proxy = "bytes of requests in progress in this proxy: at most 15, try again later";
    assert_eq!(refusal(&budget, &b, &[6]), proxy);
    assert_eq!(used(&budget, [&a, &b]), (10, [10, 0]));
    let _fifteen = waiting(&budget, &b, &[5]);
    assert_eq!(used(&budget, [&a, &b]), (15, [10, 5]));
}

#[tokio::test]
async fn bytes_are_given_back_however_a_call_ends() {
    let (budget, a, b) = (budget(10, 15), ConnectionBytes::default(), ConnectionBytes::default());
    let zero = (0, [0, 0]);
    let answered = call(&budget, request("SendMessage", &a, &[10])).now_or_never().expect("answered");
    assert_eq!(used(&budget, [&a, &b]), zero, "answered");
    let cancelled = waiting(&budget, &b, &[10]);
    assert_eq!(used(&budget, [&a, &b]), (10, [0, 10]));
    drop(cancelled);
    assert_eq!(used(&budget, [&a, &b]), zero, "cancelled");
    let refused = call(&budget, request("SendMessage", &a, &[10, 1])).now_or_never().expect("refused");
    assert_eq!(used(&budget, [&a, &b]), zero, "refused");
    drop((answered, refused));
    assert_eq!(used(&budget, [&a, &b]), zero);
}

#[tokio::test]
async fn a_request_without_connection_counts_for_the_proxy() {
    let (budget, none) = (budget(10, 15), ConnectionBytes::default());
    let mut anonymous = request("ReceiveMessage", &none, &[15]);
    anonymous.extensions_mut().remove::<ConnectionBytes>();
    let mut anonymous = call(&budget, anonymous);
    assert!((&mut anonymous).now_or_never().is_none());
    assert_eq!(used(&budget, [&none, &none]), (15, [0, 0]));
    drop(anonymous);
    assert_eq!(used(&budget, [&none, &none]), (0, [0, 0]));
}

#[tokio::test]
async fn a_stream_gives_back_what_it_handled() {
    let (budget, a) = (budget(10, 15), ConnectionBytes::default());
    let run = async |request: Request<BudgetedBody<Frames>>| {
        let held = request.extensions().get::<Arc<Held>>().expect("Telemetry may give back").clone();
        let mut body = request.into_body();
        for _ in 0..3 {
            assert!(body.frame().await.expect("a command").is_ok());
            held.give_back();
        }
        assert!(body.frame().await.expect("one too large").is_err());
        assert!(held.refusal().is_some());
        Ok(Response::new(Body::empty()))
    };
    let mut service = budget.layer(tower::service_fn(run));
    service.call(request("Telemetry", &a, &[6, 6, 6, 11])).now_or_never().expect("at once").unwrap();
    assert_eq!(used(&budget, [&a, &a]), (0, [0, 0]));
}

#[test]
fn one_refusal_serves_every_response() {
    let error = ServiceError::TooMany { what: "bytes", limit: 1 };
    let response = refused(&error);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc");
    let body = response.into_body().collect().now_or_never().unwrap().unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let message = body.to_bytes().slice(PREFIX..);
    let status = Some(failed(&error));
    assert_eq!(status.as_ref().map(|status| status.code), Some(42900));
    let sent = v2::SendMessageResponse { status: status.clone(), ..Default::default() };
    assert_eq!(v2::SendMessageResponse::decode(message.clone()), Ok(sent));
    let command = v2::TelemetryCommand { status: status.clone(), ..Default::default() };
    assert_eq!(v2::TelemetryCommand::decode(message.clone()), Ok(command));
    let part = v2::ReceiveMessageResponse { content: status.map(Content::Status) };
    assert_eq!(v2::ReceiveMessageResponse::decode(message), Ok(part));
}
