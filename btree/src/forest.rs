//! All trees of a database: the public face.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use logwood_base::sync::atomic::{AtomicBool, Ordering};
use logwood_base::sync::{Mutex, RwLock};
use logwood_base::{Environment, Error, Generation, KeyspaceId, LogPosition, Lsn, Result};

use crate::account::{Account, Class, PageWrites};
use crate::apply::{self, Change, SortedChanges};
use crate::descent::TreeCore;
use crate::manifest::ManifestSummary;
use crate::node::Cold;
use crate::node::content::Content;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
use crate::preparation::Preparation;
use crate::shared::{Shared, Writer};
use crate::snapshot::Snapshot;
use crate::store::{Beginning, Compression, Identity, Store, StoreOptions, StoreStatistics, TreeEntry};
use crate::tree::Tree;
use crate::version::registry::Registry;

/// Page segments that are being written stay in memory. They take this part of the cache's size, or a megabyte.
const OPEN_SHARE: usize = 8;
const OPEN_BYTES_MIN: usize = 1 << 20;

/// How a forest behaves.
#[derive(Clone, Debug)]
pub struct ForestOptions {
    /// Memory for nodes that the trees serve from. Clean leaves are let go beyond it; changes that no checkpoint has
    /// written yet, and versions that snapshots hold, may pass it and are shown in statistics. 256 MiB by default.
    pub cache_bytes: usize,
    /// A leaf is split when its records take more than this. 8 KiB by default; tests use less.
    pub leaf_bytes: usize,
    /// Length of page segments, about. 16 MiB by default.
    pub page_segment_bytes: u32,
    /// Whether pages are compressed where a sample says that it pays.
    pub compression: Compression,
}

impl Default for ForestOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            leaf_bytes: 8 << 10,
            page_segment_bytes: 16 << 20,
            compression: Compression::Auto,
        }
    }
}

impl ForestOptions {
    fn store(&self) -> StoreOptions {
        let options = StoreOptions::default();
        StoreOptions {
            segment_bytes: self.page_segment_bytes,
            compression: self.compression,
            open_bytes_max: (self.cache_bytes / OPEN_SHARE).clamp(OPEN_BYTES_MIN, options.open_bytes_max),
            ..options
        }
    }
}

/// What opening found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The trees are exactly the state at this LSN.
    pub checkpoint_lsn: Lsn,
    /// Entries from here on are to be applied again.
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
    /// What the checkpoint was given to keep.
    pub engine_state: Vec<u8>,
    /// The generation that was opened.
    pub generation: Generation,
    /// What a person should know and nobody needs to act on.
    pub notes: Vec<String>,
}

/// What a forest holds, in bytes and numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ForestStatistics {
    /// All memory of nodes and versions.
    pub resident_bytes: usize,
    /// What is held from the system for leaves: their memory, room between them, and where their long values stand.
    pub held_bytes: usize,
    /// Leaves that the disk has too.
    pub clean_bytes: usize,
    /// Leaves that changed since the last checkpoint.
    pub dirty_bytes: usize,
    /// Inner nodes.
    pub inner_bytes: usize,
    /// Older versions, kept for snapshots and for what is not published yet.
    pub version_bytes: usize,
    /// Unlinked nodes that wait until no reader can stand on them.
    pub retired_bytes: usize,
    /// Subtrees on disk that were dropped, or detached by range deletes, and whose pages wait to be given back.
    pub detached: usize,
    /// Snapshots that are alive.
    pub snapshots: usize,
    /// The oldest of them.
    pub oldest_snapshot: Option<Lsn>,
    /// Pages that were read because they were not in memory.
    pub cold_reads: u64,
    /// Pieces of long values that were read.
    pub overflow_reads: u64,
    /// Nodes that were let go to keep the cache in its bounds.
    pub evictions: u64,
    /// Pages written.
    pub written: PageWrites,
    /// Pages on disk.
    pub store: StoreStatistics,
}

