//! The sorted runs of a large transaction: they are merged as they stand in the log.
//!
//! A bulk write sorts what its memory holds and appends it as fragments, again and again. So the operations of the
//! transaction, read from its first fragment on, ascend in *runs*. No file is written beside the log: the runs are read
//! from it, a fragment at a time for each run, and merged by keyspace and key. Of operations on one key the one of the later
//! run wins. That is what makes them take effect, when they are committed and when the log is replayed.
//!
//! The log keeps the fragments of an open transaction for replay anyway, and proves them by checksums. Each fragment that
//! is read is compared with what was counted when it was appended; the hash over all of them stands in the commit, and is
//! checked before anything is merged.

use std::path::Path;

use logwood_base::codec::Reader;
use logwood_base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use logwood_base::{Corruption, Error, KeyspaceId, Lsn, Result};
use logwood_btree::{Change, SortedChanges};
use logwood_wal::Group;

use crate::apply::change;
use crate::entry::operation::OPERATION_OVERHEAD_MAX;
use crate::entry::{Body, DecodeError, Entry, Operation};

/// Most runs that are merged. A transaction with more is one that nobody has sorted, and is joined in memory.
pub(crate) const RUNS_MAX: usize = 256;

/// Longest operation.
const OPERATION_BYTES_MAX: usize = OPERATION_OVERHEAD_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// A run: in which fragment it begins, at which byte of its piece, and how many operations it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SortedRun {
    fragment: usize,
    offset: usize,
    operations: u64,
}

/// Notes where runs begin, as fragments come in.
#[derive(Debug, Default)]
pub(crate) struct RunFinder {
    pub(crate) runs: Vec<SortedRun>,
    /// Fragments seen.
    fragments: usize,
    /// The beginning of an operation that goes on in the next fragment, and where it began.
    open: Vec<u8>,
    open_at: Option<(usize, usize)>,
    last: Option<(KeyspaceId, Vec<u8>)>,
    /// Whether there is a range delete, or more runs than are merged, or something that does not decode.
    unfit: bool,
}

impl RunFinder {
    /// Whether what was seen can be merged run by run.
    pub(crate) const fn is_fit(&self) -> bool {
        !self.unfit
    }

    /// Takes in the next piece. What does not decode is left to whoever reads it for good.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        let fragment = self.fragments;
        self.fragments += 1;
        if self.unfit {
            return;
        }
        let mut joined = std::mem::take(&mut self.open);
        let carried = joined.len();
        let bytes = if carried == 0 {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        let mut reader = Reader::new(bytes);
        let mut at = 0;
        while let Ok(operation) = Operation::decode(&mut reader) {
            let (fragment, offset) = match self.open_at.take() {
                Some(begun) => begun,
                None => (fragment, at - carried),
            };
            match point(&operation) {
                Some((keyspace, key)) => {
                    let ascends =
                        self.last.as_ref().is_some_and(|last| (last.0, &last.1[..]) < (keyspace, key));
                    match self.runs.last_mut().filter(|_| ascends) {
                        Some(run) => run.operations += 1,
                        None => self.runs.push(SortedRun { fragment, offset, operations: 1 }),
                    }
                    let mut last = self.last.take().map_or_else(Vec::new, |last| last.1);
                    last.clear();
                    last.extend_from_slice(key);
                    self.last = Some((keyspace, last));
                }
                None => self.unfit = true,
            }
            if self.unfit || self.runs.len() > RUNS_MAX {
                (self.unfit, self.open, self.runs) = (true, Vec::new(), Vec::new());
                return;
            }
            at = bytes.len() - reader.remaining();
            if at == bytes.len() {
                return;
            }
        }
        if self.open_at.is_none() {
            self.open_at = Some((fragment, at - carried));
        }
        self.unfit = bytes.len() - at > OPERATION_BYTES_MAX;
        self.open = if self.unfit { Vec::new() } else { bytes[at..].to_vec() };
    }
}

/// Keyspace and key of a put or a delete.
fn point<'a>(operation: &Operation<'a>) -> Option<(KeyspaceId, &'a [u8])> {
    match operation {
        Operation::Put { keyspace, key, .. } | Operation::Delete { keyspace, key } => Some((*keyspace, key)),
        Operation::DeleteRange { .. } => None,
    }
}

/// The merged operations of a transaction.
pub(crate) struct Merge<'a> {
    runs: Vec<Run<'a>>,
    /// Runs that have an operation, as a heap: the one whose operation comes next stands first.
    heap: Vec<usize>,
    /// Whether the operation of the first run was lent.
    lent: bool,
    key: Vec<u8>,
}

/// One run that is being read.
struct Run<'a> {
    group: &'a Group,
    log: &'a Path,
    transaction: Lsn,
    fragments: &'a [Lsn],
    /// The fragment that is read next.
    next: usize,
    /// Operations behind the one at hand.
    left: u64,
    bytes: Vec<u8>,
    /// The operation at hand, and where the one behind it begins.
    at: usize,
    behind: usize,
    keyspace: KeyspaceId,
    key: std::ops::Range<usize>,
}

