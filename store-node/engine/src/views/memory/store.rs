//! What survives a crash of views in memory: what was flushed, and the bases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::BlockIndex;
use bytes::Bytes;

use super::pack::{FILE, pack, unpack};
use super::{MemoryViews, Tables};
use crate::views::base::{KEPT, MANIFEST, Manifest, is_plain};
use crate::views::{Base, BaseFile, LiveViews, PIECE_MAX, Rows, Table, ViewStore, ViewsError, ViewsFuture, Visit};

/// Views and bases in memory. Clones share them; keep one across the crashes of a simulated replica.
#[derive(Clone, Default)]
pub struct MemoryViewStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared(Mutex<Kept>);

#[derive(Default)]
pub(super) struct Kept {
    live: Arc<Tables>,
    flushed: Arc<Tables>,
    /// Only the newest opening may touch the live views.
    opening: u64,
    distrusted: bool,
    bases: BTreeMap<BlockIndex, Files>,
    incoming: Option<(BlockIndex, Files)>,
}

type Files = BTreeMap<String, Vec<u8>>;

impl MemoryViewStore {
    /// The power fails: what was not flushed is gone, and every opening is closed.
    pub fn crash(&self) {
        let mut kept = self.shared.lock();
        kept.live = Arc::clone(&kept.flushed);
        kept.opening += 1;
        kept.incoming = None;
    }

    /// The live views go wrong: the next opening must not use them.
    pub fn damage_live(&self) {
        self.shared.lock().distrust();
    }

    /// A bit of the newest base flips, if there is one.
    pub fn damage_newest_base(&self) {
        if let Some(mut base) = self.shared.lock().bases.last_entry()
            && let Some(byte) = base.get_mut().get_mut(FILE).and_then(|rows| rows.last_mut())
        {
            *byte ^= 1;
        }
    }

    pub(super) fn open_now(&self) -> MemoryViews {
        let mut kept = self.shared.lock();
        kept.restore_if_needed();
        kept.opening += 1;
        MemoryViews { shared: Arc::clone(&self.shared), opening: kept.opening }
    }

    /// Runs `work` when the answer is polled, like a store that has a thread for it.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept) -> Result<T, ViewsError> + Send + 'static,
    ) -> ViewsFuture<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { work(&mut shared.lock()) })
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub(super) fn live(&mut self, opening: u64) -> Result<&mut Arc<Tables>, ViewsError> {
        if opening == self.opening { Ok(&mut self.live) } else { Err(ViewsError::Closed) }
    }

    pub(super) fn flush(&mut self, opening: u64) -> Result<(), ViewsError> {
        self.flushed = Arc::clone(self.live(opening)?);
        Ok(())
    }

    pub(super) fn distrust(&mut self) {
        self.distrusted = true;
    }

    fn restore_if_needed(&mut self) {
        let newest = self.sound().next_back().map(|(index, tables)| (*index, Arc::new(tables)));
        let behind = newest.as_ref().is_some_and(|(index, _)| position_of(&self.live) < *index);
        if self.distrusted || behind {
            self.live = newest.map(|(_, tables)| tables).unwrap_or_default();
            self.flushed = Arc::clone(&self.live);
            self.distrusted = false;
        }
    }

    fn sound(&self) -> impl DoubleEndedIterator<Item = (&BlockIndex, Tables)> {
        self.bases.iter().filter_map(|(index, files)| Some((index, unpack(files.get(FILE)?)?)))
    }

    fn take_base(&mut self) -> Result<Base, ViewsError> {
        self.flushed = Arc::clone(&self.live);
        let position = TablesAt(&self.live).position()?;
        let rows = pack(&self.live);
        let len = u64::try_from(rows.len()).expect("memory is smaller than 2^64");
        let manifest = Manifest { position, files: vec![BaseFile { name: FILE.to_owned(), len }] };
        let files = Files::from([(FILE.to_owned(), rows), (MANIFEST.to_owned(), manifest.encode())]);
        Ok(self.keep(&manifest, files))
    }

    fn keep(&mut self, manifest: &Manifest, files: Files) -> Base {
        self.bases.insert(manifest.position.index, files);
        while self.bases.len() > KEPT {
            self.bases.pop_first();
        }
        manifest.base()
    }

    fn base(&self, index: BlockIndex) -> Result<&Files, ViewsError> {
        self.bases.get(&index).ok_or(ViewsError::NoSuchBase { index })
    }

    fn incoming(&mut self, index: BlockIndex) -> Result<&mut Files, ViewsError> {
        let incoming = self.incoming.as_mut().filter(|(of, _)| *of == index);
        incoming.map(|(_, files)| files).ok_or(ViewsError::NoSuchBase { index })
    }

    fn finish_incoming(&mut self, index: BlockIndex) -> Result<Base, ViewsError> {
        let files = std::mem::take(self.incoming(index)?);
        self.incoming = None;
        let bad = |why: &str| ViewsError::BadBase { index, why: why.to_owned() };
        let manifest = files.get(MANIFEST).and_then(|bytes| Manifest::decode(bytes));
        let manifest = manifest.filter(|manifest| manifest.position.index == index).ok_or(bad("its manifest"))?;
        let tables = files.get(FILE).and_then(|rows| unpack(rows)).ok_or(bad("its rows"))?;
        if position_of(&tables) != index {
            return Err(bad("its rows are at another position"));
        }
        Ok(self.keep(&manifest, files))
    }
}

