//! Reading entries: from memory when they are recent, else from their segment, run by run.
//!
//! A run is read as a whole (about 64 KiB) and its batches are verified again. Sealed segments are read through a
//! memory map by readers that catch up ([`crate::Group::read`]); replay ([`Cursor`]) reads them with plain reads.

use std::ops::Deref;

use logwood_base::sync::Arc;
use logwood_base::{Corruption, Error, GroupId, Lsn, NodeId, Result, Term};

use crate::format::batch::{Batch, Kind, RawEntry};
use crate::format::block_up;
use crate::index::Run;
use crate::map::SegmentMap;
use crate::options::Entry;
use crate::segment::Segment;
use crate::shared::{Open, Shared, State};

/// What one look under the lock found.
enum Found {
    /// Entries from memory; empty at the end.
    Entries(Vec<Entry>),
    /// They stand in a segment; entries up to the LSN are written there.
    Stored(Stored),
}

/// A place to read from.
pub(crate) struct Stored {
    pub(crate) segment: Arc<Segment>,
    pub(crate) run: Run,
    pub(crate) limit: Lsn,
    pub(crate) sealed: bool,
}

/// Bytes of a run, wherever they come from.
pub(crate) enum RunBytes {
    Read(Vec<u8>),
    Mapped(Arc<SegmentMap>, std::ops::Range<usize>),
}

impl Deref for RunBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map, range) => &map.bytes()[range.clone()],
        }
    }
}

impl Shared {
    /// Entries in `from..to`, at least one if there is any, else at most `bytes_max` of payload.
    pub(crate) fn read(&self, id: GroupId, from: Lsn, to: Lsn, bytes_max: usize) -> Result<Vec<Entry>> {
        let stored = match self.look(id, from, to, bytes_max)? {
            Found::Entries(entries) => return Ok(entries),
            Found::Stored(stored) => stored,
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        let range = stored.run.start.offset as usize..stored.run.end as usize;
        let content = match stored.sealed.then(|| stored.segment.map(&*self.env.disk)).flatten() {
            Some(map) => RunBytes::Mapped(map, range),
            None => RunBytes::Read(read_run(&stored, Vec::new())?),
        };
        let mut walker = RunWalker::new(id, &stored, from);
        while let Some(entry) = walker.next(&stored, &content)? {
            if entry.lsn >= to || (bytes > 0 && bytes + entry.payload.len() > bytes_max) {
                break;
            }
            bytes += entry.payload.len().max(1);
            entries.push(Entry { lsn: entry.lsn, term: entry.term, payload: Arc::from(entry.payload) });
        }
        Ok(entries)
    }

    fn look(&self, id: GroupId, from: Lsn, to: Lsn, bytes_max: usize) -> Result<Found> {
        let state = self.state.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let group = state.group(id)?;
        if from <= group.log.record.base.0 {
            let oldest = group.log.record.base.0.next();
            return Err(Error::TooOld { what: "entry", asked: from, oldest });
        }
        if from > group.log.record.last.0 || from >= to {
            return Ok(Found::Entries(Vec::new()));
        }
        if group.recent.first().is_some_and(|first| first <= from) {
            let mut entries = Vec::new();
            let mut bytes = 0;
            let mut lsn = from;
            while let Some((term, payload)) = group.recent.get(lsn).filter(|_| lsn < to) {
                if bytes > 0 && bytes + payload.len() > bytes_max {
                    break;
                }
                bytes += payload.len().max(1);
                entries.push(Entry { lsn, term: *term, payload: Arc::clone(payload) });
                lsn = lsn.next();
            }
            return Ok(Found::Entries(entries));
        }
        stored_at(&state, id, from).map(Found::Stored)
    }
}

/// Where an entry stands on disk.
pub(crate) fn stored_at(state: &State, id: GroupId, lsn: Lsn) -> Result<Stored> {
    let group = state.group(id)?;
    let missing = || Error::Internal(format!("entry {lsn} of group {id} has no place"));
    let run = *group.log.index.find(lsn).ok_or_else(missing)?;
    let number = run.start.segment;
    let at = state.segments.binary_search_by_key(&number, |segment| segment.number).map_err(|_| missing())?;
    let recent = group.recent.first().map_or(Lsn::MAX, Lsn::previous);
    Ok(Stored {
        segment: Arc::clone(&state.segments[at]),
        run,
        limit: run.last.min(recent),
        sealed: at + 1 < state.segments.len(),
    })
}

/// Reads all bytes of a run into a buffer that is used again.
pub(crate) fn read_run(stored: &Stored, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
    let start = stored.run.start.offset;
    buffer.resize((stored.run.end - start) as usize, 0);
    stored.segment.file.read_at(u64::from(start), &mut buffer)?;
    Ok(buffer)
}

/// Walks over the entries of one group in the bytes of a run.
pub(crate) struct RunWalker {
    group: GroupId,
    /// The entry that comes next.
    wanted: Lsn,
    /// Where the next batch is sought, in bytes of the run.
    offset: usize,
    /// Rest of the current batch's entries.
    batch: (usize, usize),
    batch_lsn: Lsn,
}

impl RunWalker {
    pub(crate) fn new(group: GroupId, stored: &Stored, from: Lsn) -> Self {
        let wanted = from.max(stored.run.first);
        Self { group, wanted, offset: 0, batch: (0, 0), batch_lsn: Lsn::ZERO }
    }

