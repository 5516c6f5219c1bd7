//! One replica: keeps three lanes to it, hears what it says of itself, and begins again when a lane breaks.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apogee_model::{ReplicaGroupId, ReplicaId};
use apogee_proto::store::v1::lane_client::LaneClient;
use apogee_proto::store::v1::{LaneAnswers, LaneHello, LaneKind, LaneWelcome, Standing};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::connections::Channels;
use super::lane::{Frames, Lane, Lanes};
use super::leaders::{Leader, Leaders};
use super::metrics::StoreMetrics;
use super::notes::Notes;
use super::producers::Producers;
use super::watches::Watches;

/// Longest time to open the lanes.
const OPEN_MAX: Duration = Duration::from_secs(2);
/// Largest frame that is read: one largest message and then some.
const FRAME_MAX: usize = 20 << 20;
/// Between two tries; doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A store-node that is about to stop ends its lanes one by one, within this time.
const LAST_ANSWERS: Duration = Duration::from_secs(6);
/// The lanes stay this long when the proxy ends, for what it has to tell last.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What all replicas of a group share.
pub(super) struct Shared {
    pub(super) group: ReplicaGroupId,
    pub(super) leaders: Leaders,
    pub(super) watches: Arc<Watches>,
    pub(super) producers: Arc<Producers>,
    pub(super) notes: Notes,
    pub(super) metrics: Arc<StoreMetrics>,
    pub(super) incarnation: u64,
    /// The cluster of the first store-node that answered; the others must be of the same.
    pub(super) cluster_id: OnceLock<u64>,
}

/// One replica, and the address of its store-node.
pub(super) struct Node {
    /// Its own for the life of the group: a replica that moved is another one.
    pub(super) index: usize,
    pub(super) address: String,
    pub(super) channels: Channels,
    pub(super) shared: Arc<Shared>,
}

/// What comes from the other end.
struct Incoming {
    append: Streaming<LaneAnswers>,
    pop: Streaming<LaneAnswers>,
    control: Streaming<LaneAnswers>,
}

/// Why the lanes ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Refused(String),
    #[error("the store-node ended the lane")]
    Closed,
    #[error("another store-node leads in a later epoch")]
    Superseded,
    #[error("no answer within {OPEN_MAX:?}")]
    Silent,
    #[error("it belongs to cluster {theirs:016x}, the others to {ours:016x}")]
    OtherCluster { ours: u64, theirs: u64 },
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Refused(status.message().to_owned())
    }
}

