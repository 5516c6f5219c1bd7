//! One replica of this store-node, from the moment on when it is known to be here until it has left. Its tasks are its
//! own, so that it can end while the others go on; a failure of one of them stops the process all the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Ear, Engine, EngineParts, Members, ReplicaParts, RocksSettings, RocksViewStore, Role, Seating};
use apogee_host::{Disk as _, Exit, OnError, OsEntropy, RealClock, RealDisk, Stop, Tasks};
use apogee_store_node::lanes::Served;
use apogee_store_node::raft::{BadAddress, Identity, TonicPeers};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::follow::folder_of;
use super::moves;
use super::replicas::{Replicas, ReplicasParts};
use super::wiring::Hosted;

/// Time for the lanes of a replica that leaves to end, and for its tasks.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What is known of it.
pub(super) struct Replica {
    me: Identity,
    peers: Arc<TonicPeers>,
    seating: watch::Sender<Seating>,
    /// It is new in its group, and nobody counts on it.
    joins: bool,
    leave: CancellationToken,
    standing: Standing,
}

enum Standing {
    /// With what it waits for.
    Opens(Option<String>),
    Open(Box<Engine>),
    /// Its files are removed.
    Left,
}

/// The replica while it lives.
struct Life {
    me: Identity,
    peers: Arc<TonicPeers>,
    seating: watch::Receiver<Seating>,
    leave: CancellationToken,
    tasks: Tasks,
}

impl Replica {
    /// Opens and serves it, until the process ends or it leaves.
    ///
    /// # Errors
    /// [`BadAddress`] of another replica; nothing has begun then.
    pub(super) fn begin(replicas: &Replicas, me: Identity, hosted: &Hosted) -> Result<Replica, BadAddress> {
        let replica = Replica::new(replicas, me, hosted.seating());
        replica.peers.at(&hosted.addresses)?;
        replica.live(replicas);
        Ok(Replica { joins: hosted.joins(), ..replica })
    }

    /// Removes its files, after nobody here had heard of it before it left.
    pub(super) fn end(replicas: &Replicas, me: Identity) -> Replica {
        let replica = Replica::new(replicas, me, Seating::of([]));
        replica.leave();
        replica.live(replicas);
        replica
    }

    fn new(replicas: &Replicas, me: Identity, seating: Seating) -> Replica {
        let peers = Arc::new(TonicPeers::new(me, replicas.parts().token.as_ref()));
        let (seating, leave) = (watch::Sender::new(seating), CancellationToken::new());
        Replica { me, peers, seating, joins: false, leave, standing: Standing::Opens(None) }
    }

    fn live(&self, replicas: &Replicas) {
        let Replica { me, peers, seating, leave, .. } = self;
        let (peers, seating, leave) = (Arc::clone(peers), seating.subscribe(), leave.clone());
        let life = Life { me: *me, peers, seating, leave, tasks: Tasks::new() };
        replicas.parts().tasks.spawn("replica", OnError::StopProcess, life.live(replicas.clone()));
    }

    pub(super) fn is(&self, me: Identity) -> bool {
        self.me == me
    }

    /// Others are somewhere else, or somebody else.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub(super) fn follow(&mut self, hosted: &Hosted) -> Result<(), BadAddress> {
        self.peers.at(&hosted.addresses)?;
        self.joins = hosted.joins();
        let seating = hosted.seating();
        self.seating.send_if_modified(|now| {
            let news = *now != seating;
            *now = seating;
            news
        });
        Ok(())
    }

    /// Its number is gone for ever.
    pub(super) fn leave(&self) {
        self.leave.cancel();
    }

    pub(super) fn engine(&self) -> Option<Engine> {
        match &self.standing {
            Standing::Opens(_) | Standing::Left => None,
            Standing::Open(engine) => Some((**engine).clone()),
        }
    }

    /// Whether nothing waits for it to open.
    pub(super) fn has_begun(&self) -> bool {
        self.joins || self.leave.is_cancelled() || !matches!(self.standing, Standing::Opens(_))
    }

    pub(super) fn has_left(&self) -> bool {
        matches!(self.standing, Standing::Left)
    }

    /// 0 without a leader, 1 for a follower, 2 for a leader.
    pub(super) fn state(&self) -> u64 {
        match self.engine().map(|engine| *engine.role().borrow()) {
            None | Some(Role::Follower { leader: None }) => 0,
            Some(Role::Follower { leader: Some(_) }) => 1,
            Some(Role::Leader { .. }) => 2,
        }
    }

    /// Why it does not take part, though somebody counts on it.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.standing {
            _ if self.joins || self.leave.is_cancelled() => None,
            Standing::Opens(why) => Some(why.clone().unwrap_or_else(|| "it is opened".to_owned())),
            Standing::Open(_) if self.state() == 0 => Some("no leader is known".to_owned()),
            Standing::Open(_) | Standing::Left => None,
        }
    }
}

