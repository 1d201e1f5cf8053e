//! One io_uring, and the only unsafe code of the disk.
//!
//! The kernel writes only into buffers that the ring itself owns; the bytes are copied out when a read is complete.
//! So nothing that a caller does, and no early return, can leave the kernel writing into memory that was given to
//! somebody else. A copy of 8 KiB costs less than a hundredth of the device's answer.
//!
//! Invariants:
//! 1. A slot's buffer is neither touched, moved nor freed while a read into it is in flight: `Slot::Flying`.
//! 2. A ring that is dropped while reads are in flight leaks the buffers of those reads.
#![allow(unsafe_code, reason = "submitting an entry promises the kernel that its buffer stays valid")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{IoUring, Probe, opcode, types};

use crate::disk::ReadRequest;

/// Reads in flight at most.
const DEPTH: usize = 32;

/// Longest single read; longer requests are cut.
const SLOT_BYTES: usize = 32 << 10;

/// Part of a request.
#[derive(Clone, Copy)]
struct Piece {
    request: usize,
    /// Where in the request's buffer.
    start: usize,
    length: usize,
}

enum Slot {
    Free(Box<[u8]>),
    Flying(Box<[u8]>, Piece),
}

pub(super) struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    in_flight: usize,
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let uring = IoUring::new(u32::try_from(DEPTH).expect("a small number"))?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { uring, slots: Vec::new(), in_flight: 0 })
    }

    /// Whether no read is in flight: only then can it be used again.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Fills every request's buffer from the file.
    pub(super) fn read_many(&mut self, file: &OwnedFd, requests: &mut [ReadRequest<'_>]) -> io::Result<()> {
        let mut waiting: VecDeque<Piece> = VecDeque::new();
        for (request, asked) in requests.iter().enumerate() {
            let starts = (0..asked.buffer.len()).step_by(SLOT_BYTES);
            waiting.extend(starts.map(|start| {
                let length = (asked.buffer.len() - start).min(SLOT_BYTES);
                Piece { request, start, length }
            }));
        }
        let mut answer = Ok(());
        // After an error nothing more is begun, but what is in flight is waited for.
        while self.in_flight > 0 || (answer.is_ok() && !waiting.is_empty()) {
            while answer.is_ok()
                && self.in_flight < DEPTH
                && let Some(piece) = waiting.pop_front()
            {
                let offset = requests[piece.request].offset.checked_add(piece.start as u64);
                let begun = offset.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
                if let Err(error) = begun.and_then(|offset| self.begin(file, piece, offset)) {
                    answer = Err(error);
                }
            }
            if self.in_flight == 0 {
                break;
            }
            match self.uring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel is short of something for the moment; what has completed is reaped below.
                Err(error) if error.raw_os_error().is_some_and(is_passing) => std::thread::yield_now(),
                // The ring is broken. It is not idle, so it is dropped, and its buffers are leaked.
                Err(error) => return Err(error),
            }
            let completed: Vec<_> = self.uring.completion().collect();
            for entry in completed {
                match self.finish(entry.user_data(), entry.result(), requests) {
                    Ok(Some(rest)) => waiting.push_front(rest),
                    Ok(None) => {}
                    Err(error) => answer = answer.and(Err(error)),
                }
            }
        }
        answer
    }

    /// Puts one read into the submission queue, in a slot of its own.
    fn begin(&mut self, file: &OwnedFd, piece: Piece, offset: u64) -> io::Result<()> {
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free(_)));
        let index = free.unwrap_or_else(|| {
            self.slots.push(Slot::Free(vec![0; SLOT_BYTES].into_boxed_slice()));
            self.slots.len() - 1
        });
        let Slot::Free(buffer) = &mut self.slots[index] else {
            return Err(io::Error::other("a slot that was free is not"));
        };
        assert!(piece.length <= buffer.len(), "a piece fits into a slot");
        let mut buffer = std::mem::take(buffer);
        let length = u32::try_from(piece.length).expect("a slot is small");
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer.as_mut_ptr(), length)
            .offset(offset)
            .build()
            .user_data(index as u64);
        // SAFETY: the buffer is on the heap and at least `length` long (asserted above). It is stored in
        // `Slot::Flying` below, where nobody touches it, until this entry's completion is seen in `finish`; a ring
        // dropped before that leaks it. The descriptor is open while `file` is borrowed, and the kernel takes its own
        // reference when the entry is submitted, before `read_many` returns; if it cannot be submitted, the ring is
        // broken and is not used again.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        match pushed {
            Ok(()) => {
                self.slots[index] = Slot::Flying(buffer, piece);
                self.in_flight += 1;
                Ok(())
            }
            Err(full) => {
                self.slots[index] = Slot::Free(buffer);
                Err(io::Error::other(full))
            }
        }
    }

    /// Takes a completed read's bytes. Answers what of the piece is still to be read.
    fn finish(
        &mut self,
        user_data: u64,
        result: i32,
        requests: &mut [ReadRequest<'_>],
    ) -> io::Result<Option<Piece>> {
        let unknown = || io::Error::other("a completion that belongs to no read");
        let index = usize::try_from(user_data).map_err(|_| unknown())?;
        let slot = self.slots.get_mut(index).ok_or_else(unknown)?;
        let Slot::Flying(buffer, piece) = slot else { return Err(unknown()) };
        let (buffer, piece) = (std::mem::take(buffer), *piece);
        self.in_flight -= 1;
        let answer = match usize::try_from(result) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if count <= piece.length => {
                let target = &mut requests[piece.request].buffer[piece.start..piece.start + count];
                target.copy_from_slice(&buffer[..count]);
                let rest = Piece { start: piece.start + count, length: piece.length - count, ..piece };
                Ok((rest.length > 0).then_some(rest))
            }
            Ok(_) => Err(io::Error::other("the kernel read more than it was asked for")),
            Err(_) if is_passing(-result) => Ok(Some(piece)),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        *slot = Slot::Free(buffer);
        answer
    }
}

/// EINTR and EAGAIN: to be tried again. EBUSY: the completion queue is to be emptied first.
fn is_passing(errno: i32) -> bool {
    use rustix::io::Errno;
    [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|passing| passing.raw_os_error() == errno)
}

impl Drop for Ring {
    fn drop(&mut self) {
        for slot in std::mem::take(&mut self.slots) {
            if let Slot::Flying(buffer, _) = slot {
                // The kernel may still write into it.
                std::mem::forget(buffer);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_ring_that_failed_reads_on_and_forgets_nothing() {
        let Ok(mut ring) = Ring::new() else {
            println!("SKIPPED: no io_uring");
            return;
        };
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        file.sync_all().unwrap();
        let file = OwnedFd::from(file);
        for round in 0..50usize {
            let mut buffers = vec![vec![0u8; 3_000 + round * 700]; 90];
            // Cold, so that reads are in flight for a while. In every second round one of the first lies behind the end.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let fails = !round.is_multiple_of(2);
            let place = |n: usize| if fails && n == 5 { 299_900 } else { (n * 2_900) % 260_000 };
            let mut requests: Vec<_> = buffers
                .iter_mut()
                .enumerate()
                .map(|(n, buffer)| ReadRequest { offset: place(n) as u64, buffer })
                .collect();
            let answer = ring.read_many(&file, &mut requests);
            assert!(ring.is_idle());
            if fails {
                assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            } else {
                answer.unwrap();
                for (n, buffer) in buffers.iter().enumerate() {
                    assert!(*buffer == bytes[place(n)..place(n) + buffer.len()], "round {round}, read {n}");
                }
            }
        }
        assert!(ring.slots.len() <= DEPTH);
    }
}
