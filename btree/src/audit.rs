//! Verification of the whole: every byte of every file, and every tree re-derived from its records.
//!
//! The files' part ([`crate::verify`]) hunts bytes that rotted. The walk here hunts what only the trees can tell: a
//! parent that refers to the wrong page or an old one, keys outside their fences, records that were lost or doubled,
//! sums that are not those of the records. It reads the newest durable generation past the page cache, beside readers
//! and writers, and never looks at what is in memory.
//!
//! For every page: the parent's checksum; structure and order; keys inside the fences; count and digest computed from
//! the records against the parent's. For every inner node: level, fences, and the sums of its children. At the end
//! the live bytes of each segment against what the manifest says. Damage is named with keyspace and key range, and
//! the walk goes on with the rest.
//!
//! The files' part has seen every leaf already. Where what it [derived](crate::verify::Derived) from a leaf's records
//! agrees with all that the parent says, the walk does not read that leaf again. What is left of a node's children it
//! reads together (`ahead`), from the device.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logwood_base::codec::CodecError;
use logwood_base::digest::Digest;
use logwood_base::{Disk, Error, Escaped, KeyspaceId, Result, SegmentNo};

use crate::forest::Forest;
use crate::format::child::ChildEntry;
use crate::format::inner::InnerReader;
use crate::format::leaf::LeafValue;
use crate::load::{LeafRecords, contradiction, undecodable};
use crate::overflow::hash_from_device;
use crate::store::{Detached, Manifest, Page, PageKind, PageRef, Store, StoreOptions};
use crate::verify::{Damage, Derived, FilesProgress, FilesReport, KeyRange, verify_and_derive};

mod ahead;
mod once;

use ahead::ReadAhead;
use once::Waiting;

/// What a verification read and found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The files' part.
    pub files: FilesReport,
    /// Damages named by both parts. A damaged page that each finds counts once, but for some of more than a thousand.
    pub damages: u64,
    /// Pages that the trees reach.
    pub pages: u64,
    /// Count and digest of each tree, computed from its records; not of trees with damage.
    pub trees: Vec<(KeyspaceId, Digest)>,
    /// Segments whose live bytes are not what the manifest says. No record is at risk, only space.
    pub space_errors: Vec<String>,
}

impl Forest {
    /// Verifies every byte of the newest durable generation and re-derives its trees. Changes nothing.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// # let all = (Bound::Unbounded, Bound::Unbounded);
    /// forest.checkpoint(&checkpoint_at(Lsn(2)))?;
    /// let report = forest.verify(&mut |damage| panic!("{}", damage.corruption), &mut |_| {})?;
    /// assert_eq!(report.trees, [(KeyspaceId(1), tree.digest(all, &forest.snapshot())?)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`; `UnsupportedFormat`. Damage is handed to `on_damage`.
    pub fn verify(
        &self,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(FilesProgress),
    ) -> Result<VerifyReport> {
        let store = &self.shared.store;
        audit(on_damage, |waiting, on_damage| {
            let mut last = FilesProgress::default();
            let found = &mut |damage| waiting.take(damage).into_iter().for_each(&mut *on_damage);
            let (files, derived) = store.verify_and_derive(Some(Derived::default()), found, &mut |now| {
                last = now;
                progress(now);
            })?;
            walk(store, (files, derived.unwrap_or_default(), last), waiting, on_damage, progress)
        })
    }
}

/// Verifies a directory that nobody has open for writing. Changes nothing.
///
/// ```
/// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
/// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
/// # use std::ops::Bound;
/// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
/// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
/// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
/// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
/// # let put = |key: &'static str, value: &'static str| {
/// #     let (key, value) = (key.as_bytes(), value.as_bytes());
/// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
/// # };
/// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
/// # let log_durable_end = LogPosition::ZERO;
/// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
/// forest.checkpoint(&checkpoint_at(Lsn(2)))?;
/// let segment = forest.store().segment_path(forest.store().manifest().segments[0].number);
/// drop((tree, forest));
/// let mut bytes = std::fs::read(&segment)?;
/// bytes[100] ^= 1;
/// std::fs::write(&segment, bytes)?;
/// let mut found = Vec::new();
/// let mut on_damage = |damage: logwood_btree::verify::Damage| found.push(damage.corruption);
/// let report = logwood_btree::verify_directory(&env.disk, directory.path(), &mut on_damage, &mut |_| {})?;
/// assert!(report.damages > 0 && found.iter().all(|corruption| corruption.path == segment));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Io`; `UnsupportedFormat`. Damage is handed to `on_damage`; when no generation can be opened, only the files are
/// verified.
pub fn verify_directory(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(FilesProgress),
) -> Result<VerifyReport> {
    verify_directory_with(disk, dir, Derived::default(), on_damage, progress)
}

