//! Which namesrv to ask: the leader if its address is known, else one after the other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use apogee_model::MetadataError;
use apogee_proto::namesrv::v1::registry_client::RegistryClient;
use apogee_proto::reach::{Patience, endpoint};
use apogee_proto::token::{ClusterToken, TokenShown};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::Call;
use crate::server::lock;
use crate::wire;

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(1), ping_every: Duration::from_secs(1), ping: Duration::from_secs(2) };
/// Longest wait for one namesrv while others could be asked.
const TRY_MAX: Duration = Duration::from_secs(2);
/// Pause after all have been asked.
const AGAIN: Duration = Duration::from_millis(50);
/// The copy of a large cluster.
const MESSAGE_MAX: usize = 256 << 20;

pub(super) type Client = RegistryClient<InterceptedService<Channel, TokenShown>>;

/// An address nobody can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} of a namesrv is not host:port")]
pub struct BadAddress {
    pub address: String,
}

/// The ways to all of them.
pub(super) struct Links {
    token: TokenShown,
    state: Mutex<State>,
}

struct State {
    /// By address; leaders that were named are added.
    clients: BTreeMap<String, Client>,
    /// In the order in which they are asked.
    order: Vec<String>,
    /// The next to be asked.
    next: usize,
}

impl State {
    fn nth(&self, at: usize) -> (String, Client) {
        let address = &self.order[at % self.order.len()];
        let client = self.clients.get(address).expect("every address in the order has a client");
        (address.clone(), client.clone())
    }
}

impl Links {
    /// # Errors
    /// [`BadAddress`], also when there is none.
    pub(super) fn new(addresses: Vec<String>, token: Option<&ClusterToken>) -> Result<Self, BadAddress> {
        let token = TokenShown::new(token);
        if addresses.is_empty() {
            return Err(BadAddress { address: String::new() });
        }
        let clients = addresses.iter().map(|address| Ok((address.clone(), connect(address, &token)?)));
        let clients = clients.collect::<Result<_, _>>()?;
        Ok(Self { token, state: Mutex::new(State { clients, order: addresses, next: 0 }) })
    }

    /// The one to ask now.
    fn current(&self) -> (String, Client) {
        let state = lock(&self.state);
        state.nth(state.next)
    }

    /// Any of them, in turn.
    pub(super) fn nth(&self, at: usize) -> (String, Client) {
        lock(&self.state).nth(at)
    }

    fn count(&self) -> usize {
        lock(&self.state).order.len()
    }

    /// Turns to the next, unless somebody did since `failed` was asked.
    fn turn_from(&self, failed: &str) {
        let mut state = lock(&self.state);
        let len = state.order.len();
        if state.order[state.next % len] == failed {
            state.next = (state.next + 1) % len;
        }
    }

    /// Turns to the leader that was named.
    fn turn_to(&self, leader: &str) {
        let mut state = lock(&self.state);
        if !state.clients.contains_key(leader) {
            let Ok(client) = connect(leader, &self.token) else { return };
            state.clients.insert(leader.to_owned(), client);
            state.order.push(leader.to_owned());
        }
        if let Some(at) = state.order.iter().position(|address| address == leader) {
            state.next = at;
        }
    }

    /// Asks until somebody takes the call, or the deadline.
    ///
    /// # Errors
    /// What the leader says; [`MetadataError::Unreachable`].
    pub(super) async fn ask<T>(&self, deadline: Instant, call: impl Fn(Client) -> Call<T>) -> Result<T, MetadataError> {
        let mut last = "none was asked".to_owned();
        let mut tries = 0;
        while Instant::now() < deadline {
            let (address, client) = self.current();
            let asked = timeout_at(deadline.min(Instant::now() + TRY_MAX), call(client)).await;
            let status = match asked {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => tonic::Status::deadline_exceeded(format!("no answer within {TRY_MAX:?}")),
            };
            match wire::refusal_of(&status) {
                Some(MetadataError::NotLeader { leader: Some(leader) }) => {
                    last = format!("{address} says that {leader} leads");
                    self.turn_to(&leader);
                }
                Some(
                    MetadataError::NotLeader { leader: None }
                    | MetadataError::Stopped
                    | MetadataError::Unreachable { .. },
                )
                | None => {
                    last = format!("{address}: {}", status.message());
                    self.turn_from(&address);
                }
                Some(refused) => return Err(refused),
            }
            tries += 1;
            if tries >= self.count() {
                tries = 0;
                sleep(AGAIN).await;
            }
        }
        Err(MetadataError::Unreachable { why: last })
    }
}

fn connect(address: &str, token: &TokenShown) -> Result<Client, BadAddress> {
    let endpoint = endpoint(address, PATIENCE).ok_or_else(|| BadAddress { address: address.to_owned() })?;
    Ok(RegistryClient::with_interceptor(endpoint.connect_lazy(), token.clone()).max_decoding_message_size(MESSAGE_MAX))
}
