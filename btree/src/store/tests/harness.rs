//! A model of the trees' owner: numbered pages with known content, and checkpoints that name some of them.
//!
//! The "trees" are a list of leaf roots, one per keyspace: enough to have every page of a generation named, which is
//! what the store promises about.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logwood_base::digest::Digest;
use logwood_base::disk::SimulatedDisk;
use logwood_base::{DatabaseId, Generation, KeyspaceId, LogId, LogPosition, Lsn, Result, SegmentNo};

use crate::format::child::ChildEntry;
use crate::format::leaf::{LeafBuilder, LeafValue};
use crate::format::manifest::Manifest;
use crate::store::{
    Beginning, Commit, Compression, Identity, Label, Opened, PageKind, PageRef, Root, Store, StoreOptions,
    Stream, TreeEntry,
};

pub(super) const DIR: &str = "db";

/// Multiplies the sampling of the longer tests: `LOGWOOD_TEST_SCALE`, 1 by default.
pub(super) fn scale() -> u64 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

pub(super) fn identity() -> Identity {
    Identity { database: DatabaseId(7), log: LogId(9) }
}

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: 16 << 10,
        write_bytes: 4 << 10,
        open_bytes_max: 40 << 10,
        compression: Compression::Auto,
        open_files_max: 3,
    }
}

pub(super) fn beginning() -> Beginning<'static> {
    Beginning {
        checkpoint_lsn: Lsn::ZERO,
        replay_from: Lsn::FIRST,
        log_durable_end: LogPosition::ZERO,
        engine_state: b"new",
    }
}

pub(super) fn create(disk: &SimulatedDisk) -> Result<Store> {
    Store::create(Arc::new(disk.clone()), Path::new(DIR), identity(), options(), beginning())
}

pub(super) fn open(disk: &SimulatedDisk) -> Result<(Store, Opened)> {
    Store::open(Arc::new(disk.clone()), Path::new(DIR), options(), &|_| Ok(()))
}

/// The body of the leaf that tree `keyspace` has in version `version`.
pub(super) fn body(keyspace: u64, version: u64) -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for n in 0..12u64 {
        let mut random = fastrand::Rng::with_seed(keyspace << 32 | version << 8 | n);
        let value: Vec<u8> = (0..100 + n as usize).map(|_| random.u8(..)).collect();
        builder.push(format!("{keyspace:04}/{n:06}").as_bytes(), &LeafValue::Inline(&value));
    }
    builder.finish()
}

pub(super) fn label(keyspace: u64, low_key: &[u8]) -> Label<'_> {
    Label { kind: PageKind::Leaf, level: 0, keyspace: KeyspaceId(keyspace), low_key }
}

/// One page per keyspace, at a version.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    pub(super) pages: BTreeMap<u64, (u64, PageRef)>,
    pub(super) lsn: u64,
}

impl Forest {
    /// Writes a page anew and retires the one before.
    pub(super) fn write(&mut self, store: &Store, stream: Stream, keyspace: u64) -> Result<()> {
        let version = self.pages.get(&keyspace).map_or(1, |(version, _)| version + 1);
        let low_key = format!("{keyspace:04}/");
        let page = store.append(stream, &label(keyspace, low_key.as_bytes()), &body(keyspace, version))?;
        if let Some((_, before)) = self.pages.insert(keyspace, (version, page)) {
            store.retire(&before);
        }
        self.lsn += 1;
        Ok(())
    }

    /// Seals and commits what was written.
    pub(super) fn checkpoint(&self, store: &Store) -> Result<Generation> {
        store.seal_all()?;
        self.commit(store)
    }

    pub(super) fn commit(&self, store: &Store) -> Result<Generation> {
        let trees = self.pages.iter().map(|(keyspace, (version, page))| TreeEntry {
            keyspace: KeyspaceId(*keyspace),
            root: Some(Root {
                level: 0,
                child: ChildEntry::of_image(
                    *page,
                    Lsn(*version),
                    Digest { count: 12, sum: u128::from(*version) },
                ),
            }),
        });
        store.commit(Commit {
            checkpoint_lsn: Lsn(self.lsn),
            replay_from: Lsn(self.lsn + 1),
            log_durable_end: LogPosition::new(SegmentNo(1), 64),
            engine_state: &self.lsn.to_le_bytes(),
            trees: trees.collect(),
            detached: Vec::new(),
            unreached: &[],
            still_reached: &[],
        })
    }

    /// The state that a manifest names.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let pages = manifest.trees.iter().map(|tree| {
            let root = tree.root.as_ref().expect("these trees have roots");
            (tree.keyspace.get(), (root.child.lsn.get(), root.child.page))
        });
        Self { pages: pages.collect(), lsn: manifest.checkpoint_lsn.get() }
    }

    /// Reads every page and compares it with what was written.
    pub(super) fn check(&self, store: &Store) -> Result<()> {
        let references: Vec<PageRef> = self.pages.values().map(|(_, page)| *page).collect();
        for ((keyspace, (version, page)), many) in self.pages.iter().zip(store.read_many(&references)) {
            assert_eq!(many?.body(), body(*keyspace, *version));
            assert_eq!(store.read(page)?.body(), body(*keyspace, *version));
        }
        Ok(())
    }

    /// Versions by keyspace: what identifies the state.
    pub(super) fn versions(&self) -> BTreeMap<u64, u64> {
        self.pages.iter().map(|(keyspace, (version, _))| (*keyspace, *version)).collect()
    }

    /// What the store must count as alive.
    pub(super) fn live_bytes(&self) -> u64 {
        self.pages.values().map(|(_, page)| u64::from(page.bytes)).sum()
    }
}

/// A store with one generation of some segments.
pub(super) fn one_generation() -> (SimulatedDisk, Store, Forest) {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..20 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    (disk, store, forest)
}
