//! What all handles of an open log share, and the state behind its one lock.
//!
//! # Watermarks
//! Everything is numbered by images ([`crate::image`]): `queued ≥ submitted ≥ acknowledged`. An image is
//! acknowledged when it and all before it have reached the durability they were asked for. Positions follow:
//! `tail` (where the next batch goes) ≥ `end` (exact end of the last one) ≥ `durable_end`.
//!
//! # Invariants
//! 1. `in_flight` is in the order of submission, and images are popped from its front only.
//! 2. While `exclusive` is set, one thread syncs or rolls and nobody submits.
//! 3. `dirty` means that bytes before `end` were written and not synced; a durable image is never submitted then.
//! 4. Unless `dirty`, `tail` is a block boundary: the block before it may hold durable bytes.
//! 5. The queue never holds more than what fits into the current and the prepared segments, before the blocks that are
//!    kept aside for bases.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use logwood_base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use logwood_base::sync::{Arc, Condvar, Mutex, MutexGuard};
use logwood_base::{
    AlignedBuffer, DatabaseId, Environment, Error, GroupId, LogId, LogPosition, Lsn, Result, SegmentNo,
    TaskHandle,
};

use crate::calls::{Calls, Futures};
use crate::crowd::Crowd;
use crate::format::{BLOCK, block_up};
use crate::group_state::GroupState;
use crate::image::{Image, Round, room_for};
use crate::index::Run;
use crate::options::{LogOptions, Statistics};
use crate::segment::{Prepared, Segment};

/// Buffers kept for the next images: so many, and together no larger than so many full batches.
const SPARE_BUFFERS_MAX: usize = 16;
const SPARE_BATCHES_MAX: usize = 2;

/// What every handle points to, and a background task while it is at work.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Environment,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    /// Among how many writes in flight those who commit at the same time are shared out.
    pub(crate) writes_wanted: usize,
    pub(crate) log: LogId,
    pub(crate) database: DatabaseId,
    pub(crate) state: Mutex<State>,
    /// The greatest image that is acknowledged, for tickets that look without the lock.
    pub(crate) acknowledged: AtomicU64,
    /// Signalled when the last image in flight is done and somebody has exclusive work or the log has stopped, and when
    /// exclusive work ends.
    pub(crate) drained: Condvar,
    /// Signalled when entries were appended, for readers that wait at the tail.
    pub(crate) news: Condvar,
    /// Readers that wait at the tail.
    pub(crate) readers_waiting: AtomicU64,
    /// Held by who prepares a segment.
    pub(crate) preparing: Mutex<()>,
    /// Appends that wait for a segment to be prepared.
    pub(crate) short_of_room: AtomicUsize,
    /// Held by who writes a state, so that what is read back is what was written.
    pub(crate) state_writing: Mutex<()>,
    /// Held by who lets segments go.
    pub(crate) retaining: Mutex<()>,
    pub(crate) tasks: Mutex<Tasks>,
    /// Whether the writer task waits for a wake.
    pub(crate) writer_asleep: AtomicBool,
    /// Keeps other processes out.
    pub(crate) lock: Mutex<Option<Box<dyn logwood_base::disk::DirLock>>>,
}

/// What the handles of an open log hold in common. With the last of them the background tasks end, and what they are at
/// is waited for: the directory can be opened again at once.
#[derive(Debug)]
pub(crate) struct Open(Arc<Shared>);

