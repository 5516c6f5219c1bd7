//! A replica takes the place of another, whoever dies meanwhile.

use std::time::Duration;

use apogee_engine::{Exchange, Reached, ReachedHow, Seating};
use apogee_model::ReplicaId;
use tokio::time::{Instant, sleep};

use crate::SOME_TIME;
use crate::group::{GLANCE, Group, LONG};

/// A leader looks who is to be a member within this time.
const A_LOOK: Duration = Duration::from_millis(400);

/// Of three replicas.
#[derive(Copy, Clone, Debug)]
struct Move {
    leaves: u64,
    comes: u64,
}

impl Move {
    fn seating(self, swaps: bool) -> Seating {
        let exchange = Exchange { leaves: ReplicaId(self.leaves), comes: ReplicaId(self.comes), swaps };
        Seating { exchange: Some(exchange), last: ReplicaId(self.comes), ..Seating::of([1, 2, 3].map(ReplicaId)) }
    }

    fn joins(self) -> Seating {
        self.seating(false)
    }

    fn swaps(self) -> Seating {
        self.seating(true)
    }

    fn over(self) -> Seating {
        Seating::of(self.voters().map(ReplicaId))
    }

    fn voters(self) -> [u64; 3] {
        [1, 2, 3].map(|replica| if replica == self.leaves { self.comes } else { replica })
    }

    fn reached(self, how: ReachedHow) -> Option<Reached> {
        Some(Reached { comes: ReplicaId(self.comes), how })
    }

    /// Sends until the leader says so.
    async fn reaches(self, how: ReachedHow, group: &mut Group) {
        let end = Instant::now() + LONG;
        while group.reached().await != self.reached(how) {
            assert!(Instant::now() < end, "{self:?} does not come to {how:?}");
            group.send_at_once(10, 1000).await;
            sleep(GLANCE).await;
        }
    }
}

/// A group whose replica that comes is ready; and who leads, and who neither leads nor leaves.
async fn ready(seed: u64, who_leaves: impl Fn(u64) -> u64) -> (Group, Move, u64) {
    let mut group = Group::founded(seed).await;
    group.send(200, 1000).await;
    let leader = group.leader().await;
    let moves = Move { leaves: who_leaves(leader), comes: 4 };
    group.add(moves.comes, &moves.joins());
    group.seat(&moves.joins());
    group.start(moves.comes);
    moves.reaches(ReachedHow::Ready, &mut group).await;
    (group, moves, leader)
}

fn a_follower(leader: u64) -> u64 {
    leader % 3 + 1
}

async fn applied(group: &mut Group, replica: u64) -> u64 {
    group.open(replica).await.dump().await.expect("it says what it holds").applied.0
}

