//! The one door: who calls, until when, and whether there is room for one more call. Bytes are counted before
//! decoding, in `budget`.

pub(super) mod fuzz;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apogee_host::Clock;
use apogee_model::ClientId;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request};

use crate::listen::{ConnectionId, Departure, PeerAddr};
use crate::metrics::{Metrics, Rejection, Rpc, Running};
use crate::service::{Call, ClientIdProblem, Language, ServiceError};

/// Bounds of the work in progress. What is beyond is refused at once, not queued.
#[derive(Copy, Clone, Debug)]
pub struct AdmissionLimits {
    /// Calls that are not parked; sends are refused at nine tenths of it, so that acks and heartbeats get through.
    pub calls_max: usize,
    /// Bytes of requests in progress in the whole proxy. Default 256 MiB.
    pub bytes_max: usize,
    /// Bytes of requests in progress on one connection. Default 64 MiB; the largest request is 32 MiB.
    pub connection_bytes_max: usize,
    /// Receives, parked or not.
    pub receives_max: usize,
    /// Open telemetry streams.
    pub streams_max: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            calls_max: 20_000,
            bytes_max: 256 * 1024 * 1024,
            connection_bytes_max: 64 * 1024 * 1024,
            receives_max: 110_000,
            streams_max: 110_000,
        }
    }
}

/// Longest client id in bytes; SDKs use host names and a few numbers.
const CLIENT_ID_MAX: usize = 1024;
/// Longest text kept of any other header.
const HEADER_MAX: usize = 256;

pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    limits: AdmissionLimits,
    used: Arc<Used>,
}

#[derive(Default)]
struct Used {
    calls: AtomicUsize,
    receives: AtomicUsize,
    streams: AtomicUsize,
}

/// Room for one call, given back on drop.
pub(super) struct Permit {
    used: Arc<Used>,
    kind: Kind,
    _running: Running,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Kind {
    /// Small and cheap, or what makes room: settlements, heartbeats, routes.
    Control,
    Send,
    Receive,
    Stream,
}

impl Kind {
    fn of(rpc: Rpc) -> Self {
        match rpc {
            Rpc::SendMessage => Self::Send,
            Rpc::ReceiveMessage | Rpc::PullMessage => Self::Receive,
            Rpc::Telemetry => Self::Stream,
            Rpc::QueryRoute
            | Rpc::Heartbeat
            | Rpc::QueryAssignment
            | Rpc::AckMessage
            | Rpc::ForwardMessageToDeadLetterQueue
            | Rpc::UpdateOffset
            | Rpc::GetOffset
            | Rpc::QueryOffset
            | Rpc::EndTransaction
            | Rpc::NotifyClientTermination
            | Rpc::ChangeInvisibleDuration
            | Rpc::RecallMessage
            | Rpc::SyncLiteSubscription => Self::Control,
        }
    }
}

impl Gate {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, limits: AdmissionLimits) -> Self {
        Self { clock, metrics, limits, used: Arc::default() }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit<W>(&self, rpc: Rpc, request: &Request<W>) -> Result<(Call, Permit), ServiceError> {
        let call = match self.call(request.metadata(), request.extensions()) {
            Ok(call) => call,
            Err(error) => return Err(self.rejected(Rejection::ClientId, error)),
        };
        match self.permit(rpc) {
            Ok(permit) => Ok((call, permit)),
            Err(error) => Err(self.rejected(Rejection::Overload, error)),
        }
    }

    fn rejected(&self, why: Rejection, error: ServiceError) -> ServiceError {
        self.metrics.calls.rejected(why);
        error
    }