/// The background tasks' handles.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) writer: Option<TaskHandle>,
    pub(crate) keeper: Option<TaskHandle>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<GroupId, GroupState>,
    /// Oldest first; the last one is being written.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Where the next batch goes, within the last segment.
    pub(crate) tail: u32,
    /// Exact end of the last batch.
    pub(crate) end: LogPosition,
    pub(crate) previous_crc: u32,
    pub(crate) durable_end: LogPosition,
    pub(crate) dirty: bool,
    pub(crate) exclusive: bool,
    /// A smaller segment is about to follow the current one, which promises no room any more.
    pub(crate) ending: bool,
    pub(crate) queue: VecDeque<Image>,
    pub(crate) futures: Futures,
    pub(crate) in_flight: VecDeque<InFlight>,
    pub(crate) batches_in_flight: usize,
    pub(crate) crowd: Crowd,
    pub(crate) next_sequence: u64,
    pub(crate) next_flight: u64,
    pub(crate) prepared: VecDeque<Prepared>,
    pub(crate) next_segment: SegmentNo,
    /// The segment for whose successors the keeper was called.
    pub(crate) keeper_called: Option<SegmentNo>,
    /// Whether something was acknowledged that no later durable batch proves yet.
    pub(crate) unproven: bool,
    pub(crate) poison: Option<Error>,
    pub(crate) closed: bool,
    pub(crate) spare: Vec<AlignedBuffer>,
    pub(crate) recent_bytes: usize,
    pub(crate) next_holder: u64,
    pub(crate) figures: Statistics,
}

/// An image that was submitted and is not acknowledged.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Numbered by submission; a closing seal shares the sequence of the image before it.
    pub(crate) flight: u64,
    pub(crate) sequence: u64,
    pub(crate) batches: usize,
    /// Appends that wait for it.
    pub(crate) appends: usize,
    /// Exact end of its last batch.
    pub(crate) end: LogPosition,
    pub(crate) durable: bool,
    pub(crate) done: bool,
    /// Whether it holds nothing to lose: a seal, which proves what was acknowledged before.
    pub(crate) proves: bool,
    pub(crate) round: Arc<Round>,
    /// Per group: epoch and last entry, or base.
    pub(crate) reached: Vec<(GroupId, u64, Lsn)>,
    /// Copied entries: group, epoch, and where they stand now. They are read there once they are written.
    pub(crate) copied: Vec<(GroupId, u64, Run)>,
}

impl Open {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl std::ops::Deref for Open {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A task that is at work holds the rest, the directory's lock included.
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        drop(tasks);
    }
}

impl Shared {
    /// Takes the lock, unless the log is closed or was stopped by a failure.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.check()?;
        Ok(state)
    }

    /// Whether an image has reached its durability.
    pub(crate) fn is_acknowledged(&self, sequence: u64) -> bool {
        self.acknowledged.load(Ordering::Acquire) >= sequence
    }

    /// Stops the log for good: what was written is unknown, and nothing later makes it known.
    pub(crate) fn stop(&self, state: &mut State, cause: &Error) -> Calls {
        if state.poison.is_none() {
            state.poison = Some(cause.poison());
            tracing::error!(log = %self.log, %cause, "the log stops");
        }
        self.drained.notify_all();
        self.news.notify_all();
        let mut calls = Calls::default();
        let State { in_flight, queue, futures, .. } = state;
        let rounds = in_flight.iter().map(|flight| &flight.round);
        for round in rounds.chain(queue.iter().map(|image| &image.round)) {
            calls.everybody(round, futures);
        }
        calls
    }

    /// Lets nobody submit any more, and waits until what was submitted has come home: in a log that has stopped, too.
    /// Whoever waits for it is told what became of it. The log stays exclusive.
    pub(crate) fn come_to_rest(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.exclusive {
            self.drained.wait(&mut state);
        }
        state.exclusive = true;
        while !state.is_home() {
            self.drained.wait(&mut state);
        }
        state
    }

    /// Has the writer task look, if it sleeps.
    pub(crate) fn wake_writer(&self) {
        if self.writer_asleep.load(Ordering::Acquire)
            && self.writer_asleep.swap(false, Ordering::AcqRel)
            && let Some(writer) = &self.tasks.lock().writer
        {
            writer.wake();
        }
    }

    /// Has the keeper task look.
    pub(crate) fn wake_keeper(&self) {
        if let Some(keeper) = &self.tasks.lock().keeper {
            keeper.wake();
        }
    }
}

impl State {
    /// Refuses when the log is closed or stopped.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(poison) => Err(poison.clone()),
            None if self.closed => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// The segment that is being written.
    pub(crate) fn current(&self) -> &Arc<Segment> {
        &self.segments[self.segments.len() - 1]
    }

