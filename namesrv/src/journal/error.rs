//! What can be wrong with a journal.

use std::io;

use apogee_host::{Exit, ExitWith};

/// Why namesrv does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed, or refused us.
    #[error("namesrv cannot use {file}")]
    Io {
        file: String,
        #[source]
        cause: io::Error,
    },
    /// A later version of ApogeeMQ wrote here.
    #[error("{file} says {found:?}; this version of apogee reads up to {known:?}, start a newer one")]
    Newer { file: &'static str, found: String, known: &'static str },
    /// An earlier version of ApogeeMQ wrote here, and nothing of it can be taken over.
    #[error("{file} says {found:?}; this version of apogee reads {known:?} only, begin with an empty data folder")]
    Older { file: &'static str, found: String, known: &'static str },
    /// The configuration cannot be.
    #[error("{0}")]
    Members(String),
    /// Consensus ended before the cluster was there.
    #[error("namesrv stopped while it started: {0}")]
    Stopped(String),
    /// What is on disk cannot have been written by us, or is not all of it. Starting would lose what was answered.
    #[error("{file} is corrupt at byte {at}: {why}")]
    Corrupt { file: String, at: u64, why: String },
}

impl OpenError {
    /// For `map_err`: what the disk said about `file`.
    pub(super) fn io(file: String) -> impl FnOnce(io::Error) -> OpenError {
        move |cause| OpenError::Io { file, cause }
    }
}

impl ExitWith for OpenError {
    fn exit(&self) -> Exit {
        match self {
            OpenError::Io { cause, .. } => cause.exit(),
            OpenError::Newer { .. } | OpenError::Older { .. } | OpenError::Members(_) => Exit::Usage,
            OpenError::Corrupt { .. } | OpenError::Stopped(_) => Exit::Io,
        }
    }
}

/// The journal may or may not have kept the last record: only a start from disk can tell.
#[derive(Debug, thiserror::Error)]
#[error("namesrv cannot write {file}")]
pub(crate) struct JournalError {
    file: String,
    #[source]
    cause: io::Error,
}

impl JournalError {
    pub(super) fn new(file: String, cause: io::Error) -> JournalError {
        JournalError { file, cause }
    }
}

impl ExitWith for JournalError {
    fn exit(&self) -> Exit {
        Exit::Io
    }
}
