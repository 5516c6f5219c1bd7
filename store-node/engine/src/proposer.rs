//! The loop of a replica: applies what is committed; while it leads, takes requests, proposes blocks and gives answers
//! when they are committed.
//!
//! It owns the state, and the leader while there is one. Losing the lead drops the leader with all it proposed: callers
//! hear that the outcome is unknown, because the log decides it without us.

mod lead;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Clock, Exit, ExitWith, Monotonic};
use apogee_model::{BlockIndex, Epoch};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::block::{Block, BlockKind, Lsn};
use crate::checks::Desk;
use crate::commitlog::{Layout, Log, Proposal};
use crate::floor::Floor;
use crate::hand_over::{HandOver, HandedOver};
use crate::leader::{Answer, Ask, Leader, Now, StateDump, Terms, Ticket};
use crate::metrics::Metrics;
use crate::raft::{Consensus, Stopped};
use crate::replica::{AckMode, Role};
use crate::state::{BadBlock, Keeper, Kept, State};
use crate::timings::Timings;
use crate::transactions::OpenHalves;
use crate::views::{ViewsError, ViewsFuture};

/// While a block is on its way, a partial one waits for company until it has this part of the largest block: 256 KiB.
const COMPANY_PART: usize = 32;
/// Blocks on their way to a majority.
const BLOCKS_IN_FLIGHT: usize = 4;
/// Requests taken before the loop looks at the log again.
const TURN: usize = 512;
/// How often a leader looks whether it still hears a majority.
const MAJORITY_CHECK: Duration = Duration::from_millis(100);
/// Rows that only memory has; while there are more, no block is proposed.
const UNWRITTEN_MAX: usize = 128 << 20;
/// A base is taken when the log grew by this much since the last,
const BASE_BYTES: u64 = 1 << 30;
/// or grew at all and this time went by.
const BASE_EVERY: Duration = Duration::from_secs(600);
/// When a base would let segments go that nothing else holds, it is taken when the log grew by a segment since the last,
/// or grew at all and this time went by.
const BASE_TO_LET_GO: Duration = Duration::from_secs(60);
/// How long a replica that stops may take to write its views and a last base; the next start does what is left.
const LAST_VIEWS: Duration = Duration::from_secs(3);
/// How long a replica that stops waits for the blocks it has proposed.
const LAST_BLOCKS: Duration = Duration::from_secs(3);

/// Says when what may be done. There is one right rule, [`AfterCommit`]; tests break it to see that their checks notice.
pub trait AnswerRule: Send + 'static {
    /// The newest block whose answers may be given.
    fn answerable(&self, committed: Ticket, proposed: Ticket) -> Ticket;

    /// Whether a leader may decide: once it has applied an entry of its own epoch, and so all that was committed before.
    fn may_decide(&self, own_entry_applied: bool) -> bool {
        own_entry_applied
    }
}

/// Nothing that a client can see leaves before its record is committed.
#[derive(Copy, Clone, Debug, Default)]
pub struct AfterCommit;

impl AnswerRule for AfterCommit {
    fn answerable(&self, committed: Ticket, _proposed: Ticket) -> Ticket {
        committed
    }
}

