//! The power of the receiver fails in the midst of an operation of its disk: of any that it does from its start on until
//! it has what it needs.

use crate::group::{Group, SOON};

/// Operations beyond what it takes.
const MANY: u64 = 1000;

/// Cuts the power after so many operations, once, and sees whether all ends well. Says how many there were before the
/// replica had what it needs, when the cut did not come before.
async fn cut_after(operations: u64) -> Option<u64> {
    let (mut group, late) = Group::behind().await;
    let (net, site) = (group.net.clone(), &mut group.sites[late]);
    let before = site.disk.operations();
    site.disk.cut_at_op(operations);
    let cut = site.start(&net).await.is_err() || site.fails_or_begins_again(&net).await;
    let took = site.disk.operations() - before;
    if cut {
        site.lose_power(&net).await;
        site.start(&net).await.expect("it starts on whatever the power left");
    }
    site.disk.cut_at_op(u64::MAX);
    group.catches_up(late).await;
    assert!(!group.sites[late].was_damaged().await, "a cut damages nothing");
    group.send(1).await;
    group.agree().await;
    let leader = group.leader().await;
    assert_eq!(group.sites[late].dump().await.log, group.sites[leader].dump().await.log, "cut after {operations}");
    if operations.is_multiple_of(5) {
        group.let_lead(late).await;
        assert_eq!(group.pop_all(1).await, (1..=group.sent()).collect::<Vec<_>>(), "cut after {operations}");
    }
    (!cut).then_some(took)
}

#[tokio::test(start_paused = true)]
async fn the_power_may_fail_at_any_moment() {
    let took = cut_after(MANY).await.expect("so many are not needed");
    assert!((20..MANY).contains(&took), "{took}");
    // From the end on, where what came in is taken over. Most of the others write pieces of a segment, one as the other.
    for operations in (0..took).rev() {
        if operations < 8 || operations + 20 > took || operations.is_multiple_of(16) {
            tokio::time::timeout(20 * SOON, cut_after(operations)).await.expect("it ends");
        }
    }
}
