//! PullMessage on the wire: status, one part per message, where to go on, in this order.

use apogee_model::QueueId;
use apogee_model::store::FetchedMessage;
use apogee_proto::v2::pull_message_response::Content;
use apogee_proto::v2::{self, Code};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::Status;

use super::answer::{int64, timestamp};
use super::deliver::Receiver;
use super::status::{failed, ok, status};
use super::stored;
use crate::service::ServiceError;
use crate::service::pull::{Found, Pulled};

/// The parts of one response.
pub(super) type Parts = BoxStream<'static, Result<v2::PullMessageResponse, Status>>;

/// The code of what a pull found.
pub(super) fn code(pulled: &Pulled) -> Code {
    match pulled.found {
        Found::Messages(_) => Code::Ok,
        Found::Nothing => Code::MessageNotFound,
        Found::OutOfRange { .. } => Code::IllegalOffset,
    }
}

impl Receiver {
    /// A refused pull is its status and nothing else; all others say where to go on.
    pub(super) fn pulled(&self, outcome: Result<Pulled, ServiceError>) -> Parts {
        let contents = match outcome {
            Ok(pulled) => self.contents(pulled),
            Err(error) => vec![Content::Status(failed(&error))],
        };
        let part = |content| Ok(v2::PullMessageResponse { content: Some(content) });
        stream::iter(contents.into_iter().map(part)).boxed()
    }

    fn contents(&self, pulled: Pulled) -> Vec<Content> {
        let code = code(&pulled);
        let Pulled { topic, group, queue, found, next } = pulled;
        let (status, found) = match found {
            Found::Messages(messages) => (ok(), messages),
            Found::Nothing => (status(code, "no message came while this call waited"), Vec::new()),
            Found::OutOfRange { asked, min, max } => {
                let held = format!("offset {asked} is not one of {min} to {max}, which queue {queue} has now");
                (status(code, held), Vec::new())
            }
        };
        let (mut contents, mut bytes) = (vec![Content::Status(status)], 0);
        for fetched in found {
            let offset = fetched.offset;
            match self.fetched(queue, fetched) {
                Ok(message) => {
                    bytes += message.body.len();
                    contents.push(Content::Message(message));
                }
                Err(error) => {
                    let topic = topic.id;
                    tracing::error!(event = "stored_message_broken", %topic, %queue, %offset, %error);
                }
            }
        }
        if contents.len() > 1 {
            self.metrics.messages_out(&topic, &group, contents.len() - 1, bytes);
        }
        contents.push(Content::NextOffset(int64(next.0)));
        contents
    }

    /// What is stored, and where. Nobody holds it: there is no receipt handle.
    fn fetched(&self, queue: QueueId, fetched: FetchedMessage) -> Result<v2::Message, prost::DecodeError> {
        stored::message(fetched.message, |properties| v2::SystemProperties {
            store_timestamp: Some(timestamp(fetched.stored_at)),
            store_host: self.store_host.to_string(),
            queue_id: i32::from(queue.0),
            queue_offset: Some(int64(fetched.offset.0)),
            delivery_attempt: Some(1),
            ..properties
        })
    }
}
