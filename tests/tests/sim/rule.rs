//! The build under test: the honest one, or one that forgets something.

use apogee_engine::{AfterCommit, AnswerRule, Ticket};

/// See the module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    Honest,
    /// Answers when a block is proposed, whoever has it by then.
    BeforeCommit,
    /// Decides as soon as it is elected, before it knows what its predecessors committed.
    Hasty,
}

impl AnswerRule for Rule {
    fn answerable(&self, committed: Ticket, proposed: Ticket) -> Ticket {
        match self {
            Rule::BeforeCommit => proposed,
            Rule::Honest | Rule::Hasty => AfterCommit.answerable(committed, proposed),
        }
    }

    fn may_decide(&self, own_entry_applied: bool) -> bool {
        match self {
            Rule::Hasty => true,
            Rule::Honest | Rule::BeforeCommit => AfterCommit.may_decide(own_entry_applied),
        }
    }
}
