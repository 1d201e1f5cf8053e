//! Reading a whole log: which files belong to it, what is in them, where it ends, what is damaged.
//!
//! The scan changes nothing but for one thing: a writable opening has the newest segment synced first, and reads it
//! past the page cache, because an earlier process may have seen a sync fail; then the cache shows bytes that the
//! disk does not have, and the next sync says OK.
//!
//! # Steps
//! 1. The header of every segment file is read. The newest valid one is where the log's chain begins; each header
//!    names its predecessor and that one's exact end.
//! 2. From the oldest segment of the chain to the newest, batches are replayed one by one up to that end.
//! 3. In the newest segment the end rule decides ([`crate::end_rule`]), with what is found beyond the end, in later
//!    files without a header, and in a manifest.
//! 4. Every entry above a group's base must have been found.
//!
//! Damage is collected with its evidence, and the scan goes on behind it, so that a report is complete and healing
//! knows what to fetch. Memory: the bytes of one segment at a time, and the index.

use std::collections::BTreeMap;
use std::path::Path;

use logwood_base::checksum::Seed;
use logwood_base::disk::ReadSource;
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{
    Access, AlignedBuffer, Corruption, DatabaseId, Disk, Error, File, GroupId, LogId, LogPosition, Lsn,
    Result, SegmentNo, Term,
};

use crate::end_rule::{Decision, Facts, decide};
use crate::format::batch::Kind;
use crate::format::header::{GroupRecord, HEADER_BYTES_MAX, HeaderRead, SegmentHeader};
use crate::format::{block_up, parse_file_name, segment_seed};
use crate::log::is_leftover;
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
    pub(crate) tail_source: ReadSource,
    /// Whether a hole in the newest segment may have held both copies of a vote.
    pub(crate) votes_doubtful: bool,
}

/// A file with what its first bytes are.
struct Candidate {
    number: SegmentNo,
    file: std::sync::Arc<dyn File>,
    bytes: u64,
    header: Result<(SegmentHeader, u32), &'static str>,
}

impl Scan {
    /// Entries that are missing or doubtful, ascending by group.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        for (id, replay) in &self.groups {
            let log = &replay.log;
            let (base, last) = (log.record.base, log.record.last.0);
            let known_to = replay.doubt.map_or(last, |doubt| last.min(doubt.previous()));
            let previous = |first: Lsn| (first.previous(), log.term_of(first.previous()).unwrap_or_default());
            for (first, to) in log.index.gaps(base.0.next(), known_to) {
                let term = log.term_of(to).unwrap_or(Term::NONE);
                let (group, votes_doubtful) = (*id, self.votes_doubtful);
                let last = Some((to, term));
                holes.push(Hole { group, first, last, previous: previous(first), votes_doubtful });
            }
            if let Some(first) = replay.doubt {
                let (group, votes_doubtful) = (*id, self.votes_doubtful);
                holes.push(Hole { group, first, last: None, previous: previous(first), votes_doubtful });
            }
        }
        holes
    }
}

/// Reads the whole log of a directory.
///
/// # Errors
/// `NotFound` when there is no log; `UnsupportedFormat`; `Corruption` when not even a header is left;
/// `InvalidArgument` when the log is another one than expected; `Io`. Other damage is in the scan.
pub(crate) fn scan(request: &ScanRequest<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Scan> {
    let candidates = read_candidates(request)?;
    let log = identify(request, &candidates)?;
    let of_log = |candidate: &Candidate| matches!(&candidate.header, Ok((header, _)) if header.log == log);
    let newest = (0..candidates.len())
        .rev()
        .find(|at| of_log(&candidates[*at]) && !is_unfinished(&candidates, *at))
        .or_else(|| candidates.iter().rposition(of_log))
        .unwrap_or(0);
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
        votes_doubtful: false,
        greatest: (0..candidates.len())
            .rev()
            .find(|at| !is_unfinished(&candidates, *at))
            .map_or(SegmentNo(0), |at| candidates[at].number),
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
        tail_source: scanner.tail_source,
        votes_doubtful: scanner.votes_doubtful,
    })
}

