//! Finding batches in the bytes of a segment: one after the other, or anywhere behind a place that is damaged.

use std::collections::BTreeMap;

use logwood_base::checksum::Seed;
use logwood_base::{LogPosition, NodeId, SegmentNo, Term};

use crate::format::batch::{Batch, Kind};
use crate::format::{BLOCK, block_up};

/// A segment's bytes with what its checksums are bound to.
pub(crate) struct SegmentBytes<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) seed: Seed,
    /// Batch checksums are bound to nothing: a planted bug.
    pub(crate) unseeded: bool,
}

impl<'a> SegmentBytes<'a> {
    /// The valid batch at `offset`, whatever it says about what precedes it.
    pub(crate) fn batch_at(&self, offset: u32) -> Option<Batch<'a>> {
        let bytes = self.bytes.get(offset as usize..)?;
        let seed = if self.unseeded { Seed::new() } else { self.seed.clone().u64(u64::from(offset)) };
        Batch::decode(bytes, seed).ok()
    }

    /// The batch that continues the log behind `end`: exactly there, or at the next block boundary.
    pub(crate) fn next(&self, end: u32, previous_crc: u32) -> Option<(u32, Batch<'a>)> {
        let aligned = block_up(end);
        [end, aligned].into_iter().take(if aligned == end { 1 } else { 2 }).find_map(|at| {
            let batch = self.batch_at(at)?;
            (batch.placement.previous_crc == previous_crc).then_some((at, batch))
        })
    }

    /// The first valid batch that begins at a block boundary at or after `from`.
    pub(crate) fn seek(&self, from: u32) -> Option<(u32, Batch<'a>)> {
        let mut at = block_up(from);
        while (at as usize) < self.bytes.len() {
            if let Some(batch) = self.batch_at(at) {
                return Some((at, batch));
            }
            at += BLOCK;
        }
        None
    }

    /// Everything that valid batches at or after `from` say, chained or not.
    pub(crate) fn evidence(&self, from: u32) -> Evidence {
        let mut evidence = Evidence::default();
        let mut next = self.seek(from);
        while let Some((at, batch)) = next {
            evidence.note(&batch);
            let end = at + batch.bytes.len() as u32;
            next = match self.next(end, batch.crc) {
                Some(next) => Some(next),
                None => self.seek(block_up(end).max(at + BLOCK)),
            };
        }
        evidence
    }
}

/// What batches beyond the end of a walk say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) durable_end: LogPosition,
    /// The greatest in each segment.
    durable_in: BTreeMap<SegmentNo, u32>,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    /// Votes: keeping one that was not answered is safe.
    pub(crate) votes: Vec<(logwood_base::GroupId, (Term, NodeId))>,
}

impl Evidence {
    fn note(&mut self, batch: &Batch<'_>) {
        self.note_durable(batch.placement.durable_end);
        self.batches += 1;
        self.bytes += batch.bytes.len() as u64;
        if batch.fields.kind == Kind::State
            && let Ok(state) = batch.state()
        {
            self.votes.push((batch.fields.group, state.vote));
        }
    }

    fn note_durable(&mut self, end: LogPosition) {
        self.durable_end = self.durable_end.max(end);
        let known = self.durable_in.entry(end.segment).or_default();
        *known = end.offset.max(*known);
    }

    /// The greatest durable end named in each segment.
    pub(crate) fn durable_ends(&self) -> impl Iterator<Item = LogPosition> {
        self.durable_in.iter().map(|(segment, offset)| LogPosition::new(*segment, *offset))
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other.durable_ends().for_each(|end| self.note_durable(end));
        self.batches += other.batches;
        self.bytes += other.bytes;
        self.votes.extend(other.votes);
    }
}
