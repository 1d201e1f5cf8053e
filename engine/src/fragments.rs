//! Transactions that are larger than one entry: cut into fragments when written, joined again when applied.
//!
//! A batch appends all its fragments and their commit under one hold of the sequencer's lock; a bulk write lets others between.
//! When the disk is full
//! half way, the fragments so far are an orphan: it is aborted by the next writer that finds room, or at the next
//! open, and until then `replay_from` stays at its first fragment (rule 4 of `docs/format/entry.md`).
//!
//! Pieces are joined in memory while they are few. Beyond that, those of a transaction that was sorted ([`crate::bulk`]) are
//! let go, and read from the log again when it commits ([`crate::runs`]); those of any other one stay.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use logwood_base::digest::RecordHasher;
use logwood_base::{Corruption, Error, Lsn, Result, limits};

use crate::entry::{Body, Entry, HEADER_BYTES, fragments_hash, fragments_hasher};
use crate::runs::{RunFinder, SortedRun};

/// Bytes of a fragment's payload in front of its piece, at most: the header, two varints.
pub(crate) const FRAGMENT_OVERHEAD: usize = HEADER_BYTES + 10 + 10;

/// Most bytes of pieces that are joined in memory although the log has them.
const JOINED_BYTES_MAX: usize = 16 << 20;

/// The pieces of transactions that are neither committed nor aborted yet.
#[derive(Debug)]
pub(crate) struct Fragments {
    open: BTreeMap<Lsn, Transaction>,
    /// The last entries of transactions that were committed, with their first ones: until the log has let go of both.
    finished: BTreeMap<Lsn, Lsn>,
    /// From here on all that were committed are among them.
    finished_from: Lsn,
    bytes: usize,
    bytes_max: usize,
    /// Joined bytes beyond which sorted transactions are read from the log.
    joined_bytes_max: usize,
    /// Named in errors.
    log: PathBuf,
}

struct Transaction {
    /// Where its fragments stand.
    fragments: Vec<Lsn>,
    bytes: u64,
    hasher: RecordHasher,
    /// Its pieces, unless they are to be read from the log.
    joined: Option<Vec<u8>>,
    runs: RunFinder,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Transaction {
    fn new() -> Self {
        Self {
            fragments: Vec::new(),
            bytes: 0,
            hasher: fragments_hasher(),
            joined: Some(Vec::new()),
            runs: RunFinder::default(),
        }
    }

    fn joined_bytes(&self) -> usize {
        self.joined.as_ref().map_or(0, Vec::len)
    }
}

/// The operations of a transaction that commits.
#[derive(Debug)]
pub(crate) enum Collected {
    /// In the order in which they were given.
    Joined(Vec<u8>),
    /// In sorted runs over the fragments that stand there.
    Sorted { fragments: Vec<Lsn>, runs: Vec<SortedRun> },
    /// In no order that helps, in the fragments that stand there: it looked sorted for too long.
    Unsorted { fragments: Vec<Lsn> },
}

impl Fragments {
    /// None are known that ended before `first`.
    pub(crate) fn new(first: Lsn, bytes_max: usize, log: &Path) -> Self {
        let joined_bytes_max = JOINED_BYTES_MAX.min(bytes_max / 64);
        Self {
            open: BTreeMap::new(),
            finished: BTreeMap::new(),
            finished_from: first,
            bytes: 0,
            bytes_max,
            joined_bytes_max,
            log: log.to_owned(),
        }
    }

    /// The first fragment of the oldest transaction that is still open.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.open.keys().next().copied()
    }

    /// The transactions that are still open.
    pub(crate) fn open(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.open.keys().copied()
    }

    /// Notes that a transaction was committed at `lsn`.
    pub(crate) fn finished(&mut self, lsn: Lsn, transaction: Lsn) {
        self.finished.insert(lsn, transaction);
    }

    /// From where on the log must be kept so that everything from `needed` on is, and no transaction is kept without its first
    /// fragments: those who follow changes read them again.
    pub(crate) fn whole_from(&mut self, needed: Lsn) -> Lsn {
        let mut from = needed;
        // Those that end later may begin before those that end sooner.
        for (end, first) in self.finished.iter().rev() {
            if *end >= from {
                from = from.min(*first);
            }
        }
        self.finished.retain(|end, _| *end >= from);
        self.finished_from = self.finished_from.max(from);
        from
    }

    /// The place from which on it is known of every transaction that was committed where it began.
    pub(crate) const fn finished_from(&self) -> Lsn {
        self.finished_from
    }

