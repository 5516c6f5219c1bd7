use openraft::Membership;

use super::*;

fn life(replica: u64, instance: u64) -> Member {
    Member { replica: ReplicaId(replica), instance: Instance(instance) }
}

fn lives(members: &[(u64, u64)]) -> BTreeSet<Member> {
    members.iter().map(|(replica, instance)| life(*replica, *instance)).collect()
}

type Lives = &'static [(u64, u64)];

/// What a leader sees.
#[derive(Copy, Clone)]
struct Case {
    me: (u64, u64),
    replicas: &'static [u64],
    exchange: Option<Exchange>,
    last: u64,
    configs: &'static [Lives],
    learners: Lives,
    wanted: Lives,
    heard: Lives,
    up_to_date: Lives,
}

/// Replica 1 leads replicas 1 to 3, of which 3 is silent.
const CALM: Case = Case {
    me: (1, 10),
    replicas: &[1, 2, 3],
    exchange: None,
    last: 3,
    configs: &[&[(1, 10), (2, 20), (3, 30)]],
    learners: &[],
    wanted: &[],
    heard: &[(2, 20)],
    up_to_date: &[(2, 20)],
};

const fn exchange(leaves: u64, comes: u64, swaps: bool) -> Option<Exchange> {
    Some(Exchange { leaves: ReplicaId(leaves), comes: ReplicaId(comes), swaps })
}

const NEITHER_LACKS: Lives = &[(2, 20), (3, 30), (4, 40)];

/// Replica 4 learned all it needs to take the place of 3, and may not yet.
const JOINED: Case = Case {
    exchange: exchange(3, 4, false),
    last: 4,
    learners: &[(4, 40)],
    heard: NEITHER_LACKS,
    up_to_date: NEITHER_LACKS,
    ..CALM
};

/// It may.
const SWAPS: Case = Case { exchange: exchange(3, 4, true), ..JOINED };

/// It did.
const SWAPPED: Case = Case { configs: &[&[(1, 10), (2, 20), (4, 40)]], learners: &[], ..SWAPS };

impl Case {
    /// What is next, and what is reached.
    fn look(&self) -> (Option<Change>, Option<Reached>) {
        let configs: Vec<_> = self.configs.iter().map(|config| lives(config)).collect();
        let nodes = configs.iter().flatten().copied().chain(lives(self.learners)).map(|member| (member, ()));
        let membership = Membership::new(configs.clone(), nodes.collect::<BTreeMap<_, _>>()).unwrap();
        let replicas = self.replicas.iter().copied().map(ReplicaId).collect();
        let seating = Seating { replicas, exchange: self.exchange, last: ReplicaId(self.last) };
        let wanted = self.wanted.iter().map(|(replica, instance)| (ReplicaId(*replica), Instance(*instance)));
        let view = View {
            me: life(self.me.0, self.me.1),
            seating: &seating,
            membership: &membership,
            wanted: wanted.collect(),
            heard: lives(self.heard),
            up_to_date: lives(self.up_to_date),
        };
        (view.next(), view.reached())
    }
}

fn next(case: Case) -> Option<Change> {
    case.look().0
}

fn reached(case: Case) -> Option<ReachedHow> {
    let reached = case.look().1?;
    assert_eq!(Some(reached.comes), case.exchange.map(|exchange| exchange.comes));
    Some(reached.how)
}

fn takes_in(replica: u64, instance: u64, instead_of: &[(u64, u64)]) -> Option<Change> {
    Some(Change::TakeIn { learner: life(replica, instance), instead_of: lives(instead_of) })
}

fn promotes(replica: u64, instance: u64, voters: &[(u64, u64)]) -> Option<Change> {
    Some(Change::Promote { learner: life(replica, instance), voters: lives(voters) })
}

fn forgets(strangers: &[(u64, u64)]) -> Option<Change> {
    Some(Change::Forget { strangers: lives(strangers) })
}

fn swaps(replica: u64, instance: u64, voters: &[(u64, u64)]) -> Option<Change> {
    Some(Change::Swap { learner: life(replica, instance), voters: lives(voters) })
}

#[test]
fn whoever_asks_becomes_a_learner_and_then_a_voter() {
    assert_eq!(next(CALM), None);
    let asks = Case { wanted: &[(3, 31)], ..CALM };
    assert_eq!(next(asks), takes_in(3, 31, &[]));
    let behind = Case { learners: &[(3, 31)], heard: &[(2, 20), (3, 31)], ..asks };
    assert_eq!(next(behind), None);
    let there = Case { up_to_date: &[(2, 20), (3, 31)], wanted: &[], ..behind };
    assert_eq!(next(there), promotes(3, 31, &[(1, 10), (2, 20), (3, 31)]));
    let silent = Case { heard: &[(2, 20)], ..there };
    assert_eq!(next(silent), None);
}

