//! What is still on its way to the disk when somebody syncs, closes, holds, or the disk panics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Environment, Error, Lsn, Term};

use super::hooked::{Gate, HookedDisk, SOON, VAIN, aside};
use super::world::{DATABASE, GROUP, World, append_at, commit, small};
use crate::{BaseState, Durability, Group, Log, LogOptions, Ticket};

/// A log over a hooked disk.
fn create(
    world: &World,
    options: LogOptions,
    hook: impl Fn(Operation) + Send + Sync + 'static,
) -> (Log, Group) {
    let env = Environment { disk: HookedDisk::new(&world.disk, hook), ..world.env.clone() };
    let log = Log::create(&env, &world.dir, DATABASE, options).unwrap();
    let group = log.create_group(GROUP, BaseState::default()).unwrap();
    (log, group)
}

/// A log whose first entry is on its way to the disk, held at the gate; and what its thread is told.
fn with_a_write_in_flight(world: &World) -> (Log, Group, Arc<Gate>, Receiver<Result<(), Error>>) {
    let gate = Arc::new(Gate::default());
    let passing = Arc::clone(&gate);
    let (log, group) = create(world, small(), move |operation| passing.pass(operation));
    gate.close();
    let ticket = append_durably(&group, 1);
    let told = aside(move || ticket.wait());
    gate.wait_for_the_held_one();
    (log, group, gate, told)
}

fn append_durably(group: &Group, lsn: u64) -> Ticket {
    append_at(group, Lsn(lsn), Term(1), 1, 300, Durability::Durable).unwrap()
}

#[test]
fn a_sync_answers_after_the_durable_writes_that_were_in_flight() {
    let world = World::new(1);
    let (log, group, gate, told) = with_a_write_in_flight(&world);
    let synced = aside(move || log.sync().map(|()| group.durable_lsn()));
    assert!(synced.recv_timeout(VAIN).is_err(), "the entry is not durable yet");
    gate.open();
    assert_eq!(synced.recv_timeout(SOON).unwrap().unwrap(), Lsn(1));
    told.recv_timeout(SOON).unwrap().unwrap();
}

#[test]
fn closing_waits_for_a_write_in_flight_and_its_thread_is_told_that_it_is_durable() {
    let world = World::new(1);
    let (log, _group, gate, told) = with_a_write_in_flight(&world);
    let closed = aside(move || log.close());
    assert!(closed.recv_timeout(VAIN).is_err(), "a write is in flight");
    assert!(matches!(world.env.disk.lock(&world.dir), Err(Error::AlreadyOpen { .. })));
    gate.open();
    told.recv_timeout(SOON).unwrap().unwrap();
    closed.recv_timeout(SOON).unwrap().unwrap();
    drop(world.env.disk.lock(&world.dir).unwrap());
}

#[test]
fn closing_a_log_that_stopped_waits_for_what_is_still_in_flight() {
    let world = World::new(1);
    let (log, group, gate, told) = with_a_write_in_flight(&world);
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io));
    assert!(matches!(append_durably(&group, 2).wait(), Err(Error::Poisoned { .. })));
    let closed = aside(move || log.close());
    assert!(closed.recv_timeout(VAIN).is_err(), "a write is in flight");
    assert!(matches!(world.env.disk.lock(&world.dir), Err(Error::AlreadyOpen { .. })));
    gate.open();
    assert!(matches!(told.recv_timeout(SOON).unwrap(), Err(Error::Poisoned { .. })));
    assert!(matches!(closed.recv_timeout(SOON).unwrap(), Err(Error::Poisoned { .. })));
    drop(world.env.disk.lock(&world.dir).unwrap());
}

/// Entry 1 is buffered and entry 2 durable; the disk panics in the `nth` operation of a kind. Whoever waits is told,
/// and closing comes to its end.
fn panic_in(operation: Operation, nth: u64, bytes: usize) {
    let world = World::new(1);
    let left = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&left);
    let (log, group) = create(&world, small(), move |called| {
        let armed = called == operation && counted.load(Ordering::SeqCst) > 0;
        assert!(!armed || counted.fetch_sub(1, Ordering::SeqCst) > 1, "planted: the disk panics");
    });
    log.shared.state.lock().exclusive = true;
    let tickets: Vec<_> = (1..=6)
        .map(|lsn| {
            let durability = if lsn % 2 == 1 { Durability::Buffered } else { Durability::Durable };
            append_at(&group, Lsn(lsn), Term(1), 1, bytes, durability).unwrap()
        })
        .collect();
    let outcomes: Vec<_> = tickets.into_iter().map(|ticket| aside(move || ticket.wait())).collect();
    left.store(nth, Ordering::SeqCst);
    let mut state = log.shared.state.lock();
    state.exclusive = false;
    log.shared.release(state, crate::calls::Calls::default());
    let mut panicked = 0;
    for outcome in outcomes {
        match outcome.recv_timeout(SOON) {
            Ok(told) => assert!(matches!(told, Ok(()) | Err(Error::Poisoned { .. })), "{told:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panicked += 1,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("somebody is left asleep"),
        }
    }
    assert_eq!(panicked, 1, "{operation:?} {nth}");
    let closed = aside(move || log.close());
    let closed = closed.recv_timeout(SOON).expect("closing comes to its end");
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
}

#[test]
fn a_disk_that_panics_stops_the_log_and_leaves_nobody_asleep() {
    panic_in(Operation::Write, 1, 6_000);
    panic_in(Operation::Sync, 1, 6_000);
    panic_in(Operation::WriteDurable, 1, 6_000);
}

#[test]
fn a_disk_that_panics_in_a_roll_stops_the_log_and_leaves_nobody_asleep() {
    // A small segment is full after four entries: there follow the closing seal and the next header.
    for nth in 2..=4 {
        panic_in(Operation::WriteDurable, nth, 15_000);
    }
}

#[test]
fn a_hold_that_is_granted_while_the_oldest_segment_goes_keeps_its_entries() {
    let world = World::new(1);
    let holder: Arc<OnceLock<Group>> = Arc::default();
    let hold = Arc::new(Mutex::new(None));
    let (asking, granted) = (Arc::clone(&holder), Arc::clone(&hold));
    let (log, group) = create(&world, small(), move |operation| {
        if let (Operation::Create, Some(group)) = (operation, asking.get()) {
            granted.lock().unwrap().get_or_insert_with(|| group.hold("replica", Lsn(3)).unwrap());
        }
    });
    for _ in 0..60 {
        commit(&group, 1, 3_000).unwrap();
    }
    group.release(Lsn(50));
    // Room for the base has to be made first, and that is when the hold is asked for: the base is decided by then, and
    // the lock is free.
    let mut state = log.shared.state.lock();
    state.prepared.clear();
    state.tail = state.current().bytes - crate::format::BLOCK;
    drop(state);
    assert!(holder.set(group.clone()).is_ok());
    log.maintain().unwrap();
    let hold = hold.lock().unwrap().take().expect("the hold was granted in between");
    assert!(!hold.is_lost());
    assert!(group.first_lsn() <= Lsn(3), "{} was promised", Lsn(3));
    assert_eq!(group.read(Lsn(3), Lsn(4), 1 << 20).unwrap().len(), 1);
    drop(hold);
    log.maintain().unwrap();
    assert!(group.first_lsn() > Lsn(3), "the rest goes once nobody holds it");
}
