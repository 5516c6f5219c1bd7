//! Flipped bits in what was committed.

use apogee_host::Disk as _;
use tokio::time::sleep;

use crate::SOME_TIME;
use crate::group::Group;

const FIRST_SEGMENT: &str = "store/log/00000000000000000000.seg";
/// Inside the header of the first block.
const FIRST_HEADER: u64 = 20;
/// Inside the body of a message of the first segment, when messages have one MiB.
const A_BODY: u64 = 5 << 20;

/// Three replicas with more than one segment each, of which the first is not read when they start.
async fn with_old_segments(seed: u64) -> Group {
    let mut group = Group::founded(seed).await;
    group.send(40, 1 << 20).await;
    group.agree().await;
    group
}

async fn is_aside(group: &Group, replica: u64) -> bool {
    let disk = group.disk(replica);
    let names = disk.list("damaged/store/log").await.expect("the disk works");
    assert_eq!(names.is_empty(), disk.read("damaged/store/FORMAT").await.is_err());
    !names.is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_found_damaged_at_the_start_is_set_aside_and_made_anew() {
    let mut group = with_old_segments(11).await;
    let leader = group.leader().await;
    let (damaged, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    group.stop(damaged).await;
    group.disk(damaged).flip_bit(FIRST_SEGMENT, FIRST_HEADER);
    group.start(damaged);
    group.send(5, 1000).await;
    group.open(damaged).await;
    assert!(is_aside(&group, damaged).await && !is_aside(&group, other).await);
    sleep(SOME_TIME).await;
    group.agree().await;
    group.stop(other).await;
    group.send(5, 1000).await;
    assert_eq!(group.messages().await, group.sent());

    // Nothing of it is left for the next start.
    group.start(other);
    group.stop(damaged).await;
    group.start(damaged);
    group.all_open().await;
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_block_that_cannot_be_read_makes_the_replica_begin_again() {
    let mut group = with_old_segments(12).await;
    let leader = group.leader().await;
    group.disk(leader).flip_bit(FIRST_SEGMENT, A_BODY);
    group.receive_until_unreadable().await;
    let why = group.begins_again(leader).await;
    assert!(why.contains("its store is damaged"), "{why}");
    group.stop(leader).await;
    group.start(leader);
    group.send(5, 1000).await;
    group.open(leader).await;
    assert!(is_aside(&group, leader).await);
    sleep(SOME_TIME).await;
    let next = group.leader().await;
    group.agree().await;
    group.stop(next).await;
    group.send(5, 1000).await;
    assert_eq!(group.messages().await, group.sent());
}

#[tokio::test(start_paused = true)]
async fn a_second_damage_takes_the_place_of_the_first() {
    let mut group = with_old_segments(13).await;
    let damaged = group.leader().await % 3 + 1;
    for _ in 0..2 {
        group.stop(damaged).await;
        group.disk(damaged).flip_bit(FIRST_SEGMENT, FIRST_HEADER);
        group.start(damaged);
        group.open(damaged).await;
        assert!(is_aside(&group, damaged).await);
        sleep(SOME_TIME).await;
        group.agree().await;
    }
}

/// They were members: an empty group in the place of theirs would be worse than none.
#[tokio::test(start_paused = true)]
async fn damaged_replicas_do_not_found_a_group() {
    let mut group = with_old_segments(14).await;
    for replica in 1..=3 {
        group.stop(replica).await;
        group.disk(replica).flip_bit(FIRST_SEGMENT, FIRST_HEADER);
    }
    for _ in 0..2 {
        for replica in 1..=3 {
            group.start(replica);
        }
        sleep(SOME_TIME).await;
        for replica in 1..=3 {
            assert!(group.engine(replica).await.is_none() && group.waits(replica).is_some());
            assert!(is_aside(&group, replica).await);
            group.stop(replica).await;
        }
    }
}

/// The power fails in the midst of it, however far it is.
#[tokio::test(start_paused = true)]
async fn a_power_cut_while_a_store_is_set_aside_changes_nothing() {
    let mut group = with_old_segments(15).await;
    let damaged = group.leader().await % 3 + 1;
    for operations in 0..12 {
        group.stop(damaged).await;
        group.disk(damaged).flip_bit(FIRST_SEGMENT, FIRST_HEADER);
        group.disk(damaged).cut_at_op(operations);
        group.start(damaged);
        sleep(SOME_TIME).await;
        group.lose_power(damaged).await;
        group.start(damaged);
        group.open(damaged).await;
        assert!(is_aside(&group, damaged).await);
        sleep(SOME_TIME).await;
        group.agree().await;
    }
}
