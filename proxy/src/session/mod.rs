//! The clients this proxy hears: what they said about themselves, and whether they still live.
//!
//! Nothing here is needed by a unary call; losing it costs a client at most one retry.

mod book;
mod connections;
mod renew;
mod roll;
mod streams;
mod subscription;
mod watchman;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_model::{ClientId, ConsumerGroup};
use tokio::time::Instant;

use self::book::{Book, Session};
use crate::listen::ClosedConnection;
use crate::service::telemetry::ClientSettings;
use crate::service::{Call, Language, ServiceError};

pub(crate) use renew::renew;
pub(crate) use roll::{Known, Named, Wanted};
pub(crate) use streams::{Asked, Candidate, OpenStream, Question, QuestionKind, Said, Streams, Unanswered, Word};
pub(crate) use subscription::{FilterKind, Subscribed, SubscriptionSet, Subscriptions};
pub(crate) use watchman::{tell, watch};

/// Clients known at the same time.
const CLIENTS_MAX: usize = 100_000;

/// What a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Consumer { mode: ConsumeMode, group: ConsumerGroup },
}

/// How a consumer consumes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConsumeMode {
    Push,
    Simple,
    LitePush,
    LiteSimple,
}

impl ConsumeMode {
    /// Receives messages of lite topics, each client of those that it subscribes to.
    pub(crate) fn is_lite(self) -> bool {
        matches!(self, Self::LitePush | Self::LiteSimple)
    }
}

/// All clients of a proxy. One small lock, never held across a wait.
#[derive(Default)]
pub(crate) struct Sessions {
    book: Mutex<Book>,
}

/// Label values of the connection gauges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) consumer: Option<(ConsumerGroup, ConsumeMode)>,
    pub(crate) language: Language,
    pub(crate) version: Box<str>,
}

impl Sessions {
    /// Notes a sign of life. False when the client is not known.
    pub(crate) fn heard(&self, call: &Call) -> bool {
        let (now, mut book) = (Instant::now(), self.book());
        let session = book.hear(&call.client, call.connection, now);
        session.map(|session| session.peer = call.peer.or(session.peer)).is_some()
    }

    /// Notes a sign of life; makes the record of a client that is not known.
    pub(crate) fn greet(&self, call: &Call) -> Result<(), ServiceError> {
        self.with(call, |_| ())
    }

    /// Notes the end of a connection.
    pub(crate) fn closed(&self, connection: ClosedConnection) {
        self.book().closed(connection, Instant::now());
    }

    /// Notes a heartbeat; makes the record of a client another proxy served until now.
    pub(crate) fn beat(&self, call: &Call, role: Role) -> Result<(), ServiceError> {
        self.with(call, |session| {
            session.role.get_or_insert(role);
        })
    }

    /// Remembers what a client says about itself.
    pub(crate) fn settings(&self, call: &Call, settings: ClientSettings) -> Result<(), ServiceError> {
        self.with(call, |session| {
            session.role = Some(settings.role);
            session.topics = settings.topics;
            session.subscriptions = settings.subscriptions;
            session.request_timeout = settings.request_timeout;
        })
    }

    /// Counts a telemetry command of `bytes`.
    ///
    /// # Errors
    /// When to ask again, if the client sends too many.
    pub(crate) fn may_command(&self, client: &ClientId, bytes: usize) -> Result<(), Instant> {
        let now = Instant::now();
        self.book().clients.get_mut(client).map_or(Ok(()), |session| session.commands.take(now, bytes))
    }

    /// Whether the client may be asked to connect again; if so, it counts as asked. One that is not known may not.
    pub(crate) fn may_reconnect(&self, client: &ClientId) -> bool {
        let now = Instant::now();
        self.book().clients.get_mut(client).is_some_and(|session| session.may_reconnect(now))
    }

    /// How long the client waits for unary answers, if it said so.
    pub(crate) fn request_timeout(&self, client: &ClientId) -> Option<Duration> {
        self.book().clients.get(client)?.request_timeout
    }

    pub(crate) fn remove(&self, client: &ClientId) {
        self.book().remove(client);
    }

    /// How many clients of each kind there are.
    pub(crate) fn census(&self) -> BTreeMap<Kind, u64> {
        let mut census = BTreeMap::new();
        for session in self.book().clients.values() {
            let consumer = match &session.role {
                None => continue,
                Some(Role::Producer) => None,
                Some(Role::Consumer { group, mode }) => Some((group.clone(), *mode)),
            };
            let kind = Kind { consumer, language: session.language, version: session.version.clone() };
            *census.entry(kind).or_default() += 1;
        }
        census
    }

    fn with<T>(&self, call: &Call, change: impl FnOnce(&mut Session) -> T) -> Result<T, ServiceError> {
        let (now, mut guard) = (Instant::now(), self.book());
        let book = &mut *guard;
        if !book.clients.contains_key(&call.client) {
            if book.clients.len() >= CLIENTS_MAX {
                return Err(ServiceError::TooMany { what: "clients of this proxy", limit: CLIENTS_MAX });
            }
            book.clients.insert(call.client.clone(), Session::new(call.language, &call.version, now));
        }
        let session = book.hear(&call.client, call.connection, now).expect("it was put in above");
        session.peer = call.peer.or(session.peer);
        Ok(change(session))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
