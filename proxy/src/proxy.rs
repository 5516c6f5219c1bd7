//! The proxy put together: settings and components in, a tower service out.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use apogee_host::{Clock, Entropy, OnError, Tasks};
use apogee_proto::token::ClusterToken;
use apogee_proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};
use opentelemetry::metrics::Meter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Layer as _;

use crate::admin::{self, AdminParts};
use crate::edge::{AdmissionLimits, Budgeted, ByteBudget, Edge, Gate, Receiver};
use crate::listen::ClosedConnection;
use crate::metrics::{self, Metrics};
use crate::route::{Directory, Routes};
use crate::service::check_back::Relay;
use crate::service::in_order::InOrder;
use crate::service::mismatch::Mismatches;
use crate::service::readiness::{Readiness, ReadinessLimits};
use crate::service::{
    ack, change_invisible, dead_letter, end_transaction, heartbeat, lite, offsets, pull, query_assignment, query_route,
    recall, receive, send, telemetry, terminate,
};
use crate::session::{self, Sessions, Streams};
use crate::store::Stores;

/// Largest request in bytes that is decoded: a full body with room for what surrounds it.
const REQUEST_MAX: usize = 32 * 1024 * 1024;

/// What people tune.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Name of this proxy among those of the cluster. Default `proxy`.
    pub name: String,
    /// Name of the one broker SDKs see. Default `apogee`.
    pub cluster_name: String,
    /// Whether the first use of a topic or group creates it. Default on.
    pub auto_create: bool,
    /// `host:port` that delivered messages name as the place they were stored. Default `127.0.0.1:10911`.
    pub store_host: String,
    pub admission: AdmissionLimits,
    pub readiness: ReadinessLimits,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            name: "proxy".to_owned(),
            cluster_name: "apogee".to_owned(),
            auto_create: true,
            store_host: "127.0.0.1:10911".to_owned(),
            admission: AdmissionLimits::default(),
            readiness: ReadinessLimits::default(),
        }
    }
}

/// What a proxy is made of.
pub struct ProxyParts {
    pub routes: Arc<dyn Routes>,
    pub stores: Stores,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Owns the proxy's tasks; closing it ends them.
    pub tasks: Tasks,
    pub meter: Meter,
}

/// A running proxy. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    edge: Arc<Edge>,
    budget: ByteBudget,
    name: Arc<str>,
    cluster_name: Arc<str>,
    routes: Arc<dyn Routes>,
    stores: Stores,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Groups whose consumers subscribe to different things, as this proxy knows.
    inconsistent: Arc<AtomicI64>,
}

impl Proxy {
    /// Starts the proxy's tasks.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(parts: ProxyParts, settings: ProxySettings) -> Self {
        let ProxyParts { routes, stores, clock, entropy, tasks, meter } = parts;
        let sessions = Arc::new(Sessions::default());
        let streams = Arc::new(Streams::new(Arc::clone(&entropy)));
        let metrics = Arc::new(Metrics::new(&meter, &sessions));
        metrics::names(&meter, &routes);
        metrics::age(&meter, &routes);
        let directory = Directory::new(Arc::clone(&routes), settings.auto_create);
        let cluster_name: Arc<str> = settings.cluster_name.into();
        let broker = Arc::clone(&cluster_name);
        let watchman = session::watch(Arc::clone(&sessions), stores.clone(), tasks.token());
        tasks.spawn("sessions", OnError::StopProcess, watchman);
        let relay = Relay { directory: directory.clone(), stores: stores.clone(), streams: Arc::clone(&streams) };
        tasks.spawn("check-backs", OnError::StopProcess, relay.run(tasks.token()));
        let renew = session::renew(Arc::clone(&routes), Arc::clone(&sessions), Arc::clone(&streams), tasks.token());
        tasks.spawn("settings", OnError::StopProcess, renew);
        let budget = ByteBudget::new(Arc::clone(&metrics), settings.admission, &tasks);

