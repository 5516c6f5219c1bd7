//! A replica whose store is damaged sets it aside and comes back as a new one.
//!
//! What cannot be read here is on the other replicas, and a replica that goes on with a part of its log has forgotten
//! what it promised. So it begins again with an empty store and a new instance, and is taken in like one that lost its
//! disk (`raft::join`). The only replica of its group keeps what it has, and refuses to start.
//!
//! The mark beside the store says how far that came, so that it can be gone through again after any crash:
//!
//! 1. `found`: the store is damaged. What an earlier damage left aside is removed.
//! 2. `moving`: the files of the store go to the folder [`ASIDE`], one after the other.
//! 3. `repaired`: the store is empty. The mark stays until the replica was taken in, because until then it must not be
//!    one of those who found a group: it is no new replica, and if all were damaged at once they would begin with an
//!    empty log.

use std::io;
use std::sync::Arc;

use apogee_host::{Disk, Exit, ExitWith};
use bytes::Bytes;
use tokio::sync::watch;

use crate::again::Again;
use crate::commitlog::{Damage, OpenError};
use crate::incoming;
use crate::raft::Ear;
use crate::views::ViewStore;

const MARK: &str = "store.damaged";
/// Where a damaged store goes, for people to look at.
const ASIDE: &str = "damaged";
/// The folders that the store's files are in.
const FOLDERS: [&str; 2] = ["store", "store/log"];

/// The store is damaged, and the disk does not take a note of it.
#[derive(Debug, thiserror::Error)]
#[error("the store is damaged, and that cannot be noted")]
pub(crate) struct NotNoted(#[source] io::Error);

impl ExitWith for NotNoted {
    fn exit(&self) -> Exit {
        Exit::Io
    }
}

/// Waits until a part of the log cannot be read. Then this replica answers no other any more, says so for the next start,
/// and begins again.
///
/// # Errors
/// [`NotNoted`].
pub(crate) async fn watch(
    disk: Arc<dyn Disk>,
    mut found: watch::Receiver<Option<Damage>>,
    ear: Ear,
    again: Again,
) -> Result<(), NotNoted> {
    let damage = match found.wait_for(Option::is_some).await {
        Ok(found) => found.clone().expect("waited for"),
        // The log is gone, and so is everything else.
        Err(_) => return Ok(()),
    };
    ear.is_opening();
    note(&*disk, &damage).await.map_err(NotNoted)?;
    again.because("its store is damaged, and is made anew from the other replicas");
    Ok(())
}

/// Says for the next start that the store is damaged.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn note(disk: &dyn Disk, damage: &Damage) -> io::Result<()> {
    let Damage { file, offset, why } = damage;
    tracing::error!(event = "store_damaged", file, offset, why, "the store is damaged; it is set aside and made anew");
    let text = format!("found\n{file}\nbyte {offset}\n{why}\n");
    disk.replace(MARK, Bytes::from(text)).await
}

/// Sets a store aside that was found to be damaged. Says whether this replica's store was damaged and has not been
/// repaired from the others since.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn set_aside(disk: &Arc<dyn Disk>, views: &dyn ViewStore) -> Result<bool, OpenError> {
    let Some(mut stage) = stage(&**disk).await? else { return Ok(false) };
    let failed = |what: &str| OpenError::disk(format!("{what} the damaged store"));
    if stage == "found" {
        for folder in FOLDERS.map(|folder| format!("{ASIDE}/{folder}")) {
            for name in disk.list(&folder).await.map_err(failed("list"))? {
                disk.remove(&format!("{folder}/{name}")).await.map_err(failed("make room for"))?;
            }
        }
        stage = go_on(&**disk, "moving").await?;
    }
    if stage == "moving" {
        // What came in from others was for the store that goes.
        incoming::clear(&**disk).await.map_err(failed("drop what came into"))?;
        views.set_aside(ASIDE).await?;
        for folder in FOLDERS {
            for name in disk.list(folder).await.map_err(failed("list"))? {
                let from = format!("{folder}/{name}");
                disk.rename(&from, &format!("{ASIDE}/{from}")).await.map_err(failed("set aside"))?;
            }
        }
        go_on(&**disk, "repaired").await?;
        tracing::warn!(event = "store_set_aside", folder = ASIDE, "the damaged store is set aside");
    }
    Ok(true)
}

/// This replica was taken in: its store is as good as any.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn forget(disk: &dyn Disk) -> Result<(), OpenError> {
    match disk.remove(MARK).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::disk("remove the mark of a damage")(error))
        }
        _ => Ok(()),
    }
}

/// The first line of the mark. One that cannot be read is the mark of a damage all the same.
async fn stage(disk: &dyn Disk) -> Result<Option<String>, OpenError> {
    match disk.read(MARK).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.lines().next().filter(|line| ["found", "moving", "repaired"].contains(line));
            Ok(Some(line.unwrap_or("found").to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::disk("read the mark of a damage")(error)),
    }
}

async fn go_on(disk: &dyn Disk, stage: &str) -> Result<String, OpenError> {
    let old = disk.read(MARK).await.map_err(OpenError::disk("read the mark of a damage"))?;
    let text = String::from_utf8_lossy(&old);
    let what = text.split_once('\n').map_or("", |(_, what)| what);
    let text = format!("{stage}\n{what}");
    disk.replace(MARK, Bytes::from(text)).await.map_err(OpenError::disk("write the mark of a damage"))?;
    Ok(stage.to_owned())
}
