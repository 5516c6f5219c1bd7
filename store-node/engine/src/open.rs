//! How an engine comes up: what is on the disk, then the replica group (`raft::join`), consensus, and the loop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Disk, Entropy, FileId, OnError};
use apogee_model::{BlockIndex, ReplicaId};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::again::Again;
use crate::block::Lsn;
use crate::bury::DeadLetterMetrics;
use crate::carry::Carrier;
use crate::checks::Desk;
use crate::commitlog::{
    Admission, Checkpoint, Damage, Format, Found, Job, Log, OpenError, Progress, Purged, Recovered, Vote, Writer,
    recover,
};
use crate::damage;
use crate::engine::{Engine, EngineParts, ReplicaParts, Settings};
use crate::floor::Floor;
use crate::hand_over::HandOver;
use crate::incoming;
use crate::leader::{Terms, Ticket};
use crate::metrics::Metrics;
use crate::peers::{Answers, Peers, Unreachable};
use crate::proposer::{AnswerRule, Mode, Proposer, ProposerSettings};
use crate::raft::{AppliedUpTo, Asker, Consensus, Dealings, Identity, Past, Receiver, ReceiverParts};
use crate::replica::{Instance, Members, Role};
use crate::seating::Company;
use crate::state::{BadBlock, Keeper, Pace, State};
use crate::timings::Timings;
use crate::transactions::{OpenHalves, TransactionMetrics};
use crate::views::{ViewStore, ViewsError};

/// Requests that wait for the proposer.
pub(crate) const INBOX: usize = 16_384;
/// Jobs that wait for the writer.
const LOG_INBOX: usize = 64;
/// How long the only voter may take to lead; some milliseconds are normal, plus what its disk takes.
const LEADS_MAX: Duration = Duration::from_secs(60);

/// Opens a replica and starts its tasks; with one voter it leads when this returns. The store of a replica that has
/// others is made anew when it is damaged.
pub(crate) async fn open(
    parts: ReplicaParts,
    members: Members,
    settings: Settings,
    rule: impl AnswerRule,
) -> Result<Engine, OpenError> {
    let (company, mut rule) = (members.company(), Some(rule));
    match attempt(&parts, &members, company, settings, &mut rule).await {
        Err(Unopened::Damaged { damage, .. }) if company == Company::Others => {
            damage::note(&*parts.engine.disk, &damage).await.map_err(OpenError::disk("note a damage"))?;
            attempt(&parts, &members, company, settings, &mut rule).await.map_err(Unopened::into_error)
        }
        opened => opened.map_err(Unopened::into_error),
    }
}

