//! Who is connected: the clients of this proxy, and those of the others, whom it asks.
//!
//! A page of all is made of the same page of each: with `n` ids from everybody the first `n` of them together are right.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::Clock;
use apogee_model::{ClientId, ConsumerGroup, ProxyNode, Timestamp, Topic};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::admin_client::AdminClient;
use apogee_proto::reach::{Patience, endpoint};
use apogee_proto::token::{ClusterToken, TokenShown};
use futures::StreamExt as _;
use futures::stream;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::convert::time;
use super::error::AdminError;
use super::page;
use super::subscriptions::subscription;
use crate::Routes;
use crate::session::{ConsumeMode, Known, Role, Sessions, Streams, Wanted};

/// How long another proxy, or namesrv, may take.
pub(super) const ASK_MAX: Duration = Duration::from_secs(3);
/// Proxies that are asked at a time.
const AT_ONCE: usize = 32;
/// Largest answer of another proxy: a thousand clients with the longest ids and lists of topics.
const ANSWER_MAX: usize = 32 << 20;
const PATIENCE: Patience = Patience { connect: ASK_MAX, ping_every: ASK_MAX, ping: ASK_MAX };

pub(super) type Peer = AdminClient<InterceptedService<Channel, TokenShown>>;

/// What an admin API knows of clients.
#[derive(Clone)]
pub(crate) struct Clients {
    /// The proxy beside it.
    pub(crate) here: Option<Here>,
    /// Shown to the others.
    pub(crate) token: Option<ClusterToken>,
}

/// A proxy in this process.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) name: Arc<str>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What another proxy is asked, of its own clients.
pub(super) enum Ask {
    Page(v1::ListClientsRequest),
    One(v1::DescribeClientRequest),
    Subscriptions(v1::ListSubscriptionsRequest),
}

/// What was found, here and elsewhere.
#[derive(Default)]
pub(super) struct Found {
    pub(super) clients: Vec<v1::Client>,
    pub(super) groups: Vec<v1::GroupSubscriptions>,
    more: bool,
    pub(super) missing: Vec<v1::MissingProxy>,
}

impl Clients {
    pub(super) async fn list(
        &self,
        routes: &dyn Routes,
        ask: v1::ListClientsRequest,
    ) -> Result<v1::ListClientsResponse, AdminError> {
        let (wanted, size) = (wanted(&ask)?, page::size(ask.page_size)?);
        let after = (!ask.page_token.is_empty()).then(|| client_id(&ask.page_token)).transpose()?;
        let mut found = Found::default();
        if let Some(here) = &self.here {
            let roll = here.sessions.roll(&wanted, after.as_ref(), size);
            found.clients.extend(roll.clients.into_iter().map(|known| here.client(known)));
            found.more = roll.more;
        }
        if !ask.local_only {
            let ask = Ask::Page(v1::ListClientsRequest { local_only: true, ..ask });
            found.add(self.ask_others(routes, &ask).await);
        }
        let next_page_token = found.cut(size);
        Ok(v1::ListClientsResponse { clients: found.clients, next_page_token, missing: found.missing })
    }

    pub(super) async fn describe(
        &self,
        routes: &dyn Routes,
        ask: v1::DescribeClientRequest,
    ) -> Result<v1::DescribeClientResponse, AdminError> {
        let id = client_id(&ask.id)?;
        let mut found = Found::default();
        if let Some(here) = &self.here {
            found.clients.extend(here.sessions.find(&id).map(|known| here.client(known)));
        }
        if !ask.local_only {
            let ask = Ask::One(v1::DescribeClientRequest { local_only: true, ..ask });
            found.add(self.ask_others(routes, &ask).await);
        }
        found.clients.sort_by(|one, other| one.proxy.cmp(&other.proxy));
        match (found.clients.is_empty(), found.missing.first()) {
            (false, _) => Ok(v1::DescribeClientResponse { clients: found.clients, missing: found.missing }),
            (true, None) => Err(AdminError::NoSuchClient { id }),
            (true, Some(missing)) => Err(AdminError::ClientNotFound {
                id,
                proxy: missing.proxy.clone(),
                others: found.missing.len() - 1,
                why: missing.why.clone(),
            }),
        }
    }

