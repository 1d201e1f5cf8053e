//! A disk in memory that forgets, tears, reorders, loses and misplaces, as real ones do: every crash test rests on it.
//!
//! It keeps three things apart: what a running process sees (the page cache), what the device holds, and what was
//! changed in between: sectors of 512 bytes, file sizes and directory entries, each on its own.
//!
//! | what happens | what it does |
//! |---|---|
//! | [`crash`] | power cut: each sector that was not synced is one of its versions since, or the old one |
//! | | sizes, creations, removals and renames are kept or lost one by one; handles die, locks are free |
//! | [`kill_process`] | the cache survives; handles die, locks are free |
//! | [`crash_at`], [`kill_at`] | the n-th changing call from now is cut off |
//! | | and every call fails until [`crash`], [`kill_process`] or [`restart`] |
//! | [`land_late_writes`] | writes that a killed process had under way reach the device now |
//! | [`set_fault`] | a call fails, or lies: see [`Fault`] |
//! | a failed sync | each unsynced sector is stored or not; later syncs succeed |
//! | | the cache still shows the new bytes, and [`File::read_past_cache`] the truth |
//!
//! [`crash`]: SimulatedDisk::crash
//! [`kill_process`]: SimulatedDisk::kill_process
//! [`crash_at`]: SimulatedDisk::crash_at
//! [`kill_at`]: SimulatedDisk::kill_at
//! [`restart`]: SimulatedDisk::restart
//! [`land_late_writes`]: SimulatedDisk::land_late_writes
//! [`set_fault`]: SimulatedDisk::set_fault
//!
//! Rules:
//! 1. [`File::write_durable`] makes its own sectors durable and no other.
//! 2. A rename is whole: after a power cut there is the old state or the new one.
//! 3. A name is durable only after [`Disk::sync_dir`], whatever was synced in the file.
//! 4. The same seed and the same calls from one thread give the same bytes.
//!
//! Paths begin at one root, which exists; `.` and `/` are both the root.
//!
//! ```
//! use logwood_base::disk::{Disk, File, SimulatedDisk};
//! use std::path::Path;
//! let disk = SimulatedDisk::new(1);
//! let file = disk.create(Path::new("a"))?;
//! file.write_durable(0, b"kept")?;
//! disk.sync_dir(Path::new("."))?;
//! file.write_at(4, b" or not")?;
//! disk.crash(&mut fastrand::Rng::with_seed(2));
//! assert_eq!(&disk.read_file(Path::new("a")).unwrap()[..4], b"kept");
//! # Ok::<(), logwood_base::Error>(())
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

use super::{Access, DirEntry, DirLock, Disk, DiskDescription, File};
use crate::sync::Mutex;
use crate::{Error, Result};

mod content;
mod faults;
mod file;
mod inode;
mod names;
mod state;

pub use faults::{Fault, Operation, Outcome};
use file::SimulatedFile;
use names::{Node, Number, ROOT};
use state::{State, Stop, failed};

/// A disk in memory. Clones share it; [`SimulatedDisk::snapshot`] copies it.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// Holds a simulated directory's lock.
#[derive(Debug)]
struct SimulatedLock {
    state: Arc<Mutex<State>>,
    directory: Number,
    life: u64,
}

impl SimulatedDisk {
    /// An empty disk. The seed steers what faults leave behind; power cuts are steered by their own argument.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// Sets the clock of the file system, in milliseconds since 1970: it stands still until it is set again.
    pub fn set_time_ms(&self, time_ms: u64) {
        self.state.lock().time_ms = time_ms;
    }

    /// Cuts the power and gives it back: what was not durable is kept or lost by `rng`.
    pub fn crash(&self, rng: &mut Rng) {
        self.state.lock().crash(rng);
    }

    /// Kills the process: the cache survives; handles and locks do not. Writes that were under way when
    /// [`kill_at`](Self::kill_at) struck wait for [`land_late_writes`](Self::land_late_writes).
    ///
    /// # Panics
    /// When the power is off: only [`crash`](Self::crash) can follow.
    pub fn kill_process(&self) {
        let mut state = self.state.lock();
        assert_ne!(state.stopped, Some(Stop::Power), "the power is off: crash, not kill");
        state.begin_life();
    }

