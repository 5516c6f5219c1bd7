//! What this store-node hosts, as it changes: on disk before anybody here is told.

use std::convert::Infallible;
use std::sync::Arc;

use apogee_host::{Exit, OnError, RealDisk, Stop, Tasks};
use apogee_model::{NodeName, ReplicaGroupId};
use apogee_namesrv::NamesrvClient;
use tokio::sync::{mpsc, watch};

use super::wiring::{Wiring, WiringError};

/// Groups whose files were removed, on the way to [`follow`].
const LEFT_MAX: usize = 16;

/// Says that the files of the replica of a group are removed.
#[derive(Clone)]
pub(super) struct Leavings(mpsc::Sender<ReplicaGroupId>);

/// The folder of the replica of a group, in the data folder.
pub(super) fn folder_of(group: ReplicaGroupId) -> String {
    format!("groups/{group}")
}

impl Leavings {
    pub(super) async fn removed(&self, group: ReplicaGroupId) {
        let _the_process_ends = self.0.send(group).await;
    }
}

/// As it was kept, else as namesrv says it, however long that takes; and every change. What had left but was not removed
/// when the process ended is removed first.
pub(super) async fn follow(
    client: &NamesrvClient,
    name: &NodeName,
    kept: Option<Wiring>,
    disk: Arc<RealDisk>,
    tasks: &Tasks,
) -> Result<(watch::Receiver<Wiring>, Leavings), Stop> {
    let mut cluster = client.watch();
    let first = match kept {
        Some(kept) => without_leavings(kept, &disk).await?,
        None => {
            let told = cluster.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            let Some(told) = told else { return std::future::pending().await };
            let first = Wiring::empty(told.cluster_id).next(&told, name);
            first.keep(&*disk).await?;
            first
        }
    };
    let (sender, wirings) = watch::channel(first);
    let (leavings, mut removed) = mpsc::channel(LEFT_MAX);
    let (name, stop) = (name.clone(), tasks.token());
    tasks.spawn("wiring", OnError::StopProcess, async move {
        let follow = async {
            loop {
                let now = sender.borrow().clone();
                let next = cluster.borrow_and_update().as_ref().map(|cluster| now.next(cluster, &name));
                show(&sender, next.unwrap_or(now), &disk).await?;
                tokio::select! {
                    changed = cluster.changed() => if changed.is_err() {
                        return std::future::pending::<Result<Infallible, WiringError>>().await;
                    },
                    Some(group) = removed.recv() => {
                        let next = sender.borrow().left(group);
                        show(&sender, next, &disk).await?;
                    }
                }
            }
        };
        stop.run_until_cancelled(follow).await.map_or(Ok(()), |ended| ended.map(|never| match never {}))
    });
    Ok((wirings, Leavings(leavings)))
}

async fn show(sender: &watch::Sender<Wiring>, next: Wiring, disk: &RealDisk) -> Result<(), WiringError> {
    if next != *sender.borrow() {
        next.keep(disk).await?;
        sender.send_replace(next);
    }
    Ok(())
}

async fn without_leavings(kept: Wiring, disk: &RealDisk) -> Result<Wiring, Stop> {
    let mut left = kept.clone();
    for (group, replica) in &kept.leaving {
        let folder = folder_of(*group);
        let removed = disk.remove_tree(&folder).await;
        removed.map_err(|error| Stop::new(Exit::Io, format!("folder {folder} of the data folder: {error}")))?;
        tracing::info!(event = "replica_left", %group, %replica, "the files of a replica that left are removed");
        left = left.left(*group);
    }
    if left != kept {
        left.keep(disk).await?;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use apogee_host::Disk as _;
    use apogee_model::ReplicaId;
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn what_was_not_removed_in_time_is_removed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        for name in ["groups/1/log/0.seg", "groups/2/GROUP"] {
            disk.replace(name, Bytes::from_static(b"x")).await.unwrap();
        }
        let mut kept = Wiring::empty(7);
        kept.leaving = [(ReplicaGroupId(1), ReplicaId(3)), (ReplicaGroupId(9), ReplicaId(1))].into();
        kept.keep(&disk).await.unwrap();
        assert_eq!(without_leavings(kept, &disk).await.unwrap(), Wiring::empty(7));
        assert_eq!(Wiring::read(&disk).await.unwrap(), Some(Wiring::empty(7)));
        assert!(!folder.path().join("groups/1").exists() && folder.path().join("groups/2/GROUP").exists());
    }
}
