//! Opening for writing.
//!
//! # The order of steps, and why
//! 1. The directory is locked, and everything is read ([`crate::scan`]): the newest segment is synced first and read
//!    past the page cache. Damage is refused here; nothing has been changed.
//! 2. Where the newest header may stand in the cache alone, it is written once more, durably. The directory is synced:
//!    the names that were seen may not be durable yet.
//! 3. What the newest valid header's chain does not name is deleted below it; above it, every file that holds nothing
//!    except the highest-numbered, which keeps its number from being used again, and the one that a closing seal names:
//!    that it is there says that nothing is missing. The directory is synced.
//! 4. A new segment is made under a number greater than any in a file's name, written with zeros, synced, its name
//!    synced. A crash loop through steps 2 to 4 never holds more than four such files.
//! 5. Where the tail could only be read through a cache, its batches are written again into the new segment.
//! 6. The new segment's header, which names the predecessor's exact end, is written durably, with a second copy of
//!    each vote. From here on, whatever still lands behind that end is not part of the log, so that nothing needs to
//!    be known about writes of an earlier process. Only now is anything served.
//! 7. Behind the predecessor's end, in a block of its own, a seal is written durably that names the new segment, and
//!    says that its header is durable. It is not part of the log, which ends before it. But should the new segment go,
//!    or its header, the predecessor is the newest one, and the seal is what stands at its end: evidence that there
//!    was more. An earlier opening's seal is written over. One that cannot be written is done without.
//! 8. What is no longer named is deleted, and the directory synced: an older empty segment with a valid header would
//!    hide what the seal says, for it bounds the predecessor too.
//!
//! A segment that holds no entries is skipped as predecessor, so that opening and closing leaves no chain behind.

use std::path::Path;

use logwood_base::disk::{DirLock, Disk, ReadSource};
use logwood_base::sync::Arc;
use logwood_base::{
    Access, AlignedBuffer, Corruption, DatabaseId, Environment, Error, GroupId, LogId, LogPosition, Result,
    SegmentNo,
};

use crate::format::batch::{self, Kind, Placement};
use crate::format::header::{GroupRecord, HEADER_BYTES_MAX, HeaderRead, SegmentHeader};
use crate::format::{BLOCK, block_up, parse_file_name, segment_seed};
use crate::group_state::GroupState;
use crate::log::{FIRST_SEGMENT_BYTES_MAX, Log, Start};
use crate::mutants::planted;
use crate::options::{Expect, LogOptions, Progress, Recovered};
use crate::roll::{Opening, opening, point_at};
use crate::scan::{Link, Scan, ScanRequest, scan};
use crate::segment::{Segment, create_written, path_of};
use crate::walk::SegmentBytes;

impl Log {
    /// Opens a log for writing. What it changes on disk, and when, is told step by step in `docs/format/log.md`.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// group.set_vote(Term(1), NodeId(2))?;
    /// drop((log, group)); // not closed: what counts is what was acknowledged
    /// let expect = Expect { database: Some(DatabaseId(1)), ..Expect::default() };
    /// let mut progress = |progress: logwood_wal::Progress| assert!(progress.bytes_done <= progress.bytes_total);
    /// let (log, recovered) = Log::open(&env, directory.path(), expect, LogOptions::default(), &mut progress)?;
    /// assert_eq!(log.group(GroupId(1)).expect("it was created").vote(), (Term(1), NodeId(2)));
    /// let other = Expect { database: Some(DatabaseId(2)), ..Expect::default() };
    /// log.close()?;
    /// assert!(Log::open(&env, directory.path(), other, LogOptions::default(), &mut |_| {}).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no log; `AlreadyOpen`; `Corruption` with the damage that lies below what was durable:
    /// [`Log::heal`] mends it, but for a segment of another log (check `log id`), which has to be taken away by hand;
    /// `InvalidArgument` when it is not the log that was expected; `UnsupportedFormat`;
    /// `DiskFull`, `Io`.
    pub fn open(
        env: &Environment,
        dir: &Path,
        expect: Expect,
        options: LogOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Recovered)> {
        options.check()?;
        // Asked before the lock is taken: a lock would leave a file where there is no log.
        env.disk.list(dir)?;
        let lock = env.disk.lock(dir)?;
        Self::open_locked(env, dir, expect, options, progress, lock)
    }