/// This replica cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposerFailed {
    #[error("a committed block cannot be applied")]
    Block(#[from] BadBlock),
    #[error("the views cannot be used any more")]
    Views(#[from] ViewsError),
}

impl ExitWith for ProposerFailed {
    fn exit(&self) -> Exit {
        match self {
            Self::Block(_) => Exit::Bug,
            Self::Views(_) => Exit::Io,
        }
    }
}

/// See the module.
pub(crate) struct Proposer<R> {
    pub(crate) keeper: Keeper,
    pub(crate) mode: Mode,
    pub(crate) consensus: Consensus,
    pub(crate) committed: mpsc::Receiver<Block>,
    pub(crate) log: Log,
    pub(crate) durable: watch::Receiver<Layout>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbox: mpsc::Receiver<Ask>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rule: R,
    pub(crate) settings: ProposerSettings,
    /// Term of the last block that was applied.
    pub(crate) applied_term: Epoch,
    /// The log refused a block of this epoch, and would again until this replica hears a majority.
    pub(crate) refused_in: Option<Epoch>,
    /// Proposed and not applied, oldest first.
    pub(crate) in_flight: VecDeque<Ticket>,
    /// The newest proposal of this leader that was applied, or the one before its first.
    pub(crate) applied: Ticket,
    /// The first proposal of this leader.
    pub(crate) first_ticket: Ticket,
    /// The newest proposal of all leaders this replica was.
    pub(crate) last_ticket: Ticket,
    /// Where the log ended, and when, as the last base was asked for.
    pub(crate) based: (Lsn, Monotonic),
    /// How much of the log may go.
    pub(crate) floor: Floor,
    /// When a majority was heard last.
    pub(crate) majority_at: Monotonic,
    pub(crate) hand_over: HandOver,
    /// Somebody asked to let go of blocks up to here.
    pub(crate) asked_to_let_go: Option<BlockIndex>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) transactions: OpenHalves,
    pub(crate) timings: Timings,
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct ProposerSettings {
    pub(crate) ack_mode: AckMode,
    pub(crate) terms: Terms,
}

/// What the replica does with its state.
pub(crate) enum Mode {
    Follows(Box<State>),
    Leads(Box<Leader>),
    /// Only while it changes.
    Between,
}

impl Mode {
    fn state(&self) -> &State {
        match self {
            Self::Follows(state) => state,
            Self::Leads(leader) => &leader.state,
            Self::Between => unreachable!("only while the mode changes"),
        }
    }

    fn state_mut(&mut self) -> &mut State {
        match self {
            Self::Follows(state) => state,
            Self::Leads(leader) => &mut leader.state,
            Self::Between => unreachable!("only while the mode changes"),
        }
    }
}

/// Why the loop ends.
enum End {
    /// Consensus has ended, or the process stops.
    Over,
    Failed(ProposerFailed),
}

impl From<Stopped> for End {
    fn from(why: Stopped) -> Self {
        tracing::info!(event = "replica_stopped", %why, "this replica takes no further part");
        End::Over
    }
}

impl From<ViewsError> for End {
    fn from(error: ViewsError) -> Self {
        End::Failed(error.into())
    }
}

impl From<BadBlock> for End {
    fn from(bad: BadBlock) -> Self {
        End::Failed(bad.into())
    }
}

impl<R: AnswerRule> Proposer<R> {
    /// Runs until `stop`, then finishes what was decided. When the log or consensus ends first, so does this, without an
    /// answer to anybody: whether their requests were carried out is unknown.
    ///
    /// # Errors
    /// [`ProposerFailed`] when a committed block cannot be applied.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), ProposerFailed> {
        let outcome = self.work(stop).await;
        self.role.send_replace(Role::Follower { leader: None });
        self.inbox.close();
        if outcome.is_ok() {
            let _late = tokio::time::timeout(LAST_VIEWS, self.finish_views()).await;
        }
        drop((self.mode, self.committed));
        self.consensus.leave().await;
        self.log.close();
        close_views(self.keeper.close()).await;
        match outcome {
            Ok(()) | Err(End::Over) => Ok(()),
            Err(End::Failed(failed)) => Err(failed),
        }
    }

    async fn work(&mut self, stop: CancellationToken) -> Result<(), End> {
        let mut last_blocks = None;
        let mut majority_check = tokio::time::interval(MAJORITY_CHECK);
        majority_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.follow_role()?;
            let stopping = last_blocks.is_some();
            let (tick, deferred) = match &self.mode {
                Mode::Leads(leader) if !stopping => (leader.next_tick(), leader.has_deferred()),
                _ => (None, false),
            };
            let tick = tick.into_iter().chain(self.keep()?).min();
            self.let_go().await?;
            let tick = tick.map(|at| at.saturating_sub(self.clock.monotonic()));
            let leads = matches!(self.mode, Mode::Leads(_));
            let early = leads && self.settings.ack_mode == AckMode::LeaderFsync;
            tokio::select! {
                biased;
                block = self.committed.recv() => match block {
                    Some(block) => self.apply_waiting(block)?,
                    None => return Err(End::Over),
                },
                changed = self.consensus.changed() => {
                    if let Some(refused) = changed? {
                        self.refused(refused.ticket);
                    }
                }
                changed = self.durable.changed(), if early || self.keeper.waits_for_the_log() => match changed {
                    Ok(()) => {}
                    Err(_) => return Err(End::Over),
                },
                kept = self.keeper.ended() => self.note(&kept?),
                ask = self.inbox.recv(), if !stopping && !self.hand_over.is_under_way() => match ask {
                    Some(ask) => self.decide_burst(ask).await,
                    None => last_blocks = Some(tokio::time::Instant::now() + LAST_BLOCKS),
                },
                () = tokio::time::sleep(tick.unwrap_or_default()), if tick.is_some() => {
                    let now = self.now();
                    self.leader(|leader| leader.tick(now));
                }
                () = stop.cancelled(), if !stopping => {
                    last_blocks = Some(tokio::time::Instant::now() + LAST_BLOCKS);
                    self.inbox.close();
                    while let Some(ask) = self.inbox.recv().await {
                        self.decide(ask);
                    }
                }
                _ = majority_check.tick(), if !self.consensus.is_alone() && !stopping => self.check_majority(),
                () = tokio::time::sleep_until(last_blocks.unwrap_or_else(tokio::time::Instant::now)), if stopping => {
                    return Ok(());
                }
                () = tokio::task::yield_now(), if deferred => {}
            }
            self.hand_over().await?;
            if let Some(upto) = self.asked_to_let_go.take() {
                self.consensus.let_go(upto).await?;
            }
            if let Some(Some(ask)) = self.leader(Leader::take_deferred) {
                self.decide(ask);
            }
            self.submit().await?;
            let now = self.now();
            let late = self.leader(|leader| leader.late(now)).unwrap_or_default();
            self.timings.late(late);
            let idle = self.leader(|leader| leader.open_bytes()).unwrap_or_default() == 0;
            if last_blocks.is_some() && self.in_flight.is_empty() && idle {
                return Ok(());
            }
        }
    }

    /// Writes the views when it is time; says when it is time again.
    fn keep(&mut self) -> Result<Option<Monotonic>, ViewsError> {
        let (durable, now) = (self.durable.borrow().index, self.clock.monotonic());
        let state = self.mode.state_mut();
        let (index, end) = (state.applied, state.end);
        let (grown, age) = (end.0 - self.based.0.0, now.saturating_sub(self.based.1));
        let due = grown >= BASE_BYTES || grown > 0 && age >= BASE_EVERY;
        let worth_it = grown >= self.log.segment_bytes() || grown > 0 && age >= BASE_TO_LET_GO;
        if index > BlockIndex(0) && (due || worth_it && self.floor.waits_for_a_base(&self.log, state)) {
            self.based = (end, now);
            self.keeper.want_base();
        }
        self.keeper.turn(state, durable, now);
        state.failure().map_or(Ok(self.keeper.next_turn(state)), Err)
    }

    /// Remembers what the keeper has done.
    fn note(&mut self, kept: &Kept) {
        match kept {
            Kept::Written(index) => self.mode.state_mut().written(*index),
            Kept::Flushed(_) => {}
            Kept::Based(base) => self.floor.based(base),
        }
    }

    /// Gives up what nobody needs of the log.
    async fn let_go(&mut self) -> Result<(), Stopped> {
        let now = self.clock.monotonic();
        match self.floor.let_go(&self.log, self.mode.state(), now) {
            Some(gone) => self.consensus.let_go(gone).await,
            None => Ok(()),
        }
    }

    /// A clean stop leaves a base, so that the next start has nothing to apply.
    async fn finish_views(&mut self) -> Result<(), ViewsError> {
        if self.mode.state().applied > BlockIndex(0) {
            self.keeper.want_base();
        }
        loop {
            self.keep()?;
            if self.keeper.is_idle(self.mode.state()) {
                return Ok(());
            }
            tokio::select! {
                biased;
                kept = self.keeper.ended() => self.note(&kept?),
                changed = self.durable.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.wall(), monotonic: self.clock.monotonic() }
    }

    /// Does something with the leader, if there is one.
    fn leader<T>(&mut self, act: impl FnOnce(&mut Leader) -> T) -> Option<T> {
        match &mut self.mode {
            Mode::Leads(leader) => Some(act(leader)),
            Mode::Follows(_) | Mode::Between => None,
        }
    }

    /// Callers that were answered together come back together: when the log is idle, the first of them waits for the
    /// others to get their turn on the runtime, once. That is no delay when nobody else has work.
    async fn decide_burst(&mut self, first: Ask) {
        self.decide_waiting(first);
        if self.in_flight.is_empty() {
            tokio::task::yield_now().await;
            if let Ok(next) = self.inbox.try_recv() {
                self.decide_waiting(next);
            }
        }
    }

    fn decide_waiting(&mut self, first: Ask) {
        let now = self.now();
        if matches!(self.mode, Mode::Leads(_)) && !self.hears_majority() {
            // This process may have been asleep, and another one leads: nothing it knows is worth an answer.
            return drop(first);
        }
        self.leader(|leader| {
            if leader.next_tick().is_some_and(|at| at <= now.monotonic) {
                // A lease that ended is ready for the very next pop, even when the loop is too busy to wake for it.
                leader.tick(now);
            }
        });
        self.decide(first);
        for _ in 1..TURN {
            match self.inbox.try_recv() {
                Ok(ask) => self.decide(ask),
                Err(_) => return,
            }
        }
    }

    /// Decides, or drops what only a leader can answer.
    fn decide(&mut self, ask: Ask) {
        let now = self.now();
        match (&mut self.mode, ask) {
            (_, Ask::Base) => self.keeper.want_base(),
            (_, Ask::LetGo { upto }) => self.asked_to_let_go = Some(upto),
            (Mode::Leads(_), Ask::HandOver { to: Some(to), reply }) if !self.consensus.may_lead(to) => {
                let _nobody_waits = reply.send(HandedOver::Kept);
            }
            (Mode::Leads(leader), Ask::HandOver { to, reply }) if !self.consensus.is_alone() => {
                leader.leave_word(now);
                self.hand_over.begin(to, reply, now.monotonic);
            }
            (Mode::Leads(leader), ask) => {
                if let Some(answer) = leader.decide(ask, now) {
                    self.give([answer]);
                }
            }
            (Mode::Follows(state), Ask::Dump { reply }) => drop(reply.send(StateDump::of(state))),
            (Mode::Follows(_) | Mode::Between, _) => {}
        }
    }

    /// Tells callers; batches nobody waits for any more are released.
    fn give(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            if let Some(deliveries) = answer.give() {
                let now = self.now();
                self.leader(|leader| leader.decide(Ask::Release { deliveries }, now));
            }
        }
    }

    /// Proposes blocks: full ones at once, a partial one when nothing is on its way or enough came together.
    async fn submit(&mut self) -> Result<(), Stopped> {
        let company = self.log.block_max() / COMPANY_PART;
        while self.in_flight.len() < BLOCKS_IN_FLIGHT && self.mode.state().unwritten_bytes() < UNWRITTEN_MAX {
            let idle = self.in_flight.is_empty();
            let next = self.leader(|leader| {
                let may_be_partial = idle || leader.open_bytes() >= company;
                Some((leader.epoch, leader.take_block(may_be_partial)?))
            });
            let Some(Some((epoch, (ticket, draft)))) = next else { break };
            let first = ticket == self.first_ticket;
            self.consensus.propose(epoch, Proposal { number: ticket.0, first }, draft).await?;
            self.last_ticket = ticket;
            self.in_flight.push_back(ticket);
        }
        self.answer_ready();
        Ok(())
    }

    fn apply_waiting(&mut self, first: Block) -> Result<(), BadBlock> {
        let mut next = Some(first);
        while let Some(block) = next {
            self.apply(&block)?;
            next = self.committed.try_recv().ok();
        }
        self.answer_ready();
        Ok(())
    }

    fn apply(&mut self, block: &Block) -> Result<(), BadBlock> {
        let header = &block.header;
        self.metrics.committed(header.records, block.bytes.len());
        let now = self.now();
        let ours = self.log.proposal_at(header.index).map(Ticket);
        let expected = self.in_flight.front().copied();
        let own_epoch = self.leader(|leader| leader.epoch) == Some(header.term);
        if own_epoch && header.kind == BlockKind::Records && ours != expected {
            // What was proposed before it is not in the log, and this block may have been made empty for that.
            self.step_down();
        }
        let timing = match &mut self.mode {
            Mode::Leads(leader) => {
                let ticket = ours.filter(|_| self.in_flight.pop_front().is_some());
                self.applied = ticket.unwrap_or(self.applied);
                let timing = leader.committed(block, ticket, now)?;
                self.timings.committed(&timing, &leader.state);
                timing
            }
            Mode::Follows(state) => state.apply(block)?.timing,
            Mode::Between => unreachable!("only while the mode changes"),
        };
        self.timings.applied(&timing, self.mode.state());
        self.applied_term = header.term;
        self.transactions.tell(self.mode.state());
        let trimmed = self.mode.state_mut().take_trimmed();
        if trimmed > 0 {
            self.metrics.messages_trimmed(trimmed);
        }
        Ok(())
    }

    fn answer_ready(&mut self) {
        let proposed = self.in_flight.back().copied().unwrap_or(self.applied);
        let answerable = self.rule.answerable(self.applied, proposed);
        let (ack_mode, durable) = (self.settings.ack_mode, *self.durable.borrow_and_update());
        let answers = self.leader(|leader| {
            let stored = match ack_mode {
                AckMode::QuorumFsync => Ticket(0),
                AckMode::LeaderFsync if durable.term == leader.epoch => Ticket(durable.proposal),
                AckMode::LeaderFsync => Ticket(0),
                AckMode::Memory => proposed,
            };
            leader.take_answers(answerable, stored)
        });
        self.give(answers.into_iter().flatten());
    }
}

/// Whoever owns the process may end it next, and a database that is open then is torn down in the midst of its work.
async fn close_views(closing: ViewsFuture<()>) {
    match tokio::time::timeout(LAST_VIEWS, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(event = "views_not_closed", %error, "the views did not close well"),
        Err(_) => tracing::warn!(event = "views_not_closed", "the views did not close within {LAST_VIEWS:?}"),
    }
}
