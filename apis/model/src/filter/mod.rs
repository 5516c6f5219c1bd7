//! Which messages of a topic a consumer wants: by tag, or by an SQL92 expression over properties.
//!
//! Reading order: this file, `tags`, `sql`.

mod sql;
mod tags;

use std::sync::Arc;

pub use sql::{Sql, SqlError, SqlProblem};
pub use tags::{NoTag, TagFilter, tag_hash};

use crate::StoredMessage;

/// Why a filter expression is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error(transparent)]
    Tags(#[from] NoTag),
    #[error("SQL92 filter, {0}")]
    Sql(#[from] SqlError),
}

/// What a consumer subscribes to. Two filters are the same when their expressions are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Filter {
    Tags(TagFilter),
    Sql(Arc<Sql>),
}

impl Filter {
    /// An expression over properties.
    ///
    /// # Errors
    /// [`FilterError::Sql`] says where the expression is wrong.
    pub fn sql(expression: &str) -> Result<Self, FilterError> {
        Ok(Self::Sql(Sql::compile(expression)?))
    }

    /// Whether this message is wanted.
    pub fn wants(&self, message: &StoredMessage) -> bool {
        match self {
            Self::Tags(tags) => tags.wants(message.tag()),
            Self::Sql(sql) => sql.wants(message),
        }
    }

    /// Whether a message whose tag has this hash may be wanted: never wrong when it says no.
    pub fn may_want(&self, tag_hash: u32) -> bool {
        match self {
            Self::Tags(tags) => tags.may_want(tag_hash),
            Self::Sql(_) => true,
        }
    }
}

/// Everything.
impl Default for Filter {
    fn default() -> Self {
        Self::Tags(TagFilter::All)
    }
}

impl From<TagFilter> for Filter {
    fn from(tags: TagFilter) -> Self {
        Self::Tags(tags)
    }
}