/// Whether a segment belongs to a healing that never came to its end: its first header is missing.
fn is_unfinished(candidates: &[Candidate], newest: usize) -> bool {
    if !matches!(&candidates[newest].header, Ok((header, _)) if header.rewriting) {
        return false;
    }
    let mut at = newest;
    while let Ok((header, _)) = &candidates[at].header {
        if !header.rewriting || header.predecessor == LogPosition::ZERO {
            return false;
        }
        let predecessor = header.predecessor.segment;
        match candidates.binary_search_by_key(&predecessor, |candidate| candidate.number) {
            Ok(found) => at = found,
            Err(_) => return true,
        }
    }
    true
}

fn read_candidates(request: &ScanRequest<'_>) -> Result<Vec<Candidate>> {
    let mut numbers: Vec<SegmentNo> =
        request.disk.list(request.dir)?.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| {
            let file = request.disk.open(&path_of(request.dir, number), Access::Read)?;
            let bytes = file.size()?;
            let header = read_header(&*file, number, bytes)?;
            Ok(Candidate { number, file, bytes, header })
        })
        .collect()
}

/// Reads the header of a segment file.
fn read_header(
    file: &dyn File,
    number: SegmentNo,
    bytes: u64,
) -> Result<Result<(SegmentHeader, u32), &'static str>> {
    let mut head = vec![0; bytes.min(BLOCK_BYTES as u64) as usize];
    file.read_at(0, &mut head)?;
    let wanted =
        head.get(4..8).map_or(0, |length| length.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)));
    if wanted > head.len() && wanted <= HEADER_BYTES_MAX && wanted as u64 <= bytes {
        head.resize(wanted, 0);
        file.read_at(0, &mut head)?;
    }
    match SegmentHeader::decode(&head, number) {
        HeaderRead::Valid(header, crc) if header.predecessor.segment < number => Ok(Ok((header, crc))),
        HeaderRead::Valid(..) => Ok(Err("order of segments")),
        HeaderRead::Newer(needed) => {
            let supported = crate::format::READ_VERSION;
            Err(Error::UnsupportedFormat { path: file.path().to_owned(), needed, supported })
        }
        HeaderRead::Invalid(what) => Ok(Err(what)),
    }
}

/// Which log the directory holds.
fn identify(request: &ScanRequest<'_>, candidates: &[Candidate]) -> Result<LogId> {
    let headers = || candidates.iter().rev().filter_map(|candidate| candidate.header.as_ref().ok());
    let newest = match request.expect.log {
        Some(log) => headers().find(|(header, _)| header.log == log).or_else(|| headers().next()),
        None => headers().next(),
    };
    let Some((header, _)) = newest else {
        for candidate in candidates {
            if !is_leftover(request.disk, request.dir, candidate.number)? {
                let path = path_of(request.dir, candidate.number);
                let found = candidate.header.as_ref().err().copied().unwrap_or("nothing");
                return Err(Corruption::new(&path, 0, "segment header", "a valid header", found).into());
            }
        }
        return Err(Error::NotFound { what: "log", name: request.dir.display().to_string() });
    };
    let wrong = |what: &str, found: String| {
        Err(Error::InvalidArgument(format!("{} is the log of {what} {found}", request.dir.display())))
    };
    if request.expect.log.is_some_and(|log| log != header.log) {
        return wrong("another log id,", header.log.to_string());
    }
    if request.expect.database.is_some_and(|database| database != header.database) {
        return wrong("database", header.database.to_string());
    }
    Ok(header.log)
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
    votes_doubtful: bool,
    greatest: SegmentNo,
}