    pub(crate) fn open_locked(
        env: &Environment,
        dir: &Path,
        expect: Expect,
        options: LogOptions,
        progress: &mut dyn FnMut(Progress),
        lock: Box<dyn DirLock>,
    ) -> Result<(Self, Recovered)> {
        let disk = &*env.disk;
        let request = ScanRequest { disk, dir, expect, writable: true, until: None, options: &options };
        let mut found = scan(&request, progress)?;
        refuse_damage(&found)?;
        write_header_again(disk, &found)?;
        let options = options.beside(found.segment_bytes_max());
        let mut recovered = Recovered {
            end: found.end,
            durable_end: found.durable_end,
            dropped_batches: found.beyond.batches,
            dropped_bytes: found.beyond.bytes,
            ..Recovered::default()
        };
        recovered.removed = clear_directory(env, dir, &found)?;
        let kept = found.files.iter().map(|(number, _)| *number);
        let number = kept.max().map_or(SegmentNo(1), SegmentNo::next);
        let (start, rewritten) = match unproven_tail(&found) {
            Some(from) => {
                let request = ScanRequest { until: Some(from), ..request };
                let before = scan(&request, progress)?;
                (rewrite_tail(env, dir, &options, &before, &found, number)?, true)
            }
            None => (begin(env, dir, &options, &mut found, number)?, false),
        };
        recovered.tail_rewritten = rewritten;
        let start = match start {
            Some(start) => start,
            // The tail stands in the new segment now: read everything as it is.
            None => {
                let again =
                    ScanRequest { disk, dir, expect, writable: false, until: None, options: &options };
                let mut found = scan(&again, progress)?;
                refuse_damage(&found)?;
                let number = number.next();
                begin(env, dir, &options, &mut found, number)?
                    .ok_or_else(|| Error::Internal("the tail was not rewritten".to_owned()))?
            }
        };
        recovered.removed.extend(clear_unnamed(env, dir, &start)?);
        recovered.segments = start.segments.len();
        let identity = (found.log, found.database);
        Ok((Self::start(env, dir, identity, options, start, lock)?, recovered))
    }
}

/// The first damage, as an error.
fn refuse_damage(found: &Scan) -> Result<()> {
    match found.damage.first() {
        Some(damage) => Err(damage.clone().into()),
        None => Ok(()),
    }
}

/// Step 2: writes the newest header as it was read, unless the disk is known to have it. What comes next deletes what an
/// older header names, and builds on this one.
fn write_header_again(disk: &dyn Disk, found: &Scan) -> Result<()> {
    let Some(last) = found.chain.last().filter(|_| !found.header_on_device) else { return Ok(()) };
    let path = last.file.path();
    let mut head = AlignedBuffer::zeroed(last.header.batches_start() as usize);
    last.file.read_at(0, &mut head)?;
    match SegmentHeader::decode(&head, last.header.segment) {
        HeaderRead::Valid(header, _) if header == last.header => {
            disk.open(path, Access::ReadWrite)?.write_durable(0, &head)
        }
        _ => Err(Corruption::new(path, 0, "segment header", "what was read before", "something else").into()),
    }
}

/// Where the tail begins that was only seen through a cache and that nothing proves to be durable.
fn unproven_tail(found: &Scan) -> Option<LogPosition> {
    let through_cache = found.tail_source == ReadSource::PerhapsCache;
    (through_cache && found.durable_end < found.end).then(|| {
        // A newest segment begins with its header, and all before that is durable.
        let begin = found.chain.last().map_or(0, |link| link.header.header_bytes() as u32);
        found.durable_end.max(LogPosition::new(found.end.segment, begin))
    })
}

