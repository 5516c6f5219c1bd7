//! ReceiveMessage on the wire: status, one part per message, the time of delivery, in this order.
//!
//! A batch is held until the transport asked for more after its last part: only then all of it was taken. A stream
//! that is dropped before gives the batch back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apogee_host::Clock;
use apogee_model::store::{CheckBack, Delivery};
use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::{self, Code};
use futures::Stream;
use tonic::Status;

use super::answer::{int64, timestamp};
use super::status::{failed, ok, status};
use super::stored;
use crate::metrics::Metrics;
use crate::service::ServiceError;
use crate::service::receipt::sign;
use crate::service::receive::{Held, Received};

/// Turns what a receive found into its response.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// Field `store_host` of every delivered message.
    pub(crate) store_host: Arc<str>,
}

/// The parts of one response.
pub(crate) struct Parts {
    receiver: Receiver,
    status: Option<v2::Status>,
    deliveries: std::vec::IntoIter<Delivery>,
    held: Option<Held>,
    stage: Stage,
    bytes: usize,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Stage {
    /// Status, messages, then the time of delivery.
    Content,
    /// All was yielded; the transport shall empty its buffer before it asks again.
    Flush,
    /// The transport asked again.
    End,
}

/// The code of what a receive found.
pub(super) fn code(received: &Received) -> Code {
    match received {
        Received::Messages(_) => Code::Ok,
        Received::Nothing => Code::MessageNotFound,
    }
}

impl Receiver {
    pub(super) fn parts(&self, outcome: Result<Received, ServiceError>) -> Parts {
        match outcome {
            Ok(Received::Messages(mut held)) => {
                let deliveries = std::mem::take(&mut held.deliveries).into_iter();
                self.stream(ok(), deliveries, Some(held), Stage::Content)
            }
            Ok(Received::Nothing) => {
                let nothing = status(Code::MessageNotFound, "no message became ready while this call waited");
                self.stream(nothing, Vec::new().into_iter(), None, Stage::Content)
            }
            Err(error) => self.stream(failed(&error), Vec::new().into_iter(), None, Stage::Content),
        }
    }

    /// A call that did not get in: its status and nothing else.
    pub(super) fn refused(&self, error: &ServiceError) -> Parts {
        self.stream(failed(error), Vec::new().into_iter(), None, Stage::End)
    }

    fn stream(
        &self,
        status: v2::Status,
        deliveries: std::vec::IntoIter<Delivery>,
        held: Option<Held>,
        stage: Stage,
    ) -> Parts {
        Parts { receiver: self.clone(), status: Some(status), deliveries, held, stage, bytes: 0 }
    }

    /// What is stored, with the fields of this delivery.
    fn message(&self, delivery: Delivery, held: &Held) -> Result<v2::Message, prost::DecodeError> {
        stored::message(delivery.message, |properties| v2::SystemProperties {
            store_timestamp: Some(timestamp(delivery.stored_at)),
            store_host: self.store_host.to_string(),
            receipt_handle: Some(sign(held.replica_group, &delivery.key, &held.cluster.mac_keys)),
            queue_id: i32::from(delivery.key.queue.0),
            queue_offset: Some(int64(delivery.key.offset.0)),
            invisible_duration: prost_types::Duration::try_from(delivery.invisible.get()).ok(),
            delivery_attempt: Some(i32::try_from(delivery.attempt.0).unwrap_or(i32::MAX)),
            ..properties
        })
    }

    /// A half message as its producer is asked about it: complete, because SDKs drop what they cannot read.
    pub(super) fn orphan(&self, check: &CheckBack) -> Result<v2::Message, prost::DecodeError> {
        stored::message(check.message.clone(), |properties| v2::SystemProperties {
            store_timestamp: Some(timestamp(check.stored_at)),
            store_host: self.store_host.to_string(),
            queue_id: i32::from(check.queue.0),
            ..properties
        })
    }
}

impl Parts {
    /// The next message. One that cannot be decoded is left out, and its lease simply ends.
    fn next_message(&mut self) -> Option<v2::Message> {
        loop {
            let delivery = self.deliveries.next()?;
            let held = self.held.as_mut()?;
            let key = delivery.key;
            match self.receiver.message(delivery, held) {
                Ok(message) => {
                    self.bytes += message.body.len();
                    return Some(message);
                }
                Err(error) => {
                    held.leave(&key);
                    tracing::error!(
                        event = "stored_message_broken", topic = %key.topic, queue = %key.queue, offset = %key.offset, %error,
                    );
                }
            }
        }
    }

    fn next_content(&mut self) -> Option<Content> {
        if let Some(status) = self.status.take() {
            return Some(Content::Status(status));
        }
        if self.stage != Stage::Content {
            return None;
        }
        if let Some(message) = self.next_message() {
            return Some(Content::Message(message));
        }
        self.stage = Stage::Flush;
        Some(Content::DeliveryTimestamp(timestamp(self.receiver.clock.wall())))
    }

    fn written(&mut self) {
        if let Some(held) = self.held.take() {
            self.receiver.metrics.messages_out(&held.topic, &held.group, held.len(), self.bytes);
            held.written();
        }
    }
}

impl Stream for Parts {
    type Item = Result<v2::ReceiveMessageResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(content) = self.next_content() {
            return Poll::Ready(Some(Ok(v2::ReceiveMessageResponse { content: Some(content) })));
        }
        if self.stage == Stage::Flush {
            // tonic hands its buffer on when a stream has nothing at the moment, and comes back once HTTP/2 took it.
            self.stage = Stage::End;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.written();
        Poll::Ready(None)
    }
}