impl Scanner<'_, '_> {
    /// Looks for batches in a file above the newest valid header. Answers whether it holds nothing that proves
    /// anything.
    fn look_above(&mut self, candidate: &Candidate) -> Result<bool> {
        let bytes = self.read_whole(&*candidate.file, candidate.bytes, false)?;
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
            let header = candidate.header.as_ref().ok().filter(|(header, _)| header.log == self.log);
            let Some((header, header_crc)) = header else {
                let found = candidate.header.as_ref().err().copied().unwrap_or("another log's header");
                let path = candidate.file.path();
                self.damage.push(Corruption::new(path, 0, "segment header", "a valid header", found));
                break;
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
        // The table is complete: with it the hole, if there was one, lies behind us.
        self.votes_doubtful = false;
    }

    fn replay_segment(&mut self, link: &mut Link, bound: Option<(u32, u32)>) -> Result<()> {
        let newest = bound.is_none();
        let file_bytes = link.file.size()?;
        let size = file_bytes.min(u64::from(link.header.segment_bytes));
        let bytes = self.read_whole(&*link.file, size, newest)?;
        let number = link.header.segment;
        let segment = self.bytes_of(number, &bytes);
        let mut looked_beyond = false;
        let until = self.request.until.filter(|until| until.segment == number).map(|until| until.offset);
        loop {
            let stop = bound.map(|(end, _)| end).or(until).is_some_and(|end| link.end >= end);
            let next = if stop { None } else { segment.next(link.end, link.end_crc) };
            if let Some((at, batch)) = next {
                self.note_durable(batch.placement.durable_end);
                self.apply(link, at, &batch);
                continue;
            }
            if newest && !looked_beyond {
                looked_beyond = true;
                self.beyond.merge(segment.evidence(link.end));
                let ends: Vec<_> = self.beyond.durable_ends().collect();
                ends.into_iter().for_each(|end| self.note_durable(end));
            }
            let here = LogPosition::new(number, link.end);
            let behind = here < self.durable_end
                && until.is_none()
                && !planted!(self.request.options, StopAtFirstBadBatch);
            let facts = Facts {
                bounded: !newest,
                reached: bound.is_some_and(|(end, _)| end == link.end),
                chained: bound.is_some_and(|(_, crc)| crc == link.end_crc),
                behind,
                closed: link.sealed.is_some(),
                successor: link.sealed.is_some_and(|next| self.greatest >= next),
            };
            let (decision, label) = decide(&facts);
            tracing::debug!(segment = %number, end = link.end, ?decision, label, "end rule");
            // Where no header bounds the segment, what lies beyond the greatest position known to be durable in it was
            // perhaps dropped by an opening whose header is rotten now.
            let limit =
                bound.map_or_else(|| self.durable_within(number), |(end, _)| end).min(bytes.len() as u32);
            if !self.settle(link, decision, &segment, limit) {
                if newest && decision == Decision::End && file_bytes < u64::from(link.header.segment_bytes) {
                    self.cut_short(link, file_bytes);
                }
                return Ok(());
            }
        }
    }

    /// The newest segment is shorter than its header says. A file has its whole length, durably, before it gets a
    /// header, so no crash does that; and what stood behind the cut is evidence that is gone with it.
    fn cut_short(&mut self, link: &Link, file_bytes: u64) {
        let (path, expected) = (link.file.path(), format!("{} bytes", link.header.segment_bytes));
        let damage =
            Corruption::new(path, file_bytes, "segment length", expected, format!("{file_bytes} bytes"));
        self.damage.push(damage.affecting("whatever stood behind"));
        self.enter_hole(true);
    }

    /// Does what the end rule decided. Answers whether to go on behind a hole.
    fn settle(
        &mut self,
        link: &mut Link,
        decision: Decision,
        segment: &SegmentBytes<'_>,
        limit: u32,
    ) -> bool {
        let offset = u64::from(link.end);
        let path = link.file.path().to_owned();
        let (check, expected) = match decision {
            Decision::Continue | Decision::End => return false,
            Decision::Swapped => ("segment chain", "the end that the next header names".to_owned()),
            Decision::HoleBelowHeader => ("batch", format!("a valid batch before {limit}")),
            Decision::HoleBelowDurableEnd => ("batch", format!("a valid batch before {}", self.durable_end)),
            Decision::SuccessorMissing => {
                let next = link.sealed.unwrap_or_default();
                let path = path_of(self.request.dir, next);
                self.damage.push(Corruption::new(
                    &path,
                    0,
                    "segment chain",
                    "the file that a seal names",
                    "none",
                ));
                self.enter_hole(true);
                return false;
            }
        };
        let resume = match decision {
            Decision::Swapped => None,
            Decision::HoleBelowHeader => segment.seek(link.end + 1).filter(|(at, _)| *at < limit),
            // What stands right behind the durable bytes goes on with them.
            _ if link.end < limit => segment.seek(link.end + 1).filter(|(at, _)| *at < limit).or_else(|| {
                let places = [limit, block_up(limit)];
                places.into_iter().find_map(|at| segment.batch_at(at).map(|batch| (at, batch)))
            }),
            _ => None,
        };
        let hole_end = resume
            .as_ref()
            .map_or(u64::from(limit).min(segment.bytes.len() as u64), |(at, _)| u64::from(*at));
        let known: Vec<String> = self
            .groups
            .iter()
            .map(|(id, replay)| format!("group {id} above lsn {}", replay.log.record.committed))
            .collect();
        self.damage.push(
            Corruption::new(&path, offset, check, expected, format!("none until {hole_end}"))
                .affecting(known.join(", ")),
        );
        self.enter_hole(hole_end.saturating_sub(offset) > BLOCK_BYTES as u64);
        match resume {
            Some((at, batch)) => {
                link.end = at;
                link.end_crc = batch.placement.previous_crc;
                true
            }
            None => false,
        }
    }

    fn note_durable(&mut self, end: LogPosition) {
        self.durable_end = self.durable_end.max(end);
        let known = self.durable_in.entry(end.segment).or_default();
        *known = end.offset.max(*known);
    }

    /// The greatest position known to be durable inside a segment.
    fn durable_within(&self, segment: SegmentNo) -> u32 {
        self.durable_in.get(&segment).copied().unwrap_or(0)
    }

    fn enter_hole(&mut self, wide: bool) {
        self.votes_doubtful |= wide;
        self.groups.values_mut().for_each(Replay::enter_hole);
    }

    /// Applies one batch; a broken rule is damage.
    fn apply(&mut self, link: &mut Link, at: u32, batch: &crate::format::batch::Batch<'_>) {
        let fields = &batch.fields;
        let end = at + batch.bytes.len() as u32;
        let start = LogPosition::new(link.header.segment, at);
        link.end = end;
        link.end_crc = batch.crc;
        link.sealed = batch.sealed_successor();
        link.holds_entries |= !matches!(fields.kind, Kind::State | Kind::Seal);
        if fields.kind == Kind::Seal {
            return;
        }
        // A group begins with a base above which there is nothing.
        let begins = fields.kind == Kind::Base && batch.base().is_ok_and(|base| !base.keeps_entries);
        let broken = if begins || self.groups.contains_key(&fields.group) {
            self.groups.entry(fields.group).or_default().apply(batch, start, end).err()
        } else if self.damage.is_empty() {
            let (expected, found) = ("a group that began".to_owned(), fields.group.to_string());
            Some(crate::group_state::Violation { check: "group", expected, found })
        } else {
            self.adopt_unknown(batch, start, end)
        };
        if let Some(violation) = broken {
            let offset = u64::from(at);
            let affects = format!("group {} lsn {}..={}", fields.group, fields.first_lsn, fields.last_lsn());
            let path = link.file.path();
            self.damage.push(
                Corruption::new(path, offset, violation.check, violation.expected, violation.found)
                    .affecting(affects),
            );
        }
    }

    /// Behind a hole a group may appear whose beginning was lost.
    fn adopt_unknown(
        &mut self,
        batch: &crate::format::batch::Batch<'_>,
        start: LogPosition,
        end: u32,
    ) -> Option<crate::group_state::Violation> {
        let replay = self.groups.entry(batch.fields.group).or_default();
        replay.doubt = Some(Lsn::FIRST);
        replay.apply(batch, start, end).err()
    }

    /// Every entry above a base must have been found.
    fn check_complete(&mut self, chain: &[Link]) {
        let oldest = &chain[0];
        let missing = oldest.header.predecessor.segment;
        for (id, replay) in &self.groups {
            let record = &replay.log.record;
            for (first, last) in replay.log.index.gaps(record.base.0.next(), record.last.0) {
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

    /// A file's bytes; with `newest`, those that the device holds.
    fn read_whole(&mut self, file: &dyn File, size: u64, newest: bool) -> Result<AlignedBuffer> {
        let length =
            usize::try_from(size).map_err(|_| Error::Internal("a segment larger than memory".to_owned()))?;
        let trusting = planted!(self.request.options, TrustCachedTail);
        let bytes = if newest && self.request.writable && !trusting {
            file.sync()?;
            let (bytes, source) = file.read_past_cache(0, length)?;
            self.tail_source = source;
            bytes
        } else {
            let mut bytes = AlignedBuffer::zeroed(length);
            file.read_at(0, &mut bytes)?;
            bytes
        };
        self.done.bytes_done += size;
        (self.progress)(self.done);
        Ok(bytes)
    }
}
