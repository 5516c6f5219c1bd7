//! What fuzzing does to the headers of a call; see [`crate::fuzz`].

use std::sync::{Arc, LazyLock};

use apogee_host::RealClock;
use http::{HeaderMap, HeaderValue};
use tonic::Extensions;
use tonic::metadata::MetadataMap;

use super::{AdmissionLimits, CLIENT_ID_MAX, Gate, HEADER_MAX};
use crate::metrics::Metrics;
use crate::service::{ServiceError, UNARY_MAX};

/// What a call says of itself, each in a line of the input.
const NAMES: [&str; 6] =
    ["x-mq-client-id", "grpc-timeout", "x-mq-namespace", "x-mq-language", "x-mq-client-version", "x-mq-request-id"];

/// Whoever is let in has a name, texts of a bounded length, and an answer in time.
///
/// # Panics
/// When it is otherwise.
pub fn headers(data: &[u8]) {
    static GATE: LazyLock<Gate> = LazyLock::new(|| {
        let metrics = Metrics::new(&opentelemetry::global::meter("fuzz"), &Arc::default());
        Gate::new(Arc::new(RealClock), Arc::new(metrics), AdmissionLimits::default())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in NAMES.into_iter().zip(data.split(|byte| *byte == b'\n')) {
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.insert(name, value);
    }
    match GATE.call(&MetadataMap::from_headers(headers), &Extensions::new()) {
        Ok(call) => {
            let client = call.client.as_str();
            assert!(!client.trim().is_empty() && client.len() <= CLIENT_ID_MAX, "{client:?} is no client id");
            let texts = [&call.namespace, &call.version, &call.request_id];
            assert!(texts.into_iter().all(|text| text.len() <= HEADER_MAX), "a text is too long");
            let until = call.answer_by(UNARY_MAX);
            assert!(call.started <= until && until <= call.started + UNARY_MAX, "the answer has no time");
            assert!(call.deadline.is_none_or(|deadline| until <= deadline), "the answer comes too late");
        }
        Err(error) => assert!(matches!(error, ServiceError::ClientId { .. }), "{error}"),
    }
}

/// Headers as SDKs send them, and others.
pub fn header_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "host@4711@0@abc\n3S\nns\nJAVA\n5.0.7\n0b7c9f8e-1111",
        "c\n2500m\n\nGO\n5.1.2\n",
        "c\n99999999H\nns\nDOTNET\n\n",
        "c\n7u\n",
        "c\n1n",
        " \n5M",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