    /// The entry that comes next.
    pub(crate) fn wanted(&self) -> Lsn {
        self.wanted
    }

    /// The next entry, or `None` behind the run's last.
    pub(crate) fn next<'a>(&mut self, stored: &Stored, bytes: &'a [u8]) -> Result<Option<RawEntry<'a>>> {
        while self.wanted <= stored.limit {
            let (at, end) = self.batch;
            if at >= end {
                self.next_batch(stored, bytes)?;
                continue;
            }
            let Some(entry) = entry_at(&bytes[at..end], self.batch_lsn) else {
                return Err(self.damage(stored, at, "entry"));
            };
            self.batch.0 = at + crate::format::batch::ENTRY_FIXED_BYTES + entry.payload.len();
            self.batch_lsn = entry.lsn.next();
            if entry.lsn == self.wanted {
                self.wanted = entry.lsn.next();
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Finds the next batch that holds what is wanted.
    fn next_batch(&mut self, stored: &Stored, bytes: &[u8]) -> Result<()> {
        let start = stored.run.start.offset;
        loop {
            let at = start + self.offset as u32;
            let found = decode_at(stored, bytes, at).or_else(|| decode_at(stored, bytes, block_up(at)));
            let Some((at, batch)) = found else {
                return Err(self.damage(stored, self.offset, "batch checksum"));
            };
            let from = (at - start) as usize;
            self.offset = from + batch.bytes.len();
            let fields = &batch.fields;
            let holds = fields.group == self.group
                && matches!(fields.kind, Kind::Append | Kind::Copy)
                && fields.first_lsn <= self.wanted
                && self.wanted <= fields.last_lsn();
            if holds {
                self.batch = (from + crate::format::batch::FIXED_BYTES, self.offset);
                self.batch_lsn = fields.first_lsn;
                return Ok(());
            }
        }
    }

    fn damage(&self, stored: &Stored, offset: usize, check: &'static str) -> Error {
        let offset = u64::from(stored.run.start.offset) + offset as u64;
        Corruption::new(
            stored.segment.file.path(),
            offset,
            check,
            "what recovery or a write left",
            "other bytes",
        )
        .affecting(format!("group {} lsn {}..={}", self.group, self.wanted, stored.run.last))
        .into()
    }
}

fn decode_at<'a>(stored: &Stored, bytes: &'a [u8], at: u32) -> Option<(u32, Batch<'a>)> {
    let rest = bytes.get((at - stored.run.start.offset) as usize..)?;
    Batch::decode(rest, stored.segment.seed_at(at)).ok().map(|batch| (at, batch))
}

fn entry_at(bytes: &[u8], lsn: Lsn) -> Option<RawEntry<'_>> {
    crate::format::batch::Entries::new(bytes, lsn).next()
}

