//! What namesrv promises to the roles, while the disk does what it should.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Disk, Exit, OsEntropy, RealClock, RealDisk, SimDisk, Tasks};
use apogee_model::{
    DeliverySeq, Epoch, GroupId, MetadataError, QueueId, QueueOffset, ReceiptError, ReceiptHandle, TopicId,
};
use apogee_namesrv::{Namesrv, NamesrvParts};
use futures::future::join_all;

use support::*;

#[tokio::test]
async fn what_was_created_is_listed_and_survives_a_restart() {
    let disk = SimDisk::new(1);
    let life = start_with_node(&disk, 1).await.unwrap();
    life.clock.advance(Duration::from_secs(7));
    let orders = life.namesrv.create_topic(new_topic("orders", 8)).await.unwrap();
    assert_eq!((orders.id, orders.queues, orders.created), (TopicId(1), 8, apogee_host::Clock::wall(&life.clock)));
    let billing = life.namesrv.create_group(new_group("billing", 17)).await.unwrap();
    assert_eq!((billing.id, billing.max_attempts), (GroupId(1), 17));
    let before = life.cluster();
    assert_eq!(before.topics[&topic("orders")], orders);
    assert_eq!(before.groups[&group("billing")], billing);
    assert_eq!(before.version, 4);
    life.end().await;

    let life = start(&disk, 2).await.unwrap();
    assert_eq!(life.cluster(), before);
}

#[tokio::test]
async fn an_id_is_never_given_twice() {
    let disk = SimDisk::new(1);
    let mut ids = Vec::new();
    for seed in 0..3 {
        let life = start_with_node(&disk, seed).await.unwrap();
        for _ in 0..2 {
            let topic = life.namesrv.create_topic(new_topic("t", 1)).await.unwrap();
            let group = life.namesrv.create_group(new_group("g", 1)).await.unwrap();
            ids.push((topic.id.0, group.id.0));
            assert_eq!(life.namesrv.delete_topic(&topic.topic).await, Ok(topic));
            assert_eq!(life.namesrv.delete_group(&group.group).await, Ok(group));
        }
        assert!(life.cluster().topics.is_empty() && life.cluster().groups.is_empty());
        life.end().await;
    }
    // The topic of a group's dead letters has an id, too.
    assert_eq!(ids, (1..=6).map(|id| (2 * id - 1, id)).collect::<Vec<_>>());
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_change_nothing() {
    let life = start_with_node(&SimDisk::new(1), 1).await.unwrap();
    let namesrv = &life.namesrv;
    namesrv.create_topic(new_topic("t", 1)).await.unwrap();
    namesrv.create_group(new_group("g", 1)).await.unwrap();
    let before = namesrv.cluster().unwrap();
    let out_of_range = |what, asked, max| MetadataError::OutOfRange { what, asked, min: 1, max };
    for queues in [0, 1025] {
        let refused = namesrv.create_topic(new_topic("u", queues)).await;
        assert_eq!(refused, Err(out_of_range("queues", u64::from(queues), 1024)));
    }
    let refused = namesrv.create_group(new_group("h", 0)).await;
    assert_eq!(refused, Err(out_of_range("max attempts", 0, u64::from(u32::MAX))));
    let exists = MetadataError::TopicExists { topic: topic("t") };
    assert_eq!(namesrv.create_topic(new_topic("t", 1)).await, Err(exists));
    let exists = MetadataError::GroupExists { group: group("g") };
    assert_eq!(namesrv.create_group(new_group("g", 1)).await, Err(exists));
    let missing = MetadataError::NoSuchTopic { topic: topic("u") };
    assert_eq!(namesrv.delete_topic(&topic("u")).await, Err(missing));
    let missing = MetadataError::NoSuchGroup { group: group("h") };
    assert_eq!(namesrv.delete_group(&group("h")).await, Err(missing));
    assert!(Arc::ptr_eq(&namesrv.cluster().unwrap(), &before));
}

#[tokio::test]
async fn watchers_see_each_version_and_share_what_did_not_change() {
    let life = start_with_node(&SimDisk::new(1), 1).await.unwrap();
    let mut watch = life.namesrv.watch();
    let first = life.namesrv.create_topic(new_topic("a", 1)).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().as_ref().unwrap().version, 3);
    life.namesrv.create_topic(new_topic("b", 1)).await.unwrap();
    watch.changed().await.unwrap();
    let cluster = watch.borrow_and_update().clone().unwrap();
    assert_eq!((cluster.version, cluster.topics.len()), (4, 2));
    assert!(Arc::ptr_eq(&cluster.topics[&topic("a")], &first));
}

