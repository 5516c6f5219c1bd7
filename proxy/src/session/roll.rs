//! What people are shown of the clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

use apogee_model::{ClientId, ConsumerGroup, Topic};
use tokio::time::Instant;

use super::book::Session;
use super::{Role, Sessions, Subscriptions};
use crate::service::Language;

/// One client as this proxy knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: ClientId,
    pub(crate) role: Option<Role>,
    pub(crate) topics: Named,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) language: Language,
    pub(crate) version: Box<str>,
    pub(crate) peer: Option<SocketAddr>,
    /// Since it was heard last.
    pub(crate) silent: Duration,
    /// Open ones it was heard on.
    pub(crate) connections: usize,
}

/// The topics a client named, of which the first are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) first: Box<[Topic]>,
    pub(crate) total: usize,
}

impl Named {
    /// Topics remembered per client.
    const MAX: usize = 64;

    pub(crate) fn of(topics: &[Topic]) -> Self {
        Self { first: topics.iter().take(Self::MAX).cloned().collect(), total: topics.len() }
    }
}

/// Which clients are asked for; the default is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) group: Option<ConsumerGroup>,
    pub(crate) topic: Option<Topic>,
}

impl Wanted {
    fn holds(&self, session: &Session) -> bool {
        let consumes =
            |group: &ConsumerGroup| matches!(&session.role, Some(Role::Consumer { group: of, .. }) if of == group);
        self.group.as_ref().is_none_or(consumes)
            && self.topic.as_ref().is_none_or(|topic| session.topics.first.contains(topic))
    }
}

/// Some clients in order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    pub(crate) clients: Vec<Known>,
    /// There are others behind them.
    pub(crate) more: bool,
}

impl Sessions {
    /// The first `at_most` clients that are asked for, behind `after`.
    pub(crate) fn roll(&self, wanted: &Wanted, after: Option<&ClientId>, at_most: usize) -> Roll {
        let now = Instant::now();
        let book = self.book();
        let mut rest = behind(&book.clients, after).filter(|(_, session)| wanted.holds(session));
        let clients = rest.by_ref().take(at_most).map(|(id, session)| session.known(id, now)).collect();
        Roll { clients, more: rest.next().is_some() }
    }

    /// One client, if it is known.
    pub(crate) fn find(&self, client: &ClientId) -> Option<Known> {
        self.book().clients.get(client).map(|session| session.known(client, Instant::now()))
    }
}

fn behind<'a>(
    clients: &'a BTreeMap<ClientId, Session>,
    after: Option<&ClientId>,
) -> impl Iterator<Item = (&'a ClientId, &'a Session)> {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
    clients.range((from, Bound::Unbounded))
}