impl Node {
    /// Until `stop`, and a moment longer.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let stopped = async {
            stop.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.live() => {}
            () = stopped => {}
        }
        Ok(())
    }

    async fn live(&self) {
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            let mut welcomed = false;
            let ended = self.once(&mut welcomed).await;
            if welcomed || !told {
                tracing::warn!(event = "store_node_away", group = %self.shared.group, address = %self.address, why = %ended, "no lanes to a store-node");
                told = true;
            }
            pause = if welcomed { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.shared.leaders.hinted() => {}
            }
        }
    }

    /// One life of the lanes.
    async fn once(&self, welcomed: &mut bool) -> Ended {
        let opened = timeout(OPEN_MAX, self.open()).await;
        let (lanes, mut incoming) = match opened.unwrap_or(Err(Ended::Silent)) {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        *welcomed = true;
        tracing::info!(event = "store_node_connected", group = %self.shared.group, address = %self.address, "lanes to a store-node are open");
        let _counted = self.shared.metrics.lanes();
        let _closed_when_dropped = Open { node: self, lanes: Arc::clone(&lanes) };
        let ending = CancellationToken::new();
        let all = async {
            tokio::try_join!(
                self.read(&mut incoming.append, &lanes.append, &ending),
                self.read(&mut incoming.pop, &lanes.pop, &ending),
                self.listen(&mut incoming.control, &lanes, &ending),
            )
        };
        let first = async {
            ending.cancelled().await;
            self.shared.leaders.claim(self.index, None);
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            ended = all => ended.err().unwrap_or(Ended::Closed),
            () = first => Ended::Closed,
            () = self.keep_watches(&lanes) => Ended::Closed,
        }
    }

    async fn open(&self) -> Result<(Arc<Lanes>, Incoming), Ended> {
        let lane = |kind: LaneKind| {
            let Shared { incarnation, group, notes, .. } = &*self.shared;
            let hello = LaneHello { proxy_incarnation: *incarnation, kind: kind.into(), replica_group: group.0 };
            Lane::new(hello, notes.clone())
        };
        let (append, append_frames) = lane(LaneKind::Append);
        let (pop, pop_frames) = lane(LaneKind::Pop);
        let (control, control_frames) = lane(LaneKind::Control);
        let streams = tokio::try_join!(
            self.connect(LaneKind::Append, append_frames),
            self.connect(LaneKind::Pop, pop_frames),
            self.connect(LaneKind::Control, control_frames),
        );
        let (append_stream, pop_stream, control_stream) = streams?;
        let incoming = Incoming { append: append_stream, pop: pop_stream, control: control_stream };
        Ok((Arc::new(Lanes { append, pop, control }), incoming))
    }

    async fn connect(&self, kind: LaneKind, frames: Frames) -> Result<Streaming<LaneAnswers>, Ended> {
        let mut client = LaneClient::new(self.channels.of(kind))
            .max_decoding_message_size(FRAME_MAX)
            .max_encoding_message_size(FRAME_MAX);
        Ok(client.work(frames).await?.into_inner())
    }

    /// Answers of a lane that says nothing else worth hearing, to its regular end. The others may have answers left.
    async fn read(
        &self,
        incoming: &mut Streaming<LaneAnswers>,
        lane: &Lane,
        ending: &CancellationToken,
    ) -> Result<(), Ended> {
        while let Some(frame) = incoming.message().await? {
            lane.answered(frame.answers);
        }
        lane.close();
        ending.cancel();
        Ok(())
    }

    /// The control lane: answers, edges, and what the store-node says of itself.
    async fn listen(
        &self,
        incoming: &mut Streaming<LaneAnswers>,
        lanes: &Arc<Lanes>,
        ending: &CancellationToken,
    ) -> Result<(), Ended> {
        let (mut epoch, mut replica) = (None, ReplicaId::default());
        loop {
            let superseded = async {
                match epoch {
                    Some(epoch) => self.shared.leaders.superseded(self.index, epoch).await,
                    None => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                frame = incoming.message() => frame,
                () = superseded => return Err(Ended::Superseded),
            };
            let Some(LaneAnswers { welcome, standing, answers, edges, checks }) = frame? else {
                lanes.control.close();
                ending.cancel();
                return Ok(());
            };
            if let Some(LaneWelcome { cluster_id: theirs, replica_id }) = welcome {
                replica = ReplicaId(replica_id);
                let ours = *self.shared.cluster_id.get_or_init(|| theirs);
                if ours != theirs {
                    tracing::error!(event = "wrong_cluster", address = %self.address, "store-nodes of two clusters");
                    return Err(Ended::OtherCluster { ours, theirs });
                }
            }
            lanes.control.answered(answers);
            if let Some(standing) = standing {
                self.stands(replica, standing, lanes);
                epoch = standing.epoch;
            }
            for edge in edges {
                self.shared.watches.edge(edge.watch, edge.ready);
            }
            for check in checks {
                match check.try_into() {
                    Ok(check) => self.shared.producers.check(check),
                    Err(malformed) => tracing::warn!(event = "bad_check", %malformed, "a store-node asks nonsense"),
                }
            }
        }
    }

    fn stands(&self, replica: ReplicaId, standing: Standing, lanes: &Arc<Lanes>) {
        let Standing { epoch, leader } = standing;
        let claim = epoch.map(|epoch| Leader { node: self.index, replica, epoch, lanes: Arc::clone(lanes) });
        if let Some(leader) = &claim {
            tracing::info!(event = "store_leader", group = %self.shared.group, address = %self.address, epoch = leader.epoch, "a store-node leads");
        }
        self.shared.leaders.claim(self.index, claim);
        if leader.is_some() {
            self.shared.leaders.hint();
        }
    }

    /// Tells this store-node what the proxy watches, whenever it leads.
    async fn keep_watches(&self, lanes: &Lanes) {
        loop {
            let leader = self.shared.leaders.led_by(self.index).await;
            let reign = self.shared.watches.retell();
            let producers = self.shared.producers.retell();
            let tell_watches = async {
                while let Some(ask) = self.shared.watches.next(reign).await {
                    lanes.control.tell(ask).await;
                }
            };
            let tell_producers = async {
                while let Some(ask) = self.shared.producers.next(producers).await {
                    lanes.control.tell(ask).await;
                }
            };
            tokio::select! {
                ((), ()) = async { tokio::join!(tell_watches, tell_producers) } => {}
                () = self.shared.leaders.changed_from(&leader) => {}
            }
        }
    }
}

/// The lanes while they last: closed, and the claim withdrawn, however they end.
struct Open<'a> {
    node: &'a Node,
    lanes: Arc<Lanes>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.node.shared.leaders.claim(self.node.index, None);
        self.lanes.close();
    }
}
