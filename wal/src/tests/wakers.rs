//! Futures that are woken, and what their wakers may do: an executor may run the future inside of the call that wakes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::ThreadSpawner;
use logwood_base::{Environment, Error, Lsn, Result, Term};

use super::hooked::{SOON, aside};
use super::world::{DATABASE, GROUP, World, append_at, commit, small};
use crate::calls::Calls;
use crate::format::BLOCK;
use crate::{BaseState, Durability, Group, Log, Ticket};

/// What a waker does inside of the call, once.
type Work = Box<dyn FnOnce() + Send>;

struct Inline(Mutex<Option<Work>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let work = self.0.lock().unwrap().take();
        work.into_iter().for_each(|work| work());
    }
}

/// Polls a ticket with a waker that does that.
fn poll_with(mut ticket: Ticket, work: impl FnOnce() + Send + 'static) -> Poll<Result<()>> {
    let waker = Waker::from(Arc::new(Inline(Mutex::new(Some(Box::new(work))))));
    Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker))
}

fn append(group: &Group, lsn: u64) -> Ticket {
    append_at(group, Lsn(lsn), Term(1), 1, 300, Durability::Durable).unwrap()
}

/// A log whose background work has threads of its own.
fn with_threads(world: &World) -> (Log, Group) {
    let env = Environment { spawner: Arc::new(ThreadSpawner), ..world.env.clone() };
    let log = Log::create(&env, &world.dir, DATABASE, small()).unwrap();
    let group = log.create_group(GROUP, BaseState::default()).unwrap();
    (log, group)
}

/// Makes the log exclusive, so that nobody writes, and has the next image need another segment.
fn stop_before_a_roll(log: &Log) {
    let mut state = log.shared.come_to_rest();
    assert!(!state.prepared.is_empty());
    state.tail = state.current().bytes - 2 * BLOCK;
}

fn go_on(log: &Log) {
    let mut state = log.shared.state.lock();
    state.exclusive = false;
    log.shared.release(state, Calls::default());
}

#[test]
fn who_is_woken_because_a_roll_failed_may_close_the_log_at_once() {
    // The closing seal, the next header, and the seal that says that it is durable.
    for nth in 1..=3 {
        let world = World::new(1);
        let (log, group) = with_threads(&world);
        log.shared.prepare_segment(|state| state.prepared.is_empty()).unwrap();
        stop_before_a_roll(&log);
        let ticket = append(&group, 1);
        let (told, outcome) = mpsc::channel();
        let closing = log.clone();
        assert!(poll_with(ticket.clone(), move || told.send(closing.close()).unwrap()).is_pending());
        world.disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io).nth(nth));
        go_on(&log);
        let waited = aside(move || ticket.wait());
        let closed = outcome.recv_timeout(SOON).expect("closing comes to its end");
        assert!(matches!(closed, Err(Error::Poisoned { .. })), "{nth}: {closed:?}");
        assert!(waited.recv_timeout(SOON).unwrap().is_err(), "{nth}");
        drop(world.env.disk.lock(&world.dir).unwrap());
    }
}

#[test]
fn who_is_woken_while_segments_are_let_go_may_ask_for_the_same() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..60 {
        commit(&group, 1, 3_000).unwrap();
    }
    group.release(Lsn(50));
    let ticket = append(&group, 61);
    let (told, outcome) = mpsc::channel();
    let maintaining = log.clone();
    assert!(poll_with(ticket, move || told.send(maintaining.maintain()).unwrap()).is_pending());
    // Whoever writes the base with which they go writes the entry before it.
    let maintained = aside(move || log.maintain());
    maintained.recv_timeout(SOON).expect("nobody waits for itself").unwrap();
    assert_eq!(group.durable_lsn(), Lsn(61));
    world.rest();
    outcome.recv_timeout(SOON).expect("background work wakes who waits").unwrap();
}

#[test]
fn who_is_woken_may_drop_the_last_handle_at_once() {
    let world = World::new(1);
    let (log, group) = with_threads(&world);
    let ticket = append(&group, 1);
    let (told, outcome) = mpsc::channel();
    let mut handles = Some((log, group));
    let polled = poll_with(ticket, move || {
        handles.take();
        told.send(()).unwrap();
    });
    if polled.is_pending() {
        outcome.recv_timeout(SOON).expect("dropping comes to its end");
    }
    // The step in which it happened still holds the directory's lock.
    let opened = aside(move || {
        while world.env.disk.lock(&world.dir).is_err() {
            std::thread::yield_now();
        }
    });
    opened.recv_timeout(SOON).expect("the directory is free");
}

#[test]
fn futures_that_wait_for_a_log_that_is_closed_are_woken_by_who_closes_it() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    let woken = Arc::new(AtomicU64::new(0));
    let count = |woken: &Arc<AtomicU64>| {
        let woken = Arc::clone(woken);
        move || assert!(woken.fetch_add(1, Ordering::SeqCst) < 2)
    };
    assert!(poll_with(append(&group, 1), count(&woken)).is_pending());
    // Written by another thread, before the writer task was ever stepped.
    append(&group, 2).wait().unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    assert!(poll_with(append(&group, 3), count(&woken)).is_pending());
    log.close().unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 2, "the one that was done, and the one that closing wrote");
}

#[test]
fn futures_are_woken_when_the_log_stops() {
    let world = World::new(1);
    let (_log, group) = world.create(small()).unwrap();
    world.rest();
    let (told, outcome) = mpsc::channel();
    let tell = |told: &Sender<()>| {
        let told = told.clone();
        move || told.send(()).unwrap()
    };
    let tickets = [append(&group, 1), append(&group, 2)];
    for ticket in &tickets {
        assert!(poll_with(ticket.clone(), tell(&told)).is_pending());
    }
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io));
    assert!(tickets[0].wait().is_err());
    world.rest();
    assert_eq!(outcome.try_iter().count(), 2);
}

#[test]
fn futures_beside_threads_that_write_for_them_are_all_woken() {
    let world = World::new(1);
    let (log, group) = with_threads(&world);
    let woken = Arc::new(AtomicU64::new(0));
    let mut pending = 0;
    for lsn in 1..=400 {
        let ticket = append(&group, lsn);
        let counted = Arc::clone(&woken);
        let polled = poll_with(ticket.clone(), move || assert!(counted.fetch_add(1, Ordering::SeqCst) < 400));
        pending += u64::from(polled.is_pending());
        if lsn % 3 == 0 {
            ticket.wait().unwrap();
        }
    }
    log.sync().unwrap();
    let everybody = Arc::clone(&woken);
    let all = aside(move || {
        while everybody.load(Ordering::SeqCst) < pending {
            std::thread::yield_now();
        }
    });
    all.recv_timeout(SOON).expect("nobody is forgotten");
    assert!(pending > 0);
}
