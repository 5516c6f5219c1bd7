//! The record of each client and the rules by which it ages. No clock, no await.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use apogee_model::ClientId;
use tokio::time::Instant;

use super::Role;
use super::connections::Connections;
use super::roll::{Known, Named};
use super::subscription::Subscriptions;
use crate::listen::{ClosedConnection, ConnectionId};
use crate::service::Language;
use crate::store::ClientHeard;

/// A client unheard for this long is forgotten.
///
/// Source: apache/rocketmq `proxy/.../ProxyConfig.java` (grpcClientChannelMaxIdleTimeMills).
const EXPIRY: Duration = Duration::from_secs(120);
/// A client unheard for this long after its last connection closed is gone.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// A client is asked to connect again at most this often, whatever becomes of its connections.
const RECONNECT_EVERY: Duration = Duration::from_secs(30);
/// Connections remembered per client. One that is spread over more by a proxy of its own may be taken for gone when
/// these have closed and it is not heard on another in time.
const CONNECTIONS_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Book {
    pub(super) clients: BTreeMap<ClientId, Session>,
    connections: Connections,
}

pub(super) struct Session {
    pub(super) role: Option<Role>,
    pub(super) topics: Named,
    pub(super) subscriptions: Subscriptions,
    /// The other end of the connection it was last heard on.
    pub(super) peer: Option<SocketAddr>,
    pub(super) language: Language,
    /// At most 32 characters, because it becomes a label.
    pub(super) version: Box<str>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) commands: Commands,
    heard: Instant,
    /// Heard since the leaders were last told.
    news: bool,
    /// The open connections it was heard on.
    connections: Vec<ConnectionId>,
    /// How the last of them closed.
    gone: Option<Gone>,
    /// When it was last asked to connect again.
    reconnects: Option<Instant>,
}

/// How the last connection of a client closed.
#[derive(Copy, Clone, Debug)]
enum Gone {
    /// By the client, or nobody knows: it may be dead.
    HungUp { at: Instant },
    /// We sent it away, so it lives and is another proxy's to hear; to tell the leaders that it is lost would take from it
    /// what it works on.
    SentAway,
}

impl Gone {
    fn by(connection: ClosedConnection, now: Instant) -> Self {
        if connection.sent_away { Self::SentAway } else { Self::HungUp { at: now } }
    }
}

/// What the leaders are to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) heard: Vec<ClientHeard>,
    pub(super) hung_up: Vec<ClientHeard>,
}

impl Book {
    /// Notes that a client was heard; `None` when it is not known.
    pub(super) fn hear(&mut self, client: &ClientId, on: Option<ConnectionId>, now: Instant) -> Option<&mut Session> {
        let session = self.clients.get_mut(client)?;
        session.heard = now;
        session.news = true;
        if let Some(connection) = on.filter(|connection| session.may_note(*connection)) {
            match self.connections.add(connection, client) {
                Ok(()) => {
                    session.connections.push(connection);
                    session.gone = None;
                }
                Err(closed) if session.connections.is_empty() => {
                    session.gone.get_or_insert(Gone::by(closed, now));
                }
                Err(_) => {}
            }
        }
        Some(session)
    }

    pub(super) fn remove(&mut self, client: &ClientId) {
        if let Some(session) = self.clients.remove(client) {
            session.forget(client, &mut self.connections);
        }
    }

    /// A connection closed; whoever has no other may be gone.
    pub(super) fn closed(&mut self, connection: ClosedConnection, now: Instant) {
        for client in self.connections.close(connection) {
            if let Some(session) = self.clients.get_mut(&client) {
                session.connections.retain(|open| *open != connection.id);
                if session.connections.is_empty() {
                    session.gone = Some(Gone::by(connection, now));
                }
            }
        }
    }

