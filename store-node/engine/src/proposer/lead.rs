//! Taking the lead, and giving it up: because another replica has it, because nobody is heard, because the log refused what
//! was proposed, or because somebody asked for it.

use std::time::Duration;

use apogee_model::Epoch;

use super::{AnswerRule, Mode, Proposer};
use crate::hand_over::HandedOver;
use crate::leader::{Leader, Ticket};
use crate::raft::Stopped;
use crate::replica::Role;
use crate::state::BadBlock;

/// A leader that hears no majority for this long tells its callers that nobody knows what became of their requests.
const MAJORITY_LOST: Duration = Duration::from_secs(2);

impl<R: AnswerRule> Proposer<R> {
    /// Tells callers that nobody knows what became of their requests, when no majority was heard for long.
    pub(super) fn check_majority(&mut self) {
        let now = self.clock.monotonic();
        if self.consensus.has_majority() {
            self.majority_at = now;
        } else if now.saturating_sub(self.majority_at) >= MAJORITY_LOST {
            self.step_down();
        }
    }

    /// Takes the lead when it is ours to take, gives it up when it is not ours any more, and says which.
    pub(super) fn follow_role(&mut self) -> Result<(), BadBlock> {
        let role = self.consensus.role();
        let epoch = self.leader(|leader| leader.epoch);
        let ours = match role {
            Role::Leader { epoch } => Some(epoch),
            Role::Follower { .. } => None,
        };
        if epoch.is_some() && epoch != ours {
            self.step_down();
        }
        self.hand_over.saw(ours, self.clock.monotonic());
        // What an earlier leader of this replica proposed has to be decided before anything new can rest on it.
        let free = self.consensus.is_settled() && self.hears_majority() && !self.hand_over.is_under_way();
        if let Some(epoch) = ours.filter(|_| free && matches!(self.mode, Mode::Follows(_))) {
            while let Ok(block) = self.committed.try_recv() {
                self.apply(&block)?;
            }
            self.take_lead(epoch);
        }
        let shown = match (&self.mode, role) {
            (Mode::Leads(leader), _) if self.hears_majority() && !self.hand_over.is_under_way() => {
                Role::Leader { epoch: leader.epoch }
            }
            (_, Role::Follower { leader }) => Role::Follower { leader },
            (_, Role::Leader { .. }) => Role::Follower { leader: None },
        };
        self.role.send_if_modified(|role| std::mem::replace(role, shown) != shown);
        Ok(())
    }

    /// Whether what this replica knows is worth an answer. A rule that lets a leader decide before it knows what was
    /// committed does not care.
    pub(super) fn hears_majority(&self) -> bool {
        self.consensus.has_majority() || self.rule.may_decide(false)
    }

    fn take_lead(&mut self, epoch: Epoch) {
        let own_entry_applied = self.applied_term == epoch;
        let again = self.refused_in == Some(epoch) && !self.consensus.has_majority();
        if !matches!(self.mode, Mode::Follows(_)) || again || !self.rule.may_decide(own_entry_applied) {
            return;
        }
        let Mode::Follows(state) = std::mem::replace(&mut self.mode, Mode::Between) else { unreachable!("seen above") };
        tracing::info!(event = "leads", %epoch, applied = %state.position().index, "this replica leads");
        // Tickets go on where the leader before ended.
        self.applied = self.last_ticket;
        self.first_ticket = Ticket(self.last_ticket.0 + 1);
        let mut leader = Leader::new(*state, epoch, self.first_ticket, self.settings.terms, self.now());
        leader.limit_blocks(self.log.block_max());
        leader.ask_through(&self.desk);
        self.mode = Mode::Leads(Box::new(leader));
        self.majority_at = self.clock.monotonic();
    }

    /// Callers that wait for an answer hear that nobody knows.
    pub(super) fn step_down(&mut self) {
        self.in_flight.clear();
        match std::mem::replace(&mut self.mode, Mode::Between) {
            Mode::Leads(leader) => {
                tracing::info!(event = "leads_no_more", epoch = %leader.epoch, "this replica leads no more");
                self.mode = Mode::Follows(Box::new(leader.into_state()));
            }
            other => self.mode = other,
        }
    }

    /// What was proposed after a refused block rests on something that never was, and the log makes nothing of it. The
    /// next leader begins, in this epoch or another, when everything of this one is decided.
    pub(super) fn refused(&mut self, ticket: Ticket) {
        if self.in_flight.contains(&ticket) {
            self.refused_in = self.leader(|leader| leader.epoch);
            self.step_down();
        }
    }

    /// Lets another replica lead when everything that was decided is committed.
    pub(super) async fn hand_over(&mut self) -> Result<(), Stopped> {
        let open_bytes = self.leader(|leader| leader.open_bytes()).unwrap_or_default();
        if !self.hand_over.is_due(self.in_flight.is_empty() && open_bytes == 0, self.clock.monotonic()) {
            return Ok(());
        }
        // Consensus may let this replica lead that cannot, because a block of it was refused.
        let Role::Leader { epoch } = self.consensus.role() else {
            self.hand_over.end(HandedOver::Away);
            return Ok(());
        };
        match self.consensus.hand_over(self.hand_over.to()).await? {
            Some(to) => {
                tracing::info!(event = "hands_over", %epoch, %to, "this replica lets another one lead");
                self.hand_over.gave_away(epoch, self.clock.monotonic());
                self.step_down();
            }
            None => self.hand_over.end(HandedOver::Kept),
        }
        Ok(())
    }
}
