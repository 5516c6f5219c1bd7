//! Views that crash and go wrong, in memory and on disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use tempfile::TempDir;

use crate::views::{MemoryViewStore, RocksSettings, RocksViewStore, ViewStore, Views};

/// See the module.
pub(crate) enum Site {
    Memory(MemoryViewStore),
    /// The store goes before its folder.
    Rocks(RocksViewStore, TempDir),
}

impl Site {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryViewStore::default())
    }

    pub(crate) fn rocks() -> Self {
        Self::on_disk(TempDir::new().unwrap())
    }

    fn on_disk(folder: TempDir) -> Self {
        let store = RocksViewStore::new(folder.path(), RocksSettings { views_bytes: 8 << 20 }).unwrap();
        Self::Rocks(store, folder)
    }

    pub(crate) fn store(&self) -> &dyn ViewStore {
        match self {
            Self::Memory(store) => store,
            Self::Rocks(store, _) => store,
        }
    }

    pub(crate) fn open(&self) -> Arc<dyn Views> {
        block_on(self.store().open()).unwrap().0
    }

    /// The process dies: what RocksDB has in its files now is what the next one finds.
    pub(crate) fn crash(self) -> Self {
        match self {
            Self::Memory(store) => {
                store.crash();
                Self::Memory(store)
            }
            Self::Rocks(store, folder) => {
                store.settle();
                let image = TempDir::new().unwrap();
                copy(folder.path(), image.path());
                drop((store, folder));
                Self::on_disk(image)
            }
        }
    }

    pub(crate) fn damage_live(self) -> Self {
        match self {
            Self::Memory(store) => {
                store.damage_live();
                Self::Memory(store)
            }
            Self::Rocks(store, folder) => {
                block_on(store.close()).unwrap();
                let _maybe_there = fs::remove_file(folder.path().join("store/views/CURRENT"));
                Self::Rocks(store, folder)
            }
        }
    }

    pub(crate) fn damage_newest_base(&self) {
        match self {
            Self::Memory(store) => store.damage_newest_base(),
            Self::Rocks(store, folder) => {
                if let Some(base) = block_on(store.bases()).unwrap().last() {
                    let base = folder.path().join(format!("store/bases/{:020}", base.index().0));
                    fs::write(base.join("CURRENT"), "MANIFEST-999999\n").unwrap();
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            // A file that goes while we look was of no use any more.
            let copied = fs::copy(entry.path(), &to);
            assert!(copied.is_ok() || !entry.path().exists(), "{copied:?}");
        }
    }
}
