//! Any sequence of requests, with restarts in between, against a model of a few lines.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;

use apogee_host::SimDisk;
use apogee_model::MetadataError;
use proptest::prelude::*;

use support::*;

#[derive(Clone, Debug)]
enum Step {
    CreateTopic(String, u16),
    DeleteTopic(String),
    CreateGroup(String, u32),
    DeleteGroup(String),
    Rotate,
    Restart,
    PowerCut,
}

/// Names with (id, queues or attempts), how many ids were given, and the number of changes.
#[derive(Default)]
struct Model {
    topics: BTreeMap<String, (u32, u16)>,
    groups: BTreeMap<String, (u32, u32)>,
    topic_ids: u32,
    group_ids: u32,
    changes: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = "[a-d]";
    let queues = prop_oneof![Just(0), Just(1), Just(1024), Just(1025), 1..1024_u16];
    let step = prop_oneof![
        4 => (name, queues).prop_map(|(name, queues)| Step::CreateTopic(name, queues)),
        3 => name.prop_map(Step::DeleteTopic),
        4 => (name, 0..3_u32).prop_map(|(name, attempts)| Step::CreateGroup(name, attempts)),
        3 => name.prop_map(Step::DeleteGroup),
        1 => Just(Step::Rotate),
        1 => Just(Step::Restart),
        1 => Just(Step::PowerCut),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn namesrv_is_the_model(steps in steps()) {
        block_on(check(steps));
    }
}

async fn check(steps: Vec<Step>) {
    let mut disk = SimDisk::new(1);
    let mut life = start_with_node(&disk, 1).await.unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Restart => life.end().await,
            Step::PowerCut => disk = disk.power_cut(),
            request => {
                let asked = ask(&life, &request).await;
                assert_eq!(asked, model.run(&request), "{request:?}");
                model.compare(&life);
                continue;
            }
        }
        life = start(&disk, 2).await.unwrap();
        model.compare(&life);
    }
}

/// Whether it was done, and the id of what it was done to.
async fn ask(life: &Life, step: &Step) -> Option<u32> {
    let outcome: Result<u32, MetadataError> = match step {
        Step::CreateTopic(name, queues) => life.namesrv.create_topic(new_topic(name, *queues)).await.map(|t| t.id.0),
        Step::DeleteTopic(name) => life.namesrv.delete_topic(&topic(name)).await.map(|t| t.id.0),
        Step::CreateGroup(name, attempts) => {
            life.namesrv.create_group(new_group(name, *attempts)).await.map(|g| g.id.0)
        }
        Step::DeleteGroup(name) => life.namesrv.delete_group(&group(name)).await.map(|g| g.id.0),
        Step::Rotate => life.namesrv.rotate_mac_keys().await.map(|_| 0),
        Step::Restart | Step::PowerCut => unreachable!("these are not requests"),
    };
    outcome.ok()
}

impl Model {
    fn run(&mut self, step: &Step) -> Option<u32> {
        let done = match step {
            Step::CreateTopic(name, queues) => {
                let fine = (1..=1024).contains(queues) && !self.topics.contains_key(name);
                fine.then(|| {
                    self.topic_ids += 1;
                    self.topics.insert(name.clone(), (self.topic_ids, *queues));
                    self.topic_ids
                })
            }
            Step::CreateGroup(name, attempts) => {
                let fine = *attempts > 0 && !self.groups.contains_key(name);
                fine.then(|| {
                    self.group_ids += 1;
                    self.topic_ids += 1;
                    self.topics.insert(format!("%DLQ%{name}"), (self.topic_ids, 1));
                    self.groups.insert(name.clone(), (self.group_ids, *attempts));
                    self.group_ids
                })
            }
            Step::DeleteTopic(name) => self.topics.remove(name).map(|(id, _)| id),
            Step::DeleteGroup(name) => {
                self.topics.remove(&format!("%DLQ%{name}"));
                self.groups.remove(name).map(|(id, _)| id)
            }
            Step::Rotate => Some(0),
            Step::Restart | Step::PowerCut => unreachable!("these are not requests"),
        };
        self.changes += u64::from(done.is_some());
        done
    }

    fn compare(&self, life: &Life) {
        let cluster = life.cluster();
        let topics = cluster.topics.iter().map(|(topic, found)| (topic.name().to_owned(), (found.id.0, found.queues)));
        assert_eq!(topics.collect::<BTreeMap<_, _>>(), self.topics);
        let groups =
            cluster.groups.iter().map(|(group, found)| (group.name().to_owned(), (found.id.0, found.max_attempts)));
        assert_eq!(groups.collect::<BTreeMap<_, _>>(), self.groups);
        assert_eq!(cluster.version, 2 + self.changes);
    }
}