    /// Goes on after [`crash_at`](Self::crash_at) or [`kill_at`](Self::kill_at) struck: settles a power cut by the
    /// disk's own seed, or starts the next process. Without either it kills the process.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        if state.stopped == Some(Stop::Power) {
            let mut rng = state.rng.fork();
            state.crash(&mut rng);
        } else {
            state.begin_life();
        }
    }

    /// Cuts the power in the n-th changing call from now (1 is the next): it and all later calls fail with `Io` until
    /// [`crash`](Self::crash) or [`restart`](Self::restart).
    ///
    /// Every way in which a piece of work can be cut off:
    ///
    /// ```
    /// use logwood_base::disk::{Disk, File, SimulatedDisk};
    /// let work = |disk: &SimulatedDisk| {
    ///     let file = disk.create("new".as_ref())?;
    ///     file.write_at(0, b"content")?;
    ///     file.sync()?;
    ///     disk.rename("new".as_ref(), "name".as_ref())?;
    ///     disk.sync_dir(".".as_ref())
    /// };
    /// for n in 1.. {
    ///     let disk = SimulatedDisk::new(n);
    ///     disk.crash_at(n);
    ///     let done = work(&disk).is_ok();
    ///     disk.cancel_stop();
    ///     disk.crash(&mut fastrand::Rng::with_seed(n));
    ///     let content = disk.read_file("name".as_ref());
    ///     assert!(content.as_deref().is_none_or(|content| content == b"content"), "whole, or not there");
    ///     if done {
    ///         assert!(content.is_some());
    ///         break;
    ///     }
    /// }
    /// # Ok::<(), logwood_base::Error>(())
    /// ```
    pub fn crash_at(&self, n: u64) {
        let mut state = self.state.lock();
        state.stop_at = Some((state.operations + n.max(1), Stop::Power));
    }

    /// Kills the process in the n-th changing call from now. That call, if it is a write, and every write tried after
    /// it, is held back for [`land_late_writes`](Self::land_late_writes).
    pub fn kill_at(&self, n: u64) {
        let mut state = self.state.lock();
        state.stop_at = Some((state.operations + n.max(1), Stop::Kill));
    }

    /// Takes back [`crash_at`](Self::crash_at) or [`kill_at`](Self::kill_at) if it has not struck.
    pub fn cancel_stop(&self) {
        self.state.lock().stop_at = None;
    }

    /// Whether [`crash_at`](Self::crash_at) or [`kill_at`](Self::kill_at) has struck and nothing was restarted since.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped.is_some()
    }

    /// Lets the writes of a killed process reach the device, each sector or not. Answers how many bytes did.
    pub fn land_late_writes(&self, rng: &mut Rng) -> usize {
        self.state.lock().land(rng)
    }

    /// How many bytes of a killed process's writes may still land.
    #[must_use]
    pub fn late_bytes(&self) -> usize {
        self.state.lock().late_bytes()
    }

    /// A copy to try another future on: the same files and unsynced changes; no handles, locks or faults. Cheap.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().copy())) }
    }

    /// Arms a fault, beside those that are armed already.
    pub fn set_fault(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Which calls faults have made go wrong since the disk was made, oldest first; those that were only slow are not
    /// among them. A test that strikes the n-th call of a run for every n has come to the end when there is none.
    #[must_use]
    pub fn struck(&self) -> Vec<(Operation, PathBuf)> {
        self.state.lock().struck.clone()
    }

    /// Bounds the room, in bytes of whole blocks; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The room in use: the sizes of all files, in whole blocks.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used()
    }

    /// How many changing calls there were: creations, removals, renames, links, writes, syncs, allocations, resizings.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// What a process would read from the whole file; `None` when there is none.
    ///
    /// # Panics
    /// When the file does not fit in memory.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let Some(Node::File(number)) = state.names.find(path) else { return None };
        let inode = state.inode(number);
        let mut bytes = vec![0; usize::try_from(inode.size()).expect("a simulated file fits in memory")];
        inode.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts a file there, durably, with its directories, replacing what was there.
    ///
    /// # Panics
    /// When a file stands where a directory is needed, or the other way round.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.lock();
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
            if state.names.find(directory).is_none() {
                let number = state.number();
                let place = state.names.place(directory).expect("the parent was made before");
                state.names.put(place, Node::Dir(number));
            }
        }
        let place = state.names.place(path).expect("a path to a file");
        let number = match state.names.at(&place) {
            Some(Node::File(number)) => number,
            Some(Node::Dir(_)) => panic!("{} is a directory", path.display()),
            None => state.number(),
        };
        state.names.put(place, Node::File(number));
        state.inode_mut(number).put(bytes);
    }

    /// Flips the bits of `mask` in one byte at rest.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state.lock();
        let number = state.file_of_tester(path);
        assert!(offset < state.inode(number).size(), "{} has no byte {offset}", path.display());
        state.inode_mut(number).flip(offset, mask);
    }

    /// Cuts or lengthens a file, durably, together with whatever else was pending in it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: &Path, size: u64) {
        let mut state = self.state.lock();
        let number = state.file_of_tester(path);
        state.inode_mut(number).cut(size);
    }

    /// Removes a file, durably. Answers whether there was one.
    pub fn remove_file(&self, path: &Path) -> bool {
        let mut state = self.state.lock();
        let Some(place) = state.names.place(path) else { return false };
        let found = matches!(state.names.at(&place), Some(Node::File(_)));
        if found {
            state.names.forget(&place);
            state.collect();
        }
        found
    }

    /// Every file, by its path from the root (with a leading `/`), sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let mut paths = Vec::new();
        let mut open = vec![(ROOT, PathBuf::from("/"))];
        while let Some((directory, path)) = open.pop() {
            for (name, node) in state.names.entries(directory) {
                match node {
                    Node::Dir(number) => open.push((*number, path.join(name))),
                    Node::File(_) => paths.push(path.join(name)),
                }
            }
        }
        paths.sort_unstable();
        paths
    }

    /// Whether everything is durable: a power cut now would change nothing.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.names.is_settled() && state.inodes.values().all(|inode| inode.is_settled())
    }

    fn handle(&self, state: &mut State, path: &Path, number: Number, writable: bool) -> Arc<dyn File> {
        Arc::new(SimulatedFile::new(&self.state, state, path, number, writable))
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        let mut created = 0;
        state.change(Operation::Create, path, |state| {
            let place = state.new_place(Operation::Create, path)?;
            created = state.number();
            state.inode_mut(created).modified_ms = state.time_ms;
            state.names.add(place, Node::File(created));
            Ok(())
        })?;
        Ok(self.handle(&mut state, path, created, true))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.change(Operation::Open, path, |_| Ok(()))?;
        let (_, number) = state.file(Operation::Open, path)?;
        Ok(self.handle(&mut state, path, number, access == Access::ReadWrite))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.state.lock().change(Operation::Remove, path, |state| {
            let (place, number) = state.file(Operation::Remove, path)?;
            state.names.remove(place, Node::File(number));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.state.lock().change(Operation::Rename, from, |state| {
            let (from_place, number) = state.file(Operation::Rename, from)?;
            let Some(to_place) = state.names.place(to) else {
                return Err(failed(Operation::Rename, to, io::ErrorKind::NotFound));
            };
            match state.names.at(&to_place) {
                Some(Node::Dir(_)) => Err(failed(Operation::Rename, to, io::ErrorKind::IsADirectory)),
                // Two names of one file: the system does nothing at all.
                Some(Node::File(found)) if found == number => Ok(()),
                _ => {
                    state.names.rename(from_place, to_place, Node::File(number));
                    Ok(())
                }
            }
        })
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.state.lock().change(Operation::Link, from, |state| {
            let (_, number) = state.file(Operation::Link, from)?;
            let place = state.new_place(Operation::Link, to)?;
            state.names.add(place, Node::File(number));
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.state.lock().change(Operation::CreateDir, path, |state| match state.names.find(path) {
            Some(Node::Dir(_)) => Ok(()),
            Some(Node::File(_)) => Err(failed(Operation::CreateDir, path, io::ErrorKind::NotADirectory)),
            None => {
                let place = state.new_place(Operation::CreateDir, path)?;
                let number = state.number();
                state.names.add(place, Node::Dir(number));
                Ok(())
            }
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.state.lock().change(Operation::RemoveDir, path, |state| {
            let number = state.directory(Operation::RemoveDir, path)?;
            if number == ROOT || state.names.entries(number).next().is_some() {
                return Err(failed(Operation::RemoveDir, path, io::ErrorKind::DirectoryNotEmpty));
            }
            let place = state.names.place(path).expect("a directory that is not the root has a place");
            state.names.remove(place, Node::Dir(number));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        state.change(Operation::List, path, |_| Ok(()))?;
        let directory = state.directory(Operation::List, path)?;
        let entry = |(name, node): (&String, &Node)| match node {
            Node::Dir(_) => DirEntry { name: name.clone(), is_dir: true, bytes: 0 },
            Node::File(number) => {
                DirEntry { name: name.clone(), is_dir: false, bytes: state.inode(*number).size() }
            }
        };
        Ok(state.names.entries(directory).map(entry).collect())
    }

    fn modified_ms(&self, path: &Path) -> Result<u64> {
        let mut state = self.state.lock();
        state.change(Operation::Open, path, |_| Ok(()))?;
        let (_, number) = state.file(Operation::Open, path)?;
        Ok(state.inode(number).modified_ms)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        let directory = state.directory(Operation::SyncDir, path);
        match state.begin(Operation::SyncDir, path)? {
            state::Verdict::CutOff { .. } => return Err(state::cut_off(Operation::SyncDir, path)),
            state::Verdict::Wrong(Outcome::Lost) => return directory.map(|_| ()),
            state::Verdict::Wrong(outcome) => {
                if let Some(error) = state::error_of(&outcome, Operation::SyncDir, path) {
                    return Err(error);
                }
            }
            state::Verdict::Done => {}
        }
        let directory = directory?;
        state.names.sync(directory);
        state.collect();
        Ok(())
    }

    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>> {
        let mut state = self.state.lock();
        if state.stopped.is_some() {
            return Err(state::cut_off(Operation::Open, directory));
        }
        let number = state.directory(Operation::Open, directory)?;
        if !state.locks.insert(number) {
            return Err(Error::AlreadyOpen { path: directory.to_owned() });
        }
        // The real disk leaves a file, and so does this one.
        let place = names::Place { dir: number, name: "LOCK".to_owned() };
        if state.names.at(&place).is_none() {
            let file = state.number();
            state.inodes.insert(file, Arc::default());
            state.names.add(place, Node::File(file));
        }
        Ok(Box::new(SimulatedLock { state: Arc::clone(&self.state), directory: number, life: state.life }))
    }

    fn describe(&self) -> DiskDescription {
        DiskDescription { backend: "simulated", durable_write: "simulated", direct_reads: true }
    }
}

impl DirLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.directory);
        }
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("paths", &self.paths()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
