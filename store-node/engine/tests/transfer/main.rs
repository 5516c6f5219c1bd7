//! A replica that is too far behind gets a base and the log behind it from the leader.

mod group;

use group::Group;

#[tokio::test(start_paused = true)]
async fn blocks_that_were_given_up_stay_given_up() {
    let mut group = Group::start().await;
    group.send(12).await;
    let base = group.shorten(3).await;
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
