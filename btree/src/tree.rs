//! One tree: point reads.

use std::ops::Bound;
use std::sync::Arc;

use logwood_base::digest::Digest;
use logwood_base::{Error, KeyspaceId, Lsn, Result};

use crate::cursor::{Cursor, KeyRange};
use crate::descent::TreeCore;
use crate::node::leaf::Leaf;
use crate::node::overflow::{OverflowValue, RecordValue};
use crate::overflow::of_value;
use crate::shared::Shared;
use crate::sizes::{self, RangeSize};
use crate::snapshot::{At, Snapshot};
use crate::sums::{self, Want};
use crate::value::Value;
use crate::value_reader::ValueReader;
use crate::version::{Seek, version_at};

mod many;

/// The ordered map of one keyspace. Cheap to clone.
#[derive(Clone)]
pub struct Tree {
    core: Arc<TreeCore>,
    shared: Arc<Shared>,
}

impl Tree {
    pub(crate) fn new(core: Arc<TreeCore>, shared: &Arc<Shared>) -> Self {
        Self { core, shared: Arc::clone(shared) }
    }

    /// Whose tree it is.
    #[must_use]
    pub fn keyspace(&self) -> KeyspaceId {
        self.core.id
    }

    /// The value of `key`.
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
    /// assert_eq!(tree.get(b"ada", At::Latest)?.as_deref(), Some(&b"1815"[..]));
    /// assert_eq!(tree.get(b"kurt", At::Snapshot(&forest.snapshot()))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption` naming the key range of a page that cannot be trusted, or the key of a long value; `Io`.
    pub fn get(&self, key: &[u8], at: At<'_>) -> Result<Option<Value>> {
        match self.find(key, at, |_, _, value| owned(value))? {
            Ok(value) => Ok(value),
            Err(elsewhere) => Ok(Some(self.read_whole(key, &elsewhere)?.into())),
        }
    }

