//! What replay applies next: the operations of many commits in one piece of memory, and the entries between them.
//!
//! Operations of several commits are applied together, at the LSN of the last one, in the order of their keys. That touches
//! each leaf once, and is what makes replay fast. Reading them, checking them, gathering and sorting them needs the log alone and
//! no tree: so a helper does it for the next [`Part`], while this one is applied ([`crate::ahead`]).
//!
//! They are gathered in one piece of memory, and copied from there in their order into the part's.

use std::path::{Path, PathBuf};

use logwood_base::limits::ENTRY_PAYLOAD_BYTES_MAX;
use logwood_base::sync::atomic::{AtomicUsize, Ordering};
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Environment, Lsn, Result};
use logwood_wal::Cursor;

use super::sort::append_sorted;
use crate::ahead::Ahead;
use crate::entry::{Body, Entry, Operations};

/// Short operations count as this long: sorting takes some memory for each.
const OPERATION_BYTES: usize = 64;

/// Consecutive entries, read and decoded; the operations of consecutive commits sorted.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    /// What it counts as: at most about what was asked for.
    size: usize,
    /// Its last entry.
    pub(super) last: Lsn,
    /// The latest time of its commits.
    pub(super) time_ms: u64,
    /// How many entries it has, those that are in the trees already among them.
    pub(super) entries: u64,
    /// What all of them take in the log.
    pub(super) logged_bytes: u64,
}

/// Bytes of a part, from the end of the piece before it on.
#[derive(Debug)]
struct Piece {
    /// The last entry in it.
    last: Lsn,
    end: usize,
    /// Whether they are operations of commits; else the payload of one other entry.
    is_commits: bool,
}

/// What is applied in one step.
pub(super) enum Replayed<'p> {
    /// Operations of consecutive commits up to this one.
    Commits(Lsn, Operations<'p>),
    /// Any other entry, and each that is in the trees already: its payload.
    Entry(Lsn, &'p [u8]),
}

impl Part {
    /// What is to be applied, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = Replayed<'_>> {
        self.pieces.iter().scan(0, |from, piece| {
            let bytes = &self.bytes[std::mem::replace(from, piece.end)..piece.end];
            Some(match piece.is_commits {
                true => Replayed::Commits(piece.last, Operations::new(bytes)),
                false => Replayed::Entry(piece.last, bytes),
            })
        })
    }

    fn take_in(&mut self, lsn: Lsn, payload: &[u8], in_trees: Lsn, log: &Path) -> Result<()> {
        let entry = Entry::decode(payload).map_err(|error| error.at(log, lsn))?;
        match entry.body {
            Body::Commit(operations) => {
                self.time_ms = self.time_ms.max(entry.time_ms);
                if lsn > in_trees {
                    self.size += operations.as_bytes().len().max(operations.iter().count() * OPERATION_BYTES);
                    self.push(lsn, operations.as_bytes(), true);
                } else {
                    self.size += payload.len();
                }
            }
            _ => {
                self.size += payload.len();
                self.push(lsn, payload, false);
            }
        }
        self.last = lsn;
        self.entries += 1;
        self.logged_bytes += crate::statistics::logged_bytes(payload.len());
        Ok(())
    }

    fn push(&mut self, last: Lsn, bytes: &[u8], is_commits: bool) {
        debug_assert!(self.bytes.len() + bytes.len() <= self.bytes.capacity(), "room was taken once");
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.pieces.last_mut() {
            Some(before) if is_commits && before.is_commits => (before.last, before.end) = (last, end),
            _ => self.pieces.push(Piece { last, end, is_commits }),
        }
    }

    /// Copies what was gathered into the memory of `spare`, and sorts the operations of commits. Answers where it stood.
    fn sort(&mut self, spare: Vec<u8>) -> Vec<u8> {
        let gathered = std::mem::replace(&mut self.bytes, spare);
        let mut from = 0;
        for piece in &mut self.pieces {
            let bytes = &gathered[std::mem::replace(&mut from, piece.end)..piece.end];
            match piece.is_commits {
                true => append_sorted(Operations::new(bytes), &mut self.bytes),
                false => self.bytes.extend_from_slice(bytes),
            }
            piece.end = self.bytes.len();
        }
        gathered
    }
}

