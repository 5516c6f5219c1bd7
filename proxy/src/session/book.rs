//! The record of each client and the rules by which it ages. No clock, no await.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::ClientId;
use tokio::time::Instant;

use super::Role;
use crate::service::Language;

/// A client unheard for this long is forgotten.
///
/// Source: apache/rocketmq `proxy/.../ProxyConfig.java` (grpcClientChannelMaxIdleTimeMills).
const EXPIRY: Duration = Duration::from_secs(120);
/// A client unheard for this long after its last telemetry stream closed is gone.
const LOST_AFTER: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Book {
    pub(super) clients: BTreeMap<ClientId, Session>,
}

pub(super) struct Session {
    pub(super) role: Option<Role>,
    pub(super) language: Language,
    /// At most 32 characters, because it becomes a label.
    pub(super) version: Box<str>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) streams: u32,
    pub(super) receives: u32,
    pub(super) commands: Commands,
    heard: Instant,
    /// Heard since the leaders were last told.
    news: bool,
    /// When the last telemetry stream closed, and nothing was heard since.
    left: Option<Instant>,
}

/// What the leaders are to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) heard: Vec<ClientId>,
    pub(super) lost: Vec<ClientId>,
}

impl Book {
    /// Ages all records: collects who was heard since the last report, drops who is lost or expired.
    pub(super) fn report(&mut self, now: Instant) -> Report {
        let mut report = Report::default();
        self.clients.retain(|client, session| {
            let connected = session.streams > 0 || session.receives > 0;
            if !connected && session.left.is_some_and(|left| left + LOST_AFTER <= now) {
                report.lost.push(client.clone());
                return false;
            }
            if std::mem::take(&mut session.news) {
                report.heard.push(client.clone());
            }
            session.heard + EXPIRY > now
        });
        report
    }
}

impl Session {
    pub(super) fn new(language: Language, version: &str, now: Instant) -> Self {
        let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        let version: String = version.chars().filter(|c| label(*c)).take(32).collect();
        Self {
            role: None,
            language,
            version: version.into(),
            request_timeout: None,
            streams: 0,
            receives: 0,
            commands: Commands::default(),
            heard: now,
            news: true,
            left: None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.news = true;
        self.left = None;
    }

    /// Whether a client with no stream left ever comes back shows in the next seconds. A receive that ended says
    /// nothing: consumers pause when they have enough.
    pub(super) fn stream_closed(&mut self, now: Instant) {
        self.streams = self.streams.saturating_sub(1);
        if self.streams == 0 {
            self.left = Some(now);
        }
    }
}

/// Telemetry commands of a client: at most 10 in a second and 1 MiB in a minute.
#[derive(Default)]
pub(super) struct Commands {
    second: Window,
    minute: Window,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    used: usize,
}

impl Commands {
    const PER_SECOND: usize = 10;
    const BYTES_PER_MINUTE: usize = 1024 * 1024;

    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.second.add(now, Duration::from_secs(1), 1) <= Self::PER_SECOND
            && self.minute.add(now, Duration::from_secs(60), bytes) <= Self::BYTES_PER_MINUTE
    }
}

impl Window {
    fn add(&mut self, now: Instant, length: Duration, amount: usize) -> usize {
        if self.began.is_none_or(|began| began + length <= now) {
            *self = Self { began: Some(now), used: 0 };
        }
        self.used = self.used.saturating_add(amount);
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    fn seconds(report: &mut Book, start: Instant, at: u64) -> (Vec<String>, Vec<String>) {
        let report = report.report(start + Duration::from_secs(at));
        let names = |ids: Vec<ClientId>| ids.iter().map(ToString::to_string).collect();
        (names(report.heard), names(report.lost))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_heard_lost_or_expired() {
        let start = Instant::now();
        let mut book = Book::default();
        for name in ["beats", "leaves", "polls", "returns"] {
            let mut session = Session::new(Language::Java, "5", start);
            session.streams = 1;
            book.clients.insert(id(name), session);
        }
        book.clients.get_mut(&id("polls")).unwrap().receives = 1;
        for name in ["leaves", "polls", "returns"] {
            book.clients.get_mut(&id(name)).unwrap().stream_closed(start);
        }
        let all = ["beats", "leaves", "polls", "returns"].map(String::from).to_vec();
        assert_eq!(seconds(&mut book, start, 5), (all, vec![]));
        book.clients.get_mut(&id("returns")).unwrap().heard(start + Duration::from_secs(9));
        assert_eq!(seconds(&mut book, start, 10), (vec!["returns".into()], vec!["leaves".into()]));
        assert_eq!(seconds(&mut book, start, 119), (vec![], vec![]));
        assert_eq!(seconds(&mut book, start, 120), (vec![], vec![]));
        assert_eq!(book.clients.keys().collect::<Vec<_>>(), [&id("returns")]);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_commands_a_second() {
        let (mut commands, start) = (Commands::default(), Instant::now());
        assert!((0..10).all(|_| commands.take(start, 1)));
        assert!(!commands.take(start, 1));
        assert!(commands.take(start + Duration::from_secs(1), 1));
        assert!(!commands.take(start + Duration::from_secs(2), 1024 * 1024));
        assert!(commands.take(start + Duration::from_secs(60), 1024));
    }

    #[test]
    fn a_version_is_fit_for_a_label() {
        let now = Instant::now();
        assert_eq!(&*Session::new(Language::Go, "5.1.4\"}\n", now).version, "5.1.4");
        assert_eq!(Session::new(Language::Go, &"9".repeat(100), now).version.len(), 32);
    }
}
