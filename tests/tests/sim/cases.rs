//! What went wrong elsewhere, step by step, while clients work.

use std::time::Duration;

use apogee_tests::clients::Dice;
use apogee_tests::history::{Call, Outcome, What};

use crate::cluster::Cluster;
use crate::machine::Kind;
use crate::rule::Rule;
use crate::run::{Clients, Verdict, begin, judge};

const SEEDS: u64 = 8;
/// Longer than an election takes.
const ELECTION: Duration = Duration::from_secs(4);
/// Clients pause less than this many milliseconds, or, in long scenes, this many.
const PACE: u64 = 30;
const SLOW_PACE: u64 = 400;

/// The leader sends a block, the others write it, the client gets its OK, and the leader loses power before it wrote
/// the block itself. If it came back as the leader it was, it would give the place of that block to another one.
#[test]
fn a_leader_that_lost_its_newest_block_does_not_lead_on() {
    for seed in 0..SEEDS {
        let (mut from, mut to) = (Duration::ZERO, Duration::ZERO);
        let verdict = act(seed, PACE, |cluster| {
            let leader = awake_leader(cluster)?;
            cluster.machines[leader].hang_disk();
            from = cluster.age();
            cluster.pass(Duration::from_millis(400))?;
            to = cluster.age();
            cluster.lose_power(leader, Duration::ZERO);
            cluster.pass(ELECTION)
        });
        let meanwhile = |call: &&Call| call.span.start.at > from && call.span.end.at < to;
        let sent = |call: &Call| matches!(call.what, What::Send { outcome: Outcome::Ok, .. });
        let count = verdict.calls.iter().filter(meanwhile).filter(|call| sent(call)).count();
        assert!(count > 0, "seed {seed}: nobody sent anything while the leader's disk hung");
    }
}

/// A block can be committed by the others before it is on this disk. If views that know it survived a power cut that
/// the block does not, the log would have a hole.
#[test]
fn views_do_not_get_ahead_of_the_durable_log() {
    for seed in 0..SEEDS {
        act(seed, SLOW_PACE, |cluster| {
            let leader = awake_leader(cluster)?;
            let victim = if seed % 2 == 0 { leader } else { (leader + 1) % cluster.machines.len() };
            cluster.machines[victim].hang_disk();
            // The views would be flushed by then.
            cluster.pass(Duration::from_secs(32))?;
            cluster.lose_power(victim, Duration::from_millis(100));
            cluster.pass(ELECTION)
        });
    }
}

/// A leader stands still until another one leads, and wakes with everything it believed.
#[test]
fn a_leader_that_wakes_up_late_does_no_harm() {
    for seed in 0..SEEDS {
        let verdict = act(seed, PACE, |cluster| {
            let leader = awake_leader(cluster)?;
            cluster.machines[leader].pause();
            cluster.pass(ELECTION)?;
            let another = awake_leader(cluster)?;
            anyhow::ensure!(another != leader, "nobody took over");
            cluster.resume(leader);
            cluster.pass(ELECTION / 2)
        });
        assert!(verdict.log.iter().filter(|line| line.contains("leads")).count() > 1, "seed {seed}");
    }
}

/// A leader that nobody hears, and that hears everybody, gives way; so does one that hears nobody.
#[test]
fn a_leader_on_one_way_streets_gives_way() {
    for seed in 0..SEEDS {
        act(seed, PACE, |cluster| {
            let leader = awake_leader(cluster)?;
            let host = cluster.machines[leader].host.clone();
            let others: Vec<_> = cluster.machines.iter().map(|other| other.host.clone()).collect();
            let pairs = others.into_iter().filter(|other| *other != host).map(|other| match seed % 2 {
                0 => (host.clone(), other),
                _ => (other, host.clone()),
            });
            let pairs: Vec<_> = pairs.collect();
            pairs.iter().for_each(|(from, to)| cluster.block(from, to, true));
            cluster.pass(ELECTION)?;
            anyhow::ensure!(awake_leader(cluster)? != leader, "nobody took over");
            pairs.iter().for_each(|(from, to)| cluster.block(from, to, false));
            cluster.pass(ELECTION / 2)
        });
    }
}

fn awake_leader(cluster: &Cluster) -> anyhow::Result<usize> {
    cluster.leader().ok_or_else(|| anyhow::anyhow!("nobody leads"))
}

/// Lets clients work while the scene is played; afterwards every promise must have been kept.
fn act(seed: u64, pace: u64, scene: impl FnOnce(&mut Cluster) -> anyhow::Result<()>) -> Verdict {
    let mut cluster = Cluster::new(&Kind { spares: 0, ..Kind::new(seed, Rule::Honest, &Dice::new(seed, 0)) });
    let clients = Clients::join(&mut cluster, seed, pace, 1 + seed % 3, true);
    let outcome = begin(&mut cluster)
        .and_then(|()| cluster.pass(Duration::from_millis(300)))
        .and_then(|()| scene(&mut cluster))
        .and_then(|()| {
            clients.calm(&cluster);
            judge(&mut cluster, Duration::ZERO)
        });
    let verdict = outcome.unwrap_or_else(|error| panic!("seed {seed}: {error:#}\n{}", cluster.log.join("\n")));
    assert!(verdict.violations.is_empty(), "seed {seed}:\n{}\n{}", verdict.told(), verdict.log.join("\n"));
    verdict
}