    /// The ends from `from` on of transactions that began before it, as far as they are known, with their first fragments.
    pub(crate) fn ended_from(&self, from: Lsn) -> impl Iterator<Item = (Lsn, Lsn)> + '_ {
        let ended = self.finished.range(from..).filter(move |(_, first)| **first < from);
        ended.map(|(end, first)| (*end, *first))
    }

    /// The place behind the last end of a transaction that began before `first`, as far as is known; `Lsn::ZERO` when there
    /// is none.
    pub(crate) fn end_of_those_before(&self, first: Lsn) -> Lsn {
        let last = self.finished.iter().rev().find(|(_, began)| **began < first);
        last.map_or(Lsn::ZERO, |(end, _)| end.next())
    }

    /// Takes in the fragment at `lsn`.
    pub(crate) fn add(&mut self, lsn: Lsn, transaction: Lsn, sequence: u32, piece: &[u8]) -> Result<()> {
        let found = self.open.get(&transaction).map(|transaction| transaction.fragments.len() as u32);
        let expected = if lsn == transaction { Some(0) } else { found };
        if expected != Some(sequence) || (sequence == 0 && found.is_some()) {
            return Err(self.damage(lsn, "fragment sequence", format!("{expected:?}"), sequence));
        }
        self.open.entry(transaction).or_insert_with(Transaction::new).runs.add(piece);
        if self.bytes + piece.len() > self.joined_bytes_max {
            self.let_sorted_go();
        }
        let entry = self.open.entry(transaction).or_insert_with(Transaction::new);
        if let Some(joined) = &mut entry.joined {
            if let Err(error) =
                limits::check("bytes of open transactions", self.bytes + piece.len(), self.bytes_max)
            {
                if sequence == 0 {
                    self.open.remove(&transaction);
                }
                return Err(error);
            }
            joined.extend_from_slice(piece);
            self.bytes += piece.len();
        }
        entry.fragments.push(lsn);
        entry.bytes += piece.len() as u64;
        entry.hasher.update(piece);
        Ok(())
    }

    /// Notes that a transaction is open of which the caller has all pieces. It cannot be committed from what is known here, only
    /// aborted.
    pub(crate) fn pass(&mut self, transaction: Lsn) {
        self.open.entry(transaction).or_insert_with(|| Transaction { joined: None, ..Transaction::new() });
    }

    /// Lets the joined pieces of sorted transactions go.
    fn let_sorted_go(&mut self) {
        for transaction in self.open.values_mut().filter(|transaction| transaction.runs.is_fit()) {
            self.bytes -= transaction.joined.take().map_or(0, |joined| joined.len());
        }
    }

    /// A copy of the operations of a transaction that is still open.
    pub(crate) fn collected(&self, transaction: Lsn) -> Option<Collected> {
        let found = self.open.get(&transaction)?;
        Some(match &found.joined {
            Some(joined) => Collected::Joined(joined.clone()),
            None if found.runs.is_fit() => {
                Collected::Sorted { fragments: found.fragments.clone(), runs: found.runs.runs.clone() }
            }
            None => Collected::Unsorted { fragments: found.fragments.clone() },
        })
    }

    /// The operations of a transaction that commits at `lsn`.
    pub(crate) fn commit(
        &mut self,
        lsn: Lsn,
        transaction: Lsn,
        count: u32,
        bytes: u64,
        hash: u128,
    ) -> Result<Collected> {
        self.finished(lsn, transaction);
        let found = self.remove(transaction).unwrap_or_else(Transaction::new);
        if (found.fragments.len(), found.bytes) != (count as usize, bytes) {
            let expected = format!("{count} fragments of {bytes} bytes");
            let found = format!("{} of {}", found.fragments.len(), found.bytes);
            return Err(self.damage(lsn, "fragments of a transaction", expected, found));
        }
        let found_hash = found.hasher.finish();
        if found_hash != hash {
            let (expected, found) = (format!("{hash:032x}"), format!("{found_hash:032x}"));
            return Err(self.damage(lsn, "hash of a transaction", expected, found));
        }
        Ok(match found.joined {
            Some(joined) => Collected::Joined(joined),
            None if found.runs.is_fit() => {
                Collected::Sorted { fragments: found.fragments, runs: found.runs.runs }
            }
            None => Collected::Unsorted { fragments: found.fragments },
        })
    }

    /// Lets a transaction's fragments go.
    pub(crate) fn abort(&mut self, transaction: Lsn) {
        self.remove(transaction);
    }

    fn remove(&mut self, transaction: Lsn) -> Option<Transaction> {
        let removed = self.open.remove(&transaction)?;
        self.bytes -= removed.joined_bytes();
        Some(removed)
    }

    fn damage(
        &self,
        lsn: Lsn,
        check: &'static str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        Corruption::new(&self.log, 0, check, expected, found).affecting(format_args!("lsn {lsn}")).into()
    }
}

/// Cuts the operations of a transaction, whose first fragment gets `first`, into payloads: its fragments and, as the
/// last one, their commit.
pub(crate) fn cut(
    operations: &[u8],
    first: Lsn,
    time_ms: u64,
    payload_bytes_max: usize,
) -> impl Iterator<Item = Vec<u8>> + '_ {
    let piece_bytes = payload_bytes_max - FRAGMENT_OVERHEAD;
    let entry = move |body: Body<'_>| Entry { time_ms, request: None, body }.encode();
    let fragments = operations.chunks(piece_bytes).enumerate().map(move |(sequence, piece)| {
        // A batch is bounded to 1 GiB, a piece has at least 15 KiB.
        entry(Body::Fragment { transaction: first, sequence: sequence as u32, piece })
    });
    let commit = std::iter::once_with(move || {
        entry(Body::CommitFragments {
            transaction: first,
            count: operations.chunks(piece_bytes).len() as u32,
            bytes: operations.len() as u64,
            hash: fragments_hash([operations]),
        })
    });
    fragments.chain(commit)
}

