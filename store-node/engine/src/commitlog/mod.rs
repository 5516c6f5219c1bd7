//! The CommitLog: blocks one after the other in preallocated segments.
//!
//! Reading order: `appender` gives each block its place and header, `writer` owns the files and makes blocks durable,
//! `reader` serves records from memory or disk, `recover` finds the end of the log after a crash.

mod appender;
mod checkpoint;
mod format;
mod reader;
mod recover;
mod writer;

use std::io;

use apogee_host::{Exit, ExitWith};

pub(crate) use appender::{Appender, Draft, Sealed};
pub(crate) use checkpoint::Checkpoint;
pub(crate) use format::Format;
pub(crate) use reader::LogReader;
pub(crate) use recover::recover;
pub(crate) use writer::{Durable, Writer};

use crate::block::Lsn;

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
        "{file} is corrupt at byte {offset}, below what was committed: {why}; restore it from a replica or a backup"
    )]
    Corrupt { file: String, offset: u64, why: String },
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
}

impl ExitWith for OpenError {
    fn exit(&self) -> Exit {
        match self {
            Self::Format { .. } => Exit::Usage,
            Self::Corrupt { .. } | Self::Disk { .. } => Exit::Io,
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
