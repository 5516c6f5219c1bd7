//! Three store-nodes behind two proxies: the leader is killed and stopped, followers go and come, and clients hardly
//! notice. The clients are those that note everything and the official Java SDK.

mod resumed;
mod scene;

use std::time::Duration;

use apogee_host::{Entropy as _, OsEntropy};
use apogee_tests::cluster::Cluster;
use apogee_tests::endure::Call;
use tokio::sync::Mutex;

use resumed::{Resumed, receives, sends};
use scene::Scene;

const KILLS: usize = 20;
const STOPS: usize = 5;
const LOSSES: usize = 2;
/// After the death of a leader, in the median. On a machine with nothing else to do it is 1.4 s, and the promise is 2 s; one
/// that is busy does not break it.
const RESUMED_MAX: Duration = Duration::from_secs(4);

/// What leaders log when the members of a replica group change, and how often until a wiped store-node votes in all three:
/// its replica becomes a learner, then a voter in the place of its earlier self.
const MEMBERS_CHANGED: &str = "membership_changed";
const JOINED: usize = 2 * 3;

/// Times are measured, so the tests wait for each other.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_leader_20_times() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open().await;
    let mut blows = Vec::new();
    for _ in 0..KILLS {
        scene.calm().await;
        let leader = scene.leader().await;
        let back_at_once = OsEntropy.next_u64().is_multiple_of(2);
        blows.push(scene.now());
        scene
            .lead_changes(async |cluster: &mut Cluster| {
                cluster.stores[leader].kill().await.expect("the leader is killed");
                if back_at_once {
                    cluster.stores[leader].start().expect("it starts again");
                }
            })
            .await;
        let killed = &mut scene.cluster.stores[leader];
        if !back_at_once {
            killed.start().expect("it starts again");
        }
        killed.ready().await.expect("it takes part again");
    }
    scene.calm().await;
    let seen = scene.close().await;

    let noted: Vec<_> = blows.iter().map(|blow| blow.noted).collect();
    let wall: Vec<_> = blows.iter().map(|blow| blow.wall).collect();
    let all = [
        Resumed::after("sends", &noted, &sends(&seen.calls)),
        Resumed::after("receives", &noted, &receives(&seen.calls)),
        Resumed::after("sends of Java", &wall, &seen.java.sent),
        Resumed::after("receives of Java", &wall, &seen.java.received),
    ];
    for resumed in &all {
        eprintln!("{resumed}");
    }
    eprintln!("{} calls refused, {} calls of Java failed", seen.refusals.len(), seen.java.failed.len());
    for failed in seen.refusals.iter().chain(&seen.java.failed).take(20) {
        eprintln!("  {failed}");
    }
    assert!(all.iter().all(|resumed| resumed.median() <= RESUMED_MAX), "longer than {RESUMED_MAX:?}: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_a_leader_stops_or_a_follower_is_lost() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open().await;
    let mut blows = Vec::new();
    for _ in 0..STOPS {
        scene.calm().await;
        let leader = scene.leader().await;
        blows.push(scene.now());
        scene
            .lead_changes(async |cluster: &mut Cluster| {
                let ended = cluster.stores[leader].stop().await.expect("the leader stops when asked to");
                assert!(ended.success(), "the leader ended with {ended}");
            })
            .await;
        let stopped = &mut scene.cluster.stores[leader];
        stopped.start().expect("it starts again");
        stopped.ready().await.expect("it takes part again");
    }
    for _ in 0..LOSSES {
        scene.calm().await;
        let leader = scene.leader().await;
        let follower = (leader + 1) % scene.cluster.stores.len();
        scene.cluster.stores[follower].kill().await.expect("a follower is killed");
        scene.calm().await;
        let lost = &mut scene.cluster.stores[follower];
        lost.start().expect("it starts again");
        lost.ready().await.expect("it takes part again");
    }
    scene.calm().await;
    let seen = scene.close().await;

    let noted: Vec<_> = blows.iter().map(|blow| blow.noted).collect();
    eprintln!("{}", Resumed::after("sends", &noted, &sends(&seen.calls)));
    eprintln!("{}", Resumed::after("receives", &noted, &receives(&seen.calls)));
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
    assert_eq!(seen.java.failed, Vec::<String>::new(), "calls of the Java SDK failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_replica_rejoins_while_load_runs() {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::open().await;
    scene.calm().await;
    let leader = scene.leader().await;
    let replicas = scene.cluster.stores.len();
    let (wiped, other) = ((leader + 1) % replicas, (leader + 2) % replicas);
    let lost = &mut scene.cluster.stores[wiped];
    lost.kill().await.expect("a follower is killed");
    lost.wipe().expect("its data is removed");
    scene.calm().await;
    let lost = &mut scene.cluster.stores[wiped];
    lost.start().expect("it starts again");
    lost.ready().await.expect("it takes part again");
    scene.cluster.logged(MEMBERS_CHANGED, JOINED).await.expect("it is a voter in the place of its earlier self");

    // Without the other store-node there is a majority with it only. The lead may have gone there meanwhile.
    scene.cluster.stores[other].kill().await.expect("the other follower is killed");
    scene.leader().await;
    let alone = scene.now();
    scene.calm().await;
    let no_more = scene.now();
    let other = &mut scene.cluster.stores[other];
    other.start().expect("it starts again");
    other.ready().await.expect("it takes part again");
    scene.calm().await;
    let seen = scene.close().await;

    let with_it = |call: &Call| call.began >= alone.noted && call.ended <= no_more.noted;
    assert!(sends(&seen.calls).iter().any(with_it), "its vote does not count");
    assert_eq!(seen.refusals, Vec::<String>::new(), "calls were refused");
    assert_eq!(seen.java.failed, Vec::<String>::new(), "calls of the Java SDK failed");
}
