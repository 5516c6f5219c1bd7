//! One seed from its beginning to the verdict.

use std::collections::BTreeSet;
use std::time::Duration;

use apogee_model::{PriorityFactor, Timestamp};
use apogee_tests::clients::payload::{FILTERED, GROUPS, QUEUES, READING};
use apogee_tests::clients::{
    Asked, Consumer, Dice, LiteConsumer, LiteProducer, Patience, Producer, Reader, Receive, Site, Sizes, Tempo,
};
use apogee_tests::history::{
    Call, EndAnswer, Invariant, MessageId, Outcome, Replica, Rules, Violation, What, agree, check,
};
use futures::future::{join, join_all, join3, join5};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::cluster::Cluster;
use crate::faults::Weather;
use crate::machine::{Kind, Trims};
use crate::proxy::{CALL_MAX, Proxy};
use crate::rule::Rule;
use crate::steward::Government;
use crate::tally::{Happening, Tally};

/// The shortest window of a delivery.
pub(crate) const WINDOW: Duration = Duration::from_millis(1500);
/// Longest time of a cluster without faults until somebody leads.
const ELECTION_MAX: Duration = Duration::from_secs(10);
/// Nothing takes longer once the faults are over, or it does not end.
const HEALING_MAX: Duration = Duration::from_secs(45);

/// A leader may be cut off, or stand still, again and again for this long with a proposal in hand that is committed
/// afterwards, when nobody else was elected meanwhile. Hardly any run has longer bad weather.
const LATE_EFFECT: Duration = Duration::from_secs(10);
/// In one of so many seeds there are consumers with a filter; afterwards their group is drained anyway.
const FILTERED_IN: u64 = 2;
/// In one of so many seeds consumers let their groups go on elsewhere,
const RESETS_IN: u64 = 4;
/// in one of so many turns.
const RESET_EVERY: u64 = 100;
/// Deliveries of a message to the group that has dead letters.
const DEAD_AFTER: u32 = 3;
/// In one of so many seeds there are lite topics,
const LITE_IN: u64 = 2;
/// and queues are levels of urgency.
const URGENT_IN: u64 = 4;
/// In one of so many seeds no group is ordered.
const UNORDERED_IN: u64 = 3;
/// Violations of one seed that are told.
const LINES: usize = 12;

/// The build under test, and the luck it has.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) rule: Rule,
    pub(crate) sync_lies: bool,
    pub(crate) government: Government,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) calls: Vec<Call>,
    /// What happened to the cluster.
    pub(crate) log: Vec<String>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) tally: Tally,
}

impl Verdict {
    /// What was wrong, in some lines; empty when nothing was.
    pub(crate) fn told(&self) -> String {
        let told: Vec<_> = self.violations.iter().take(LINES).map(ToString::to_string).collect();
        let more = self.violations.len().saturating_sub(LINES);
        if more > 0 { format!("{}\nand {more} more", told.join("\n")) } else { told.join("\n") }
    }
}

impl Plan {
    pub(crate) fn honest(seed: u64) -> Plan {
        Plan { seed, rule: Rule::Honest, sync_lies: false, government: Government::Honest }
    }
}

/// Runs a seed.
///
/// # Errors
/// When a store does not open, or ends for no reason that the simulation knows.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Verdict> {
    let dice = Dice::new(plan.seed, 0);
    let kind =
        Kind { sync_lies: plan.sync_lies, government: plan.government, ..Kind::new(plan.seed, plan.rule, &dice) };
    let mut cluster = Cluster::new(&kind);
    let outcome = begin(&mut cluster).and_then(|()| live(plan, &dice, &mut cluster));
    outcome.map_err(|error| error.context(cluster.log.join("\n")))
}

/// Starts the processes and waits for the first leader.
pub(crate) fn begin(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.start_all()?;
    cluster.until("a first leader", ELECTION_MAX, |cluster| cluster.leader().is_some())
}

