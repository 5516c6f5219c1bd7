//! How a leader gives the lead away: it decides nothing new, waits until what it decided is committed, and only then lets
//! consensus ask another replica. From there on consensus refuses whatever this one would propose in this epoch, so it
//! leads no more, although nobody else does yet. When the other replica is not there any more, one that is takes over: who
//! gave the lead away sends no heartbeats, so the others elect as soon as one of them has the whole log.

use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::{Epoch, ReplicaId};
use tokio::sync::oneshot::Sender;

/// How long what was decided may take to be committed.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// How long another replica may take to lead until who asked for it hears that none does. Elections without help take
/// that long.
const TAKEN_MAX: Duration = Duration::from_secs(3);

/// How it ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandedOver {
    /// This replica does not lead any more.
    Away,
    /// Nobody else leads: nobody was there to take over, or nobody did in time.
    Kept,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    step: Step,
    /// Who is to lead; else whoever is furthest.
    to: Option<ReplicaId>,
    asked_by: Vec<Sender<HandedOver>>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Leads,
    Finishes {
        until: Monotonic,
    },
    GaveAway {
        epoch: Epoch,
        until: Monotonic,
    },
}

impl HandOver {
    /// Somebody wants another replica to lead, this one if there is a choice. What is under way goes on as it was begun.
    pub(crate) fn begin(&mut self, to: Option<ReplicaId>, asked_by: Sender<HandedOver>, now: Monotonic) {
        self.asked_by.push(asked_by);
        if self.step == Step::Leads {
            self.to = to;
            self.step = Step::Finishes { until: now + FINISH_MAX };
        }
    }

    /// Whether nothing new is to be decided.
    pub(crate) fn is_under_way(&self) -> bool {
        self.step != Step::Leads
    }

    /// Who is to lead.
    pub(crate) fn to(&self) -> Option<ReplicaId> {
        self.to
    }

    /// Whether it is time to ask consensus; `idle`: all that was decided is committed.
    pub(crate) fn is_due(&self, idle: bool, now: Monotonic) -> bool {
        matches!(self.step, Step::Finishes { until } if idle || until <= now)
    }

    /// Consensus asked another replica to take over from this one, which led in `epoch`.
    pub(crate) fn gave_away(&mut self, epoch: Epoch, now: Monotonic) {
        self.step = Step::GaveAway { epoch, until: now + TAKEN_MAX };
    }

    /// What consensus says: this replica leads in `epoch`, or not at all. Ends what is under way when this epoch is over;
    /// who waits for that hears earlier when it takes too long.
    pub(crate) fn saw(&mut self, leads_in: Option<Epoch>, now: Monotonic) {
        match self.step {
            Step::Leads => {}
            Step::Finishes { .. } if leads_in.is_some() => {}
            Step::GaveAway { epoch, until } if leads_in == Some(epoch) => {
                if now >= until {
                    self.tell(HandedOver::Kept);
                }
            }
            Step::Finishes { .. } | Step::GaveAway { .. } if leads_in.is_some() => self.end(HandedOver::Kept),
            Step::Finishes { .. } | Step::GaveAway { .. } => self.end(HandedOver::Away),
        }
    }

    /// Nobody is there to lead instead, or somebody does.
    pub(crate) fn end(&mut self, how: HandedOver) {
        self.step = Step::Leads;
        self.tell(how);
    }

    fn tell(&mut self, how: HandedOver) {
        for asked_by in self.asked_by.drain(..) {
            let _nobody_waits = asked_by.send(how);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    const EPOCH: Epoch = Epoch(4);

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(millis))
    }

    #[test]
    fn what_was_decided_is_committed_first() {
        let (asked_by, mut answer) = oneshot::channel();
        let mut hand_over = HandOver::default();
        assert!(!hand_over.is_under_way() && !hand_over.is_due(true, at(0)));
        hand_over.begin(None, asked_by, at(0));
        hand_over.saw(Some(EPOCH), at(1));
        assert!(hand_over.is_under_way());
        assert!(!hand_over.is_due(false, at(999)));
        assert!(hand_over.is_due(true, at(1)) && hand_over.is_due(false, at(1000)));
        hand_over.gave_away(EPOCH, at(5));
        hand_over.saw(Some(EPOCH), at(6));
        assert!(hand_over.is_under_way() && !hand_over.is_due(true, at(6)));
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
        hand_over.saw(None, at(30));
        assert!(!hand_over.is_under_way());
        assert_eq!(answer.try_recv(), Ok(HandedOver::Away));
    }

    #[test]
    fn a_lead_that_nobody_takes_is_not_taken_back() {
        let (asked_by, mut answer) = oneshot::channel();
        let mut hand_over = HandOver::default();
        hand_over.begin(None, asked_by, at(0));
        hand_over.gave_away(EPOCH, at(0));
        hand_over.saw(Some(EPOCH), at(2999));
        assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
        hand_over.saw(Some(EPOCH), at(3000));
        assert_eq!(answer.try_recv(), Ok(HandedOver::Kept));
        let (asked_by, mut answer) = oneshot::channel();
        hand_over.begin(None, asked_by, at(4000));
        hand_over.saw(Some(EPOCH), at(4000));
        assert_eq!(answer.try_recv(), Ok(HandedOver::Kept));
        assert!(hand_over.is_under_way() && !hand_over.is_due(true, at(4000)), "consensus would refuse all of it");
        hand_over.saw(None, at(5000));
        assert!(!hand_over.is_under_way());
    }

    #[test]
    fn a_lead_that_is_lost_meanwhile_or_won_anew_ends_it() {
        for next in [None, Some(Epoch(6))] {
            let mut hand_over = HandOver::default();
            hand_over.begin(None, oneshot::channel().0, at(0));
            hand_over.gave_away(EPOCH, at(0));
            hand_over.saw(next, at(1));
            assert!(!hand_over.is_under_way());
        }
        let mut hand_over = HandOver::default();
        hand_over.begin(None, oneshot::channel().0, at(0));
        hand_over.saw(None, at(1));
        assert!(!hand_over.is_under_way());
    }
}
