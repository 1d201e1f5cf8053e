//! The sorted runs of a large transaction: they are merged as they stand in the log.
//!
//! A bulk write sorts what its memory holds and appends it as fragments, again and again. So the operations of the
//! transaction, read from its first fragment on, ascend in *runs*. No file is written beside the log: the runs are read
//! from it, a fragment at a time for each run, and merged by keyspace and key. Of operations on one key the one of the later
//! run wins. That is what makes them take effect, when they are committed and when the log is replayed.
//!
//! Which operation comes next is told by its head: keyspace, key, length of the value. The value itself is read when it is its
//! turn, and let go behind it. So a run costs its fragment, however long its values are, and all of them together one value.
//!
//! The log keeps the fragments of an open transaction for replay anyway, and proves them by checksums. Each fragment that
//! is read is compared with what was counted when it was appended; the hash over all of them stands in the commit, and is
//! checked before anything is merged.

use std::path::Path;

use logwood_base::codec::Reader;
use logwood_base::{Corruption, Error, KeyspaceId, Lsn, Result};
use logwood_btree::{Change, SortedChanges};
use logwood_wal::Group;

use crate::apply::change;
use crate::entry::operation::{HEAD_BYTES_MAX, Head};
use crate::entry::{Body, DecodeError, Entry, Operation};
use crate::planted::{Bug, planted};

/// Most runs that are merged. A transaction with more is one that nobody has sorted, and is joined in memory.
pub(crate) const RUNS_MAX: usize = 256;

