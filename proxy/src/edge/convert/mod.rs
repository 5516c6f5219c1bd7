//! v2 requests to our types. Whatever passes is valid for good; the v2 types stop here.

pub(super) mod fuzz;
mod lite;
mod message;
mod offsets;
mod property;
mod recall;
mod receive;
mod route;
mod settings;
mod settle;
mod time;
mod transaction;

use apogee_model::{ConsumerGroup, NameError, Topic};
use apogee_proto::v2;

pub(super) use self::settings::merged;
use crate::service::terminate::Farewell;
use crate::service::{Call, ServiceError};

/// A request that makes sense. The call decides what the request leaves open: namespace, peer, the present.
pub(super) trait Parse<W>: Sized {
    fn parse(wire: W, call: &Call) -> Result<Self, ServiceError>;
}

impl Parse<v2::NotifyClientTerminationRequest> for Farewell {
    /// Whatever it says, the client goes.
    fn parse(_wire: v2::NotifyClientTerminationRequest, _call: &Call) -> Result<Self, ServiceError> {
        Ok(Self)
    }
}

/// A missing resource is a blank name.
fn topic(resource: Option<&v2::Resource>, call: &Call) -> Result<Topic, ServiceError> {
    named(resource, call, Topic::parse).map_err(ServiceError::TopicName)
}

fn group(resource: Option<&v2::Resource>, call: &Call) -> Result<ConsumerGroup, ServiceError> {
    named(resource, call, ConsumerGroup::parse).map_err(ServiceError::GroupName)
}

/// Resources without a namespace are in that of the call: the Node.js SDK says it in the header only.
fn named<T>(
    resource: Option<&v2::Resource>,
    call: &Call,
    parse: impl FnOnce(&str, &str) -> Result<T, NameError>,
) -> Result<T, NameError> {
    let (namespace, name) = resource.map_or(("", ""), |resource| (&*resource.resource_namespace, &*resource.name));
    if namespace.is_empty() { parse(&call.namespace, name).map_err(of_header) } else { parse(namespace, name) }
}

/// Says of a wrong namespace that it is in the header.
fn of_header(mut error: NameError) -> NameError {
    let (NameError::Blank { kind }
    | NameError::TooLong { kind, .. }
    | NameError::Character { kind, .. }
    | NameError::Reserved { kind, .. }) = &mut error;
    if *kind == "namespace" {
        *kind = "header x-mq-namespace: namespace";
    }
    error
}

#[cfg(test)]
mod tests;