    /// Ages all records: collects who was heard since the last report, drops who is lost, sent away or expired.
    pub(super) fn report(&mut self, now: Instant) -> Report {
        let mut report = Report::default();
        self.clients.retain(|client, session| {
            let lost = session.is_lost(now);
            let heard = ClientHeard { client: client.clone(), at: session.heard };
            if lost {
                report.hung_up.push(heard);
            } else if std::mem::take(&mut session.news) {
                report.heard.push(heard);
            }
            let stays = !lost && session.heard + EXPIRY > now && !matches!(session.gone, Some(Gone::SentAway));
            if !stays {
                session.forget(client, &mut self.connections);
            }
            stays
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
            topics: Named::default(),
            subscriptions: Subscriptions::default(),
            peer: None,
            language,
            version: version.into(),
            request_timeout: None,
            commands: Commands::default(),
            heard: now,
            news: true,
            connections: Vec::new(),
            gone: None,
            reconnects: None,
        }
    }

    pub(super) fn known(&self, id: &ClientId, now: Instant) -> Known {
        Known {
            id: id.clone(),
            role: self.role.clone(),
            topics: self.topics.clone(),
            subscriptions: self.subscriptions.clone(),
            language: self.language,
            version: self.version.clone(),
            peer: self.peer,
            silent: now.saturating_duration_since(self.heard),
            connections: self.connections.len(),
        }
    }

    /// Whether the client may be asked to connect again; if so, it counts as asked.
    pub(super) fn may_reconnect(&mut self, now: Instant) -> bool {
        let may = self.reconnects.is_none_or(|asked| asked + RECONNECT_EVERY <= now);
        if may {
            self.reconnects = Some(now);
        }
        may
    }

    fn may_note(&self, connection: ConnectionId) -> bool {
        !self.connections.contains(&connection) && self.connections.len() < CONNECTIONS_MAX
    }

    fn forget(&self, me: &ClientId, connections: &mut Connections) {
        for connection in &self.connections {
            connections.remove(*connection, me);
        }
    }

    fn is_lost(&self, now: Instant) -> bool {
        match self.gone {
            Some(Gone::HungUp { at }) => at.max(self.heard) + LOST_AFTER <= now,
            Some(Gone::SentAway) | None => false,
        }
    }
}

/// Telemetry commands of a client: 10 in a second and 1 MiB in a minute; more than that waits.
///
/// It waits because a producer of the Java SDK that meets many topics at once sends its settings once for each of them,
/// and, when that ends its stream, never opens another.
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

    /// Counts a command of `bytes`.
    ///
    /// # Errors
    /// When there may be room again, if there is none now; then nothing was counted.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> Result<(), Instant> {
        self.second.room(now, Duration::from_secs(1), 1, Self::PER_SECOND)?;
        self.minute.room(now, Duration::from_secs(60), bytes, Self::BYTES_PER_MINUTE)?;
        self.second.used += 1;
        self.minute.used = self.minute.used.saturating_add(bytes);
        Ok(())
    }
}

impl Window {
    /// Whatever comes first in a window fits.
    fn room(&mut self, now: Instant, length: Duration, amount: usize, max: usize) -> Result<(), Instant> {
        let began = self.began.filter(|began| *began + length > now);
        let Some(began) = began else {
            *self = Self { began: Some(now), used: 0 };
            return Ok(());
        };
        let fits = self.used == 0 || self.used.saturating_add(amount) <= max;
        if fits { Ok(()) } else { Err(began + length) }
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
        let names = |ids: Vec<ClientHeard>| ids.iter().map(|heard| heard.client.to_string()).collect();
        (names(report.heard), names(report.hung_up))
    }

    fn meet(book: &mut Book, name: &str, now: Instant) {
        book.clients.insert(id(name), Session::new(Language::Java, "5", now));
    }

    fn hung_up(connection: u64) -> ClosedConnection {
        ClosedConnection { id: ConnectionId(connection), sent_away: false }
    }

    fn sent_away(connection: u64) -> ClosedConnection {
        ClosedConnection { sent_away: true, ..hung_up(connection) }
    }

