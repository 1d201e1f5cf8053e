//! Interleavings of the commit path, explored at random.
//!
//! `RUSTFLAGS="--cfg logwood_shuttle" cargo test --release -p logwood-wal --test shuttle --target-dir target/shuttle`
#![cfg(logwood_shuttle)]

use std::path::Path;
use std::sync::Arc;

use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::sync::Mutex;
use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
use logwood_wal::{Append, BaseState, Durability, Expect, Group, Log, LogOptions, Ticket};

fn environment(disk: &SimulatedDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(0)),
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, batches_in_flight_max: 2, ..LogOptions::default() }
}

fn append(group: &Group, order: &Mutex<Lsn>, bytes: usize, durability: Durability) -> Option<Ticket> {
    let mut last = order.lock();
    let payload = vec![1; bytes];
    let entries = [(Term(1), &payload[..])];
    let first_lsn = last.next();
    let ticket =
        group.append(Append { term: Term(1), previous: None, first_lsn, entries: &entries, durability });
    *last = if ticket.is_ok() { first_lsn } else { *last };
    ticket.ok()
}

/// Three threads commit; with `fail_at`, that durable write fails. What was acknowledged survives a power cut.
fn commit_from_threads(bytes: usize, fail_at: Option<u64>) {
    let disk = SimulatedDisk::new(1);
    let env = environment(&disk);
    let log = Log::create(&env, Path::new("log"), DatabaseId(1), options()).unwrap();
    let group = log.create_group(GroupId(1), BaseState::default()).unwrap();
    if let Some(n) = fail_at {
        disk.set_fault(Fault::new(&[Operation::WriteDurable, Operation::Sync], Outcome::Io).nth(n));
    }
    let order = Arc::new(Mutex::new(Lsn::ZERO));
    let acknowledged = Arc::new(Mutex::new(Lsn::ZERO));
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let (group, order, acknowledged) = (group.clone(), Arc::clone(&order), Arc::clone(&acknowledged));
            shuttle::thread::spawn(move || {
                for n in 0..3 {
                    let buffered = (thread + n) % 3 == 0;
                    let durability = if buffered { Durability::Buffered } else { Durability::Durable };
                    let Some(ticket) = append(&group, &order, bytes, durability) else { return };
                    if ticket.wait().is_ok() && !buffered {
                        let mut acknowledged = acknowledged.lock();
                        *acknowledged = (*acknowledged).max(ticket.last_lsn());
                        assert!(group.durable_lsn() >= ticket.last_lsn());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let acknowledged = *acknowledged.lock();
    assert!(fail_at.is_some() || acknowledged > Lsn::ZERO);
    drop((log, group));
    // Where commits shared their writes there were fewer than n: the fault must not strike the next open.
    disk.clear_faults();
    disk.crash(&mut fastrand::Rng::with_seed(1));
    let (log, _) =
        Log::open(&environment(&disk), Path::new("log"), Expect::default(), options(), &mut |_| {}).unwrap();
    assert!(log.group(GroupId(1)).unwrap().last().0 >= acknowledged);
}

/// The log is synced and closed while two threads commit. A sync covers what was appended before it; after the close
/// nothing is written any more, and what is in the log then is what its tickets were told.
fn close_beside_commits() {
    let disk = SimulatedDisk::new(1);
    let log = Log::create(&environment(&disk), Path::new("log"), DatabaseId(1), options()).unwrap();
    let group = log.create_group(GroupId(1), BaseState::default()).unwrap();
    let order = Arc::new(Mutex::new(Lsn::ZERO));
    let acknowledged = Arc::new(Mutex::new(Lsn::ZERO));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (group, order, acknowledged) = (group.clone(), Arc::clone(&order), Arc::clone(&acknowledged));
            shuttle::thread::spawn(move || {
                while let Some(ticket) = append(&group, &order, 100, Durability::Durable) {
                    if ticket.wait().is_ok() {
                        let mut acknowledged = acknowledged.lock();
                        *acknowledged = (*acknowledged).max(ticket.last_lsn());
                    }
                    if ticket.last_lsn() >= Lsn(4) {
                        return;
                    }
                }
            })
        })
        .collect();
    let appended = group.appended_lsn();
    log.sync().unwrap();
    assert!(group.durable_lsn() >= appended, "{} of {appended}", group.durable_lsn());
    log.close().unwrap();
    let operations = disk.operations();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(disk.operations(), operations, "written after closing");
    drop((log, group));
    let (log, _) =
        Log::open(&environment(&disk), Path::new("log"), Expect::default(), options(), &mut |_| {}).unwrap();
    assert_eq!(log.group(GroupId(1)).unwrap().last().0, *acknowledged.lock());
}

/// The log is compacted while two threads commit, in segments of which the small ones hold a few entries only. What was
/// acknowledged is there afterwards.
fn compact_beside_commits() {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions { segment_bytes: 256 << 10, ..options() };
    let log = Log::create(&environment(&disk), Path::new("log"), DatabaseId(1), options.clone()).unwrap();
    let group = log.create_group(GroupId(1), BaseState::default()).unwrap();
    let order = Arc::new(Mutex::new(Lsn::ZERO));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (group, order) = (group.clone(), Arc::clone(&order));
            shuttle::thread::spawn(move || {
                for _ in 0..4 {
                    append(&group, &order, 30_000, Durability::Durable).unwrap().wait().unwrap();
                }
            })
        })
        .collect();
    log.compact().unwrap();
    group.release(group.durable_lsn());
    log.compact().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop((log, group));
    disk.crash(&mut fastrand::Rng::with_seed(1));
    let (log, _) =
        Log::open(&environment(&disk), Path::new("log"), Expect::default(), options, &mut |_| {}).unwrap();
    assert_eq!(log.group(GroupId(1)).unwrap().last().0, Lsn(8));
}

