//! The replica outside: it asks until it is one of the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Disk, Entropy};
use apogee_model::ReplicaId;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ear::{Ear, Past};
use super::frames::{self, Standing};
use crate::commitlog::{Admission, OpenError};
use crate::peers::Peers;
use crate::raft::wire;
use crate::replica::{Instance, Member};
use crate::seating::Seating;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// From one round of questions to the next, and up to a quarter more.
const PAUSE: Duration = Duration::from_millis(500);
/// While everybody is fresh, the founders come as soon as the smallest replica has written them down.
const PAUSE_FRESH: Duration = Duration::from_millis(50);

/// Who asks, and whom.
pub(crate) struct Asker {
    pub(crate) me: Member,
    pub(crate) past: Past,
    /// All that are known are asked; only [`Seating::replicas`] found the group.
    pub(crate) seating: watch::Receiver<Seating>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) ear: Ear,
}

/// What follows from one round of answers.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Found(BTreeSet<Member>),
    /// As [`Outcome::Found`], because somebody else did.
    Follow(BTreeSet<Member>),
    TakenIn,
    Wait {
        pause: Duration,
        why: String,
    },
}

impl Asker {
    /// Returns how this replica came in, durably. Waits for as long as it takes: nobody else can help it.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) async fn join(self, disk: &dyn Disk) -> Result<Admission, OpenError> {
        self.ear.is_outside(self.me, self.past);
        loop {
            let said_fresh = self.ear.said_fresh();
            let seating = self.seating.borrow().clone();
            let answers = self.ask_all(&seating).await;
            let admission = match self.outcome(&seating, &answers) {
                Outcome::Wait { pause, why } => {
                    self.wait(pause, why).await;
                    continue;
                }
                // Nobody else makes founders, so it does not matter who heard meanwhile that this replica is fresh.
                Outcome::Found(founders) => Admission::Founder(founders),
                Outcome::TakenIn => Admission::TakenIn,
                Outcome::Follow(founders) if self.ear.says_fresh_no_more(said_fresh) => Admission::Founder(founders),
                Outcome::Follow(_) => continue,
            };
            admission.write(disk).await?;
            tracing::info!(event = "joined", me = %self.me, how = %admission, "this replica is one of its group");
            return Ok(admission);
        }
    }

    async fn ask_all(&self, seating: &Seating) -> BTreeMap<ReplicaId, Standing> {
        let others = seating.known().filter(|replica| *replica != self.me.replica);
        let answers = join_all(others.map(|replica| async move {
            let frame = wire::meant_for(Instance::default(), frames::join(self.me));
            let answer = timeout(ANSWER_MAX, self.peers.call(replica, frame)).await.ok()?.ok()?;
            Some((replica, frames::read_standing(&answer).ok()?))
        }));
        answers.await.into_iter().flatten().collect()
    }

    async fn wait(&self, pause: Duration, why: String) {
        if self.ear.waits().borrow().as_ref() != Some(&why) {
            tracing::warn!(event = "not_a_member_yet", me = %self.me, why, "this replica does not take part yet");
        }
        self.ear.waits_for(Some(why));
        let quarter = u64::try_from(pause.as_millis()).expect("a pause is short") / 4;
        sleep(pause + Duration::from_millis(self.entropy.next_u64() % (quarter + 1))).await;
    }

    fn outcome(&self, seating: &Seating, answers: &BTreeMap<ReplicaId, Standing>) -> Outcome {
        let (me, replicas) = (self.me, &seating.replicas);
        if answers.values().any(|answer| *answer == Standing::Member) {
            return Outcome::TakenIn;
        }
        let wait = |pause, why| Outcome::Wait { pause, why };
        let mut founders = answers.values().filter_map(|answer| match answer {
            Standing::Founded(founders) => Some(founders),
            Standing::Fresh(_) | Standing::Member | Standing::Unknown { .. } => None,
        });
        if let Some(founders) = founders.find(|founders| founders.contains(&me)) {
            let founded: BTreeSet<_> = founders.iter().map(|founder| founder.replica).collect();
            if founded == *replicas {
                return Outcome::Follow(founders.clone());
            }
            let why = format!("replica.peers differs: the replica group was founded by {}", listed(&founded));
            return wait(PAUSE, why);
        }
        let others = replicas.iter().filter(|replica| **replica != me.replica);
        let silent: BTreeSet<_> = others.copied().filter(|replica| !answers.contains_key(replica)).collect();
        // Whoever comes is no founder; but it may know that there is a replica group.
        let fresh = answers
            .iter()
            .filter(|(replica, answer)| replicas.contains(replica) || !matches!(answer, Standing::Fresh(_)));
        let fresh = fresh.map(|(replica, answer)| match answer {
            Standing::Fresh(instance) => Some(Member { replica: *replica, instance: *instance }),
            Standing::Founded(_) | Standing::Member | Standing::Unknown { .. } => None,
        });
        match fresh.collect::<Option<BTreeSet<_>>>() {
            None => wait(PAUSE, "the replica group has not taken this replica in yet".to_owned()),
            Some(_) if !silent.is_empty() => {
                wait(PAUSE, format!("replica {} has not said whether there is a replica group", listed(&silent)))
            }
            Some(_) if self.past == Past::Lost => {
                wait(PAUSE, "what this replica held is lost, and nobody else has anything".to_owned())
            }
            Some(_) if self.past == Past::Comes => {
                wait(PAUSE, "the others have not founded the replica group yet".to_owned())
            }
            Some(fresh) if replicas.first() == Some(&me.replica) => {
                Outcome::Found(fresh.into_iter().chain([me]).collect())
            }
            Some(_) => wait(PAUSE_FRESH, "the first replica has not founded the replica group yet".to_owned()),
        }
    }
}

