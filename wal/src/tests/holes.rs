//! What a hole leaves in doubt: each rule that says which entries count behind one, and where a group ends.

use logwood_base::{AlignedBuffer, GroupId, LogId, LogPosition, Lsn, SegmentNo, Term};

use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, payload, small};
use crate::format::batch::{self, Batch, BatchFields, Kind, Placement};
use crate::format::header::GroupRecord;
use crate::format::{block_up, file_name, segment_seed};
use crate::replay::Replay;
use crate::{Durability, Entry, Expect, Group, Hole, Inspection, Log};

/// An append or copy of entries with these terms.
fn fields(kind: Kind, first: u64, prev_term: u64, terms: &[u64]) -> BatchFields {
    let append_term = Term(terms.iter().copied().max().unwrap_or(prev_term));
    let (prev_term, first_lsn, count) = (Term(prev_term), Lsn(first), terms.len() as u32);
    BatchFields { kind, group: GROUP, append_term, prev_term, commit_lsn: Lsn(0), first_lsn, count }
}

/// A batch as it stands at a place.
fn encode(
    log: LogId,
    fields: &BatchFields,
    place: LogPosition,
    durable_end: LogPosition,
    body: impl FnOnce(&mut AlignedBuffer),
) -> AlignedBuffer {
    let mut bytes = AlignedBuffer::default();
    batch::begin(&mut bytes);
    body(&mut bytes);
    let seed = segment_seed(log, place.segment).u64(u64::from(place.offset));
    batch::finish(&mut bytes, fields, &Placement { durable_end, previous_crc: 77 }, seed);
    bytes
}

fn put_entries(bytes: &mut AlignedBuffer, first: Lsn, terms: &[u64]) {
    for (lsn, term) in (first.0..).zip(terms) {
        batch::put_entry(bytes, Term(*term), &payload(Lsn(lsn), Term(*term), 300));
    }
}

/// Applies a batch to a group. Each stands in a block of its own.
fn apply(replay: &mut Replay, fields: BatchFields, body: impl FnOnce(&mut AlignedBuffer)) {
    let offset = 4096 * (2 + replay.log.index.runs().len() as u32);
    let place = LogPosition::new(SegmentNo(1), offset);
    let bytes = encode(LogId(1), &fields, place, LogPosition::ZERO, body);
    let batch = Batch::decode(&bytes, segment_seed(LogId(1), SegmentNo(1)).u64(u64::from(offset))).unwrap();
    replay.apply(&batch, place, offset + bytes.len() as u32).unwrap();
}

fn apply_entries(replay: &mut Replay, kind: Kind, first: u64, prev_term: u64, terms: &[u64]) {
    apply(replay, fields(kind, first, prev_term, terms), |bytes| put_entries(bytes, Lsn(first), terms));
}

fn append(replay: &mut Replay, first: u64, prev_term: u64, terms: &[u64]) {
    apply_entries(replay, Kind::Append, first, prev_term, terms);
}

fn gaps(replay: &Replay) -> Vec<(Lsn, Lsn)> {
    replay.log.index.gaps(replay.log.record.base.0.next(), replay.log.record.last.0)
}

#[test]
fn an_entry_behind_a_hole_does_not_vouch_for_those_before_it() {
    let mut replay = Replay::default();
    append(&mut replay, 1, 0, &[1]);
    // Here 1 was replaced in term 2.
    replay.enter_hole();
    append(&mut replay, 2, 2, &[2]);
    append(&mut replay, 3, 2, &[2]);
    assert_eq!(gaps(&replay), [(Lsn(1), Lsn(1))]);
    assert_eq!(replay.log.term_of(Lsn(1)), Some(Term(2)), "what is to be fetched has a term");
    replay.enter_hole();
    append(&mut replay, 4, 2, &[2]);
    assert_eq!(
        (gaps(&replay), replay.doubt),
        (vec![(Lsn(1), Lsn(1))], None),
        "a second hole settles nothing"
    );
}

#[test]
fn a_copy_behind_a_hole_does_not_tell_where_its_group_ends() {
    let mut replay = Replay::default();
    append(&mut replay, 1, 0, &[1, 1, 1]);
    replay.enter_hole();
    apply_entries(&mut replay, Kind::Copy, 1, 0, &[1, 1, 1]);
    assert_eq!((gaps(&replay), replay.doubt), (vec![], Some(Lsn(4))), "the hole may have held 4");
    append(&mut replay, 5, 1, &[1]);
    assert_eq!((gaps(&replay), replay.doubt), (vec![(Lsn(4), Lsn(4))], None));
}

#[test]
fn a_base_behind_a_hole_settles_what_it_says() {
    for keeps in [true, false] {
        let mut replay = Replay::default();
        append(&mut replay, 1, 0, &[1, 1, 1]);
        replay.enter_hole();
        let base = fields(Kind::Base, 2, 1, &[]);
        apply(&mut replay, base, |bytes| batch::put_base(bytes, keeps, &(Lsn(0), Vec::new())));
        assert_eq!(replay.doubt, keeps.then_some(Lsn(3)));
        assert_eq!(replay.log.record.last.0, Lsn(if keeps { 3 } else { 2 }));
    }
}

