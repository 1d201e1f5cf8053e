//! What the log does when nothing goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use logwood_base::disk::simulated::Operation;
use logwood_base::environment::ThreadSpawner;
use logwood_base::{Environment, Error, Lsn, NodeId, Term};

use super::hooked::{HookedDisk, SOON, VAIN, aside};
use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, small};
use crate::{Durability, Expect, Group, Log};

#[test]
fn entries_come_back_from_memory_and_from_segments() {
    let world = World::new(1);
    let (log, group) = world.create(crate::LogOptions { recent_bytes_max: 2_000, ..small() }).unwrap();
    for _ in 0..300 {
        commit(&group, 1, 150).unwrap();
    }
    assert!(log.statistics().rolls > 3);
    assert!(log.statistics().recent_bytes <= 2_000 + 400);
    assert_eq!(contents(&group, 150).len(), 300);
    let some = group.read(Lsn(17), Lsn(40), 1_000).unwrap();
    assert_eq!(some[0].lsn, Lsn(17));
    assert_eq!(some.len(), 6, "six entries of 150 bytes stay below the bound");
    log.close().unwrap();
    assert!(
        group
            .append(crate::Append {
                term: Term(1),
                previous: None,
                first_lsn: Lsn(301),
                entries: &[(Term(1), b"late")],
                durability: Durability::Durable
            })
            .is_err()
    );
}

#[test]
fn a_vote_is_read_back_and_kept() {
    let world = World::new(1);
    let (_log, group) = world.create(small()).unwrap();
    group.set_vote(Term(3), NodeId(9)).unwrap();
    group.set_membership(Lsn(0), b"members").unwrap();
    assert_eq!(group.vote(), (Term(3), NodeId(9)));
    assert!(group.set_vote(Term(2), NodeId(9)).is_err());
    assert_eq!(group.membership().1, b"members");
}

#[test]
fn a_second_candidate_in_a_term_is_refused_also_after_reopening() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    group.set_vote(Term(3), NodeId(0)).unwrap();
    group.set_vote(Term(3), NodeId(9)).unwrap();
    let refuses = |group: &Group, term, node| {
        let before = group.vote();
        let error = group.set_vote(Term(term), NodeId(node)).unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { what: "vote", .. }), "{error}");
        assert_eq!(group.vote(), before);
    };
    refuses(&group, 3, 8);
    refuses(&group, 3, 0);
    group.set_vote(Term(3), NodeId(9)).unwrap();
    drop((log, group));
    world.spawner.kill_all();
    world.disk.crash(&mut fastrand::Rng::with_seed(1));
    let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
    let group = log.group(GROUP).unwrap();
    refuses(&group, 3, 8);
}

#[test]
fn buffered_and_durable_appends_mix() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for n in 1..=200u64 {
        let durability = if n % 7 == 0 { Durability::Durable } else { Durability::Buffered };
        append_at(&group, Lsn(n), Term(1), 1, 100, durability).unwrap().wait().unwrap();
        if n % 7 == 0 {
            assert_eq!(group.durable_lsn(), Lsn(n));
        }
    }
    assert!(group.durable_lsn() < Lsn(200));
    log.sync().unwrap();
    assert_eq!(group.durable_lsn(), Lsn(200));
    assert_eq!(contents(&group, 100).len(), 200);
}

#[test]
fn what_the_keeper_is_at_ends_with_the_last_handle_and_the_log_opens_again_at_once() {
    let world = World::new(1);
    drop(world.create(small()).unwrap());
    // 0: the keeper may prepare; 1: it is to be held at its next segment; 2: it is held.
    let gate = Arc::new(AtomicU8::new(1));
    let passing = Arc::clone(&gate);
    let disk = HookedDisk::new(&world.disk, move |operation| {
        let is_keeper = std::thread::current().name() == Some("logwood-log-keeper");
        if operation == Operation::Create && is_keeper {
            let _ = passing.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst);
            while passing.load(Ordering::SeqCst) == 2 {
                std::thread::yield_now();
            }
        }
    });
    let env = Environment { disk, spawner: Arc::new(ThreadSpawner), ..world.env.clone() };
    let (log, _) = Log::open(&env, &world.dir, Expect::default(), small(), &mut |_| {}).unwrap();
    let group = log.group(GROUP).unwrap();
    // A third of the segment.
    for _ in 0..5 {
        commit(&group, 1, 2_000).unwrap();
    }
    while gate.load(Ordering::SeqCst) != 2 {
        std::thread::yield_now();
    }
    drop(log);
    let dropped = aside(move || drop(group));
    assert!(dropped.recv_timeout(VAIN).is_err(), "the keeper still writes into the directory");
    gate.store(0, Ordering::SeqCst);
    dropped.recv_timeout(SOON).unwrap();
    Log::open(&env, &world.dir, Expect::default(), small(), &mut |_| {}).unwrap();
}
