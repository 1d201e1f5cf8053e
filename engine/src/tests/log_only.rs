//! A replica's log without trees.

use std::path::Path;
use std::sync::Arc;

use logwood_base::Disk;
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};

use crate::entry::{Body, Entry};
use crate::{Append, DatabaseId, Durability, Environment, Error, LogOnly, Lsn, NodeId, Options, Term};

const DIR: &str = "replica";

struct Replica {
    disk: SimulatedDisk,
    spawner: ManualSpawner,
    options: Options,
}

impl Replica {
    fn new() -> Self {
        let (disk, spawner) = (SimulatedDisk::new(1), ManualSpawner::new());
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(ManualClock::new(5)),
            random: Arc::new(SeededRandom::new(1)),
            spawner: Arc::new(spawner.clone()),
        };
        let options = super::world::small_options().environment(environment).database_id(DatabaseId(77));
        Self { disk, spawner, options }
    }

    fn open(&self) -> LogOnly {
        LogOnly::open(DIR, self.options.clone()).unwrap()
    }
}

fn payload(n: u64) -> Vec<u8> {
    Entry { time_ms: n, request: None, body: Body::Membership(&n.to_le_bytes()) }.encode()
}

fn append(log: &LogOnly, term: u64, first: u64, count: u64) -> crate::Result<()> {
    let payloads: Vec<_> = (first..first + count).map(|n| payload(n * 1000 + term)).collect();
    let entries: Vec<_> = payloads.iter().map(|payload| (Term(term), payload.as_slice())).collect();
    let append = Append {
        term: Term(term),
        previous: None,
        first_lsn: Lsn(first),
        entries: &entries,
        durability: Durability::Durable,
    };
    log.append(append)?.wait()
}

fn terms(log: &LogOnly, from: u64, to: u64) -> Vec<u64> {
    let mut terms = Vec::new();
    let mut next = Lsn(from);
    while next < Lsn(to) {
        for entry in log.read(next, Lsn(to), 4096).unwrap() {
            assert_eq!(&*entry.payload, payload(entry.lsn.get() * 1000 + entry.term.get()));
            terms.push(entry.term.get());
            next = entry.lsn.next();
        }
    }
    terms
}

#[test]
fn entries_votes_and_membership_survive_a_power_cut() {
    let replica = Replica::new();
    let log = replica.open();
    append(&log, 2, 1, 10).unwrap();
    append(&log, 4, 8, 5).unwrap(); // the new leader replaces the tail
    log.set_vote(Term(5), NodeId(3)).unwrap();
    log.set_membership(Lsn(9), b"three of us").unwrap();
    log.set_committed(Lsn(6));
    replica.disk.crash(&mut fastrand::Rng::with_seed(4));
    drop(log);
    replica.spawner.kill_all();

    let log = replica.open();
    assert_eq!(log.last(), (Lsn(12), Term(4)));
    assert_eq!(terms(&log, 1, 13), [2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4]);
    assert_eq!((log.vote(), log.membership()), ((Term(5), NodeId(3)), (Lsn(9), b"three of us".to_vec())));
    assert_eq!(log.term_of(Lsn(8)).unwrap(), Term(4));
    assert_eq!(log.statistics().database, DatabaseId(77));
    log.close().unwrap();
}