/// As [`open`]. Takes the rule when nothing can go wrong any more that another attempt would make good.
async fn attempt<R: AnswerRule>(
    parts: &ReplicaParts,
    members: &Members,
    company: Company,
    settings: Settings,
    rule: &mut Option<R>,
) -> Result<Engine, Unopened> {
    let ReplicaParts { engine: EngineParts { disk, clock, tasks, meter }, views, peers, entropy, ear } = parts;
    let started = clock.monotonic();
    ear.is_opening();
    let metrics = Arc::new(Metrics::new(meter, members.group));
    let dead_letters = DeadLetterMetrics::new(meter);
    let transactions = TransactionMetrics::new(meter, &members.group.broker_name());
    let desk = Arc::<Desk>::default();
    let repaired = company == Company::Others && damage::set_aside(disk, &**views).await?;
    let prepared = prepare(disk, &**views, &**entropy, members, company, &settings).await?;
    let Prepared { format, log, state, floor, job_inbox, current, checkpoint, admission } = prepared;
    let (layout, me) = (log.layout(), format.member());
    let took = clock.monotonic().saturating_sub(started);
    tracing::info!(
        event = "store_recovered",
        instance = %format.instance,
        blocks = layout.index.0,
        bytes = layout.end.0,
        applied = state.position().index.0,
        ?took,
        "the store is recovered"
    );
    let admission = match admission {
        Some(admission) => admission,
        None => {
            let (peers, entropy) = (Arc::clone(peers), Arc::clone(entropy));
            let comes = members.seating.borrow().is_to_come(members.me);
            let past = if repaired {
                Past::Lost
            } else if comes {
                Past::Comes
            } else {
                Past::Fresh
            };
            let seating = members.seating.clone();
            Asker { me, past, seating, peers, entropy, ear: ear.clone() }.join(&**disk).await?
        }
    };
    if repaired {
        damage::forget(&**disk).await?;
    }

    let (durable_sender, mut durable) = watch::channel(layout);
    let again = Again::new();
    let writer = Writer {
        disk: Arc::clone(disk),
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
    let receiver = Receiver::new(ReceiverParts {
        disk: Arc::clone(disk),
        views: Arc::clone(views),
        log: log.clone(),
        again: again.clone(),
        tasks: tasks.clone(),
    });
    let inbox_of_bases = inbox_sender.downgrade();
    let dealings = Dealings { peers: Arc::clone(peers), views: Arc::clone(views), inbox: inbox_of_bases, receiver };
    let identity = Identity { me, company, seating: members.seating.clone(), admission };
    let begun = Consensus::begin(identity, &log, applied, dealings, entropy.next_u64(), ear).await;
    let (consensus, registrar, committed) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            let damage = log.damage().borrow().clone();
            log.close();
            // Whoever tries again must be the only one who writes.
            while durable.changed().await.is_ok() {}
            return Err(damage.map_or_else(|| not_up(&log, why.to_string()).into(), Unopened::from));
        }
    };
    let reached = registrar.reached.subscribe();
    tasks.spawn("registrar", OnError::LogAndEnd, registrar.run(tasks.token()));
    let alone_or_not = company.watch(members.me, members.seating.clone(), again.clone());
    let alone_or_not = tasks.token().run_until_cancelled_owned(alone_or_not);
    tasks.spawn("company", OnError::LogAndEnd, alone_or_not.map(|_over| Ok::<(), std::convert::Infallible>(())));
    if company == Company::Others {
        let watch = damage::watch(Arc::clone(disk), log.damage(), ear.clone(), again.clone());
        let watch = tasks.token().run_until_cancelled_owned(watch).map(|ended| ended.unwrap_or(Ok(())));
        tasks.spawn("damage", OnError::StopProcess, watch);
    }
    let (role_sender, role) = watch::channel(Role::Follower { leader: None });
    let pace = Pace { batch_every: settings.views_batch_every, flush_every: settings.views_flush_every };
    let keeper = Keeper::new(Arc::clone(views), &state, pace, clock.monotonic());
    let timings = Timings::new(meter, &members.group.broker_name(), &state);
    let proposer = Proposer {
        keeper,
        mode: Mode::Follows(Box::new(state)),
        consensus,
        committed,
        log: log.clone(),
        durable,
        clock: Arc::clone(clock),
        inbox,
        role: role_sender,
        metrics,
        rule: rule.take().expect("there is no attempt after this one"),
        settings: ProposerSettings {
            ack_mode: settings.ack_mode,
            terms: Terms {
                in_flight_max: settings.in_flight_max,
                retention: settings.retention,
                segment_bytes: format.segment_bytes,
                lite_topics_max: settings.lite_topics_max,
            },
        },
        floor,
        applied_term: position.term,
        refused_in: None,
        in_flight: VecDeque::new(),
        applied: Ticket(0),
        first_ticket: Ticket(1),
        last_ticket: Ticket(0),
        hand_over: HandOver::default(),
        asked_to_let_go: None,
        desk: Arc::clone(&desk),
        transactions: OpenHalves::new(transactions.clone()),
        timings,
        based: (position.end, started),
        majority_at: started,
    };
    tasks.spawn("proposer", OnError::StopProcess, proposer.run(tasks.token()));
    let carrier = Carrier { inbox: inbox_sender.downgrade(), log: log.clone(), every: settings.retention.every };
    let carrier = tasks.token().run_until_cancelled_owned(carrier.run());
    tasks.spawn("carrier", OnError::LogAndEnd, carrier.map(|_over| Ok::<(), std::convert::Infallible>(())));
    let append_bytes = Arc::new(Semaphore::new(settings.append_queue_bytes));
    let mut engine = Engine {
        inbox: inbox_sender,
        reached,
        append_bytes,
        log,
        role,
        again,
        dead_letters,
        transactions,
        desk,
        lite_topics_max: settings.lite_topics_max,
    };
    if company.is_alone() {
        let leads = engine.role.wait_for(|role| matches!(role, Role::Leader { .. }));
        let leads = tokio::time::timeout(LEADS_MAX, leads).await;
        let leads = leads.map_err(|_| not_up(&engine.log, format!("it does not lead after {LEADS_MAX:?}")))?.map(drop);
        leads.map_err(|_| not_up(&engine.log, "it stopped before it led".to_owned()))?;
    }
    Ok(engine)
}