/// The rest of step 2, and step 3. Answers what was deleted.
fn clear_directory(env: &Environment, dir: &Path, found: &Scan) -> Result<Vec<SegmentNo>> {
    let disk = &*env.disk;
    disk.sync_dir(dir)?;
    let highest = found.files.last().map(|(number, _)| *number);
    let sealed = found.chain.last().and_then(|link| link.sealed);
    let newest = found.end.segment;
    let named = |number: SegmentNo| found.chain.iter().any(|link| link.header.segment == number);
    let mut removed = Vec::new();
    for (number, empty) in &found.files {
        let below = *number < newest && !named(*number);
        let above = *number > newest && *empty && ![highest, sealed].contains(&Some(*number));
        if below || above {
            disk.remove(&path_of(dir, *number))?;
            removed.push(*number);
        }
    }
    disk.sync_dir(dir)?;
    Ok(removed)
}

/// Takes segments without entries off the end of a chain.
fn skip_empty(chain: &[Link]) -> &[Link] {
    let kept = chain.iter().rposition(|link| link.holds_entries).map_or(0, |at| at + 1);
    &chain[..kept]
}

/// Steps 4, 6 and 7.
fn begin(
    env: &Environment,
    dir: &Path,
    options: &LogOptions,
    found: &mut Scan,
    number: SegmentNo,
) -> Result<Option<Start>> {
    let disk = &*env.disk;
    let records: Vec<_> = found.groups.iter().map(|(id, replay)| (*id, replay.log.record.clone())).collect();
    let bytes = first_segment_bytes(options, 0);
    let sync_name = !planted!(options, SkipDirectorySync);
    let prepared = create_written(disk, dir, number, bytes, sync_name, &|| false)?;
    let segment = Segment::new(found.log, number, bytes, prepared.file);
    let kept = skip_empty(&found.chain);
    let (predecessor, predecessor_crc) = match (kept.last(), found.chain.first()) {
        (Some(last), _) => (LogPosition::new(last.header.segment, last.end), last.end_crc),
        // All segments are empty: what the oldest of them followed is gone, and stays named.
        (None, Some(first)) => (first.header.predecessor, first.header.predecessor_crc),
        (None, None) => (LogPosition::ZERO, 0),
    };
    let identity = (found.log, found.database);
    let Opening { bytes, end, crc } =
        opening(identity, &segment, predecessor, predecessor_crc, false, &records);
    segment.file.write_durable(0, &bytes)?;
    if let Some(last) = kept.last() {
        leave_seal(disk, found.log, last, LogPosition::new(number, end))?;
    }
    let mut segments = Vec::with_capacity(kept.len() + 1);
    for link in kept {
        let (number, bytes) = (link.header.segment, link.header.segment_bytes);
        segments.push(Arc::new(Segment::new(found.log, number, bytes, link.file.clone())));
    }
    segments.push(Arc::new(segment));
    let groups = std::mem::take(&mut found.groups);
    Ok(Some(Start {
        segments,
        tail: block_up(end),
        end: LogPosition::new(number, end),
        previous_crc: crc,
        next_segment: number.next(),
        groups: groups.into_iter().map(|(id, replay)| (id, GroupState::recovered(replay.log))).collect(),
    }))
}

/// Step 7: how far the next segment is durable, behind the end of the one before. One that cannot be written keeps nobody
/// out: nothing needs it as long as the new segment stays.
fn leave_seal(disk: &dyn Disk, log: LogId, last: &Link, durable_end: LogPosition) -> Result<()> {
    let path = last.file.path();
    let written = disk.open(path, Access::ReadWrite).and_then(|file| {
        let segment = Segment::new(log, last.header.segment, last.header.segment_bytes, file);
        point_at(&segment, (last.end, last.end_crc), durable_end)
    });
    match written {
        Err(error @ (Error::Io { .. } | Error::DiskFull { .. })) => {
            let path = path.display();
            tracing::warn!(%path, %error, "no seal behind a segment's end: should the newest one go, nothing tells");
            Ok(())
        }
        written => written,
    }
}

