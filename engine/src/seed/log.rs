//! The fresh log of a directory that is being filled.

use logwood_base::digest::Digest;
use logwood_base::{Corruption, DatabaseId, Error, LogId, LogPosition, Lsn, Result, Term};
use logwood_wal::{Append, BaseState, Cursor, Durability, Group, Log, LogOptions};

use super::Seed;
use crate::Options;
use crate::commit::GROUP;

/// Entries that come one after the other.
pub(crate) trait EntryStream {
    /// The next entry, or `None` behind the last one.
    fn next(&mut self) -> Result<Option<(Lsn, Term, &[u8])>>;
}

/// Entries of a log up to one LSN.
pub(crate) struct UpTo {
    pub(crate) cursor: Cursor,
    pub(crate) last: Lsn,
}

impl UpTo {
    pub(crate) fn new(group: &Group, from: Lsn, last: Lsn) -> Self {
        Self { cursor: group.cursor(from), last: if from > last { Lsn::ZERO } else { last } }
    }
}

impl EntryStream for UpTo {
    fn next(&mut self) -> Result<Option<(Lsn, Term, &[u8])>> {
        if self.last == Lsn::ZERO {
            return Ok(None);
        }
        let last = self.last;
        let entry = self.cursor.next()?;
        let entry = entry.filter(|entry| entry.lsn <= last);
        if entry.is_none_or(|entry| entry.lsn == last) {
            self.last = Lsn::ZERO;
        }
        Ok(entry.map(|entry| (entry.lsn, entry.term, entry.payload)))
    }
}

/// What [`Seed::write_log`] has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SeededLog {
    pub(crate) id: LogId,
    /// Everything before it is synced.
    pub(crate) durable_end: LogPosition,
    /// The last entry.
    pub(crate) last: Lsn,
    /// How many entries it holds.
    pub(crate) entries: u64,
}

impl Seed {
    /// Writes `entries`, which go on behind `base`, as a fresh log, and reads them back. Memory is bounded by
    /// `log_batch_bytes_max` and the longest entry.
    ///
    /// # Errors
    /// `Corruption` when the entries have a gap, or are not read back; `DiskFull`, `Io`; what `entries` answers.
    pub(crate) fn write_log(
        &self,
        options: &Options,
        database: DatabaseId,
        base: (Lsn, Term),
        entries: &mut dyn EntryStream,
    ) -> Result<SeededLog> {
        self.try_write_log(options, database, base, entries).map_err(|error| match error {
            // It is the fresh log that stopped, and nobody else uses it.
            Error::Poisoned { cause } => (*cause).clone(),
            other => other,
        })
    }

    fn try_write_log(
        &self,
        options: &Options,
        database: DatabaseId,
        base: (Lsn, Term),
        entries: &mut dyn EntryStream,
    ) -> Result<SeededLog> {
        let bytes_max = options.log_batch_bytes_max.min(options.payload_bytes_max());
        let options = LogOptions { pool_segments: 0, ..options.log_options() };
        // A log that was written for another manifest goes.
        super::settle::clear(&*self.environment.disk, &self.work.log())?;
        let log = Log::create(&self.environment, &self.work.log(), database, options)?;
        let base_state = BaseState { lsn: base.0, term: base.1, membership: Vec::new() };
        let group = log.create_group(GROUP, base_state)?;
        let mut copy = Copy {
            group: &group,
            previous: base,
            pending: Vec::new(),
            bytes: 0,
            bytes_max,
            digest: Digest::EMPTY,
        };
        while let Some((lsn, term, payload)) = entries.next()? {
            if lsn != copy.last().next() {
                let (expected, path) = (copy.last().next(), self.work.log());
                return Err(Corruption::new(&path, 0, "entries follow each other", expected, lsn).into());
            }
            copy.push(lsn, term, payload)?;
        }
        copy.flush()?;
        let (last, digest) = (copy.previous.0, copy.digest);
        log.sync()?;
        let durable_end = log.durable_position();
        log.close()?;
        self.check_log(base, last, digest)?;
        Ok(SeededLog { id: log.id(), durable_end, last, entries: last.entries_since(base.0) })
    }

    /// Reads the log back.
    fn check_log(&self, base: (Lsn, Term), last: Lsn, written: Digest) -> Result<()> {
        let folder = self.work.log();
        let inspection = Log::inspect(&self.environment, &folder, &mut |_| {})?;
        if let Some(damage) = inspection.damage.first() {
            return Err(damage.clone().into());
        }
        let found = inspection.groups.get(&GROUP).map(|group| (group.base, group.last.0));
        if found != Some((base, last)) {
            let (expected, found) = (format!("{:?}", Some((base, last))), format!("{found:?}"));
            return Err(Corruption::new(&folder, 0, "reach of the log", expected, found).into());
        }
        let mut digest = Digest::EMPTY;
        if last > base.0 {
            inspection.entries(GROUP, base.0.next(), |entry| {
                add(&mut digest, entry.lsn, entry.term, entry.payload);
                true
            })?;
        }
        if digest == written {
            Ok(())
        } else {
            let (expected, found) = (format!("{written:?}"), format!("{digest:?}"));
            Err(Corruption::new(&folder, 0, "entries read back", expected, found).into())
        }
    }
}

/// Adds an entry to a digest of entries.
fn add(digest: &mut Digest, lsn: Lsn, term: Term, payload: &[u8]) {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&lsn.get().to_le_bytes());
    key[8..].copy_from_slice(&term.get().to_le_bytes());
    digest.add(&key, payload);
}

struct Copy<'a> {
    group: &'a Group,
    /// The last entry in the log, with its term.
    previous: (Lsn, Term),
    /// Entries of one term that go next.
    pending: Vec<(Term, Vec<u8>)>,
    bytes: usize,
    bytes_max: usize,
    digest: Digest,
}

impl Copy<'_> {
    /// The last entry taken.
    fn last(&self) -> Lsn {
        Lsn(self.previous.0.get() + self.pending.len() as u64)
    }

    fn push(&mut self, lsn: Lsn, term: Term, payload: &[u8]) -> Result<()> {
        let other_term = self.pending.first().is_some_and(|(first, _)| *first != term);
        if other_term || self.bytes + payload.len() > self.bytes_max {
            self.flush()?;
        }
        add(&mut self.digest, lsn, term, payload);
        self.bytes += payload.len();
        self.pending.push((term, payload.to_vec()));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some((term, _)) = self.pending.first() else { return Ok(()) };
        let entries: Vec<(Term, &[u8])> =
            self.pending.iter().map(|(term, payload)| (*term, payload.as_slice())).collect();
        let ticket = self.group.append(Append {
            term: *term,
            previous: Some(self.previous),
            first_lsn: self.previous.0.next(),
            entries: &entries,
            durability: Durability::Buffered,
        });
        ticket.and_then(|ticket| ticket.wait()).map_err(|error| match error {
            Error::InvalidArgument(why) => Error::Internal(format!("entries of a log are refused: {why}")),
            other => other,
        })?;
        self.previous = (self.last(), *term);
        self.pending.clear();
        self.bytes = 0;
        Ok(())
    }
}
