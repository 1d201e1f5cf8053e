//! One state of the modelled world, and the bounds of an exploration.

use std::rc::Rc;

use super::bytes::{Mark, Position};
use super::disk::Disk;
use super::group::Group;
use super::mutation::Mutation;
use super::promise::Promise;

/// How often each thing may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Budget {
    /// Durable appends of one unit.
    pub appends: u8,
    /// Durable appends of three units, which can be torn.
    pub long_appends: u8,
    /// Buffered appends, and full syncs of them.
    pub buffered: u8,
    /// Appends that override the last entry, or the last two, in a higher term.
    pub overrides: u8,
    /// Idle seals.
    pub seals: u8,
    /// Votes.
    pub votes: u8,
    /// Bases at the last committed entry.
    pub bases: u8,
    /// Bases of a snapshot that the log did not hold.
    pub jumps: u8,
    /// Copies of a group's entries out of the oldest segment.
    pub copies: u8,
    /// Removals of the oldest segment.
    pub purges: u8,
    /// New segments while running.
    pub rolls: u8,
    /// Power cuts.
    pub cuts: u8,
    /// Process kills.
    pub kills: u8,
    /// Failed syncs.
    pub failures: u8,
    /// Rotten blocks.
    pub rots: u8,
    /// Writes acknowledged by the disk and lost.
    pub lost: u8,
    /// Writes acknowledged by the disk that went elsewhere.
    pub misdirected: u8,
    /// Files that vanish.
    pub vanished: u8,
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Groups in the log.
    pub groups: u8,
    /// Blocks of a segment, the header's included.
    pub blocks: u8,
    /// W: batches in flight at once.
    pub window: u8,
    /// Whether an open can wait until no write of an earlier process can land.
    pub waits: bool,
    /// Whether a new segment may be an old one, recycled.
    pub recycles: bool,
    /// Whether commit is a step of its own: a replicated group. Otherwise what is durable is committed.
    pub commits: bool,
    /// Whether clients write other bytes after each open. Otherwise they retry the same.
    pub fresh_payloads: bool,
    /// Whether damage is healed. Otherwise the log is refused.
    pub heals: bool,
    /// How often what may happen.
    pub budget: Budget,
}

/// What a write in flight is, for what follows from its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "each sentence names the fields")]
pub enum Carries {
    /// An entry.
    Entry { group: u8, lsn: u8 },
    /// A vote.
    Vote { group: u8 },
    /// A copy.
    Copy,
    /// A base.
    Base,
    /// A segment header.
    Header,
    /// A seal.
    Seal,
}

/// A batch submitted and not yet acknowledged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    /// Its number.
    pub id: u8,
    /// Where it ends.
    pub end: Position,
    /// Whether it waits in the page cache for a full sync.
    pub buffered: bool,
    /// Whether the disk has acknowledged it.
    pub done: bool,
    /// What it is.
    pub carries: Carries,
    /// How much was acknowledged when it was submitted.
    pub stands_on: u8,
}

/// How far a roll to the next segment is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Roll {
    /// None under way.
    #[default]
    None,
    /// The file is there.
    Created(u8),
    /// Its name is durable.
    Named(u8),
    /// The closing seal was submitted.
    Sealed(u8),
}

/// What an open is about to do.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Number of the segment it begins.
    pub number: u8,
    /// What its header will name.
    pub predecessor: Option<Position>,
    /// What it will serve.
    pub groups: Rc<Vec<Group>>,
    /// The segments before it.
    pub chain: Vec<u8>,
    /// Whether it heals: copies everything, then removes the older segments.
    pub heals: bool,
}

/// Where a process is in its life.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// No process.
    Dead,
    /// Recovery has read the log and removed what is not of it; the removal is not durable.
    Cleaned(Plan),
    /// The new segment's file is created.
    Created(Plan),
    /// Its header, and what healing copies, are in flight.
    Written(Plan),
    /// The seal behind the predecessor's end, which names the new segment, is in flight.
    Pointed(Plan),
    /// What is not of the log is removed; the removal is not durable.
    Cleared(Plan),
    /// Healing has removed the older segments; the removal is not durable.
    Removed(Plan),
    /// Open.
    #[default]
    Serving,
    /// The log was reported as damaged and is not opened.
    Refused,
}

/// The process, what it has in memory.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Process {
    /// Where it is.
    pub phase: Phase,
    /// The groups, with what is in flight.
    pub groups: Vec<Group>,
    /// The segment it writes to.
    pub segment: u8,
    /// Where the next batch may begin.
    pub next: u8,
    /// Checksum of the last one.
    pub previous: u64,
    /// Whether the next one must begin a fresh block: a sync was submitted since the last.
    pub fresh: bool,
    /// Submitted and not acknowledged, in order.
    pub flights: Vec<Flight>,
    /// The number of the next flight.
    pub next_flight: u8,
    /// Everything before is synced.
    pub synced: Position,
    /// A roll under way.
    pub roll: Roll,
    /// The segments of the log, ascending.
    pub chain: Vec<u8>,
}

/// Which fault has happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// One write or one block.
    Block,
    /// A write that hit another block: two blocks are wrong.
    Elsewhere,
    /// A whole file.
    File,
}

/// A state.
#[derive(Clone, Hash)]
pub struct State {
    /// The disk.
    pub disk: Disk,
    /// The process.
    pub process: Process,
    /// What was promised.
    pub promise: Promise,
    /// What each group has committed, for good: a new leader never replaces it.
    pub committed: Vec<u8>,
    /// A fault has happened.
    pub fault: Option<Fault>,
    /// Stands for the bytes that clients write now.
    pub payload: u8,
    /// What may still happen.
    pub budget: Budget,
}

/// The world of one exploration.
#[derive(Clone, Debug)]
pub struct LogWorld {
    /// Its bounds.
    pub bounds: Bounds,
    /// The rule left out.
    pub mutation: Mutation,
}

impl Budget {
    /// Whether any fault of the disk can happen or has happened.
    pub fn faults(&self) -> bool {
        self.rots + self.lost + self.misdirected + self.vanished > 0
    }
}

impl LogWorld {
    /// Whether this exploration leaves out `rule`.
    pub fn without(&self, rule: Mutation) -> bool {
        self.mutation == rule
    }
}

impl Process {
    /// The last committed entry of a group, where its term is known.
    pub fn committed(&self, group: u8) -> Option<Mark> {
        let group = &self.groups[usize::from(group)];
        Some(Mark { lsn: group.commit, term: group.term(group.commit)? })
    }
}