        let in_order = InOrder::new(tasks.clone());
        let mismatches = Mismatches::default();
        metrics::gauge(&meter, "rocketmq_proxy_unordered_fifo_subscriptions", mismatches.unordered());
        let inconsistent = Arc::default();
        metrics::gauge(&meter, "rocketmq_proxy_inconsistent_subscriptions", &inconsistent);
        let pull = pull::Service {
            directory: directory.clone(),
            stores: stores.clone(),
            sessions: Arc::clone(&sessions),
            arrivals: pull::Arrivals::new(stores.clone(), tasks.clone()),
            metrics: Arc::clone(&metrics),
        };
        let receive = receive::Service {
            mismatches,
            directory: directory.clone(),
            stores: stores.clone(),
            sessions: Arc::clone(&sessions),
            streams: Arc::clone(&streams),
            readiness: Readiness::new(stores.clone(), tasks.clone(), settings.readiness),
            metrics: Arc::clone(&metrics),
            since: Instant::now(),
        };
        let incarnation = entropy.next_u64();
        let edge = Edge {
            gate: Gate::new(Arc::clone(&clock), Arc::clone(&metrics), settings.admission),
            receiver: Receiver {
                clock: Arc::clone(&clock),
                metrics: Arc::clone(&metrics),
                store_host: settings.store_host.into(),
            },
            query_route: query_route::Service::new(directory.clone(), Arc::clone(&broker)),
            heartbeat: heartbeat::Service::new(directory.clone(), Arc::clone(&sessions)),
            recall: recall::Service::new(directory.clone(), stores.clone()),
            end_transaction: end_transaction::Service::new(directory.clone(), stores.clone()),
            send: send::Service::new(directory.clone(), stores.clone(), Arc::clone(&metrics), in_order, incarnation),
            query_assignment: query_assignment::Service::new(directory.clone(), broker),
            receive,
            pull,
            offsets: offsets::Service::new(directory.clone(), stores.clone(), Arc::clone(&sessions)),
            ack: ack::Service::new(directory.clone(), stores.clone(), Arc::clone(&sessions)),
            change_invisible: change_invisible::Service::new(directory.clone(), stores.clone(), Arc::clone(&sessions)),
            dead_letter: dead_letter::Service::new(directory.clone(), stores.clone(), Arc::clone(&sessions)),
            lite: lite::Service::new(directory.clone(), stores.clone(), Arc::clone(&sessions)),
            telemetry: Arc::new(telemetry::Service::new(directory, Arc::clone(&sessions))),
            terminate: terminate::Service::new(Arc::clone(&sessions), stores.clone()),
            sessions,
            streams,
            metrics,
            entropy,
        };
        let (edge, name) = (Arc::new(edge), settings.name.into());
        Self { edge, budget, name, cluster_name, routes, stores, clock, tasks, inconsistent }
    }

    /// `apache.rocketmq.v2.MessagingService` as a tower service for a listener. All of one proxy share one budget of
    /// bytes; that of a connection needs the extension [`ConnectionBytes`](crate::listen::ConnectionBytes).
    pub fn service(&self) -> Budgeted<MessagingServiceServer<impl MessagingService + use<>>> {
        let service = MessagingServiceServer::from_arc(Arc::clone(&self.edge));
        self.budget.layer(service.max_decoding_message_size(REQUEST_MAX))
    }

    /// The admin API, which knows the clients of this proxy and asks the others for theirs; for whoever knows `token`, for
    /// everybody without one. Answers that have no end of their own end with `stop`, as does a task that looks for groups
    /// whose consumers subscribe to different things.
    pub fn admin(&self, token: Option<ClusterToken>, stop: CancellationToken) -> admin::Service {
        let (name, sessions, clock) = (&self.name, &self.edge.sessions, &self.clock);
        let here = admin::Here {
            name: Arc::clone(name),
            sessions: Arc::clone(sessions),
            streams: Arc::clone(&self.edge.streams),
            clock: Arc::clone(clock),
        };
        let clients = admin::Clients { here: Some(here), token: token.clone() };
        let rounds =
            admin::watch_subscriptions(clients.clone(), Arc::clone(&self.routes), Arc::clone(&self.inconsistent));
        let (until, growth) =
            (stop.clone(), admin::watch_growth(clients.clone(), Arc::clone(&self.routes), self.stores.clone()));
        self.tasks.spawn("growth", OnError::StopProcess, async move {
            until.run_until_cancelled(growth).await;
            Ok::<_, Infallible>(())
        });
        let until = stop.clone();
        self.tasks.spawn("subscriptions", OnError::StopProcess, async move {
            until.run_until_cancelled(rounds).await;
            Ok::<_, Infallible>(())
        });
        let parts = AdminParts {
            cluster_name: self.cluster_name.to_string(),
            routes: Arc::clone(&self.routes),
            stores: self.stores.clone(),
            token,
            stop,
        };
        admin::service_beside(clients, parts)
    }

    /// Notes the end of a connection, for [`Listener::on_closed`](crate::listen::Listener::on_closed): a client whose
    /// last one closed is lost after 10 s, unless it was sent away or is heard again. Never waits.
    pub fn connection_closed(&self, connection: ClosedConnection) {
        self.edge.sessions.closed(connection);
    }

    /// Tells the leaders who was heard until now, so that they keep for each client what it works on while it looks for
    /// another proxy. To be called when [`Listener::run`](crate::listen::Listener::run) has returned, which ends the calls,
    /// and before the tasks close. Never waits.
    pub fn drain(&self) {
        session::tell(&self.edge.sessions, &self.stores);
    }
}
