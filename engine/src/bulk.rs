//! Writes of any size that take effect at once.
//!
//! ```text
//! put, delete → arena, sorted when it is full → fragments in the log → … → commit of fragments
//!                                                    └── merged into the trees, run by run (crate::runs)
//! ```
//!
//! 1. Memory is the arena, and for the merge a piece of each run. Nothing is written beside the log. What is in order, and goes
//!    on with the run before, leaves the arena as soon as one entry would not take it.
//! 2. While it runs, other commits go on, and stand between its fragments. Their order is that of the log: the bulk write
//!    takes effect where its commit stands. Log that it may need is kept until it ends.
//! 3. Dropped, or cut off by a crash, it has never been: the next write, or the next opening, aborts what stands in the log.
//! 4. It is applied before its end is appended. So damage that the merge meets is not in the log, and the database opens
//!    again without it.

mod log;

use std::ops::Range;

use logwood_base::digest::RecordHasher;
use logwood_base::limits;
use logwood_base::sync::Arc;
use logwood_base::{Error, KeyspaceId, Lsn, Result};
use logwood_wal::Durability;

use crate::catalog::KeyspaceShared;
use crate::core::Handle;
use crate::entry::{self, Body, HEADER_BYTES, Operation, fragments_hasher};
use crate::fragments::FRAGMENT_OVERHEAD;
use crate::keyspace::Keyspace;
use crate::planted::{Bug, planted};
use crate::runs::RUNS_MAX;
use crate::ticket::{LogWrite, Ticket};
pub(crate) use log::Underway;

/// Most bytes of one fragment's piece: the merge has two of them in memory for each run.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// How a bulk write behaves.
///
/// ```
/// # use logwood::BulkOptions;
/// let options = BulkOptions::new().memory_bytes(256 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkOptions {
    memory_bytes: usize,
}

impl BulkOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { memory_bytes: 64 << 20 }
    }

    /// Memory for what is gathered and sorted, from 64 KiB to 1 GiB. Default: 64 MiB. Input in order needs no more than
    /// an entry of the log takes, 1 MiB, or its longest value, however much it is. Of input in any order 255 times as much fits into
    /// one write, less some 24 bytes for each operation.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts and deletes of any number over any keyspaces, which take effect at once or not at all. Begun by
/// [`Database::bulk_write`](crate::Database::bulk_write); dropped without [`BulkWrite::commit`], it has never been.
///
/// A later operation on a key wins. Memory is bounded by [`BulkOptions::memory_bytes`], half a MiB for each time that it was
/// filled by input out of order, a few times the longest value, and a quarter of the cache. Input in the order of its keys is neither sorted nor merged.
///
/// Other commits go on beside it, but wait while it takes effect. Where one has changed the same key meanwhile, the one that
/// commits later wins. One that is too large for a single entry of the log counts as a change of every key of the keyspaces that it
/// names: a transaction that was begun before it takes effect, has read there, and commits later meets a `Conflict`.
///
/// ```
/// use logwood::{BulkOptions, Database, Durability, Options};
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let people = db.ensure_keyspace("people")?;
///
/// let mut bulk = db.bulk_write(BulkOptions::new())?;
/// for n in (0..10_000u32).rev() {
///     bulk.put(&people, &n.to_be_bytes(), b"somebody")?;
/// }
/// assert_eq!(people.count_all()?, 0);
/// bulk.commit(Durability::Durable)?;
/// assert_eq!(people.count_all()?, 10_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BulkWrite {
    core: Arc<Handle>,
    memory_bytes: usize,
    /// Encoded operations, and where each is.
    arena: Vec<u8>,
    gathered: Vec<Gathered>,
    /// Whether the arena's operations ascend as they are.
    ascends: bool,
    /// While it is emptied: how many of them have left it, and how many bytes of the next one. Nothing is added meanwhile.
    left: Option<(usize, usize)>,
    /// Bytes that have left it and are too few for a fragment, or found no room.
    piece: Vec<u8>,
    /// The last operation that left the arena.
    last: Option<(KeyspaceId, Vec<u8>)>,
    runs: usize,
    written: Written,
    keyspaces: Vec<Arc<KeyspaceShared>>,
    operations: u64,
    /// Where it takes effect, and the write that it waits for.
    ended: Option<(Lsn, LogWrite)>,
}

