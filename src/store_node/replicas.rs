//! The replicas of this store-node: each is opened when namesrv says that it is here, and served from then on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_engine::{
    BeginAgain, Ear, Engine, EngineParts, Members, ReplicaParts, RocksSettings, RocksViewStore, Role, Seating, Settings,
};
use apogee_host::health::{Check, Health};
use apogee_host::{Disk, Exit, OnError, OsEntropy, RealClock, RealDisk, Stop, Tasks};
use apogee_model::ReplicaGroupId;
use apogee_proto::token::ClusterToken;
use apogee_store_node::lanes::{Lanes, Served};
use apogee_store_node::raft::{Identity, Replication, TonicPeers};
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::sync::{mpsc, oneshot, watch};

use super::preferred::Leading;
use super::wiring::{Hosted, Wiring};

/// The name of the check.
pub(super) const REPLICAS: &str = "replicas";

/// What replicas are made of.
pub(super) struct ReplicasParts {
    /// The data folder; each replica has one of its own in `groups/`.
    pub(super) folder: PathBuf,
    /// Of the data folder.
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: Settings,
    pub(super) token: Option<ClusterToken>,
    pub(super) lanes: Lanes,
    pub(super) replication: Replication,
    /// When another replica should lead.
    pub(super) leading: Leading,
    pub(super) tasks: Tasks,
    pub(super) meter: Meter,
    pub(super) health: Health,
}

/// The replicas. Clones share them.
#[derive(Clone)]
pub(super) struct Replicas {
    shared: Arc<Shared>,
}

struct Shared {
    parts: ReplicasParts,
    known: Mutex<BTreeMap<ReplicaGroupId, Replica>>,
    again: mpsc::Sender<BeginAgain>,
}

/// One replica, from the moment on when it is known to be here.
struct Replica {
    peers: Arc<TonicPeers>,
    standing: Standing,
}

enum Standing {
    /// With what it waits for.
    Opens(Option<String>),
    Open(Box<Engine>),
}

type Opening = BoxFuture<'static, Result<ReplicaGroupId, Stop>>;

impl Replicas {
    /// Hosts whatever `wirings` says, from now on. `recovered` is told when all that it says first are open.
    pub(super) fn host(
        parts: ReplicasParts,
        wirings: watch::Receiver<Wiring>,
        recovered: oneshot::Sender<()>,
    ) -> (Replicas, mpsc::Receiver<BeginAgain>) {
        let (again, begins_again) = mpsc::channel(1);
        let replicas = Replicas { shared: Arc::new(Shared { parts, known: Mutex::default(), again }) };
        replicas.show_roles();
        let (following, tasks) = (replicas.clone(), replicas.shared.parts.tasks.clone());
        let stop = tasks.token();
        tasks.spawn("replicas", OnError::StopProcess, async move {
            stop.run_until_cancelled(following.follow(wirings, recovered)).await.unwrap_or(Ok(()))
        });
        (replicas, begins_again)
    }

    /// Lets other replicas lead wherever this store-node does, if there are others.
    pub(super) async fn hand_over(&self, wait: Duration) {
        let engines: Vec<_> =
            self.known().iter().filter_map(|(group, replica)| Some((*group, replica.engine()?))).collect();
        join_all(engines.into_iter().map(|(group, engine)| async move {
            if let Err(error) = engine.hand_over(wait).await {
                tracing::warn!(event = "not_handed_over", %group, %error, "no other replica took the lead");
            }
        }))
        .await;
    }