#[cfg(test)]
mod tests {
    use logwood_base::KeyspaceId;

    use super::*;
    use crate::entry::Operation;

    fn join(payloads: &[Vec<u8>], first: Lsn) -> Result<Option<Vec<u8>>> {
        let mut fragments = Fragments::new(Lsn::FIRST, 64 << 20, Path::new("log"));
        for (at, payload) in payloads.iter().enumerate() {
            let lsn = Lsn(first.get() + at as u64);
            match Entry::decode(payload).unwrap().body {
                Body::Fragment { transaction, sequence, piece } => {
                    fragments.add(lsn, transaction, sequence, piece)?;
                    assert_eq!(fragments.oldest(), Some(first));
                }
                Body::CommitFragments { transaction, count, bytes, hash } => {
                    let joined = fragments.commit(lsn, transaction, count, bytes, hash)?;
                    assert_eq!((fragments.oldest(), fragments.bytes), (None, 0));
                    let Collected::Joined(joined) = joined else { panic!("they are few") };
                    return Ok(Some(joined));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(None)
    }

    fn sample() -> (Vec<u8>, Vec<Vec<u8>>) {
        let operations: Vec<u8> = (0..70_000u32).map(|n| (n / 7) as u8).collect();
        let payloads: Vec<_> = cut(&operations, Lsn(40), 5, 16 << 10).collect();
        (operations, payloads)
    }

    #[test]
    fn what_was_cut_is_joined() {
        let (operations, payloads) = sample();
        assert!(payloads.len() > 4 && payloads.iter().all(|payload| payload.len() <= 16 << 10));
        assert_eq!(join(&payloads, Lsn(40)).unwrap(), Some(operations));
    }

    #[test]
    fn a_lost_swapped_or_changed_fragment_is_damage() {
        let (_, payloads) = sample();
        let last = payloads.len() - 1;
        let mut lost = payloads.clone();
        lost.remove(last - 1);
        let mut swapped = payloads.clone();
        swapped.swap(1, 2);
        let mut changed = payloads.clone();
        *changed[1].last_mut().unwrap() ^= 1;
        let mut repeated = payloads.clone();
        repeated[1] = payloads[0].clone();
        for damaged in [lost, swapped, changed, repeated] {
            assert!(matches!(join(&damaged, Lsn(40)), Err(Error::Corruption(_))));
        }
    }

    #[test]
    fn open_transactions_are_bounded_and_can_be_aborted() {
        // Range deletes are never sorted: they are joined in memory.
        let mut range = Vec::new();
        Operation::DeleteRange { keyspace: KeyspaceId(1), from: b"a", to: None }.encode(&mut range);
        let mut fragments = Fragments::new(Lsn::FIRST, 2 * range.len(), Path::new("log"));
        fragments.add(Lsn(3), Lsn(3), 0, &range).unwrap();
        fragments.add(Lsn(4), Lsn(4), 0, &range).unwrap();
        let refused = fragments.add(Lsn(5), Lsn(4), 1, &range);
        assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
        assert_eq!(fragments.open().collect::<Vec<_>>(), [Lsn(3), Lsn(4)]);
        fragments.abort(Lsn(3));
        assert_eq!(fragments.oldest(), Some(Lsn(4)));
        fragments.add(Lsn(6), Lsn(4), 1, &range).unwrap();
    }

    #[test]
    fn sorted_transactions_are_known_by_their_runs_wherever_they_are_cut() {
        let mut operations = Vec::new();
        let keys = [3, 5, 7, 1, 2, 9, 9, 4];
        for key in keys {
            let (key, value) = ([key; 40], [key; 100]);
            Operation::Put { keyspace: KeyspaceId(1), key: &key, value: &value }.encode(&mut operations);
        }
        for bytes in [1, 7, 143, 300, 5000] {
            let mut fragments = Fragments::new(Lsn::FIRST, 1 << 10, Path::new("log"));
            let pieces = operations.chunks(bytes);
            let count = pieces.len() as u32;
            for (at, piece) in pieces.enumerate() {
                fragments.add(Lsn(9 + at as u64), Lsn(9), at as u32, piece).unwrap();
            }
            let (hash, bytes) = (fragments_hash([&operations[..]]), operations.len() as u64);
            let collected = fragments.commit(Lsn(9000), Lsn(9), count, bytes, hash).unwrap();
            let Collected::Sorted { fragments: found, runs } = collected else { panic!("{collected:?}") };
            assert_eq!((found.len(), runs.len()), (count as usize, 4));
            // The log goes from the first fragment on, or behind the commit.
            assert_eq!(fragments.whole_from(Lsn(10)), Lsn(9));
            assert_eq!(fragments.whole_from(Lsn(9001)), Lsn(9001));
        }
    }
}
