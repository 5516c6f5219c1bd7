//! What callers ask of the leader, and what they hear.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{
    Append, Appended, Checked, CommitOffset, DeadLetters, DeliveryKey, EndTransaction, Fetch, Find, GroupStatus,
    GroupTrace, HalfId, KeptId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription, OffsetCommitted, Pop,
    QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed, Settled, Trace, Whereabouts,
};
use apogee_model::{
    BlockIndex, DeliveryAttempt, Filter, GroupId, InvisibleDuration, QueueOffset, ReplicaId, StoredMessage, TopicId,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot::Sender;

use super::bury::{Burial, Buried, Condemned, Verdict};
use super::settle::Moved;
use super::{Aged, Decided, Located, Look, Spoor, Track, Verdicts};
use crate::hand_over::HandedOver;
use crate::record::QueueOf;
use crate::state::State;
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;
use crate::views::{Place, Position, ViewsError};
use crate::watch::Edge;

/// What a replica has applied.
#[derive(Debug)]
pub(crate) struct StateDump {
    pub(crate) applied: BlockIndex,
    pub(crate) rows: Vec<String>,
}

impl StateDump {
    pub(crate) fn of(state: &State) -> Result<Self, ViewsError> {
        let (position, mut rows) = (state.position(), state.dump());
        // Hashes of headers may differ between replicas.
        let Position { index, term, end, log_time, next_delivery, .. } = position;
        rows[0] = format!("at {index} of term {term}, {}, {log_time:?}, next delivery {next_delivery}", end.0);
        state.failure().map_or(Ok(Self { applied: index, rows }), Err)
    }
}

/// One request. Clients are known by the hash of their id.
#[derive(Debug)]
pub(crate) enum Ask {
    /// `room` in the append queue is given back when the messages are committed.
    Append {
        messages: Vec<Append>,
        room: OwnedSemaphorePermit,
        reply: Sender<Result<Vec<Appended>, NotAppended>>,
    },
    Pop {
        pop: Pop,
        reply: Sender<Granted>,
    },
    /// Somebody looked at messages for a filter.
    Looked(Verdicts),
    Settle {
        key: DeliveryKey,
        what: Moved,
        reply: Sender<Settled>,
    },
    /// Where the message is that a consumer gives up.
    GiveUp {
        key: DeliveryKey,
        reply: Sender<Condemned>,
    },
    /// The copy of a message that is dead.
    Bury {
        key: DeliveryKey,
        dead: DeadLetters,
        message: StoredMessage,
        verdict: Verdict,
        reply: Sender<Buried>,
    },
    Fetch {
        fetch: Fetch,
        reply: Sender<Located>,
    },
    /// Where messages may be that are found under something.
    Find {
        find: Find,
        reply: Sender<Vec<Track>>,
    },
    /// Where these messages are now, of those that are still there.
    Follow {
        spoors: Vec<Spoor>,
        reply: Sender<Vec<Option<Whereabouts>>>,
    },
    Trace {
        trace: Trace,
        reply: Sender<Vec<GroupTrace>>,
    },
    Reset {
        reset: Reset,
        reply: Sender<Vec<QueueReset>>,
    },
    Seal {
        seal: Seal,
        reply: Sender<Sealed>,
    },
    /// Which messages are to be carried forward.
    Aged {
        reply: Sender<Aged>,
    },
    Carry {
        id: KeptId,
        row: KeptRow,
        message: StoredMessage,
        reply: Sender<()>,
    },
    Recall {
        recall: Recall,
        reply: Sender<Recalled>,
    },
    CarryHalf {
        id: HalfId,
        row: HalfRow,
        message: StoredMessage,
        reply: Sender<()>,
    },
    EndTransaction {
        end: EndTransaction,
        reply: Sender<Decided>,
    },
    Checked(Checked),
    /// There may be producers to ask that were not there before.
    Producers,
    /// Some half messages of a topic, and where to go on.
    Transactions {
        topic: TopicId,
        from: HalfId,
        max: usize,
        reply: Sender<(Vec<(HalfId, HalfRow)>, HalfId)>,
    },
    CommitOffset {
        commit: CommitOffset,
        reply: Sender<OffsetCommitted>,
    },
    CommittedOffset {
        of: QueueOf,
        reply: Sender<Option<QueueOffset>>,
    },
    Release {
        deliveries: Vec<DeliveryKey>,
    },
    Confirm {
        deliveries: Vec<DeliveryKey>,
    },
    Heard {
        clients: Vec<(u64, Duration)>,
    },
    HungUp {
        clients: Vec<(u64, Duration)>,
    },
    Lost {
        client: u64,
    },
    Watch {
        group: GroupId,
        topic: TopicId,
        filter: Filter,
        /// Of a client that is subscribed to lite topics: only what is for it.
        client: Option<u64>,
        edge: Arc<Edge>,
    },
    LiteSubscribe {
        subscription: LiteSubscription,
        reply: Sender<LiteSubscribed>,
    },
    LiteList {
        list: LiteList,
        reply: Sender<Vec<LiteStatus>>,
    },
    TopicStatus {
        topic: TopicId,
        reply: Sender<Vec<QueueStatus>>,
    },
    GroupStatus {
        group: GroupId,
        reply: Sender<Vec<GroupStatus>>,
    },
    /// Of any replica, leader or not: what it has applied.
    Dump {
        reply: Sender<Result<StateDump, ViewsError>>,
    },
    /// Lets another replica lead, this one if it is named; dropped by a replica that does not lead.
    HandOver {
        to: Option<ReplicaId>,
        reply: Sender<HandedOver>,
    },
    /// Of any replica: a base of what is applied.
    Base,
    /// Of any replica: nobody needs to be sent blocks up to here.
    LetGo {
        upto: BlockIndex,
    },
    DropTopic {
        topic: TopicId,
        reply: Sender<()>,
    },
    DropGroup {
        group: GroupId,
        reply: Sender<()>,
    },
}

/// Why messages were not appended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotAppended {
    /// They are for a lite topic that is one too many.
    TooManyLiteTopics,
    /// Their message group was hashed over queues that count no more.
    Sealed,
}