fn listed(replicas: &BTreeSet<ReplicaId>) -> String {
    replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use apogee_host::SeededEntropy;

    use super::*;
    use crate::open::Nobody;
    use crate::seating::Exchange;

    fn life(replica: u64, instance: u64) -> Member {
        Member { replica: ReplicaId(replica), instance: Instance(instance) }
    }

    /// What replica `me` of 1, 2 and 3, in whose place 4 comes, makes of these answers; its instance is 10 times its number.
    fn outcome(me: u64, answers: &[(u64, Standing)]) -> Outcome {
        let exchange = Exchange { leaves: ReplicaId(1), comes: ReplicaId(4), swaps: false };
        let seating = Seating { exchange: Some(exchange), ..Seating::of([1, 2, 3].map(ReplicaId)) };
        let asker = Asker {
            me: life(me, me * 10),
            past: if me == 4 { Past::Comes } else { Past::Fresh },
            seating: seating.clone().fixed(),
            peers: Arc::new(Nobody),
            entropy: Arc::new(SeededEntropy::new(1)),
            ear: Ear::default(),
        };
        let answers = answers.iter().map(|(replica, answer)| (ReplicaId(*replica), answer.clone()));
        asker.outcome(&seating, &answers.collect())
    }

    fn waits(me: u64, answers: &[(u64, Standing)]) -> String {
        match outcome(me, answers) {
            Outcome::Wait { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    fn fresh(instance: u64) -> Standing {
        Standing::Fresh(Instance(instance))
    }

    #[test]
    fn only_the_first_founds_and_only_when_all_are_fresh() {
        let all = BTreeSet::from([life(1, 10), life(2, 20), life(3, 30)]);
        assert_eq!(outcome(1, &[(2, fresh(20)), (3, fresh(30))]), Outcome::Found(all.clone()));
        assert!(waits(2, &[(1, fresh(10)), (3, fresh(30))]).contains("the first replica"));
        assert!(waits(1, &[(2, fresh(20))]).contains("replica 3 has not said"));
        assert!(waits(1, &[]).contains("replica 2, 3 has not said"));
        let unknown = Standing::Unknown { leader: None };
        assert!(waits(1, &[(2, unknown.clone()), (3, fresh(30))]).contains("has not taken this replica in"));
        assert_eq!(outcome(2, &[(1, Standing::Founded(all.clone())), (3, fresh(30))]), Outcome::Follow(all.clone()));
        assert_eq!(outcome(2, &[(1, unknown), (3, Standing::Member)]), Outcome::TakenIn);
    }

    #[test]
    fn whoever_comes_founds_nothing_and_does_not_hinder_those_who_do() {
        let all = BTreeSet::from([life(1, 10), life(2, 20), life(3, 30)]);
        assert!(waits(4, &[(1, fresh(10)), (2, fresh(20)), (3, fresh(30))]).contains("have not founded"));
        assert!(waits(4, &[(1, Standing::Founded(all.clone()))]).contains("has not taken this replica in"));
        assert_eq!(outcome(4, &[(2, Standing::Member)]), Outcome::TakenIn);
        let founders = [(2, fresh(20)), (3, fresh(30))];
        let with = |answer| [founders.as_slice(), &[(4, answer)]].concat();
        assert_eq!(outcome(1, &with(fresh(40))), Outcome::Found(all));
        let knows_better = Standing::Unknown { leader: None };
        assert!(waits(1, &with(knows_better)).contains("has not taken this replica in"));
    }

    #[test]
    fn founders_of_whom_it_is_none_do_not_count() {
        let other_life = BTreeSet::from([life(1, 10), life(2, 99), life(3, 30)]);
        assert!(waits(2, &[(1, Standing::Founded(other_life)), (3, fresh(30))]).contains("taken this replica in"));
        let fewer = BTreeSet::from([life(1, 10), life(2, 20)]);
        assert!(waits(2, &[(1, Standing::Founded(fewer))]).contains("founded by 1, 2"));
    }
}
