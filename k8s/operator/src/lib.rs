//! Topics and consumer groups as objects of Kubernetes: what they say becomes so in the cluster, and stays so. And the number
//! of store-nodes, of which none goes before its replicas are elsewhere.
//!
//! Invariant: knows the admin API and Kubernetes, and nothing of proxies and storage.
//! Reading order: `crds` (what people write), `watched` (what all kinds have in common) and `kept` (topics and consumer
//! groups), `decide` and `conditions` (what is to be done, and what is said about it, without IO), `reconcile` (one look at one
//! object); `scale`, `scaler` and `sets` (the same for store-nodes); `admin` and `shelf` (the cluster and the API server),
//! `watch` (all objects), `lead` (that one operator is at work), `report` and `trouble` (who is told).

mod admin;
mod conditions;
pub mod crds;
mod decide;
#[cfg(test)]
mod fake;
mod kept;
mod lead;
mod reconcile;
mod report;
mod scale;
mod scaler;
mod sets;
mod shelf;
mod trouble;
mod watch;
mod watched;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::health::Health;
use apogee_host::{Exit, ExitWith, OnError, OsEntropy, RealClock, Tasks};
use apogee_proto::token::ClusterToken;
use kube::Client;
use kube::config::InferConfigError;
use opentelemetry::metrics::Meter;

use self::admin::{Admin, Cluster};
use self::crds::{ConsumerGroup, StoreNodes, Topic};
use self::kept::Kept;
use self::lead::{Candidate, CandidateParts};
use self::reconcile::Keeper;
use self::report::Report;
use self::scaler::Scaler;
use self::trouble::Troubles;
use self::watched::Pace;

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Objects that name another cluster are left alone.
    pub cluster_name: String,
    /// `host:port` of the admin API.
    pub admin: String,
    pub token: Option<ClusterToken>,
    /// Where topics and consumer groups are.
    pub namespaces: Namespaces,
    /// Whether store-nodes are scaled as objects in the namespace of this process say.
    pub store_nodes: bool,
    /// The Lease of all operators of this cluster, in the namespace of this process.
    pub lease: String,
    /// Time between two looks at an object that nobody changes.
    pub resync: Duration,
    /// The name of this process, which no other one has.
    pub me: String,
}

/// Where objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// In that of this process.
    Own,
    /// In these.
    These(Vec<String>),
    All,
}

/// Why an operator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("neither a pod of Kubernetes nor a KUBECONFIG says where the API server is")]
    Where(#[source] InferConfigError),
    #[error("the API server cannot be asked")]
    Client(#[source] kube::Error),
    #[error("admin.address is {address:?}, which is not host:port")]
    Admin { address: String },
}

impl ExitWith for StartError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Starts an operator, which works until `tasks` close, and then lets the others go on. Whatever the API server or the
/// cluster does not answer or allow is tried again; `health` says what that is.
///
/// # Errors
/// [`StartError`] when it cannot know whom to ask.
pub async fn start(settings: Settings, tasks: &Tasks, health: &Health, meter: &Meter) -> Result<(), StartError> {
    let config = kube::Config::infer().await.map_err(StartError::Where)?;
    let home = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(StartError::Client)?;
    let admin = Admin::new(&settings.admin, settings.token.as_ref());
    let admin = Arc::new(admin.map_err(|_| StartError::Admin { address: settings.admin.clone() })?);
    let troubles = Troubles::new(health.clone());
    let report = Report::new(client.clone(), &settings.me, troubles.clone(), meter);
    let candidate = Candidate::new(CandidateParts {
        client: client.clone(),
        namespace: home.clone(),
        name: settings.lease.clone(),
        me: settings.me.clone(),
        troubles: troubles.clone(),
        leading: report::leading(meter),
        clock: Arc::new(RealClock),
    });
    let namespaces = match &settings.namespaces {
        Namespaces::Own => vec![home.clone()],
        Namespaces::These(these) => these.clone(),
        Namespaces::All => Vec::new(),
    };
    let work = Arc::new(Work { settings, home, namespaces, client, admin, report, troubles: troubles.clone() });
    let stop = tasks.token();
    tasks.spawn("operator", OnError::StopProcess, async move {
        tokio::select! {
            () = candidate.run(stop, || Arc::clone(&work).all()) => {}
            () = troubles.forget() => {}
        }
        Ok::<_, Infallible>(())
    });
    Ok(())
}

/// What the one operator does that is at work.
struct Work {
    settings: Settings,
    /// The namespace of this process.
    home: String,
    /// None: all.
    namespaces: Vec<String>,
    client: Client,
    admin: Arc<Admin>,
    report: Report,
    troubles: Troubles,
}

impl Work {
    /// Never ends.
    async fn all(self: Arc<Self>) {
        tokio::join!(self.kind::<Topic>(), self.kind::<ConsumerGroup>(), self.store_nodes());
    }

    async fn kind<K: Kept>(&self)
    where
        Admin: Cluster<K>,
    {
        let places = watch::places(&self.namespaces);
        let keeper = Keeper {
            client: self.client.clone(),
            cluster: self.admin.clone(),
            cluster_name: self.settings.cluster_name.clone(),
            stores: watch::stores(&places),
            report: self.report.clone(),
            pace: self.pace(),
        };
        watch::keep(self.client.clone(), places, Arc::new(keeper), self.troubles.clone()).await;
    }

    async fn store_nodes(&self) {
        if !self.settings.store_nodes {
            return;
        }
        let places = watch::places::<StoreNodes>(std::slice::from_ref(&self.home));
        let scaler = Scaler {
            client: self.client.clone(),
            cluster: self.admin.clone(),
            stores: watch::stores(&places),
            report: self.report.clone(),
            pace: self.pace(),
        };
        watch::keep(self.client.clone(), places, Arc::new(scaler), self.troubles.clone()).await;
    }

    fn pace(&self) -> Pace {
        Pace { resync: self.settings.resync, clock: Arc::new(RealClock), entropy: Arc::new(OsEntropy) }
    }
}
