//! What waits to be written: images of batches that go to the disk in one write.
//!
//! Entries are encoded into an image by the thread that appends them. Their batches get their place, the checksum of
//! what precedes them and their own checksum when the image is submitted (see [`crate::commit`]).

use std::task::Waker;

use logwood_base::codec::Writer;
use logwood_base::sync::{Arc, Mutex, Signal};
use logwood_base::{AlignedBuffer, GroupId, Lsn, NodeId, SegmentNo, Term};

use crate::format::batch::{self, BatchFields, Kind};
use crate::format::{BLOCK, block_up};

/// Those who wait for one image to be acknowledged: threads by the signal, futures by their wakers.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) signal: Signal,
    pub(crate) wakers: Mutex<Vec<Waker>>,
}

/// Batches that are written together.
#[derive(Debug)]
pub(crate) struct Image {
    /// Images are numbered in the order in which they are submitted and acknowledged.
    pub(crate) sequence: u64,
    pub(crate) bytes: AlignedBuffer,
    pub(crate) frames: Vec<Frame>,
    pub(crate) durable: bool,
    /// Appends that put their last entry here.
    pub(crate) appends: usize,
    /// Whether more entries may join.
    pub(crate) open: bool,
    pub(crate) round: Arc<Round>,
    /// Threads that wait for it.
    pub(crate) waiters: usize,
    /// Whether somebody polls for it.
    pub(crate) polled: bool,
}

/// One batch within an image.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Bytes from the start of the image.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) fields: BatchFields,
    /// Term of the last entry.
    pub(crate) last_term: Term,
    /// The group's epoch when the batch was made: overriding begins a new one.
    pub(crate) epoch: u64,
    pub(crate) body: Body,
}

/// What placing a batch changes besides the index.
#[derive(Debug)]
pub(crate) enum Body {
    Entries,
    Base { membership: (Lsn, Vec<u8>), keeps_entries: bool },
    State { vote: (Term, NodeId), membership: (Lsn, Vec<u8>) },
    Seal,
}

impl Image {
    /// An image without batches, in a buffer that is used again.
    pub(crate) fn new(sequence: u64, mut bytes: AlignedBuffer) -> Self {
        bytes.clear();
        Self {
            sequence,
            bytes,
            frames: Vec::with_capacity(1),
            durable: false,
            appends: 0,
            open: true,
            round: Arc::new(Round::default()),
            waiters: 0,
            polled: false,
        }
    }

    /// Room that the image may take in a segment, at most.
    pub(crate) fn room(&self) -> u32 {
        room_for(self.bytes.len())
    }

    /// Whether an entry goes into the last batch, or needs one of its own.
    pub(crate) fn is_continued_by(&self, epoch: u64, fields: &BatchFields) -> bool {
        self.frames.last().is_some_and(|frame| {
            frame.epoch == epoch
                && frame.fields.kind == fields.kind
                && frame.fields.group == fields.group
                && frame.fields.append_term == fields.append_term
                && frame.fields.last_lsn().next() == fields.first_lsn
        })
    }

    /// Adds one entry to the last batch when it continues it, else to a new one.
    pub(crate) fn put_entry(&mut self, epoch: u64, fields: BatchFields, term: Term, payload: &[u8]) {
        if !self.is_continued_by(epoch, &fields) {
            let start = self.bytes.len();
            batch::begin(&mut self.bytes);
            let body = Body::Entries;
            let fields = BatchFields { count: 0, ..fields };
            self.frames.push(Frame { start, end: start, fields, last_term: term, epoch, body });
        }
        batch::put_entry(&mut self.bytes, term, payload);
        let end = self.bytes.len();
        if let Some(frame) = self.frames.last_mut() {
            frame.fields.count += 1;
            frame.fields.commit_lsn = fields.commit_lsn;
            frame.last_term = term;
            frame.end = end;
        }
    }

    /// Adds a batch without entries. With `own_block` it begins at a block boundary of the image.
    pub(crate) fn put_other(&mut self, epoch: u64, fields: BatchFields, body: Body, own_block: bool) {
        if own_block {
            self.bytes.pad_to(block_up(self.bytes.len() as u32) as usize);
        }
        let start = self.bytes.len();
        batch::begin(&mut self.bytes);
        match &body {
            Body::Base { membership, keeps_entries } => {
                batch::put_base(&mut self.bytes, *keeps_entries, membership);
            }
            Body::State { vote, membership } => batch::put_state(&mut self.bytes, *vote, membership),
            Body::Seal | Body::Entries => {}
        }
        let end = self.bytes.len();
        let last_term = fields.prev_term;
        self.frames.push(Frame { start, end, fields, last_term, epoch, body });
    }

    /// Adds a seal; `next` names the segment that follows when it closes this one.
    pub(crate) fn put_seal(&mut self, next: Option<SegmentNo>) {
        let fields = BatchFields {
            kind: Kind::Seal,
            group: GroupId(0),
            append_term: Term::NONE,
            prev_term: Term::NONE,
            commit_lsn: Lsn::ZERO,
            first_lsn: Lsn::FIRST,
            count: 0,
        };
        self.put_other(0, fields, Body::Seal, false);
        self.bytes.put_u64(next.map_or(0, SegmentNo::get));
        if let Some(frame) = self.frames.last_mut() {
            frame.end = self.bytes.len();
        }
    }
}

/// Room that an image of so many bytes may take in a segment: whole blocks, and one more because the block it would
/// begin in may be used up by a sync.
pub(crate) fn room_for(bytes: usize) -> u32 {
    block_up(bytes as u32) + BLOCK
}
