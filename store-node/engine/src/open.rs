//! How an engine comes up: what is on the disk, then consensus, then the loop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::OnError;
use apogee_model::{BlockIndex, ReplicaId};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::again::Again;
use crate::commitlog::{Format, Found, Log, OpenError, Progress, Purged, Recovered, Vote, Writer, recover};
use crate::engine::{Engine, EngineParts, ReplicaParts, Settings};
use crate::incoming;
use crate::leader::Ticket;
use crate::metrics::Metrics;
use crate::peers::{Answers, Peers, Unreachable};
use crate::proposer::{AnswerRule, Mode, Proposer, ProposerSettings};
use crate::raft::{AppliedUpTo, Consensus, Receiver, ReceiverParts};
use crate::replica::{Members, Role};
use crate::state::{Keeper, Pace, State};

/// Requests that wait for the proposer.
pub(crate) const INBOX: usize = 16_384;
/// Jobs that wait for the writer.
const LOG_INBOX: usize = 64;
/// How long the only voter may take to lead; some milliseconds are normal, plus what its disk takes.
const LEADS_MAX: Duration = Duration::from_secs(60);

/// Opens a replica and starts its tasks; with one voter it leads when this returns.
pub(crate) async fn open(
    parts: ReplicaParts,
    members: Members,
    settings: Settings,
    rule: impl AnswerRule,
) -> Result<Engine, OpenError> {
    let ReplicaParts { engine: EngineParts { disk, clock, tasks, meter }, views, peers, entropy } = parts;
    let started = clock.monotonic();
    let alone = members.voters.len() == 1;
    let format = Format { segment_bytes: settings.segment_bytes, cluster: members.cluster_id, replica: members.me };
    let format = format.settle(&*disk).await?;
    incoming::take_over(&*disk, &*views).await?;
    let mut state = State::open(views.open().await?.0).await?;
    let Found { layout, places, current, checkpoint, committed } =
        recover(&disk, &format, state.position().end, alone).await?;
    // The only voter has committed what it has on disk, and it may forget a vote it gave before it had anything.
    let purged = Purged::read(&*disk).await?;
    let committed = if alone { layout.index } else { committed };
    let committed = committed.max(purged.map_or(BlockIndex(0), |purged| purged.index));
    let vote = Vote::read(&*disk).await?.filter(|_| !alone || layout.index > BlockIndex(0));

    let metrics = Arc::new(Metrics::new(&meter));
    let (jobs, job_inbox) = mpsc::channel(LOG_INBOX);
    let recovered = Recovered { layout, places, vote, committed, purged };
    let log = Log::new(Arc::clone(&disk), recovered, settings.tail_bytes, jobs);
    replay(&log, &mut state, committed, &format).await?;
    let took = clock.monotonic().saturating_sub(started);
    tracing::info!(
        event = "store_recovered",
        blocks = layout.index.0,
        bytes = layout.end.0,
        applied = state.position().index.0,
        ?took,
        "the store is recovered"
    );

    let (durable_sender, durable) = watch::channel(layout);
    let again = Again::new();
    let receiver = ReceiverParts {
        disk: Arc::clone(&disk),
        views: Arc::clone(&views),
        log: log.clone(),
        again: again.clone(),
        tasks: tasks.clone(),
    };
    let writer = Writer {
        disk,
        log: log.clone(),
        segment_bytes: format.segment_bytes,
        inbox: job_inbox,
        durable: durable_sender,
        metrics: Arc::clone(&metrics),
        current,
        checkpoint,
        progress: Progress::new(layout),
    };
    tasks.spawn("log-writer", OnError::StopProcess, writer.run());
    let position = state.position();
    let applied = AppliedUpTo {
        term: position.term,
        index: position.index,
        membership: position.membership.map(|found| (found.term, found.index, found.bytes)),
    };
    let (inbox_sender, inbox) = mpsc::channel(INBOX);
    let (asks, seed) = (inbox_sender.downgrade(), entropy.next_u64());
    let joined = Consensus::join(&members, &log, applied, peers, Arc::clone(&views), asks, seed).await;
    let (consensus, committed) = joined.map_err(|why| not_up(&log, why.to_string()))?;
    let (role_sender, role) = watch::channel(Role::Follower { leader: None });
    let ear = consensus.ear(Receiver::new(receiver));
    let pace = Pace { batch_every: settings.views_batch_every, flush_every: settings.views_flush_every };
    let keeper = Keeper::new(views, &state, pace, clock.monotonic());
    let proposer = Proposer {
        keeper,
        mode: Mode::Follows(Box::new(state)),
        consensus,
        committed,
        log: log.clone(),
        durable,
        clock,
        inbox,
        role: role_sender,
        metrics,
        rule,
        settings: ProposerSettings { in_flight_max: settings.in_flight_max, ack_mode: settings.ack_mode },
        applied_term: position.term,
        in_flight: VecDeque::new(),
        applied: Ticket(0),
        first_ticket: Ticket(1),
        last_ticket: Ticket(0),
        hand_over: false,
        asked_to_let_go: None,
        based: (position.end, started),
        majority_at: started,
    };
    tasks.spawn("proposer", OnError::StopProcess, proposer.run(tasks.token()));
    let append_bytes = Arc::new(Semaphore::new(settings.append_queue_bytes));
    let mut engine = Engine { inbox: inbox_sender, append_bytes, log, role, ear, again };
    if alone {
        let leads = engine.role.wait_for(|role| matches!(role, Role::Leader { .. }));
        let leads = tokio::time::timeout(LEADS_MAX, leads).await;
        let leads = leads.map_err(|_| not_up(&engine.log, format!("it does not lead after {LEADS_MAX:?}")))?.map(drop);
        leads.map_err(|_| not_up(&engine.log, "it stopped before it led".to_owned()))?;
    }
    Ok(engine)
}