/// A decided request, waiting for its block.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Sender<Result<Vec<Appended>, NotAppended>>, Result<Vec<Appended>, NotAppended>, OwnedSemaphorePermit),
    Popped(Sender<Granted>, Granted),
    Settled(Sender<Settled>, Settled),
    Condemned(Sender<Condemned>, Condemned),
    Buried(Sender<Buried>, Buried),
    Reset(Sender<Vec<QueueReset>>, Vec<QueueReset>),
    Sealed(Sender<Sealed>, Sealed),
    Recalled(Sender<Recalled>, Recalled),
    Decided(Sender<Decided>, Decided),
    Located(Sender<Located>, Located),
    Tracks(Sender<Vec<Track>>, Vec<Track>),
    Followed(Sender<Vec<Option<Whereabouts>>>, Vec<Option<Whereabouts>>),
    Traced(Sender<Vec<GroupTrace>>, Vec<GroupTrace>),
    OffsetCommitted(Sender<OffsetCommitted>, OffsetCommitted),
    CommittedOffset(Sender<Option<QueueOffset>>, Option<QueueOffset>),
    TopicStatus(Sender<Vec<QueueStatus>>, Vec<QueueStatus>),
    GroupStatus(Sender<Vec<GroupStatus>>, Vec<GroupStatus>),
    LiteSubscribed(Sender<LiteSubscribed>, LiteSubscribed),
    LiteList(Sender<Vec<LiteStatus>>, Vec<LiteStatus>),
    Done(Sender<()>),
}

/// Leases on messages that are still to be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) grants: Vec<Grant>,
    pub(crate) more: bool,
    /// Messages that are not delivered any more, because they were often enough.
    pub(crate) burials: Vec<Burial>,
    /// When nothing was granted: somebody has to look at these first.
    pub(crate) look: Vec<Look>,
    /// When nothing was granted: the client has so many messages of lite topics.
    pub(crate) unsettled: Option<usize>,
    /// Lite topics that the client lost.
    pub(crate) evicted: Vec<Box<str>>,
}

/// One lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) key: DeliveryKey,
    pub(crate) attempt: DeliveryAttempt,
    pub(crate) invisible: InvisibleDuration,
    pub(crate) place: Place,
}

impl Answer {
    /// Tells the caller. A batch that nobody waits for any more comes back, to be released.
    pub(crate) fn give(self) -> Option<Vec<DeliveryKey>> {
        match self {
            Self::Popped(reply, granted) => {
                let unheard = reply.send(granted).err()?;
                Some(unheard.grants.into_iter().map(|grant| grant.key).collect())
            }
            Self::Appended(reply, appended, _room) => ignore(reply.send(appended)),
            Self::Settled(reply, settled) => ignore(reply.send(settled)),
            Self::Recalled(reply, recalled) => ignore(reply.send(recalled)),
            Self::Decided(reply, decided) => ignore(reply.send(decided)),
            Self::Condemned(reply, condemned) => ignore(reply.send(condemned)),
            Self::Buried(reply, buried) => ignore(reply.send(buried)),
            Self::Located(reply, located) => ignore(reply.send(located)),
            Self::Tracks(reply, tracks) => ignore(reply.send(tracks)),
            Self::Followed(reply, places) => ignore(reply.send(places)),
            Self::Traced(reply, groups) => ignore(reply.send(groups)),
            Self::OffsetCommitted(reply, committed) => ignore(reply.send(committed)),
            Self::CommittedOffset(reply, offset) => ignore(reply.send(offset)),
            Self::Reset(reply, queues) => ignore(reply.send(queues)),
            Self::Sealed(reply, sealed) => ignore(reply.send(sealed)),
            Self::TopicStatus(reply, status) => ignore(reply.send(status)),
            Self::GroupStatus(reply, status) => ignore(reply.send(status)),
            Self::LiteSubscribed(reply, done) => ignore(reply.send(done)),
            Self::LiteList(reply, list) => ignore(reply.send(list)),
            Self::Done(reply) => ignore(reply.send(())),
        }
    }
}

/// A caller that went away needs no answer: what it asked for is done.
fn ignore<T>(_sent: Result<(), T>) -> Option<Vec<DeliveryKey>> {
    None
}
