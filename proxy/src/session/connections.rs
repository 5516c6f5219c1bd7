//! Which clients were heard on which connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apogee_model::ClientId;

use crate::listen::ConnectionId;

/// Closed connections that are remembered.
const CLOSED_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Connections {
    clients: BTreeMap<ConnectionId, BTreeSet<ClientId>>,
    /// The last that closed: a call that was under way may be heard after the end of its connection.
    closed: VecDeque<ConnectionId>,
}

impl Connections {
    /// Notes `client` on `connection`. False when the connection has closed.
    pub(super) fn add(&mut self, connection: ConnectionId, client: &ClientId) -> bool {
        let open = !self.closed.contains(&connection);
        if open {
            self.clients.entry(connection).or_default().insert(client.clone());
        }
        open
    }

    pub(super) fn remove(&mut self, connection: ConnectionId, client: &ClientId) {
        if let Some(clients) = self.clients.get_mut(&connection) {
            clients.remove(client);
            if clients.is_empty() {
                self.clients.remove(&connection);
            }
        }
    }

    /// Forgets a connection; returns who was heard on it.
    pub(super) fn close(&mut self, connection: ConnectionId) -> BTreeSet<ClientId> {
        if self.closed.len() == CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(connection);
        self.clients.remove(&connection).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}