#[tokio::test(start_paused = true)]
async fn a_replica_takes_the_place_of_another_under_load() {
    for seed in 20..26 {
        let (mut group, moves, leader) = ready(seed, a_follower).await;
        group.seat(&moves.swaps());
        moves.reaches(ReachedHow::Done, &mut group).await;
        assert_eq!(group.leader().await, leader, "nobody noticed");
        group.seat(&moves.over());
        sleep(SOME_TIME).await;
        let before = applied(&mut group, moves.leaves).await;
        group.send_at_once(50, 1000).await;
        sleep(SOME_TIME).await;
        assert_eq!(applied(&mut group, moves.leaves).await, before, "it hears no more");
        assert_eq!(group.leader().await, leader, "and calls no elections");

        // Its vote is worth nothing: with one of the others it is no majority.
        group.stop(leader).await;
        group.send(10, 1000).await;
        let next = group.leader().await;
        assert!(moves.voters().contains(&next));
        group.stop(next).await;
        assert_eq!(group.leader_within(LONG).await, None);
        group.stop(moves.leaves).await;
        group.start(leader);
        group.send(10, 1000).await;
        group.start(next);
        group.all_open().await;
        group.agree().await;
        assert_eq!(group.messages().await, group.sent());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_has_no_vote_before_the_swap() {
    let (mut group, moves, leader) = ready(30, a_follower).await;
    sleep(SOME_TIME).await;
    assert_eq!(group.reached().await, moves.reached(ReachedHow::Ready));
    let others: Vec<_> = (1..=3).filter(|replica| *replica != leader).collect();
    for other in &others {
        group.stop(*other).await;
    }
    // It may take a moment until the leader knows that it is none.
    sleep(SOME_TIME).await;
    assert_eq!(group.leader_within(LONG).await, None);
    for other in &others {
        group.start(*other);
    }
    group.seat(&moves.swaps());
    moves.reaches(ReachedHow::Done, &mut group).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_lets_another_one_lead_first() {
    let (mut group, moves, leader) = ready(31, |leader| leader).await;
    group.seat(&moves.swaps());
    sleep(SOME_TIME).await;
    assert_eq!((group.leader().await, group.reached().await), (leader, None));
    group.open(leader).await.hand_over(LONG).await.expect("another one leads");
    moves.reaches(ReachedHow::Done, &mut group).await;
    assert_ne!(group.leader().await, leader);
    group.stop(leader).await;
    group.agree().await;
    assert_eq!(group.messages().await, group.sent());
}

/// A dead replica is replaced by moving it.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_need_not_be_there() {
    let (mut group, moves, _) = ready(32, a_follower).await;
    group.stop(moves.leaves).await;
    group.seat(&moves.swaps());
    moves.reaches(ReachedHow::Done, &mut group).await;
    // It comes back, with all it had, and knows of nothing.
    group.seat_one(moves.leaves, &Seating::of([1, 2, 3].map(ReplicaId)));
    group.start(moves.leaves);
    let leader = group.leader().await;
    group.send(50, 1000).await;
    sleep(SOME_TIME).await;
    assert_eq!(group.leader().await, leader);
    group.stop(moves.leaves).await;
    group.agree().await;
}

/// Namesrv does not reach it: its picture is from before the move, of which the log knows.
#[tokio::test(start_paused = true)]
async fn a_leader_with_an_old_seating_takes_nobody_in() {
    let (mut group, moves, leader) = ready(33, a_follower).await;
    group.seat(&moves.swaps());
    moves.reaches(ReachedHow::Done, &mut group).await;
    group.seat(&moves.over());
    let old = Seating::of([1, 2, 3].map(ReplicaId));
    group.seat_one(leader, &old);
    group.seat_one(moves.leaves, &old);
    group.stop(moves.leaves).await;
    group.wipe(moves.leaves);
    group.start(moves.leaves);
    sleep(SOME_TIME).await;
    assert_eq!((group.leader().await, group.reached().await), (leader, None));
    assert!(group.engine(moves.leaves).await.is_none());
    assert!(group.waits(moves.leaves).is_some());
    group.stop(moves.leaves).await;
    group.send(10, 1000).await;
    group.agree().await;
}

/// Namesrv does not know yet that the move is over.
#[tokio::test(start_paused = true)]
async fn whoever_left_is_not_taken_in_again() {
    let (mut group, moves, _) = ready(36, a_follower).await;
    group.seat(&moves.swaps());
    moves.reaches(ReachedHow::Done, &mut group).await;
    group.stop(moves.leaves).await;
    group.wipe(moves.leaves);
    group.start(moves.leaves);
    sleep(SOME_TIME).await;
    assert!(group.engine(moves.leaves).await.is_none());
    assert_eq!(group.waits(moves.leaves).as_deref(), Some("the replica group has not taken this replica in yet"));
    assert_eq!(group.reached().await, moves.reached(ReachedHow::Done));
}

/// A swap that its leader could not finish: two sets of voters are in its log, and only in its own and that of the replica
/// that comes. Whether the next leader has them depends on who comes back first.
#[tokio::test(start_paused = true)]
async fn the_next_leader_ends_a_swap_that_was_begun() {
    for with_leader in [true, false] {
        let (mut group, moves, leader) = ready(37, a_follower).await;
        let stays = 6 - leader - moves.leaves;
        group.cut_off(stays);
        group.cut_off(moves.leaves);
        // They were heard a moment ago.
        group.seat(&moves.swaps());
        sleep(A_LOOK).await;
        for replica in [leader, stays, moves.leaves] {
            group.stop(replica).await;
        }
        let (back, last) = if with_leader { (leader, moves.leaves) } else { (moves.leaves, leader) };
        group.start(back);
        group.start(stays);
        assert_eq!(group.leader().await == leader, with_leader);
        if !with_leader && group.leader().await == moves.leaves {
            group.open(moves.leaves).await.hand_over_to(ReplicaId(stays), LONG).await.expect("it takes over");
        }
        moves.reaches(ReachedHow::Done, &mut group).await;
        group.start(last);
        group.send(10, 1000).await;
        group.stop(moves.leaves).await;
        group.open(leader).await;
        group.agree().await;
        assert_eq!(group.messages().await, group.sent());
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_given_up_leaves_no_learner() {
    let (mut group, moves, leader) = ready(34, a_follower).await;
    group.seat(&Seating { last: ReplicaId(4), ..Seating::of([1, 2, 3].map(ReplicaId)) });
    sleep(SOME_TIME).await;
    let before = applied(&mut group, moves.comes).await;
    group.send_at_once(50, 1000).await;
    sleep(SOME_TIME).await;
    assert_eq!(applied(&mut group, moves.comes).await, before);
    assert_eq!((group.leader().await, group.reached().await), (leader, None));
    group.stop(moves.comes).await;
    group.agree().await;

    let next = Move { comes: 5, ..moves };
    group.add(next.comes, &next.joins());
    group.seat(&next.joins());
    group.start(next.comes);
    next.reaches(ReachedHow::Ready, &mut group).await;
    group.seat(&next.swaps());
    next.reaches(ReachedHow::Done, &mut group).await;
    group.stop(next.leaves).await;
    group.agree().await;
    assert_eq!(group.messages().await, group.sent());
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_founds_no_group_and_waits_for_one() {
    let (mut group, moves) = (Group::new(35), Move { leaves: 1, comes: 4 });
    group.add(moves.comes, &moves.joins());
    group.seat(&moves.joins());
    for replica in [4, 1, 2] {
        group.start(replica);
    }
    sleep(SOME_TIME).await;
    for replica in [4, 1, 2] {
        assert!(group.engine(replica).await.is_none());
    }
    for replica in [4, 1, 2] {
        let waits = group.waits(replica).expect("it says why");
        assert_eq!(waits, "replica 3 has not said whether there is a replica group");
    }
    // The one that founds waits for yet another.
    group.seat_one(1, &Seating::of([1, 2, 3, 5].map(ReplicaId)));
    group.start(3);
    sleep(SOME_TIME).await;
    assert_eq!(group.waits(2).as_deref(), Some("the first replica has not founded the replica group yet"));
    assert_eq!(group.waits(4).as_deref(), Some("the others have not founded the replica group yet"));
    group.seat_one(1, &moves.joins());
    moves.reaches(ReachedHow::Ready, &mut group).await;
    let leader = group.leader().await;
    group.stop(leader).await;
    group.send(10, 1000).await;
    group.start(leader);
    group.all_open().await;
    group.agree().await;
}

/// How far a move is when somebody dies.
const STAGES: u32 = 5;

/// How somebody dies.
#[derive(Copy, Clone, Debug)]
enum Death {
    Ends,
    LosesPower,
    LosesDisk,
}

impl Death {
    async fn of(self, victim: u64, group: &mut Group) {
        match self {
            Death::Ends => group.stop(victim).await,
            Death::LosesPower => group.lose_power(victim).await,
            Death::LosesDisk => {
                group.stop(victim).await;
                group.wipe(victim);
            }
        }
    }
}

/// Plays namesrv until the move is over, and the store-node that lets another replica lead.
async fn carry_on(moves: Move, group: &mut Group, mut seating: Seating) {
    let end = Instant::now() + 4 * LONG;
    while seating != moves.over() {
        assert!(Instant::now() < end, "{moves:?} is not over: {seating:?}");
        group.send(2, 1000).await;
        seating = match group.reached().await.map(|reached| reached.how) {
            Some(ReachedHow::Ready) => moves.swaps(),
            Some(ReachedHow::Done) => moves.over(),
            None => seating,
        };
        group.seat(&seating);
        let leader = group.leader().await;
        if leader == moves.leaves {
            let _it_may_be_too_early = group.open(leader).await.hand_over(LONG).await;
        }
        sleep(GLANCE).await;
    }
}

async fn dies(seed: u64, stage: u32, victim: impl Fn(u64, Move) -> u64, death: Death) {
    let mut group = Group::founded(seed).await;
    group.send(100, 1000).await;
    let leader = group.leader().await;
    let moves = Move { leaves: a_follower(leader), comes: 4 };
    let victim = victim(leader, moves);
    group.add(moves.comes, &moves.joins());
    group.seat(&moves.joins());
    group.start(moves.comes);
    let mut seating = moves.joins();
    if stage > 0 {
        moves.reaches(ReachedHow::Ready, &mut group).await;
    }
    if stage > 1 {
        seating = moves.swaps();
        group.seat(&seating);
        // From one look of the leader to the next and its two steps, by the seed.
        sleep(GLANCE * u32::try_from(seed % 12).expect("small")).await;
    }
    if stage > 2 {
        moves.reaches(ReachedHow::Done, &mut group).await;
    }
    if stage > 3 {
        seating = moves.over();
        group.seat(&seating);
    }
    death.of(victim, &mut group).await;
    group.send(20, 1000).await;
    group.start(victim);
    carry_on(moves, &mut group, seating).await;
    group.stop(moves.leaves).await;
    for voter in moves.voters() {
        group.open(voter).await;
    }
    sleep(SOME_TIME).await;
    group.agree().await;
    assert_eq!(group.messages().await, group.sent());
    // Whoever came counts: it makes a majority with one other.
    let away = moves.voters().into_iter().min().expect("there are three");
    group.stop(away).await;
    group.send(5, 1000).await;
}

async fn dies_at_each_stage(seed: u64, victim: impl Fn(u64, Move) -> u64 + Copy) {
    for stage in 0..STAGES {
        for (nth, death) in (0..).zip([Death::Ends, Death::LosesPower, Death::LosesDisk]) {
            eprintln!("stage {stage}, {death:?}");
            dies(seed + 5 * u64::from(stage) + nth, stage, victim, death).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_at_each_stage() {
    dies_at_each_stage(40, |leader, _| leader).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_dies_at_each_stage() {
    dies_at_each_stage(70, |_, moves| moves.leaves).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_dies_at_each_stage() {
    dies_at_each_stage(100, |_, moves| moves.comes).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_stays_dies_at_each_stage() {
    dies_at_each_stage(130, |leader, moves| 6 - leader - moves.leaves).await;
}

/// Opens a replica again that wants to begin again.
async fn begins_again(group: &mut Group, replica: u64) {
    let why = group.begins_again(replica).await;
    assert!(why.contains("alone"), "{why}");
    group.stop(replica).await;
    group.start(replica);
    group.open(replica).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_others_moves() {
    let mut group = Group::founded_by(1, 50).await;
    group.send(200, 1000).await;
    let one = |swaps| Seating {
        exchange: Some(Exchange { leaves: ReplicaId(1), comes: ReplicaId(2), swaps }),
        last: ReplicaId(2),
        ..Seating::of([ReplicaId(1)])
    };
    group.add(2, &one(false));
    group.seat(&one(false));
    begins_again(&mut group, 1).await;
    // It serves although the other one is not there yet.
    sleep(SOME_TIME).await;
    group.send(50, 1000).await;
    group.start(2);
    let moves = Move { leaves: 1, comes: 2 };
    moves.reaches(ReachedHow::Ready, &mut group).await;
    group.seat(&one(true));
    let end = Instant::now() + LONG;
    while group.reached().await != moves.reached(ReachedHow::Done) {
        assert!(Instant::now() < end, "it is not done");
        group.send(1, 1000).await;
    }
    assert_eq!(group.leader().await, 2);
    sleep(SOME_TIME).await;
    group.send(50, 1000).await;
    group.seat(&Seating::of([ReplicaId(2)]));
    begins_again(&mut group, 2).await;
    group.stop(1).await;
    group.send(50, 1000).await;
    assert_eq!(group.messages().await, group.sent());
}

/// Its learner goes although it is alone again.
#[tokio::test(start_paused = true)]
async fn a_replica_without_others_stays() {
    let mut group = Group::founded_by(1, 51).await;
    let moves = Move { leaves: 1, comes: 2 };
    let exchange = Exchange { leaves: ReplicaId(1), comes: ReplicaId(2), swaps: false };
    let joins = Seating { exchange: Some(exchange), last: ReplicaId(2), ..Seating::of([ReplicaId(1)]) };
    group.add(2, &joins);
    group.seat(&joins);
    begins_again(&mut group, 1).await;
    group.start(2);
    moves.reaches(ReachedHow::Ready, &mut group).await;
    group.seat(&Seating { last: ReplicaId(2), ..Seating::of([ReplicaId(1)]) });
    begins_again(&mut group, 1).await;
    sleep(SOME_TIME).await;
    let before = applied(&mut group, 2).await;
    group.send(50, 1000).await;
    sleep(SOME_TIME).await;
    assert_eq!(applied(&mut group, 2).await, before);
    assert_eq!(group.messages().await, group.sent());
}
