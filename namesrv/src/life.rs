//! The life of a member: it comes in, and while it leads it does what only one may do, the birth of the cluster and the
//! leases of store-nodes. At the end it hands over and leaves; the journal last.

use std::sync::Arc;

use apogee_host::{Exit, ExitWith};
use apogee_model::{Cluster, MetadataError, ReplicaMove};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::journal::{Book, Journal};
use crate::leases::BEAT;
use crate::raft::{Consensus, ConsensusParts, Founding, Peers, Stopped, found};
use crate::server::{Namesrv, lock};
use crate::state::{Change, Command, moves_are_due};

/// See the module.
pub(crate) struct Life {
    pub(crate) namesrv: Namesrv,
    pub(crate) journal: Journal,
    pub(crate) book: Book,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) publisher: watch::Sender<Option<Arc<Cluster>>>,
    /// Told when the cluster is there.
    pub(crate) ready: Option<oneshot::Sender<()>>,
    pub(crate) journal_stop: CancellationToken,
}

impl ExitWith for Stopped {
    fn exit(&self) -> Exit {
        Exit::Io
    }
}

impl Life {
    /// # Errors
    /// [`Stopped`] when consensus has ended by itself: the disk failed.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Stopped> {
        let _journal_ends_last = self.journal_stop.clone().drop_guard();
        let _others_hear_nothing = self.namesrv.shared().left.clone().drop_guard();
        let mut ready = self.ready.take();
        let namesrv = self.namesrv.clone();
        let Some(consensus) = stop.run_until_cancelled(self.begin()).await.transpose()? else { return Ok(()) };
        namesrv.shared().consensus.send_replace(Some(consensus.clone()));
        let outcome = stop.run_until_cancelled(steward(&namesrv, &consensus, &mut ready)).await;
        if let Some(failed) = outcome {
            return failed;
        }
        consensus.hand_over().await;
        // The others are told that nobody is here, instead of being left to a consensus that has stopped.
        namesrv.shared().consensus.send_replace(None);
        consensus.stop().await;
        Ok(())
    }

    async fn begin(self) -> Result<Consensus, Stopped> {
        let Life { namesrv, journal, mut book, peers, publisher, .. } = self;
        let shared = namesrv.shared();
        let members = shared.members.keys().copied().collect();
        let mut founds = false;
        if book.is_empty() {
            let founding = found(shared.me, &members, peers.as_ref()).await;
            *lock(&shared.fresh) = false;
            match founding {
                Founding::Begin => founds = true,
                Founding::CatchUp(steps) => {
                    tracing::warn!(
                        event = "namesrv_without_journal",
                        "the others have gone on without this member; it catches up"
                    );
                    for step in steps {
                        journal.keep(step.clone()).await.map_err(|error| Stopped(error.to_string()))?;
                        book.turn(&step).map_err(|gap| Stopped(gap.to_string()))?;
                    }
                }
            }
        }
        let seed = shared.entropy.next_u64();
        Consensus::begin(ConsensusParts {
            me: shared.me,
            members,
            journal,
            book,
            peers,
            published: publisher,
            seed,
            founds,
        })
        .await
    }
}

/// Rules whenever this member leads.
async fn steward(
    namesrv: &Namesrv,
    consensus: &Consensus,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Result<(), Stopped> {
    loop {
        consensus.until_leads(true).await?;
        tracing::info!(event = "namesrv_leads", me = namesrv.shared().me, "this namesrv leads");
        tokio::select! {
            biased;
            lost = consensus.until_leads(false) => lost?,
            ruled = rule(namesrv, consensus, ready) => ruled?,
        }
    }
}

/// Until the lead is lost.
async fn rule(
    namesrv: &Namesrv,
    consensus: &Consensus,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Result<(), Stopped> {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    *namesrv.shared().leases() = crate::leases::Leases::default();
    while let Err(error) = give_birth(namesrv, consensus).await {
        if error == MetadataError::Stopped {
            return Err(Stopped("it ended before the cluster was there".to_owned()));
        }
        tracing::info!(event = "namesrv_waits", %error, "the cluster is not there yet");
        beats.tick().await;
    }
    let cluster = namesrv.cluster();
    if let Some(cluster) = cluster.as_ref() {
        tracing::info!(
            event = "namesrv_open",
            cluster_id = %format_args!("{:016x}", cluster.cluster_id),
            version = cluster.version,
            topics = cluster.topics.len(),
            groups = cluster.groups.len(),
            nodes = cluster.nodes.len(),
            "metadata is there"
        );
    }
    if let Some(ready) = ready.take() {
        let _nobody_waits = ready.send(());
    }
    loop {
        beats.tick().await;
        look_at_leases(namesrv).await;
        look_at_moves(namesrv).await;
    }
}

/// Draws the cluster id and the first key, unless that was done before.
async fn give_birth(namesrv: &Namesrv, consensus: &Consensus) -> Result<(), MetadataError> {
    consensus.catch_up().await?;
    if namesrv.cluster().is_some() {
        return Ok(());
    }
    let shared = namesrv.shared();
    let birth = Command::Birth {
        cluster_id: shared.entropy.next_u64(),
        replication_factor: shared.replication_factor,
        mac_key: shared.draw_secret(),
    };
    consensus.propose(birth).await.map(|_| ())
}

/// Replicas leave store-nodes that drain, as long as others can take them.
async fn look_at_moves(namesrv: &Namesrv) {
    if !namesrv.cluster().is_some_and(|cluster| moves_are_due(&cluster)) {
        return;
    }
    match namesrv.ask(Command::BeginMoves).await {
        Ok((_, Change::ReplicasMoved(groups))) => groups.iter().for_each(|group| match &group.moving {
            Some(ReplicaMove { leaves, comes, to, .. }) => {
                tracing::info!(event = "move_begun", group = %group.id, %leaves, %comes, %to, "a replica moves");
            }
            None => tracing::info!(event = "move_given_up", group = %group.id, "a replica stays where it is"),
        }),
        Ok(_) => {}
        Err(error) => tracing::info!(event = "moves_wait", %error, "nobody could write down which replicas move"),
    }
}

async fn look_at_leases(namesrv: &Namesrv) {
    let Some(cluster) = namesrv.cluster() else { return };
    let ended = namesrv.shared().leases().ended(&cluster, Instant::now());
    for node in ended {
        let Some(incarnation) = cluster.nodes.get(&node).map(|node| node.incarnation) else { continue };
        tracing::warn!(event = "lease_ended", %node, "a store-node was not heard for long; it is suspect");
        if let Err(error) = namesrv.unregister(&node, incarnation).await {
            tracing::info!(event = "lease_kept", %node, %error, "nobody could write down that the lease ended");
        }
    }
}
