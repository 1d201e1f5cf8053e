//! What can stand on the modelled disk: batches and segment headers, cut into blocks.
//!
//! A block has two units. A header fills the first unit of block 0; a batch takes one unit (it can be lost but not
//! torn) or three (it can be torn). Positions are exact: segment and unit.
//!
//! A checksum is modelled by the batch itself: a batch *verifies* where all its units stand together, in order. Rule
//! **seeded checksum**: and only at the place for which it was written.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Units of a block.
pub const BLOCK_UNITS: u8 = 2;
/// Where the first batch of a segment begins: behind the header's block.
pub const FIRST: u8 = BLOCK_UNITS;

/// A place in the physical log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// Number of the segment.
    pub segment: u8,
    /// Units from its start.
    pub offset: u8,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.segment, self.offset)
    }
}

/// The first block start at or after `offset`.
pub fn round_up(offset: u8) -> u8 {
    offset.next_multiple_of(BLOCK_UNITS)
}

/// What a client wrote.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Its term.
    pub term: u8,
    /// Stands for its bytes.
    pub payload: u8,
}

/// An LSN with its term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mark {
    /// The LSN; 0 is before the first entry.
    pub lsn: u8,
    /// The term of the entry there.
    pub term: u8,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(t{})", self.lsn, self.term)
    }
}

/// What a batch does, when it is composed at its place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Replaces everything behind `previous` by one entry.
    Append {
        /// The entry before it: `first_lsn - 1` and `prev_term`.
        previous: Mark,
        /// The group's commit LSN, as known when it was composed.
        commit: u8,
        /// What follows `previous`.
        entry: Entry,
    },
    /// Carries entries that are current here forward, from `first` on.
    Copy {
        /// LSN of the first entry.
        first: u8,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Lets go of everything up to `mark`.
    Base {
        /// The last entry that goes, or the place of the snapshot that the log jumps to.
        mark: Mark,
        /// Whether the entries above stay: the log held `mark` when this was composed.
        stays: bool,
    },
    /// A vote: larger is newer.
    Vote(u8),
    /// Closes a quiet moment, or, naming the next one, a segment.
    Seal(Option<u8>),
}

/// One batch.
pub struct Batch {
    /// Where it was written to: the seed of its checksum.
    pub place: Position,
    /// Its length.
    pub units: u8,
    /// The group it belongs to.
    pub group: u8,
    /// What it does.
    pub kind: Kind,
    /// Everything before this was synced when the batch was submitted.
    pub durable_end: Position,
    /// Checksum of the batch before it in its segment; 0 for the first.
    pub previous: u64,
    /// Its own checksum.
    pub crc: u64,
}

impl Batch {
    /// Puts a batch together; `seeded` says whether the checksum covers its place.
    pub fn new(
        place: Position,
        units: u8,
        (group, kind): (u8, Kind),
        durable_end: Position,
        previous: u64,
        seeded: bool,
    ) -> Rc<Self> {
        let mut hasher = DefaultHasher::new();
        (group, &kind, units, durable_end, previous, seeded.then_some(place)).hash(&mut hasher);
        Rc::new(Self { place, units, group, kind, durable_end, previous, crc: hasher.finish() })
    }

    /// Where the next one may begin.
    pub fn end(&self) -> Position {
        Position { segment: self.place.segment, offset: self.place.offset + self.units }
    }
}

// The checksum stands for the content, in comparisons as on a disk.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.crc == other.crc
    }
}
impl Eq for Batch {}
impl Hash for Batch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.crc.hash(state);
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group + 1;
        match &self.kind {
            Kind::Append { previous, entry, .. } => write!(
                f,
                "append {}(t{}) payload {} of group {group} behind {previous}",
                previous.lsn + 1,
                entry.term,
                entry.payload
            )?,
            Kind::Copy { first, entries } => {
                write!(f, "copy of {first}..={} of group {group}", *first + entries.len() as u8 - 1)?;
            }
            Kind::Base { mark, stays } => {
                let above = if *stays { "entries above stay" } else { "nothing above stays" };
                write!(f, "base {mark} of group {group} ({above})")?;
            }
            Kind::Vote(vote) => write!(f, "vote {vote} of group {group}")?,
            Kind::Seal(None) => write!(f, "idle seal")?,
            Kind::Seal(Some(next)) => write!(f, "closing seal that names segment {next}")?,
        }
        write!(f, " at {}, durable_end {}", self.place, self.durable_end)
    }
}

/// What a header's group table says of one group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Row {
    /// The newest vote.
    pub vote: u8,
    /// The commit LSN.
    pub commit: u8,
    /// What was let go.
    pub base: Mark,
    /// The last entry.
    pub last: Mark,
}

/// The header of a segment.
#[derive(PartialEq, Eq, Hash)]
pub struct Header {
    /// Its own number: a header of an earlier life, or of another place, does not verify.
    pub segment: u8,
    /// The predecessor and where it ended.
    pub predecessor: Option<Position>,
    /// One row a group.
    pub table: Vec<Row>,
}

/// Half a block.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Written with zeros, once, before use.
    Zero,
    /// Rotten, or unreadable after a torn write.
    Bad,
    /// One unit of a batch.
    Part(Rc<Batch>, u8),
    /// A segment header.
    Head(Rc<Header>),
}

/// What the disk writes whole or not at all.
pub type Block = [Unit; BLOCK_UNITS as usize];

/// A block of zeros.
pub fn zeros() -> Block {
    [Unit::Zero, Unit::Zero]
}
