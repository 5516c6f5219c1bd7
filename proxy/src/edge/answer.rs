//! Our answers to v2 responses. Every response carries a `status`.

use apogee_model::{MessageType, Permission, Timestamp};
use apogee_proto::v2::{self, Code};

use super::status::{common, failed, ok, status};
use crate::service::ServiceError;
use crate::service::ack::{AckEntry, Acked};
use crate::service::change_invisible::Changed;
use crate::service::dead_letter::Forwarded;
use crate::service::end_transaction::Ended;
use crate::service::heartbeat::Alive;
use crate::service::lite;
use crate::service::offsets::{Offset, Updated};
use crate::service::query_assignment::{Assigned, AssignedQueues};
use crate::service::query_route::{AccessPoint, NamedTopic, Route, Scheme};
use crate::service::recall::Recalled;
use crate::service::send::Sent;
use crate::service::terminate::Terminated;

/// What a service found, as the response of its RPC.
pub(super) trait Answer: Sized {
    type Wire;

    fn wire(self) -> Self::Wire;

    /// A response that says why there is nothing else in it.
    fn refused(status: v2::Status) -> Self::Wire;

    fn code(&self) -> Code {
        Code::Ok
    }

    fn answer(outcome: Result<Self, ServiceError>) -> Self::Wire {
        match outcome {
            Ok(answer) => answer.wire(),
            Err(error) => Self::refused(failed(&error)),
        }
    }
}

impl Answer for lite::Done {
    type Wire = v2::SyncLiteSubscriptionResponse;

    fn wire(self) -> Self::Wire {
        v2::SyncLiteSubscriptionResponse { status: Some(ok()) }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::SyncLiteSubscriptionResponse { status: Some(status) }
    }
}

impl Answer for Route {
    type Wire = v2::QueryRouteResponse;

    fn wire(self) -> Self::Wire {
        let topic = resource(&self.query.topic);
        let broker = broker(&self.broker, &self.query.access_point);
        let accepts = self.config.topic_type.accepts();
        let queue = |id: u16| v2::MessageQueue {
            topic: Some(topic.clone()),
            id: i32::from(id),
            permission: permission(self.config.permission).into(),
            broker: Some(broker.clone()),
            accept_message_types: accepts.iter().map(|accepted| message_type(*accepted).into()).collect(),
        };
        v2::QueryRouteResponse { status: Some(ok()), message_queues: (0..self.config.queues).map(queue).collect() }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::QueryRouteResponse { status: Some(status), message_queues: Vec::new() }
    }
}

impl Answer for Assigned {
    type Wire = v2::QueryAssignmentResponse;

    fn wire(self) -> Self::Wire {
        let topic = resource(&self.query.topic);
        let broker = broker(&self.broker, &self.query.access_point);
        let assignment = |id: i32| v2::Assignment {
            message_queue: Some(v2::MessageQueue {
                topic: Some(topic.clone()),
                id,
                permission: v2::Permission::ReadWrite.into(),
                broker: Some(broker.clone()),
                accept_message_types: Vec::new(),
            }),
        };
        let assignments = match &self.queues {
            AssignedQueues::Any => vec![assignment(-1)],
            AssignedQueues::Each(queues) => queues.iter().map(|queue| assignment(i32::from(queue.0))).collect(),
        };
        v2::QueryAssignmentResponse { status: Some(ok()), assignments }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::QueryAssignmentResponse { status: Some(status), assignments: Vec::new() }
    }
}

impl Answer for Sent {
    type Wire = v2::SendMessageResponse;

    fn wire(self) -> Self::Wire {
        let entries = self.entries.into_iter().map(|sent| v2::SendResultEntry {
            status: Some(ok()),
            // Upstream fills it for every message.
            transaction_id: sent.transaction_id.unwrap_or_else(|| sent.message_id.clone()),
            message_id: sent.message_id,
            offset: int64(sent.offset.0),
            recall_handle: sent.recall_handle.unwrap_or_default(),
        });
        v2::SendMessageResponse { status: Some(ok()), entries: entries.collect() }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::SendMessageResponse { status: Some(status), entries: Vec::new() }
    }
}

impl Answer for Ended {
    type Wire = v2::EndTransactionResponse;

    fn wire(self) -> Self::Wire {
        Self::refused(ok())
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::EndTransactionResponse { status: Some(status) }
    }
}

impl Answer for Recalled {
    type Wire = v2::RecallMessageResponse;

    fn wire(self) -> Self::Wire {
        v2::RecallMessageResponse { status: Some(ok()), message_id: self.message_id }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::RecallMessageResponse { status: Some(status), message_id: String::new() }
    }
}

impl Answer for Acked {
    type Wire = v2::AckMessageResponse;