/// What stands in the log.
struct Written {
    /// The first fragment.
    transaction: Option<Lsn>,
    fragments: u32,
    bytes: u64,
    hasher: RecordHasher,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// An operation in the arena.
#[derive(Clone, Debug)]
struct Gathered {
    keyspace: KeyspaceId,
    key: Range<u32>,
    bytes: Range<u32>,
}

impl BulkWrite {
    pub(crate) fn begin(core: &Arc<Handle>, options: BulkOptions) -> Result<Self> {
        core.check_writable()?;
        core.sequencer.lock().check_open()?;
        let allowed = 64 << 10..=1 << 30;
        if !allowed.contains(&options.memory_bytes) {
            let found = options.memory_bytes;
            return Err(Error::InvalidArgument(format!("memory_bytes is {found}, not within {allowed:?}")));
        }
        Ok(Self {
            core: Arc::clone(core),
            memory_bytes: options.memory_bytes,
            arena: Vec::new(),
            gathered: Vec::new(),
            ascends: true,
            left: None,
            piece: Vec::new(),
            last: None,
            runs: 0,
            written: Written { transaction: None, fragments: 0, bytes: 0, hasher: fragments_hasher() },
            keyspaces: Vec::new(),
            operations: 0,
            ended: None,
        })
    }

    /// Sets the value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// # let mut bulk = db.bulk_write(logwood::BulkOptions::new())?;
    /// bulk.put(&ks, b"a", b"1")?;
    /// bulk.put(&ks, b"a", b"2")?; // the later one wins
    /// bulk.commit(Durability::Durable)?;
    /// assert_eq!(ks.get(b"a")?.as_deref(), Some(&b"2"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `LimitExceeded` for a key or value that is too long, for more input out of order than its memory can sort, or when the
    /// log has grown beyond [`Options::log_bytes_max`](crate::Options::log_bytes_max) and this is the oldest bulk write;
    /// `InvalidArgument` for a keyspace of another database, or after it was committed; `DiskFull`, `Io`, `Poisoned`, `Closed`
    /// from the log. The operation was not taken then, and those before it were: after `DiskFull` it can be tried again.
    /// After `LimitExceeded` for too much input, or too much log, none of it can be committed any more: drop it.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        limits::check("value bytes", value.len(), self.core.options.value_bytes_max)?;
        self.add(keyspace, |keyspace| Operation::Put { keyspace, key, value })
    }

