//! The service as one connection sees it: each request knows its connection, each stream is counted while it is open.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;
use tower::util::Oneshot;

use super::activity::{Activity, OpenStream};
use super::{ConnectionBytes, ConnectionId, Departure, PeerAddr};

/// A clone of the service with what is known about its connection.
#[derive(Debug)]
pub(super) struct ConnectionService<S> {
    pub(super) service: S,
    pub(super) peer: PeerAddr,
    pub(super) id: ConnectionId,
    pub(super) bytes: ConnectionBytes,
    pub(super) departure: Departure,
    pub(super) activity: Arc<Activity>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
{
    type Response = Response<CountedBody<B>>;
    type Error = S::Error;
    type Future = Answer<S>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<S> {
        let stream = self.activity.stream();
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.id);
        request.extensions_mut().insert(self.bytes.clone());
        request.extensions_mut().insert(self.departure.clone());
        Answer { answer: Oneshot::new(self.service.clone(), request), stream: Some(stream) }
    }
}

pin_project! {
    /// The response to come.
    pub(super) struct Answer<S: Service<Request<Incoming>>> {
        #[pin]
        answer: Oneshot<S, Request<Incoming>>,
        stream: Option<OpenStream>,
    }
}

impl<S, B> Future for Answer<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Output = Result<Response<CountedBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        let stream = this.stream.take();
        Poll::Ready(answer.map(|response| response.map(|body| CountedBody { body, _stream: stream })))
    }
}

pin_project! {
    /// A response body; its stream stays open until it is dropped, sent or not.
    pub(super) struct CountedBody<B> {
        #[pin]
        body: B,
        _stream: Option<OpenStream>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
