//! Reading a whole log: which files belong to it, what is in them, where it ends, what is damaged.
//!
//! The scan changes nothing but for one thing: a writable opening has the newest segment synced first, and reads it
//! past the page cache, its header above all, because an earlier process may have seen a sync fail; then the cache shows
//! bytes that the disk does not have, and the next sync says OK.
//!
//! # Steps
//! 1. The header of every segment file is read ([`files`]). All valid ones are of one log, or nothing is done. The newest
//!    valid one that the disk has is where the log's chain begins; each header names its predecessor and that one's exact
//!    end.
//! 2. From the oldest segment of the chain to the newest, batches are replayed one by one up to that end ([`segment`]).
//! 3. In the newest segment the end rule decides ([`crate::end_rule`]), with what is found beyond the end, in later
//!    files without a header, and in a manifest.
//! 4. Every entry above a group's base must have been found.
//!
//! Damage is collected with its evidence, and the scan goes on behind it, so that a report is complete and healing
//! knows what to fetch. What cannot be read at all ends the scan ([`mod@first_bytes`]). Memory: the bytes of one segment
//! at a time, and the index.

mod files;
mod first_bytes;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use logwood_base::checksum::Seed;
use logwood_base::disk::ReadSource;
use logwood_base::limits::{BLOCK_BYTES, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN};
use logwood_base::{
    AlignedBuffer, Corruption, DatabaseId, Disk, Error, File, GroupId, LogId, LogPosition, Lsn, Result,
    SegmentNo, Term,
};

use self::files::{Candidate, find_newest, identify, is_unfinished, read_candidates};
use self::first_bytes::first_bytes;
use crate::format::header::{GroupRecord, SegmentHeader};
use crate::format::segment_seed;
use crate::mutants::planted;
use crate::options::{Expect, Hole, LogOptions, Progress};
use crate::replay::Replay;
use crate::segment::path_of;
use crate::walk::{Evidence, SegmentBytes};

/// What a scan may do and what it is told.
pub(crate) struct ScanRequest<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) expect: Expect,
    /// Whether the newest segment is synced first and read past the cache.
    pub(crate) writable: bool,
    /// Stop at this position as if the log ended there.
    pub(crate) until: Option<LogPosition>,
    pub(crate) options: &'a LogOptions,
}

impl ScanRequest<'_> {
    /// Whether the newest segment is synced first, and read past the cache.
    fn reads_past_cache(&self) -> bool {
        self.writable && !planted!(self.options, TrustCachedTail)
    }
}

/// A segment of the chain.
pub(crate) struct Link {
    pub(crate) header: SegmentHeader,
    pub(crate) file: std::sync::Arc<dyn File>,
    /// Exact end of its last batch that counts.
    pub(crate) end: u32,
    pub(crate) end_crc: u32,
    /// Whether it holds batches that another segment could not do without.
    pub(crate) holds_entries: bool,
    pub(crate) sealed: Option<SegmentNo>,
}

/// Everything a scan found.
pub(crate) struct Scan {
    pub(crate) log: LogId,
    pub(crate) database: DatabaseId,
    /// Oldest first.
    pub(crate) chain: Vec<Link>,
    pub(crate) groups: BTreeMap<GroupId, Replay>,
    pub(crate) end: LogPosition,
    pub(crate) durable_end: LogPosition,
    pub(crate) beyond: Evidence,
    pub(crate) damage: Vec<Corruption>,
    /// Every segment file, and whether it is above the chain and holds nothing that proves anything.
    pub(crate) files: Vec<(SegmentNo, bool)>,
    /// Whether the disk is known to have the newest header, if that was asked.
    pub(crate) header_on_device: bool,
    pub(crate) tail_source: ReadSource,
    /// Groups of which holes may have held both copies of a vote that nothing behind them tells.
    pub(crate) votes_doubtful: BTreeSet<GroupId>,
}

impl Scan {
    /// Size of the greatest segment of the chain.
    pub(crate) fn segment_bytes_max(&self) -> u32 {
        self.chain.iter().map(|link| link.header.segment_bytes).max().unwrap_or_default()
    }

    /// Entries that are missing or doubtful, ascending by group; and without an entry where only a vote is in doubt.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        for (id, replay) in &self.groups {
            let log = &replay.log;
            let (base, last) = (log.record.base, log.record.last.0);
            let known_to = replay.doubt.map_or(last, |doubt| last.min(doubt.previous()));
            let (group, votes_doubtful) = (*id, self.votes_doubtful.contains(id));
            let hole = |first: Lsn, last| {
                let previous = (first.previous(), log.term_of(first.previous()).unwrap_or_default());
                Hole { group, first, last, previous, votes_doubtful }
            };
            let gaps = log.index.gaps(base.0.next(), known_to);
            let is_whole = gaps.is_empty() && replay.doubt.is_none();
            let told = gaps.into_iter().map(|(first, to)| {
                let term = log.term_of(to).unwrap_or(Term::NONE);
                hole(first, Some((to, term)))
            });
            holes.extend(told);
            holes.extend(replay.doubt.map(|first| hole(first, None)));
            if is_whole && votes_doubtful {
                holes.push(hole(last.next(), Some(log.record.last)));
            }
        }
        holes
    }
}

