//! Transactions that are larger than one entry: cut into fragments when written, joined again when applied.
//!
//! The writer appends all fragments and their commit under one hold of the sequencer's lock. When the disk is full
//! half way, the fragments so far are an orphan: it is aborted by the next writer that finds room, or at the next
//! open, and until then `replay_from` stays at its first fragment (rule 4 of `docs/format/entry.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use logwood_base::{Corruption, Error, Lsn, Result, limits};

use crate::entry::{Body, Entry, HEADER_BYTES, fragments_hash};

/// Bytes of a fragment's payload in front of its piece, at most: the header, two varints.
const FRAGMENT_OVERHEAD: usize = HEADER_BYTES + 10 + 10;

/// The pieces of transactions that are neither committed nor aborted yet.
#[derive(Debug)]
pub(crate) struct Fragments {
    open: BTreeMap<Lsn, Transaction>,
    bytes: usize,
    bytes_max: usize,
    /// Named in errors.
    log: PathBuf,
}

#[derive(Debug, Default)]
struct Transaction {
    fragments: u32,
    joined: Vec<u8>,
}

impl Fragments {
    pub(crate) fn new(bytes_max: usize, log: &Path) -> Self {
        Self { open: BTreeMap::new(), bytes: 0, bytes_max, log: log.to_owned() }
    }

    /// The first fragment of the oldest transaction that is still open.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.open.keys().next().copied()
    }

    /// The transactions that are still open.
    pub(crate) fn open(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.open.keys().copied()
    }

    /// Takes in the fragment at `lsn`.
    pub(crate) fn add(&mut self, lsn: Lsn, transaction: Lsn, sequence: u32, piece: &[u8]) -> Result<()> {
        limits::check("bytes of open transactions", self.bytes + piece.len(), self.bytes_max)?;
        let expected = if lsn == transaction {
            Some(0)
        } else {
            self.open.get(&transaction).map(|transaction| transaction.fragments)
        };
        if expected != Some(sequence) || (sequence == 0 && self.open.contains_key(&transaction)) {
            return Err(self.damage(lsn, "fragment sequence", format!("{expected:?}"), sequence));
        }
        let entry = self.open.entry(transaction).or_default();
        entry.fragments += 1;
        entry.joined.extend_from_slice(piece);
        self.bytes += piece.len();
        Ok(())
    }

    /// The joined operations of a transaction that commits at `lsn`.
    pub(crate) fn commit(
        &mut self,
        lsn: Lsn,
        transaction: Lsn,
        count: u32,
        bytes: u64,
        hash: u128,
    ) -> Result<Vec<u8>> {
        let found = self.remove(transaction).unwrap_or_default();
        if (found.fragments, found.joined.len() as u64) != (count, bytes) {
            let expected = format!("{count} fragments of {bytes} bytes");
            let found = format!("{} of {}", found.fragments, found.joined.len());
            return Err(self.damage(lsn, "fragments of a transaction", expected, found));
        }
        let found_hash = fragments_hash([found.joined.as_slice()]);
        if found_hash != hash {
            let (expected, found) = (format!("{hash:032x}"), format!("{found_hash:032x}"));
            return Err(self.damage(lsn, "hash of a transaction", expected, found));
        }
        Ok(found.joined)
    }

    /// Lets a transaction's fragments go.
    pub(crate) fn abort(&mut self, transaction: Lsn) {
        self.remove(transaction);
    }

    fn remove(&mut self, transaction: Lsn) -> Option<Transaction> {
        let removed = self.open.remove(&transaction)?;
        self.bytes -= removed.joined.len();
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
    use super::*;

    fn join(payloads: &[Vec<u8>], first: Lsn) -> Result<Option<Vec<u8>>> {
        let mut fragments = Fragments::new(1 << 20, Path::new("log"));
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
        let mut fragments = Fragments::new(10, Path::new("log"));
        fragments.add(Lsn(3), Lsn(3), 0, b"123456").unwrap();
        fragments.add(Lsn(4), Lsn(4), 0, b"1234").unwrap();
        assert!(matches!(fragments.add(Lsn(5), Lsn(4), 1, b"1"), Err(Error::LimitExceeded { .. })));
        assert_eq!(fragments.open().collect::<Vec<_>>(), [Lsn(3), Lsn(4)]);
        fragments.abort(Lsn(3));
        assert_eq!(fragments.oldest(), Some(Lsn(4)));
        fragments.add(Lsn(6), Lsn(4), 1, b"1").unwrap();
    }
}
