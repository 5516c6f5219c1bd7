//! The loop that owns the leader: takes requests, hands blocks to the log, gives answers when they are committed.

use std::collections::VecDeque;
use std::sync::Arc;

use apogee_host::{Clock, Exit, ExitWith};
use apogee_model::BlockIndex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::block::Block;
use crate::commitlog::{Appender, Durable, LogReader, Sealed};
use crate::leader::{Answer, Ask, Leader, Now};
use crate::metrics::Metrics;
use crate::state::BadBlock;

/// While a block is on its way, a partial one waits for company until it has this size.
const COMPANY_BYTES: usize = 256 << 10;
/// Blocks on their way to the disk.
const BLOCKS_IN_FLIGHT: usize = 4;
/// Requests taken before the loop looks at the log again.
const TURN: usize = 512;

/// Says from when on an answer may be given. There is one right rule, [`AfterCommit`]; tests break it to see that
/// their checks notice.
pub trait AnswerRule: Send + 'static {
    /// The newest block whose answers may be given.
    fn answerable(&self, committed: BlockIndex, written: BlockIndex) -> BlockIndex;
}

/// Nothing that a client can see leaves before its record is committed.
#[derive(Copy, Clone, Debug, Default)]
pub struct AfterCommit;

impl AnswerRule for AfterCommit {
    fn answerable(&self, committed: BlockIndex, _written: BlockIndex) -> BlockIndex {
        committed
    }
}

/// One of our own blocks could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("the leader cannot apply its own block")]
pub(crate) struct ProposerFailed(#[from] BadBlock);

impl ExitWith for ProposerFailed {
    fn exit(&self) -> Exit {
        Exit::Bug
    }
}

/// See the module.
pub(crate) struct Proposer<R> {
    pub(crate) leader: Leader,
    pub(crate) appender: Appender,
    pub(crate) reader: LogReader,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbox: mpsc::Receiver<Ask>,
    pub(crate) log: mpsc::Sender<Sealed>,
    pub(crate) durable: watch::Receiver<Durable>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rule: R,
    /// Written and not committed, oldest first.
    pub(crate) in_flight: VecDeque<Sealed>,
}

impl<R: AnswerRule> Proposer<R> {
    /// Runs until `stop`, then finishes what was decided. When the log ends first, so does this, without an answer to
    /// anybody: whether their requests were carried out is unknown.
    ///
    /// # Errors
    /// [`ProposerFailed`] when a block of our own cannot be applied.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), ProposerFailed> {
        let mut stopping = false;
        loop {
            let tick = self.leader.next_tick().map(|at| at.saturating_sub(self.clock.monotonic()));
            tokio::select! {
                biased;
                changed = self.durable.changed() => match changed {
                    Ok(()) => self.commit()?,
                    Err(_) => return Ok(()),
                },
                ask = self.inbox.recv(), if !stopping => match ask {
                    Some(ask) => self.decide_burst(ask).await,
                    None => stopping = true,
                },
                () = tokio::time::sleep(tick.unwrap_or_default()), if tick.is_some() && !stopping => {
                    self.leader.tick(self.now());
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.inbox.close();
                    while let Some(ask) = self.inbox.recv().await {
                        self.decide(ask);
                    }
                }
                () = tokio::task::yield_now(), if self.leader.has_deferred() => {}
            }
            if let Some(ask) = self.leader.take_deferred() {
                self.decide(ask);
            }
            if self.submit().await.is_err() {
                return Ok(());
            }
            if stopping && self.in_flight.is_empty() && self.leader.open_bytes() == 0 {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.wall(), monotonic: self.clock.monotonic() }
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
        if self.leader.next_tick().is_some_and(|at| at <= now.monotonic) {
            // A lease that ended is ready for the very next pop, even when the loop is too busy to wake for it.
            self.leader.tick(now);
        }
        self.decide(first);
        for _ in 1..TURN {
            match self.inbox.try_recv() {
                Ok(ask) => self.decide(ask),
                Err(_) => return,
            }
        }
    }

    fn decide(&mut self, ask: Ask) {
        let now = self.now();
        if let Some(answer) = self.leader.decide(ask, now) {
            self.give([answer]);
        }
    }

    /// Tells callers; batches nobody waits for any more are released.
    fn give(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            if let Some(deliveries) = answer.give() {
                let now = self.now();
                self.leader.decide(Ask::Release { deliveries }, now);
            }
        }
    }

    /// Hands blocks to the log: full ones at once, a partial one when the log is idle or enough came together.
    async fn submit(&mut self) -> Result<(), mpsc::error::SendError<Sealed>> {
        while self.in_flight.len() < BLOCKS_IN_FLIGHT {
            let may_be_partial = self.in_flight.is_empty() || self.leader.open_bytes() >= COMPANY_BYTES;
            let Some((index, draft)) = self.leader.take_block(may_be_partial) else { break };
            let (filler, sealed) = self.appender.seal(draft, self.leader.state.applied);
            assert_eq!(sealed.header.index, index, "blocks reach the log in the order they were decided");
            self.reader.add_block(sealed.header.lsn, sealed.bytes.clone());
            for block in filler.into_iter().chain([sealed.clone()]) {
                self.log.send(block).await?;
            }
            self.in_flight.push_back(sealed);
        }
        self.answer_ready();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), ProposerFailed> {
        let durable = self.durable.borrow_and_update().index;
        while let Some(sealed) = self.in_flight.pop_front_if(|sealed| sealed.header.index <= durable) {
            self.metrics.committed(sealed.header.records, sealed.bytes.len());
            let Sealed { header, bytes, hash } = sealed;
            let now = self.now();
            self.leader.committed(&Block { header, bytes, hash }, now)?;
        }
        self.answer_ready();
        Ok(())
    }

    fn answer_ready(&mut self) {
        let written = self.in_flight.back().map_or(self.leader.state.applied, |sealed| sealed.header.index);
        let answerable = self.rule.answerable(self.leader.state.applied, written);
        let answers = self.leader.take_answers(answerable);
        self.give(answers);
    }
}
