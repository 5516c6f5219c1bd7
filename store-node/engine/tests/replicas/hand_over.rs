//! A leader that hands the lead over: nobody who asked before hears of it, and nobody waits for an election.

use std::time::Duration;

use apogee_model::ReplicaId;
use apogee_model::store::StoreError;
use futures::future::{join, join_all};
use tokio::time::{Instant, sleep};

use crate::group::{Group, LONG, append};

/// Before this nobody calls an election by itself.
const AT_ONCE: Duration = Duration::from_millis(400);
const TIMES: u64 = 6;
const SENDS: u64 = 50;

#[tokio::test(start_paused = true)]
async fn what_was_asked_is_answered_and_another_one_leads() {
    let mut group = Group::founded(8).await;
    for time in 0..TIMES {
        let leader = group.leader().await;
        let engine = group.open(leader).await;
        let sends = (0..SENDS).map(|nth| engine.append(vec![append(time * SENDS + nth, 1000)]));
        let (sent, handed_over) = join(join_all(sends), engine.hand_over(AT_ONCE)).await;
        assert_eq!(handed_over, Ok(()));
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        let refused = engine.append(vec![append(0, 1000)]).await;
        assert!(matches!(refused, Err(StoreError::NotLeader { .. })), "{refused:?}");
        assert_ne!(group.leader_within(AT_ONCE).await, Some(leader));
    }
    assert_eq!(group.messages().await, TIMES * SENDS);
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_others_goes_on() {
    let mut group = Group::founded(9).await;
    let leader = group.leader().await;
    for other in (1..=3).filter(|other| *other != leader) {
        group.stop(other).await;
    }
    let engine = group.open(leader).await;
    // Nobody takes over, and nothing is decided without a majority; with one it leads again, or another one does.
    assert!(engine.hand_over(AT_ONCE).await.is_err());
    group.start(leader % 3 + 1);
    group.send(1, 100).await;
    assert_eq!(engine.hand_over(LONG).await, Ok(()));
    group.send(1, 100).await;
    assert_eq!(group.messages().await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_replica_that_is_named_leads_next() {
    let mut group = Group::founded(10).await;
    for time in 0..TIMES {
        let leader = group.leader().await;
        let next = if time % 2 == 0 { leader % 3 + 1 } else { (leader + 1) % 3 + 1 };
        let engine = group.open(leader).await;
        let sends = (0..SENDS).map(|nth| engine.append(vec![append(time * SENDS + nth, 1000)]));
        let (sent, handed_over) = join(join_all(sends), engine.hand_over_to(ReplicaId(next), AT_ONCE)).await;
        assert_eq!(handed_over, Ok(()));
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        let refused = engine.hand_over_to(ReplicaId(next), AT_ONCE).await;
        assert!(matches!(refused, Err(StoreError::NotLeader { .. })), "{refused:?}");
        assert_eq!(group.leader_within(AT_ONCE).await, Some(next));
    }
    assert_eq!(group.messages().await, TIMES * SENDS);
    group.agree().await;
}

/// Refused by a leader that leads as before, and serves as before.
async fn is_refused(group: &mut Group, leader: u64, to: u64) {
    let engine = group.open(leader).await;
    let mut role = engine.role();
    role.mark_unchanged();
    let (sent, refused) = join(engine.append(vec![append(0, 1000)]), engine.hand_over_to(ReplicaId(to), AT_ONCE)).await;
    assert_eq!(refused, Err(StoreError::CannotLead { replica: ReplicaId(to) }));
    assert!(sent.is_ok(), "{sent:?}");
    assert!(!role.has_changed().expect("it runs"), "{:?}", *role.borrow());
}

#[tokio::test(start_paused = true)]
async fn the_lead_is_not_offered_to_one_that_cannot_take_it() {
    let mut group = Group::founded(11).await;
    let leader = group.leader().await;
    let away = leader % 3 + 1;
    is_refused(&mut group, leader, leader).await;
    is_refused(&mut group, leader, 9).await;
    group.stop(away).await;
    sleep(AT_ONCE).await;
    is_refused(&mut group, leader, away).await;
    // It comes back empty, and has no vote for a while; then it may lead.
    group.wipe(away);
    group.send(100, 100_000).await;
    group.start(away);
    group.open(away).await;
    is_refused(&mut group, leader, away).await;
    let engine = group.open(leader).await;
    let end = Instant::now() + LONG;
    while let Err(error) = engine.hand_over_to(ReplicaId(away), AT_ONCE).await {
        assert_eq!(error, StoreError::CannotLead { replica: ReplicaId(away) });
        assert!(Instant::now() < end, "it never can");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(group.leader().await, away);
    group.agree().await;
}
