//! Threads that wait while the disk is full.

use std::sync::mpsc;
use std::time::Duration;

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Error, Lsn, Term};

use super::world::{GROUP, World, append_at, commit, small};
use crate::calls::Calls;
use crate::format::BLOCK;
use crate::{Durability, Log};

/// Makes the next image need a segment that cannot be prepared, which appending does not let happen.
fn take_room_away(world: &World, log: &Log) {
    let mut state = log.shared.state.lock();
    state.prepared.clear();
    state.tail = state.current().bytes - BLOCK;
    drop(state);
    world.disk.set_fault(Fault::new(&[Operation::Create], Outcome::DiskFull).for_ever());
}

#[test]
fn when_there_is_no_room_to_go_on_every_waiting_thread_is_told_and_may_wait_again() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    let tickets: Vec<_> = (1..=3)
        .map(|lsn| append_at(&group, Lsn(lsn), Term(1), 1, 300, Durability::Durable).unwrap())
        .collect();
    log.shared.state.lock().exclusive = true;
    let (told, outcomes) = mpsc::channel();
    for ticket in tickets.clone() {
        let told = told.clone();
        #[allow(clippy::disallowed_methods, reason = "what is tested are threads")]
        std::thread::spawn(move || told.send(ticket.wait()).unwrap());
    }
    let asleep = || log.shared.state.lock().queue.iter().map(|image| image.waiters).sum::<usize>();
    while asleep() < 3 {
        std::thread::yield_now();
    }
    take_room_away(&world, &log);
    let mut state = log.shared.state.lock();
    state.exclusive = false;
    log.shared.release(state, Calls::default());
    for _ in 0..3 {
        let outcome = outcomes.recv_timeout(Duration::from_secs(20)).expect("nobody is left asleep");
        assert!(matches!(outcome, Err(Error::DiskFull { .. })), "{outcome:?}");
    }
    world.disk.clear_faults();
    tickets.iter().for_each(|ticket| ticket.wait().unwrap());
    assert_eq!(group.durable_lsn(), Lsn(3));
}

#[test]
fn an_idle_seal_that_finds_no_room_is_not_queued() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    commit(&group, 1, 300).unwrap();
    take_room_away(&world, &log);
    assert!(matches!(log.shared.seal(), Err(Error::DiskFull { .. })));
    assert!(log.shared.state.lock().queue.is_empty());
    world.disk.clear_faults();
    log.shared.seal().unwrap();
    assert!(!log.shared.state.lock().unproven);
    assert_eq!(log.group(GROUP).unwrap().last().0, Lsn(1));
}
