//! Bytes as the only segment of a log, as they are and with every checksum mended.
//!
//! Held:
//! 1. Inspecting, opening and healing panic on nothing; inspecting takes no more room than the input deserves, opening
//!    that and the new segments that it makes.
//! 2. Every entry that is answered stands in the file: same group, LSN, term and payload, in a batch with a checksum
//!    that holds. LSNs are dense, terms never fall.
//! 3. Inspecting changes nothing, and agrees with opening about damage and about every entry.
//! 4. Opening again gives the same groups, votes and entries: what one process was told, the next one is told too.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Environment, Error, GroupId, Lsn, SegmentNo};
use logwood_wal::{Expect, Log, LogOptions};

use crate::allocation;
use crate::mend::{self, u32_at, u64_at};

/// The number that the segment's file is named after.
pub const NUMBER: SegmentNo = SegmentNo(1);

/// The size of a segment here: the smallest one.
pub const SEGMENT_BYTES: usize = 64 << 10;

const DIR: &str = "db/log";
const FILE: &str = "db/log/00000000000000000001.log";

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let mut whole = bytes[..bytes.len().min(SEGMENT_BYTES)].to_vec();
    whole.resize(SEGMENT_BYTES, 0);
    judge(&whole);
    judge(&mend::log_segment(&whole, NUMBER.get()));
}

/// The options that all logs of the fuzz targets are opened with.
#[must_use]
pub fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = SEGMENT_BYTES as u32;
    options.recent_bytes_max = 16 << 10;
    options.pool_segments = 1;
    options
}

