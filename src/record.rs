//! What a running `apogee dev` leaves for the CLI of the same user: a small file in the user's state folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the server is and who may administer it: `apogee/dev.json` in `$XDG_STATE_HOME` or `~/.local/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevRecord {
    pub(crate) pid: u32,
    /// Absolute.
    pub(crate) data_folder: PathBuf,
    /// File with the admin token, absolute.
    pub(crate) token_path: PathBuf,
    pub(crate) grpc_address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    pub(crate) metrics_address: SocketAddr,
    pub(crate) health_address: SocketAddr,
}

impl DevRecord {
    /// The record of the `apogee dev` that was started last, if it still runs or could not clean up.
    pub(crate) fn find() -> Option<DevRecord> {
        Self::read(&state_folder()?)
    }

    fn read(folder: &Path) -> Option<DevRecord> {
        serde_json::from_slice(&fs::read(folder.join("dev.json")).ok()?).ok()
    }

    /// Writes the file, readable by its owner only, in place of an older one. Returns where it is.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::NotFound`] when the user has no state folder.
    pub(crate) fn publish(&self) -> io::Result<Published> {
        let folder = state_folder()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "neither XDG_STATE_HOME nor HOME is set"))?;
        self.publish_in(folder)
    }

    fn publish_in(&self, folder: PathBuf) -> io::Result<Published> {
        fs::create_dir_all(&folder)?;
        let temporary = folder.join(format!("dev.json.{}", self.pid));
        write_private(&temporary, &serde_json::to_vec_pretty(self)?)?;
        fs::rename(&temporary, folder.join("dev.json"))?;
        Ok(Published { folder, pid: self.pid })
    }
}

/// Removes the record when dropped, unless a later process wrote its own.
#[derive(Debug)]
pub(crate) struct Published {
    folder: PathBuf,
    pid: u32,
}

impl Drop for Published {
    fn drop(&mut self) {
        if DevRecord::read(&self.folder).is_some_and(|record| record.pid == self.pid) {
            let _stale_records_do_no_harm = fs::remove_file(self.folder.join("dev.json"));
        }
    }
}

/// Writes a new file that only its owner may read; one that is in the way goes first, with whatever rights it had.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Source: XDG Base Directory Specification (relative paths are to be ignored).
fn state_folder() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
    let state = state.or_else(|| Some(absolute(std::env::home_dir()?)?.join(".local/state")))?;
    Some(state.join("apogee"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(pid: u32) -> DevRecord {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        DevRecord {
            pid,
            data_folder: "/data".into(),
            token_path: "/data/admin.token".into(),
            grpc_address: at(1),
            admin_address: at(2),
            metrics_address: at(3),
            health_address: at(4),
        }
    }

    #[test]
    fn the_last_server_is_found_and_only_its_own_record_goes_with_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state/apogee");
        let first = record(1).publish_in(folder.clone()).unwrap();
        let second = record(2).publish_in(folder.clone()).unwrap();
        drop(first);
        assert_eq!(DevRecord::read(&folder), Some(record(2)));
        let mode = fs::metadata(folder.join("dev.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(second);
        assert_eq!(DevRecord::read(&folder), None);
    }
}