/// As [`verify_directory`], without reading the page segments again that `derived` has seen: for whoever wrote them, and
/// knows that they are on the disk as he had them in memory.
///
/// ```
/// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
/// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
/// # use std::ops::Bound;
/// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
/// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
/// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
/// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
/// # let put = |key: &'static str, value: &'static str| {
/// #     let (key, value) = (key.as_bytes(), value.as_bytes());
/// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
/// # };
/// # use logwood_btree::verify::{Derived, DerivedSegment};
/// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
/// # let log_durable_end = LogPosition::ZERO;
/// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
/// forest.checkpoint(&checkpoint_at(Lsn(2)))?;
/// let mut derived = Derived::default();
/// for entry in &forest.store().manifest().segments {
///     let path = forest.store().segment_path(entry.number);
///     let bytes = std::fs::read(&path)?; // a restore has them in memory, of which it wrote the file
///     derived.add(DerivedSegment::of_proven(&path, entry, &bytes)?);
/// }
/// drop((tree, forest));
/// let mut on_damage = |damage: logwood_btree::verify::Damage| panic!("{}", damage.corruption);
/// let (disk, dir) = (&env.disk, directory.path());
/// let report = logwood_btree::verify_directory_with(disk, dir, derived, &mut on_damage, &mut |_| {})?;
/// assert_eq!(report.trees[0].1.count, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify_directory`].
pub fn verify_directory_with(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    derived: Derived,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(FilesProgress),
) -> Result<VerifyReport> {
    audit(on_damage, |waiting, on_damage| {
        let mut last = FilesProgress::default();
        let found = &mut |damage| waiting.take(damage).into_iter().for_each(&mut *on_damage);
        let (files, derived) = verify_and_derive(&**disk, dir, Some(derived), found, &mut |now| {
            last = now;
            progress(now);
        })?;
        match Store::open_read_only(Arc::clone(disk), dir, StoreOptions::default(), &|_| Ok(())) {
            Ok((store, _)) => {
                walk(&store, (files, derived.unwrap_or_default(), last), waiting, on_damage, progress)
            }
            Err(Error::Corruption(corruption)) => {
                // The files' part has most likely named it already; better twice than never.
                on_damage(Damage::at(*corruption));
                Ok(VerifyReport { damages: files.damages + 1, files, ..VerifyReport::default() })
            }
            Err(other) => Err(other),
        }
    })
}

/// Runs both parts. However they end, what was found is told.
fn audit(
    on_damage: &mut dyn FnMut(Damage),
    parts: impl FnOnce(&mut Waiting, &mut dyn FnMut(Damage)) -> Result<VerifyReport>,
) -> Result<VerifyReport> {
    let mut waiting = Waiting::default();
    let report = parts(&mut waiting, on_damage);
    waiting.tell(on_damage);
    report
}

fn walk(
    store: &Store,
    (files, derived, begun): (FilesReport, Derived, FilesProgress),
    waiting: &mut Waiting,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(FilesProgress),
) -> Result<VerifyReport> {
    let manifest = match &files.manifest {
        Some(manifest) => Arc::clone(manifest),
        None => store.manifest(),
    };
    let live: u64 = manifest.segments.iter().map(|segment| u64::from(segment.live_bytes)).sum();
    let begun = FilesProgress { bytes_total: begun.bytes_total + live, ..begun };
    let report = VerifyReport { damages: files.damages, files, ..VerifyReport::default() };
    let mut walk = Walk {
        store,
        derived,
        ahead: ReadAhead::new(store),
        waiting,
        on_damage,
        on_progress: progress,
        progress: begun,
        live: BTreeMap::new(),
        report,
    };
    for tree in &manifest.trees {
        let digest = match &tree.root {
            None => Some(Digest::EMPTY),
            Some(root) => {
                let range = KeyRange { low: Vec::new(), high: None };
                walk.nodes(tree.keyspace, &[(range, root.child.clone())], root.level)?
            }
        };
        walk.report.trees.extend(digest.map(|digest| (tree.keyspace, digest)));
    }
    for Detached { keyspace, root } in &manifest.detached {
        walk.detached(*keyspace, std::slice::from_ref(&root.child))?;
    }
    walk.compare_space(&manifest);
    Ok(walk.report)
}

