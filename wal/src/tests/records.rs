//! Votes and bases while their writes are on their way: what else happens meanwhile is neither taken for damage, nor for
//! durable.

use std::sync::Arc;

use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};

use super::hooked::{Gate, HookedDisk, SOON, aside};
use super::world::{GROUP, World, append_at, commit, contents, small};
use crate::{BaseState, Durability, Group, Log};

/// A log over a disk that holds a durable write back while the gate is closed.
fn create(world: &World) -> (Log, Group, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let passing = Arc::clone(&gate);
    let disk = HookedDisk::new(&world.disk, move |operation| passing.pass(operation));
    let env = Environment { disk, ..world.env.clone() };
    let log = Log::create(&env, &world.dir, DatabaseId(7), small()).unwrap();
    let group = log.create_group(GROUP, BaseState::default()).unwrap();
    (log, group, gate)
}

/// Yields until something is so, which it will be.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn a_base_that_is_placed_behind_a_vote_on_its_way_is_not_taken_for_damage_of_the_vote() {
    for keeps in [true, false] {
        let world = World::new(1);
        let (log, group, gate) = create(&world);
        for _ in 0..3 {
            commit(&group, 1, 300).unwrap();
        }
        gate.close();
        let voting = group.clone();
        let voted = aside(move || voting.set_vote(Term(5), NodeId(3)));
        gate.wait_for_the_held_one();
        let (moving, lsn) = (group.clone(), Lsn(if keeps { 2 } else { 9 }));
        let moved = aside(move || moving.set_base(lsn, Term(1), b"members of the snapshot"));
        until(|| log.shared.state.lock().groups[&GROUP].placed.base.0 == lsn);
        gate.open();
        voted.recv_timeout(SOON).unwrap().unwrap();
        moved.recv_timeout(SOON).unwrap().unwrap();
        assert_eq!(group.vote(), (Term(5), NodeId(3)));
        assert_eq!(group.membership(), (lsn, b"members of the snapshot".to_vec()));
        commit(&group, 5, 300).unwrap();
    }
}

#[test]
fn copies_of_a_vote_are_read_back_both_although_their_segment_was_let_go_of() {
    let world = World::new(1);
    let (log, group, _gate) = create(&world);
    let queued = log.shared.queue_state(GROUP, Some((Term(5), NodeId(3))), None).unwrap();
    log.shared.wait(queued.sequence).unwrap();
    for _ in 0..60 {
        commit(&group, 5, 3_000).unwrap();
    }
    group.release(Lsn(50));
    log.maintain().unwrap();
    assert!(
        world.disk.read_file(&world.dir.join(crate::format::file_name(logwood_base::SegmentNo(1)))).is_none(),
        "it is gone"
    );
    log.shared.read_back_state(GROUP, &queued).unwrap();
    // Nothing is left to compare: that is no success.
    assert!(log.shared.read_back_state(GROUP, &queued).is_err());
}

#[test]
fn a_jump_to_a_snapshot_is_durable_when_its_write_has_come_home_and_not_before() {
    for jump in [Lsn(2), Lsn(9)] {
        let world = World::new(1);
        let (log, group, gate) = create(&world);
        for _ in 0..3 {
            commit(&group, 1, 300).unwrap();
        }
        gate.close();
        let moving = group.clone();
        let moved = aside(move || moving.set_base(jump, Term(2), b"members"));
        gate.wait_for_the_held_one();
        assert_eq!(group.base(), (jump, Term(2)));
        assert!(group.durable_lsn() < jump, "{} is on its way", group.durable_lsn());
        // An entry behind it is buffered: neither does the one make the other durable.
        append_at(&group, jump.next(), Term(2), 1, 300, Durability::Buffered).unwrap();
        assert!(group.durable_lsn() < jump);
        gate.open();
        moved.recv_timeout(SOON).unwrap().unwrap();
        assert_eq!(group.durable_lsn(), jump);
        log.sync().unwrap();
        assert_eq!(group.durable_lsn(), jump.next());
        assert_eq!(contents(&group, 300), [(jump.next(), Term(2))]);
    }
}

#[test]
fn a_group_that_begins_behind_a_base_is_durable_when_its_first_write_has_come_home() {
    let world = World::new(1);
    let (log, _group, gate) = create(&world);
    gate.close();
    let making = log.clone();
    let base = BaseState { lsn: Lsn(50), term: Term(3), membership: b"members".to_vec() };
    let made = aside(move || making.create_group(GroupId(2), base));
    gate.wait_for_the_held_one();
    let seen = log.group(GroupId(2)).expect("it is on its way");
    assert_eq!((seen.last().0, seen.durable_lsn()), (Lsn(50), Lsn::ZERO));
    gate.open();
    made.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(seen.durable_lsn(), Lsn(50));
}
