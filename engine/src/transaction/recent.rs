//! The keys that recent commits have changed: what transactions are validated against.
//!
//! Every commit leaves its keys here, in the order of the log, under the sequencer's lock. A transaction that has read
//! at LSN s is valid when no commit behind s has changed what it read: it looks through the commits behind s, so its
//! cost is what others have committed meanwhile, and not how much it read.
//!
//! ```text
//! forgotten │ full chunk │ full chunk │ full chunk │ open chunk
//!         floor                             s              applied
//! ```
//!
//! 1. Full chunks never change. They are looked through without the sequencer's lock; only what was committed
//!    since then is looked through under it. So long transactions do not hold up others when they commit.
//! 2. Kept is what is behind the oldest live transaction's snapshot, or behind what is visible when there is none: a
//!    transaction that begins now reads at the visible LSN, and commits behind that may be applied already.
//! 3. More than `transaction_history_bytes_max` is not kept. Then the floor rises, and a transaction that read below
//!    it can no longer be validated: `TooOld`.
//!
//! A commit is a list of [`Operation`]s as they stand in entries, puts as deletes: only keys matter.

use std::collections::VecDeque;

use logwood_base::sync::Arc;
use logwood_base::{Conflict, Error, KeyspaceId, Lsn, Result};
use logwood_btree::{Change, ChangeKind};

use super::reads::ReadSet;
use crate::entry::operation::OPERATION_OVERHEAD_MAX;
use crate::entry::{Operation, Operations};
use crate::planted::{Bug, planted};

/// A chunk is full at this many bytes.
const CHUNK_BYTES: usize = 32 << 10;

/// The keys of recent commits.
#[derive(Debug)]
pub(crate) struct Recent {
    full: VecDeque<Arc<Chunk>>,
    open: Chunk,
    /// Commits up to here are forgotten.
    floor: Lsn,
    bytes: usize,
    bytes_max: usize,
}

/// Some commits, in order.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    /// LSN, and where its operations end.
    commits: Vec<(Lsn, usize)>,
}

impl Chunk {
    /// Its newest commit.
    pub(crate) fn last(&self) -> Lsn {
        self.commits.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    /// The commits behind an LSN.
    fn behind(&self, lsn: Lsn) -> impl Iterator<Item = (Lsn, Operations<'_>)> {
        let first = self.commits.partition_point(|(commit, _)| *commit <= lsn);
        let mut start = first.checked_sub(1).map_or(0, |before| self.commits[before].1);
        self.commits[first..].iter().map(move |(lsn, end)| {
            let operations = Operations::new(&self.bytes[start..*end]);
            start = *end;
            (*lsn, operations)
        })
    }

    /// Refuses what was read if a commit of this chunk behind `seen` has changed it.
    pub(crate) fn validate(&self, reads: &ReadSet, seen: Lsn) -> Result<()> {
        for (lsn, operations) in self.behind(seen) {
            for operation in operations {
                let operation =
                    operation.map_err(|error| Error::Internal(format!("recent keys: {error}")))?;
                if let Some((keyspace, changed)) = reads.changed_by(&operation) {
                    return Err(Conflict { keyspace: keyspace.name.clone(), changed, lsn }.into());
                }
            }
        }
        Ok(())
    }
}

impl Recent {
    /// Nothing yet; commits up to `floor` are not known.
    pub(crate) fn new(floor: Lsn, bytes_max: usize) -> Self {
        Self { full: VecDeque::new(), open: Chunk::default(), floor, bytes: 0, bytes_max }
    }