    fn code(&self) -> Code {
        common(self.entries.iter().map(|(_, fate)| fate.as_ref().map_or_else(super::status::code, |()| Code::Ok)))
    }

    fn wire(self) -> Self::Wire {
        let top = match (self.code(), self.entries.first()) {
            (Code::Ok, _) => ok(),
            (Code::MultipleResults, _) => status(Code::MultipleResults, "the entries have different results"),
            (_, Some((_, Err(error)))) => failed(error),
            (code, _) => status(code, code.as_str_name()),
        };
        let entry = |(entry, fate): (AckEntry, Result<(), ServiceError>)| v2::AckMessageResultEntry {
            message_id: entry.message_id,
            receipt_handle: entry.receipt_handle,
            status: Some(fate.map_or_else(|error| failed(&error), |()| ok())),
        };
        v2::AckMessageResponse { status: Some(top), entries: self.entries.into_iter().map(entry).collect() }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::AckMessageResponse { status: Some(status), entries: Vec::new() }
    }
}

impl Answer for Changed {
    type Wire = v2::ChangeInvisibleDurationResponse;

    fn code(&self) -> Code {
        self.outcome.as_ref().map_or_else(super::status::code, |()| Code::Ok)
    }

    fn wire(self) -> Self::Wire {
        let status = self.outcome.map_or_else(|error| failed(&error), |()| ok());
        v2::ChangeInvisibleDurationResponse { status: Some(status), receipt_handle: self.receipt_handle }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::ChangeInvisibleDurationResponse { status: Some(status), receipt_handle: String::new() }
    }
}

impl Answer for Forwarded {
    type Wire = v2::ForwardMessageToDeadLetterQueueResponse;

    fn wire(self) -> Self::Wire {
        Self::refused(ok())
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::ForwardMessageToDeadLetterQueueResponse { status: Some(status) }
    }
}

impl Answer for Alive {
    type Wire = v2::HeartbeatResponse;

    fn wire(self) -> Self::Wire {
        Self::refused(ok())
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::HeartbeatResponse { status: Some(status) }
    }
}

impl Answer for Terminated {
    type Wire = v2::NotifyClientTerminationResponse;

    fn wire(self) -> Self::Wire {
        Self::refused(ok())
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::NotifyClientTerminationResponse { status: Some(status) }
    }
}

impl Answer for Updated {
    type Wire = v2::UpdateOffsetResponse;

    fn wire(self) -> Self::Wire {
        Self::refused(ok())
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::UpdateOffsetResponse { status: Some(status) }
    }
}

/// GetOffset and QueryOffset answer the same; this one is of the latter.
impl Answer for Offset {
    type Wire = v2::QueryOffsetResponse;

    fn wire(self) -> Self::Wire {
        v2::QueryOffsetResponse { status: Some(ok()), offset: int64(self.0.0) }
    }

    fn refused(status: v2::Status) -> Self::Wire {
        v2::QueryOffsetResponse { status: Some(status), offset: 0 }
    }
}

fn resource(topic: &NamedTopic) -> v2::Resource {
    v2::Resource { resource_namespace: topic.namespace.clone(), name: topic.name.clone() }
}

/// The one logical broker, reached the way the client reached us.
fn broker(name: &str, access_point: &AccessPoint) -> v2::Broker {
    let scheme = match access_point.scheme {
        Scheme::Ipv4 => v2::AddressScheme::IPv4,
        Scheme::Ipv6 => v2::AddressScheme::IPv6,
        Scheme::DomainName => v2::AddressScheme::DomainName,
    };
    let address = |(host, port): &(String, u16)| v2::Address { host: host.clone(), port: i32::from(*port) };
    let addresses = access_point.addresses.iter().map(address).collect();
    v2::Broker { name: name.to_owned(), id: 0, endpoints: Some(v2::Endpoints { scheme: scheme.into(), addresses }) }
}

fn permission(permission: Permission) -> v2::Permission {
    match permission {
        Permission::None => v2::Permission::None,
        Permission::Read => v2::Permission::Read,
        Permission::Write => v2::Permission::Write,
        Permission::ReadWrite => v2::Permission::ReadWrite,
    }
}

pub(super) fn message_type(message_type: MessageType) -> v2::MessageType {
    match message_type {
        MessageType::Normal => v2::MessageType::Normal,
        MessageType::Fifo => v2::MessageType::Fifo,
        MessageType::Delay => v2::MessageType::Delay,
        MessageType::Transaction => v2::MessageType::Transaction,
        MessageType::Lite => v2::MessageType::Lite,
        MessageType::Priority => v2::MessageType::Priority,
    }
}

/// Offsets and counts on the wire are signed.
pub(super) fn int64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.0 % 1000 * 1_000_000).expect("less than a thousand milliseconds");
    prost_types::Timestamp { seconds: int64(at.0 / 1000), nanos }
}