    /// Asks every other proxy; those that do not answer are named.
    pub(super) async fn ask_others(&self, routes: &dyn Routes, ask: &Ask) -> Found {
        let others = match self.others(routes).await {
            Ok(others) => others,
            Err(why) => return Found::nothing_of(String::new(), why),
        };
        let mut asked = stream::iter(others).map(|proxy| self.ask_one(proxy, ask)).buffer_unordered(AT_ONCE);
        let mut all = Found::default();
        while let Some(found) = asked.next().await {
            all.add(found);
        }
        all.missing.sort_by(|one, other| one.proxy.cmp(&other.proxy));
        all
    }

    /// The proxies of the cluster but this one.
    ///
    /// # Errors
    /// Why they are not known, in words.
    pub(super) async fn others(&self, routes: &dyn Routes) -> Result<Vec<ProxyNode>, String> {
        let known = match timeout(ASK_MAX, routes.proxies()).await {
            Ok(Ok(proxies)) => proxies,
            Ok(Err(error)) => return Err(format!("which ones there are is not known: {error}")),
            Err(_) => {
                return Err(format!("which ones there are is not known: namesrv did not answer within {ASK_MAX:?}"));
            }
        };
        let another = |proxy: &ProxyNode| self.here.as_ref().is_none_or(|here| *here.name != *proxy.name.as_str());
        Ok(known.into_iter().filter(another).collect())
    }

    /// A client of another proxy's admin API; `None` when its address is none.
    pub(super) fn peer(&self, admin: &str) -> Option<Peer> {
        let shown = TokenShown::new(self.token.as_ref());
        let channel = endpoint(admin, PATIENCE)?.connect_lazy();
        Some(AdminClient::with_interceptor(channel, shown).max_decoding_message_size(ANSWER_MAX))
    }

    pub(super) async fn ask_one(&self, proxy: ProxyNode, ask: &Ask) -> Found {
        let ProxyNode { name, admin, .. } = proxy;
        let Some(peer) = self.peer(&admin) else {
            return Found::nothing_of(name.into(), format!("{admin:?} is not host:port"));
        };
        match timeout(ASK_MAX, ask.of(peer)).await {
            Ok(Ok(found)) => found,
            Ok(Err(status)) => Found::nothing_of(name.into(), format!("{admin}: {}", status.message())),
            Err(_) => Found::nothing_of(name.into(), format!("{admin} did not answer within {ASK_MAX:?}")),
        }
    }
}

impl Ask {
    async fn of(&self, mut peer: Peer) -> Result<Found, Status> {
        match self {
            Ask::Page(ask) => {
                let page = peer.list_clients(ask.clone()).await?.into_inner();
                let more = !page.next_page_token.is_empty();
                Ok(Found { clients: page.clients, more, missing: page.missing, ..Found::default() })
            }
            Ask::One(ask) => match peer.describe_client(ask.clone()).await {
                Ok(answer) => Ok(Found { clients: answer.into_inner().clients, ..Found::default() }),
                Err(status) if status.code() == Code::NotFound => Ok(Found::default()),
                Err(status) => Err(status),
            },
            Ask::Subscriptions(ask) => {
                let told = peer.list_subscriptions(ask.clone()).await?.into_inner();
                Ok(Found { groups: told.groups, missing: told.missing, ..Found::default() })
            }
        }
    }
}

fn client_kind(mode: ConsumeMode) -> v1::ClientKind {
    match mode {
        ConsumeMode::Push => v1::ClientKind::PushConsumer,
        ConsumeMode::Simple => v1::ClientKind::SimpleConsumer,
        ConsumeMode::LitePush => v1::ClientKind::LitePushConsumer,
        ConsumeMode::LiteSimple => v1::ClientKind::LiteSimpleConsumer,
    }
}