/// What was on the disk, brought as far as it can be without the others.
struct Prepared {
    format: Format,
    log: Log,
    state: State,
    floor: Floor,
    job_inbox: mpsc::Receiver<Job>,
    /// The segment to write to.
    current: (Lsn, FileId),
    checkpoint: Checkpoint,
    /// `None` before this instance came into its group.
    admission: Option<Admission>,
}

/// Why a store does not open.
enum Unopened {
    /// What was written cannot be read any more; other replicas have it.
    Damaged { damage: Damage, error: OpenError },
    /// Nothing that a new beginning would make good.
    Refused(OpenError),
}

impl Unopened {
    fn into_error(self) -> OpenError {
        match self {
            Self::Damaged { error, .. } | Self::Refused(error) => error,
        }
    }
}

impl From<OpenError> for Unopened {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Corrupt { file, offset, why } => {
                let damage = Damage { file: file.clone(), offset: *offset, why: why.clone() };
                Self::Damaged { damage, error }
            }
            _ => Self::Refused(error),
        }
    }
}

impl From<ViewsError> for Unopened {
    fn from(error: ViewsError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Damage> for Unopened {
    fn from(damage: Damage) -> Self {
        let Damage { file, offset, why } = damage;
        OpenError::Corrupt { file, offset, why }.into()
    }
}

async fn prepare(
    disk: &Arc<dyn Disk>,
    views: &dyn ViewStore,
    entropy: &dyn Entropy,
    members: &Members,
    company: Company,
    settings: &Settings,
) -> Result<Prepared, Unopened> {
    let alone = company.is_alone();
    let (cluster, replica) = (members.cluster_id, members.me);
    let instance = Instance(entropy.next_u64());
    let format = Format { segment_bytes: settings.segment_bytes, cluster, replica, instance };
    let format = format.settle(&**disk).await?;
    let admission = Admission::read(&**disk).await?;
    incoming::take_over(&**disk, views).await?;
    let mut state = State::open(views.open().await?.0).await?;
    let floor = Floor::new(&views.bases().await?);
    let Found { layout, places, current, checkpoint, committed } =
        recover(disk, &format, state.position().end, alone).await?;
    // The only voter has committed what it has on disk, and it may forget a vote it gave before it had anything.
    let purged = Purged::read(&**disk).await?;
    let committed = if alone { layout.index } else { committed };
    let committed = committed.max(purged.map_or(BlockIndex(0), |purged| purged.index));
    let vote = Vote::read(&**disk).await?.filter(|_| !alone || layout.index > BlockIndex(0));
    if admission.is_none() && (layout.index > BlockIndex(0) || vote.is_some()) {
        let why = "it is missing, and the replica was a member".to_owned();
        return Err(OpenError::Corrupt { file: "store/admission".to_owned(), offset: 0, why }.into());
    }
    let (jobs, job_inbox) = mpsc::channel(LOG_INBOX);
    let recovered = Recovered { layout, places, vote, committed, purged };
    let log = Log::new(Arc::clone(disk), recovered, settings.tail_bytes, jobs);
    replay(&log, &mut state, committed, &format).await?;
    Ok(Prepared { format, log, state, floor, job_inbox, current, checkpoint, admission })
}

/// Why a replica did not come up: its disk, if that failed meanwhile.
fn not_up(log: &Log, why: String) -> OpenError {
    match log.failure() {
        Some(cause) => OpenError::disk("write the CommitLog")(cause),
        None => OpenError::Consensus { why },
    }
}

/// Applies what is committed and not applied yet.
async fn replay(log: &Log, state: &mut State, committed: BlockIndex, format: &Format) -> Result<(), Unopened> {
    let (applied, end) = (state.position().index, log.layout().index);
    if applied > end {
        let why = format!("the views are at block {applied}, the log ends at block {end}");
        return Err(OpenError::Corrupt { file: "store/log".to_owned(), offset: 0, why }.into());
    }
    let mut next = BlockIndex(applied.0 + 1);
    while next <= committed {
        let blocks = match log.read_own_blocks(next, BlockIndex(committed.0 + 1)).await {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Vec::new(),
            blocks => blocks.map_err(OpenError::unreadable)?,
        };
        if blocks.is_empty() {
            // Its segment is gone, because a base had what was in it; that base is damaged, and this one is too old.
            let why = format!("block {next} is not in the log, and the views are at block {applied}");
            return Err(OpenError::Corrupt { file: "store/log".to_owned(), offset: 0, why }.into());
        }
        for block in blocks {
            // The block is as it was written. Other replicas have the same, and could not apply it either.
            let refused = |bad: BadBlock| Unopened::Refused(bad.into_open_error(format.segment_bytes));
            state.apply(&block).map_err(refused)?;
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