/// Why a replica did not come up: its disk, if that failed meanwhile.
fn not_up(log: &Log, why: String) -> OpenError {
    match log.failure() {
        Some(cause) => OpenError::disk("write the CommitLog")(cause),
        None => OpenError::Consensus { why },
    }
}

/// Applies what is committed and not applied yet.
async fn replay(log: &Log, state: &mut State, committed: BlockIndex, format: &Format) -> Result<(), OpenError> {
    let (applied, end) = (state.position().index, log.layout().index);
    if applied > end {
        let why = format!("the views are at block {applied}, the log ends at block {end}");
        return Err(OpenError::Corrupt { file: "store/log".to_owned(), offset: 0, why });
    }
    let mut next = BlockIndex(applied.0 + 1);
    while next <= committed {
        let blocks = log.read_own_blocks(next, BlockIndex(committed.0 + 1)).await.map_err(OpenError::unreadable)?;
        if blocks.first().is_none_or(|first| first.header.index != next) {
            let why = format!("block {next} is not in the log, and the views are at block {applied}");
            return Err(OpenError::Corrupt { file: "store/log".to_owned(), offset: 0, why });
        }
        for block in blocks {
            state.apply(&block).map_err(|bad| bad.into_open_error(format.segment_bytes))?;
            next = BlockIndex(block.header.index.0 + 1);
        }
    }
    Ok(())
}

/// The way to the others of a replica that has none.
#[derive(Copy, Clone, Debug, Default)]
pub struct Nobody;

impl Peers for Nobody {
    fn call(&self, to: ReplicaId, _frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        std::future::ready(Err(nobody(to))).boxed()
    }

    fn pipeline(&self, to: ReplicaId, _frames: BoxStream<'static, Bytes>) -> Answers {
        stream::iter([Err(nobody(to))]).boxed()
    }
}

fn nobody(to: ReplicaId) -> Unreachable {
    Unreachable { to, why: "this replica is the only one of its group".to_owned() }
}
