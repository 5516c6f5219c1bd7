//! A request body whose frames are counted as they are taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::held::Held;

/// Fails when a frame has no room, so that nobody takes what came before for a whole request.
pub struct BudgetedBody<B> {
    /// `None` after that.
    body: Option<B>,
    held: Arc<Held>,
}

/// Why the body failed; the call's answer says it better.
#[derive(Debug, thiserror::Error)]
#[error("the request has more bytes than there is room for")]
struct NoRoom;

impl<B> BudgetedBody<B> {
    pub(super) fn new(body: B, held: Arc<Held>) -> Self {
        Self { body: Some(body), held }
    }
}

impl<B> Body for BudgetedBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError> + Send> + Send + Unpin + 'static,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let Some(frame) = ready!(Pin::new(body).poll_frame(context)) else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref()
            && this.held.take(data.remaining()).is_err()
        {
            drop(frame);
            if let Some(rest) = this.body.take() {
                this.held.discard().rest_of(rest);
            }
            return Poll::Ready(Some(Err(NoRoom.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