/// Most bytes of a run that stay in memory while others have their turn: two fragments of a bulk write.
const KEPT_BYTES_MAX: usize = 512 << 10;

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
    /// The beginning of a head that goes on in the next fragment, and where it began.
    open: Vec<u8>,
    open_at: Option<(usize, usize)>,
    /// Bytes of a value that goes on in the next fragments. They are passed over.
    value_left: usize,
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
        let mut at = self.value_left.min(piece.len());
        self.value_left -= at;
        let mut joined = std::mem::take(&mut self.open);
        let carried = joined.len();
        let bytes = if carried == 0 {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        while at < bytes.len() {
            let mut reader = Reader::new(&bytes[at..]);
            let head = match Head::decode(&mut reader) {
                Ok(Some(head)) => head,
                Err(_) if bytes.len() - at <= HEAD_BYTES_MAX => {
                    self.open_at.get_or_insert_with(|| (fragment, at - carried));
                    self.open = bytes[at..].to_vec();
                    return;
                }
                Ok(None) | Err(_) => return self.give_up(),
            };
            let begun = self.open_at.take().unwrap_or_else(|| (fragment, at - carried));
            self.note(&head, begun);
            if self.runs.len() > RUNS_MAX {
                return self.give_up();
            }
            let behind = at + reader.offset() + head.value_bytes;
            self.value_left = behind.saturating_sub(bytes.len());
            at = behind;
        }
    }

    /// Notes an operation that begins in a fragment at an offset.
    fn note(&mut self, head: &Head<'_>, (fragment, offset): (usize, usize)) {
        let before = self.last.as_ref().map(|last| (last.0, &last.1[..]));
        let ascends = before.is_some_and(|before| before < (head.keyspace, head.key));
        match self.runs.last_mut().filter(|_| ascends) {
            Some(run) => run.operations += 1,
            None => self.runs.push(SortedRun { fragment, offset, operations: 1 }),
        }
        let mut key = self.last.take().map_or_else(Vec::new, |last| last.1);
        key.clear();
        key.extend_from_slice(head.key);
        self.last = Some((head.keyspace, key));
    }

    fn give_up(&mut self) {
        (self.unfit, self.runs) = (true, Vec::new());
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
    /// The operation at hand, and where the one behind it begins: perhaps in a fragment that was not read yet.
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
            std::cmp::Ordering::Equal => (a > b) != planted(Bug::EarliestRunWins),
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

    /// The operation at hand, with its value.
    fn operation(&mut self) -> Result<Operation<'_>> {
        if self.behind > self.bytes.len() {
            self.let_passed_go();
            self.bytes.reserve_exact(self.behind - self.bytes.len());
        }
        while self.behind > self.bytes.len() {
            self.read()?;
        }
        let mut reader = Reader::new(&self.bytes[self.at..self.behind]);
        Operation::decode(&mut reader)
            .map_err(|error| DecodeError::Malformed(error).at(self.log, self.transaction))
    }

    /// Goes on to the next operation. Answers false behind the last one.
    fn advance(&mut self) -> Result<bool> {
        if self.left == 0 {
            self.bytes = Vec::new();
            return Ok(false);
        }
        self.left -= 1;
        // What was not asked for of a value is read to pass over it, and not kept.
        while self.behind > self.bytes.len() {
            self.behind -= self.bytes.len();
            self.bytes.clear();
            self.read()?;
        }
        (self.at, self.key) = (self.behind, 0..0);
        if self.bytes.capacity() > KEPT_BYTES_MAX && self.bytes.len() - self.at <= KEPT_BYTES_MAX / 2 {
            self.let_passed_go();
            self.bytes.shrink_to_fit();
        }
        loop {
            let mut reader = Reader::new(&self.bytes[self.at..]);
            match Head::decode(&mut reader) {
                Ok(Some(head)) => {
                    let from = head.key.as_ptr().addr() - self.bytes.as_ptr().addr();
                    self.keyspace = head.keyspace;
                    self.key = from..from + head.key.len();
                    self.behind = self.at + reader.offset() + head.value_bytes;
                    return Ok(true);
                }
                Err(_) if self.bytes.len() - self.at <= HEAD_BYTES_MAX => {}
                Ok(None) => return Err(self.damage("a range delete")),
                Err(_) => return Err(self.damage("something else")),
            }
            self.let_passed_go();
            self.read()?;
        }
    }

    /// Lets go of what stands in front of the operation at hand.
    fn let_passed_go(&mut self) {
        let passed = std::mem::take(&mut self.at);
        self.bytes.drain(..passed);
        self.behind -= passed;
        self.key = self.key.start.saturating_sub(passed)..self.key.end.saturating_sub(passed);
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

#[cfg(test)]
impl Merge<'_> {
    /// Bytes of the runs that are in memory.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes.capacity()).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut Vec<u8>, key: u8, value_bytes: usize) {
        let (key, value) = ([key; 300], vec![key; value_bytes]);
        Operation::Put { keyspace: KeyspaceId(1), key: &key, value: &value }.encode(bytes);
    }

    #[test]
    fn runs_are_found_without_keeping_a_value_wherever_the_pieces_are_cut() {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for (key, value_bytes) in [(3, 70_000), (5, 0), (5, 1), (1, 200_000), (9, 40), (8, 90_000)] {
            starts.push(bytes.len());
            put(&mut bytes, key, value_bytes);
        }
        Operation::Delete { keyspace: KeyspaceId(2), key: b"of a later keyspace" }.encode(&mut bytes);
        for piece_bytes in [1, 2, 299, 310, 4000, 65_536, bytes.len()] {
            let mut finder = RunFinder::default();
            for piece in bytes.chunks(piece_bytes) {
                finder.add(piece);
                assert!(finder.open.len() < 320, "{}", finder.open.len());
            }
            let expected = [(starts[0], 2), (starts[2], 1), (starts[3], 2), (starts[5], 2)];
            let expected = expected.map(|(at, operations)| SortedRun {
                fragment: at / piece_bytes,
                offset: at % piece_bytes,
                operations,
            });
            assert!(finder.is_fit());
            assert_eq!(finder.runs, expected, "pieces of {piece_bytes}");
        }
    }

    #[test]
    fn what_is_no_operation_is_given_up_at_once() {
        for first in [0, 5, 255] {
            let mut finder = RunFinder::default();
            for _ in 0..3 {
                finder.add(&[first; HEAD_BYTES_MAX]);
            }
            assert!(!finder.is_fit() && finder.open.is_empty());
        }
    }
}
