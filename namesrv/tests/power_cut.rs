//! Power cuts at any moment, by seed. In words: what was answered is there; what was not may be or not; no id comes
//! twice; versions never go back.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_host::{Disk, Entropy, SeededEntropy, SimDisk};
use apogee_model::{Cluster, MetadataError, TopicConfig};
use apogee_namesrv::OpenError;
use futures::future::join_all;

use support::*;

const SEEDS: u64 = 200;
const LIVES: u32 = 5;
const NAMES: u64 = 6;

/// What clients were told.
#[derive(Default)]
struct Told {
    /// The last answer about each name: its topic, or that it is gone.
    answers: BTreeMap<String, Option<Arc<TopicConfig>>>,
    /// Names somebody asked about and was not answered, in the last life.
    open: BTreeSet<String>,
    ids: BTreeSet<u32>,
    cluster_id: Option<u64>,
    version: u64,
    /// Power cuts after which a change was there, or not, that nobody was told of.
    kept: u32,
    lost: u32,
}

/// One request about one name.
#[derive(Clone, Copy)]
enum Ask {
    Create,
    Delete,
}

#[test]
fn what_was_answered_survives() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let told = block_on(run(seed, Sync::Honest)).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        kept += told.kept;
        lost += told.lost;
    }
    assert!(kept > 50 && lost > 50, "the cuts hit changes in flight: {kept} kept, {lost} lost");
}

#[test]
fn a_disk_whose_sync_does_nothing_is_caught() {
    let caught = (0..100).filter(|seed| block_on(run(*seed, Sync::Lies)).is_err()).count();
    assert!(caught > 50, "{caught}");
}

/// A full file is replaced by one with all that is known: every operation of that, and those around it.
#[test]
fn no_cut_while_a_file_is_replaced_loses_anything() {
    let whole = SimDisk::new(1);
    let (_, replaced) = block_on(fill(&whole));
    let replaced = replaced.expect("the file is full after some rounds");
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        disk.cut_at_op(replaced - 12 + seed % 16);
        let (kept, _) = block_on(fill(&disk));
        let disk = disk.power_cut();
        block_on(async {
            let life = start(&disk, seed).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            for name in kept {
                assert!(life.cluster().topics.contains_key(&topic(&name)), "seed {seed}: {name} is lost");
            }
            let names = disk.list("namesrv").await.unwrap();
            assert_eq!(names.iter().filter(|name| name.starts_with("journal-")).count(), 1, "seed {seed}");
        });
    }
}

/// Fills the journal until its first file is gone, or the disk. Returns the topics that were answered and stay, and after
/// how many operations the file was gone.
async fn fill(disk: &SimDisk) -> (Vec<String>, Option<u64>) {
    let mut kept = Vec::new();
    let Ok(life) = start(disk, 1).await else { return (kept, None) };
    if life.namesrv.register(node("n1")).await.is_err() {
        return (kept, None);
    }
    for round in 0..100 {
        let name = format!("kept-{round}");
        if life.namesrv.create_topic(new_topic(&name, 1)).await.is_err() {
            return (kept, None);
        }
        kept.push(name);
        let passing: Vec<String> = (0..100).map(|n| format!("{}-{round}-{n}", "p".repeat(80))).collect();
        join_all(passing.iter().map(|name| life.namesrv.create_topic(new_topic(name, 1)))).await;
        let passing: Vec<_> = passing.iter().map(|name| topic(name)).collect();
        join_all(passing.iter().map(|topic| life.namesrv.delete_topic(topic))).await;
        match disk.list("namesrv").await {
            Ok(names) if names.contains(&"journal-0000000001".to_owned()) => {}
            Ok(_) => return (kept, Some(disk.operations())),
            Err(_) => return (kept, None),
        }
    }
    (kept, None)
}

#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Honest,
    Lies,
}

async fn run(seed: u64, sync: Sync) -> Result<Told, String> {
    let numbers = SeededEntropy::new(seed);
    let mut disk = SimDisk::new(seed);
    let mut told = Told::default();
    for _ in 0..LIVES {
        disk.set_sync_lies(sync == Sync::Lies);
        disk.cut_at_op(numbers.next_u64() % 25);
        live(&disk, &numbers, &mut told).await?;
        disk = disk.power_cut();
    }
    let life = start(&disk, seed).await.map_err(|error| format!("does not start: {error}"))?;
    told.check(&life.cluster())?;
    Ok(told)
}