/// All trees of a database, over one page store and one chain of manifests. Cheap to clone.
///
/// Where the trees stand, and what they hold in memory:
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
/// forest.apply(Lsn(3), &[put("ada", "1852")])?;
/// assert_eq!((forest.visible_lsn(), forest.applied_lsn()), (Lsn(2), Lsn(3)));
/// assert_eq!(forest.oldest_dirty_lsn(), Some(Lsn(1)));
/// assert!(forest.dirty_bytes() > 0);
/// assert_eq!(forest.statistics().dirty_bytes, forest.dirty_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Forest {
    pub(crate) shared: Arc<Shared>,
}

impl Forest {
    /// Creates an empty forest in `dir`.
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
    /// drop((tree, forest));
    /// let options = ForestOptions { cache_bytes: 64 << 20, ..ForestOptions::default() };
    /// let forest = Forest::create(&env, &directory.path().join("other"), identity, options)?;
    /// assert_eq!((forest.keyspaces(), forest.applied_lsn()), (Vec::new(), Lsn::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::create`]; `InvalidArgument` for options out of bounds.
    pub fn create(
        environment: &Environment,
        dir: &Path,
        identity: Identity,
        options: ForestOptions,
    ) -> Result<Self> {
        let beginning = Beginning {
            checkpoint_lsn: Lsn::ZERO,
            replay_from: Lsn::FIRST,
            log_durable_end: LogPosition::ZERO,
            engine_state: &[],
        };
        Self::create_with(environment, dir, identity, options, beginning)
    }

    /// Creates an empty forest whose first manifest says what the caller wants it to say.
    ///
    /// For a copy whose log begins behind entry 40:
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
    /// let beginning = logwood_btree::Beginning {
    ///     checkpoint_lsn: Lsn(40),
    ///     replay_from: Lsn(41),
    ///     log_durable_end: LogPosition::ZERO,
    ///     engine_state: b"catalog",
    /// };
    /// let (dir, options) = (directory.path().join("copy"), ForestOptions::default());
    /// drop(Forest::create_with(&env, &dir, identity, options.clone(), beginning)?);
    /// let (_, opened) = Forest::open(&env, &dir, options, &|_| Ok(()))?;
    /// assert_eq!((opened.replay_from, &opened.engine_state[..]), (Lsn(41), &b"catalog"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::create`].
    pub fn create_with(
        environment: &Environment,
        dir: &Path,
        identity: Identity,
        options: ForestOptions,
        beginning: Beginning<'_>,
    ) -> Result<Self> {
        check_options(&options)?;
        let disk = Arc::clone(&environment.disk);
        let store = Store::create(disk, dir, identity, options.store(), beginning)?;
        Ok(Self::over(store, options))
    }

    /// Opens the newest generation. No tree is walked: nodes come into memory as they are used. `acceptable` judges
    /// whether the log fits the generation.
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
    /// forest.replay(Lsn(3), &[put("ada", "1852")])?;
    /// drop((tree, forest));
    /// let fits = |manifest: &logwood_btree::ManifestSummary| {
    ///     assert_eq!(manifest.replay_from, Lsn(3)); // does the log still hold it, and what follows?
    ///     Ok(())
    /// };
    /// let (forest, opened) = Forest::open(&env, directory.path(), ForestOptions::default(), &fits)?;
    /// assert_eq!((opened.checkpoint_lsn, opened.replay_from), (Lsn(2), Lsn(3)));
    /// forest.replay(Lsn(3), &[put("ada", "1852")])?; // from the log
    /// let tree = forest.tree(KeyspaceId(1)).expect("it was created");
    /// assert_eq!(tree.get(b"ada", At::Latest)?.as_deref(), Some(&b"1852"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::open`]; `InvalidArgument` for options out of bounds.
    pub fn open(
        environment: &Environment,
        dir: &Path,
        options: ForestOptions,
        acceptable: &dyn Fn(&ManifestSummary) -> Result<()>,
    ) -> Result<(Self, Opened)> {
        check_options(&options)?;
        let disk = Arc::clone(&environment.disk);
        let (store, found) = Store::open(disk, dir, options.store(), acceptable)?;
        let opened = Opened {
            checkpoint_lsn: found.manifest.checkpoint_lsn,
            replay_from: found.manifest.replay_from,
            log_durable_end: found.manifest.log_durable_end,
            engine_state: found.manifest.engine_state.clone(),
            generation: found.manifest.generation,
            notes: found.notes,
        };
        Ok((Self::over(store, options), opened))
    }