    /// Takes the value of a key away; no matter if it has none.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// # let mut bulk = db.bulk_write(logwood::BulkOptions::new())?;
    /// bulk.delete(&ks, b"a")?;
    /// bulk.put(&ks, b"b", b"2")?;
    /// assert!(ks.contains(b"a")?, "nothing has taken effect yet");
    /// bulk.commit(Durability::Durable)?;
    /// assert!(!ks.contains(b"a")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`BulkWrite::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        self.add(keyspace, |keyspace| Operation::Delete { keyspace, key })
    }

    /// How many operations it was given.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.operations
    }

    /// Whether it was given none. Committing it then changes nothing, and still takes an entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Has everything take effect, and waits for the durability that is asked for. Answers the commit's LSN; called once more,
    /// it answers the same.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut bulk = db.bulk_write(logwood::BulkOptions::new())?;
    /// bulk.put(&ks, b"a", b"1")?;
    /// assert_eq!((bulk.len(), bulk.is_empty()), (1, false));
    /// let lsn = bulk.commit(Durability::Durable)?;
    /// assert_eq!(bulk.commit(Durability::Durable)?, lsn, "it has taken effect once");
    /// assert!(bulk.put(&ks, b"b", b"2").is_err(), "it is at its end");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`BulkWrite::put`]; `NotFound` for a keyspace that was dropped meanwhile; `Corruption` for a page that it changes
    /// and that cannot be trusted; `DiskFull` also when there is no room for what it changes. Nothing of it has taken effect
    /// then, nothing of the input is lost, and after `DiskFull` it can be committed again. A failure while it takes effect
    /// stops the database: `Poisoned`, and nothing of it is there when it is opened again.
    pub fn commit(&mut self, durability: Durability) -> Result<Lsn> {
        self.commit_async(durability)?.wait()
    }

    /// As [`BulkWrite::commit`], but for the wait: answers a ticket to wait for, or to `.await`. What came before the last write
    /// of the log (the merge into the trees, above all) is done when this returns.
    ///
    /// ```
    /// # use logwood::{BulkOptions, Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut bulk = db.bulk_write(BulkOptions::new())?;
    /// bulk.put(&ks, b"a", b"1")?;
    /// let ticket = bulk.commit_async(Durability::Durable)?;
    /// // Something else, while the disk is at work …
    /// let lsn = ticket.wait()?;
    /// assert!(db.visible_lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`BulkWrite::commit`], for what is known before the write.
    pub fn commit_async(&mut self, durability: Durability) -> Result<Ticket> {
        let (lsn, write) = match &self.ended {
            Some(ended) => ended.clone(),
            None => self.begin_commit(durability)?,
        };
        self.ended = Some((lsn, write.clone()));
        Ok(Ticket::new(Arc::clone(&self.core), lsn, write))
    }

    fn begin_commit(&mut self, durability: Durability) -> Result<(Lsn, LogWrite)> {
        // Nothing has left the arena: not even for a fragment that is not full yet.
        if self.runs == 0 && self.fits_one_entry() {
            // What fits into one entry is a commit like any other.
            let mut payload = Vec::with_capacity(HEADER_BYTES + self.arena.len());
            entry::begin_commit(&mut payload);
            payload.extend_from_slice(&self.arena);
            return self.core.begin_commit(&mut payload, &self.keyspaces, durability);
        }
        self.write_out()?;
        let Some(transaction) = self.written.transaction else {
            return Err(Error::Internal("a bulk write without fragments".to_owned()));
        };
        let end = Body::CommitFragments {
            transaction,
            count: self.written.fragments,
            bytes: self.written.bytes,
            hash: self.written.hasher.clone().finish(),
        };
        self.core.begin_commit_fragments(transaction, end, &self.keyspaces, durability)
    }

    fn add<'a>(
        &mut self,
        keyspace: &Keyspace,
        operation: impl FnOnce(KeyspaceId) -> Operation<'a>,
    ) -> Result<()> {
        if self.ended.is_some() {
            return Err(Error::InvalidArgument("the bulk write was committed already".to_owned()));
        }
        if keyspace.instance() != self.core.instance {
            let name = keyspace.name();
            return Err(Error::InvalidArgument(format!("keyspace {name} belongs to another database")));
        }
        let shared = keyspace.shared();
        shared.check_exists()?;
        let operation = operation(shared.id);
        let (Operation::Put { key, .. } | Operation::Delete { key, .. }) = operation else {
            return Err(Error::Internal("a range delete in a bulk write".to_owned()));
        };
        let is_full = self.arena.len() + self.gathered.len() * size_of::<Gathered>() >= self.memory_bytes;
        let leaves = match self.left {
            None => self.may_leave_in_order(),
            // What a commit has begun to empty, and could not: what is added now would stand behind what was sorted, or take the
            // place of an operation that is in the log by half.
            Some(_) => !planted(Bug::PutBehindWhatLeft),
        };
        if is_full || leaves {
            self.spill()?;
        }
        let start = self.arena.len();
        operation.encode(&mut self.arena);
        let end = self.arena.len();
        // The key stands behind its length, which is all that its place depends on.
        let after_key = match operation {
            Operation::Put { value, .. } => value.len() + varint_bytes(value.len()),
            _ => 0,
        };
        let key_end = end - after_key;
        let found = Gathered {
            keyspace: shared.id,
            key: (key_end - key.len()) as u32..key_end as u32,
            bytes: start as u32..end as u32,
        };
        if let Some(last) = self.gathered.last() {
            self.ascends &= (last.keyspace, self.key_of(last)) < (shared.id, key);
        }
        self.gathered.push(found);
        self.operations += 1;
        if !self.keyspaces.iter().rev().any(|named| Arc::ptr_eq(named, shared)) {
            self.keyspaces.push(Arc::clone(shared));
        }
        Ok(())
    }

    /// Whether what was gathered is more than one entry takes, in order, and behind all that has left: to gather more of it would
    /// save nothing, and take memory that is new. Input out of order is gathered until memory is full, or its runs would be many.
    fn may_leave_in_order(&self) -> bool {
        self.ascends && !self.fits_one_entry() && self.goes_on_with_run()
    }

    fn fits_one_entry(&self) -> bool {
        self.arena.len() <= self.core.options.payload_bytes_max() - HEADER_BYTES
    }

    /// Whether what was gathered, sorted by now, is behind all that has left.
    fn goes_on_with_run(&self) -> bool {
        let first = self.gathered.first().map(|first| self.place_of(first));
        let last = self.last.as_ref().map(|last| (last.0, &last.1[..]));
        last.is_none_or(|last| first.is_some_and(|first| last < first))
    }

    fn place_of(&self, gathered: &Gathered) -> (KeyspaceId, &[u8]) {
        (gathered.keyspace, self.key_of(gathered))
    }

    fn key_of(&self, gathered: &Gathered) -> &[u8] {
        &self.arena[gathered.key.start as usize..gathered.key.end as usize]
    }

    /// Writes all that was gathered to the log.
    pub(crate) fn write_out(&mut self) -> Result<()> {
        self.spill()?;
        if self.piece.is_empty() { Ok(()) } else { self.append() }
    }

    /// Writes what the arena holds, in order, and empties it. After an error it goes on where it was.
    fn spill(&mut self) -> Result<()> {
        let (mut next, mut bytes) = match self.left {
            Some(left) => left,
            None => {
                self.sort()?;
                (0, 0)
            }
        };
        let piece_bytes = PIECE_BYTES_MAX.min(self.core.options.payload_bytes_max() - FRAGMENT_OVERHEAD);
        while let Some(operation) = self.gathered.get(next) {
            let behind = self.gathered.get(next + 1);
            if bytes == 0 && behind.is_some_and(|behind| self.place_of(behind) == self.place_of(operation)) {
                next += 1;
                continue;
            }
            let from = operation.bytes.start as usize + bytes;
            let to = (operation.bytes.end as usize).min(from + piece_bytes - self.piece.len());
            self.piece.extend_from_slice(&self.arena[from..to]);
            (next, bytes) = match to == operation.bytes.end as usize {
                true => (next + 1, 0),
                false => (next, bytes + to - from),
            };
            self.left = Some((next, bytes));
            if self.piece.len() == piece_bytes {
                self.append()?;
            }
        }
        if let Some(last) = self.gathered.last() {
            self.last = Some((last.keyspace, self.key_of(last).to_vec()));
        }
        self.gathered.clear();
        self.arena.clear();
        (self.ascends, self.left) = (true, None);
        Ok(())
    }

    /// Sorts what the arena holds, and counts it as a run unless it goes on with the one before.
    fn sort(&mut self) -> Result<()> {
        let arena = &self.arena;
        let place = |at: &Gathered| (at.keyspace, &arena[at.key.start as usize..at.key.end as usize]);
        if !std::mem::replace(&mut self.ascends, true) {
            // Of equal keys the later one stands behind.
            self.gathered.sort_unstable_by(|a, b| {
                place(a).cmp(&place(b)).then_with(|| a.bytes.start.cmp(&b.bytes.start))
            });
        }
        if !self.gathered.is_empty() && (self.runs == 0 || !self.goes_on_with_run()) {
            limits::check("sorted runs of a bulk write", self.runs + 1, RUNS_MAX)?;
            self.runs += 1;
        }
        Ok(())
    }

    /// Appends the piece as a fragment. It stays the piece if nothing was appended.
    fn append(&mut self) -> Result<()> {
        let (piece, written) = (&self.piece, &mut self.written);
        let sequence = written.fragments;
        let write = self.core.append_fragment(&mut written.transaction, sequence, piece, &self.keyspaces)?;
        // From here on it is in the log's order, whatever comes of the wait: its write is tried again with the next one.
        written.fragments += 1;
        written.bytes += piece.len() as u64;
        written.hasher.update(piece);
        self.piece.clear();
        self.core.finish_commit(write.0, &write.1).map(drop)
    }
}

#[cfg(test)]
impl BulkWrite {
    /// What was gathered and has not left.
    pub(crate) const fn arena(&self) -> &Vec<u8> {
        &self.arena
    }
}

impl Drop for BulkWrite {
    fn drop(&mut self) {
        if let Some(transaction) = self.written.transaction {
            // Unless it was committed, it is an orphan from here on, which the next write aborts.
            self.core.bulk.lock().remove(&transaction);
        }
    }
}

/// Bytes of a length in front of a string.
const fn varint_bytes(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