/// Step 8. Answers what was deleted.
fn clear_unnamed(env: &Environment, dir: &Path, start: &Start) -> Result<Vec<SegmentNo>> {
    let disk = &*env.disk;
    let kept = |number: SegmentNo| start.segments.iter().any(|segment| segment.number == number);
    let numbers = disk.list(dir)?.into_iter().filter_map(|entry| parse_file_name(&entry.name));
    let unnamed: Vec<SegmentNo> = numbers.filter(|number| !kept(*number)).collect();
    for number in &unnamed {
        disk.remove(&path_of(dir, *number))?;
    }
    if !unnamed.is_empty() {
        disk.sync_dir(dir)?;
    }
    Ok(unnamed)
}

/// Step 5: writes the batches behind `before.end` again, into a new segment, synced before its header.
fn rewrite_tail(
    env: &Environment,
    dir: &Path,
    options: &LogOptions,
    before: &Scan,
    found: &Scan,
    number: SegmentNo,
) -> Result<Option<Start>> {
    let Some(last) = before.chain.last() else { return Ok(None) };
    let records: Vec<_> = before.groups.iter().map(|(id, replay)| (*id, replay.log.record.clone())).collect();
    let tail_bytes = found.end.offset.saturating_sub(before.end.offset);
    let bytes = first_segment_bytes(options, tail_bytes);
    let prepared = create_written(&*env.disk, dir, number, bytes, true, &|| false)?;
    let segment = Segment::new(found.log, number, bytes, prepared.file);
    let predecessor = LogPosition::new(last.header.segment, last.end);
    let identity = (found.log, found.database);
    let header = opening(identity, &segment, predecessor, last.end_crc, false, &records);
    let mut old = AlignedBuffer::zeroed(found.end.offset as usize);
    last.file.read_at(0, &mut old)?;
    let start = block_up(header.end);
    let copied = copy_batches(&old, before, last, &segment, start, header.crc);
    if !copied.is_empty() {
        segment.file.write_at(u64::from(start), &copied)?;
        segment.file.sync()?;
    }
    segment.file.write_durable(0, &header.bytes)?;
    Ok(None)
}

/// The batches of `old` behind the end of `last`, placed from `start` on in another segment. Seals prove nothing
/// there and stay behind.
fn copy_batches(
    old: &[u8],
    before: &Scan,
    last: &Link,
    segment: &Segment,
    start: u32,
    header_crc: u32,
) -> AlignedBuffer {
    let number = last.header.segment;
    let seed = segment_seed(before.log, number);
    let old = SegmentBytes { bytes: old, seed, unseeded: false };
    let (mut end, mut crc, mut previous_crc) = (last.end, last.end_crc, header_crc);
    let mut copied = AlignedBuffer::default();
    while let Some((at, batch)) = old.next(end, crc) {
        end = at + batch.bytes.len() as u32;
        crc = batch.crc;
        if batch.fields.kind == Kind::Seal {
            continue;
        }
        let from = copied.len();
        copied.extend_from_slice(batch.bytes);
        // It proves nothing of its own segment before that segment's header is durable.
        let placement = Placement { durable_end: LogPosition::ZERO, previous_crc };
        let seed = segment.seed_at(start + from as u32);
        previous_crc = batch::finish(&mut copied[from..], &batch.fields, &placement, seed);
    }
    copied
}

/// Size of the segment that an opening begins: small, unless what goes into it is not.
fn first_segment_bytes(options: &LogOptions, content: u32) -> u32 {
    let needed = block_up(content) + block_up(HEADER_BYTES_MAX as u32) + 16 * BLOCK;
    let usual = options.segment_bytes.min(FIRST_SEGMENT_BYTES_MAX);
    if content > usual / 2 { options.segment_bytes.max(needed) } else { usual }
}

/// Identity of a log and its database.
pub(crate) type Identity = (LogId, DatabaseId);

/// Groups with their records, ascending.
pub(crate) type Records = [(GroupId, GroupRecord)];