    fn call(&self, headers: &MetadataMap, extensions: &Extensions) -> Result<Call, ServiceError> {
        let started = Instant::now();
        Ok(Call {
            client: client_id(headers)?,
            language: Language::parse(text(headers, "x-mq-language")),
            version: text(headers, "x-mq-client-version").into(),
            namespace: text(headers, "x-mq-namespace").into(),
            request_id: text(headers, "x-mq-request-id").into(),
            peer: extensions.get::<PeerAddr>().map(|peer| peer.0),
            connection: extensions.get::<ConnectionId>().copied(),
            departure: extensions.get::<Departure>().cloned().unwrap_or_default(),
            received: self.clock.wall(),
            started,
            deadline: timeout(headers).and_then(|timeout| started.checked_add(timeout)),
        })
    }

    fn permit(&self, rpc: Rpc) -> Result<Permit, ServiceError> {
        let (kind, limits) = (Kind::of(rpc), self.limits);
        let (counter, what, limit) = match kind {
            Kind::Control => (&self.used.calls, "calls in progress", limits.calls_max),
            Kind::Send => (&self.used.calls, "calls in progress", limits.calls_max / 10 * 9),
            Kind::Receive => (&self.used.receives, "receives in progress", limits.receives_max),
            Kind::Stream => (&self.used.streams, "telemetry streams", limits.streams_max),
        };
        take(counter, 1, limit).map_err(|limit| ServiceError::TooMany { what, limit })?;
        Ok(Permit { used: Arc::clone(&self.used), kind, _running: self.metrics.calls.running(rpc) })
    }
}

/// Adds `amount`, unless the sum would be above `limit`; then says that limit.
pub(super) fn take(counter: &AtomicUsize, amount: usize, limit: usize) -> Result<(), usize> {
    if counter.fetch_add(amount, Ordering::Relaxed) + amount > limit {
        counter.fetch_sub(amount, Ordering::Relaxed);
        return Err(limit);
    }
    Ok(())
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counter = match self.kind {
            Kind::Control | Kind::Send => &self.used.calls,
            Kind::Receive => &self.used.receives,
            Kind::Stream => &self.used.streams,
        };
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

fn client_id(headers: &MetadataMap) -> Result<ClientId, ServiceError> {
    let refuse = |problem| Err(ServiceError::ClientId { problem });
    let Some(value) = headers.get("x-mq-client-id") else { return refuse(ClientIdProblem::Missing) };
    let bytes = value.as_bytes();
    if bytes.len() > CLIENT_ID_MAX {
        return refuse(ClientIdProblem::TooLong { bytes: bytes.len(), max: CLIENT_ID_MAX });
    }
    let Ok(id) = std::str::from_utf8(bytes) else { return refuse(ClientIdProblem::NotText) };
    ClientId::parse(id).map_or_else(|| refuse(ClientIdProblem::Missing), Ok)
}

/// A free-form header; empty when it is missing, broken or absurdly long.
fn text<'a>(headers: &'a MetadataMap, name: &'static str) -> &'a str {
    let value = headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    value.filter(|text| text.len() <= HEADER_MAX).unwrap_or_default()
}

/// Header `grpc-timeout`: up to 8 digits and a unit; anything else is no deadline.
fn timeout(headers: &MetadataMap) -> Option<Duration> {
    let text = std::str::from_utf8(headers.get("grpc-timeout")?.as_bytes()).ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let check = |value: &str, expected: Option<Duration>| {
            let mut headers = MetadataMap::new();
            headers.insert("grpc-timeout", value.parse().unwrap());
            assert_eq!(timeout(&headers), expected, "{value:?}");
        };
        check("3S", Some(Duration::from_secs(3)));
        check("2500m", Some(Duration::from_millis(2500)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("7u", Some(Duration::from_micros(7)));
        for broken in ["", "S", "3", "3x", "-3S", "123456789S", "3 S", "3.5S"] {
            check(broken, None);
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }

    #[test]
    fn room_is_given_back() {
        let counter = AtomicUsize::new(0);
        assert_eq!(take(&counter, 3, 4), Ok(()));
        assert_eq!(take(&counter, 2, 4), Err(4));
        assert_eq!(take(&counter, 1, 4), Ok(()));
        assert_eq!(counter.into_inner(), 4);
    }
}
