//! An entry's leaves, brought into memory before the entry is written to the log.
//!
//! Nothing is evicted while a [`Preparation`] lives: what it has brought in must be there when it is applied. It ends when
//! it is applied or dropped, whatever happens in between, or memory would never be bounded again. Entries without changes
//! may be applied meanwhile: the fragments of a large transaction are, before its own changes.
//!
//! A batch whose leaves may take more memory than there is room for is only looked through: see [`crate::apply`].

use logwood_base::{Lsn, Result};

use crate::apply::{self, Change, Orders};
use crate::shared::Shared;

/// Changes that can be applied without reading the disk; see [`Forest::prepare`](crate::Forest::prepare).
///
/// There is one of it at a time: writers take turns.
#[must_use = "the leaves stay in memory until it is applied or dropped"]
pub struct Preparation<'f> {
    shared: &'f Shared,
    changes: &'f [Change<'f>],
    /// Whether its leaves are kept in memory.
    keeps: bool,
    /// The order of changes that were only looked through.
    orders: Option<Orders>,
}

impl<'f> Preparation<'f> {
    pub(crate) fn new(shared: &'f Shared, changes: &'f [Change<'f>]) -> Result<Self> {
        if apply::is_scattered(shared, changes) {
            let orders = Some(apply::prepare_scattered(shared, changes)?);
            return Ok(Self { shared, changes, keeps: false, orders });
        }
        let mut writer = shared.writer.lock();
        shared.make_room(&mut writer, changes.len());
        apply::prepare(shared, changes)?;
        writer.prepared = true;
        Ok(Self { shared, changes, keeps: true, orders: None })
    }

    /// Applies the changes as [`Forest::apply`](crate::Forest::apply) does.
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
    /// forest.prepare(&changes)?.apply(Lsn(2))?;
    /// assert!(forest.prepare(&changes)?.apply(Lsn(2)).is_err(), "in the order of the log");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for an LSN out of order, `NotFound` when a tree has gone in between. Nothing was changed then.
    /// Of a batch that was only looked through, `Corruption` and `Io` too, and a part of it may have been applied.
    pub fn apply(mut self, lsn: Lsn) -> Result<()> {
        if let Some(orders) = &self.orders {
            return apply::apply_scattered(self.shared, lsn, self.changes, orders);
        }
        // Taken back under the same lock as the changes, and not once more when it is dropped.
        self.keeps = false;
        self.shared.apply_prepared(lsn, self.changes, true)
    }
}

impl Drop for Preparation<'_> {
    fn drop(&mut self) {
        if self.keeps {
            let mut writer = self.shared.writer.lock();
            writer.prepared = false;
            self.shared.evict(&mut writer, self.shared.options.cache_bytes, &crossbeam_epoch::pin());
        }
    }
}

impl Shared {
    /// Applies the changes of the entry at `lsn`, and evicts what they leave too much.
    pub(crate) fn apply(&self, lsn: Lsn, changes: &[Change<'_>]) -> Result<()> {
        if apply::is_scattered(self, changes) {
            let orders = apply::prepare_scattered(self, changes)?;
            return apply::apply_scattered(self, lsn, changes, &orders);
        }
        self.apply_prepared(lsn, changes, false)
    }

    fn apply_prepared(&self, lsn: Lsn, changes: &[Change<'_>], prepared: bool) -> Result<()> {
        let mut writer = self.writer.lock();
        let guard = crossbeam_epoch::pin();
        if prepared {
            writer.prepared = false;
        }
        apply::apply(self, &mut writer, lsn, changes, prepared, &guard)?;
        self.evict(&mut writer, self.options.cache_bytes, &guard);
        drop(guard);
        self.collect();
        Ok(())
    }
}
