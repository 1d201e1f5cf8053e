//! What a transaction has read: what must not have changed when it commits.
//!
//! 1. A key that was looked up is noted, whether it had a value or not.
//! 2. Of a range, what was walked is noted: from its beginning to the last record handed out, and from the last one
//!    handed out from behind to its end; all of it once the walk found nothing more. So a walk that stops early
//!    conflicts with nothing behind where it stopped, and a key that appears inside conflicts (no phantoms).
//! 3. What the transaction reads of its own writes is not noted: nobody else can change it.
//!
//! A walk is noted here while it goes on, and not when it ends: one that is forgotten still counts.

use std::collections::BTreeSet;

use logwood_base::sync::Arc;
use logwood_base::{Changed, Result, limits};

use super::intervals::{Intervals, reaches};
use crate::catalog::KeyspaceShared;
use crate::entry::Operation;
use crate::planted::{Bug, planted};

/// What a noted key takes besides its bytes, about.
const KEY_OVERHEAD: usize = 40;

/// Everything that was read.
#[derive(Debug)]
pub(crate) struct ReadSet {
    keyspaces: Vec<KeyspaceReads>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct KeyspaceReads {
    keyspace: Arc<KeyspaceShared>,
    keys: BTreeSet<Box<[u8]>>,
    ranges: Intervals,
    walks: Vec<Walk>,
}

/// The walked parts of a range: `from..front` and `back..to`.
#[derive(Debug)]
struct Walk {
    from: Vec<u8>,
    front: Vec<u8>,
    back: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    /// Whether it goes on; one that ended is among the ranges.
    open: bool,
}

/// Names a walk in its read set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkId {
    keyspace: usize,
    walk: usize,
}