/// Reads the whole log of a directory.
///
/// # Errors
/// `NotFound` when there is no log; `UnsupportedFormat`; `Corruption` when not even a header is left, or headers of two
/// logs are; `InvalidArgument` when the log is another one than expected; `Io`. Other damage is in the scan.
pub(crate) fn scan(request: &ScanRequest<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Scan> {
    let mut candidates = read_candidates(request)?;
    let log = identify(request, &candidates)?;
    let (newest, header_on_device) = find_newest(request, &mut candidates)?;
    let bytes_total = candidates.iter().map(|candidate| candidate.bytes).sum();
    let mut scanner = Scanner {
        request,
        log,
        progress,
        done: Progress { bytes_done: 0, bytes_total },
        groups: BTreeMap::new(),
        damage: Vec::new(),
        beyond: Evidence::default(),
        durable_end: request.expect.durable_end,
        durable_in: BTreeMap::from([(request.expect.durable_end.segment, request.expect.durable_end.offset)]),
        tail_source: ReadSource::Device,
        unvouched: BTreeMap::new(),
        told: BTreeMap::new(),
        present: (0..candidates.len())
            .filter(|at| !is_unfinished(&candidates, *at))
            .map(|at| candidates[at].number)
            .collect(),
        stumps: candidates
            .iter()
            .filter(|candidate| candidate.bytes < u64::from(LOG_SEGMENT_BYTES_MIN))
            .map(|candidate| (candidate.number, candidate.bytes))
            .collect(),
        spare: AlignedBuffer::default(),
    };
    let mut files = Vec::new();
    for candidate in &candidates[newest + 1..] {
        files.push((candidate.number, scanner.look_above(candidate)?));
    }
    let mut chain = scanner.link(&candidates, newest);
    scanner.replay(&mut chain)?;
    scanner.check_complete(&chain);
    files.extend(candidates[..=newest].iter().map(|candidate| (candidate.number, false)));
    files.sort_unstable();
    let last = &chain[chain.len() - 1];
    Ok(Scan {
        log,
        database: last.header.database,
        end: LogPosition::new(last.header.segment, last.end),
        chain,
        groups: scanner.groups,
        durable_end: scanner.durable_end,
        beyond: scanner.beyond,
        damage: scanner.damage,
        files,
        header_on_device,
        tail_source: scanner.tail_source,
        votes_doubtful: scanner
            .unvouched
            .into_iter()
            .filter(|(_, lost)| *lost > BLOCK_BYTES as u64)
            .map(|(id, _)| id)
            .collect(),
    })
}

/// The state of a scan.
struct Scanner<'r, 'p> {
    request: &'r ScanRequest<'r>,
    log: LogId,
    progress: &'p mut dyn FnMut(Progress),
    done: Progress,
    groups: BTreeMap<GroupId, Replay>,
    damage: Vec<Corruption>,
    beyond: Evidence,
    durable_end: LogPosition,
    /// Per segment, the greatest end in it that was ever named as durable.
    durable_in: BTreeMap<SegmentNo, u32>,
    tail_source: ReadSource,
    /// Per group, bytes lost to holes since a table or a state told its vote. Each of both copies of a vote has a block of
    /// its own.
    unvouched: BTreeMap<GroupId, u64>,
    /// From where on a group's entries are concerned by damage that is told already.
    told: BTreeMap<GroupId, Lsn>,
    /// Files that a seal may name.
    present: BTreeSet<SegmentNo>,
    /// Files that are shorter than any segment, and their sizes.
    stumps: BTreeMap<SegmentNo, u64>,
    /// Memory of the segment before, for the next one: new memory has to be cleared first.
    spare: AlignedBuffer,
}

impl Scanner<'_, '_> {
    /// Looks for batches in a file above the newest valid header. Answers whether it holds nothing that proves
    /// anything.
    fn look_above(&mut self, candidate: &Candidate) -> Result<bool> {
        // No batch stands behind the greatest size that a segment can have, however long the file is.
        let size = candidate.bytes.min(u64::from(LOG_SEGMENT_BYTES_MAX));
        let bytes = self.read_first(&*candidate.file, size, false)?;
        self.note_read(candidate.bytes);
        let evidence = self.bytes_of(candidate.number, &bytes).evidence(0);
        // What a rewriting or healing that never ended left behind says of itself that it proves nothing.
        let empty = evidence.durable_end == LogPosition::ZERO;
        if !empty {
            self.beyond.merge(evidence);
        }
        Ok(empty)
    }

    /// The chain from the newest header back, oldest first.
    fn link(&mut self, candidates: &[Candidate], newest: usize) -> Vec<Link> {
        let mut chain = Vec::new();
        let mut at = Some(newest);
        while let Some(candidate) = at.map(|at| &candidates[at]) {
            let (header, header_crc) = match &candidate.header {
                Ok(header) => header,
                Err(found) => {
                    let path = candidate.file.path();
                    self.damage.push(Corruption::new(path, 0, "segment header", "a valid header", found));
                    break;
                }
            };
            let predecessor = header.predecessor.segment;
            chain.push(Link {
                header: header.clone(),
                file: std::sync::Arc::clone(&candidate.file),
                end: header.header_bytes() as u32,
                end_crc: *header_crc,
                holds_entries: false,
                sealed: None,
            });
            at = candidates.binary_search_by_key(&predecessor, |candidate| candidate.number).ok();
        }
        chain.reverse();
        chain
    }

    fn replay(&mut self, chain: &mut [Link]) -> Result<()> {
        let oldest = &chain[0].header;
        self.groups =
            oldest.groups.iter().map(|(id, record)| (*id, Replay::from_record(record.clone()))).collect();
        if !self.damage.is_empty() {
            // The header of the segment before it is damaged.
            self.told = oldest.groups.iter().map(|(id, record)| (*id, record.base.0.next())).collect();
        }
        for at in 0..chain.len() {
            if at > 0 {
                let header = chain[at].header.clone();
                self.check_tables(&chain[at], &header.groups);
            }
            let bound =
                chain.get(at + 1).map(|next| (next.header.predecessor.offset, next.header.predecessor_crc));
            self.replay_segment(&mut chain[at], bound)?;
        }
        let votes = std::mem::take(&mut self.beyond.votes);
        for (id, vote) in votes {
            if let Some(replay) = self.groups.get_mut(&id) {
                replay.adopt_vote(vote);
            }
        }
        Ok(())
    }

    /// Compares what was replayed with a header's table. Every group that was known must be in it.
    fn check_tables(&mut self, link: &Link, table: &[(GroupId, GroupRecord)]) {
        for (id, record) in table {
            let replay = self.groups.entry(*id).or_insert_with(|| {
                let mut unknown = Replay::from_record(GroupRecord { last: record.base, ..record.clone() });
                unknown.doubt = Some(record.base.0.next());
                unknown
            });
            if let Err(violation) = replay.check_table(record) {
                let path = link.file.path();
                let affects = format!("group {id}");
                self.damage.push(
                    Corruption::new(path, 0, violation.check, violation.expected, violation.found)
                        .affecting(affects),
                );
            }
        }
        for id in self.groups.keys().filter(|id| table.binary_search_by_key(id, |(known, _)| known).is_err())
        {
            let path = link.file.path();
            self.damage.push(
                Corruption::new(path, 0, "group in table", "every group", "not this one")
                    .affecting(format!("group {id}")),
            );
        }
        // The table is complete: with it the holes, if there were any, lie behind us.
        self.unvouched.clear();
    }

    /// Every entry above a base must have been found, but for those that damage took which is told already.
    fn check_complete(&mut self, chain: &[Link]) {
        let oldest = &chain[0];
        let missing = oldest.header.predecessor.segment;
        for (id, replay) in &self.groups {
            let record = &replay.log.record;
            let gaps = replay.log.index.gaps(record.base.0.next(), record.last.0);
            let told = self.told.get(id).copied().unwrap_or(Lsn::MAX);
            for (first, last) in gaps.into_iter().filter(|(first, _)| *first < told) {
                let path = if missing == SegmentNo(0) {
                    oldest.file.path().to_owned()
                } else {
                    path_of(self.request.dir, missing)
                };
                self.damage.push(
                    Corruption::new(&path, 0, "entries above the base", "in the log", "missing")
                        .affecting(format!("group {id} lsn {first}..={last}")),
                );
            }
        }
    }

    fn bytes_of<'a>(&self, number: SegmentNo, bytes: &'a [u8]) -> SegmentBytes<'a> {
        let seed: Seed = segment_seed(self.log, number);
        SegmentBytes { bytes, seed, unseeded: planted!(self.request.options, UnseededChecksum) }
    }

    /// A file's first bytes; with `newest`, those that the device holds.
    fn read_first(&mut self, file: &dyn File, length: u64, newest: bool) -> Result<AlignedBuffer> {
        let length = usize::try_from(length)
            .map_err(|_| Error::Internal("a segment larger than memory".to_owned()))?;
        let past_cache = newest && self.request.reads_past_cache();
        let (bytes, source) = first_bytes(file, length, past_cache, std::mem::take(&mut self.spare))?;
        if past_cache {
            self.tail_source = source;
        }
        Ok(bytes)
    }

    /// Tells that a file was read.
    fn note_read(&mut self, file_bytes: u64) {
        self.done.bytes_done += file_bytes;
        (self.progress)(self.done);
    }
}
