//! Blocking operations on the data folder: how a file gets its name, and keeps it through a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};

use crate::disk::{LOCK_NAME, TEMPORARY_FOLDER};

/// Zeros are written in pieces of this size.
const ZEROS: usize = 1 << 20;

/// The data folder. One thread changes it at a time.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Takes the folder over and forgets files that never got their name.
    pub(super) fn open(root: &Path) -> io::Result<Folder> {
        let folder = Folder { root: root.to_owned() };
        let temporary = root.join(TEMPORARY_FOLDER);
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        folder.create_folders(&temporary)?;
        Ok(folder)
    }

    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().ok();
            let own = folder.is_empty() && name.as_deref() == Some(LOCK_NAME);
            if entry.file_type()?.is_file() && !own {
                names.extend(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.root.join(name))
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Bytes> {
        fs::read(self.root.join(name)).map(Bytes::from)
    }

    /// A zero file of full length under its name, or nothing. Writing the zeros now means that a later `fdatasync`
    /// has only data to write: no blocks to allocate and no extents to convert.
    pub(super) fn create(&self, name: &str, len: u64) -> io::Result<File> {
        if self.root.join(name).exists() {
            return Err(io::ErrorKind::AlreadyExists.into()); // no race: nobody else creates files here
        }
        self.publish(name, |file| {
            if len > 0 {
                fallocate(&*file, FallocateFlags::empty(), 0, len)?;
            }
            write_zeros(file, len)
        })
    }

    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.publish(name, |file| file.write_all(bytes)).map(drop)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        fs::remove_file(&path)?;
        sync_parent(&path)
    }

    /// A folder with all that is in it; one that is not there is removed already.
    pub(super) fn remove_tree(&self, folder: &str) -> io::Result<()> {
        let path = self.root.join(folder);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_parent(&path)),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        self.create_folders(to.parent().unwrap_or(&self.root))?;
        fs::rename(&from, &to)?;
        sync_parent(&to)?;
        sync_parent(&from)
    }

    /// Fills a temporary file, makes it durable, gives it its name, and makes the name durable.
    fn publish(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
        let (temporary, path) = (self.root.join(TEMPORARY_FOLDER).join("next"), self.root.join(name));
        self.create_folders(path.parent().unwrap_or(&self.root))?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        let named = fill(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = named {
            let _best_effort = fs::remove_file(&temporary); // gives the blocks back; the next open would do it too
            return Err(error);
        }
        sync_parent(&path)?;
        Ok(file)
    }

    /// Creates the missing folders down to `path`, each durable in its parent.
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| parent.starts_with(&self.root)) {
            self.create_folders(parent)?;
        }
        fs::create_dir(path)?;
        sync_parent(path)
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write_zeros(file: &mut File, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).map_or(ZEROS, |left| left.min(ZEROS));
        file.write_all(&zeros[..piece])?;
        left -= u64::try_from(piece).unwrap_or(left);
    }
    Ok(())
}
