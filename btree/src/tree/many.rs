//! Looking several keys up at once.
//!
//! A lookup in a tree larger than the processor's caches is mostly waiting: for the leaf's header, for the heads of its
//! keys, for the record. Keys that are looked up together wait together. A group of them goes down level by level: each
//! key finds its child and asks for the child's memory, and when the last one of the group has done so, the first one's
//! memory has come.
//!
//! A key whose way ends on disk, or in a leaf that is too new for the reader, is left to the lookup of a single one.

use crossbeam_epoch::Guard;
use logwood_base::Result;
use smallvec::SmallVec;

use super::{Tree, owned};
use crate::node::slot::Seen;
use crate::snapshot::At;
use crate::value::Value;

/// Keys that go down together. With more, the first one's memory may have left the nearest cache again.
const GROUP: usize = 16;

impl Tree {
    /// The values of several keys.
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
    /// let values = tree.get_many(&[b"alan", b"kurt"], At::Latest)?; // in the order of the keys
    /// assert_eq!(values[0].as_deref(), Some(&b"1912"[..]));
    /// assert_eq!(values[1], None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tree::get`], at the first key that fails.
    pub fn get_many(&self, keys: &[&[u8]], at: At<'_>) -> Result<Vec<Option<Value>>> {
        let mut values = Vec::with_capacity(keys.len());
        for group in keys.chunks(GROUP) {
            self.get_group(group, at, &mut values)?;
        }
        Ok(values)
    }

    fn get_group(&self, keys: &[&[u8]], at: At<'_>, values: &mut Vec<Option<Value>>) -> Result<()> {
        let guard = crossbeam_epoch::pin();
        // Loaded behind the pin, as for a single key.
        let lsn = self.lsn_of(at);
        let ends = self.ends_of(keys, &guard);
        for (key, end) in keys.iter().zip(&ends) {
            if let Some(leaf) = end.leaf() {
                leaf.prefetch_record(key);
            }
        }
        for (key, end) in keys.iter().zip(&ends) {
            let found = match end.leaf() {
                Some(leaf) if leaf.base_lsn() <= lsn => {
                    leaf.touch();
                    owned(leaf.get(key, lsn))
                }
                _ => Ok(self.get(key, at)?),
            };
            values.push(match found {
                Ok(value) => value,
                Err(elsewhere) => Some(self.read_whole(key, &elsewhere)?.into()),
            });
        }
        Ok(())
    }

    /// Where the way of each key ends: in a leaf, or at a page that is not in memory.
    fn ends_of<'g>(&self, keys: &[&[u8]], guard: &'g Guard) -> SmallVec<[Seen<'g>; GROUP]> {
        let root = || self.core.root.load(guard);
        let mut ends: SmallVec<[Seen<'g>; GROUP]> = keys.iter().map(|_| root()).collect();
        let mut is_moving = true;
        while is_moving {
            is_moving = false;
            for (key, end) in keys.iter().zip(&mut ends) {
                let Some(inner) = end.inner() else { continue };
                *end = inner.slots()[inner.child_of(key)].load(guard);
                end.prefetch();
                is_moving = true;
            }
        }
        ends
    }
}
