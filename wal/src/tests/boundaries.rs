//! Numbers at the ends of their ranges: 2^16, 2^31, 2^32, 2^62, 2^63 and their neighbours, for LSNs, terms, lengths,
//! counts and positions, asked for by callers and found in files. Overflow panics in release builds too, so that each
//! sum over what a file says must be safe.

use std::path::Path;

use fastrand::Rng;
use logwood_base::checksum::checksum;
use logwood_base::{Error, GroupId, LogId, Lsn, NodeId, SegmentNo, Term};

use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, small};
use crate::format::header::{HeaderRead, SegmentHeader};
use crate::format::{parse_file_name, segment_seed};
use crate::{BaseState, Durability, Expect, Log, LogOptions};

const OTHER: GroupId = GroupId(2);

/// What replaces a number of eight bytes; of four bytes its lower half.
const EDGES: [u64; 9] =
    [0, 1, 1 << 16, (1 << 31) | (1 << 63), (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX - 1, u64::MAX];

#[test]
fn entries_on_both_sides_of_a_power_of_two_are_kept_and_found() {
    for power in [16, 31, 32, 48, 61] {
        let world = World::new(power);
        let (log, _) = world.create(LogOptions { recent_bytes_max: 0, ..small() }).unwrap();
        let edge = 1u64 << power;
        let base = BaseState { lsn: Lsn(edge - 4), term: Term(1), membership: Vec::new() };
        let group = log.create_group(OTHER, base).unwrap();
        for _ in 0..8 {
            commit(&group, 1, 300).unwrap();
        }
        append_at(&group, Lsn(edge + 2), Term(edge), 3, 300, Durability::Durable).unwrap().wait().unwrap();
        let expected = contents(&group, 300);
        assert_eq!(expected.len(), 8, "2^{power}");
        drop((log, group));
        world.spawner.kill_all();
        world.disk.crash(&mut Rng::with_seed(power));
        let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
        let group = log.group(OTHER).unwrap();
        assert_eq!(contents(&group, 300), expected, "2^{power}");
        assert_eq!(group.read(Lsn(edge), Lsn(edge + 1), 1).unwrap()[0].lsn, Lsn(edge));
        assert_eq!(group.term_of(Lsn(edge + 4)).unwrap(), Term(edge));
    }
}

#[test]
fn numbers_beyond_the_numbering_are_refused_before_anything_is_numbered() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    let last_lsn = Lsn(1 << 62);
    let base = |lsn: u64| BaseState { lsn: Lsn(lsn), term: Term(1), membership: Vec::new() };
    let end = log.create_group(OTHER, base(last_lsn.0 - 2)).unwrap();
    commit(&end, 1, 10).unwrap();
    let refused = |error: Error| assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    refused(commit(&end, 1, 10).unwrap_err());
    for lsn in [last_lsn.0 + 1, 1 << 63, u64::MAX].map(Lsn) {
        refused(append_at(&end, lsn, Term(1), 1, 10, Durability::Durable).map(drop).unwrap_err());
        refused(group.set_base(lsn, Term(1), b"").unwrap_err());
        refused(log.create_group(GroupId(3), base(lsn.0)).map(drop).unwrap_err());
        assert!(group.read(lsn, Lsn::MAX, 1).unwrap().is_empty());
        assert!(matches!(group.term_of(lsn), Err(Error::NotFound { .. })));
        assert!(group.cursor(lsn).next().unwrap().is_none());
        group.set_committed(lsn);
        assert_eq!(group.committed_lsn(), Lsn::ZERO);
        group.release(lsn);
        drop(group.hold("far", lsn).unwrap());
    }
    group.set_vote(Term(u64::MAX), NodeId(u64::MAX)).unwrap();
    log.maintain().unwrap();
    commit(&group, 1, 10).unwrap();
    drop((log, group, end));
    world.spawner.kill_all();
    world.disk.kill_process();
    let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
    assert_eq!(log.group(OTHER).unwrap().last().0, Lsn(last_lsn.0 - 1));
    assert_eq!(log.group(GROUP).unwrap().vote(), (Term(u64::MAX), NodeId(u64::MAX)));
}

