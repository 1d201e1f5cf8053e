//! An open file of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::faults::{Operation, Outcome};
use super::names::Number;
use super::state::{State, Verdict, cut_off, error_of, failed};
use crate::disk::{File, ReadSource};
use crate::sync::{Mutex, MutexGuard};
use crate::{AlignedBuffer, Error, Result};

#[derive(Debug)]
pub(super) struct SimulatedFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    number: Number,
    life: u64,
    writable: bool,
}

impl SimulatedFile {
    /// A handle to a file that exists.
    pub(super) fn new(
        shared: &Arc<Mutex<State>>,
        state: &mut State,
        path: &Path,
        number: Number,
        writable: bool,
    ) -> Self {
        *state.handles.entry(number).or_default() += 1;
        Self { state: Arc::clone(shared), path: path.to_owned(), number, life: state.life, writable }
    }

    /// Takes the lock, unless the handle died in a crash.
    fn living(&self, operation: Operation) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.life == self.life {
            Ok(state)
        } else {
            let dead = io::Error::other("the handle is of an earlier life of the simulated machine");
            Err(Error::io(operation.name(), &self.path, dead))
        }
    }

    fn writable(&self, operation: Operation) -> Result<MutexGuard<'_, State>> {
        if self.writable {
            self.living(operation)
        } else {
            Err(failed(operation, &self.path, io::ErrorKind::PermissionDenied))
        }
    }

    /// The checks of every read.
    fn begin_read(&self, operation: Operation, offset: u64, length: usize) -> Result<MutexGuard<'_, State>> {
        let mut state = self.living(operation)?;
        if let Verdict::Wrong(outcome) = state.begin(operation, &self.path)?
            && let Some(error) = error_of(&outcome, operation, &self.path)
        {
            return Err(error);
        }
        let size = state.inode(self.number).size();
        if offset.checked_add(length as u64).is_none_or(|end| end > size) {
            return Err(failed(operation, &self.path, io::ErrorKind::UnexpectedEof));
        }
        Ok(state)
    }
}

impl File for SimulatedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Result<u64> {
        Ok(self.living(Operation::Read)?.inode(self.number).size())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let state = self.begin_read(Operation::Read, offset, buffer.len())?;
        state.inode(self.number).read(offset, buffer);
        Ok(())
    }

    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)> {
        let state = self.begin_read(Operation::ReadPastCache, offset, length)?;
        let mut buffer = AlignedBuffer::zeroed(length);
        state.inode(self.number).read_device(offset, &mut buffer);
        Ok((buffer, ReadSource::Device))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.writable(Operation::Write)?;
        state.write(self.number, Operation::Write, &self.path, offset, bytes)
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.writable(Operation::WriteDurable)?;
        state.write(self.number, Operation::WriteDurable, &self.path, offset, bytes)
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.living(Operation::Sync)?;
        match state.begin(Operation::Sync, &self.path)? {
            Verdict::Done => state.inode_mut(self.number).sync(),
            Verdict::CutOff { .. } => return Err(cut_off(Operation::Sync, &self.path)),
            Verdict::Wrong(Outcome::Lost) => {}
            Verdict::Wrong(outcome) => {
                let mut rng = state.rng.fork();
                let Some(error) = error_of(&outcome, Operation::Sync, &self.path) else {
                    state.inode_mut(self.number).sync();
                    return Ok(());
                };
                state.inode_mut(self.number).sync_failing(&mut rng);
                return Err(error);
            }
        }
        Ok(())
    }

    fn allocate(&self, size: u64) -> Result<()> {
        let mut state = self.writable(Operation::Allocate)?;
        state.make_room(self.number, size, Operation::Allocate, &self.path)?;
        state.change(Operation::Allocate, &self.path, |state| {
            if size > state.inode(self.number).size() {
                state.inode_mut(self.number).set_size(size);
            }
            Ok(())
        })
    }

    fn set_size(&self, size: u64) -> Result<()> {
        let mut state = self.writable(Operation::SetSize)?;
        state.make_room(self.number, size, Operation::SetSize, &self.path)?;
        state.change(Operation::SetSize, &self.path, |state| {
            state.inode_mut(self.number).set_size(size);
            Ok(())
        })
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life != self.life {
            return;
        }
        let Some(handles) = state.handles.get_mut(&self.number) else { return };
        *handles -= 1;
        if *handles == 0 {
            state.handles.remove(&self.number);
        }
    }
}
