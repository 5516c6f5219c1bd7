//! The CommitLog: blocks one after the other in preallocated segments.
//!
//! Reading order: `layout` gives each block its place and header, `log` is the log as its users see it (with `places`,
//! where each block is), `writer` owns the files and makes blocks durable (with `remove`, for those that go), `recover`
//! finds the end of the log after a crash, with the help of `checkpoint`. `format`, `vote` and `admission` are the small
//! files beside it.

mod admission;
mod checkpoint;
mod format;
mod layout;
mod log;
mod note;
mod places;
mod purged;
mod recover;
mod remove;
mod vote;
mod writer;

use std::io;

use apogee_host::{Exit, ExitWith};

pub(crate) use admission::Admission;
pub(crate) use checkpoint::Checkpoint;
pub(crate) use format::Format;
pub(crate) use layout::{Entry, Layout};
pub(crate) use log::{Append, Damage, Log, Proposal, Recovered};
pub(crate) use note::{MISMATCH, read_note};
pub(crate) use purged::Purged;
pub(crate) use recover::{Found, recover};
pub(crate) use vote::Vote;
pub(crate) use writer::{Job, Progress, Writer};

use crate::block::Lsn;
use crate::views::ViewsError;

/// Folder of the segments, inside the engine's data folder.
pub(crate) const FOLDER: &str = "store/log";

/// Name of the segment that starts at `lsn`.
pub(crate) fn segment_name(lsn: Lsn) -> String {
    format!("{FOLDER}/{:020}.seg", lsn.0)
}

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the store's format is {found}, this version knows {known}; move the data folder away or use the version that wrote it"
    )]
    Format { found: String, known: String },
    #[error(
        "the store is of feature level {found}, this version knows {known}; use a version that knows it, or an empty data folder"
    )]
    FeatureLevel { found: u32, known: u32 },
    #[error(
        "{file} is corrupt at byte {offset}, below what was committed: {why}; restore it from a replica or a backup"
    )]
    Corrupt { file: String, offset: u64, why: String },
    #[error("the store belongs to {what} {found}, not to {what} {ours}; give this replica a folder of its own")]
    Foreign { what: &'static str, found: String, ours: String },
    #[error("the views cannot be opened; with their folder removed they are made anew from the log")]
    Views(#[from] ViewsError),
    #[error("the replica does not come up: {why}")]
    Consensus { why: String },
    #[error("cannot {what}")]
    Disk {
        what: String,
        #[source]
        cause: io::Error,
    },
}

impl OpenError {
    pub(crate) fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Disk { what, cause }
    }

    /// Blocks of the log could not be read.
    pub(crate) fn unreadable(cause: io::Error) -> Self {
        match cause.get_ref().and_then(|inner| inner.downcast_ref::<Damage>()) {
            Some(Damage { file, offset, why }) => {
                Self::Corrupt { file: file.clone(), offset: *offset, why: why.clone() }
            }
            None => Self::Disk { what: "read the CommitLog".to_owned(), cause },
        }
    }
}

impl ExitWith for OpenError {
    fn exit(&self) -> Exit {
        match self {
            Self::Format { .. } | Self::FeatureLevel { .. } | Self::Foreign { .. } => Exit::Usage,
            Self::Corrupt { .. } | Self::Disk { .. } | Self::Views(_) => Exit::Io,
            Self::Consensus { .. } => Exit::Bug,
        }
    }
}

/// The log cannot go on: what is on disk is the truth, and only a restart may look at it again.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the CommitLog")]
pub(crate) struct LogFailed {
    pub(crate) what: &'static str,
    #[source]
    pub(crate) cause: io::Error,
}

impl ExitWith for LogFailed {
    fn exit(&self) -> Exit {
        Exit::Io
    }
}
