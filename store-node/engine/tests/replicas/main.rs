//! Three replicas in one process: how they come together, and how one that lost its disk comes back.

mod damage;
#[path = "../door/fifo_model.rs"]
mod fifo_model;
mod group;
mod hand_over;
#[path = "../door/model.rs"]
mod model;
mod moves;
mod net;
mod offsets;
mod support;
mod transactions;
#[path = "../door/words.rs"]
mod words;

use std::time::Duration;

use tokio::time::sleep;

use crate::group::{Group, LONG};

/// Longer than an election takes, and than a leader needs to take somebody in.
const SOME_TIME: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn fresh_replicas_found_one_group_in_any_order() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (seed, order) in (0..).zip(orders) {
        for pause in [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(700)] {
            let mut group = Group::new(seed);
            for replica in order {
                group.start(replica);
                sleep(pause).await;
            }
            group.all_open().await;
            group.send(3, 100).await;
            group.agree().await;
            assert_eq!(group.messages().await, 3, "{order:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_founds_while_one_is_missing() {
    let mut group = Group::new(1);
    group.start(1);
    group.start(2);
    sleep(SOME_TIME).await;
    assert!(group.engine(1).await.is_none() && group.engine(2).await.is_none());
    let waits = group.waits(1).expect("it says why");
    assert_eq!(waits, "replica 3 has not said whether there is a replica group");
    group.start(3);
    group.all_open().await;
    group.send(1, 100).await;
}

/// Each life of the first replica may have told others of its founders, or not.
#[tokio::test(start_paused = true)]
async fn disks_lost_while_the_group_is_founded_leave_one_group() {
    for seed in 0..40 {
        let mut group = Group::new(seed);
        for replica in 1..=3 {
            group.start(replica);
        }
        // The first founds at once, the others follow about 50 ms later.
        sleep(Duration::from_millis(seed * 2)).await;
        let lost = 1 + seed % 3;
        group.stop(lost).await;
        group.wipe(lost);
        sleep(Duration::from_millis(seed % 7 * 10)).await;
        group.start(lost);
        group.all_open().await;
        group.send(3, 100).await;
        group.agree().await;
        assert_eq!(group.messages().await, 3, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_follower_is_a_voter_again() {
    let mut group = Group::founded(2).await;
    group.send(200, 1000).await;
    let leader = group.leader().await;
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    group.stop(wiped).await;
    group.wipe(wiped);
    group.start(wiped);
    group.send(200, 1000).await;
    group.open(wiped).await;
    group.send(50, 1000).await;
    sleep(SOME_TIME).await;
    // The group needs it now: for elections, and for what was sent before it was there.
    group.stop(leader).await;
    group.send(50, 1000).await;
    assert_eq!(group.messages().await, group.sent());
    group.start(leader);
    group.all_open().await;
    group.agree().await;
    group.stop(other).await;
    group.send(1, 1000).await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_leader_is_a_voter_again() {
    let mut group = Group::founded(3).await;
    group.send(100, 1000).await;
    let leader = group.leader().await;
    group.stop(leader).await;
    group.wipe(leader);
    group.start(leader);
    group.send(100, 1000).await;
    group.open(leader).await;
    sleep(SOME_TIME).await;
    let next = group.leader().await;
    assert_ne!(next, leader);
    group.stop(next).await;
    group.send(10, 1000).await;
    assert_eq!(group.messages().await, group.sent());
}

#[tokio::test(start_paused = true)]
async fn all_are_replaced_one_after_the_other() {
    let mut group = Group::founded(4).await;
    for round in 0..2 {
        for replica in 1..=3 {
            group.send(20, 1000).await;
            group.stop(replica).await;
            group.wipe(replica);
            group.start(replica);
            group.open(replica).await;
            sleep(SOME_TIME).await;
            group.agree().await;
            assert_eq!(group.messages().await, group.sent(), "round {round}, replica {replica}");
        }
    }
}

/// What only the leader and one other have is acknowledged; then the other loses its disk, and the leader is away. The
/// two that are left would be a majority.
async fn acknowledged_by_one_that_forgets(seed: u64) -> (Group, u64, u64) {
    let mut group = Group::founded(seed).await;
    group.send(10, 1000).await;
    group.agree().await;
    let leader = group.leader().await;
    let (forgets, stale) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    group.stop(stale).await;
    group.send(10, 1000).await;
    group.stop(leader).await;
    group.stop(forgets).await;
    (group, leader, forgets)
}

#[tokio::test(start_paused = true)]
async fn a_wiped_replica_does_not_vote_before_it_is_taken_in() {
    let (mut group, leader, wiped) = acknowledged_by_one_that_forgets(5).await;
    let stale = 6 - leader - wiped;
    group.wipe(wiped);
    group.start(wiped);
    group.start(stale);
    assert_eq!(group.leader_within(LONG).await, None, "they cannot know what was acknowledged");
    assert!(group.engine(wiped).await.is_none());
    assert_eq!(group.waits(wiped).as_deref(), Some("the replica group has not taken this replica in yet"));
    group.start(leader);
    group.all_open().await;
    assert_eq!(group.messages().await, group.sent());
    sleep(SOME_TIME).await;
    group.stop(leader).await;
    group.send(1, 1000).await;
    assert_eq!(group.messages().await, group.sent());
}

/// What the instance is for: a replica that comes back empty under the name it had makes a majority of those who know
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_wiped_replica_that_kept_its_instance_would_lose_what_was_acknowledged() {
    let (mut group, leader, wiped) = acknowledged_by_one_that_forgets(6).await;
    let stale = 6 - leader - wiped;
    group.wipe_all_but(wiped, &["store/FORMAT", "store/admission"]).await;
    group.start(wiped);
    group.start(stale);
    assert_eq!(group.leader().await, stale);
    assert_eq!((group.messages().await, group.sent()), (10, 20));
}