#[tokio::test]
async fn receipt_handles_outlive_one_rotation_and_a_restart() {
    let disk = SimDisk::new(1);
    let life = start_with_node(&disk, 1).await.unwrap();
    let handle = ReceiptHandle {
        replica_group: apogee_model::ReplicaGroupId(0),
        epoch: Epoch(1),
        group: GroupId(1),
        topic: TopicId(1),
        queue: QueueId(0),
        offset: QueueOffset(5),
        delivery: DeliverySeq(6),
    };
    let text = handle.sign(&life.cluster().mac_keys);
    let rotated = life.namesrv.rotate_mac_keys().await.unwrap();
    assert_eq!(ReceiptHandle::verify(&text, &rotated), Ok(handle));
    life.end().await;

    let life = start(&disk, 2).await.unwrap();
    assert_eq!(ReceiptHandle::verify(&text, &life.cluster().mac_keys), Ok(handle));
    life.namesrv.rotate_mac_keys().await.unwrap();
    assert_eq!(ReceiptHandle::verify(&text, &life.cluster().mac_keys), Err(ReceiptError));
}

#[tokio::test]
async fn two_clusters_differ() {
    let (one, two) = (start_with_node(&SimDisk::new(1), 1).await.unwrap(), start(&SimDisk::new(1), 2).await.unwrap());
    assert_ne!(one.cluster().cluster_id, two.cluster().cluster_id);
    assert_ne!(one.cluster().mac_keys, two.cluster().mac_keys);
}

#[tokio::test]
async fn those_who_wait_together_share_a_sync() {
    let disk = SimDisk::new(1);
    let life = start_with_node(&disk, 1).await.unwrap();
    let before = disk.syncs();
    let create = |n: u32| life.namesrv.create_topic(new_topic(&format!("t{}", n / 2), 1));
    let outcomes = join_all((0..200).map(create)).await;
    assert!(disk.syncs() - before <= 20, "{} syncs", disk.syncs() - before);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 100);
    let more_than_the_inbox = join_all((1000..3000).map(create)).await;
    assert_eq!(more_than_the_inbox.iter().filter(|outcome| outcome.is_ok()).count(), 1000);
}

#[tokio::test]
async fn a_full_file_is_replaced_by_one_with_all_that_is_known() {
    let disk = SimDisk::new(1);
    let life = start_with_node(&disk, 1).await.unwrap();
    for round in 0..40 {
        let create = |n| life.namesrv.create_topic(new_topic(&format!("t{round}-{n}"), 1));
        assert!(join_all((0..250).map(create)).await.iter().all(Result::is_ok));
        let topics = (0..250).map(|n| topic(&format!("t{round}-{n}"))).collect::<Vec<_>>();
        let deleted = join_all(topics.iter().map(|topic| life.namesrv.delete_topic(topic))).await;
        assert!(deleted.iter().all(Result::is_ok));
    }
    let before = life.cluster();
    let names = disk.list("namesrv").await.unwrap();
    let journals: Vec<_> = names.iter().filter(|name| name.starts_with("journal-")).collect();
    let [journal] = journals[..] else { panic!("a full file goes: {journals:?}") };
    assert_ne!(format!("namesrv/{journal}"), JOURNAL);
    life.end().await;
    let life = start(&disk, 2).await.unwrap();
    assert_eq!(life.cluster(), before);
    assert_eq!(life.namesrv.create_topic(new_topic("next", 1)).await.unwrap().id, TopicId(10_001));
}

#[tokio::test]
async fn after_the_end_callers_are_told() {
    let life = start_with_node(&SimDisk::new(1), 1).await.unwrap();
    let namesrv = life.namesrv.clone();
    life.end().await;
    assert_eq!(namesrv.create_topic(new_topic("t", 1)).await, Err(MetadataError::Stopped));
    assert_eq!(namesrv.cluster().unwrap().version, 2);
}

#[tokio::test]
async fn a_failed_sync_stops_the_process_and_shows_nothing() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let life = start_with_node(&disk, seed).await.unwrap();
        disk.fail_next_sync();
        assert_eq!(life.namesrv.create_topic(new_topic("t", 1)).await, Err(MetadataError::Stopped));
        assert_eq!(life.tasks.failed().await.stop.exit, Exit::Io);
        assert!(life.cluster().topics.is_empty());

        // The page cache still shows the entry, and the kernel believes it is clean. What is now shown must stay.
        let shown = start(&disk, 99).await.unwrap().cluster();
        let after = start(&disk.power_cut(), 100).await.unwrap().cluster();
        assert_eq!(after, shown, "seed {seed}");
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_process() {
    let disk = SimDisk::new(1);
    let life = start_with_node(&disk, 1).await.unwrap();
    disk.fail_writes(true);
    assert_eq!(life.namesrv.create_group(new_group("g", 1)).await, Err(MetadataError::Stopped));
    assert_eq!(life.tasks.failed().await.stop.exit, Exit::Io);
}

#[tokio::test]
async fn a_real_disk_keeps_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let tasks = Tasks::new();
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let parts = NamesrvParts {
            disk,
            clock: Arc::new(RealClock),
            entropy: Arc::new(OsEntropy),
            tasks: tasks.clone(),
            members: alone(),
            me: 1,
            replication_factor: 1,
            token: None,
        };
        let namesrv = Namesrv::open(parts).await.unwrap();
        namesrv.register(node("n1")).await.unwrap();
        let _exists_the_second_time = namesrv.create_topic(new_topic("t", 4)).await;
        seen.push(namesrv.cluster().unwrap());
        assert!(tasks.close(Duration::from_secs(5)).await.is_empty());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].topics.len(), 1);
}
