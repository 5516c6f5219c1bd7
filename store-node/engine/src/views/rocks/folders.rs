//! The folders of the views: what is where, and how it becomes durable. Everything here blocks.
//!
//! A base is made under a temporary name, every file of it is synced, its manifest is written last and synced, and only
//! then it gets its name. Restoring links the files of a base that never change and copies the others, so that live
//! views never touch a base.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use apogee_model::BlockIndex;
use bytes::Bytes;

use crate::views::base::{KEPT, MANIFEST, Manifest, is_plain};
use crate::views::{Base, BaseFile, PIECE_MAX, Position, ViewsError};

/// In the live views when they turned out to be damaged.
const DISTRUSTED: &str = "DISTRUSTED";
/// A copy of a base, to be tried.
const COPY: &str = "tmp-restored";
/// What temporary folders are called, before or behind a name.
const TEMPORARY: &str = "tmp-";

/// See the module.
pub(super) struct Folders {
    store: PathBuf,
    live: PathBuf,
    bases: PathBuf,
}

impl Folders {
    pub(super) fn of(data_folder: &Path) -> Self {
        let store = data_folder.join("store");
        Self { live: store.join("views"), bases: store.join("bases"), store }
    }

    pub(super) fn live(&self) -> &Path {
        &self.live
    }

    pub(super) fn has_live(&self) -> bool {
        self.live.exists()
    }

