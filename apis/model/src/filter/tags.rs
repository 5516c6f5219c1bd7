//! Which messages of a topic a consumer wants, by tag.

use std::collections::BTreeSet;
use std::sync::Arc;

/// A tag expression that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag expression {expression:?} names no tag")]
pub struct NoTag {
    pub expression: String,
}

/// Everything, or messages with one of some tags, compared exactly.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TagFilter {
    #[default]
    All,
    AnyOf(Arc<BTreeSet<String>>),
}

impl TagFilter {
    /// Parses `*`, the empty text, or tags separated by `||`.
    ///
    /// # Errors
    /// [`NoTag`] when only separators are there.
    ///
    /// Source: apache/rocketmq `common/.../filter/FilterAPI.java`.
    pub fn parse(expression: &str) -> Result<Self, NoTag> {
        let trimmed = expression.trim();
        if trimmed.is_empty() || trimmed == "*" {
            return Ok(Self::All);
        }
        let tags: BTreeSet<String> =
            trimmed.split("||").map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        if tags.is_empty() {
            return Err(NoTag { expression: expression.to_owned() });
        }
        Ok(Self::AnyOf(Arc::new(tags)))
    }

    /// Whether a message with this tag is wanted.
    pub fn wants(&self, tag: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => tag.is_some_and(|tag| tags.contains(tag)),
        }
    }

    /// Whether a message whose tag has this hash may be wanted: never wrong when it says no.
    pub fn may_want(&self, hash: u32) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(tags) => tags.iter().any(|tag| tag_hash(Some(tag)) == hash),
        }
    }
}

/// The hash kept in the consume queue: 0 for no tag, else FNV-1a, never 0.
pub fn tag_hash(tag: Option<&str>) -> u32 {
    match tag {
        None | Some("") => 0,
        Some(tag) => {
            tag.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_expressions() {
        for all in ["", "*", "  * "] {
            assert_eq!(TagFilter::parse(all), Ok(TagFilter::All), "{all:?}");
        }
        let two = TagFilter::parse(" a || b ").unwrap();
        assert!(two.wants(Some("a")) && two.wants(Some("b")));
        assert!(!two.wants(Some("c")) && !two.wants(None) && !two.wants(Some("a ")));
        assert!(two.may_want(tag_hash(Some("a"))) && !two.may_want(tag_hash(None)));
        assert!(matches!(TagFilter::parse("||"), Err(NoTag { .. })));
    }
}