#[test]
fn a_table_that_does_not_fit_is_a_hole_whose_end_it_tells() {
    let mut replay = Replay::default();
    append(&mut replay, 1, 0, &[1, 1, 1]);
    replay.log.set_committed(Lsn(1));
    let table = GroupRecord { last: (Lsn(5), Term(2)), ..replay.log.record.clone() };
    assert!(replay.check_table(&table).is_err(), "it is damage");
    assert_eq!(gaps(&replay), [(Lsn(2), Lsn(5))], "everything above the commit LSN is to be fetched");
    assert_eq!(replay.log.term_of(Lsn(5)), Some(Term(2)));
}

/// A log of nine entries in its first segment, the process killed.
fn nine() -> (World, Group, LogPosition) {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..9 {
        commit(&group, 1, 300).unwrap();
    }
    let end = log.shared.state.lock().end;
    world.spawner.kill_all();
    world.disk.kill_process();
    (world, group, end)
}

/// Puts a batch of one entry two blocks behind `end`: it was in flight, and what preceded it was lost.
fn leave_in_flight(world: &World, end: LogPosition, first: u64, prev_term: u64) {
    let path = world.dir.join(file_name(end.segment));
    let mut bytes = world.disk.read_file(&path).unwrap();
    let offset = block_up(end.offset) + 4096;
    let fields = fields(Kind::Append, first, prev_term, &[prev_term]);
    let place = LogPosition::new(end.segment, offset);
    let put = |bytes: &mut AlignedBuffer| put_entries(bytes, Lsn(first), &[prev_term]);
    let batch = encode(inspect(world).log, &fields, place, end, put);
    bytes[offset as usize..offset as usize + batch.len()].copy_from_slice(&batch);
    world.disk.write_file(&path, &bytes);
}

fn inspect(world: &World) -> Inspection {
    Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap()
}

#[test]
fn a_batch_that_an_opening_dropped_stays_dropped_when_that_openings_header_rots() {
    let (world, group, end) = nine();
    leave_in_flight(&world, end, 10, 1);
    drop(group);
    let world = World::over(world.disk.clone(), 2);
    let (log, recovered) = reopen(&world, small()).unwrap();
    assert_eq!(recovered.dropped_batches, 1);
    let group = log.group(GROUP).unwrap();
    // The newest segment holds something that proves where it and its predecessor were durable.
    append_at(&group, Lsn(10), Term(2), 1, 300, Durability::Durable).unwrap().wait().unwrap();
    append_at(&group, Lsn(11), Term(2), 1, 300, Durability::Durable).unwrap().wait().unwrap();
    let newest = log.shared.state.lock().current().number;
    drop((log, group));
    world.spawner.kill_all();
    world.disk.kill_process();
    world.disk.flip_bit(&world.dir.join(file_name(newest)), 20, 1);
    let report = inspect(&world);
    assert!(!report.damage.is_empty());
    let open_end = |hole: &Hole| hole.group == GROUP && hole.last.is_none();
    assert!(report.holes.iter().any(open_end), "the dropped entry settles nothing: {:?}", report.holes);
    let peer: Vec<_> = (1..=11).map(|lsn| (Lsn(lsn), Term(1 + u64::from(lsn > 9)))).collect();
    let mut fetch = |hole: &Hole| {
        let given = peer.iter().filter(|(lsn, _)| *lsn >= hole.first);
        let entry = |(lsn, term): &(Lsn, Term)| {
            let payload = payload(*lsn, *term, 300).into();
            Entry { lsn: *lsn, term: *term, payload }
        };
        Ok(given.map(entry).collect())
    };
    let healed = Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, &mut fetch);
    let (log, _) = healed.unwrap();
    assert_eq!(contents(&log.group(GROUP).unwrap(), 300), peer);
}

#[test]
fn what_was_in_flight_behind_damage_tells_nothing_of_what_was_lost_before_it() {
    let (world, group, end) = nine();
    drop(group);
    // 10 was in flight and is lost, 11 landed; nobody has 10 in term 4. Then 9, which was acknowledged, rots.
    leave_in_flight(&world, end, 11, 4);
    world.disk.flip_bit(&world.dir.join(file_name(end.segment)), u64::from(end.offset) - 20, 1);
    let report = inspect(&world);
    assert!(!report.damage.is_empty());
    assert!(report.holes.iter().all(|hole| hole.last.is_none()), "{:?}", report.holes);
}

#[test]
fn a_missing_file_that_a_seal_names_leaves_every_group_in_doubt() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    let other = log.create_group(GroupId(2), crate::BaseState::default()).unwrap();
    commit(&other, 1, 300).unwrap();
    while log.shared.state.lock().segments.len() < 2 {
        commit(&group, 1, 3_000).unwrap();
    }
    drop((log, group, other));
    world.spawner.kill_all();
    world.disk.kill_process();
    for path in world.disk.paths() {
        if path.extension().is_some_and(|ext| ext == "log") && !path.ends_with(file_name(SegmentNo(1))) {
            world.disk.remove_file(&path);
        }
    }
    let report = inspect(&world);
    assert!(!report.damage.is_empty());
    let open: Vec<_> = report.holes.iter().map(|hole| (hole.group, hole.first, hole.last)).collect();
    assert_eq!(open, [(GROUP, Lsn(1), None), (GroupId(2), Lsn(1), None)]);
}
