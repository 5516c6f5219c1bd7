//! QueryRoute, QueryAssignment and Heartbeat.

use apogee_proto::v2::{self, AddressScheme, ClientType};

use super::{Parse, group, topic};
use crate::service::heartbeat::Beat;
use crate::service::query_assignment::AssignmentQuery;
use crate::service::query_route::{AccessPoint, NamedTopic, RouteQuery, Scheme};
use crate::service::{Call, ServiceError};
use crate::session::{ConsumeMode, Role};

impl Parse<v2::QueryRouteRequest> for RouteQuery {
    fn parse(wire: v2::QueryRouteRequest, call: &Call) -> Result<Self, ServiceError> {
        Ok(Self { topic: named_topic(wire.topic, call)?, access_point: access_point(wire.endpoints)? })
    }
}

impl Parse<v2::QueryAssignmentRequest> for AssignmentQuery {
    fn parse(wire: v2::QueryAssignmentRequest, call: &Call) -> Result<Self, ServiceError> {
        Ok(Self {
            topic: named_topic(wire.topic, call)?,
            group: group(wire.group.as_ref(), call)?,
            access_point: access_point(wire.endpoints)?,
        })
    }
}

impl Parse<v2::HeartbeatRequest> for Beat {
    fn parse(wire: v2::HeartbeatRequest, call: &Call) -> Result<Self, ServiceError> {
        let consumer = |mode| Ok(Some(Role::Consumer { mode, group: group(wire.group.as_ref(), call)? }));
        let role = match ClientType::try_from(wire.client_type) {
            Ok(ClientType::Unspecified) => Ok(None),
            Ok(ClientType::Producer) => Ok(Some(Role::Producer)),
            Ok(ClientType::PushConsumer) => consumer(ConsumeMode::Push),
            Ok(ClientType::SimpleConsumer) => consumer(ConsumeMode::Simple),
            Ok(ClientType::LitePushConsumer) => consumer(ConsumeMode::LitePush),
            Ok(ClientType::LiteSimpleConsumer) => consumer(ConsumeMode::LiteSimple),
            Ok(ClientType::PullConsumer) | Err(_) => Err(client_type(wire.client_type)),
        };
        Ok(Self { role: role? })
    }
}

pub(super) fn client_type(number: i32) -> ServiceError {
    let known = ClientType::try_from(number).ok();
    let client_type = known.map_or_else(|| number.to_string(), |known| known.as_str_name().to_owned());
    ServiceError::ClientType { client_type }
}

fn named_topic(resource: Option<v2::Resource>, call: &Call) -> Result<NamedTopic, ServiceError> {
    let topic = topic(resource.as_ref(), call)?;
    let v2::Resource { resource_namespace: namespace, name } = resource.unwrap_or_default();
    Ok(NamedTopic { topic, namespace, name })
}

fn access_point(endpoints: Option<v2::Endpoints>) -> Result<AccessPoint, ServiceError> {
    let Some(endpoints) = endpoints else {
        return Err(ServiceError::AccessPoint { problem: "are missing".to_owned() });
    };
    if endpoints.addresses.is_empty() {
        return Err(ServiceError::AccessPoint { problem: "name no address".to_owned() });
    }
    let scheme = match AddressScheme::try_from(endpoints.scheme) {
        Ok(AddressScheme::IPv4) => Scheme::Ipv4,
        Ok(AddressScheme::IPv6) => Scheme::Ipv6,
        Ok(AddressScheme::DomainName) => Scheme::DomainName,
        Ok(AddressScheme::Unspecified) | Err(_) => {
            let problem = format!("have scheme {}, allowed are IPv4, IPv6 and DOMAIN_NAME", endpoints.scheme);
            return Err(ServiceError::AccessPoint { problem });
        }
    };
    AccessPoint::parse(scheme, endpoints.addresses.into_iter().map(|address| (address.host, address.port)).collect())
}