/// What is gathered, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathering {
    /// Commits up to here are in the trees already.
    pub(super) in_trees: Lsn,
    /// Bytes that a part has at most, whatever is asked for, but for its last entry.
    pub(super) bytes_max: usize,
    /// Bytes that the whole log has.
    pub(super) log_bytes: usize,
}

/// Reads the log from one entry on, a part at a time. Two pieces of memory serve the parts in turn, and a third one is where
/// each is gathered.
pub(super) struct Gatherer {
    shared: Arc<Shared>,
    ahead: Option<Ahead<Result<Option<Part>>>>,
}

struct Shared {
    cursor: Mutex<Cursor>,
    /// Where a part is gathered.
    gathered: Mutex<Vec<u8>>,
    gathering: Gathering,
    /// Bytes after which a part ends.
    bytes: AtomicUsize,
    /// Memory of parts that were applied: of both, where the helper has not begun with the next one.
    spare: Mutex<Vec<Part>>,
    /// Named in errors.
    log: PathBuf,
}

impl Gatherer {
    pub(super) fn new(cursor: Cursor, gathering: Gathering, bytes: usize, log: &Path) -> Self {
        let shared = Shared {
            cursor: Mutex::new(cursor),
            gathered: Mutex::default(),
            gathering,
            bytes: AtomicUsize::new(bytes),
            spare: Mutex::default(),
            log: log.to_owned(),
        };
        Self { shared: Arc::new(shared), ahead: None }
    }

    /// The next part; `None` at the end of the log. Behind a first part that was full, a helper has begun with the one that
    /// follows what is answered.
    ///
    /// # Errors
    /// `Corruption` or `Io`, of the log's segments; `Corruption` and `UnsupportedFormat`, of what stands in them: in their
    /// place in the order of the log. Nothing may be asked for any more then.
    pub(super) fn next(&mut self, environment: &Environment) -> Result<Option<Part>> {
        if let Some(ahead) = &mut self.ahead {
            return ahead.take().unwrap_or(Ok(None));
        }
        // There is nothing yet that could be done beside the first one.
        let part = self.shared.gather()?;
        if part.as_ref().is_some_and(|part| part.size >= self.shared.bytes.load(Ordering::Relaxed)) {
            let shared = Arc::clone(&self.shared);
            let job = move |_| shared.gather();
            self.ahead = Some(Ahead::new(environment, "replay-ahead", (1, 1), usize::MAX, job)?);
        }
        Ok(part)
    }