impl Life {
    async fn live(self, replicas: Replicas) -> Result<(), Stop> {
        let stop = replicas.parts().tasks.token();
        let ended = tokio::select! {
            biased;
            () = self.leave.cancelled() => Ok(()),
            () = stop.cancelled() => Ok(()),
            failure = self.tasks.failed() => Err(failure.stop),
            failed = self.serve(&replicas) => failed.map(|never| match never {}),
        };
        let leaves = ended.is_ok() && self.leave.is_cancelled();
        if leaves {
            self.be_silent(&replicas).await;
        }
        let late = self.tasks.close(CLOSE_MAX).await;
        let ended = ended.and_then(|()| self.tasks.failed().now_or_never().map_or(Ok(()), |failure| Err(failure.stop)));
        if leaves && ended.is_ok() && late.is_empty() {
            self.remove(&replicas).await?;
        }
        ended
    }

    async fn serve(&self, replicas: &Replicas) -> Result<Infallible, Stop> {
        let (me, parts) = (self.me, replicas.parts());
        let engine = self.open(replicas).await?;
        tracing::info!(event = "replica_open", group = %me.group, replica = %me.replica, "a replica is served");
        parts.lanes.serve(me.group, Served { replica: me.replica, engine: engine.clone(), role: engine.role() });
        self.look_after(replicas, &engine);
        moves::report(&parts.client, me.group, &engine, &self.tasks);
        parts.leading.look_after(me.group, me.replica, engine.clone(), &self.tasks);
        self.stands(replicas, Standing::Open(Box::new(engine)));
        replicas.has_opened();
        std::future::pending().await
    }

    async fn open(&self, replicas: &Replicas) -> Result<Engine, Stop> {
        let ReplicasParts { folder, disk, settings, replication, meter, .. } = replicas.parts();
        let (me, name) = (self.me, folder_of(self.me.group));
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
            tasks: self.tasks.clone(),
            meter: meter.clone(),
        };
        let views =
            Arc::new(RocksViewStore::new(&folder, RocksSettings::default()).map_err(|error| of_folder(error.into()))?);
        let peers = Arc::clone(&self.peers);
        let parts = ReplicaParts { engine, views, peers, entropy: Arc::new(OsEntropy), ear: ear.clone() };
        let seating = self.seating.clone();
        let members = Members { me: me.replica, group: me.group, seating, cluster_id: me.cluster_id };
        let opened = tokio::select! {
            opened = Engine::open_replica(parts, members, *settings) => opened,
            never = self.tell_waits(replicas, &ear) => match never {},
        };
        opened.map_err(|error| of_folder(error.into()))
    }

    /// Why the replica does not take part yet, while it is opened.
    async fn tell_waits(&self, replicas: &Replicas, ear: &Ear) -> Infallible {
        let mut waits = ear.waits();
        loop {
            let waits_for = waits.borrow_and_update().clone();
            self.stands(replicas, Standing::Opens(waits_for));
            replicas.tell();
            if waits.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Tells every change of its role, and that it has to begin again.
    fn look_after(&self, replicas: &Replicas, engine: &Engine) {
        let (group, replicas, mut role, engine) = (self.me.group, replicas.clone(), engine.role(), engine.clone());
        let stop = self.tasks.token();
        self.tasks.spawn("role", OnError::StopProcess, async move {
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
                why = engine.again() => replicas.begin_again(why),
                () = stop.cancelled() => {}
            }
            Ok::<_, Infallible>(())
        });
    }

    fn stands(&self, replicas: &Replicas, standing: Standing) {
        if let Some(replica) = replicas.known().get_mut(&self.me.group).filter(|replica| replica.is(self.me)) {
            replica.standing = standing;
        }
    }

    /// Before it closes: proxies and other replicas find nobody here.
    async fn be_silent(&self, replicas: &Replicas) {
        let (group, parts) = (self.me.group, replicas.parts());
        tracing::info!(event = "replica_leaves", %group, replica = %self.me.replica, "a replica is here no more");
        parts.replication.forget(group);
        if timeout(CLOSE_MAX, parts.lanes.forget(group)).await.is_err() {
            tracing::warn!(event = "lanes_late", %group, "lanes to a replica that leaves did not end in time");
        }
    }

    async fn remove(&self, replicas: &Replicas) -> Result<(), Stop> {
        let ReplicasParts { disk, leavings, .. } = replicas.parts();
        let (group, folder) = (self.me.group, folder_of(self.me.group));
        self.stands(replicas, Standing::Left); // and the engine with its files is closed
        let removed = disk.remove_tree(&folder).await;
        removed.map_err(|error| Stop::new(Exit::Io, format!("folder {folder} of the data folder: {error}")))?;
        tracing::info!(event = "replica_left", %group, replica = %self.me.replica, "the files of a replica that left are removed");
        leavings.removed(group).await;
        replicas.tell();
        Ok(())
    }
}
