//! Several archivers of one history, or of what was one.

use logwood_base::{Error, Lsn};

use super::super::archiver::uploader_of;
use super::rig::{DIR, Rig, check_agreement, fill, log_entries, read_archive};
use crate::{Append, BaseState, Database, Durability, LogOnly, Result, Term};

#[test]
fn of_two_copies_that_went_on_by_themselves_the_later_one_is_fenced() {
    for stale_first in [false, true] {
        let rig = Rig::new(1);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        fill(&db, &keyspace, 0..20, 300, Durability::Durable);
        archiver.flush().unwrap();
        let copy = rig.copy();
        let (other_db, other_keyspace) = copy.open();
        let other = other_db.archive(copy.archive()).unwrap();
        fill(&db, &keyspace, 100..120, 300, Durability::Durable);
        fill(&other_db, &other_keyspace, 200..220, 300, Durability::Durable);
        let (first, second) = if stale_first { (&other, &archiver) } else { (&archiver, &other) };
        first.flush().unwrap();
        let objects = rig.store.inner.keys();
        let error = second.flush().unwrap_err();
        assert!(matches!(error, Error::Fenced { .. }), "{error}");
        assert!(matches!(second.flush(), Err(Error::Fenced { .. })), "for good");
        assert!(second.status().stopped.is_some());
        assert_eq!(rig.store.inner.keys(), objects, "the fenced one writes nothing");
        first.flush().unwrap();
        let (db, rig) = if stale_first { (&other_db, &copy) } else { (&db, &rig) };
        check_agreement(rig, db, first);
    }
}

#[test]
fn a_fenced_archiver_that_may_leave_gaps_lets_go_of_the_log_and_one_that_stops_writes_does_not() {
    for leaves_gaps in [true, false] {
        let rig = Rig::new(8);
        let (db, keyspace) = rig.open();
        let options = || rig.archive().backlog_bytes_max(400_000).leave_gaps(leaves_gaps);
        let archiver = db.archive(options().snapshot_log_bytes(1)).unwrap();
        fill(&db, &keyspace, 0..20, 300, Durability::Durable);
        archiver.flush().unwrap();
        let copy = rig.copy();
        let (other_db, other_keyspace) = copy.open();
        fill(&other_db, &other_keyspace, 200..220, 300, Durability::Durable);
        other_db.archive(copy.archive()).unwrap().flush().unwrap();
        fill(&db, &keyspace, 100..120, 300, Durability::Durable);
        let before = db.durable_lsn();
        assert!(matches!(archiver.flush(), Err(Error::Fenced { .. })));
        let mut refused = 0;
        for n in 0..2000u32 {
            refused += u32::from(keyspace.put(&n.to_be_bytes(), &[7; 1000]).is_err());
            if n % 100 == 0 {
                db.checkpoint().unwrap();
                db.core().log.maintain().unwrap();
            }
        }
        let first = db.core().group.first_lsn();
        if leaves_gaps {
            assert!(refused == 0 && first > before, "the log goes on as without an archiver: {first}");
        } else {
            assert!(refused > 1000 && first <= before, "the log keeps what the next archiver needs: {first}");
        }
        // Either way the next one is told as much, and the database is not held.
        assert!(archiver.status().stopped.is_some());
    }
}

#[test]
fn two_copies_with_the_same_entries_share_the_chain() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..200, 300, Durability::Durable);
    // The copy is taken before anything was archived, and archives all of it.
    let copy = rig.copy();
    let other_db = Database::open(DIR, copy.options()).unwrap();
    let other = other_db.archive(copy.archive().object_bytes(5000)).unwrap();
    assert_eq!(other.flush().unwrap(), db.visible_lsn());
    archiver.flush().unwrap();
    // An object that is byte for byte what would have been put counts as put.
    assert!(archiver.status().compared >= 12 && archiver.status().objects <= 1, "{:?}", archiver.status());
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn an_archive_that_is_longer_than_the_log_is_never_forked() {
    let rig = Rig::new(3);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    archiver.flush().unwrap();
    let old = rig.copy();
    fill(&db, &keyspace, 20..40, 300, Durability::Durable);
    archiver.flush().unwrap();
    let objects = rig.store.inner.keys();
    // The disk was rolled back.
    let old_db = Database::open(DIR, old.options()).unwrap();
    let last = old_db.durable_lsn();
    let Err(Error::Corruption(damage)) = old_db.archive(old.archive()).map(drop) else { panic!("accepted") };
    assert_eq!(damage.check, "end of the log");
    assert_eq!(damage.affects.as_deref(), Some(&*format!("lsn {} to {}", last.next(), db.durable_lsn())));
    // Writing first does not help: those are other entries.
    let old_keyspace = old_db.keyspace("k").unwrap();
    fill(&old_db, &old_keyspace, 70..140, 300, Durability::Durable);
    assert!(matches!(old_db.archive(old.archive()).map(drop), Err(Error::Fenced { .. })));
    assert_eq!(rig.store.inner.keys(), objects);
}

