//! Retry policies as messages, and back. Their bounds are checked where they are decided about.

use std::time::Duration;

use apogee_model::RetryPolicy;
use apogee_proto::namesrv::v1;
use apogee_proto::namesrv::v1::retry_policy::Kind;

use super::{Read, need};

pub(super) fn policy(policy: &RetryPolicy) -> v1::RetryPolicy {
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

pub(super) fn read_policy(policy: v1::RetryPolicy) -> Read<RetryPolicy> {
    Ok(match need(policy.kind, "the kind of the retry policy")? {
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_come_back() {
        for kept in [RetryPolicy::default(), RetryPolicy::EXPONENTIAL] {
            assert_eq!(read_policy(policy(&kept)), Ok(kept));
        }
        assert!(read_policy(v1::RetryPolicy::default()).is_err());
    }
}
