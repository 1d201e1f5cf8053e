//! Conditional writes.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use logwood_base::Clock;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::SystemClock;

use super::super::world::{DIR, World};
use super::{one, put_in_flight};
use crate::{Condition, Conditional, Durability, Error};

#[test]
fn a_write_is_done_if_its_condition_holds_and_else_tells_what_is_there() {
    let (world, ks) = one();
    let found = |value: Option<&[u8]>| Conditional::Refused(value.map(Into::into));
    assert_eq!(ks.put_if(b"k", b"1", Condition::Present).unwrap(), found(None));
    assert!(ks.put_if(b"k", b"1", Condition::Absent).unwrap().is_done());
    assert_eq!(ks.put_if(b"k", b"2", Condition::Absent).unwrap(), found(Some(b"1")));
    assert_eq!(ks.put_if(b"k", b"2", Condition::Equals(b"0")).unwrap(), found(Some(b"1")));
    assert!(ks.put_if(b"k", b"2", Condition::Equals(b"1")).unwrap().is_done());
    let seen = world.db().snapshot();
    assert!(ks.put_if(b"k", b"3", Condition::Unchanged(&seen)).unwrap().is_done());
    assert_eq!(ks.delete_if(b"k", Condition::Unchanged(&seen)).unwrap(), found(Some(b"3")));
    assert!(ks.delete_if(b"other", Condition::Unchanged(&seen)).unwrap().is_done());
    let Conditional::Done(lsn) = ks.delete_if(b"k", Condition::Equals(b"3")).unwrap() else { panic!() };
    assert!(world.db().visible_lsn() >= lsn && !ks.contains(b"k").unwrap());
    assert_eq!(ks.delete_if(b"k", Condition::Equals(b"3")).unwrap(), found(None));
    let (_other, foreign) = one();
    assert!(matches!(foreign.put_if(b"k", b"", Condition::Unchanged(&seen)), Err(Error::InvalidArgument(_))));
    assert!(matches!(ks.put_if(&[0; 70_000], b"", Condition::Absent), Err(Error::LimitExceeded { .. })));
}

#[test]
pub(crate) fn a_condition_that_does_not_hold_is_answered_when_what_it_read_is_visible() {
    let (world, ks) = one();
    let ticket = put_in_flight(world.db(), &ks, b"a", b"in flight");
    assert!(!ks.contains(b"a").unwrap());
    let outcome = ks.put_if(b"a", b"mine", Condition::Absent).unwrap();
    assert_eq!(outcome, Conditional::Refused(Some(b"in flight"[..].into())));
    assert!(world.db().visible_lsn() >= ticket.lsn(), "a crash cannot take it back any more");
    ticket.wait().unwrap();
    // What is visible is answered at once, whatever else is in flight.
    let ticket = put_in_flight(world.db(), &ks, b"b", b"in flight");
    assert!(!ks.put_if(b"a", b"mine", Condition::Absent).unwrap().is_done());
    assert!(world.db().visible_lsn() < ticket.lsn());
    ticket.wait().unwrap();
}

#[test]
fn the_ticket_of_a_conditional_write_is_answered_when_what_it_tells_of_is_visible() {
    let (world, ks) = one();
    let put = |key: &[u8], condition| ks.put_if_async(key, b"mine", condition, Durability::Durable).unwrap();
    let done = put(b"a", Condition::Absent);
    let refused = put(b"a", Condition::Absent);
    let deleted = ks.delete_if_async(b"a", Condition::Equals(b"mine"), Durability::Durable).unwrap();
    let gone = put(b"a", Condition::Present);
    // Each saw what was decided before it; nothing of it is durable, and nothing is told.
    assert!(!done.is_done() && !refused.is_done() && !deleted.is_done() && !gone.is_done());
    assert_eq!((refused.lsn(), gone.lsn()), (done.lsn(), deleted.lsn()));
    assert!(!ks.contains(b"a").unwrap() && world.db().visible_lsn() < done.lsn());
    // In any order, and more than once. What a refusal waits for, it writes when nobody else does.
    assert_eq!(refused.wait().unwrap(), Conditional::Refused(Some(b"mine"[..].into())));
    assert!(done.is_done() && world.db().durable_lsn() >= done.lsn());
    assert_eq!(done.wait().unwrap(), Conditional::Done(done.lsn()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut polled = std::pin::pin!(gone);
    let mut poll = || polled.as_mut().poll(&mut context);
    if poll().is_pending() {
        world.spawner.run_until_idle(Duration::ZERO, 100);
    }
    assert!(matches!(poll(), Poll::Ready(Ok(Conditional::Refused(None)))));
    assert_eq!(deleted.wait().unwrap(), Conditional::Done(deleted.lsn()));
    assert!(!ks.contains(b"a").unwrap());
    assert_eq!(deleted.wait().unwrap(), Conditional::Done(deleted.lsn()));
    // Dropped, it is written all the same.
    drop(put(b"b", Condition::Absent));
    assert!(!put(b"b", Condition::Absent).wait().unwrap().is_done());
    let too_long = ks.put_if_async(&[0; 70_000], b"", Condition::Absent, Durability::Durable);
    assert!(matches!(too_long, Err(Error::LimitExceeded { .. })));
    // Both outcomes of one write that fails are unknown.
    let written = put(b"c", Condition::Absent);
    let refused = put(b"c", Condition::Absent);
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable, Operation::Sync], Outcome::Io));
    assert!(matches!(refused.wait(), Err(Error::Poisoned { .. })));
    assert!(matches!(written.wait(), Err(Error::Poisoned { .. })));
}

