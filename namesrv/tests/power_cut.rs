//! Power cuts at any moment, by seed. In words: what was answered is there; what was not may be or not; no id comes
//! twice; versions never go back.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_host::{Entropy, SeededEntropy, SimDisk};
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
