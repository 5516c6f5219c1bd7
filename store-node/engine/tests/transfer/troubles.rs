//! What can go wrong between the two, and with what came in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::group::{Group, Passage};

/// Kinds of frames, as they begin.
const BEGIN: u8 = 32;
const FILE: u8 = 33;
const SEGMENT: u8 = 34;
const END: u8 = 35;

/// Meddles with the `nth` frame of a kind, once, and sees that the replica gets there nevertheless.
async fn meddled(kind: u8, nth: u64, meddle: impl Fn(&Bytes) -> Passage + Send + Sync + 'static) {
    let (mut group, late) = Group::behind().await;
    let (net, seen) = (group.net.clone(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&seen);
    net.meddle(Some(Arc::new(move |_, _, frame: &Bytes| {
        let is_it = frame.first() == Some(&kind) && count.fetch_add(1, Ordering::Relaxed) == nth;
        if is_it { meddle(frame) } else { Passage::Pass }
    })));
    group.sites[late].start(&net).await.expect("what it has is sound");
    group.sites[late].begins_again(&net).await.expect("it takes over");
    assert!(seen.load(Ordering::Relaxed) > nth, "frame {nth} of kind {kind} was meddled with");
    group.send(1).await;
    group.agree().await;
    let leader = group.leader().await;
    assert_eq!(group.sites[late].dump().await, group.sites[leader].dump().await);
}

fn flipped(frame: &Bytes, at: usize) -> Passage {
    let mut changed = BytesMut::from(&frame[..]);
    changed[at] ^= 1;
    Passage::Changed(changed.freeze())
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_was_interrupted_is_made_again() {
    for (kind, nth) in [(BEGIN, 0), (FILE, 1), (SEGMENT, 17), (END, 0)] {
        meddled(kind, nth, |_| Passage::Lost).await;
    }
    for (kind, nth) in [(BEGIN, 0), (FILE, 0), (SEGMENT, 0), (END, 0)] {
        meddled(kind, nth, |_| Passage::AnswerLost).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_was_changed_on_the_way_is_not_taken() {
    meddled(SEGMENT, 1, |frame| flipped(frame, 500_000)).await;
    // A piece for another place, and one of another attempt.
    meddled(SEGMENT, 2, |frame| flipped(frame, 20)).await;
    meddled(SEGMENT, 3, |frame| flipped(frame, 10)).await;
    meddled(FILE, 0, |frame| flipped(frame, frame.len() - 9)).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_attempt_that_is_over_counts_for_nothing() {
    let (mut group, late) = Group::behind().await;
    let (net, kept) = (group.net.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let keep = Arc::clone(&kept);
    net.meddle(Some(Arc::new(move |_, _, frame: &Bytes| {
        if frame.first() != Some(&END) {
            return Passage::Pass;
        }
        keep.lock().unwrap().push(frame.clone());
        Passage::Lost
    })));
    group.sites[late].start(&net).await.unwrap();
    let ended = crate::group::until(|| kept.lock().unwrap().first().cloned()).await;
    // Somebody else leads, and it follows.
    let leader = group.leader().await;
    group.sites[leader].engine().hand_over(crate::group::SOON).await.unwrap();
    let next = crate::group::until(|| {
        let role = *group.sites[late].engine().role().borrow();
        let new = |leads: apogee_model::ReplicaId| leads != group.sites[leader].me;
        matches!(role, apogee_engine::Role::Follower { leader: Some(leads) } if new(leads)).then_some(())
    });
    next.await;
    let answer = net.ear(group.sites[late].me).answer(ended).await.unwrap();
    assert_ne!(answer[2], 1, "it is not taken");
    net.meddle(None);
    // The new leader has given up nothing.
    assert_eq!(group.catches_up(late).await, 0);
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_that_was_damaged_meanwhile_makes_it_a_new_replica() {
    let (mut group, late) = Group::behind().await;
    let net = group.net.clone();
    group.sites[late].start(&net).await.unwrap();
    let engine = group.sites[late].engine().clone();
    engine.again().await;
    drop(engine);
    group.sites[late].stop(&net).await;
    group.sites[late].views.damage_newest_base();
    group.sites[late].start(&net).await.unwrap();
    assert!(group.sites[late].was_damaged().await, "the leader counted on it, so it must not go on as it was");
    group.catches_up(late).await;
    group.send(1).await;
    group.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_begins_with_a_lost_base_makes_it_a_new_replica() {
    let mut group = Group::start().await;
    group.send(7).await;
    let late = group.stop_follower().await;
    group.send(14).await;
    // What is left begins behind the first segment, and behind the base that this replica took itself.
    group.shorten(-4).await;
    let net = group.net.clone();
    group.sites[late].start(&net).await.unwrap();
    group.sites[late].begins_again(&net).await.unwrap();
    group.agree().await;
    group.sites[late].lose_power(&net).await;
    group.sites[late].views.damage_live();
    group.sites[late].views.damage_newest_base();
    group.sites[late].start(&net).await.unwrap();
    assert!(group.sites[late].was_damaged().await, "an older base is no use to it");
    group.catches_up(late).await;
    group.send(1).await;
    group.agree().await;
}
