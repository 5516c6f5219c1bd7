//! How a member without a journal comes in.
//!
//! Either nobody has a journal, and the members found a group; or this one has lost its own, and with it whom it voted for
//! and what it said it had. Its old votes and words may still count somewhere, so it must not give others that
//! contradict them. It asks all the others, takes the highest vote for its own, and neither votes nor stands for election
//! before it has as many entries as the longest log that it was told of. What it had acknowledged is in the log of
//! whoever led then, and nobody without those entries can have been elected since without the vote that it now keeps back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::{Answer, Peers, Question, Standing};
use crate::journal::{Book, Step, Vote};

/// Pause before members that did not answer are asked again, and the wait for an answer.
const AGAIN: Duration = Duration::from_millis(200);
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Kept shut until this member has as many entries as it may have had before. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicU64>);

/// What a member without a journal is to do.
#[derive(Clone, Debug)]
pub(crate) enum Founding {
    /// All begin together.
    Begin,
    /// The others have gone on without this one. To be kept before anything is answered.
    CatchUp(Vec<Step>),
}

impl Gate {
    /// Shut if this member once lost its journal and has not caught up since.
    pub(crate) fn of(book: &Book) -> Self {
        let wanted = book.catch_up.map_or(0, |index| index.saturating_add(1));
        Self(Arc::new(AtomicU64::new(if book.next() >= wanted { 0 } else { wanted })))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// The log has entries up to `index`. Says whether that opens it.
    pub(super) fn has(&self, index: u64) -> bool {
        let wanted = self.0.load(Ordering::Acquire);
        let opens = wanted != 0 && index.saturating_add(1) >= wanted;
        if opens {
            self.0.store(0, Ordering::Release);
            tracing::info!(event = "namesrv_caught_up", index, "this member votes again");
        }
        opens
    }
}

/// Asks all others until every one of them has answered.
pub(crate) async fn found(me: u64, members: &BTreeSet<u64>, peers: &dyn Peers) -> Founding {
    let mut told = false;
    loop {
        let others = members.iter().filter(|member| **member != me);
        let answers = join_all(others.map(|to| timeout(ANSWER_MAX, peers.ask(*to, Question::Standing)))).await;
        let standings: Vec<Standing> = answers
            .into_iter()
            .filter_map(|answer| match answer {
                Ok(Ok(Answer::Standing(standing))) => Some(standing),
                Ok(Ok(_) | Err(_)) | Err(_) => None,
            })
            .collect();
        if standings.len() + 1 == members.len() {
            return decide(me, &standings);
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(
                event = "namesrv_waits_for_members",
                "this member has no journal; it waits until it has heard from all the others"
            );
        }
        sleep(AGAIN).await;
    }
}

fn decide(me: u64, standings: &[Standing]) -> Founding {
    let used = standings.iter().filter_map(|standing| match standing {
        Standing::Fresh => None,
        Standing::Used { vote, last } => Some((*vote, *last)),
    });
    let used: Vec<_> = used.collect();
    if used.is_empty() {
        return Founding::Begin;
    }
    let votes: Vec<Vote> = used.iter().filter_map(|(vote, _)| *vote).filter(|vote| vote.term > 0).collect();
    let vote = highest(me, &votes).map(Step::Vote);
    // The first entry names the members and is the same everywhere; before another one nothing was ever decided.
    let last = used.iter().filter_map(|(_, last)| *last).map(|last| last.index).max().filter(|last| *last > 0);
    Founding::CatchUp(vote.into_iter().chain(last.map(Step::CatchUp)).collect())
}

/// The vote that contradicts none this member may have given. Where two members stood in the same term, it is none of
/// theirs.
fn highest(me: u64, votes: &[Vote]) -> Option<Vote> {
    let highest = *votes.iter().max_by_key(|vote| (vote.term, vote.won))?;
    let rival = |vote: &&Vote| vote.term == highest.term && vote.member != highest.member;
    let contested = !highest.won && votes.iter().any(|vote| rival(&vote));
    Some(if contested { Vote { term: highest.term + 1, member: me, won: false } } else { highest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Place, What};

    fn vote(term: u64, member: u64, won: bool) -> Vote {
        Vote { term, member, won }
    }

    fn used(vote: Vote, index: u64) -> Standing {
        Standing::Used { vote: Some(vote), last: Some(Place { term: 1, index }) }
    }

    fn steps(standings: &[Standing]) -> Vec<Step> {
        match decide(9, standings) {
            Founding::Begin => panic!("somebody was there before"),
            Founding::CatchUp(steps) => steps,
        }
    }

    #[test]
    fn members_begin_only_when_all_are_fresh() {
        assert!(matches!(decide(9, &[Standing::Fresh, Standing::Fresh]), Founding::Begin));
        assert_eq!(steps(&[Standing::Fresh, used(vote(0, 1, false), 0)]), []);
    }

    #[test]
    fn who_lost_its_journal_takes_the_highest_vote_and_catches_up() {
        let won = vote(3, 1, true);
        let expected = [Step::Vote(won), Step::CatchUp(7)];
        assert_eq!(steps(&[used(vote(3, 2, false), 7), used(won, 5)]), expected);
        let contested = [used(vote(3, 2, false), 7), used(vote(3, 1, false), 5)];
        assert_eq!(steps(&contested), [Step::Vote(vote(4, 9, false)), Step::CatchUp(7)]);
    }

    #[test]
    fn the_gate_opens_with_the_last_entry_and_stays_so() {
        let mut book = Book::default();
        assert!(Gate::of(&book).is_open());
        book.turn(&Step::CatchUp(1)).unwrap();
        let gate = Gate::of(&book);
        assert!(!gate.has(0) && !gate.is_open());
        assert!(gate.has(1) && gate.is_open());
        for index in 0..2 {
            assert!(!Gate::of(&book).is_open());
            book.turn(&Step::Append(Entry { at: Place { term: 1, index }, what: What::Blank })).unwrap();
        }
        assert!(Gate::of(&book).is_open());
    }
}
