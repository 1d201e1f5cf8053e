//! The changes of one commit.
//!
//! A transaction that was written in fragments is read from the log again, fragment by fragment: an operation may begin
//! in one and end in another, so what is left of one is kept and the next is put behind it.

use std::fmt;
use std::path::Path;

use logwood_base::codec::Reader;
use logwood_base::{Corruption, Error, Lsn, Result};
use logwood_wal::Group;

use super::Change;
use crate::entry::{Body, DecodeError, Entry, Operation, Request, fragments_hasher};

/// Most bytes of fragments that are read at once, beyond the first one.
const READ_BYTES: usize = 1 << 20;

/// One commit. Its changes are lent one after the other by [`ChangeSet::next`].
pub struct ChangeSet<'a> {
    lsn: Lsn,
    time_ms: u64,
    request: Option<Request>,
    source: Source<'a>,
    /// Why it cannot be read to its end. It is the reader's own: whoever goes on without a look at the error must not pass
    /// over the rest. Lent alone, so that the reader's hold stays while this lives.
    torn: &'a mut Option<Error>,
}

/// Where the changes come from.
enum Source<'a> {
    /// Operations in the entry, from `at` on.
    Entry { log: &'a Path, payload: &'a [u8], at: usize },
    /// A keyspace came or went.
    Catalog(Option<Change<'a>>),
    /// Fragments in the log.
    Fragments(Box<Fragments<'a>>),
}

struct Fragments<'a> {
    group: &'a Group,
    log: &'a Path,
    transaction: Lsn,
    /// The entry that is read next; the transaction's commit stands at `end`.
    next: Lsn,
    end: Lsn,
    ahead: std::vec::IntoIter<logwood_wal::Entry>,
    /// Bytes of operations, and how many of them were lent.
    joined: Vec<u8>,
    lent: usize,
    found: (u32, u64),
    hasher: logwood_base::digest::RecordHasher,
    expected: (u32, u64, u128),
}

impl<'a> ChangeSet<'a> {
    pub(super) fn new(
        group: &'a Group,
        log: &'a Path,
        entry: &'a logwood_wal::Entry,
        torn: &'a mut Option<Error>,
    ) -> Result<Self> {
        let lsn = entry.lsn;
        let decoded = Entry::decode(&entry.payload).map_err(|error| error.at(log, lsn))?;
        let source = match decoded.body {
            Body::Commit(operations) => Source::Entry { log, payload: operations.as_bytes(), at: 0 },
            Body::CreateKeyspace { id, name } => {
                Source::Catalog(Some(Change::CreateKeyspace { keyspace: id, name }))
            }
            Body::DropKeyspace { id } => Source::Catalog(Some(Change::DropKeyspace { keyspace: id })),
            Body::CommitFragments { transaction, count, bytes, hash } => {
                Source::Fragments(Box::new(Fragments {
                    group,
                    log,
                    transaction,
                    next: transaction,
                    end: lsn,
                    ahead: Vec::new().into_iter(),
                    joined: Vec::new(),
                    lent: 0,
                    found: (0, 0),
                    hasher: fragments_hasher(),
                    expected: (count, bytes, hash),
                }))
            }
            other => return Err(Error::Internal(format!("a {} is no commit", other.name()))),
        };
        let (time_ms, request) = (decoded.time_ms, decoded.request);
        Ok(Self { lsn, time_ms, request, source, torn })
    }