#[test]
fn gaps_old_terms_committed_entries_and_foreign_bytes_are_refused() {
    let replica = Replica::new();
    let log = replica.open();
    append(&log, 3, 1, 5).unwrap();
    log.set_committed(Lsn(4));
    for (term, first) in [(3, 7), (2, 6), (3, 4)] {
        let error = append(&log, term, first, 1).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_) | Error::Replaced(_)), "{term} {first}: {error}");
    }
    let garbage = Append {
        term: Term(3),
        previous: None,
        first_lsn: Lsn(6),
        entries: &[(Term(3), b"\x01")],
        durability: Durability::Durable,
    };
    assert!(matches!(log.append(garbage), Err(Error::InvalidArgument(_))));
    let newer = Append { entries: &[(Term(3), b"\xfe\0\0\0\0\0\0\0\0\0")], ..garbage };
    assert!(matches!(log.append(newer), Err(Error::UnsupportedFormat { .. })));
    let other_past =
        Append { previous: Some((Lsn(5), Term(1))), entries: &[(Term(3), &payload(1))], ..garbage };
    assert!(log.append(other_past).is_err());
    assert_eq!(log.last(), (Lsn(5), Term(3)));
    append(&log, 3, 6, 1).unwrap();
}

#[test]
fn entries_go_by_marks_and_holders_and_no_tree_file_ever_stands_there() {
    let replica = Replica::new();
    let log = replica.open();
    for first in (1..4000).step_by(100) {
        append(&log, 1, first, 100).unwrap();
    }
    let hold = log.hold("follower", Lsn(500)).unwrap();
    log.set_committed(Lsn(3000));
    log.release(Lsn(3000));
    replica.spawner.run_until_idle(std::time::Duration::ZERO, 1000);
    assert_eq!(terms(&log, 500, 502), [1, 1]);
    let before = log.statistics().log.segments;
    drop(hold);
    log.release(Lsn(3000));
    replica.spawner.run_until_idle(std::time::Duration::ZERO, 1000);
    assert!(log.statistics().log.segments < before);
    assert!(matches!(log.read(Lsn(1), Lsn(5), 100), Err(Error::TooOld { .. })));
    assert_eq!(terms(&log, 3500, 3502), [1, 1]);
    log.close().unwrap();
    for path in replica.disk.paths() {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        assert!(!parts.iter().any(|part| part == "pages" || part == "manifest"), "{parts:?}");
    }
}

#[test]
fn reading_data_is_refused_by_name() {
    let replica = Replica::new();
    let log = replica.open();
    let error = log.get("keyspace", b"key").unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }));
    assert_eq!(error.to_string(), "replica holds a log without trees, not a database");
    assert!(matches!(LogOnly::open(DIR, replica.options.clone()), Err(Error::AlreadyOpen { .. })));
    drop(log);
    replica.spawner.kill_all();
    let other = replica.options.clone().database_id(DatabaseId(78));
    assert!(LogOnly::open(Path::new(DIR), other).is_err(), "a log of another database");
}

#[test]
fn a_log_can_begin_behind_a_snapshot() {
    let replica = Replica::new();
    let base = crate::BaseState { lsn: Lsn(100), term: Term(6), membership: b"m".to_vec() };
    let log = LogOnly::open_behind(DIR, replica.options.clone(), base).unwrap();
    assert_eq!((log.base(), log.last()), ((Lsn(100), Term(6)), (Lsn(100), Term(6))));
    append(&log, 6, 101, 3).unwrap();
    assert!(matches!(log.read(Lsn(100), Lsn(103), 100), Err(Error::TooOld { .. })));
    log.set_base(Lsn(102), Term(6), b"m2").unwrap();
    log.close().unwrap();
    let log = replica.open();
    assert_eq!((log.base().0, log.last().0), (Lsn(102), Lsn(103)));
}

/// A replica that has voted, closed.
fn voted() -> Replica {
    let replica = Replica::new();
    let log = replica.open();
    append(&log, 2, 1, 3).unwrap();
    log.set_vote(Term(5), NodeId(3)).unwrap();
    log.close().unwrap();
    replica.spawner.kill_all();
    replica
}