/// One thread votes, another one jumps to a snapshot, a third one commits behind wherever the group is. Each is answered
/// well, nothing counts as durable that a power cut takes, and what was answered is there afterwards.
fn vote_beside_a_jump() {
    let disk = SimulatedDisk::new(1);
    let log = Log::create(&environment(&disk), Path::new("log"), DatabaseId(1), options()).unwrap();
    let group = log.create_group(GroupId(1), BaseState::default()).unwrap();
    let voting = group.clone();
    let voter = shuttle::thread::spawn(move || {
        voting.set_vote(Term(2), NodeId(1)).unwrap();
        voting.set_vote(Term(3), NodeId(2)).unwrap();
    });
    let moving = group.clone();
    let mover = shuttle::thread::spawn(move || {
        moving.set_base(Lsn(7), Term(2), b"members of a snapshot").unwrap();
        assert!(moving.durable_lsn() >= Lsn(7));
    });
    let (last, _) = group.last();
    let entries = [(Term(2), &b"entry"[..])];
    let append = Append {
        term: Term(2),
        previous: None,
        first_lsn: last.next(),
        entries: &entries,
        durability: Durability::Durable,
    };
    // Refused when the jump came in between.
    let committed = group.append(append).and_then(|ticket| ticket.wait());
    let durable = group.durable_lsn();
    let cut = disk.snapshot();
    cut.crash(&mut fastrand::Rng::with_seed(1));
    let (again, _) =
        Log::open(&environment(&cut), Path::new("log"), Expect::default(), options(), &mut |_| {}).unwrap();
    let kept = again.group(GroupId(1)).unwrap().last().0;
    assert!(kept >= durable, "{kept} of {durable}");
    voter.join().unwrap();
    mover.join().unwrap();
    assert!(committed.is_ok() || last < Lsn(7));
    assert_eq!(group.vote(), (Term(3), NodeId(2)));
    assert_eq!(group.membership(), (Lsn(7), b"members of a snapshot".to_vec()));
}

#[test]
fn no_interleaving_of_votes_with_a_jump_is_taken_for_damage_or_is_durable_too_early() {
    shuttle::check_random(vote_beside_a_jump, 1_000);
}

#[test]
fn no_interleaving_of_compaction_with_commits_hangs_or_loses_an_acknowledged_entry() {
    shuttle::check_random(compact_beside_commits, 500);
}

#[test]
fn no_interleaving_of_closing_with_commits_answers_wrongly_or_writes_afterwards() {
    shuttle::check_random(close_beside_commits, 1_000);
}

#[test]
fn no_interleaving_of_commits_hangs_or_loses_an_acknowledged_entry() {
    shuttle::check_random(|| commit_from_threads(100, None), 2_000);
}

#[test]
fn no_interleaving_of_commits_with_rolls_hangs() {
    shuttle::check_random(|| commit_from_threads(12_000, None), 500);
}

#[test]
fn no_interleaving_acknowledges_behind_a_failed_write() {
    for n in 1..6 {
        shuttle::check_random(move || commit_from_threads(100, Some(n)), 300);
    }
}