#[test]
fn a_life_that_ended_as_a_learner_makes_room_for_the_next() {
    let again = Case { learners: &[(3, 31)], wanted: &[(3, 32)], ..CALM };
    assert_eq!(next(again), takes_in(3, 32, &[(3, 31)]));
}

#[test]
fn what_an_earlier_leader_left_is_ended_first() {
    let joint: &[Lives] = &[&[(1, 10), (2, 20), (3, 30)], &[(1, 10), (2, 20), (3, 31)]];
    let left = Case { configs: joint, wanted: &[(2, 21)], ..CALM };
    assert_eq!(next(left), Some(Change::EndJoint));
    // In the midst of a swap, whatever this leader knows of it.
    let joint: &[Lives] = &[&[(1, 10), (2, 20), (3, 30)], &[(1, 10), (2, 20), (4, 40)]];
    for seating in [CALM, JOINED, SWAPS] {
        let left = Case { configs: joint, learners: &[], ..seating };
        assert_eq!(left.look(), (Some(Change::EndJoint), None));
    }
}

#[test]
fn nobody_replaces_a_voter_that_answers_or_the_leader_or_comes_uninvited() {
    assert_eq!(next(Case { wanted: &[(2, 21)], ..CALM }), None);
    assert_eq!(next(Case { wanted: &[(1, 11)], ..CALM }), None);
    assert_eq!(next(Case { wanted: &[(4, 40)], ..CALM }), None);
}

#[test]
fn a_group_of_one_grows_to_what_its_seating_says() {
    let grows = Case { configs: &[&[(1, 10)]], wanted: &[(2, 20), (3, 30)], heard: &[], up_to_date: &[], ..CALM };
    assert_eq!(next(grows), takes_in(2, 20, &[]));
}

#[test]
fn whoever_comes_learns_and_gets_no_vote_before_it_is_allowed() {
    let asks = Case { learners: &[], wanted: &[(4, 40)], ..JOINED };
    assert_eq!(asks.look(), (takes_in(4, 40, &[]), None));
    assert_eq!((next(JOINED), reached(JOINED)), (None, Some(ReachedHow::Ready)));
    // Not even in the place of a voter that does not answer.
    let without_3: Lives = &[(2, 20), (4, 40)];
    assert_eq!(next(Case { heard: without_3, ..JOINED }), None);
    let other_life = Case { wanted: &[(4, 41)], ..JOINED };
    assert_eq!(next(other_life), takes_in(4, 41, &[(4, 40)]));
    assert_eq!(next(Case { wanted: &[(4, 41)], ..SWAPS }), takes_in(4, 41, &[(4, 40)]));
}

#[test]
fn it_is_ready_when_it_is_there_and_has_nearly_all() {
    let others: Lives = &[(2, 20), (3, 30)];
    assert_eq!(reached(Case { heard: others, ..JOINED }), None);
    assert_eq!(reached(Case { up_to_date: others, ..JOINED }), None);
    assert_eq!(reached(Case { learners: &[], ..JOINED }), None);
    assert_eq!(reached(SWAPS), None, "that is known");
}

#[test]
fn it_gets_the_vote_of_the_one_that_leaves_in_one_change() {
    let voters: Lives = &[(1, 10), (2, 20), (4, 40)];
    assert_eq!(next(SWAPS), swaps(4, 40, voters));
    // A dead replica is replaced like that, too.
    let without_3: Lives = &[(2, 20), (4, 40)];
    assert_eq!(next(Case { heard: without_3, up_to_date: without_3, ..SWAPS }), swaps(4, 40, voters));
    assert_eq!((next(SWAPPED), reached(SWAPPED)), (None, Some(ReachedHow::Done)));
    // A leader that has not heard that it was allowed sees the same.
    let late = Case { exchange: JOINED.exchange, ..SWAPPED };
    assert_eq!((next(late), reached(late)), (None, Some(ReachedHow::Done)));
}

#[test]
fn nobody_gets_a_vote_that_is_not_there() {
    let others: Lives = &[(2, 20), (3, 30)];
    assert_eq!(next(Case { heard: others, ..SWAPS }), None);
    assert_eq!(next(Case { up_to_date: others, ..SWAPS }), None);
}

/// One that is away does not count: with three that are heard of the four that are to vote it goes on, with two not.
#[test]
fn most_of_those_who_are_to_vote_have_to_be_there() {
    const FIVE: Case =
        Case { replicas: &[1, 2, 3, 5], last: 5, configs: &[&[(1, 10), (2, 20), (3, 30), (5, 50)]], ..SWAPS };
    assert_eq!(next(Case { heard: &[(3, 30), (4, 40)], ..FIVE }), None);
    let voters: Lives = &[(1, 10), (2, 20), (4, 40), (5, 50)];
    assert_eq!(next(Case { heard: &[(2, 20), (4, 40)], ..FIVE }), swaps(4, 40, voters));
}