/// Vote and membership.
type StateRead = ((Term, NodeId), (Lsn, Vec<u8>));

/// Vote and membership as the device holds them in the state batch at `start..end`.
pub(crate) fn read_back(segment: &Segment, start: u32, end: u32) -> Result<StateRead> {
    let (bytes, _source) = segment.file.read_past_cache(u64::from(start), (end - start) as usize)?;
    let batch = Batch::decode(&bytes, segment.seed_at(start));
    match batch.and_then(|batch| {
        batch.state().map(|state| (state.vote, state.membership.0, state.membership.1.to_vec()))
    }) {
        Ok((vote, lsn, membership)) => Ok((vote, (lsn, membership))),
        Err(error) => {
            let path = segment.file.path();
            Err(Corruption::new(path, u64::from(start), "state read back", "a state batch", error).into())
        }
    }
}

/// Streams a group's entries in order, in bounded memory, for replay.
///
/// Made by [`Group::cursor`](crate::Group::cursor). It ends at the entry that was the last one written when it got
/// there. After an error it stays failed.
pub struct Cursor {
    shared: Arc<Open>,
    group: GroupId,
    next: Lsn,
    current: Option<(Stored, RunWalker)>,
    bytes: Vec<u8>,
    /// Entries that are in memory only, newest last.
    recent: std::collections::VecDeque<Entry>,
    lent: Option<Entry>,
    failed: Option<Error>,
}

/// An entry lent by a [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Its number within its group.
    pub lsn: Lsn,
    /// The term in which a leader made it.
    pub term: Term,
    /// What the log keeps for its caller.
    pub payload: &'a [u8],
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("group", &self.group).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Cursor {
    pub(crate) fn new(shared: Arc<Open>, group: GroupId, from: Lsn) -> Self {
        Self {
            shared,
            group,
            next: from,
            current: None,
            bytes: Vec::new(),
            recent: std::collections::VecDeque::new(),
            lent: None,
            failed: None,
        }
    }

    /// The next entry, or `None` at the end.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
    /// let mut cursor = group.cursor(Lsn(2));
    /// let entry = cursor.next()?.expect("there is one");
    /// assert_eq!((entry.lsn, entry.term, entry.payload), (Lsn(2), Term(2), &b"set y 2"[..]));
    /// assert!(cursor.next()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when the entry was let go; `Corruption` or `Io` from its segment. Stays failed.
    #[allow(clippy::should_implement_trait, reason = "it lends from its own buffer")]
    pub fn next(&mut self) -> Result<Option<EntryRef<'_>>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Err(error) = self.advance() {
            self.failed = Some(error.clone());
            return Err(error);
        }
        if let Some(entry) = &self.lent {
            return Ok(Some(EntryRef { lsn: entry.lsn, term: entry.term, payload: &entry.payload }));
        }
        let Some((stored, walker)) = &mut self.current else { return Ok(None) };
        let entry = walker.next(stored, &self.bytes);
        if let Err(error) = &entry {
            self.failed = Some(error.clone());
        }
        let Some(entry) = entry? else { return Ok(None) };
        self.next = entry.lsn.next();
        Ok(Some(EntryRef { lsn: entry.lsn, term: entry.term, payload: entry.payload }))
    }

    /// Makes sure that the next entry is lent or stands in the current run.
    fn advance(&mut self) -> Result<()> {
        self.lent = None;
        if let Some((stored, walker)) = &self.current {
            if walker.wanted() <= stored.limit {
                return Ok(());
            }
            self.current = None;
        }
        if self.recent.is_empty() {
            match self.shared.look(self.group, self.next, Lsn::MAX, 1 << 20)? {
                Found::Entries(entries) => self.recent = entries.into(),
                Found::Stored(stored) => {
                    self.bytes = read_run(&stored, std::mem::take(&mut self.bytes))?;
                    let walker = RunWalker::new(self.group, &stored, self.next);
                    self.current = Some((stored, walker));
                    return Ok(());
                }
            }
        }
        self.lent = self.recent.pop_front();
        if let Some(entry) = &self.lent {
            self.next = entry.lsn.next();
        }
        Ok(())
    }
}
