//! Ranges, in both directions.
//!
//! A cursor copies some records at a time into a buffer of its own and lends them out one by one. Between two
//! fillings it stands on no node: it blocks nobody, may be kept as long as its snapshot, and may move to another
//! thread. The first filling is short, for short ranges; later ones grow. A long value is read whole, and ends a filling:
//! the buffer holds one at a time.

use std::ops::Bound;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::{Error, Result};

use crate::descent::TreeCore;
use crate::node::overflow::RecordValue;
use crate::node::view::{View, ViewRecord};
use crate::overflow::of_value;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::version::{Seek, Version, version_at};

/// Records of the first filling, and of the largest one.
const FILL_RECORDS: (usize, usize) = (12, 256);
/// Room made for the first filling at once.
const FIRST_FILL_BYTES: usize = 3 << 10;
/// A filling stops at this many bytes.
const FILL_BYTES: usize = 64 << 10;

/// A range of keys: from one on, up to and without another.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(crate) low: Vec<u8>,
    /// `None`: to the end.
    pub(crate) high: Option<Vec<u8>>,
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl KeyRange {
    pub(crate) fn new((low, high): (Bound<&[u8]>, Bound<&[u8]>)) -> Self {
        let low = match low {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let high = match high {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        Self { low, high }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.high.as_ref().is_some_and(|high| *high <= self.low)
    }

    fn close(&mut self) {
        self.high = Some(self.low.clone());
    }
}

/// Copied records.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Start, length of key and length of value of each record.
    records: Vec<(usize, u32, u32)>,
    /// The records `next..` were not lent yet.
    next: usize,
    /// Records of the last filling.
    fill: usize,
}

impl Buffer {
    fn restart(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.next = 0;
        if self.fill == 0 {
            self.fill = FILL_RECORDS.0;
            self.records.reserve(FILL_RECORDS.0);
            self.bytes.reserve(FIRST_FILL_BYTES);
        } else {
            self.fill = (self.fill * 4).min(FILL_RECORDS.1);
        }
    }

    /// Copies a record. A long value is read whole.
    fn push(&mut self, record: &ViewRecord<'_>, core: &TreeCore, shared: &Shared) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.prefix);
        self.bytes.extend_from_slice(record.suffix);
        match record.value {
            RecordValue::Inline(value) => self.bytes.extend_from_slice(value),
            RecordValue::Overflow(value) => {
                let read = shared.read_overflow(value, &mut self.bytes);
                read.map_err(|error| of_value(error, core.id, &record.key()))?;
            }
        }
        self.records.push((start, record.key_bytes() as u32, record.value.len() as u32));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.fill || self.bytes.len() >= FILL_BYTES
    }

    fn has_more(&self) -> bool {
        self.next < self.records.len()
    }

    fn record(&self, at: usize) -> (&[u8], &[u8]) {
        let (start, key, value) = self.records[at];
        let (key, value) = (key as usize, value as usize);
        (&self.bytes[start..start + key], &self.bytes[start + key..start + key + value])
    }

    /// The key of the record that was copied last.
    fn last_key(&self) -> Option<&[u8]> {
        let at = self.records.len().checked_sub(1)?;
        Some(self.record(at).0)
    }
}

/// Walks the records of a range at a snapshot, from either end. See [`Tree::cursor`](crate::Tree::cursor).
///
/// It lends keys and values: `while let Some((key, value)) = cursor.next()? { … }`.
#[derive(Debug)]
pub struct Cursor {
    core: Arc<TreeCore>,
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// What neither end has copied yet.
    range: KeyRange,
    /// Ascending, below `range`.
    front: Buffer,
    /// Descending, above `range`.
    back: Buffer,
    failed: Option<Error>,
}

impl Cursor {
    pub(crate) fn new(core: Arc<TreeCore>, shared: Arc<Shared>, range: KeyRange, snapshot: Snapshot) -> Self {
        let (front, back) = Default::default();
        Self { core, shared, snapshot, range, front, back, failed: None }
    }

    /// The next record in ascending order, or `None` when both ends have met.
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
    /// let mut cursor = tree.cursor(all, &forest.snapshot());
    /// let mut keys = Vec::new();
    /// while let Some((key, _)) = cursor.next()? {
    ///     keys.push(key.to_vec()); // it lends them
    /// }
    /// assert_eq!(keys, [&b"ada"[..], b"alan", b"grace"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption` naming the key range that cannot be trusted; `Io`. The cursor stays failed.
    #[allow(clippy::should_implement_trait)] // It lends.
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if !self.front.has_more() {
            self.fill(Self::fill_front)?;
        }
        if self.front.has_more() {
            self.front.next += 1;
            return Ok(Some(self.front.record(self.front.next - 1)));
        }
        // What the other end copied and did not lend is all that is left.
        if !self.back.has_more() {
            return Ok(None);
        }
        let last = self.back.records.len() - 1;
        let taken = self.back.records[last];
        self.back.records.truncate(last);
        let (start, key, value) = (taken.0, taken.1 as usize, taken.2 as usize);
        let bytes = &self.back.bytes[start..start + key + value];
        Ok(Some(bytes.split_at(key)))
    }

    /// The next record in descending order, or `None` when both ends have met.
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
    /// let mut cursor = tree.cursor(all, &forest.snapshot());
    /// assert_eq!(cursor.next_back()?.map(|(key, _)| key), Some(&b"grace"[..]));
    /// assert_eq!(cursor.next()?.map(|(key, _)| key), Some(&b"ada"[..]));
    /// assert_eq!(cursor.next_back()?.map(|(key, _)| key), Some(&b"alan"[..]));
    /// assert_eq!(cursor.next()?, None, "both ends have met");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn next_back(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if !self.back.has_more() {
            self.fill(Self::fill_back)?;
        }
        if self.back.has_more() {
            self.back.next += 1;
            return Ok(Some(self.back.record(self.back.next - 1)));
        }
        if !self.front.has_more() {
            return Ok(None);
        }
        let last = self.front.records.len() - 1;
        let taken = self.front.records[last];
        self.front.records.truncate(last);
        let (start, key, value) = (taken.0, taken.1 as usize, taken.2 as usize);
        let bytes = &self.front.bytes[start..start + key + value];
        Ok(Some(bytes.split_at(key)))
    }

    /// Fills a buffer. What was copied before a failure is lent first; then the cursor has failed for good.
    fn fill(&mut self, fill: fn(&mut Self, &Guard) -> Result<()>) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.range.is_empty() {
            return Ok(());
        }
        let guard = crossbeam_epoch::pin();
        let lent = (self.front.has_more(), self.back.has_more());
        if let Err(error) = fill(self, &guard) {
            self.failed = Some(error.clone());
            if lent == (self.front.has_more(), self.back.has_more()) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn fill_front(&mut self, guard: &Guard) -> Result<()> {
        self.front.restart();
        let lsn = self.snapshot.lsn();
        while !self.range.is_empty() {
            let seek = Seek::From(&self.range.low);
            let way = self.core.way_at(&self.shared, seek, lsn, guard)?;
            if let Some(leaf) = way.node.leaf() {
                leaf.touch();
            }
            let version = version_at(&self.shared, &way.node, lsn, seek, guard)?.ok_or_else(lost)?;
            let view = View::new(&version.leaf, lsn);
            // An older version may reach beyond the leaf that serves now: only then do the fences matter.
            let serves = way.node.leaf().is_some_and(|leaf| version.leaf.is(leaf));
            let fence = if serves { None } else { least(way.high(), version.high) };
            let end = match (&self.range.high, &fence) {
                (Some(a), Some(b)) => view.place_of(a.min(b)),
                (Some(end), None) | (None, Some(end)) => view.place_of(end),
                (None, None) => view.end(),
            };
            let mut place = view.place_of(&self.range.low);
            while let Some(record) = view.next(&mut place, end) {
                self.front.push(&record, &self.core, &self.shared)?;
                if self.front.is_full() {
                    break;
                }
            }
            if self.front.is_full() {
                self.range.low = self.front.last_key().map(behind).unwrap_or_default();
                return Ok(());
            }
            match fence.or_else(|| way.high()) {
                Some(high) => self.range.low = high,
                None => self.range.close(),
            }
        }
        Ok(())
    }

    fn fill_back(&mut self, guard: &Guard) -> Result<()> {
        self.back.restart();
        let lsn = self.snapshot.lsn();
        while !self.range.is_empty() {
            let seek = Seek::Below(self.range.high.as_deref());
            let way = self.core.way_at(&self.shared, seek, lsn, guard)?;
            if let Some(leaf) = way.node.leaf() {
                leaf.touch();
            }
            let version = version_at(&self.shared, &way.node, lsn, seek, guard)?.ok_or_else(lost)?;
            let Version { leaf, low, .. } = version;
            let low = greatest(way.low(), low);
            let view = View::new(&leaf, lsn);
            let start = match &low {
                Some(low) => view.place_of(low.max(&self.range.low)),
                None => view.place_of(&self.range.low),
            };
            let mut place = self.range.high.as_deref().map_or_else(|| view.end(), |high| view.place_of(high));
            while let Some(record) = view.next_back(start, &mut place) {
                self.back.push(&record, &self.core, &self.shared)?;
                if self.back.is_full() {
                    break;
                }
            }
            if self.back.is_full() {
                self.range.high = self.back.last_key().map(<[u8]>::to_vec);
                return Ok(());
            }
            match low {
                Some(low) if low > self.range.low => self.range.high = Some(low),
                _ => self.range.close(),
            }
        }
        Ok(())
    }
}

/// A registered snapshot always finds its version, and a way always ends in a leaf.
fn lost() -> Error {
    Error::Internal("a cursor did not find the version that its snapshot holds".into())
}

fn least(a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn greatest(a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

impl std::fmt::Debug for TreeCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TreeCore").field(&self.id).finish()
    }
}
