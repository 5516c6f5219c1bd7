//! Which clients were heard on which connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apogee_model::ClientId;

use crate::listen::{ClosedConnection, ConnectionId};

/// Closed connections that are remembered.
const CLOSED_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Connections {
    clients: BTreeMap<ConnectionId, BTreeSet<ClientId>>,
    /// The last that closed: a call that was under way may be heard after the end of its connection.
    closed: VecDeque<ClosedConnection>,
}

impl Connections {
    /// Notes `client` on `connection`, unless that has closed.
    pub(super) fn add(&mut self, connection: ConnectionId, client: &ClientId) -> Result<(), ClosedConnection> {
        if let Some(closed) = self.closed.iter().find(|closed| closed.id == connection) {
            return Err(*closed);
        }
        self.clients.entry(connection).or_default().insert(client.clone());
        Ok(())
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
    pub(super) fn close(&mut self, connection: ClosedConnection) -> BTreeSet<ClientId> {
        if self.closed.len() == CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(connection);
        self.clients.remove(&connection.id).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}
