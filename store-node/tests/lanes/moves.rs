//! The leader changes, or goes away.

use std::time::Duration;

use apogee_host::Tasks;
use apogee_model::Filter;
use apogee_model::store::{Settlement, StoreError};
use apogee_proxy::StoreNode as _;
use futures::FutureExt as _;
use tokio::time::timeout;

use crate::support::{FOLLOWER, GROUP, SOON, Site, append, bodies, group, leader, receive, stores, topic};

#[tokio::test]
async fn requests_wait_for_a_leader_and_follow_it() {
    let (one, two, tasks) = (Site::new(1, FOLLOWER).await, Site::new(2, FOLLOWER).await, Tasks::new());
    let store = stores(&[&one, &two], &tasks);
    let mut waiting = store.append(vec![append(0, 1, "a")]);
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "nobody leads");
    one.role.send_replace(leader(1));
    assert!(timeout(SOON, waiting).await.unwrap().is_ok());

    two.role.send_replace(leader(2)); // the first one has not heard of it
    let at_two = async {
        while store.append(vec![append(1, 2, "b")]).await.is_ok() {
            if !two.engine.topic_status(topic().id).await.unwrap().is_empty() {
                return;
            }
        }
    };
    timeout(SOON, at_two).await.expect("the later epoch leads");
    assert_eq!(one.engine.topic_status(topic().id).await.unwrap()[0].max.0, 1);
}

#[tokio::test]
async fn watches_move_to_the_new_leader() {
    let (one, two, tasks) = (Site::new(1, leader(1)).await, Site::new(2, FOLLOWER).await, Tasks::new());
    let store = stores(&[&one, &two], &tasks);
    let mut watch = store.watch(group(), topic(), Filter::default());
    timeout(SOON, watch.ready()).await.unwrap();
    two.engine.append(vec![append(0, 1, "a")]).await.unwrap();
    one.role.send_replace(FOLLOWER);
    two.role.send_replace(leader(2));
    timeout(SOON, watch.ready()).await.expect("the new leader is told, and tells");
    store.pop(receive(0)).await.unwrap();
    while watch.ready().now_or_never().is_some() {}
    two.engine.append(vec![append(0, 2, "b")]).await.unwrap();
    timeout(SOON, watch.ready()).await.expect("and goes on telling");
}

#[tokio::test]
async fn a_replica_that_is_forgotten_has_no_lanes() {
    let (one, two, tasks) = (Site::new(1, leader(1)).await, Site::new(2, FOLLOWER).await, Tasks::new());
    let store = stores(&[&one, &two], &tasks);
    store.append(vec![append(0, 1, "a")]).await.unwrap();
    timeout(SOON, one.lanes.forget(GROUP)).await.expect("lanes end when asked to");
    let mut waiting = store.append(vec![append(0, 2, "b")]);
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "nobody leads where lanes go");
    two.role.send_replace(leader(2));
    assert!(timeout(SOON, waiting).await.unwrap().is_ok());
    assert_eq!(one.engine.topic_status(topic().id).await.unwrap()[0].max.0, 1);
}

#[tokio::test]
async fn a_store_node_that_goes_and_comes_back_is_found_again() {
    let (one, two, tasks) = (Site::new(1, leader(1)).await, Site::new(2, FOLLOWER).await, Tasks::new());
    let store = stores(&[&one, &two], &tasks);
    store.append(vec![append(0, 1, "a")]).await.unwrap();
    let popped = store.pop(receive(1)).await.unwrap();
    timeout(SOON, one.lanes.drain()).await.expect("lanes end when asked to");
    timeout(SOON, one.tasks.close(SOON)).await.unwrap();
    let mut waiting = store.settle(popped.messages[0].key, Settlement::Ack);
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    two.role.send_replace(leader(2));
    timeout(SOON, waiting).await.unwrap().expect("asked again where somebody leads");
}

#[tokio::test]
async fn draining_answers_what_was_done() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    store.append(vec![append(0, 0, "first")]).await.unwrap();
    let asked = (1..400).map(|it| timeout(Duration::from_secs(1), store.append(vec![append(0, it, "a")])));
    let ((), answers) = tokio::join!(site.lanes.drain(), futures::future::join_all(asked));
    let answered = answers.into_iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    let stored = site.engine.topic_status(topic().id).await.unwrap()[0].max.0;
    assert_eq!(u64::try_from(answered).unwrap() + 1, stored, "the others wait for a leader that does not come");
}

#[tokio::test]
async fn store_nodes_of_another_cluster_are_left_alone() {
    let (one, two) = (Site::of_cluster(7, 1, leader(1)).await, Site::of_cluster(8, 2, leader(9)).await);
    let tasks = Tasks::new();
    let store = stores(&[&one, &two], &tasks);
    for sequence in 0..50 {
        store.append(vec![append(0, sequence, "a")]).await.unwrap();
    }
    // Whichever was there first decides which cluster it is.
    let mut held = Vec::new();
    for site in [&one, &two] {
        held.extend(site.engine.topic_status(topic().id).await.unwrap().iter().map(|queue| queue.max.0));
    }
    assert_eq!(held, [50]);
}

#[tokio::test]
async fn without_a_leader_nothing_is_done_and_that_is_said() {
    tokio::time::pause();
    let tasks = Tasks::new();
    let store = stores(&[], &tasks);
    assert_eq!(store.append(vec![append(0, 1, "a")]).await, Err(StoreError::NotLeader { leader: None }));
}

#[tokio::test]
async fn one_proxy_does_not_disturb_another() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let (one, two) = (stores(&[&site], &tasks), stores(&[&site], &tasks));
    one.append(vec![append(0, 1, "a")]).await.unwrap();
    two.append(vec![append(0, 2, "b")]).await.unwrap();
    assert_eq!(bodies(&one.pop(receive(1)).await.unwrap()), ["a"]);
    assert_eq!(bodies(&two.pop(receive(1)).await.unwrap()), ["b"]);
}
