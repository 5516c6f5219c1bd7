//! How a process ends, and which error may decide that.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes of every server role, after `sysexits.h`. Operators and charts rely on them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Asked to stop, and stopped.
    Clean = 0,
    /// Bad configuration or usage: a restart will not help.
    Usage = 64,
    /// A panic or a broken invariant of ours.
    Bug = 70,
    /// The disk or an fsync failed: what is on disk is the truth, a restart recovers from it.
    Io = 74,
    /// Something we depend on stayed away until the start timed out.
    Dependency = 75,
    /// A file, port or credential was refused to us.
    Permission = 77,
}

impl Exit {
    /// The number the operating system sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that knows with which code the process ends if nobody handles it.
pub trait ExitWith: Error + Send + Sync + 'static {
    /// The exit code of this error.
    fn exit(&self) -> Exit;
}

impl ExitWith for io::Error {
    fn exit(&self) -> Exit {
        match self.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Io,
        }
    }
}

impl ExitWith for Infallible {
    fn exit(&self) -> Exit {
        match *self {}
    }
}

/// The reason to stop the process: an error and its exit code.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub error: Box<dyn Error + Send + Sync>,
}

impl Stop {
    /// For errors that do not know their exit code, or where the place knows better.
    pub fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Stop {
        Stop { exit, error: error.into() }
    }
}

impl<E: ExitWith> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop { exit: error.exit(), error: Box::new(error) }
    }
}

/// The error with its causes, colon by colon: one line for the log.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("segment 7 was not synced")]
    struct SyncFailed(#[source] io::Error);

    impl ExitWith for SyncFailed {
        fn exit(&self) -> Exit {
            Exit::Io
        }
    }

    #[test]
    fn a_stop_keeps_the_code_and_tells_the_causes() {
        let stop = Stop::from(SyncFailed(io::Error::other("device gone")));
        assert_eq!((stop.exit, stop.exit.code()), (Exit::Io, 74));
        assert_eq!(stop.to_string(), "segment 7 was not synced: device gone");
    }

    #[test]
    fn a_refused_file_is_a_permission_problem() {
        assert_eq!(io::Error::from(io::ErrorKind::PermissionDenied).exit(), Exit::Permission);
        assert_eq!(io::Error::from(io::ErrorKind::StorageFull).exit(), Exit::Io);
    }
}
