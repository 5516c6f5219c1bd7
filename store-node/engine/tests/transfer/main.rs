//! A replica that is too far behind gets a base and the log behind it from the leader.

mod crashes;
mod group;
mod troubles;

use std::time::Duration;

use apogee_engine::{Exchange, ReachedHow, Seating};
use apogee_host::Disk as _;
use apogee_model::ReplicaId;
use group::{Group, SOON, send};

#[tokio::test(start_paused = true)]
async fn blocks_that_were_given_up_stay_given_up() {
    let mut group = Group::start().await;
    group.send(12).await;
    let base = group.shorten(-3).await;
    let leader = group.leader().await;
    let before = group.sites[leader].dump().await;
    assert_eq!(before.log.first().map(|(index, ..)| *index), Some(base.0 - 2));
    group.agree().await;
    for site in &mut group.sites {
        site.stop(&group.net).await;
    }
    for site in &mut group.sites {
        site.start(&group.net).await.unwrap();
    }
    group.send(1).await;
    group.agree().await;
    let after = group.sites[leader].dump().await;
    assert_eq!(after.log[..before.log.len()], before.log);
    assert_eq!(group.pop_all(1).await, (1..=group.sent()).collect::<Vec<_>>(), "consumers read on below");
}

#[tokio::test(start_paused = true)]
async fn a_replica_far_behind_gets_a_base_and_can_lead() {
    let mut group = Group::start().await;
    group.send(2).await;
    let late = group.stop_follower().await;
    group.send(12).await;
    // What is left begins in the first segment, so that all messages are there.
    group.shorten(6).await;
    group.sites[late].start(&group.net).await.unwrap();
    group.sites[late].begins_again(&group.net).await.unwrap();
    group.send(3).await;
    group.let_lead(late).await;
    assert_eq!(group.pop_all(1).await, (1..=group.sent()).collect::<Vec<_>>());
    group.send(3).await;
    group.agree().await;

    // It goes on from there when it starts once more, and no second base is needed.
    group.sites[late].stop(&group.net).await;
    group.sites[late].start(&group.net).await.unwrap();
    group.send(1).await;
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn it_gets_what_the_leader_still_has_and_no_more() {
    let mut group = Group::start().await;
    group.send(7).await;
    let late = group.stop_follower().await;
    group.send(14).await;
    let base = group.shorten(-4).await;
    let disk = group.sites[late].disk.clone();
    assert!(disk.list("store/log").await.unwrap().contains(&"00000000000000000000.seg".to_owned()));
    group.sites[late].start(&group.net).await.unwrap();
    group.sites[late].begins_again(&group.net).await.unwrap();
    group.agree().await;
    let (leader, dump) = (group.leader().await, group.sites[late].dump().await);
    assert_eq!(dump, group.sites[leader].dump().await);
    assert_eq!(dump.log[0].0, base.0 - 3);
    let names = disk.list("store/log").await.unwrap();
    assert!(!names.contains(&"00000000000000000000.seg".to_owned()), "{names:?}");
    assert!(disk.list("store/incoming").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_comes_in_while_load_runs() {
    let mut group = Group::start().await;
    group.send(2).await;
    let late = group.stop_follower().await;
    group.send(6).await;
    group.shorten(6).await;
    group.sites[late].start(&group.net).await.unwrap();
    let (leader, sent) = (group.leader().await, group.sent());
    let engine = group.sites[leader].engine().clone();
    let mut more = 0;
    let load = async {
        loop {
            more += 1;
            send(&engine, sent + more).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let net = group.net.clone();
    let comes = async {
        group.sites[late].begins_again(&net).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    tokio::select! {
        () = load => unreachable!("it goes on"),
        done = tokio::time::timeout(SOON, comes) => done.unwrap(),
    }
    group.agree().await;
    group.let_lead(late).await;
    let numbers = group.pop_all(1).await;
    assert!(more > 5 && numbers.len() > 12, "{more} {numbers:?}");
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "{numbers:?}");
}

/// A replica that takes the place of another comes with nothing, and the log goes back less far than that.
#[tokio::test(start_paused = true)]
async fn a_replica_that_comes_gets_a_base_and_then_a_vote() {
    let mut group = Group::start().await;
    group.send(12).await;
    group.shorten(6).await;
    group.agree().await;
    let (leader, leaves) = (group.leader().await, (group.leader().await + 1) % 3);
    let mut exchange = Exchange { leaves: group.sites[leaves].me, comes: ReplicaId(4), swaps: false };
    let before = group.seating.borrow().clone();
    group.seating.send_replace(Seating { exchange: Some(exchange), last: exchange.comes, ..before.clone() });
    group.add(4, None);
    let comes = group.sites.len() - 1;
    group.sites[comes].start(&group.net).await.unwrap();
    group.sites[comes].begins_again(&group.net).await.unwrap();
    group.reaches(ReachedHow::Ready).await;
    exchange.swaps = true;
    group.seating.send_replace(Seating { exchange: Some(exchange), last: exchange.comes, ..before });
    group.reaches(ReachedHow::Done).await;
    group.sites[leaves].stop(&group.net).await;
    assert_eq!(group.leader().await, leader);
    group.let_lead(comes).await;
    assert_eq!(group.pop_all(1).await, (1..=group.sent()).collect::<Vec<_>>());
    group.send(3).await;
    group.agree().await;
}

#[tokio::test]
async fn real_files_come_in_too() {
    let mut group = Group::start_on_files().await;
    group.send(2).await;
    let late = group.stop_follower().await;
    group.send(5).await;
    group.shorten(6).await;
    group.sites[late].start(&group.net).await.unwrap();
    group.sites[late].begins_again(&group.net).await.unwrap();
    group.send(1).await;
    group.let_lead(late).await;
    assert_eq!(group.pop_all(1).await, (1..=group.sent()).collect::<Vec<_>>());
}