    /// Connection 0 is none.
    fn hear(book: &mut Book, name: &str, connection: u64, now: Instant) {
        let on = Some(ConnectionId(connection)).filter(|on| on.0 > 0);
        book.hear(&id(name), on, now).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_heard_lost_or_expired() {
        let start = Instant::now();
        let mut book = Book::default();
        for (name, connection) in [("beats", 1), ("leaves", 2), ("moves", 2), ("returns", 2), ("unconnected", 0)] {
            meet(&mut book, name, start);
            hear(&mut book, name, connection, start);
        }
        hear(&mut book, "moves", 3, start);
        book.closed(hung_up(2), start);
        let all = ["beats", "leaves", "moves", "returns", "unconnected"].map(String::from).to_vec();
        assert_eq!(seconds(&mut book, start, 5), (all, vec![]));
        hear(&mut book, "returns", 4, start + Duration::from_secs(9));
        assert_eq!(seconds(&mut book, start, 10), (vec!["returns".into()], vec!["leaves".into()]));
        assert_eq!(seconds(&mut book, start, 119), (vec![], vec![]));
        assert_eq!(seconds(&mut book, start, 120), (vec![], vec![]));
        assert_eq!(book.clients.keys().collect::<Vec<_>>(), [&id("returns")]);
        book.remove(&id("returns"));
        assert!(book.connections.is_empty(), "who is forgotten is forgotten everywhere");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_outlives_its_connection_does_not_open_it_again() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.closed(hung_up(7), start);
        meet(&mut book, "late", start);
        for at in [1, 3] {
            hear(&mut book, "late", 7, start + Duration::from_secs(at));
        }
        assert_eq!(seconds(&mut book, start, 12), (vec!["late".into()], vec![]));
        assert_eq!(seconds(&mut book, start, 13), (vec![], vec!["late".into()]), "10 s after it was heard last");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_sent_away_is_forgotten_and_not_lost() {
        let (mut book, start) = (Book::default(), Instant::now());
        for name in ["moves", "stays"] {
            meet(&mut book, name, start);
            hear(&mut book, name, 1, start);
        }
        hear(&mut book, "stays", 2, start);
        book.closed(sent_away(1), start);
        assert_eq!(seconds(&mut book, start, 5), (vec!["moves".into(), "stays".into()], vec![]));
        assert_eq!(book.clients.keys().collect::<Vec<_>>(), [&id("stays")]);
        meet(&mut book, "late", start);
        hear(&mut book, "late", 1, start + Duration::from_secs(6));
        book.closed(hung_up(2), start + Duration::from_secs(6));
        assert_eq!(seconds(&mut book, start, 60), (vec!["late".into()], vec!["stays".into()]));
        assert!(book.clients.is_empty() && book.connections.is_empty());
    }

    #[test]
    fn nobody_is_asked_to_connect_again_twice_in_half_a_minute() {
        let start = Instant::now();
        let mut session = Session::new(Language::Java, "5", start);
        let asked = [0, 29, 30, 31, 60].map(|at| session.may_reconnect(start + Duration::from_secs(at)));
        assert_eq!(asked, [true, false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_takes_a_bounded_place() {
        let (mut book, start) = (Book::default(), Instant::now());
        meet(&mut book, "everywhere", start);
        (1..100).for_each(|connection| hear(&mut book, "everywhere", connection, start));
        assert_eq!(book.clients[&id("everywhere")].connections.len(), CONNECTIONS_MAX);
        (1..50).for_each(|connection| book.closed(hung_up(connection), start));
        hear(&mut book, "everywhere", 60, start);
        assert_eq!(seconds(&mut book, start, 11).1, [""; 0], "it was heard on one that is open");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_commands_a_second() {
        let (mut commands, start) = (Commands::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!((0..10).all(|_| commands.take(start, 1).is_ok()));
        assert_eq!(commands.take(start, 1), Err(at(1)));
        assert_eq!(commands.take(at(1), 1), Ok(()));
        assert_eq!(commands.take(at(2), 1024 * 1024), Err(at(60)));
        assert_eq!(commands.take(at(60), 2 * 1024 * 1024), Ok(()), "a large one alone in its minute");
        assert_eq!(commands.take(at(61), 1), Err(at(120)));
    }

    #[test]
    fn a_version_is_fit_for_a_label() {
        let now = Instant::now();
        assert_eq!(&*Session::new(Language::Go, "5.1.4\"}\n", now).version, "5.1.4");
        assert_eq!(Session::new(Language::Go, &"9".repeat(100), now).version.len(), 32);
    }
}