    /// Whether the tree holds `key`. Reads no long value.
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
    /// assert!(tree.contains(b"ada", At::Latest)? && !tree.contains(b"kurt", At::Latest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains(&self, key: &[u8], at: At<'_>) -> Result<bool> {
        self.find(key, at, |_, _, value| value.is_some())
    }

    /// Lends the value of `key` to `look`, without copying it, but for a long value that is on disk. Memory that is given
    /// back meanwhile waits for `look` to return.
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
    /// let bytes = tree.get_with(b"ada", At::Latest, |value| value.map(<[u8]>::len))?;
    /// assert_eq!(bytes, Some(4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get_with<R>(&self, key: &[u8], at: At<'_>, look: impl FnOnce(Option<&[u8]>) -> R) -> Result<R> {
        let found = self.find(key, at, |_, _, value| match value {
            Some(RecordValue::Overflow(value)) => Err((Arc::clone(value), look)),
            value => Ok(look(value.map(|value| value.inline()))),
        })?;
        match found {
            Ok(seen) => Ok(seen),
            Err((value, look)) => Ok(look(Some(&self.read_whole(key, &value)?))),
        }
    }

    /// The value of `key`, to be read piece by piece; `None` when there is none.
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
    /// use std::io::Read;
    /// let mut reader = tree.value_reader(b"ada", At::Latest)?.expect("it is there");
    /// let mut head = [0; 2];
    /// reader.read_exact(&mut head)?;
    /// assert_eq!((&head, reader.len()), (b"18", 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn value_reader(&self, key: &[u8], at: At<'_>) -> Result<Option<ValueReader>> {
        self.find(key, at, |leaf, lsn, value| {
            let reader = |value| ValueReader::new(&self.shared, self.core.id, key, (leaf, lsn), value);
            value.map(reader).transpose()
        })?
    }

    /// Shows `look` the leaf that serves `key`, the LSN that is read, and the value.
    fn find<R>(
        &self,
        key: &[u8],
        at: At<'_>,
        look: impl FnOnce(&Leaf, Lsn, Option<RecordValue<'_>>) -> R,
    ) -> Result<R> {
        let guard = crossbeam_epoch::pin();
        loop {
            // Loaded behind the pin: what is unlinked because nobody needs it below this LSN stays while we look.
            let lsn = self.lsn_of(at);
            let seen = self.core.leaf_at(&self.shared, key, lsn, &guard)?;
            if let Some(leaf) = seen.leaf() {
                leaf.touch();
                if leaf.base_lsn() <= lsn {
                    return Ok(look(leaf, lsn, leaf.get(key, lsn)));
                }
            }
            if let Some(version) = version_at(&self.shared, &seen, lsn, Seek::From(key), &guard)? {
                return Ok(look(&version.leaf, lsn, version.leaf.get(key, lsn)));
            }
            self.explain_gap(at, lsn)?;
        }
    }

    /// Reads a long value. Nothing is pinned meanwhile: it keeps its files by itself.
    fn read_whole(&self, key: &[u8], value: &OverflowValue) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.shared.read_overflow(value, &mut bytes);
        read.map_err(|error| of_value(error, self.core.id, key))?;
        Ok(bytes)
    }

    fn lsn_of(&self, at: At<'_>) -> Lsn {
        match at {
            At::Latest => self.shared.registry.visible(),
            At::Applied => Lsn::MAX,
            At::Snapshot(snapshot) => snapshot.lsn(),
        }
    }

    /// A reader of the latest state that came too late tries again at what is visible by now; a snapshot never finds
    /// a gap.
    fn explain_gap(&self, at: At<'_>, lsn: Lsn) -> Result<()> {
        match at {
            At::Latest if self.shared.registry.visible() > lsn => Ok(()),
            _ => {
                let keyspace = self.core.id;
                Err(Error::Internal(format!("no version of a leaf of keyspace {keyspace} serves {lsn}")))
            }
        }
    }

    /// Walks the records of a range, from either end.
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
    /// let from_b = (Bound::Included(&b"b"[..]), Bound::Unbounded);
    /// let mut cursor = tree.cursor(from_b, &forest.snapshot());
    /// assert_eq!(cursor.next()?, Some((&b"grace"[..], &b"1906"[..])));
    /// assert_eq!(cursor.next()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cursor(&self, range: (Bound<&[u8]>, Bound<&[u8]>), snapshot: &Snapshot) -> Cursor {
        Cursor::new(Arc::clone(&self.core), Arc::clone(&self.shared), KeyRange::new(range), snapshot.clone())
    }

    /// How many records a range holds. Costs a way down the tree at each end, and a look at every leaf inside that
    /// changed since the last checkpoint.
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
    /// let before_b = (Bound::Unbounded, Bound::Excluded(&b"b"[..]));
    /// assert_eq!(tree.count(before_b, &forest.snapshot())?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn count(&self, range: (Bound<&[u8]>, Bound<&[u8]>), snapshot: &Snapshot) -> Result<u64> {
        let range = KeyRange::new(range);
        Ok(sums::sum(&self.shared, &self.core, &range, snapshot.lsn(), Want::Count)?.count)
    }

    /// About how large a range is now. Costs a way down the tree at each end and six between, which tell how large records are,
    /// whatever changed since the last checkpoint.
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
    /// let size = tree.approximate_size((Bound::Unbounded, Bound::Unbounded))?;
    /// println!("about {} records of {} bytes together", size.records, size.bytes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn approximate_size(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<RangeSize> {
        sizes::size(&self.shared, &self.core, &KeyRange::new(range))
    }

    /// Ascending keys inside a range that cut it into `parts` parts of about as many records; fewer where there are
    /// fewer records. Costs a way down the tree for each of them.
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
    /// let keys = tree.split_keys((Bound::Unbounded, Bound::Unbounded), 3)?; // for three readers
    /// assert_eq!(keys, [b"alan".to_vec(), b"grace".to_vec()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn split_keys(&self, range: (Bound<&[u8]>, Bound<&[u8]>), parts: usize) -> Result<Vec<Vec<u8>>> {
        sizes::split_keys(&self.shared, &self.core, &KeyRange::new(range), parts)
    }

    /// The digest of a range. Costs what [`Tree::count`] costs, and hashing the records of changed leaves.
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
    /// # let all = (Bound::Unbounded, Bound::Unbounded);
    /// let before = tree.digest(all, &forest.snapshot())?;
    /// forest.replay(Lsn(3), &[put("ada", "1852")])?;
    /// assert_ne!(tree.digest(all, &forest.snapshot())?, before);
    /// forest.replay(Lsn(4), &[put("ada", "1815")])?;
    /// assert_eq!(tree.digest(all, &forest.snapshot())?, before, "equal records, equal digest");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn digest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), snapshot: &Snapshot) -> Result<Digest> {
        let range = KeyRange::new(range);
        sums::sum(&self.shared, &self.core, &range, snapshot.lsn(), Want::Digest)
    }
}

/// A value that can be kept: its bytes, or what it takes to read them.
fn owned(value: Option<RecordValue<'_>>) -> Result<Option<Value>, Arc<OverflowValue>> {
    match value {
        Some(RecordValue::Overflow(value)) => Err(Arc::clone(value)),
        value => Ok(value.map(|value| value.inline().into())),
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tree").field(&self.core.id).finish()
    }
}