fn segments(replica: &Replica) -> Vec<std::path::PathBuf> {
    let paths = replica.disk.paths().into_iter();
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

#[test]
fn a_replica_that_lost_its_log_is_never_made_anew() {
    let with_folder = voted();
    segments(&with_folder).iter().for_each(|path| assert!(with_folder.disk.remove_file(path)));
    let without = voted();
    segments(&without).iter().for_each(|path| assert!(without.disk.remove_file(path)));
    without.disk.remove_file(Path::new("replica/log/LOCK"));
    without.disk.remove_dir(Path::new("replica/log")).unwrap();
    let emptied = voted();
    segments(&emptied).iter().for_each(|path| assert!(emptied.disk.remove_file(path)));
    emptied.disk.write_file(Path::new("replica/log/00000000000000000001.log"), &[0; 64 << 10]);
    for replica in [with_folder, without, emptied] {
        let before = segments(&replica);
        for options in [replica.options.clone(), replica.options.clone().create(false)] {
            let refused = LogOnly::open(DIR, options.clone()).unwrap_err();
            let corruption = refused.corruption().unwrap_or_else(|| panic!("{refused}"));
            assert_eq!((corruption.check, &*corruption.path), ("log segments", Path::new("replica/log")));
            let base = crate::BaseState { lsn: Lsn(9), term: Term(1), membership: Vec::new() };
            assert!(LogOnly::open_behind(DIR, options.clone(), base).unwrap_err().corruption().is_some());
            assert!(matches!(crate::Database::open(DIR, options), Err(Error::WrongKind { .. })));
        }
        let environment = replica.options.environment_or_system().unwrap();
        let report =
            crate::inspect::verify_in(&environment, Path::new(DIR), &mut |_| {}, &mut |_| {}).unwrap();
        assert_eq!(report.damages, 1, "{report:?}");
        assert_eq!(segments(&replica), before, "nothing was made");
    }
}

#[test]
fn a_replica_of_before_the_mark_is_taken_as_it_is_and_marked() {
    let replica = voted();
    assert!(replica.disk.remove_file(Path::new("replica/REPLICA")));
    let log = LogOnly::open(DIR, replica.options.clone().create(false)).unwrap();
    assert_eq!((log.vote(), log.last().0), ((Term(5), NodeId(3)), Lsn(3)));
    log.close().unwrap();
    assert!(replica.disk.read_file(Path::new("replica/REPLICA")).is_some());
}

#[test]
fn creation_that_a_crash_cut_off_at_any_call_goes_on_and_what_was_opened_once_is_missed() {
    let base = crate::BaseState { lsn: Lsn(100), term: Term(6), membership: b"m".to_vec() };
    for power in [true, false] {
        for n in 1.. {
            let replica = Replica::new();
            if power {
                replica.disk.crash_at(n)
            } else {
                replica.disk.kill_at(n)
            }
            let first = LogOnly::open_behind(DIR, replica.options.clone(), base.clone());
            let opened = first.is_ok();
            if opened {
                replica.disk.cancel_stop();
            }
            drop(first);
            replica.spawner.kill_all();
            if power {
                replica.disk.crash(&mut fastrand::Rng::with_seed(n))
            } else {
                replica.disk.kill_process()
            }
            let lost = Replica { disk: replica.disk.snapshot(), ..Replica::new() };

            let again = LogOnly::open_behind(DIR, replica.options.clone(), base.clone())
                .unwrap_or_else(|error| panic!("call {n}, power {power}: {error}"));
            assert_eq!((again.base(), again.last()), ((Lsn(100), Term(6)), (Lsn(100), Term(6))), "call {n}");
            append(&again, 6, 101, 3).unwrap();
            again.close().unwrap();
            if opened {
                segments(&lost).iter().for_each(|path| assert!(lost.disk.remove_file(path)));
                let environment = Environment {
                    disk: Arc::new(lost.disk.clone()),
                    ..lost.options.environment_or_system().unwrap()
                };
                let refused = LogOnly::open(DIR, lost.options.environment(environment)).unwrap_err();
                assert!(refused.corruption().is_some(), "{refused}");
                assert!(n > 8, "creation makes more calls than {n}");
                break;
            }
        }
    }
}