impl<'a> Merge<'a> {
    /// Begins to read the runs of a transaction whose fragments stand at `fragments`.
    pub(crate) fn new(
        group: &'a Group,
        log: &'a Path,
        transaction: Lsn,
        fragments: &'a [Lsn],
        runs: &[SortedRun],
    ) -> Result<Self> {
        let mut merge = Self { runs: Vec::new(), heap: Vec::new(), lent: false, key: Vec::new() };
        for (number, run) in runs.iter().enumerate() {
            let SortedRun { fragment, offset, operations } = *run;
            let mut run = Run {
                group,
                log,
                transaction,
                fragments,
                next: fragment,
                left: operations,
                bytes: Vec::new(),
                at: 0,
                behind: 0,
                keyspace: KeyspaceId(0),
                key: 0..0,
            };
            run.read()?;
            run.behind = offset;
            let more = run.advance()?;
            merge.runs.push(run);
            if more {
                merge.heap.push(number);
            }
        }
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sink(at);
        }
        Ok(merge)
    }

    /// Whether the operation of run `a` comes before that of `b`: of one key, that of the later run.
    fn is_before(&self, a: usize, b: usize) -> bool {
        let (left, right) = (&self.runs[a], &self.runs[b]);
        match (left.keyspace, left.key()).cmp(&(right.keyspace, right.key())) {
            std::cmp::Ordering::Equal => a > b,
            order => order.is_lt(),
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.is_before(self.heap[child], self.heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    /// Moves the first run on.
    fn advance_first(&mut self) -> Result<()> {
        let Some(first) = self.heap.first().copied() else { return Ok(()) };
        if !self.runs[first].advance()? {
            self.heap.swap_remove(0);
        }
        self.sink(0);
        Ok(())
    }
}

impl SortedChanges for Merge<'_> {
    fn next(&mut self) -> Result<Option<Change<'_>>> {
        if std::mem::take(&mut self.lent)
            && let Some(first) = self.heap.first().copied()
        {
            let keyspace = self.runs[first].keyspace;
            let mut key = std::mem::take(&mut self.key);
            key.clear();
            key.extend_from_slice(self.runs[first].key());
            // What earlier runs say of the key is passed over.
            while let Some(first) = self.heap.first()
                && (self.runs[*first].keyspace, self.runs[*first].key()) == (keyspace, &key[..])
            {
                self.advance_first()?;
            }
            self.key = key;
        }
        let Some(first) = self.heap.first() else { return Ok(None) };
        self.lent = true;
        self.runs[*first].operation().map(|operation| Some(change(operation)))
    }
}

impl Run<'_> {
    fn key(&self) -> &[u8] {
        &self.bytes[self.key.clone()]
    }

    /// The operation at hand.
    fn operation(&self) -> Result<Operation<'_>> {
        let mut reader = Reader::new(&self.bytes[self.at..self.behind]);
        Operation::decode(&mut reader)
            .map_err(|error| DecodeError::Malformed(error).at(self.log, self.transaction))
    }

    /// Goes on to the next operation. Answers false behind the last one.
    fn advance(&mut self) -> Result<bool> {
        self.at = self.behind;
        if self.left == 0 {
            self.bytes = Vec::new();
            return Ok(false);
        }
        self.left -= 1;
        loop {
            let mut reader = Reader::new(&self.bytes[self.at..]);
            if let Ok(operation) = Operation::decode(&mut reader) {
                self.behind = self.bytes.len() - reader.remaining();
                let (keyspace, key) = point(&operation).ok_or_else(|| self.damage("a range delete"))?;
                let from = key.as_ptr().addr() - self.bytes.as_ptr().addr();
                self.keyspace = keyspace;
                self.key = from..from + key.len();
                return Ok(true);
            }
            self.bytes.drain(..self.at);
            (self.at, self.behind) = (0, 0);
            self.read()?;
        }
    }

    /// Puts the next fragment behind what is left.
    fn read(&mut self) -> Result<()> {
        let lsn = *self.fragments.get(self.next).ok_or_else(|| {
            let expected = format!("fragment {} of transaction {}", self.next, self.transaction);
            Error::from(Corruption::new(self.log, 0, "fragments of a transaction", expected, "none"))
        })?;
        read_fragment(self.group, self.log, (self.transaction, self.next), lsn, &mut self.bytes)?;
        self.next += 1;
        Ok(())
    }

    fn damage(&self, found: &str) -> Error {
        let expected = format!("a put or a delete of transaction {}", self.transaction);
        Corruption::new(self.log, 0, "sorted runs of a transaction", expected, found).into()
    }
}

/// Puts the piece of a fragment behind `bytes`: it must be the one numbered so of the transaction.
fn read_fragment(
    group: &Group,
    log: &Path,
    (transaction, number): (Lsn, usize),
    lsn: Lsn,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let damage = |found: &str| {
        let expected = format!("fragment {number} of transaction {transaction}");
        Error::from(Corruption::new(log, 0, "fragments of a transaction", expected, found))
    };
    let entries = group.read(lsn, lsn.next(), 1)?;
    let entry = entries.first().ok_or_else(|| damage("no entry"))?;
    match Entry::decode(&entry.payload).map_err(|error| error.at(log, lsn))?.body {
        Body::Fragment { transaction: of, sequence, piece }
            if (of, sequence as usize) == (transaction, number) =>
        {
            bytes.extend_from_slice(piece);
            Ok(())
        }
        other => Err(damage(other.name())),
    }
}

/// All pieces of a transaction, joined.
pub(crate) fn join(group: &Group, log: &Path, transaction: Lsn, fragments: &[Lsn]) -> Result<Vec<u8>> {
    let mut joined = Vec::new();
    for (number, lsn) in fragments.iter().enumerate() {
        read_fragment(group, log, (transaction, number), *lsn, &mut joined)?;
    }
    Ok(joined)
}