    /// Takes the memory of a part that was applied, and has later ones, if not the next, end after so many bytes.
    pub(super) fn give_back(&mut self, part: Part, bytes: usize) {
        self.shared.spare.lock().push(part);
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    fn gather(&self) -> Result<Option<Part>> {
        let mut cursor = self.cursor.lock();
        let mut gathered = self.gathered.lock();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let Part { bytes: spare, mut pieces, .. } = self.spare.lock().pop().unwrap_or_default();
        pieces.clear();
        let mut part =
            Part { bytes: self.with_room(std::mem::take(&mut *gathered)), pieces, ..Part::default() };
        while part.size < bytes
            && let Some(entry) = cursor.next()?
        {
            part.take_in(entry.lsn, entry.payload, self.gathering.in_trees, &self.log)?;
        }
        *gathered = part.sort(self.with_room(spare));
        Ok((part.entries > 0).then_some(part))
    }

    /// Memory, emptied, with room for what a part has at most, taken once: memory that is let grow is copied.
    fn with_room(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.clear();
        // Entries may be larger than today's options allow.
        let room = self.gathering.bytes_max + ENTRY_PAYLOAD_BYTES_MAX;
        bytes.reserve_exact(room.min(self.gathering.log_bytes));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use logwood_base::disk::SimulatedDisk;
    use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom, ThreadSpawner};
    use logwood_base::{DatabaseId, Term};
    use logwood_wal::{Append, BaseState, Durability, Log, LogOptions};

    use super::*;
    use crate::commit::GROUP;
    use crate::entry::Operation;

    const ENTRIES: u64 = 900;
    const BYTES: usize = 8 << 10;

    fn environment(threads: bool) -> Environment {
        Environment {
            disk: Arc::new(SimulatedDisk::new(1)),
            random: Arc::new(SeededRandom::new(1)),
            spawner: if threads { Arc::new(ThreadSpawner) } else { Arc::new(ManualSpawner::new()) },
            clock: Arc::new(ManualClock::new(0)),
        }
    }

    /// Each tenth entry is no commit; each hundredth is larger than a part.
    fn payload(lsn: u64) -> Vec<u8> {
        let value = vec![7; if lsn.is_multiple_of(100) { 2 * BYTES } else { lsn as usize % 200 }];
        let mut operations = Vec::new();
        let key = &lsn.to_be_bytes();
        Operation::Put { keyspace: logwood_base::KeyspaceId(1), key, value: &value }.encode(&mut operations);
        let body = if lsn % 10 == 5 { Body::NoOp } else { Body::Commit(Operations::new(&operations)) };
        Entry { time_ms: lsn, request: None, body }.encode()
    }

    #[test]
    fn parts_hold_everything_in_order_and_no_more_than_two_are_in_memory() {
        for threads in [false, true] {
            let environment = environment(threads);
            let dir = Path::new("log");
            let options = LogOptions { recent_bytes_max: 0, ..LogOptions::default() };
            let log =
                Log::create(&environment, dir, DatabaseId::random(&*environment.random), options).unwrap();
            let group = log.create_group(GROUP, BaseState::default()).unwrap();
            let payloads: Vec<_> = (1..=ENTRIES).map(payload).collect();
            let entries: Vec<_> = payloads.iter().map(|payload| (Term::FIRST, &payload[..])).collect();
            let (term, first_lsn, durability) = (Term::FIRST, Lsn(1), Durability::Durable);
            group.append(Append { term, previous: None, first_lsn, entries: &entries, durability }).unwrap();
            log.sync().unwrap();
            let gathering = Gathering { in_trees: Lsn(33), bytes_max: BYTES, log_bytes: 1 << 20 };
            let mut gatherer = Gatherer::new(group.cursor(Lsn(1)), gathering, BYTES, dir);
            let (mut lsn, mut places, mut commits) = (Lsn::ZERO, BTreeSet::new(), 0);
            while let Some(part) = gatherer.next(&environment).unwrap() {
                assert!(part.size < BYTES + 2 * BYTES + 100, "{} bytes", part.size);
                places.insert(part.bytes.as_ptr() as usize);
                for step in part.steps() {
                    let (last, found) = match step {
                        Replayed::Commits(last, operations) => (last, operations.iter().count() as u64),
                        Replayed::Entry(lsn, bytes) => {
                            assert_eq!(bytes, payload(lsn.0));
                            (lsn, 0)
                        }
                    };
                    assert!(last > lsn);
                    (lsn, commits) = (last, commits + found);
                }
                lsn = part.last;
                assert_eq!(part.time_ms.max(part.last.0), part.last.0);
                gatherer.give_back(part, BYTES);
            }
            assert_eq!(lsn, Lsn(ENTRIES));
            // Those of the first entries are in the trees.
            assert_eq!(commits, ENTRIES / 10 * 9 - 30);
            assert!(places.len() <= 2, "two pieces of memory serve in turn: {places:?}");
        }
    }
}
