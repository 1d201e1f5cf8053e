//! What can be made to go wrong on a simulated disk.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::ManualClock;

/// A kind of call that a fault waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `create`.
    Create,
    /// `open`.
    Open,
    /// `remove`.
    Remove,
    /// `rename`.
    Rename,
    /// `link`.
    Link,
    /// `create_dir`.
    CreateDir,
    /// `remove_dir`.
    RemoveDir,
    /// `list`.
    List,
    /// `sync_dir`.
    SyncDir,
    /// `read_at`, and each request of `read_many`.
    Read,
    /// `read_past_cache`.
    ReadPastCache,
    /// `write_at`.
    Write,
    /// `write_durable`.
    WriteDurable,
    /// `sync`.
    Sync,
    /// `allocate`.
    Allocate,
    /// `set_size`.
    SetSize,
}

impl Operation {
    /// Both ways of writing.
    pub const WRITES: &'static [Self] = &[Self::Write, Self::WriteDurable];
    /// All ways of reading a file.
    pub const READS: &'static [Self] = &[Self::Read, Self::ReadPastCache];
    /// Whatever may need room.
    pub const GROWING: &'static [Self] =
        &[Self::Create, Self::CreateDir, Self::Write, Self::WriteDurable, Self::Allocate, Self::SetSize];

    /// Whether it changes something, or makes a change durable.
    pub(super) fn is_mutating(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::Read | Self::ReadPastCache)
    }

    /// As errors name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::CreateDir => "create_dir",
            Self::RemoveDir => "remove_dir",
            Self::List => "list",
            Self::SyncDir => "sync_dir",
            Self::Read | Self::ReadPastCache => "read",
            Self::Write | Self::WriteDurable => "write",
            Self::Sync => "sync",
            Self::Allocate => "allocate",
            Self::SetSize => "set_size",
        }
    }
}

/// What goes wrong.
#[derive(Clone)]
pub enum Outcome {
    /// The device fails: EIO. A failed sync or durable write stores a random part, and the cache hides it.
    Io,
    /// No room: ENOSPC. Nothing is written.
    DiskFull,
    /// A write is acknowledged and never stored; a sync is acknowledged and does nothing.
    Lost,
    /// A write is acknowledged and stored this many bytes from where it belongs, in the same file. Behind the file's
    /// ends it is merely lost.
    Misdirected(i64),
    /// A write is acknowledged and one bit of it stored wrong.
    FlippedBit,
    /// The call takes so long by this clock, then goes on.
    Slow(Arc<ManualClock>, Duration),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io => f.write_str("Io"),
            Self::DiskFull => f.write_str("DiskFull"),
            Self::Lost => f.write_str("Lost"),
            Self::Misdirected(by) => write!(f, "Misdirected({by})"),
            Self::FlippedBit => f.write_str("FlippedBit"),
            Self::Slow(_, time) => write!(f, "Slow({time:?})"),
        }
    }
}

/// Something that will go wrong. Armed by [`SimulatedDisk::set_fault`](super::SimulatedDisk::set_fault).
///
/// ```
/// use logwood_base::disk::simulated::{Fault, Operation, Outcome};
/// use logwood_base::disk::{Disk, File, SimulatedDisk};
/// let disk = SimulatedDisk::new(1);
/// disk.create_dir("log".as_ref())?;
/// let file = disk.create("log/1".as_ref())?;
/// // The second sync of a log file from now fails, once.
/// disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io).nth(2).on("log/"));
/// file.sync()?;
/// assert!(file.sync().is_err());
/// file.sync()?;
/// // From now on the disk is full.
/// disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).for_ever());
/// assert!(file.allocate(1 << 20).is_err());
/// # Ok::<(), logwood_base::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    operations: Vec<Operation>,
    outcome: Outcome,
    path: Option<String>,
    /// Matching calls that still pass before it strikes.
    passes: u64,
    /// How many calls it strikes.
    strikes: u64,
}

impl Fault {
    /// The next call of one of these kinds goes wrong, once.
    #[must_use]
    pub fn new(operations: &[Operation], outcome: Outcome) -> Self {
        Self { operations: operations.to_vec(), outcome, path: None, passes: 0, strikes: 1 }
    }

    /// The n-th such call from now; 1 is the next.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.passes = n.saturating_sub(1);
        self
    }

    /// That call and every later one.
    #[must_use]
    pub fn for_ever(mut self) -> Self {
        self.strikes = u64::MAX;
        self
    }

    /// That call and the next ones, `times` altogether.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.strikes = times;
        self
    }

    /// Only calls on paths that contain this.
    #[must_use]
    pub fn on(mut self, part_of_path: &str) -> Self {
        self.path = Some(part_of_path.to_owned());
        self
    }

    /// Counts a call. Answers what goes wrong with it.
    pub(super) fn strike(&mut self, operation: Operation, path: &Path) -> Option<Outcome> {
        let matches = self.operations.contains(&operation)
            && self.path.as_ref().is_none_or(|part| path.to_string_lossy().contains(part.as_str()));
        if !matches || self.strikes == 0 {
            return None;
        }
        if self.passes > 0 {
            self.passes -= 1;
            return None;
        }
        if self.strikes != u64::MAX {
            self.strikes -= 1;
        }
        Some(self.outcome.clone())
    }

    /// Whether it can still strike.
    pub(super) fn is_armed(&self) -> bool {
        self.strikes > 0
    }
}