impl ReadSet {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { keyspaces: Vec::new(), bytes: 0, bytes_max }
    }

    /// Whether nothing was read: then nothing that others commit is a conflict.
    pub(crate) const fn is_empty(&self) -> bool {
        self.keyspaces.is_empty()
    }

    /// The keyspaces that were read.
    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = &Arc<KeyspaceShared>> {
        self.keyspaces.iter().map(|reads| &reads.keyspace)
    }

    /// Notes a key that was looked up.
    pub(crate) fn key(&mut self, keyspace: &Arc<KeyspaceShared>, key: &[u8]) -> Result<()> {
        let at = self.at(keyspace);
        let reads = &mut self.keyspaces[at];
        if reads.keys.contains(key) || reads.ranges.contains(key) {
            return Ok(());
        }
        let bytes = self.bytes + key.len() + KEY_OVERHEAD;
        limits::check("transaction read bytes", bytes, self.bytes_max)?;
        reads.keys.insert(key.into());
        self.bytes = bytes;
        Ok(())
    }

    /// Notes a range whose records were all looked at.
    pub(crate) fn range(
        &mut self,
        keyspace: &Arc<KeyspaceShared>,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
    ) -> Result<()> {
        limits::check("transaction read bytes", self.bytes, self.bytes_max)?;
        let at = self.at(keyspace);
        self.add_range(at, from, to);
        Ok(())
    }

    fn add_range(&mut self, at: usize, from: Vec<u8>, to: Option<Vec<u8>>) {
        let ranges = &mut self.keyspaces[at].ranges;
        let taken = |ranges: &Intervals| ranges.key_bytes() + ranges.len() * KEY_OVERHEAD;
        let before = taken(ranges);
        ranges.add(from, to);
        self.bytes = self.bytes - before + taken(ranges);
    }

    /// Begins a walk through a range.
    pub(crate) fn walk(
        &mut self,
        keyspace: &Arc<KeyspaceShared>,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
    ) -> Result<WalkId> {
        limits::check("transaction read bytes", self.bytes, self.bytes_max)?;
        let at = self.at(keyspace);
        let walks = &mut self.keyspaces[at].walks;
        let walk = Walk { front: from.clone(), back: to.clone(), from, to, open: true };
        let place = match walks.iter().position(|walk| !walk.open) {
            Some(free) => {
                walks[free] = walk;
                free
            }
            None => {
                walks.push(walk);
                walks.len() - 1
            }
        };
        Ok(WalkId { keyspace: at, walk: place })
    }

    /// The walk has handed out a record from the front.
    pub(crate) fn advanced(&mut self, id: WalkId, key: &[u8]) {
        let front = &mut self.keyspaces[id.keyspace].walks[id.walk].front;
        front.clear();
        front.extend_from_slice(key);
        front.push(0);
    }

    /// The walk has handed out a record from behind.
    pub(crate) fn advanced_back(&mut self, id: WalkId, key: &[u8]) {
        let back = self.keyspaces[id.keyspace].walks[id.walk].back.get_or_insert_default();
        back.clear();
        back.extend_from_slice(key);
    }

    /// The walk has found that there is nothing more.
    pub(crate) fn exhausted(&mut self, id: WalkId) {
        let walk = &mut self.keyspaces[id.keyspace].walks[id.walk];
        walk.back = Some(walk.from.clone());
    }

    /// The walk is over.
    pub(crate) fn ended(&mut self, id: WalkId) {
        let walk = &mut self.keyspaces[id.keyspace].walks[id.walk];
        walk.open = false;
        let (from, front) = (std::mem::take(&mut walk.from), std::mem::take(&mut walk.front));
        let (back, to) = (walk.back.take(), walk.to.take());
        self.add_range(id.keyspace, from, Some(front));
        if let Some(back) = back {
            self.add_range(id.keyspace, back, to);
        }
    }

    /// What of the read things an operation of another commit changes.
    pub(crate) fn changed_by(&self, operation: &Operation<'_>) -> Option<(&Arc<KeyspaceShared>, Changed)> {
        let id = operation.keyspace();
        let reads = self.keyspaces.iter().find(|reads| reads.keyspace.id == id)?;
        let changed = match *operation {
            Operation::Put { key, .. } | Operation::Delete { key, .. } => {
                reads.has_key(key).then(|| Changed::Key(key.to_vec()))
            }
            Operation::DeleteRange { from, to, .. } => reads.in_range(from, to),
        };
        Some((&reads.keyspace, changed?))
    }

    /// The place of a keyspace, made at its first use. A transaction reads few of them.
    fn at(&mut self, keyspace: &Arc<KeyspaceShared>) -> usize {
        if let Some(at) = self.keyspaces.iter().position(|reads| Arc::ptr_eq(&reads.keyspace, keyspace)) {
            return at;
        }
        self.keyspaces.push(KeyspaceReads {
            keyspace: Arc::clone(keyspace),
            keys: BTreeSet::new(),
            ranges: Intervals::default(),
            walks: Vec::new(),
        });
        self.keyspaces.len() - 1
    }
}

impl KeyspaceReads {
    fn has_key(&self, key: &[u8]) -> bool {
        if self.keys.contains(key) {
            return true;
        }
        if planted(Bug::ForgetRanges) {
            return false;
        }
        self.ranges.contains(key) || self.open_walks().any(|walk| walk.has(key))
    }

    /// What was read of a range.
    fn in_range(&self, from: &[u8], to: Option<&[u8]>) -> Option<Changed> {
        let range = || Changed::Range { from: from.to_vec(), to: to.map(<[u8]>::to_vec) };
        if let Some(key) =
            self.keys.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded)).next()
            && reaches(to, key)
        {
            return Some(Changed::Key(key.to_vec()));
        }
        if planted(Bug::ForgetRanges) {
            return None;
        }
        let walked = self.ranges.overlaps(from, to) || self.open_walks().any(|walk| walk.overlaps(from, to));
        walked.then(range)
    }

    fn open_walks(&self) -> impl Iterator<Item = &Walk> {
        self.walks.iter().filter(|walk| walk.open)
    }
}

impl Walk {
    fn has(&self, key: &[u8]) -> bool {
        let in_front = *self.from <= *key && *key < *self.front;
        let behind =
            self.back.as_ref().is_some_and(|back| **back <= *key) && reaches(self.to.as_deref(), key);
        in_front || behind
    }

    fn overlaps(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        let meets = |low: &[u8], high: Option<&[u8]>| {
            reaches(high, low) && reaches(to, low) && reaches(high, from) && reaches(to, from)
        };
        meets(&self.from, Some(&self.front))
            || self.back.as_ref().is_some_and(|back| meets(back, self.to.as_deref()))
    }
}