    /// The commit's place. Going on behind it is `changes(lsn.next())`.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// When it was committed, in milliseconds since 1970; never less than the commit before.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// # let before = db.visible_lsn();
    /// ks.put(b"a", b"1")?;
    /// ks.put(b"b", b"2")?;
    /// let mut changes = db.changes(before.next())?;
    /// let first = changes.next(std::time::Duration::ZERO)?.expect("there are two").time_ms();
    /// let second = changes.next(std::time::Duration::ZERO)?.expect("there are two").time_ms();
    /// assert!(first <= second, "whatever the clock did");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Which request of which client it answered.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # use logwood::{ChangesOptions, entry::{Operations, Request}};
    /// # use std::time::Duration;
    /// // The replication above notes in each entry whose request it answers.
    /// let request = Some(Request { client: 7, number: 1 });
    /// let payload = Entry { time_ms: 1, request, body: Body::Commit(Operations::new(b"")) }.encode();
    /// let entries = [(Term(1), &payload[..])];
    /// log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_committed(Lsn(1));
    /// let mut changes = log.changes(Lsn(1), &ChangesOptions::new())?;
    /// let set = changes.next(Duration::ZERO)?.expect("it is decided");
    /// assert_eq!(set.request(), request);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn request(&self) -> Option<Request> {
        self.request
    }

    /// The next change, in the order in which the log has them: a later change of a key wins. Those of a bulk write come sorted
    /// by keyspace and key, once through for each time that its memory was filled, without what was overwritten in it; all
    /// others in the order in which they were made. `None` behind the last one.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::Change;
    /// let mut changes = db.changes(db.visible_lsn().next())?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// batch.delete(&ks, b"b")?;
    /// let lsn = db.commit(batch, Durability::Durable)?;
    /// let mut commit = changes.next(std::time::Duration::ZERO)?.expect("there is one");
    /// assert_eq!(commit.lsn(), lsn);
    /// assert!(matches!(commit.next()?, Some(Change::Put { key: b"a", value: b"1", .. })));
    /// assert!(matches!(commit.next()?, Some(Change::Delete { key: b"b", .. })));
    /// assert!(commit.next()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption`, `Io` from the log; `TooOld` when the log let go of a part of the commit, to a reader without a hold.
    /// An error stays. Take nothing of a commit whose changes ended in one: after `Io` [`Changes::next`](super::Changes::next)
    /// hands the same commit out once more, whole; after the others it answers the error.
    #[allow(clippy::should_implement_trait, reason = "it lends from its own buffer")]
    pub fn next(&mut self) -> Result<Option<Change<'_>>> {
        if let Some(error) = &*self.torn {
            return Err(error.clone());
        }
        let next = match &mut self.source {
            Source::Catalog(change) => return Ok(change.take()),
            Source::Entry { log, payload, at } => next_operation(log, self.lsn, payload, at),
            Source::Fragments(fragments) => fragments.next().map_err(|error| match error {
                Error::TooOld { oldest, .. } => Error::TooOld { what: "change", asked: self.lsn, oldest },
                other => other,
            }),
        };
        if let Err(error) = &next {
            *self.torn = Some(error.clone());
        }
        next.map(|operation| operation.map(Change::from))
    }
}

#[cfg(test)]
impl ChangeSet<'_> {
    /// Bytes of operations in memory.
    pub(crate) fn buffered_bytes(&self) -> usize {
        match &self.source {
            Source::Fragments(fragments) => fragments.joined.len(),
            Source::Entry { .. } | Source::Catalog(_) => 0,
        }
    }
}

/// The operation at `at`, if there is one.
fn next_operation<'b>(
    log: &Path,
    lsn: Lsn,
    bytes: &'b [u8],
    at: &mut usize,
) -> Result<Option<Operation<'b>>> {
    let mut reader = Reader::new(&bytes[*at..]);
    if reader.remaining() == 0 {
        return Ok(None);
    }
    let operation =
        Operation::decode(&mut reader).map_err(|error| DecodeError::Malformed(error).at(log, lsn))?;
    *at = bytes.len() - reader.remaining();
    Ok(Some(operation))
}

impl Fragments<'_> {
    fn next(&mut self) -> Result<Option<Operation<'_>>> {
        // How long the next operation is must be known before it is lent.
        while Operation::decode(&mut Reader::new(&self.joined[self.lent..])).is_err() {
            if !self.join()? {
                self.check()?;
                break;
            }
        }
        next_operation(self.log, self.end, &self.joined, &mut self.lent)
    }

    /// Puts the next fragment behind what is left. Answers false when there is none.
    fn join(&mut self) -> Result<bool> {
        loop {
            let Some(entry) = self.ahead.next() else {
                if self.next >= self.end {
                    return Ok(false);
                }
                self.ahead = self.group.read(self.next, self.end, READ_BYTES)?.into_iter();
                continue;
            };
            self.next = entry.lsn.next();
            let decoded = Entry::decode(&entry.payload).map_err(|error| error.at(self.log, entry.lsn))?;
            let Body::Fragment { transaction, sequence, piece } = decoded.body else { continue };
            if transaction != self.transaction {
                continue;
            }
            if sequence != self.found.0 {
                return Err(self.damage(format!("fragment {}", self.found.0), format!("fragment {sequence}")));
            }
            self.found = (sequence + 1, self.found.1 + piece.len() as u64);
            self.hasher.update(piece);
            self.joined.drain(..self.lent);
            self.lent = 0;
            self.joined.extend_from_slice(piece);
            return Ok(true);
        }
    }

    /// Compares what was read with what the commit says.
    fn check(&self) -> Result<()> {
        let found = (self.found.0, self.found.1, self.hasher.clone().finish());
        if found == self.expected {
            return Ok(());
        }
        let text = |(count, bytes, hash): (u32, u64, u128)| format!("{count} of {bytes} bytes, {hash:032x}");
        Err(self.damage(text(self.expected), text(found)))
    }

    fn damage(&self, expected: String, found: String) -> Error {
        let damage = Corruption::new(self.log, 0, "fragments of a transaction", expected, found);
        damage.affecting(format_args!("lsn {}", self.end)).into()
    }
}

impl fmt::Debug for ChangeSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeSet")
            .field("lsn", &self.lsn)
            .field("time_ms", &self.time_ms)
            .finish_non_exhaustive()
    }
}
