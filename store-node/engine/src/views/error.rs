//! What can be wrong with views.

use std::io;

use apogee_host::{Exit, ExitWith};
use apogee_model::BlockIndex;

/// Why views do not do what was asked. None of it loses anything: the log and the bases are the truth, and the next
/// opening goes by them.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    #[error("cannot {what}")]
    Disk {
        what: String,
        #[source]
        cause: io::Error,
    },
    #[error("the views are damaged: {why}")]
    Damaged { why: String },
    #[error("there is no base at index {index}")]
    NoSuchBase { index: BlockIndex },
    /// What another replica sent is not a base.
    #[error("the base at index {index} that came from another replica is unusable: {why}")]
    BadBase { index: BlockIndex, why: String },
    #[error("the views are closed")]
    Closed,
}

impl ViewsError {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged { why: why.into() }
    }

    pub(crate) fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Disk { what, cause }
    }
}

impl ExitWith for ViewsError {
    fn exit(&self) -> Exit {
        match self {
            Self::Disk { cause, .. } => cause.exit(),
            Self::Damaged { .. } | Self::NoSuchBase { .. } | Self::BadBase { .. } => Exit::Io,
            Self::Closed => Exit::Bug,
        }
    }
}
