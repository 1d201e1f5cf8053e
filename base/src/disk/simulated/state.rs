//! Everything that a simulated disk knows, behind its one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

use super::faults::{Fault, Operation, Outcome};
use super::inode::{Inode, Survival};
use super::names::{Names, Node, Number, Place, ROOT};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::{Error, Result};

/// How a run ends before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The power goes: only what was durable is sure to stay.
    Power,
    /// The process is killed: the cache stays.
    Kill,
}

/// A write that was under way when its process was killed, and may land later.
#[derive(Clone, Debug)]
pub(super) struct LateWrite {
    file: Number,
    offset: u64,
    bytes: Vec<u8>,
}

/// What becomes of a call.
pub(super) enum Verdict {
    /// It is done as asked.
    Done,
    /// It is cut off by the end of the run, with its change made or not; the caller gets an error.
    CutOff {
        /// Whether the change is made, though nothing about it is durable.
        made: bool,
    },
    /// It goes wrong.
    Wrong(Outcome),
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<Number, Arc<Inode>>,
    pub(super) names: Names,
    pub(super) handles: BTreeMap<Number, u32>,
    pub(super) locks: BTreeSet<Number>,
    pub(super) late: Vec<LateWrite>,
    pub(super) rng: Rng,
    pub(super) operations: u64,
    pub(super) stop_at: Option<(u64, Stop)>,
    pub(super) stopped: Option<Stop>,
    pub(super) faults: Vec<Fault>,
    /// Calls that faults have struck, in their order.
    pub(super) struck: Vec<(Operation, PathBuf)>,
    pub(super) capacity: Option<u64>,
    /// Counts restarts: a handle of an earlier life is dead.
    pub(super) life: u64,
    /// The clock of the file system.
    pub(super) time_ms: u64,
    next: Number,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::default(),
            handles: BTreeMap::new(),
            locks: BTreeSet::new(),
            late: Vec::new(),
            rng: Rng::with_seed(seed),
            operations: 0,
            stop_at: None,
            stopped: None,
            faults: Vec::new(),
            struck: Vec::new(),
            capacity: None,
            life: 0,
            time_ms: 0,
            next: ROOT + 1,
        }
    }

    /// The same files, without the handles, locks, faults and counts of the present run.
    pub(super) fn copy(&self) -> Self {
        Self {
            inodes: self.inodes.clone(),
            names: self.names.clone(),
            late: self.late.clone(),
            rng: self.rng.clone(),
            stopped: self.stopped,
            capacity: self.capacity,
            time_ms: self.time_ms,
            next: self.next,
            ..Self::new(0)
        }
    }

    /// Every call begins here: it is refused after the end of the run, counted, and meets its faults.
    pub(super) fn begin(&mut self, operation: Operation, path: &Path) -> Result<Verdict> {
        if self.stopped.is_some() {
            return Err(cut_off(operation, path));
        }
        if operation.is_mutating() {
            self.operations += 1;
            if let Some((at, stop)) = self.stop_at
                && self.operations >= at
            {
                self.stopped = Some(stop);
                self.stop_at = None;
                // A change before a power cut is pending, and the cut decides; a killed process's last call was
                // finished or never begun.
                return Ok(Verdict::CutOff { made: stop == Stop::Power || self.rng.bool() });
            }
        }
        let mut verdict = Verdict::Done;
        for fault in &mut self.faults {
            match fault.strike(operation, path) {
                None => {}
                Some(Outcome::Slow(clock, time)) => clock.advance(time),
                Some(outcome) => {
                    self.struck.push((operation, path.to_owned()));
                    verdict = Verdict::Wrong(outcome);
                    break;
                }
            }
        }
        self.faults.retain(Fault::is_armed);
        Ok(verdict)
    }

    /// For calls that can only be done, cut off, or fail with an error: does `change` as the verdict says.
    pub(super) fn change(
        &mut self,
        operation: Operation,
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        match self.begin(operation, path)? {
            Verdict::Done => change(self),
            Verdict::CutOff { made } => {
                if made {
                    change(self)?;
                }
                Err(cut_off(operation, path))
            }
            Verdict::Wrong(outcome) => match error_of(&outcome, operation, path) {
                Some(error) => Err(error),
                None => change(self),
            },
        }
    }

    pub(super) fn number(&mut self) -> Number {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn inode(&self, file: Number) -> &Inode {
        self.inodes.get(&file).expect("a file stays while a handle or a name leads to it")
    }

    pub(super) fn inode_mut(&mut self, file: Number) -> &mut Inode {
        Arc::make_mut(self.inodes.entry(file).or_default())
    }

    /// Refuses to grow a file beyond the disk's room.
    pub(super) fn make_room(&self, file: Number, size: u64, operation: Operation, path: &Path) -> Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let present = self.inode(file).size();
        if size <= present {
            return Ok(());
        }
        let blocks = |bytes: u64| bytes.next_multiple_of(BLOCK_BYTES as u64);
        if self.used() - blocks(present) + blocks(size) > capacity {
            return Err(Error::DiskFull { operation: operation.name(), path: path.to_owned() });
        }
        Ok(())
    }

    /// Bytes in use, in whole blocks; a removed file counts until its last handle is gone.
    pub(super) fn used(&self) -> u64 {
        let named = self
            .inodes
            .iter()
            .filter(|(number, _)| self.handles.contains_key(number) || self.names.is_named(**number));
        named.map(|(_, inode)| inode.size().next_multiple_of(BLOCK_BYTES as u64)).sum()
    }

    /// One write, durable or not, with everything that can befall it.
    pub(super) fn write(
        &mut self,
        file: Number,
        operation: Operation,
        path: &Path,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let durable = operation == Operation::WriteDurable;
        if self.stopped == Some(Stop::Kill) {
            self.late.push(LateWrite { file, offset, bytes: bytes.to_vec() });
        }
        let verdict = self.begin(operation, path)?;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end < 1 << 40);
        let Some(end) = end else {
            return Err(Error::io(operation.name(), path, io::ErrorKind::FileTooLarge.into()));
        };
        self.make_room(file, end, operation, path)?;
        self.inode_mut(file).modified_ms = self.time_ms;
        match verdict {
            Verdict::Done if durable => self.inode_mut(file).write_durable(offset, bytes),
            Verdict::Done => self.inode_mut(file).write(offset, bytes),
            Verdict::CutOff { .. } => {
                if self.stopped == Some(Stop::Kill) {
                    self.late.push(LateWrite { file, offset, bytes: bytes.to_vec() });
                } else {
                    self.inode_mut(file).write(offset, bytes);
                }
                return Err(cut_off(operation, path));
            }
            Verdict::Wrong(Outcome::Lost) => self.inode_mut(file).write_lost(offset, bytes, durable),
            Verdict::Wrong(Outcome::Misdirected(by)) => {
                let inode = self.inode_mut(file);
                inode.write_lost(offset, bytes, durable);
                if let Some(wrong) = offset.checked_add_signed(by)
                    && wrong + bytes.len() as u64 <= inode.size()
                {
                    inode.write_durable(wrong, bytes);
                }
            }
            Verdict::Wrong(Outcome::FlippedBit) => {
                let mut flipped = bytes.to_vec();
                if !flipped.is_empty() {
                    let at = self.rng.usize(..flipped.len());
                    flipped[at] ^= 1 << self.rng.u8(..8);
                }
                let inode = self.inode_mut(file);
                if durable { inode.write_durable(offset, &flipped) } else { inode.write(offset, &flipped) }
            }
            Verdict::Wrong(outcome) => {
                if matches!(outcome, Outcome::Io) {
                    let mut rng = self.rng.fork();
                    let inode = self.inode_mut(file);
                    if durable {
                        inode.write_durable_failing(offset, bytes, &mut rng);
                    } else {
                        // A write into the cache stops somewhere.
                        inode.write(offset, &bytes[..rng.usize(..=bytes.len())]);
                    }
                }
                return error_of(&outcome, operation, path).map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    /// A power cut, and power again.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let survival = Survival::draw(rng);
        self.names.crash(survival, rng);
        let survival = Survival::draw(rng);
        for inode in self.inodes.values_mut() {
            if !inode.is_settled() {
                Arc::make_mut(inode).crash(survival, rng);
            }
        }
        // What was on its way from a killed process did not outlive the power.
        self.late.clear();
        self.begin_life();
    }

    /// Ends every handle and lock and begins anew.
    pub(super) fn begin_life(&mut self) {
        self.life += 1;
        self.handles.clear();
        self.locks.clear();
        self.stopped = None;
        self.stop_at = None;
        self.collect();
    }

    /// Lets late writes land, each sector or not. They go to the device without asking anybody.
    pub(super) fn land(&mut self, rng: &mut Rng) -> usize {
        let survival = Survival::draw(rng);
        let mut landed = 0;
        for late in std::mem::take(&mut self.late) {
            if !self.inodes.contains_key(&late.file) {
                continue;
            }
            let mut at = 0;
            while at < late.bytes.len() {
                let place = late.offset + at as u64;
                let inside = usize::try_from(place % SECTOR_BYTES as u64).expect("inside a sector");
                let count = (SECTOR_BYTES - inside).min(late.bytes.len() - at);
                if survival.survives(rng) {
                    self.inode_mut(late.file).write_durable(place, &late.bytes[at..at + count]);
                    landed += count;
                }
                at += count;
            }
        }
        landed
    }

    pub(super) fn late_bytes(&self) -> usize {
        self.late.iter().map(|late| late.bytes.len()).sum()
    }

    /// Forgets files that no name and no handle leads to.
    pub(super) fn collect(&mut self) {
        let named = self.names.reachable_files();
        let handles = &self.handles;
        self.inodes.retain(|number, _| named.contains(number) || handles.contains_key(number));
    }

    /// The place and number of the file that a path leads to.
    pub(super) fn file(&self, operation: Operation, path: &Path) -> Result<(Place, Number)> {
        let found = self.names.place(path).and_then(|place| Some((self.names.at(&place)?, place)));
        match found {
            Some((Node::File(number), place)) => Ok((place, number)),
            Some((Node::Dir(_), _)) => Err(failed(operation, path, io::ErrorKind::IsADirectory)),
            None if self.names.find(path).is_some() => {
                Err(failed(operation, path, io::ErrorKind::IsADirectory))
            }
            None => Err(failed(operation, path, io::ErrorKind::NotFound)),
        }
    }

    /// Where a new name can be put.
    pub(super) fn new_place(&self, operation: Operation, path: &Path) -> Result<Place> {
        let Some(place) = self.names.place(path) else {
            return Err(failed(operation, path, io::ErrorKind::NotFound));
        };
        match self.names.at(&place) {
            Some(_) => Err(failed(operation, path, io::ErrorKind::AlreadyExists)),
            None => Ok(place),
        }
    }

    /// The file that a tester named.
    pub(super) fn file_of_tester(&self, path: &Path) -> Number {
        match self.names.find(path) {
            Some(Node::File(number)) => number,
            other => panic!("{} is no file: {other:?}", path.display()),
        }
    }

    /// The number of the directory that a path leads to.
    pub(super) fn directory(&self, operation: Operation, path: &Path) -> Result<Number> {
        match self.names.find(path) {
            Some(Node::Dir(number)) => Ok(number),
            Some(Node::File(_)) => Err(failed(operation, path, io::ErrorKind::NotADirectory)),
            None => Err(failed(operation, path, io::ErrorKind::NotFound)),
        }
    }
}

/// The error of a call, by its kind.
pub(super) fn failed(operation: Operation, path: &Path, kind: io::ErrorKind) -> Error {
    Error::io(operation.name(), path, kind.into())
}

/// The error of a call that the end of the run cut off.
pub(super) fn cut_off(operation: Operation, path: &Path) -> Error {
    Error::io(operation.name(), path, io::Error::other("the simulated machine stopped"))
}

/// The error that an outcome is told by; `None` for those that are silent.
pub(super) fn error_of(outcome: &Outcome, operation: Operation, path: &Path) -> Option<Error> {
    const EIO: i32 = 5;
    match outcome {
        Outcome::Io => Some(Error::io(operation.name(), path, io::Error::from_raw_os_error(EIO))),
        Outcome::DiskFull => Some(Error::DiskFull { operation: operation.name(), path: path.to_owned() }),
        Outcome::Lost | Outcome::Misdirected(_) | Outcome::FlippedBit | Outcome::Slow(..) => None,
    }
}