    /// Bytes left in the current segment in front of its closing seal and the one behind it.
    pub(crate) fn room(&self) -> u32 {
        if self.ending {
            return 0;
        }
        (self.current().bytes.saturating_sub(block_up(self.tail))).saturating_sub(room_for(0) + BLOCK)
    }

    /// Queues an image without batches.
    pub(crate) fn push_image(&mut self) -> &mut Image {
        push_image(&mut self.queue, &mut self.spare, &mut self.next_sequence)
    }

    /// A queued image by its number.
    pub(crate) fn queued(&mut self, sequence: u64) -> Option<&mut Image> {
        let first = self.queue.front()?.sequence;
        let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.queue.get_mut(at)
    }

    /// Where to wait for an image that is not acknowledged.
    pub(crate) fn round_of(&mut self, sequence: u64) -> Option<Arc<Round>> {
        if let Some(flight) = self.in_flight.iter().find(|flight| flight.sequence == sequence) {
            return Some(Arc::clone(&flight.round));
        }
        self.queued(sequence).map(|image| Arc::clone(&image.round))
    }

    /// An image's write has ended, well or not.
    pub(crate) fn came_home(&mut self, flight: u64) {
        if let Some(ended) = self.in_flight.iter_mut().find(|other| other.flight == flight) {
            ended.done = true;
        }
    }

    /// Whether no write is on its way. A log that has stopped acknowledges no more, but its writes end all the same.
    pub(crate) fn is_home(&self) -> bool {
        self.in_flight.iter().all(|flight| flight.done)
    }

    /// Keeps a buffer for a later image.
    pub(crate) fn give_back(&mut self, buffer: AlignedBuffer, limit: usize) {
        let bytes = capacity_of(&self.spare) + buffer.capacity();
        if self.spare.len() < SPARE_BUFFERS_MAX && bytes <= SPARE_BATCHES_MAX * limit {
            self.spare.push(buffer);
        }
    }

    /// Memory of images that wait to be written, and of what is kept for the next ones.
    pub(crate) fn buffer_bytes(&self) -> usize {
        capacity_of(self.queue.iter().map(|image| &image.bytes)) + capacity_of(&self.spare)
    }

    /// A group, or the error that names it.
    pub(crate) fn group(&self, id: GroupId) -> Result<&GroupState> {
        self.groups.get(&id).ok_or_else(|| no_group(id))
    }

    /// A group, or the error that names it.
    pub(crate) fn group_mut(&mut self, id: GroupId) -> Result<&mut GroupState> {
        self.groups.get_mut(&id).ok_or_else(|| no_group(id))
    }
}

fn capacity_of<'b>(buffers: impl IntoIterator<Item = &'b AlignedBuffer>) -> usize {
    buffers.into_iter().map(AlignedBuffer::capacity).sum()
}

fn no_group(id: GroupId) -> Error {
    Error::NotFound { what: "group", name: id.to_string() }
}

/// The image that takes an entry now: the last queued one if it is open, small enough and has a place for it, else a
/// new one.
pub(crate) fn open_image<'q>(
    queue: &'q mut VecDeque<Image>,
    spare: &mut Vec<AlignedBuffer>,
    next_sequence: &mut u64,
    (more, limit): (usize, usize),
    has_place: impl Fn(&Image) -> bool,
) -> &'q mut Image {
    let fits = queue.back().is_some_and(|image| {
        let small = image.bytes.is_empty() || image.bytes.len() + more <= limit;
        image.open && small && has_place(image)
    });
    if fits {
        let last = queue.len() - 1;
        return &mut queue[last];
    }
    if let Some(image) = queue.back_mut() {
        image.open = false;
    }
    push_image(queue, spare, next_sequence)
}

fn push_image<'q>(
    queue: &'q mut VecDeque<Image>,
    spare: &mut Vec<AlignedBuffer>,
    next_sequence: &mut u64,
) -> &'q mut Image {
    let buffer = spare.pop().unwrap_or_else(|| AlignedBuffer::with_capacity(16 << 10));
    let image = Image::new(*next_sequence, buffer);
    *next_sequence += 1;
    queue.push_back(image);
    let last = queue.len() - 1;
    &mut queue[last]
}