    async fn follow(&self, mut wirings: watch::Receiver<Wiring>, recovered: oneshot::Sender<()>) -> Result<(), Stop> {
        let mut opening = FuturesUnordered::new();
        let first = wirings.borrow_and_update().clone();
        self.take_on(&first, &mut opening)?;
        let mut recovered = Some(recovered);
        loop {
            let all_open = first.groups.keys().all(|group| self.known().get(group).is_some_and(Replica::is_open));
            if all_open && let Some(recovered) = recovered.take() {
                let _nobody_waits = recovered.send(());
            }
            self.tell();
            tokio::select! {
                Some(opened) = opening.next() => drop(opened?),
                changed = wirings.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await; // the tasks close
                    }
                    let now = wirings.borrow_and_update().clone();
                    self.take_on(&now, &mut opening)?;
                }
            }
        }
    }

    /// Begins to open what is new, and follows those that moved.
    fn take_on(&self, wiring: &Wiring, opening: &mut FuturesUnordered<Opening>) -> Result<(), Stop> {
        for (group, hosted) in &wiring.groups {
            let known = self.known().get(group).map(|known| Arc::clone(&known.peers));
            let bad = |error| Stop::new(Exit::Usage, error);
            if let Some(peers) = known {
                peers.at(&hosted.addresses).map_err(bad)?;
                continue;
            }
            let me = Identity { cluster_id: wiring.cluster_id, group: *group, replica: hosted.me };
            let peers = Arc::new(TonicPeers::new(me, self.shared.parts.token.as_ref()));
            peers.at(&hosted.addresses).map_err(bad)?;
            let standing = Standing::Opens(None);
            self.known().insert(*group, Replica { peers: Arc::clone(&peers), standing });
            opening.push(Box::pin(self.clone().open(me, hosted.clone(), peers)));
        }
        Ok(())
    }

    async fn open(self, me: Identity, hosted: Hosted, peers: Arc<TonicPeers>) -> Result<ReplicaGroupId, Stop> {
        let ReplicasParts { folder, disk, settings, lanes, replication, leading, tasks, meter, .. } =
            &self.shared.parts;
        let name = format!("groups/{}", me.group);
        let folder = folder.join(&name);
        let of_folder = |stop: Stop| Stop::new(stop.exit, format!("in data folder {}: {stop}", folder.display()));
        // Makes the folder, and its name durable.
        let named = disk.replace(&format!("{name}/GROUP"), format!("broker-{}\n", me.group).into()).await;
        named.map_err(|error| of_folder(error.into()))?;
        let ear = Ear::default();
        // From the beginning on, because a replica that has no log needs the others to come up, and they need it.
        replication.listen(me, ear.clone());
        let engine = EngineParts {
            disk: Arc::new(RealDisk::open(&folder)?),
            clock: Arc::new(RealClock),
            tasks: tasks.clone(),
            meter: meter.clone(),
        };
        let views =
            Arc::new(RocksViewStore::new(&folder, RocksSettings::default()).map_err(|error| of_folder(error.into()))?);
        let parts = ReplicaParts { engine, views, peers, entropy: Arc::new(OsEntropy), ear: ear.clone() };
        let seating = Seating::of(hosted.addresses.keys().copied()).fixed();
        let members = Members { me: me.replica, group: me.group, seating, cluster_id: me.cluster_id };
        let opened = tokio::select! {
            opened = Engine::open_replica(parts, members, *settings) => opened,
            never = self.tell_waits(me.group, &ear) => match never {},
        };
        let engine = opened.map_err(|error| of_folder(error.into()))?;
        tracing::info!(event = "replica_open", group = %me.group, replica = %me.replica, "a replica is served");
        lanes.serve(me.group, Served { replica: me.replica, engine: engine.clone(), role: engine.role() });
        if let Some(replica) = self.known().get_mut(&me.group) {
            replica.standing = Standing::Open(Box::new(engine.clone()));
        }
        self.look_after(me.group, &engine);
        leading.look_after(me.group, me.replica, engine, tasks);
        Ok(me.group)
    }

    /// Why the replica does not take part yet, while it is opened.
    async fn tell_waits(&self, group: ReplicaGroupId, ear: &Ear) -> std::convert::Infallible {
        let mut waits = ear.waits();
        loop {
            if let Some(replica) = self.known().get_mut(&group) {
                replica.standing = Standing::Opens(waits.borrow_and_update().clone());
            }
            self.tell();
            if waits.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Tells every change of its role, and that it has to begin again.
    fn look_after(&self, group: ReplicaGroupId, engine: &Engine) {
        let (replicas, mut role, engine) = (self.clone(), engine.role(), engine.clone());
        let tasks = self.shared.parts.tasks.clone();
        let stop = tasks.token();
        tasks.spawn("replica", OnError::StopProcess, async move {
            let tell = async {
                loop {
                    tracing::info!(event = "role", %group, now = ?*role.borrow_and_update(), "what this replica does");
                    replicas.tell();
                    if role.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = tell => {}
                why = engine.again() => {
                    let _one_is_enough = replicas.shared.again.try_send(why);
                }
                () = stop.cancelled() => {}
            }
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Ready while every replica leads, or follows somebody who does.
    fn tell(&self) {
        let known = self.known();
        let unready: Vec<String> = known
            .iter()
            .filter_map(|(group, replica)| Some(format!("broker-{group}: {}", replica.trouble()?)))
            .collect();
        let check = match (known.is_empty(), unready.is_empty()) {
            (true, _) => Check::fail("no replica group yet: not enough store-nodes have registered"),
            (false, true) => Check::ok(),
            (false, false) => Check::fail(unready.join("; ")),
        };
        self.shared.parts.health.set(REPLICAS, check);
    }

    /// The gauge is 0 without a leader, 1 for a follower, 2 for a leader.
    fn show_roles(&self) {
        let shown = self.clone();
        let gauge = self.shared.parts.meter.u64_observable_gauge("rocketmq_store_replica_state");
        gauge
            .with_callback(move |gauge| {
                for (group, replica) in shown.known().iter() {
                    gauge.observe(replica.state(), &[KeyValue::new("group", format!("broker-{group}"))]);
                }
            })
            .build();
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ReplicaGroupId, Replica>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica {
    fn engine(&self) -> Option<Engine> {
        match &self.standing {
            Standing::Opens(_) => None,
            Standing::Open(engine) => Some((**engine).clone()),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Open(_))
    }

    fn role(&self) -> Option<Role> {
        self.engine().map(|engine| *engine.role().borrow())
    }

    fn state(&self) -> u64 {
        match self.role() {
            None | Some(Role::Follower { leader: None }) => 0,
            Some(Role::Follower { leader: Some(_) }) => 1,
            Some(Role::Leader { .. }) => 2,
        }
    }

    /// Why it does not take part.
    fn trouble(&self) -> Option<String> {
        match &self.standing {
            Standing::Opens(why) => Some(why.clone().unwrap_or_else(|| "it is opened".to_owned())),
            Standing::Open(_) if self.state() == 0 => Some("no leader is known".to_owned()),
            Standing::Open(_) => None,
        }
    }
}