    /// The trees of a store's newest generation.
    fn over(store: Store, options: ForestOptions) -> Self {
        let manifest = store.manifest();
        let account = Arc::new(Account::default());
        let trees: BTreeMap<KeyspaceId, Arc<TreeCore>> = manifest
            .trees
            .iter()
            .map(|entry| (entry.keyspace, Arc::new(open_tree(entry, &account))))
            .collect();
        let lsn = manifest.checkpoint_lsn;
        let writer = Writer::at(lsn, manifest.detached.clone());
        let ever_cold = AtomicBool::new(manifest.trees.iter().any(|tree| tree.root.is_some()));
        Self {
            shared: Arc::new(Shared {
                options,
                account,
                registry: Registry::new(lsn),
                store,
                trees: RwLock::new(trees),
                writer: Mutex::new(writer),
                loaded: Mutex::default(),
                old_pages: Mutex::default(),
                writing_ahead: Mutex::new(()),
                giving_back: Mutex::new(()),
                ever_cold,
            }),
        }
    }

    /// Creates an empty tree, as the effect of the entry at `lsn`. Called by the writer, in LSN order with
    /// [`Forest::apply`], which may be called for the same entry afterwards.
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
    /// let other = forest.create_tree(Lsn(2), KeyspaceId(2))?;
    /// forest.publish(Lsn(2));
    /// assert_eq!((other.keyspace(), forest.keyspaces()), (KeyspaceId(2), vec![KeyspaceId(1), KeyspaceId(2)]));
    /// assert!(forest.create_tree(Lsn(3), KeyspaceId(2)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn create_tree(&self, lsn: Lsn, keyspace: KeyspaceId) -> Result<Tree> {
        let _writer = self.shared.writer.lock();
        let mut trees = self.shared.trees.write();
        if trees.contains_key(&keyspace) {
            return Err(Error::AlreadyExists { what: "keyspace", name: keyspace.to_string() });
        }
        let root = Leaf::build(&Content::default(), Lsn::ZERO, None, &self.shared.account);
        let core = Arc::new(TreeCore::new(keyspace, Node::Leaf(root), lsn));
        trees.insert(keyspace, Arc::clone(&core));
        Ok(Tree::new(core, &self.shared))
    }

    /// Drops a tree, as the effect of the entry at `lsn`. Handles that are held go on reading it. The next checkpoint at
    /// `lsn` or above notes where its pages are, and [`Forest::give_back_step`] gives them back.
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
    /// forest.drop_tree(Lsn(3), KeyspaceId(1))?;
    /// assert!(forest.tree(KeyspaceId(1)).is_none());
    /// assert!(tree.contains(b"ada", At::Latest)?, "who holds it reads on");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound`.
    pub fn drop_tree(&self, lsn: Lsn, keyspace: KeyspaceId) -> Result<()> {
        let mut writer = self.shared.writer.lock();
        let removed = self.shared.trees.write().remove(&keyspace);
        let core = removed.ok_or_else(|| Error::NotFound { what: "keyspace", name: keyspace.to_string() })?;
        core.drop_at(lsn, self.shared.store.pin());
        writer.detach(core);
        Ok(())
    }

    /// The tree of a keyspace.
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
    /// let tree = forest.tree(KeyspaceId(1)).expect("it was created");
    /// assert!(tree.contains(b"ada", At::Latest)?);
    /// assert!(forest.tree(KeyspaceId(9)).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tree(&self, keyspace: KeyspaceId) -> Option<Tree> {
        Some(Tree::new(self.shared.tree(keyspace)?, &self.shared))
    }

    /// The keyspaces that have a tree.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<KeyspaceId> {
        self.shared.trees.read().keys().copied().collect()
    }

    /// Applies the changes of the entry at `lsn`, which is above every LSN applied before. Nobody sees them before
    /// [`Forest::publish`]. Later changes of a key in one call override earlier ones.
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
    /// let all_of_it = ChangeKind::DeleteRange { from: b"", to: None };
    /// let changes = [put("ada", "1815"), Change { keyspace: KeyspaceId(1), kind: all_of_it }, put("alan", "1912")];
    /// forest.apply(Lsn(2), &changes)?; // in their order
    /// forest.publish(Lsn(2));
    /// assert!(!tree.contains(b"ada", At::Latest)? && tree.contains(b"alan", At::Latest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` for a keyspace without a tree, `LimitExceeded`, `InvalidArgument` for an LSN out of order;
    /// `Corruption`, `Io` when a page that is changed cannot be read. Nothing was changed then, but where the leaves may take
    /// more than an eighth of the cache and a page that could be read at first cannot be read again: a part was applied, and
    /// nothing more may be.
    pub fn apply(&self, lsn: Lsn, changes: &[Change<'_>]) -> Result<()> {
        self.shared.apply(lsn, changes)
    }

    /// As [`Forest::apply`], of more changes than memory may hold, in the order of keyspace and key, each key once: beyond a
    /// quarter of the cache, changed leaves go straight to pages. Nobody else applies meanwhile.
    ///
    /// A hundred thousand records that are never in memory all at once:
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
    /// # use logwood_btree::SortedChanges;
    /// struct Numbers(u32, [u8; 4]);
    /// impl SortedChanges for Numbers {
    ///     fn next(&mut self) -> logwood_base::Result<Option<Change<'_>>> {
    ///         (self.0, self.1) = (self.0 + 1, self.0.to_be_bytes());
    ///         let kind = ChangeKind::Put { key: &self.1, value: b"" };
    ///         Ok((self.0 <= 100_000).then_some(Change { keyspace: KeyspaceId(1), kind }))
    ///     }
    /// }
    /// forest.prepare_sorted(&mut Numbers(0, [0; 4]))?; // damage would be told here, before anything changes
    /// forest.apply_sorted(Lsn(2), &mut Numbers(0, [0; 4]))?;
    /// forest.publish(Lsn(2));
    /// assert_eq!(tree.count((Bound::Unbounded, Bound::Unbounded), &forest.snapshot())?, 100_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::apply`], `InvalidArgument` for changes out of order, `DiskFull`, and whatever `changes` answers. A part
    /// was applied then: nothing more may be, and none of it is to be published.
    pub fn apply_sorted(&self, lsn: Lsn, changes: &mut dyn SortedChanges) -> Result<()> {
        apply::apply_sorted(&self.shared, lsn, changes)
    }

    /// Finds out whether every page can be read that [`Forest::apply_sorted`] of these changes would read. They do not stay
    /// in memory for it, and a [`Preparation`] of somebody else is left alone. Changes out of order cost more reading, and are no
    /// error. Answers about how many bytes of pages the leaves take that they change; they may all be written anew.
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
    /// # use logwood_btree::SortedChanges;
    /// struct Once(Option<&'static [u8]>);
    /// impl SortedChanges for Once {
    ///     fn next(&mut self) -> logwood_base::Result<Option<Change<'_>>> {
    ///         let kind = |key| ChangeKind::Delete { key };
    ///         Ok(self.0.take().map(|key| Change { keyspace: KeyspaceId(1), kind: kind(key) }))
    ///     }
    /// }
    /// let page_bytes = forest.prepare_sorted(&mut Once(Some(b"ada")))?;
    /// println!("the log needs no more than this changes; the pages, {page_bytes} bytes");
    /// assert!(tree.contains(b"ada", At::Latest)?, "nothing is changed yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::prepare`].
    pub fn prepare_sorted(&self, changes: &mut dyn SortedChanges) -> Result<u64> {
        apply::prepare_sorted(&self.shared, changes)
    }

    /// Applies the changes of several entries, whose last one is at `lsn`, and makes them visible: for recovery, before
    /// anybody reads. Many at a time are much faster than one entry after the other, because each leaf is changed once, and
    /// no version is kept. What the changes take, and about 70 bytes for each to sort them, is taken off the cache.
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
    /// // Entries 2 to 4 of the log, at once.
    /// forest.replay(Lsn(4), &[put("ada", "1815"), put("alan", "1912"), put("ada", "1852")])?;
    /// assert_eq!(forest.visible_lsn(), Lsn(4));
    /// assert_eq!(tree.get(b"ada", At::Latest)?.as_deref(), Some(&b"1852"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::apply`]; but a part may have been applied: recovery begins anew.
    pub fn replay(&self, lsn: Lsn, changes: &[Change<'_>]) -> Result<()> {
        self.replay_beside(lsn, changes, 0)
    }

    /// As [`Forest::replay`], while the caller holds `beside` bytes for what comes next: they are taken off the cache, too.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, Lsn};
    /// # use logwood_btree::{Change, ChangeKind, Forest, ForestOptions, Identity};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// let put = |key, value| Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } };
    /// let gathered_next = Vec::<u8>::with_capacity(1 << 20);
    /// forest.replay_beside(Lsn(7), &[put(b"ada", b"1815")], gathered_next.capacity())?;
    /// assert_eq!(forest.visible_lsn(), Lsn(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::replay`].
    pub fn replay_beside(&self, lsn: Lsn, changes: &[Change<'_>], beside: usize) -> Result<()> {
        apply::replay(&self.shared, lsn, changes, beside)
    }

    /// Brings into memory what applying these changes would have to read, and refuses what that would refuse. What is
    /// answered keeps it there and applies them, reading no disk. So a writer finds damage before it writes the entry to
    /// its log. Where the leaves may take more than an eighth of the cache, they are only looked through, and read again.
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
    /// let changes = [put("ada", "1815")];
    /// let prepared = forest.prepare(&changes)?; // a damaged page is told here
    /// // The entry is appended to the log, which gives it its LSN.
    /// prepared.apply(Lsn(2))?;
    /// // When the log says that it is durable:
    /// forest.publish(Lsn(2));
    /// assert!(tree.contains(b"ada", At::Latest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::apply`], but for the LSN.
    pub fn prepare<'f>(&'f self, changes: &'f [Change<'f>]) -> Result<Preparation<'f>> {
        Preparation::new(&self.shared, changes)
    }

    /// Makes everything up to `lsn` visible to reads of the latest state.
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
    /// forest.apply(Lsn(2), &[put("ada", "1815")])?;
    /// assert!(!tree.contains(b"ada", At::Latest)?);
    /// assert!(tree.contains(b"ada", At::Applied)?, "for whoever orders the writes");
    /// forest.publish(Lsn(2));
    /// assert!(tree.contains(b"ada", At::Latest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish(&self, lsn: Lsn) {
        self.shared.registry.publish(lsn);
    }

    /// What reads of the latest state see.
    #[must_use]
    pub fn visible_lsn(&self) -> Lsn {
        self.shared.registry.visible()
    }

    /// The newest LSN that was applied.
    #[must_use]
    pub fn applied_lsn(&self) -> Lsn {
        self.shared.writer.lock().applied
    }

    /// A snapshot of what is visible now.
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
    /// let snapshot = forest.snapshot();
    /// forest.replay(Lsn(3), &[put("ada", "1852")])?;
    /// assert_eq!(tree.get(b"ada", At::Snapshot(&snapshot))?.as_deref(), Some(&b"1815"[..]));
    /// assert_eq!(tree.get(b"ada", At::Latest)?.as_deref(), Some(&b"1852"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::registered(&self.shared, self.shared.registry.register())
    }

    /// A snapshot at an LSN that is not below the visible one, or at which another snapshot lives.
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
    /// forest.apply(Lsn(3), &[put("ada", "1852")])?;
    /// let ahead = forest.snapshot_at(Lsn(3))?; // not published yet
    /// assert_eq!(tree.get(b"ada", At::Snapshot(&ahead))?.as_deref(), Some(&b"1852"[..]));
    /// assert!(forest.snapshot_at(Lsn(1)).is_err(), "nobody kept it");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld`.
    pub fn snapshot_at(&self, lsn: Lsn) -> Result<Snapshot> {
        self.shared.registry.register_at(lsn)?;
        Ok(Snapshot::registered(&self.shared, lsn))
    }

    /// Bytes of leaves that changed since the last checkpoint and must stay in memory until the next.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        self.shared.account.bytes(Class::Dirty)
    }

    /// Bytes of older versions of leaves, kept for snapshots, a checkpoint's among them, and for what is not published.
    #[must_use]
    pub fn version_bytes(&self) -> usize {
        self.shared.account.bytes(Class::Kept)
    }

    /// The first LSN that the newest checkpoint does not hold, if anything was applied since.
    #[must_use]
    pub fn oldest_dirty_lsn(&self) -> Option<Lsn> {
        let writer = self.shared.writer.lock();
        (writer.applied > writer.checkpoint).then(|| writer.checkpoint.next())
    }

    /// What it holds, in bytes and numbers.
    #[must_use]
    pub fn statistics(&self) -> ForestStatistics {
        let account = &self.shared.account;
        let (snapshots, oldest_snapshot) = self.shared.registry.live();
        ForestStatistics {
            resident_bytes: account.resident(),
            held_bytes: account.arena.held_bytes() + account.reference_bytes.load(Ordering::Relaxed),
            clean_bytes: account.bytes(Class::Clean),
            dirty_bytes: account.bytes(Class::Dirty),
            inner_bytes: account.inner_bytes(),
            version_bytes: account.bytes(Class::Kept),
            retired_bytes: account.bytes(Class::Retired),
            detached: self.shared.writer.lock().detached.len(),
            snapshots,
            oldest_snapshot,
            cold_reads: account.cold_reads.load(Ordering::Relaxed),
            overflow_reads: account.overflow_reads.load(Ordering::Relaxed),
            evictions: account.evictions.load(Ordering::Relaxed),
            written: *account.written.lock(),
            store: self.shared.store.statistics(),
        }
    }

    /// The page store below, for backups, transfers and scrubs.
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
    /// assert_eq!(forest.store().manifest().checkpoint_lsn, Lsn(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }
}

/// A tree whose nodes are all on disk.
fn open_tree(entry: &TreeEntry, account: &Arc<Account>) -> TreeCore {
    let root = match &entry.root {
        Some(root) => Node::Cold(Arc::new(Cold::new(root.child.clone(), root.level))),
        None => Node::Leaf(Leaf::build(&Content::default(), Lsn::ZERO, None, account)),
    };
    TreeCore::new(entry.keyspace, root, Lsn::ZERO)
}

/// A leaf must hold a few records, and a page must hold a leaf.
fn check_options(options: &ForestOptions) -> Result<()> {
    const LEAF_BYTES: std::ops::RangeInclusive<usize> = 256..=64 << 10;
    if LEAF_BYTES.contains(&options.leaf_bytes) {
        Ok(())
    } else {
        let found = options.leaf_bytes;
        Err(Error::InvalidArgument(format!("leaves of {found} bytes; allowed are {LEAF_BYTES:?}")))
    }
}