struct Walk<'a> {
    store: &'a Store,
    /// What the files' part has seen of leaves.
    derived: Derived,
    /// What was read and not yet looked at.
    ahead: ReadAhead<'a>,
    /// What the files' part has found, and is told by the walk if it comes there.
    waiting: &'a mut Waiting,
    on_damage: &'a mut dyn FnMut(Damage),
    on_progress: &'a mut dyn FnMut(FilesProgress),
    progress: FilesProgress,
    /// Bytes of the pages that were reached, by segment.
    live: BTreeMap<SegmentNo, u64>,
    report: VerifyReport,
}

impl Walk<'_> {
    /// Verifies subtrees and computes the sums of all of them. `None` when there is damage inside.
    fn nodes(
        &mut self,
        keyspace: KeyspaceId,
        mut children: &[(KeyRange, ChildEntry)],
        level: u8,
    ) -> Result<Option<Digest>> {
        let mut total = Some(Digest::EMPTY);
        while !children.is_empty() {
            let derived = &self.derived;
            let settled = self.ahead.piece(children.iter().map(|(range, entry)| {
                let digest = if level == 0 { derived.agreed(entry, range) } else { None };
                (entry, digest)
            }));
            let (piece, behind) = children.split_at(settled.len());
            children = behind;
            for ((range, entry), settled) in piece.iter().zip(settled) {
                entry.pages().for_each(|page| self.reached(page));
                let digest = match settled {
                    Some(digest) => Some(digest),
                    None => self.node(keyspace, entry, level, range)?,
                };
                total = total.zip(digest).map(|(total, digest)| total.plus(digest));
            }
        }
        Ok(total)
    }

    /// Verifies a subtree and computes its sums. `None` when there is damage inside.
    fn node(
        &mut self,
        keyspace: KeyspaceId,
        entry: &ChildEntry,
        level: u8,
        range: &KeyRange,
    ) -> Result<Option<Digest>> {
        let found = self.look(keyspace, entry, level, range).and_then(|found| {
            let resolved = !entry.unresolved && usize::from(entry.resolved) == entry.deltas.len();
            match found {
                Some(digest) if resolved && digest != entry.digest => {
                    let (expected, found) = (hex(entry.digest), hex(digest));
                    Err(contradiction(self.store, &entry.page, "count and digest", expected, found))
                }
                found => Ok(found),
            }
        });
        match found {
            Ok(found) => Ok(found),
            Err(Error::Corruption(corruption)) => {
                self.tell(Damage::of_page(*corruption, keyspace, range.clone()));
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// The sums of a subtree, whatever its parent says of them.
    fn look(
        &mut self,
        keyspace: KeyspaceId,
        entry: &ChildEntry,
        level: u8,
        range: &KeyRange,
    ) -> Result<Option<Digest>> {
        let (image, blocks) = self.ahead.take(entry)?;
        match image.kind() {
            PageKind::Leaf if level == 0 => self.leaf(&image, &blocks, entry, range).map(Some),
            PageKind::Inner if level > 0 => self.inner(&image, keyspace, entry, level, range),
            kind => Err(contradiction(self.store, &entry.page, "page kind of level", level, kind as u8)),
        }
    }

    /// Reads the pages of subtrees that no tree reaches: their room is taken as long as they stand there.
    fn detached(&mut self, keyspace: KeyspaceId, mut children: &[ChildEntry]) -> Result<()> {
        let everything = KeyRange { low: Vec::new(), high: None };
        while !children.is_empty() {
            let derived = &self.derived;
            let settled =
                self.ahead.piece(children.iter().map(|entry| (entry, derived.agreed(entry, &everything))));
            let (piece, behind) = children.split_at(settled.len());
            children = behind;
            for (entry, settled) in piece.iter().zip(settled) {
                entry.pages().for_each(|page| self.reached(page));
                if settled.is_none() {
                    self.detached_node(keyspace, entry)?;
                }
            }
        }
        Ok(())
    }

    fn detached_node(&mut self, keyspace: KeyspaceId, entry: &ChildEntry) -> Result<()> {
        match self.detached_children(entry) {
            Ok(children) => self.detached(keyspace, &children),
            Err(Error::Corruption(corruption)) => {
                let affects = format!("keyspace {keyspace}, records that were deleted");
                self.tell(Damage::at(corruption.affecting(affects)));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// The children of a node that no tree reaches; of a leaf, what of it stands elsewhere is counted.
    fn detached_children(&mut self, entry: &ChildEntry) -> Result<Vec<ChildEntry>> {
        let store = self.store;
        let (image, blocks) = self.ahead.take(entry)?;
        if image.kind() == PageKind::Leaf {
            let records = LeafRecords::read(store, entry, &image, &blocks)?;
            records.overflow.iter().for_each(|page| self.reached(page));
            return Ok(Vec::new());
        }
        let decoding = |error: CodecError| undecodable(store, &entry.page, error);
        let mut children = Vec::new();
        let mut iter = InnerReader::new(image.body()).map_err(decoding)?.iter();
        while let Some((_, child)) = iter.next().map_err(decoding)? {
            children.push(child);
        }
        Ok(children)
    }

    fn tell(&mut self, damage: Damage) {
        self.report.damages += u64::from(!self.waiting.settle(&damage.corruption));
        (self.on_damage)(damage);
    }

    fn reached(&mut self, page: &PageRef) {
        self.report.pages += 1;
        *self.live.entry(page.addr.segment).or_default() += u64::from(page.bytes);
        self.progress.bytes_done += u64::from(page.bytes);
        (self.on_progress)(self.progress);
    }

    fn leaf(
        &mut self,
        image: &Page,
        blocks: &[Page],
        entry: &ChildEntry,
        range: &KeyRange,
    ) -> Result<Digest> {
        let records = LeafRecords::read(self.store, entry, image, blocks)?;
        records.overflow.iter().for_each(|page| self.reached(page));
        let mut digest = Digest::EMPTY;
        let mut last: Option<&[u8]> = None;
        for (key, value) in records.iter() {
            let inside = *key >= range.low[..] && range.high.as_ref().is_none_or(|high| *key < high[..]);
            if !inside || last.is_some_and(|last| last >= key) {
                let (expected, found) = ("keys inside the fences", Escaped(key));
                return Err(contradiction(self.store, &entry.page, "key order", expected, found));
            }
            match value {
                LeafValue::Inline(value) => digest.add(key, value),
                LeafValue::Overflow(reference) => {
                    digest.add_hash(hash_from_device(self.store, key, reference)?);
                }
            }
            last = Some(key);
        }
        Ok(digest)
    }

    fn inner(
        &mut self,
        page: &Page,
        keyspace: KeyspaceId,
        entry: &ChildEntry,
        level: u8,
        range: &KeyRange,
    ) -> Result<Option<Digest>> {
        let store = self.store;
        let decoding = |error: CodecError| undecodable(store, &entry.page, error);
        let reader = InnerReader::new(page.body()).map_err(decoding)?;
        if reader.level() != level {
            return Err(contradiction(store, &entry.page, "page level", level, reader.level()));
        }
        let mut children: Vec<(KeyRange, ChildEntry)> = Vec::with_capacity(reader.len());
        let mut iter = reader.iter();
        while let Some((separator, child)) = iter.next().map_err(decoding)? {
            if let Some((before, _)) = children.last_mut() {
                before.high = Some(separator.to_vec());
            }
            children.push((KeyRange { low: separator.to_vec(), high: range.high.clone() }, child));
        }
        // A page begins behind its fence where all that stood before it had no records: a leaf without any has no page, nor
        // has a node over nothing but such leaves.
        let fences = children.first().is_none_or(|(first, _)| first.low >= range.low)
            && children
                .last()
                .is_none_or(|(last, _)| range.high.as_ref().is_none_or(|high| last.low < *high));
        if !fences {
            return Err(contradiction(store, &entry.page, "fences", "the parent's", "others"));
        }
        let newest = children.iter().map(|(_, child)| child.lsn).max();
        if newest > Some(entry.lsn) {
            let found = newest.unwrap_or_default();
            return Err(contradiction(store, &entry.page, "LSN of children", entry.lsn, found));
        }
        self.nodes(keyspace, &children, level - 1)
    }

    /// Compares live bytes, when every page could be reached.
    fn compare_space(&mut self, manifest: &Manifest) {
        if self.report.damages > 0 {
            return;
        }
        for segment in &manifest.segments {
            let found = self.live.remove(&segment.number).unwrap_or(0);
            if found != u64::from(segment.live_bytes) {
                let (number, expected) = (segment.number, segment.live_bytes);
                let error = format!("page segment {number}: {expected} live bytes noted, {found} found");
                self.report.space_errors.push(error);
            }
        }
    }
}

fn hex(digest: Digest) -> String {
    format!("{} records, {:032x}", digest.count, digest.sum)
}