    /// Refuses live views that are known to be damaged, or not there.
    pub(super) fn check_live(&self) -> Result<(), ViewsError> {
        if !self.has_live() {
            return Err(ViewsError::damaged("there are none"));
        }
        match fs::read_to_string(self.live.join(DISTRUSTED)) {
            Ok(why) => Err(ViewsError::Damaged { why }),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn create_store(&self) -> Result<(), ViewsError> {
        fs::create_dir_all(&self.store).map_err(ViewsError::disk("create the folder of the views"))
    }

    /// Removes what an earlier process left half done.
    pub(super) fn clean_up(&self) -> Result<(), ViewsError> {
        for folder in [&self.store, &self.bases] {
            for name in names(folder)?.iter().filter(|name| name.starts_with(TEMPORARY)) {
                remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_live(&self) -> Result<(), ViewsError> {
        if !self.has_live() {
            return Ok(());
        }
        // A name that says what it is: views that are half removed must not look like views.
        let gone = self.store.join("tmp-removed");
        remove(&gone)?;
        fs::rename(&self.live, &gone).map_err(ViewsError::disk("remove the views"))?;
        sync_folder(&self.store)?;
        remove(&gone)
    }

    /// Moves what there is to a folder of the data folder, in place of what is there.
    pub(super) fn set_aside(&self, folder: &str) -> Result<(), ViewsError> {
        let aside = self.store.with_file_name(folder);
        fs::create_dir_all(&aside).map_err(ViewsError::disk("create the folder of damaged views"))?;
        for (from, name) in [(&self.live, "views"), (&self.bases, "bases")] {
            if from.exists() {
                remove(&aside.join(name))?;
                fs::rename(from, aside.join(name)).map_err(ViewsError::disk("set the views aside"))?;
            }
        }
        sync_folder(&aside)?;
        if self.store.exists() { sync_folder(&self.store) } else { Ok(()) }
    }

    /// A copy of a base, to be tried and made live.
    pub(super) fn copy_base(&self, index: BlockIndex) -> Result<PathBuf, ViewsError> {
        self.copy(&self.base(index), &self.manifest(index)?)
    }

    /// A copy of a base that is coming in, and the position it says it is at.
    pub(super) fn copy_incoming(&self, index: BlockIndex) -> Result<(PathBuf, Position), ViewsError> {
        let folder = self.incoming(index);
        if !folder.exists() {
            return Err(ViewsError::NoSuchBase { index });
        }
        let manifest = manifest(&folder, index).map_err(|why| ViewsError::BadBase { index, why })?;
        Ok((self.copy(&folder, &manifest)?, manifest.position))
    }

    pub(super) fn remove_copy(&self) -> Result<(), ViewsError> {
        remove(&self.store.join(COPY))
    }

    fn copy(&self, base: &Path, manifest: &Manifest) -> Result<PathBuf, ViewsError> {
        let copy = self.store.join(COPY);
        remove(&copy)?;
        fs::create_dir_all(&copy).map_err(ViewsError::disk("create the folder of the views"))?;
        for file in &manifest.files {
            let (from, to) = (base.join(&file.name), copy.join(&file.name));
            let linked = file.name.ends_with(".sst") && fs::hard_link(&from, &to).is_ok();
            if !linked {
                fs::copy(&from, &to).map_err(ViewsError::disk(format!("copy {} of a base", file.name)))?;
            }
            sync(&to)?;
        }
        sync_folder(&copy)?;
        Ok(copy)
    }

    /// Puts views that are closed in the place of the live ones.
    pub(super) fn make_live(&self, views: &Path) -> Result<(), ViewsError> {
        self.remove_live()?;
        fs::rename(views, &self.live).map_err(ViewsError::disk("restore the views"))?;
        sync_folder(&self.store)
    }

    /// The sound bases, oldest first.
    pub(super) fn bases(&self) -> Result<Vec<Base>, ViewsError> {
        let indexes = names(&self.bases)?.into_iter().filter_map(|name| name.parse().ok().map(BlockIndex));
        let mut bases: Vec<_> = indexes.filter_map(|index| Some(self.manifest(index).ok()?.base())).collect();
        bases.sort_by_key(Base::index);
        Ok(bases)
    }

    pub(super) fn files(&self, index: BlockIndex) -> Result<Vec<BaseFile>, ViewsError> {
        let mut files = self.manifest(index)?.files;
        let len = len(&self.base(index).join(MANIFEST)).map_err(ViewsError::disk("read a base"))?;
        files.push(BaseFile { name: MANIFEST.to_owned(), len });
        Ok(files)
    }

    pub(super) fn read(&self, index: BlockIndex, file: &str, at: u64, max: usize) -> Result<Bytes, ViewsError> {
        let path = self.base(index).join(file);
        if !is_plain(file) || !path.exists() {
            return Err(ViewsError::NoSuchBase { index });
        }
        let read = || -> io::Result<Bytes> {
            let left = len(&path)?.saturating_sub(at);
            let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(max).min(PIECE_MAX)];
            File::open(&path)?.read_exact_at(&mut bytes, at)?;
            Ok(bytes.into())
        };
        read().map_err(ViewsError::disk(format!("read {file} of a base")))
    }

    /// The name of a folder that is not there yet, for a base under way.
    pub(super) fn begin_base(&self) -> Result<PathBuf, ViewsError> {
        self.create_bases()?;
        let folder = self.bases.join("tmp-taken");
        remove(&folder)?;
        Ok(folder)
    }

    /// Makes what is in `folder` the base of `position`.
    pub(super) fn finish_base(&self, folder: &Path, position: Position) -> Result<Base, ViewsError> {
        let file = |name: String| {
            let len = len(&folder.join(&name)).map_err(ViewsError::disk("look at a base"))?;
            Ok(BaseFile { name, len })
        };
        let files = names(folder)?.into_iter().map(file).collect::<Result<Vec<_>, ViewsError>>()?;
        let manifest = Manifest { position, files };
        for file in &manifest.files {
            sync(&folder.join(&file.name))?;
        }
        fs::write(folder.join(MANIFEST), manifest.encode()).map_err(ViewsError::disk("write a manifest"))?;
        self.name_base(folder, &manifest)
    }

    pub(super) fn begin_incoming(&self, index: BlockIndex) -> Result<(), ViewsError> {
        self.create_bases()?;
        let folder = self.incoming(index);
        remove(&folder)?;
        fs::create_dir(&folder).map_err(ViewsError::disk("create the folder of a base"))
    }

    pub(super) fn write_incoming(
        &self,
        index: BlockIndex,
        file: &str,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), ViewsError> {
        let folder = self.incoming(index);
        if !folder.exists() {
            return Err(ViewsError::NoSuchBase { index });
        }
        let path = folder.join(file);
        if !is_plain(file) || bytes.len() > PIECE_MAX || len(&path).unwrap_or(0) != at {
            return Err(ViewsError::BadBase { index, why: format!("a piece of {file:?} at {at} does not fit") });
        }
        let write = || OpenOptions::new().create(true).truncate(false).write(true).open(&path)?.write_all_at(bytes, at);
        write().map_err(ViewsError::disk(format!("write {file} of a base")))
    }

    pub(super) fn finish_incoming(&self, index: BlockIndex) -> Result<Base, ViewsError> {
        let folder = self.incoming(index);
        if !folder.exists() {
            return Err(ViewsError::NoSuchBase { index });
        }
        let manifest = manifest(&folder, index).map_err(|why| ViewsError::BadBase { index, why })?;
        for file in &manifest.files {
            sync(&folder.join(&file.name))?;
        }
        let base = self.name_base(&folder, &manifest)?;
        self.prune()?;
        Ok(base)
    }

    pub(super) fn remove_base(&self, index: BlockIndex) -> Result<(), ViewsError> {
        let base = self.base(index);
        if !base.exists() {
            return Ok(());
        }
        // Half a base must not look like one.
        let gone = self.bases.join("tmp-removed");
        remove(&gone)?;
        fs::rename(&base, &gone).map_err(ViewsError::disk("remove a base"))?;
        sync_folder(&self.bases)?;
        remove(&gone)
    }

    /// Removes all but the newest sound bases, and what is none.
    pub(super) fn prune(&self) -> Result<(), ViewsError> {
        let sound = self.bases()?;
        let kept: Vec<_> = sound.iter().rev().take(KEPT).map(|base| self.base(base.index())).collect();
        for name in names(&self.bases)?.iter().filter(|name| !name.starts_with(TEMPORARY)) {
            let folder = self.bases.join(name);
            if !kept.contains(&folder) {
                remove(&folder)?;
            }
        }
        Ok(())
    }

    /// The last steps: the manifest is durable before the name is.
    fn name_base(&self, folder: &Path, manifest: &Manifest) -> Result<Base, ViewsError> {
        sync(&folder.join(MANIFEST))?;
        sync_folder(folder)?;
        let to = self.base(manifest.position.index);
        if self.manifest(manifest.position.index).is_ok() {
            // To replace it would mean a moment without it.
            remove(folder)?;
            return Ok(manifest.base());
        }
        remove(&to)?;
        fs::rename(folder, &to).map_err(ViewsError::disk("name a base"))?;
        sync_folder(&self.bases)?;
        Ok(manifest.base())
    }

    fn create_bases(&self) -> Result<(), ViewsError> {
        fs::create_dir_all(&self.bases).map_err(ViewsError::disk("create the folder of the bases"))?;
        sync_folder(&self.store)
    }

    fn manifest(&self, index: BlockIndex) -> Result<Manifest, ViewsError> {
        manifest(&self.base(index), index).map_err(|_| ViewsError::NoSuchBase { index })
    }

    fn base(&self, index: BlockIndex) -> PathBuf {
        self.bases.join(format!("{:020}", index.0))
    }

    fn incoming(&self, index: BlockIndex) -> PathBuf {
        self.bases.join(format!("{TEMPORARY}{:020}", index.0))
    }
}

/// Notes that the views in `live` must not be used again.
pub(super) fn distrust(live: &Path, why: &str) -> Result<(), ViewsError> {
    let path = live.join(DISTRUSTED);
    fs::write(&path, why).map_err(ViewsError::disk("note damage"))?;
    sync(&path)?;
    sync_folder(live)
}

/// The manifest in `folder` if all it names is there, else why not.
fn manifest(folder: &Path, index: BlockIndex) -> Result<Manifest, String> {
    let bytes = fs::read(folder.join(MANIFEST)).map_err(|error| format!("its manifest: {error}"))?;
    let manifest = Manifest::decode(&bytes).ok_or("its manifest is damaged")?;
    if manifest.position.index != index {
        return Err(format!("its manifest is of index {}", manifest.position.index));
    }
    for file in &manifest.files {
        match len(&folder.join(&file.name)) {
            Ok(len) if len == file.len => {}
            Ok(len) => return Err(format!("{} has {len} bytes instead of {}", file.name, file.len)),
            Err(error) => return Err(format!("{}: {error}", file.name)),
        }
    }
    Ok(manifest)
}

/// The sorted names in a folder; none when it does not exist.
fn names(folder: &Path) -> Result<Vec<String>, ViewsError> {
    let list = || -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect();
        let mut names: Vec<_> = names?.into_iter().flatten().collect();
        names.sort_unstable();
        Ok(names)
    };
    list().map_err(ViewsError::disk("list the folders of the views"))
}

fn len(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.len())
}

fn remove(folder: &Path) -> Result<(), ViewsError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(ViewsError::disk("remove a folder of the views")),
    }
}

fn sync(path: &Path) -> Result<(), ViewsError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(ViewsError::disk("sync a file of the views"))
}

fn sync_folder(path: &Path) -> Result<(), ViewsError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(ViewsError::disk("sync a folder of the views"))
}
