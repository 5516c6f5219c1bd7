//! Topics and consumer groups by name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest topic name, in characters.
const TOPIC_CHARS_MAX: usize = 127;
/// Longest `%RETRY%…` or `%DLQ%…` topic name, in characters.
const DERIVED_TOPIC_CHARS_MAX: usize = 255;
/// Longest consumer group name, in characters.
const GROUP_CHARS_MAX: usize = 120;

const SYSTEM_TOPICS: [&str; 10] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];

/// Why a name is not a name. The text says what was given and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{kind} name is blank")]
    Blank { kind: &'static str },
    #[error("{kind} name has {chars} characters, at most {max} are allowed: {name:.40}…")]
    TooLong { kind: &'static str, name: String, chars: usize, max: usize },
    #[error("{kind} name {name:?} has the character {found:?}; allowed are letters, digits and % | - _")]
    Character { kind: &'static str, name: String, found: char },
    #[error("{kind} {name} is reserved for the system")]
    Reserved { kind: &'static str, name: String },
}

/// A topic: (namespace, name), the key of everything that is stored.
///
/// The namespace may be empty and follows the same character rule as the name.
///
/// Source: apache/rocketmq `common/.../topic/TopicValidator.java`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topic {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl Topic {
    /// Parses a name given by a client; system topics are refused.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the name.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        let derived = name.starts_with("%RETRY%") || name.starts_with("%DLQ%");
        let max = if derived { DERIVED_TOPIC_CHARS_MAX } else { TOPIC_CHARS_MAX };
        check("topic", name, max)?;
        check_namespace(namespace)?;
        if SYSTEM_TOPICS.contains(&name) || name.starts_with("rmq_sys_") {
            return Err(NameError::Reserved { kind: "topic", name: name.to_owned() });
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A consumer group: (namespace, name).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConsumerGroup {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ConsumerGroup {
    /// Parses a name given by a client; system groups are refused.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the name.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        check("consumer group", name, GROUP_CHARS_MAX)?;
        check_namespace(namespace)?;
        if name.starts_with("CID_RMQ_SYS_") {
            return Err(NameError::Reserved { kind: "consumer group", name: name.to_owned() });
        }
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

fn check_namespace(namespace: &str) -> Result<(), NameError> {
    if namespace.is_empty() { Ok(()) } else { check("namespace", namespace, TOPIC_CHARS_MAX) }
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank { kind });
    }
    let chars = name.chars().count();
    if chars > max {
        return Err(NameError::TooLong { kind, name: name.chars().take(40).collect(), chars, max });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '-' | '_'))) {
        Some(found) => Err(NameError::Character { kind, name: name.to_owned(), found }),
        None => Ok(()),
    }
}

fn show(namespace: &str, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if namespace.is_empty() { f.write_str(name) } else { write!(f, "{namespace}/{name}") }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.namespace, &self.name, f)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.namespace, &self.name, f)
    }
}

impl fmt::Display for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.namespace, &self.name, f)
    }
}

impl fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.namespace, &self.name, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_validator() {
        assert!(Topic::parse("", "Orders_1-%|x").is_ok());
        assert!(Topic::parse("", &"t".repeat(127)).is_ok());
        assert!(matches!(Topic::parse("", &"t".repeat(128)), Err(NameError::TooLong { chars: 128, max: 127, .. })));
        assert!(Topic::parse("", &format!("%DLQ%{}", "g".repeat(250))).is_ok());
        assert!(matches!(Topic::parse("", "a b"), Err(NameError::Character { found: ' ', .. })));
        assert!(matches!(Topic::parse("", " "), Err(NameError::Blank { .. })));
        assert!(matches!(Topic::parse("", "TBW102"), Err(NameError::Reserved { .. })));
        assert!(matches!(Topic::parse("", "rmq_sys_x"), Err(NameError::Reserved { .. })));
        assert!(matches!(Topic::parse("bad space", "x"), Err(NameError::Character { .. })));
        assert!(ConsumerGroup::parse("", &"g".repeat(120)).is_ok());
        assert!(ConsumerGroup::parse("", &"g".repeat(121)).is_err());
        assert!(ConsumerGroup::parse("", "CID_RMQ_SYS_X").is_err());
    }

    #[test]
    fn the_namespace_is_part_of_the_key() {
        assert_ne!(Topic::parse("a", "t"), Topic::parse("b", "t"));
        assert_eq!(Topic::parse("a", "t").map(|t| t.to_string()), Ok("a/t".to_owned()));
    }
}