fn live(plan: Plan, dice: &Dice, cluster: &mut Cluster) -> anyhow::Result<Verdict> {
    let (pace, producers) = match cluster.trims {
        Trims::None => ([8, 40, 150][dice.size(0, 2)], [1, 1, 4][dice.size(0, 2)]),
        // What is to go has to come first.
        Trims::Old(_) | Trims::Many => ([8, 40][dice.size(0, 1)], 4),
    };
    let clients = Clients::join(cluster, plan.seed, pace, producers, dice.one_in(4));
    let mut weather = Weather::new(plan.seed, clients.hosts.clone());
    let end = cluster.age() + Duration::from_millis(2500) + dice.millis(5000);
    while cluster.age() < end {
        weather.blow(cluster);
        cluster.step()?;
    }
    weather.calm(cluster);
    clients.calm(cluster);
    judge(cluster, weather.clock_bound())
}

/// Those who use the cluster.
pub(crate) struct Clients {
    pub(crate) hosts: Vec<String>,
    over: CancellationToken,
    healed: CancellationToken,
}

impl Clients {
    /// Two proxies with producers and consumers each. The first drains the cluster when it is healed and all clients
    /// are at rest.
    /// They pause less than `pace` milliseconds, and some stay just long enough to be heard.
    pub(crate) fn join(cluster: &mut Cluster, seed: u64, pace: u64, producers: u64, patient: bool) -> Clients {
        let tempo = Tempo { pace, window: WINDOW, glance: cluster.latency * 3 };
        let hosts: Vec<_> = (1..=2).map(|number| format!("proxy-{number}")).collect();
        let (over, healed) = (CancellationToken::new(), CancellationToken::new());
        let at_rest: Vec<_> = hosts.iter().map(|_| CancellationToken::new()).collect();
        for ((number, host), at_my_rest) in (1..).zip(&hosts).zip(&at_rest) {
            let site = site(cluster, seed, number, over.clone(), tempo);
            site.tell_order();
            let (healed, mine, all) = (healed.clone(), at_my_rest.clone(), at_rest.clone());
            cluster.client(host, async move {
                work(&site, seed, number, producers).await;
                mine.cancel();
                if number == 1 {
                    healed.cancelled().await;
                    join_all(all.iter().map(CancellationToken::cancelled)).await;
                    // At once: everybody must be served soon, however long it takes until nothing is left.
                    let lites = async {
                        if has_lites(seed) {
                            site.drain_lites().await;
                        }
                    };
                    join(drain(&site, patient), lites).await;
                }
                Ok(())
            });
        }
        Clients { hosts, over, healed }
    }

    /// Nothing happens any more; what is there shall be received and acked.
    pub(crate) fn calm(&self, cluster: &Cluster) {
        self.over.cancel();
        cluster.history.end(cluster.history.start(), What::Healed);
        self.healed.cancel();
    }
}

