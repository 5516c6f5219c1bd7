//! Retry policies as admin messages, and back. Their bounds are checked by namesrv.

use std::time::Duration;

use apogee_model::RetryPolicy;
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::retry_policy::Kind;

use super::error::AdminError;

pub(super) fn policy(policy: v1::RetryPolicy) -> Result<RetryPolicy, AdminError> {
    Ok(match policy.kind.ok_or(AdminError::Missing { field: "the kind of the retry policy" })? {
        Kind::Customized(v1::CustomizedRetry { next_ms }) => {
            // One more than there can be is enough to refuse them.
            let next = next_ms.into_iter().take(RetryPolicy::STEPS_MAX + 1).map(Duration::from_millis);
            RetryPolicy::Customized { next: next.collect() }
        }
        Kind::Exponential(v1::ExponentialRetry { initial_ms, max_ms, multiplier }) => RetryPolicy::Exponential {
            initial: Duration::from_millis(initial_ms),
            max: Duration::from_millis(max_ms),
            multiplier,
        },
    })
}

pub(super) fn wire(policy: &RetryPolicy) -> v1::RetryPolicy {
    let kind = match policy {
        RetryPolicy::Customized { next } => {
            Kind::Customized(v1::CustomizedRetry { next_ms: next.iter().copied().map(millis).collect() })
        }
        RetryPolicy::Exponential { initial, max, multiplier } => Kind::Exponential(v1::ExponentialRetry {
            initial_ms: millis(*initial),
            max_ms: millis(*max),
            multiplier: *multiplier,
        }),
    };
    v1::RetryPolicy { kind: Some(kind) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
