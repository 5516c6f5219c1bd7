//! What a simulated disk knows: names, files, open handles, and the accidents to come.

use std::collections::BTreeMap;
use std::io;

use super::file::SimFile;
use crate::disk::{FileId, not_open, sync_failed_before};
use crate::entropy::Numbers;

#[derive(Debug)]
pub(super) struct State {
    pub(super) numbers: Numbers,
    /// Number of mutating operations before the process dies.
    pub(super) operations_left: Option<u64>,
    /// Number of good syncs before the one that fails.
    pub(super) syncs_until_failure: Option<u64>,
    pub(super) sync_lies: bool,
    pub(super) full: bool,
    pub(super) operations: u64,
    pub(super) writes: u64,
    pub(super) syncs: u64,
    names: BTreeMap<String, FileNumber>,
    files: BTreeMap<FileNumber, SimFile>,
    handles: BTreeMap<FileId, Handle>,
    next_number: u64,
    dead: bool,
}

/// What a name and a handle refer to, so that a removed file lives on for who has it open.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileNumber(u64);

#[derive(Debug)]
struct Handle {
    file: FileNumber,
    sync_failed: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            numbers: Numbers::new(seed),
            operations_left: None,
            syncs_until_failure: None,
            sync_lies: false,
            full: false,
            operations: 0,
            writes: 0,
            syncs: 0,
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_number: 0,
            dead: false,
        }
    }

    /// Kills this disk and returns what the next boot finds.
    pub(super) fn power_cut(&mut self) -> State {
        self.dead = true;
        self.handles.clear();
        self.forget_unreachable();
        let mut found = State::new(self.numbers.next());
        found.next_number = self.next_number;
        found.names = std::mem::take(&mut self.names);
        for (number, file) in std::mem::take(&mut self.files) {
            let file = file.after_power_cut(&mut found.numbers);
            found.files.insert(number, file);
        }
        found
    }

    /// An operation that changes nothing.
    pub(super) fn look<T>(&mut self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        if self.dead || self.operations_left == Some(0) {
            return Err(dead());
        }
        act(self)
    }

    /// A mutating operation: counted, and perhaps the one in which the process dies.
    pub(super) fn mutate<T>(&mut self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        if self.dead {
            return Err(dead());
        }
        if self.operations_left == Some(0) {
            if self.numbers.coin() {
                let _nobody_hears = act(self);
            }
            self.dead = true;
            return Err(dead());
        }
        let outcome = act(self)?;
        self.operations += 1;
        self.operations_left = self.operations_left.map(|left| left - 1);
        Ok(outcome)
    }

    pub(super) fn room(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn list(&self, folder: &str) -> Vec<String> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let inside = self.names.keys().filter_map(|name| name.strip_prefix(&prefix));
        inside.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    pub(super) fn named(&mut self, name: &str) -> io::Result<&mut SimFile> {
        let number = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.get_mut(number).expect("a named file is kept"))
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<FileId> {
        let file = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let id = FileId(self.number());
        self.handles.insert(id, Handle { file, sync_failed: false });
        Ok(id)
    }

    pub(super) fn file(&mut self, id: FileId) -> io::Result<&mut SimFile> {
        let handle = self.handles.get(&id).ok_or_else(|| not_open(id))?;
        Ok(self.files.get_mut(&handle.file).expect("an open file is kept"))
    }

    pub(super) fn publish(&mut self, name: &str, file: SimFile) {
        let number = FileNumber(self.number());
        self.files.insert(number, file);
        self.names.insert(name.to_owned(), number);
        self.forget_unreachable();
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let number = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), number);
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn close(&mut self, id: FileId) -> io::Result<()> {
        self.handles.remove(&id).ok_or_else(|| not_open(id))?;
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn sync(&mut self, id: FileId) -> io::Result<()> {
        let handle = self.handles.get_mut(&id).ok_or_else(|| not_open(id))?;
        if handle.sync_failed {
            return Err(sync_failed_before());
        }
        let file = self.files.get_mut(&handle.file).expect("an open file is kept");
        if self.syncs_until_failure == Some(0) {
            self.syncs_until_failure = None;
            handle.sync_failed = true;
            file.fail_sync(&mut self.numbers);
            return Err(io::Error::other("simulated input/output error"));
        }
        if !self.sync_lies {
            file.sync();
        }
        self.syncs_until_failure = self.syncs_until_failure.map(|left| left - 1);
        self.syncs += 1;
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Drops the files that have neither a name nor a handle.
    fn forget_unreachable(&mut self) {
        let (names, handles) = (&self.names, &self.handles);
        self.files.retain(|number, _| {
            names.values().any(|named| named == number) || handles.values().any(|handle| handle.file == *number)
        });
    }
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the simulated process has died")
}