/// Waits for the end of the drain and for replicas that hold the same, and compares.
pub(crate) fn judge(cluster: &mut Cluster, clock_bound: Duration) -> anyhow::Result<Verdict> {
    let rules = Rules { clock_bound, call_max: Some(CALL_MAX), late_effect: LATE_EFFECT };
    let end = cluster.age() + HEALING_MAX;
    let mut late = Vec::new();
    while !cluster.step()? {
        if cluster.age() > end {
            late.push(too_late("the drain does not come to an end"));
            break;
        }
    }
    let replicas = loop {
        // Nobody else lives while one is asked, so nothing may be under way that takes two.
        let replicas = if cluster.steward.is_settled() { cluster.replicas()? } else { Vec::new() };
        let is_whole = !replicas.is_empty() && replicas.len() == cluster.hosting().len();
        if is_whole && replicas.iter().all(|one| one.applied == replicas[0].applied) {
            break replicas;
        }
        if cluster.age() > end {
            let applied: Vec<_> = replicas.iter().map(|replica| (&replica.name, replica.applied)).collect();
            let seating = cluster.steward.seating();
            late.push(too_late(&format!("replicas do not catch up: {applied:?} of {seating:?}")));
            break replicas;
        }
        cluster.pass(Duration::from_millis(50))?;
    };
    if let Some(replica) = replicas.iter().max_by_key(|replica| replica.applied) {
        cluster.note_trims(replica);
    }
    let calls = cluster.history.calls();
    let mut violations = late;
    // Nobody damages stores here, but for one base, and a log may begin where that ended.
    let sound = cluster.machines.iter().enumerate().filter(|(at, _)| cluster.robbed != Some(*at));
    for (_, machine) in sound.filter(|(_, machine)| machine.distrusts_its_store()) {
        let told = format!("{} found its store damaged", machine.host);
        violations.push(Violation { invariant: Invariant::I14, told });
    }
    violations.extend(check(&calls, rules));
    violations.extend(agree(&replicas));
    let end = replicas.iter().filter_map(|replica| replica.log.values().last()).map(|block| block.lsn).max();
    cluster.tally.add(Happening::FullSegment, end.unwrap_or_default() / cluster.segment_bytes);
    let reset = |call: &&Call| matches!(call.what, What::Reset { outcome: Outcome::Ok, .. });
    let resets = calls.iter().filter(reset).count();
    if resets > 0 {
        cluster.tally.add(Happening::OffsetReset, u64::try_from(resets).expect("a count"));
    }
    let committed = |call: &&Call| matches!(call.what, What::Commit { outcome: Outcome::Ok, .. });
    let commits = calls.iter().filter(committed).count();
    if commits > 0 {
        cluster.tally.add(Happening::OffsetCommit, u64::try_from(commits).expect("a count"));
    }
    note_delays(&calls, &mut cluster.tally);
    note_transactions(&calls, &mut cluster.tally);
    let dead = calls.iter().filter_map(|call| match &call.what {
        What::DeadLetters { letters, .. } => Some(letters.len()),
        _ => None,
    });
    let dead: usize = dead.sum();
    if dead > 0 {
        cluster.tally.add(Happening::DeadLetter, u64::try_from(dead).expect("a count"));
    }
    let (log, tally) = (std::mem::take(&mut cluster.log), cluster.tally.clone());
    Ok(Verdict { violations, calls, log, replicas, tally })
}

/// Counts what came of delayed messages, and of lite topics.
fn note_delays(calls: &[Call], tally: &mut Tally) {
    let delayed = calls.iter().filter_map(|call| match call.what {
        What::Delayed { message, .. } => Some(message),
        _ => None,
    });
    let delayed: BTreeSet<_> = delayed.collect();
    for call in calls {
        match &call.what {
            What::Receive { topic, deliveries, .. } => {
                let came = deliveries.iter().filter(|delivery| delayed.contains(&delivery.message));
                came.for_each(|_| tally.count(Happening::DelayedMessage));
                if topic.contains('/') {
                    tally.add(Happening::LiteMessage, u64::try_from(deliveries.len()).expect("a count"));
                }
            }
            What::Recall { outcome: Outcome::Ok, .. } => tally.count(Happening::Recall),
            What::Recall { outcome: Outcome::Failed, .. } => tally.count(Happening::LateRecall),
            _ => {}
        }
    }
}

/// Counts what came of transactions.
fn note_transactions(calls: &[Call], tally: &mut Tally) {
    for call in calls {
        match call.what {
            What::End { answer: EndAnswer::Done, commit: true, .. } => tally.count(Happening::Commit),
            What::End { answer: EndAnswer::Done, commit: false, .. } => tally.count(Happening::Rollback),
            What::End { answer: EndAnswer::Otherwise, .. } => tally.count(Happening::OtherEnd),
            _ => {}
        }
    }
}

fn too_late(told: &str) -> Violation {
    Violation { invariant: Invariant::I15, told: told.to_owned() }
}

/// The place of a proxy in the cluster.
fn site(cluster: &Cluster, seed: u64, number: u64, over: CancellationToken, tempo: Tempo) -> Site<Proxy> {
    let replicas = u64::try_from(cluster.machines.len()).expect("a few");
    let door = Proxy::new(cluster.desk.clone(), Dice::new(seed, 100 + number), replicas);
    let (dead_after, began) = (Some(DEAD_AFTER), Some(Timestamp(clock::BEGINNING)));
    let in_order = !Dice::new(seed, 501).one_in(UNORDERED_IN);
    let history = cluster.history.clone();
    let priority = Dice::new(seed, 502).one_in(URGENT_IN).then(PriorityFactor::default);
    Site { door, history, over, tempo, dead_after, began, in_order, priority }
}