impl ViewStore for MemoryViewStore {
    fn open(&self) -> ViewsFuture<LiveViews> {
        let store = self.clone();
        Box::pin(async move { Ok(LiveViews(Arc::new(store.open_now()))) })
    }

    fn close(&self) -> ViewsFuture<()> {
        self.run(|kept| {
            kept.flushed = Arc::clone(&kept.live);
            kept.opening += 1;
            Ok(())
        })
    }

    fn remove_live(&self) -> ViewsFuture<()> {
        self.run(|kept| {
            (kept.live, kept.flushed) = Default::default();
            kept.opening += 1;
            Ok(())
        })
    }

    fn set_aside(&self, _folder: &'static str) -> ViewsFuture<()> {
        self.run(|kept| {
            kept.opening += 1;
            kept.live = Arc::default();
            kept.flushed = Arc::default();
            kept.bases.clear();
            kept.incoming = None;
            kept.distrusted = false;
            Ok(())
        })
    }

    fn take_base(&self) -> ViewsFuture<Base> {
        self.run(Kept::take_base)
    }

    fn bases(&self) -> ViewsFuture<Vec<Base>> {
        self.run(|kept| {
            let manifests = kept.sound().filter_map(|(index, _)| Manifest::decode(kept.bases[index].get(MANIFEST)?));
            Ok(manifests.map(|manifest| manifest.base()).collect())
        })
    }

    fn base_files(&self, index: BlockIndex) -> ViewsFuture<Vec<BaseFile>> {
        self.run(move |kept| {
            let len = |bytes: &Vec<u8>| u64::try_from(bytes.len()).expect("memory is smaller than 2^64");
            let file = |(name, bytes): (&String, &Vec<u8>)| BaseFile { name: name.clone(), len: len(bytes) };
            let mut files: Vec<_> = kept.base(index)?.iter().map(file).collect();
            files.sort_by_key(|file| file.name == MANIFEST);
            Ok(files)
        })
    }

    fn read_base(&self, index: BlockIndex, file: String, at: u64, len: usize) -> ViewsFuture<Bytes> {
        self.run(move |kept| {
            let bytes = kept.base(index)?.get(&file).ok_or(ViewsError::NoSuchBase { index })?;
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            let to = from.saturating_add(len.min(PIECE_MAX)).min(bytes.len());
            Ok(Bytes::copy_from_slice(&bytes[from..to]))
        })
    }

    fn remove_base(&self, index: BlockIndex) -> ViewsFuture<()> {
        self.run(move |kept| {
            kept.bases.remove(&index);
            Ok(())
        })
    }

    fn begin_incoming(&self, index: BlockIndex) -> ViewsFuture<()> {
        self.run(move |kept| {
            kept.incoming = Some((index, Files::new()));
            Ok(())
        })
    }

    fn write_incoming(&self, index: BlockIndex, file: String, at: u64, bytes: Bytes) -> ViewsFuture<()> {
        self.run(move |kept| {
            let content = kept.incoming(index)?.entry(file.clone()).or_default();
            if !is_plain(&file) || bytes.len() > PIECE_MAX || u64::try_from(content.len()) != Ok(at) {
                let why = format!("a piece of {file:?} at {at} does not fit");
                return Err(ViewsError::BadBase { index, why });
            }
            content.extend_from_slice(&bytes);
            Ok(())
        })
    }

    fn finish_incoming(&self, index: BlockIndex) -> ViewsFuture<Base> {
        self.run(move |kept| kept.finish_incoming(index))
    }
}

/// Rows that nobody changes any more.
struct TablesAt<'a>(&'a Tables);

impl Rows for TablesAt<'_> {
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), ViewsError> {
        super::scan(self.0, table, from, to, visit);
        Ok(())
    }
}

/// Damaged rows are at the start of the log: worth nothing.
fn position_of(tables: &Tables) -> BlockIndex {
    TablesAt(tables).position().map(|position| position.index).unwrap_or_default()
}