/// One life until the cut, which may come while it starts.
async fn live(disk: &SimDisk, numbers: &SeededEntropy, told: &mut Told) -> Result<(), String> {
    let life = match start(disk, numbers.next_u64()).await {
        Ok(life) => life,
        Err(OpenError::Io { .. } | OpenError::Stopped(_)) => return Ok(()),
        Err(error) => return Err(format!("does not start: {error}")),
    };
    told.check(&life.cluster())?;
    if life.namesrv.register(node("n1")).await.is_err() {
        return Ok(());
    }
    loop {
        let asks = (0..=numbers.next_u64() % 8).map(|_| draw(numbers)).collect::<BTreeMap<_, _>>();
        let outcomes = join_all(asks.iter().map(|(name, ask)| act(&life, name, *ask))).await;
        for (name, outcome) in asks.into_keys().zip(outcomes) {
            told.hear(name, outcome)?;
        }
        told.version = life.cluster().version;
        if !told.open.is_empty() {
            return Ok(());
        }
    }
}

fn draw(numbers: &SeededEntropy) -> (String, Ask) {
    let ask = if numbers.next_u64().is_multiple_of(3) { Ask::Delete } else { Ask::Create };
    // Long names, so that an entry covers several sectors of the disk.
    (format!("{}{}", "n".repeat(100), numbers.next_u64() % NAMES), ask)
}

/// What the name is now; `None` when nobody told.
async fn act(life: &Life, name: &str, ask: Ask) -> Option<Outcome> {
    let outcome = match ask {
        Ask::Create => life.namesrv.create_topic(new_topic(name, 3)).await.map(Outcome::Created),
        Ask::Delete => life.namesrv.delete_topic(&topic(name)).await.map(|_| Outcome::Gone),
    };
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(MetadataError::TopicExists { .. }) => Some(Outcome::There),
        Err(MetadataError::NoSuchTopic { .. }) => Some(Outcome::Gone),
        Err(_) => None,
    }
}

enum Outcome {
    Created(Arc<TopicConfig>),
    There,
    Gone,
}

impl Told {
    fn hear(&mut self, name: String, outcome: Option<Outcome>) -> Result<(), String> {
        let known = self.answers.get(&name).cloned().flatten();
        match outcome {
            None => {
                self.open.insert(name);
            }
            Some(Outcome::There) if known.is_none() => return Err(format!("{name} is there, but was gone")),
            Some(Outcome::There) => {}
            Some(Outcome::Gone) => {
                self.answers.insert(name, None);
            }
            Some(Outcome::Created(topic)) => {
                if !self.ids.insert(topic.id.0) {
                    return Err(format!("id {} was given twice", topic.id));
                }
                self.answers.insert(name, Some(topic));
            }
        }
        Ok(())
    }

    /// Compares with what a new life shows, and takes that as told.
    fn check(&mut self, cluster: &Cluster) -> Result<(), String> {
        if *self.cluster_id.get_or_insert(cluster.cluster_id) != cluster.cluster_id {
            return Err("another cluster was born".to_owned());
        }
        if cluster.version < self.version {
            return Err(format!("version {} after {}", cluster.version, self.version));
        }
        self.version = cluster.version;
        for (name, told) in &self.answers {
            let found = cluster.topics.get(&topic(name));
            if found != told.as_ref() && !self.open.contains(name) {
                return Err(format!("{name} was {told:?} and is {found:?}"));
            }
        }
        for name in std::mem::take(&mut self.open) {
            let found = cluster.topics.get(&topic(&name)).cloned();
            if self.answers.get(&name).cloned().flatten() == found {
                self.lost += 1
            } else {
                self.kept += 1
            }
            self.ids.extend(found.iter().map(|topic| topic.id.0));
            self.answers.insert(name, found);
        }
        match cluster.topics.values().find(|found| !self.ids.contains(&found.id.0)) {
            Some(stranger) => Err(format!("nobody asked for {stranger:?}")),
            None => Ok(()),
        }
    }
}