#[test]
fn a_condition_read_in_flight_is_poisoned_with_it() {
    let (world, ks) = one();
    let ticket = put_in_flight(world.db(), &ks, b"a", b"in flight");
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable, Operation::Sync], Outcome::Io));
    let outcome = ks.put_if(b"a", b"mine", Condition::Absent);
    assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
    assert!(ticket.wait().is_err() && !ks.contains(b"a").unwrap());
    let outcome = ks.put_if(b"a", b"mine", Condition::Present);
    assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn of_many_threads_that_want_the_same_key_one_gets_it() {
    let home = tempfile::tempdir().unwrap();
    let db = crate::Database::open(home.path(), crate::Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    for round in 0..20u8 {
        let winners = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|thread| {
                    let ks = ks.clone();
                    scope.spawn(move || ks.put_if(&[round], &[thread], Condition::Absent).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let won: Vec<u8> = (0..8).filter(|thread| winners[usize::from(*thread)].is_done()).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(ks.get(&[round]).unwrap().as_deref(), Some(&won[..]));
        let losers = winners.iter().filter(|winner| **winner == Conditional::Refused(Some(won[..].into())));
        assert_eq!(losers.count(), 7, "everybody who lost is told who won");
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "what is tested is what a thread does while another one has the lock"
)]
fn a_long_value_is_compared_before_the_lock_and_read_once() {
    let mut world = World::new(1);
    world.options = world.options.clone().background(false);
    world.open(0).unwrap();
    let ks = world.db().ensure_keyspace("k").unwrap();
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    ks.put(b"long", &value).unwrap();
    drop(ks);
    world.db().checkpoint().unwrap();
    world.db().close().unwrap();
    world.db = Some(crate::Database::open(DIR, world.options.clone()).unwrap());
    let ks = world.db().keyspace("k").unwrap();
    let core = world.db().core();
    let reads = || core.forest.statistics().overflow_reads;
    let pieces = {
        let before = reads();
        assert!(ks.get(b"long").unwrap().as_deref() == Some(&value[..]));
        reads() - before
    };
    assert!(pieces > 10);
    // Whether there is one, and whether it has another length, is known without reading it.
    let before = reads();
    assert!(ks.put_if(b"other", b"1", Condition::Absent).unwrap().is_done());
    assert!(ks.put_if(b"other", b"2", Condition::Equals(b"1")).unwrap().is_done());
    assert_eq!(reads(), before);
    let refused = ks.put_if(b"long", b"short", Condition::Absent).unwrap();
    assert!(refused == Conditional::Refused(Some(value[..].into())));
    assert_eq!(reads() - before, pieces, "what is answered is read once");
    let seen = world.db().snapshot();
    let before = reads();
    let sequencer = core.sequencer.lock();
    std::thread::scope(|scope| {
        let compares = scope.spawn(|| ks.put_if(b"long", b"short", Condition::Equals(&value)));
        let clock = SystemClock::new();
        while reads() - before < pieces && clock.monotonic() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert_eq!(reads() - before, pieces, "it is read while somebody else has the lock");
        drop(sequencer);
        assert!(compares.join().unwrap().unwrap().is_done());
    });
    assert_eq!(reads() - before, pieces, "and not once more");
    let refused = ks.delete_if(b"long", Condition::Unchanged(&seen)).unwrap();
    assert_eq!(refused, Conditional::Refused(Some(b"short"[..].into())));
    drop((seen, ks));
}

#[test]
fn a_value_that_went_and_came_again_is_unchanged_to_a_condition_and_a_conflict_to_a_transaction() {
    let (world, ks) = one();
    ks.put(b"k", b"1").unwrap();
    let seen = world.db().snapshot();
    let mut transaction = world.db().transaction();
    assert_eq!(transaction.get(&ks, b"k").unwrap().as_deref(), Some(&b"1"[..]));
    transaction.put(&ks, b"k", b"of the transaction").unwrap();
    ks.delete(b"k").unwrap();
    ks.put(b"k", b"1").unwrap();
    assert!(ks.put_if(b"k", b"2", Condition::Unchanged(&seen)).unwrap().is_done());
    ks.put(b"k", b"1").unwrap();
    assert!(matches!(transaction.commit(crate::Durability::Durable), Err(Error::Conflict(_))));
    // The same without a second change, by a put of what is there.
    let mut transaction = world.db().transaction();
    assert!(transaction.contains(&ks, b"k").unwrap());
    transaction.put(&ks, b"k", b"of the transaction").unwrap();
    ks.put(b"k", b"1").unwrap();
    assert!(matches!(transaction.commit(crate::Durability::Durable), Err(Error::Conflict(_))));
}