/// A log with a full first segment and some of a second one, the process killed: its files, header first.
fn sample() -> (World, LogId, Vec<(std::path::PathBuf, Vec<u8>)>) {
    let world = World::new(3);
    let (log, group) = world.create(small()).unwrap();
    let other = log.create_group(OTHER, BaseState::default()).unwrap();
    group.set_vote(Term(2), NodeId(1)).unwrap();
    group.set_membership(Lsn(0), b"members").unwrap();
    while log.statistics().rolls == 0 {
        commit(&group, 2, 300).unwrap();
        commit(&other, 1, 300).unwrap();
        group.set_committed(group.last().0);
    }
    commit(&group, 2, 300).unwrap();
    let id = log.id();
    drop((log, group, other));
    world.spawner.kill_all();
    world.disk.kill_process();
    let paths = world.disk.paths().into_iter();
    let files = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| {
            let bytes = world.disk.read_file(&path).unwrap();
            (path, bytes)
        })
        .collect();
    (world, id, files)
}

fn number_of(path: &Path) -> SegmentNo {
    parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap()
}

/// Inspects, opens and heals a log with such a file. Whatever they answer, they answer. Tells whether it opened.
fn answers(world: &World, path: &Path, bytes: &[u8]) -> bool {
    let copy = World::over(world.disk.snapshot(), 1);
    copy.disk.write_file(path, bytes);
    let _ = Log::inspect(&copy.env, &copy.dir, &mut |_| {});
    let opened = reopen(&copy, small());
    let is_open = opened.is_ok();
    if let Ok((log, _)) = opened {
        for group in log.groups().into_iter().filter_map(|id| log.group(id)) {
            let _ = commit(&group, 2, 300);
            let _ = group.read(group.first_lsn(), Lsn::MAX, 1 << 20);
        }
        let _ = log.maintain();
        let _ = log.close();
    }
    let copy = World::over(world.disk.snapshot(), 1);
    copy.disk.write_file(path, bytes);
    let healed =
        Log::heal(&copy.env, &copy.dir, Expect::default(), small(), &mut |_| {}, &mut |_| Ok(Vec::new()));
    drop(healed);
    is_open
}

/// The bytes with a number in them replaced.
fn with_number(bytes: &[u8], at: usize, width: usize, number: u64) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    changed
}

#[test]
fn a_batch_with_any_number_at_an_edge_and_a_right_checksum_is_answered() {
    let (world, log, files) = sample();
    let (path, bytes) = &files[0];
    let mut opened = 0;
    let mut refused = 0;
    // The bases of both groups, the copies of the state, an append of each group.
    for block in 1..9 {
        let from = block * 4096;
        let length = u32::from_le_bytes(bytes[from + 4..from + 8].try_into().unwrap()) as usize;
        if length == 0 {
            continue;
        }
        let numbers = [4, 12, 56, 60, 80].map(|at| (at, 4)).into_iter();
        for (at, width) in numbers.chain([16, 24, 32, 40, 48, 64, 72].map(|at| (at, 8))) {
            for edge in EDGES {
                let mut changed = with_number(bytes, from + at, width, edge);
                let seed = segment_seed(log, number_of(path)).u64(from as u64);
                let crc = checksum(seed, &changed[from + 4..from + length]);
                changed[from..from + 4].copy_from_slice(&crc.to_le_bytes());
                if answers(&world, path, &changed) { opened += 1 } else { refused += 1 }
            }
        }
    }
    assert!(refused > 200 && opened > 0, "{opened} opened, {refused} refused");
}

#[test]
fn a_header_with_any_number_at_an_edge_and_a_right_checksum_is_answered() {
    let (world, log, files) = sample();
    let mut refused = 0;
    for (path, bytes) in files.iter().take(2) {
        let number = number_of(path);
        let HeaderRead::Valid(header, _) = SegmentHeader::decode(bytes, number) else { panic!("a header") };
        let length = header.header_bytes();
        let fixed = [16, 20, 24, 28, 80, 84, 88, 92].map(|at| (at, 4)).into_iter();
        let table = (0..header.groups.len()).flat_map(|_| [0, 8, 16, 24, 32, 40, 48, 56, 64, 72]);
        let first_group = table.take(10).map(|at| (96 + at, 8)).chain([(96 + 80, 4)]);
        let numbers = fixed.chain([(64, 8), (72, 8)]).chain(first_group);
        for (at, width) in numbers.filter(|(at, width)| at + width <= length) {
            for edge in EDGES {
                let mut changed = with_number(bytes, at, width, edge);
                let crc = checksum(segment_seed(log, number).u64(0), &changed[4..length]);
                changed[..4].copy_from_slice(&crc.to_le_bytes());
                refused += u32::from(!answers(&world, path, &changed));
            }
        }
    }
    assert!(refused > 100, "{refused} refused");
}
