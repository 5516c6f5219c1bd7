//! The replicas of this store-node: each lives from when namesrv says that it is here until its number is gone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_engine::{BeginAgain, Settings};
use apogee_host::health::{Check, Health};
use apogee_host::{Exit, OnError, RealDisk, Stop, Tasks};
use apogee_model::ReplicaGroupId;
use apogee_namesrv::NamesrvClient;
use apogee_proto::token::ClusterToken;
use apogee_store_node::lanes::Lanes;
use apogee_store_node::raft::{Identity, Replication};
use futures::future::join_all;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::follow::Leavings;
use super::preferred::Leading;
use super::replica::Replica;
use super::wiring::Wiring;

/// The name of the check.
pub(super) const REPLICAS: &str = "replicas";

/// What replicas are made of.
pub(super) struct ReplicasParts {
    /// The data folder; each replica has one of its own in `groups/`.
    pub(super) folder: PathBuf,
    /// Of the data folder.
    pub(super) disk: Arc<RealDisk>,
    pub(super) settings: Settings,
    pub(super) token: Option<ClusterToken>,
    pub(super) lanes: Lanes,
    pub(super) replication: Replication,
    /// Hears of moves.
    pub(super) client: NamesrvClient,
    /// When another replica should lead.
    pub(super) leading: Leading,
    /// Hears of replicas that have left.
    pub(super) leavings: Leavings,
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
    opened: Notify,
    again: mpsc::Sender<BeginAgain>,
}

impl Replicas {
    /// Hosts whatever `wirings` says, from now on. `recovered` is told when all that it says first are open.
    pub(super) fn host(
        parts: ReplicasParts,
        wirings: watch::Receiver<Wiring>,
        recovered: oneshot::Sender<()>,
    ) -> (Replicas, mpsc::Receiver<BeginAgain>) {
        let (again, begins_again) = mpsc::channel(1);
        let shared = Shared { parts, known: Mutex::default(), opened: Notify::new(), again };
        let replicas = Replicas { shared: Arc::new(shared) };
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
        let mut cluster = self.parts().leading.cluster.clone();
        let first = wirings.borrow_and_update().clone();
        self.take_on(&first)?;
        let mut recovered = Some(recovered);
        loop {
            let all_begun = first.groups.keys().all(|group| self.known().get(group).is_none_or(Replica::has_begun));
            if all_begun && let Some(recovered) = recovered.take() {
                let _nobody_waits = recovered.send(());
            }
            self.tell();
            tokio::select! {
                () = self.shared.opened.notified() => {}
                Ok(()) = cluster.changed() => {} // whether this store-node should have any
                changed = wirings.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await; // the tasks close
                    }
                    let now = wirings.borrow_and_update().clone();
                    self.take_on(&now)?;
                }
            }
        }
    }

    /// Begins what is new, follows what moved, and ends what leaves.
    fn take_on(&self, wiring: &Wiring) -> Result<(), Stop> {
        let mut known = self.known();
        let me = |group, replica| Identity { cluster_id: wiring.cluster_id, group, replica };
        for (group, hosted) in &wiring.groups {
            let (me, bad) = (me(*group, hosted.me), |error| Stop::new(Exit::Usage, error));
            match known.get_mut(group).filter(|replica| replica.is(me)) {
                Some(replica) => replica.follow(hosted).map_err(bad)?,
                // An earlier one of the group has left, or the wiring would not name this one.
                None => drop(known.insert(*group, Replica::begin(self, me, hosted).map_err(bad)?)),
            }
        }
        for (group, gone) in &wiring.leaving {
            known.entry(*group).or_insert_with(|| Replica::end(self, me(*group, *gone))).leave();
        }
        known.retain(|group, _| wiring.groups.contains_key(group) || wiring.leaving.contains_key(group));
        Ok(())
    }

    /// Ready while every replica leads, or follows somebody who does.
    pub(super) fn tell(&self) {
        let known = self.known();
        let has_none = known.values().all(Replica::has_left);
        let unready: Vec<String> = known
            .iter()
            .filter_map(|(group, replica)| Some(format!("broker-{group}: {}", replica.trouble()?)))
            .collect();
        let check = match (has_none && !self.parts().leading.drains(), unready.is_empty()) {
            (true, _) => Check::fail("no replica group yet: not enough store-nodes have registered"),
            (false, true) => Check::ok(),
            (false, false) => Check::fail(unready.join("; ")),
        };
        self.shared.parts.health.set(REPLICAS, check);
    }

    /// One more is open.
    pub(super) fn has_opened(&self) {
        self.shared.opened.notify_one();
    }

    /// A replica has to begin again, and all others with it.
    pub(super) fn begin_again(&self, why: BeginAgain) {
        let _one_is_enough = self.shared.again.try_send(why);
    }

    /// The gauge is 0 without a leader, 1 for a follower, 2 for a leader.
    fn show_roles(&self) {
        let shown = self.clone();
        let gauge = self.shared.parts.meter.u64_observable_gauge("rocketmq_store_replica_state");
        gauge
            .with_callback(move |gauge| {
                for (group, replica) in shown.known().iter().filter(|(_, replica)| !replica.has_left()) {
                    gauge.observe(replica.state(), &[KeyValue::new("group", format!("broker-{group}"))]);
                }
            })
            .build();
    }

    pub(super) fn parts(&self) -> &ReplicasParts {
        &self.shared.parts
    }

    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<ReplicaGroupId, Replica>> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
