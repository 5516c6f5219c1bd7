//! Flags about the rests between the deliveries of a message.

use std::time::Duration;

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::retry_policy::Kind;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::duration;
use super::super::error::CliError;

/// The rests of a consumer group.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Rests {
    /// How long a message rests after its consumer failed
    #[arg(long, value_enum, value_name = "POLICY")]
    retry_policy: Option<Policy>,
    /// customized: one rest after the other, such as 1s,5s,1m; the last one stays
    #[arg(long, value_name = "RESTS", value_delimiter = ',', value_parser = duration)]
    back_off: Vec<Duration>,
    /// exponential: the first rest [default: 5s]
    #[arg(long, value_name = "REST", value_parser = duration)]
    back_off_initial: Option<Duration>,
    /// exponential: the longest rest [default: 2h]
    #[arg(long, value_name = "REST", value_parser = duration)]
    back_off_max: Option<Duration>,
    /// exponential: how many times as long as the one before each rest is [default: 2]
    #[arg(long, value_name = "TIMES")]
    back_off_multiplier: Option<u32>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Policy {
    /// Rests of your own; 1s, 5s, 10s, 30s, 1m … 10m, 20m, 30m, 1h, 2h when none is given
    Customized,
    /// Each longer than the one before, up to a longest
    Exponential,
}

impl Rests {
    /// What is asked for; `None` when nothing is said.
    ///
    /// # Errors
    /// [`CliError::Usage`] for flags that do not go together.
    pub(super) fn policy(&self) -> Result<Option<v1::RetryPolicy>, CliError> {
        let usage = |message: &str| Err(CliError::Usage { message: message.to_owned() });
        let grows =
            self.back_off_initial.is_some() || self.back_off_max.is_some() || self.back_off_multiplier.is_some();
        let policy = match self.retry_policy {
            _ if grows && !self.back_off.is_empty() => {
                return usage("--back-off goes with --retry-policy customized, its companions with exponential");
            }
            None if grows => Policy::Exponential,
            None if self.back_off.is_empty() => return Ok(None),
            None => Policy::Customized,
            Some(Policy::Customized) if grows => {
                return usage(
                    "--back-off-initial, --back-off-max and --back-off-multiplier go with --retry-policy exponential",
                );
            }
            Some(Policy::Exponential) if !self.back_off.is_empty() => {
                return usage("--back-off goes with --retry-policy customized");
            }
            Some(policy) => policy,
        };
        let kind = match policy {
            Policy::Customized => {
                let given = if self.back_off.is_empty() { standard() } else { self.back_off.clone() };
                Kind::Customized(v1::CustomizedRetry { next_ms: given.into_iter().map(millis).collect() })
            }
            Policy::Exponential => Kind::Exponential(v1::ExponentialRetry {
                initial_ms: millis(self.back_off_initial.unwrap_or(Duration::from_secs(5))),
                max_ms: millis(self.back_off_max.unwrap_or(Duration::from_secs(7200))),
                multiplier: self.back_off_multiplier.unwrap_or(2),
            }),
        };
        Ok(Some(v1::RetryPolicy { kind: Some(kind) }))
    }
}

fn standard() -> Vec<Duration> {
    apogee_model::RetryPolicy::default().rests().as_millis().map(Duration::from_millis).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn document(policy: Option<&v1::RetryPolicy>) -> Value {
    match policy.and_then(|policy| policy.kind.as_ref()) {
        None => Value::Null,
        Some(Kind::Customized(v1::CustomizedRetry { next_ms })) => {
            json!({ "policy": "customized", "back_off_ms": next_ms })
        }
        Some(Kind::Exponential(v1::ExponentialRetry { initial_ms, max_ms, multiplier })) => json!({
            "policy": "exponential",
            "initial_ms": initial_ms,
            "max_ms": max_ms,
            "multiplier": multiplier,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(back_off: &[u64], initial: Option<u64>, policy: Option<Policy>) -> Rests {
        Rests {
            retry_policy: policy,
            back_off: back_off.iter().copied().map(Duration::from_secs).collect(),
            back_off_initial: initial.map(Duration::from_secs),
            ..Rests::default()
        }
    }

    #[test]
    fn flags_say_which_policy_is_meant() {
        let shown =
            |rests: Rests| rests.policy().map(|policy| document(policy.as_ref())).map_err(|error| error.to_string());
        assert_eq!(shown(rests(&[], None, None)), Ok(Value::Null));
        assert_eq!(
            shown(rests(&[1, 5], None, None)),
            Ok(json!({ "policy": "customized", "back_off_ms": [1000, 5000] }))
        );
        let exponential = json!({ "policy": "exponential", "initial_ms": 3000, "max_ms": 7_200_000, "multiplier": 2 });
        assert_eq!(shown(rests(&[], Some(3), None)), Ok(exponential));
        let all = shown(rests(&[], None, Some(Policy::Customized))).unwrap();
        assert_eq!(all["back_off_ms"].as_array().map(Vec::len), Some(18));
        assert!(shown(rests(&[1], Some(3), None)).is_err());
        assert!(shown(rests(&[1], None, Some(Policy::Exponential))).is_err());
        assert!(shown(rests(&[], Some(1), Some(Policy::Customized))).is_err());
    }
}