#[test]
fn a_leader_that_leaves_does_not_swap_unless_it_is_alone() {
    let leaves = Case { exchange: exchange(1, 4, true), ..SWAPS };
    assert_eq!(next(leaves), None);
    const ONE: Case = Case { replicas: &[1], exchange: exchange(1, 4, true), configs: &[&[(1, 10)]], ..SWAPS };
    assert_eq!(next(ONE), swaps(4, 40, &[(4, 40)]));
    assert_eq!(next(Case { heard: &[], ..ONE }), None);
}

#[test]
fn whoever_left_is_not_taken_in_again() {
    let heard: Lives = &[(2, 20), (4, 40)];
    let back = Case { heard, wanted: &[(3, 31)], ..SWAPPED };
    assert_eq!(next(back), None);
    // One that was taken in before goes.
    let learns = Case { heard, learners: &[(3, 31)], ..SWAPPED };
    assert_eq!(next(learns), forgets(&[(3, 31)]));
}

#[test]
fn whoever_came_and_lost_its_disk_comes_back_as_ever_when_the_move_is_over() {
    let heard: Lives = &[(2, 20), (4, 41)];
    let lost = Case { heard, wanted: &[(4, 41)], ..SWAPPED };
    assert_eq!(lost.look(), (takes_in(4, 41, &[]), Some(Reached { comes: ReplicaId(4), how: ReachedHow::Done })));
    let learns = Case { heard, up_to_date: heard, learners: &[(4, 41)], ..SWAPPED };
    assert_eq!(next(learns), None);
    let over = Case { replicas: &[1, 2, 4], exchange: None, ..learns };
    assert_eq!(next(over), promotes(4, 41, &[(1, 10), (2, 20), (4, 41)]));
}

#[test]
fn a_lost_disk_comes_back_as_ever_while_another_replica_moves() {
    let without_2: Lives = &[(3, 30), (4, 40)];
    let lost = Case { heard: without_2, wanted: &[(2, 21)], ..JOINED };
    assert_eq!(next(lost), takes_in(2, 21, &[]));
    let with_21: Lives = &[(2, 21), (3, 30), (4, 40)];
    let there = Case { learners: &[(2, 21), (4, 40)], heard: with_21, up_to_date: with_21, ..SWAPS };
    assert_eq!(next(there), promotes(2, 21, &[(1, 10), (2, 21), (3, 30)]));
    // Also one that leaves, as long as it has its vote.
    let without_3: Lives = &[(2, 20), (4, 40)];
    assert_eq!(next(Case { heard: without_3, wanted: &[(3, 31)], ..JOINED }), takes_in(3, 31, &[]));
}

#[test]
fn a_move_that_was_given_up_leaves_no_learner() {
    let given_up = Case { exchange: None, ..JOINED };
    assert_eq!(given_up.look(), (forgets(&[(4, 40)]), None));
    let another = Case { exchange: exchange(3, 5, false), last: 5, wanted: &[(5, 50)], ..JOINED };
    assert_eq!(another.look(), (forgets(&[(4, 40)]), None));
}

/// The metadata of a leader that namesrv does not reach: it sees numbers that it cannot know.
#[test]
fn a_leader_that_knows_too_little_does_nothing() {
    let lost: Lives = &[(4, 40)];
    for log in [JOINED, SWAPPED, Case { configs: &[&[(1, 10), (4, 40), (5, 50)]], ..SWAPPED }] {
        let outdated = Case { exchange: None, last: 3, ..log };
        assert_eq!(outdated.look(), (None, None));
        assert_eq!(next(Case { heard: lost, wanted: &[(2, 21), (3, 31)], ..outdated }), None);
    }
    // Its exchange may be over, and another under way.
    let older = Case { learners: &[(5, 50)], ..SWAPPED };
    assert_eq!(older.look(), (None, None));
    let older = Case { configs: &[&[(1, 10), (2, 20), (3, 30)]], learners: &[(4, 40), (5, 50)], ..SWAPPED };
    assert_eq!(older.look(), (None, None));
}

#[test]
fn changes_are_told_in_plain_words() {
    let told = [next(SWAPS), forgets(&[(4, 40), (5, 50)])].map(|change| change.unwrap().to_string());
    assert!(told[0].starts_with("4@0000000000000028 votes for another replica, of 1@"), "{}", told[0]);
    assert!(told[1].ends_with("5@0000000000000032 are to learn no more"), "{}", told[1]);
}