impl Here {
    pub(super) fn client(&self, known: Known) -> v1::Client {
        let Known { id, role, topics, subscriptions, language, version, peer, silent, connections } = known;
        let streams = self.streams.of(&id);
        let (kind, group) = match &role {
            None => (v1::ClientKind::Unspecified, None),
            Some(Role::Producer) => (v1::ClientKind::Producer, None),
            Some(Role::Consumer { mode, group }) => (client_kind(*mode), Some(group)),
        };
        let silent = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        v1::Client {
            id: id.to_string(),
            proxy: self.name.to_string(),
            kind: kind.into(),
            namespace: group.map(|group| group.namespace().to_owned()).unwrap_or_default(),
            group: group.map(|group| group.name().to_owned()).unwrap_or_default(),
            topics: topics.first.iter().map(ToString::to_string).collect(),
            topics_total: u32::try_from(topics.total).unwrap_or(u32::MAX),
            language: language.name().to_owned(),
            version: version.into(),
            remote_address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
            last_heard: Some(time(Timestamp(self.clock.wall().0.saturating_sub(silent)))),
            connections: u32::try_from(connections).unwrap_or(u32::MAX),
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
            subscriptions: subscriptions.first.iter().map(subscription).collect(),
        }
    }
}

impl Found {
    pub(super) fn nothing_of(proxy: String, why: String) -> Found {
        Found { missing: vec![v1::MissingProxy { proxy, why }], ..Found::default() }
    }

    pub(super) fn add(&mut self, found: Found) {
        self.clients.extend(found.clients);
        self.groups.extend(found.groups);
        self.more |= found.more;
        self.missing.extend(found.missing);
    }

    /// Keeps the first `size` clients, each with all its proxies; returns the token of the next page.
    fn cut(&mut self, size: usize) -> String {
        self.clients.sort_by(|one, other| (&one.id, &one.proxy).cmp(&(&other.id, &other.proxy)));
        let ids = self.clients.chunk_by(|one, other| one.id == other.id);
        let kept: usize = ids.take(size).map(<[v1::Client]>::len).sum();
        let more = self.more || kept < self.clients.len();
        self.clients.truncate(kept);
        self.clients.last().filter(|_| more).map(|last| last.id.clone()).unwrap_or_default()
    }
}

fn wanted(ask: &v1::ListClientsRequest) -> Result<Wanted, AdminError> {
    let v1::ListClientsRequest { namespace, group, topic, .. } = ask;
    let given = |name: &String| (!name.is_empty()).then(|| name.clone());
    let group = given(group).map(|group| ConsumerGroup::parse(namespace, &group)).transpose()?;
    let topic = given(topic).map(|topic| Topic::parse(namespace, &topic)).transpose()?;
    Ok(Wanted { group, topic })
}

pub(super) fn client_id(text: &str) -> Result<ClientId, AdminError> {
    ClientId::parse(text).ok_or(AdminError::ClientId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[(&str, &str)], more: bool) -> Found {
        let client =
            |(id, proxy): &(&str, &str)| v1::Client { id: (*id).into(), proxy: (*proxy).into(), ..Default::default() };
        Found { clients: ids.iter().map(client).collect(), more, ..Found::default() }
    }

    #[test]
    fn pages_of_several_proxies_become_one() {
        let check = |pages: &[Found], size, kept: &str, next: &str| {
            let mut all = Found::default();
            for Found { clients, more, .. } in pages {
                all.add(Found { clients: clients.clone(), more: *more, ..Found::default() });
            }
            let token = all.cut(size);
            let rows: Vec<_> = all.clients.iter().map(|client| format!("{}@{}", client.id, client.proxy)).collect();
            assert_eq!((rows.join(" ").as_str(), token.as_str()), (kept, next));
        };
        let (one, two) = (page(&[("a", "p1"), ("c", "p1")], true), page(&[("b", "p2"), ("c", "p2")], false));
        check(&[one, two], 2, "a@p1 b@p2", "b");
        let (one, two) = (page(&[("c", "p1"), ("d", "p1")], true), page(&[("c", "p2")], false));
        check(&[two, one], 2, "c@p1 c@p2 d@p1", "d");
        check(&[page(&[("a", "p1")], false), page(&[], false)], 2, "a@p1", "");
        check(&[page(&[], false)], 2, "", "");
    }
}