/// A machine without threads.
#[must_use]
pub fn environment(disk: &SimulatedDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        random: Arc::new(SeededRandom::new(5)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

/// An entry as it stands in the file: group, LSN, term, payload.
type Written<'a> = (u64, u64, u64, &'a [u8]);

/// A group as a log answers it.
#[derive(PartialEq, Eq, Debug)]
struct Answered {
    group: GroupId,
    base: u64,
    vote: (u64, u64),
    membership: (u64, Vec<u8>),
    entries: Vec<(u64, u64, Vec<u8>)>,
}

fn judge(bytes: &[u8]) {
    let written = written(bytes);
    let disk = SimulatedDisk::new(1);
    disk.write_file(Path::new(FILE), bytes);
    let inspected = inspect(&disk, bytes);
    let damaged = disk.snapshot();
    let first = open(&disk, bytes.len());
    match (&inspected, &first) {
        (Ok(inspected), Ok(first)) => {
            assert_eq!(inspected, first, "inspecting answers otherwise than opening")
        }
        (Ok(_), Err(error)) => panic!("opening names what inspecting does not: {error}"),
        (Err(error), Ok(_)) => panic!("inspecting names what opening does not: {error}"),
        (Err(_), Err(_)) => heal(&damaged),
    }
    let Ok(first) = first else { return };
    for group in &first {
        let mut term_before = 0;
        for (n, (lsn, term, payload)) in group.entries.iter().enumerate() {
            assert_eq!(*lsn, group.base + 1 + n as u64, "LSNs are dense");
            assert!(*term >= term_before.max(1), "terms do not fall");
            term_before = *term;
            let entry = (group.group.0, *lsn, *term, &payload[..]);
            assert!(written.contains(&entry), "answered and not in the file: {entry:?}");
        }
    }
    let second = open(&disk, 4 * SEGMENT_BYTES).expect("what was opened opens again");
    assert_eq!(first, second, "the second opening answers otherwise");
}

/// What the log answers without being opened; the first damage as an error. Changes nothing.
fn inspect(disk: &SimulatedDisk, bytes: &[u8]) -> Result<Vec<Answered>, Error> {
    let (before, paths) = (disk.operations(), disk.paths());
    let inspected = allocation::bounded("inspecting a log", bytes.len(), || {
        Log::inspect(&environment(disk), Path::new(DIR), &mut |_| ())
    });
    assert_eq!((disk.operations(), disk.paths()), (before, paths), "inspecting changed the log");
    judge_error(inspected.as_ref().err());
    let inspection = inspected?;
    if let Some(damage) = inspection.damage.first() {
        return Err(damage.clone().into());
    }
    assert!(inspection.holes.is_empty(), "a hole and no damage");
    let mut all = Vec::new();
    for (id, group) in &inspection.groups {
        let mut entries = Vec::new();
        inspection.entries(*id, group.base.0.next(), |entry| {
            entries.push((entry.lsn.0, entry.term.0, entry.payload.to_vec()));
            true
        })?;
        all.push(Answered {
            group: *id,
            base: group.base.0.0,
            vote: (group.vote.0.0, group.vote.1.0),
            membership: (group.membership.0.0, group.membership.1.clone()),
            entries,
        });
    }
    Ok(all)
}

/// Healing with nothing to give is refused, or leaves a log that opens.
fn heal(disk: &SimulatedDisk) {
    let expect = Expect::default();
    let healed =
        Log::heal(
            &environment(disk),
            Path::new(DIR),
            expect,
            options(),
            &mut |_| (),
            &mut |_| Ok(Vec::new()),
        );
    match healed {
        Ok((log, _)) => {
            log.close().expect("a sound disk");
            drop(log);
            open(disk, 4 * SEGMENT_BYTES).expect("what was healed opens");
        }
        Err(error) => assert!(!matches!(error, Error::Internal(_)), "{error}"),
    }
}

fn judge_error(error: Option<&Error>) {
    let is_named = |error: &&Error| {
        matches!(error, Error::Corruption(_) | Error::UnsupportedFormat { .. } | Error::NotFound { .. })
    };
    assert!(error.is_none_or(|error| is_named(&error)), "not a named error: {error:?}");
}

/// Opens, answers everything, and closes.
fn open(disk: &SimulatedDisk, input_bytes: usize) -> Result<Vec<Answered>, Error> {
    // The segments that opening makes are memory here.
    let room = input_bytes + 2 * SEGMENT_BYTES;
    let opened = allocation::bounded("opening a log", room, || {
        Log::open(&environment(disk), Path::new(DIR), Expect::default(), options(), &mut |_| ())
    });
    judge_error(opened.as_ref().err());
    let (log, _) = opened?;
    let mut all = Vec::new();
    for id in log.groups() {
        let group = log.group(id).expect("it was listed");
        let (base, last) = (group.base().0, group.last().0);
        assert!(base <= last);
        let mut entries = Vec::new();
        let mut next = base.next();
        while next <= last {
            let read = group.read(next, last.next(), 4096)?;
            assert!(!read.is_empty(), "{next} is between base and last, and not read");
            for entry in read {
                next = entry.lsn.next();
                entries.push((entry.lsn.0, entry.term.0, entry.payload.to_vec()));
            }
        }
        assert!(group.read(last.next(), Lsn(u64::MAX), 4096)?.is_empty(), "an entry behind the last");
        let (vote, membership) = (group.vote(), group.membership());
        all.push(Answered {
            group: id,
            base: base.0,
            vote: (vote.0.0, vote.1.0),
            membership: (membership.0.0, membership.1),
            entries,
        });
    }
    log.close()?;
    Ok(all)
}

/// Every entry of every batch whose checksum holds, wherever a batch can begin: at a block, or behind another one.
/// Written from the byte table of a batch.
fn written(bytes: &[u8]) -> BTreeSet<Written<'_>> {
    let mut entries = BTreeSet::new();
    let Some(log) = bytes.get(32..48) else { return entries };
    let log = u128::from_le_bytes(log.try_into().expect("sixteen bytes"));
    let seed = Seed::new().u128(log).u64(NUMBER.get());
    for block in (0..bytes.len()).step_by(4096) {
        let mut at = block;
        while let Some(length) = batch(bytes, at, &seed, &mut entries) {
            at += length;
        }
    }
    entries
}

/// Notes the entries of the batch at `at`, if there is one, and answers its length.
fn batch<'a>(bytes: &'a [u8], at: usize, seed: &Seed, entries: &mut BTreeSet<Written<'a>>) -> Option<usize> {
    let length = u32_at(bytes, at.checked_add(4)?)? as usize;
    let batch = bytes.get(at..at.checked_add(length)?)?;
    if length < 72 || checksum(seed.clone().u64(at as u64), &batch[4..]) != u32_at(batch, 0)? {
        return None;
    }
    let (kind, group, first, count) = (batch[8], u64_at(batch, 16)?, u64_at(batch, 48)?, u32_at(batch, 56)?);
    let mut body = 72;
    for n in 0..if kind == 1 || kind == 2 { count } else { 0 } {
        let (Some(term), Some(bytes)) = (u64_at(batch, body), u32_at(batch, body + 8)) else { break };
        let Some(payload) = batch.get(body + 12..body + 12 + bytes as usize) else { break };
        entries.insert((group, first.wrapping_add(u64::from(n)), term, payload));
        body += 12 + bytes as usize;
    }
    Some(length)
}
