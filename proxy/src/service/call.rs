//! Who calls, from where, and until when the answer is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use apogee_model::{ClientId, Timestamp};
use tokio::time::Instant;

use crate::listen::{ConnectionId, Departure};

/// The context of one call: the first argument all the way down.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub client: ClientId,
    pub language: Language,
    /// The SDK's version as it gave it; may be empty.
    pub version: Box<str>,
    /// Namespace of resources that carry none themselves; may be empty.
    pub namespace: Box<str>,
    /// Number the client gave the call, for logs; may be empty.
    pub request_id: Box<str>,
    /// Address at the other end of the connection, where the transport knows it.
    pub peer: Option<SocketAddr>,
    /// The connection it came in by, where the transport knows it.
    pub connection: Option<ConnectionId>,
    /// How that connection leaves.
    pub departure: Departure,
    /// Wall clock at arrival.
    pub received: Timestamp,
    /// Stopwatch at arrival.
    pub started: Instant,
    /// When the client stops waiting, if it ever does.
    pub deadline: Option<Instant>,
}

impl Call {
    /// The answer has to leave this long before the client's deadline to get there in time.
    const ROAD_BACK: Duration = Duration::from_millis(100);

    /// When our answer must be ready: `at_most` after arrival, and 100 ms before the client gives up (or half-way
    /// there, when that is sooner).
    pub(crate) fn answer_by(&self, at_most: Duration) -> Instant {
        let ours = self.started + at_most;
        self.remaining().map_or(ours, |left| {
            let road_back = Self::ROAD_BACK.min(left / 2);
            ours.min(self.started + (left - road_back))
        })
    }

    /// Time between arrival and the client's deadline.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(self.started))
    }
}

/// The language of an SDK as its header says; free-form, so anything unknown is [`Language::Other`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Language {
    Java,
    Go,
    Rust,
    Python,
    /// Says `HTTP`, because servers older than it refused its name.
    NodeJs,
    Cpp,
    DotNet,
    Other,
}

impl Language {
    /// Source: values of header `x-mq-language` in apache/rocketmq-clients.
    pub(crate) fn parse(header: &str) -> Self {
        match header {
            "JAVA" => Self::Java,
            "GO" | "GOLANG" => Self::Go,
            "RUST" => Self::Rust,
            "PYTHON" => Self::Python,
            "HTTP" | "NODE_JS" => Self::NodeJs,
            "CPP" => Self::Cpp,
            "DOTNET" | "DOT_NET" => Self::DotNet,
            _ => Self::Other,
        }
    }

    /// For labels of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Python => "python",
            Self::NodeJs => "nodejs",
            Self::Cpp => "cpp",
            Self::DotNet => "dotnet",
            Self::Other => "other",
        }
    }
}