    /// Takes in a commit. `oldest` says behind which LSN commits are still of use; it is asked now and then.
    pub(crate) fn push(&mut self, lsn: Lsn, changes: &[Change<'_>], oldest: impl FnOnce() -> Lsn) {
        if changes.is_empty() {
            return;
        }
        let most: usize = changes.iter().map(|change| OPERATION_OVERHEAD_MAX + key_bytes(change)).sum();
        if most > self.bytes_max {
            self.forget(lsn);
            return;
        }
        if !self.open.bytes.is_empty() && self.open.bytes.len() + most > CHUNK_BYTES {
            self.roll(oldest());
        }
        for change in changes {
            if planted(Bug::ForgetRangeDeletes) && matches!(change.kind, ChangeKind::DeleteRange { .. }) {
                continue;
            }
            keys_alone(change).encode(&mut self.open.bytes);
        }
        self.open.commits.push((lsn, self.open.bytes.len()));
    }

    /// Forgets everything up to a commit whose keys are too many.
    pub(crate) fn forget(&mut self, lsn: Lsn) {
        self.full.clear();
        self.open = Chunk::default();
        (self.floor, self.bytes) = (lsn, 0);
    }

    /// Begins a new chunk, and lets go of those that are of no use or too many.
    fn roll(&mut self, oldest: Lsn) {
        let open = Chunk { bytes: Vec::with_capacity(CHUNK_BYTES), commits: Vec::new() };
        let full = std::mem::replace(&mut self.open, open);
        self.bytes += full.bytes.len();
        self.full.push_back(Arc::new(full));
        while let Some(first) = self.full.front()
            && (first.last() <= oldest || self.bytes > self.bytes_max)
        {
            self.floor = first.last();
            self.bytes -= first.bytes.len();
            self.full.pop_front();
        }
    }

    /// The full chunks that hold commits behind an LSN.
    pub(crate) fn full_behind(&self, lsn: Lsn) -> Vec<Arc<Chunk>> {
        self.full.iter().rev().take_while(|chunk| chunk.last() > lsn).map(Arc::clone).collect()
    }

    /// How many of them there are, when more than `more`.
    pub(crate) fn is_far_behind(&self, lsn: Lsn, more: usize) -> bool {
        self.full.iter().rev().take_while(|chunk| chunk.last() > lsn).nth(more).is_some()
    }

    /// Refuses what was read if a commit behind `seen` has changed it.
    pub(crate) fn validate(&self, reads: &ReadSet, seen: Lsn) -> Result<()> {
        self.check_age(seen)?;
        let full = self.full.iter().rev().take_while(|chunk| chunk.last() > seen).count();
        for chunk in self.full.range(self.full.len() - full..) {
            chunk.validate(reads, seen)?;
        }
        self.open.validate(reads, seen)
    }

    /// Refuses an LSN behind which commits were forgotten.
    pub(crate) fn check_age(&self, read: Lsn) -> Result<()> {
        if read < self.floor {
            return Err(Error::TooOld { what: "transaction", asked: read, oldest: self.floor });
        }
        Ok(())
    }

    /// The newest commit behind `from` that has changed a key; `from` itself when none has; `None` when that is not
    /// known any more.
    pub(crate) fn newest_change(&self, keyspace: KeyspaceId, key: &[u8], from: Lsn) -> Option<Lsn> {
        if from < self.floor {
            return None;
        }
        let chunks = self.full.iter().rev().take_while(|chunk| chunk.last() > from).map(|chunk| &**chunk);
        let mut newest = from;
        for (lsn, operations) in chunks.chain([&self.open]).flat_map(|chunk| chunk.behind(from)) {
            if operations.iter().flatten().any(|operation| changes_key(&operation, keyspace, key)) {
                newest = newest.max(lsn);
            }
        }
        Some(newest)
    }

    /// Bytes of keys that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.open.bytes.len()
    }
}

fn changes_key(operation: &Operation<'_>, keyspace: KeyspaceId, sought: &[u8]) -> bool {
    operation.keyspace() == keyspace
        && match *operation {
            Operation::Put { key, .. } | Operation::Delete { key, .. } => key == sought,
            Operation::DeleteRange { from, to, .. } => from <= sought && to.is_none_or(|to| sought < to),
        }
}

fn key_bytes(change: &Change<'_>) -> usize {
    match change.kind {
        ChangeKind::Put { key, .. } | ChangeKind::Delete { key } => key.len(),
        ChangeKind::DeleteRange { from, to } => from.len() + to.map_or(0, <[u8]>::len),
    }
}

fn keys_alone<'a>(change: &Change<'a>) -> Operation<'a> {
    let keyspace = change.keyspace;
    match change.kind {
        ChangeKind::Put { key, .. } | ChangeKind::Delete { key } => Operation::Delete { keyspace, key },
        ChangeKind::DeleteRange { from, to } => Operation::DeleteRange { keyspace, from, to },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KS: KeyspaceId = KeyspaceId(1);

    fn put(key: &[u8]) -> Change<'_> {
        Change { keyspace: KS, kind: ChangeKind::Put { key, value: b"" } }
    }

    #[test]
    fn what_nobody_needs_is_forgotten_and_what_somebody_needs_is_kept() {
        let mut recent = Recent::new(Lsn(10), 1 << 20);
        let key = vec![7; 1000];
        for lsn in 11..200 {
            recent.push(Lsn(lsn), &[put(&key)], || Lsn(50));
        }
        assert!(recent.check_age(Lsn(50)).is_ok() && recent.floor <= Lsn(50) && recent.floor > Lsn(10));
        assert!(matches!(recent.check_age(Lsn(11)), Err(Error::TooOld { .. })));
        assert_eq!(recent.newest_change(KS, &key, Lsn(60)), Some(Lsn(199)));
        assert_eq!(recent.newest_change(KS, b"other", Lsn(60)), Some(Lsn(60)));
        assert_eq!(recent.newest_change(KS, b"other", Lsn(11)), None);
    }

    #[test]
    fn more_than_the_bound_is_not_kept_whoever_needs_it() {
        let mut recent = Recent::new(Lsn(0), 100 << 10);
        let key = vec![7; 1000];
        for lsn in 1..=1000 {
            recent.push(Lsn(lsn), &[put(&key)], || Lsn(0));
            assert!(recent.bytes() <= (100 << 10) + CHUNK_BYTES);
        }
        assert!(recent.check_age(Lsn(1)).is_err() && recent.check_age(Lsn(990)).is_ok());
        let many: Vec<_> = (0..200).map(|_| put(&key)).collect();
        recent.push(Lsn(1001), &many, || Lsn(0));
        assert_eq!((recent.bytes(), recent.floor), (0, Lsn(1001)));
    }

    #[test]
    fn the_newest_of_several_changes_is_named_whatever_chunk_it_is_in() {
        let mut recent = Recent::new(Lsn(0), 1 << 20);
        let filler = vec![1; 3000];
        for lsn in 1..=40 {
            let key: &[u8] = if lsn % 10 == 5 { b"k" } else { &filler };
            recent.push(Lsn(lsn), &[put(key)], || Lsn(0));
        }
        assert!(recent.full.len() > 2);
        assert_eq!(recent.newest_change(KS, b"k", Lsn(0)), Some(Lsn(35)));
        assert_eq!(recent.newest_change(KS, b"k", Lsn(35)), Some(Lsn(35)));
        let range = ChangeKind::DeleteRange { from: b"a", to: None };
        recent.push(Lsn(41), &[Change { keyspace: KS, kind: range }], || Lsn(0));
        assert_eq!(recent.newest_change(KS, b"k", Lsn(35)), Some(Lsn(41)));
        assert_eq!(recent.full_behind(Lsn(41)).len(), 0);
        // What changes nothing leaves nothing.
        recent.push(Lsn(42), &[], || Lsn(0));
        assert_eq!((recent.open.last(), recent.newest_change(KS, b"k", Lsn(41))), (Lsn(41), Some(Lsn(41))));
    }
}