/// The clients of one proxy, until it is over.
async fn work(site: &Site<Proxy>, seed: u64, proxy: u64, producers: u64) {
    let producer = |nth: u64| {
        let number = proxy * 10 + nth;
        Producer::new(Dice::new(seed, number), number, Sizes::Small)
    };
    let mut producers: Vec<_> = (0..producers).map(producer).collect();
    let resets = Dice::new(seed, 500).one_in(RESETS_IN);
    let consumer = |nth: u64| {
        let number = proxy * 100 + nth;
        let group = 1 + u32::try_from(nth).expect("few groups") % GROUPS;
        let consumer = Consumer::new(Dice::new(seed, number), group, number);
        if resets { consumer.with_resets(RESET_EVERY) } else { consumer }
    };
    let mut consumers: Vec<_> = (0..2).map(consumer).collect();
    if Dice::new(seed, 600).one_in(FILTERED_IN) {
        consumers.push(Consumer::new(Dice::new(seed, proxy * 100 + 50), FILTERED, proxy * 100 + 50));
    }
    let mut asked = Asked::new(Dice::new(seed, proxy * 100 + 60));
    // One proxy has a reader, who is alone in its group.
    let mut reader = (proxy == 1).then(|| Reader::new(Dice::new(seed, 700), READING));
    let reading = async {
        if let Some(reader) = &mut reader {
            reader.run(site).await;
        }
    };
    let consuming = join_all(consumers.iter_mut().map(|consumer| consumer.run(site)));
    let producing = join_all(producers.iter_mut().map(|producer| producer.run(site)));
    let lite = async {
        if has_lites(seed) {
            let mut producer = LiteProducer::new(Dice::new(seed, 800 + proxy), 50 + proxy);
            let consumer = |nth: u64| LiteConsumer::new(Dice::new(seed, 810 + proxy * 10 + nth), proxy * 10 + nth);
            let (mut one, mut other) = (consumer(0), consumer(1));
            join3(producer.run(site), one.run(site), other.run(site)).await;
        }
    };
    join5(producing, consuming, asked.run(site), reading, lite).await;
    join_all(producers.iter_mut().map(|producer| producer.recall_all(site))).await;
    join_all(producers.iter_mut().map(|producer| producer.end_all(site))).await;
}

fn has_lites(seed: u64) -> bool {
    Dice::new(seed, 503).one_in(LITE_IN)
}

/// Sends a message to every queue, then receives and acks until nothing is left. A patient one waits for longer than
/// any window, and looks again.
async fn drain(site: &Site<Proxy>, patient: bool) {
    let mut next = 900_000_000;
    for queue in 0..QUEUES {
        loop {
            next += 1;
            let before = site.history.calls().len();
            let _sent = site.send(queue, &[(MessageId(next), 40)], Patience::Waits).await;
            let calls = site.history.calls();
            if calls[before..].iter().any(|call| matches!(call.what, What::Send { outcome: Outcome::Ok, .. })) {
                break;
            }
        }
    }
    settle_all(site).await;
    if patient {
        tokio::time::sleep(WINDOW * 3).await;
        settle_all(site).await;
    }
    let _noted_or_over = site.note_dead_letters().await;
}

async fn settle_all(site: &Site<Proxy>) {
    loop {
        let mut unsettled = Some(0);
        for group in 1..=FILTERED {
            let receive = Receive { group, batch: 32, attempt_id: None, invisible: WINDOW };
            let messages: Vec<_> = site.receive(receive, Patience::Waits).await.into_iter().flatten().collect();
            // What is not acked comes again.
            join_all(messages.iter().map(|delivery| site.ack(delivery))).await;
            let progress = site.progress(group).await.ok().flatten();
            unsettled = unsettled.zip(progress).map(|(all, group)| all + group);
        }
        if unsettled == Some(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}