#[test]
fn a_chain_of_another_database_is_refused() {
    let rig = Rig::new(4);
    let (db, _) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    let other = Rig::beside(5, logwood_base::disk::SimulatedDisk::new(5), &rig.store.inner);
    let (other_db, _) = other.open();
    let error = other_db.archive(other.archive().lineage(archiver.lineage())).map(drop).unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
}

/// Appends what a database has committed up to an LSN to a replica's log, as far as that takes it.
fn replicate(db: &Database, log: &LogOnly, until: Lsn) -> Result<()> {
    loop {
        let read = db.core().group.read(log.last().0.next(), until.next(), 1 << 20).unwrap();
        if read.is_empty() {
            return Ok(());
        }
        for entry in read {
            let entries = [(entry.term, &*entry.payload)];
            let (term, first_lsn, durability) = (Term(1), entry.lsn, Durability::Durable);
            let append = Append { term, previous: None, first_lsn, entries: &entries, durability };
            log.append(append)?.wait()?;
        }
    }
}

#[test]
fn a_replica_catches_up_through_a_gap_that_holds_more_than_its_backlog_may() {
    let rig = Rig::new(11);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().leave_gaps(true)).unwrap();
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    archiver.flush().unwrap();
    uploader_of(&archiver).part("the test wants a gap");
    fill(&db, &keyspace, 0..100, 1000, Durability::Durable);
    archiver.flush().unwrap();
    fill(&db, &keyspace, 100..120, 1000, Durability::Durable);
    archiver.flush().unwrap();
    assert_eq!(archiver.status().gaps, 1);
    let replica = Rig::beside(12, logwood_base::disk::SimulatedDisk::new(12), &rig.store.inner);
    let log = LogOnly::open("log", replica.options().database_id(db.id())).unwrap();
    let limit = 20_000;
    let options = replica.archive().lineage(archiver.lineage()).backlog_bytes_max(limit);
    let beside = log.archive(options).unwrap();
    let mut refused = 0;
    for _ in 0..100 {
        match replicate(&db, &log, db.durable_lsn()) {
            Ok(()) => break,
            Err(Error::ArchiveBehind { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        log.set_committed(log.last().0);
        beside.flush().unwrap();
    }
    log.set_committed(log.last().0);
    assert_eq!((beside.flush().unwrap(), log.last().0), (db.durable_lsn(), db.durable_lsn()));
    assert!((5..20).contains(&refused), "{refused}");
    assert_eq!(read_archive(&rig, archiver.lineage()).gaps.len(), 1);
    // From here on so much may wait as before, and not what the gap held besides.
    fill(&db, &keyspace, 0..60, 1000, Durability::Durable);
    let before = log.last().0;
    let refused = replicate(&db, &log, db.durable_lsn());
    assert!(matches!(refused, Err(Error::ArchiveBehind { .. })), "{refused:?}");
    assert!((18..25).contains(&log.last().0.entries_since(before)), "{} {before}", log.last().0);
}

#[test]
fn where_a_replica_archived_what_the_database_has_let_go_of_it_goes_on_behind_if_it_can_compare_the_end() {
    for reaches in [true, false] {
        let rig = Rig::new(9);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive().leave_gaps(true)).unwrap();
        fill(&db, &keyspace, 0..20, 300, Durability::Durable);
        archiver.flush().unwrap();
        let replica = Rig::beside(10, logwood_base::disk::SimulatedDisk::new(10), &rig.store.inner);
        let log = LogOnly::open("log", replica.options().database_id(db.id())).unwrap();
        let beside = log.archive(replica.archive().lineage(archiver.lineage())).unwrap();
        uploader_of(&archiver).part("the test wants that the log goes");
        for round in 0..4 {
            fill(&db, &keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
            if reaches || round == 0 {
                replicate(&db, &log, db.durable_lsn()).unwrap();
            }
            db.checkpoint().unwrap();
            db.core().log.maintain().unwrap();
        }
        log.set_committed(log.last().0);
        beside.flush().unwrap();
        let objects = rig.store.inner.keys().len();
        fill(&db, &keyspace, 0..5, 300, Durability::Durable);
        if reaches {
            archiver.flush().unwrap();
            assert!(check_agreement(&rig, &db, &archiver).gaps.is_empty());
        } else {
            // Nothing that the replica archived is there to be compared any more: nothing is put behind it.
            assert!(matches!(archiver.flush(), Err(Error::Fenced { .. })));
            let chain = |key: &&String| key.contains("/log/") || key.contains("/snapshot/");
            assert_eq!(rig.store.inner.keys().iter().filter(chain).count(), objects - 1, "but for the start");
        }
    }
}

#[test]
fn a_database_and_a_log_replica_race_on_one_chain_and_both_agree() {
    let (mut gaps, mut waiting) = (0, 0);
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let rig = Rig::new(seed);
        let (db, keyspace) = rig.open();
        // Every other time the database leaves gaps, which the replica meets.
        let leaves_gaps = seed % 2 == 1;
        let archiver = db.archive(rig.archive().object_bytes(2000)).unwrap();
        let replica = Rig::beside(seed + 100, logwood_base::disk::SimulatedDisk::new(seed), &rig.store.inner);
        let log = LogOnly::open("log", replica.options().database_id(db.id())).unwrap();
        let options = || replica.archive().object_bytes(3000).lineage(archiver.lineage());
        let mut beside = log.archive(options()).unwrap();
        let mut written = 0;
        for _ in 0..60 {
            match random.u8(0..6) {
                0 | 1 => {
                    let more = random.u32(1..20);
                    fill(&db, &keyspace, written..written + more, 150, Durability::Durable);
                    written += more;
                }
                2 => {
                    let from = log.last().0.next();
                    let until = Lsn(db.durable_lsn().get().min(from.get() + random.u64(0..15)));
                    replicate(&db, &log, until).unwrap();
                    // What is appended need not be committed yet.
                    log.set_committed(Lsn(random.u64(0..=log.last().0.get())));
                }
                3 => {
                    if leaves_gaps && random.bool() {
                        uploader_of(&archiver).part("the test wants a gap");
                    }
                    archiver.flush().unwrap();
                }
                4 => drop(beside.flush().unwrap()),
                _ => {
                    beside.stop().unwrap();
                    beside = log.archive(options()).unwrap();
                }
            }
            assert!(beside.status().archived <= log.statistics().committed);
        }
        archiver.flush().unwrap();
        let archived = read_archive(&rig, archiver.lineage());
        let mut expected = log_entries(&db);
        for (first, last) in &archived.gaps {
            expected.retain(|lsn, _| !(first..=last).contains(&lsn));
        }
        assert_eq!(archived.entries, expected, "seed {seed}");
        gaps += archived.gaps.len();
        log.set_committed(log.last().0);
        beside.flush().unwrap();
        // Where it has come to a gap that ends behind its own log it waits.
        let reached = beside.status().archived;
        let waits = archived.gaps.iter().any(|(first, _)| *first == reached.next());
        assert!(waits || reached >= log.last().0.min(log.statistics().committed));
        waiting += u32::from(waits);
    }
    assert!((1..25).contains(&waiting), "{waiting}");
    assert!(gaps > 10, "{gaps}");
}

#[test]
fn a_log_replica_archives_what_is_committed_and_refuses_without_a_beginning() {
    let rig = Rig::new(6);
    let log = LogOnly::open("log", rig.options()).unwrap();
    let payload = crate::entry::Entry { time_ms: 1, request: None, body: crate::entry::Body::NoOp }.encode();
    let entries: Vec<(Term, &[u8])> = (0..10).map(|_| (Term(2), &payload[..])).collect();
    let (term, durability) = (Term(2), Durability::Durable);
    let append = Append { term, previous: None, first_lsn: Lsn(1), entries: &entries, durability };
    log.append(append).unwrap().wait().unwrap();
    let archiver = log.archive(rig.archive().backlog_bytes_max(500)).unwrap();
    assert_eq!(archiver.flush().unwrap(), Lsn::ZERO, "nothing is committed");
    log.set_committed(Lsn(4));
    assert_eq!(archiver.flush().unwrap(), Lsn(4));
    assert_eq!(read_archive(&rig, archiver.lineage()).entries.len(), 4);
    let one = |lsn| Append { first_lsn: Lsn(lsn), entries: &entries[..1], ..append };
    let refused = (11..200).find_map(|lsn| log.append(one(lsn)).err());
    assert!(matches!(refused, Some(Error::ArchiveBehind { limit: 500, .. })), "{refused:?}");
    archiver.stop().unwrap();

    let behind = Rig::new(7);
    let base = BaseState { lsn: Lsn(5), term: Term(1), membership: Vec::new() };
    let log = LogOnly::open_behind("log", behind.options(), base).unwrap();
    let error = log.archive(behind.archive()).map(drop).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
}
