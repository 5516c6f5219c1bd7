//! A leader that hands the lead over: nobody who asked before hears of it, and nobody waits for an election.

use std::time::Duration;

use apogee_model::store::StoreError;
use futures::future::{join, join_all};

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
