//! What an archiver does when nothing goes wrong with the store.

use std::time::Duration;

use logwood_base::{Error, Lsn};

use super::rig::{DIR, Fault, Rig, check_agreement, fill, log_entries, read_archive, snapshots};
use crate::archive::layout::PAGES_PREFIX;
use crate::archive::lineage::LocalLineage;
use crate::archive::store::Store as _;
use crate::{Database, Durability};

#[test]
fn everything_committed_is_in_the_chain_after_a_flush_and_again_after_reopening() {
    let rig = Rig::new(1);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..100, 200, Durability::Durable);
    fill(&db, &keyspace, 100..200, 200, Durability::Buffered);
    assert_eq!(archiver.flush().unwrap(), db.visible_lsn());
    let archived = check_agreement(&rig, &db, &archiver);
    assert_eq!(archived.entries.keys().next(), Some(&Lsn::FIRST));
    assert!(archived.objects >= 4, "objects of about 8 KiB: {}", archived.objects);
    let lineage = archiver.lineage();
    archiver.stop().unwrap();
    db.close().unwrap();

    let (db, keyspace) = rig.open();
    let before = rig.store.requests();
    let archiver = db.archive(rig.archive()).unwrap();
    assert_eq!(archiver.lineage(), lineage);
    assert!(rig.store.requests() - before < 16, "the walk begins at the place that was noted");
    fill(&db, &keyspace, 200..250, 200, Durability::Durable);
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
    assert_eq!(archiver.status().compared, 0, "nothing is sent twice");
}

#[test]
fn in_the_background_nothing_waits_longer_than_the_interval_and_idle_costs_no_requests() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    let interval = Duration::from_secs(5);
    let archiver =
        db.archive(rig.archive().background(true).interval(interval).object_bytes(1 << 20)).unwrap();
    for round in 0..5u32 {
        fill(&db, &keyspace, round * 10..round * 10 + 10, 100, Durability::Durable);
        rig.pass(interval + Duration::from_secs(1));
        let status = archiver.status();
        assert_eq!((status.lag_entries, status.lag_bytes), (0, 0), "round {round}");
        assert_eq!(status.archived, db.visible_lsn());
        let before = rig.store.requests();
        rig.pass(Duration::from_secs(600));
        assert_eq!(rig.store.requests(), before, "requests while nothing happens");
    }
    // Buffered commits that nobody syncs are archived, too.
    fill(&db, &keyspace, 50..60, 100, Durability::Buffered);
    rig.pass(2 * interval + Duration::from_secs(2));
    assert_eq!(archiver.status().archived, db.visible_lsn());
    // Much gathers quickly: it does not wait.
    fill(&db, &keyspace, 60..600, 3000, Durability::Durable);
    rig.pass(Duration::from_secs(1));
    assert!(archiver.status().lag_entries < 540, "{:?}", archiver.status());
    assert_eq!(db.statistics().archive.unwrap(), archiver.status());
    check_lag(&rig, &db, &archiver);
}

fn check_lag(rig: &Rig, db: &Database, archiver: &crate::archive::Archiver) {
    rig.store.set(1, Fault::Dead);
    let keyspace = db.keyspace("k").unwrap();
    fill(db, &keyspace, 0..3, 100, Durability::Durable);
    rig.pass(Duration::from_secs(60));
    let status = archiver.status();
    assert!(status.lag_entries >= 3 && status.lag_bytes >= 300, "{status:?}");
    assert!(status.lag_time >= Duration::from_secs(50), "{status:?}");
    assert!(status.failures > 0 && status.failing.is_some());
    rig.store.heal();
    rig.pass(Duration::from_secs(60));
    let status = archiver.status();
    assert_eq!((status.lag_entries, status.lag_time, status.failing), (0, Duration::ZERO, None));
}

#[test]
fn lag_time_is_the_age_of_the_oldest_commit_that_is_not_archived() {
    let rig = Rig::new(14);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().object_bytes(4 << 10)).unwrap();
    archiver.flush().unwrap();
    let lag = || archiver.status().lag_time;
    let seconds = |seconds| Duration::from_secs(seconds);
    assert_eq!(lag(), Duration::ZERO);
    // Ten commits, ten seconds apart, of which an object takes four.
    for n in 0..10 {
        fill(&db, &keyspace, n..n + 1, 1000, Durability::Durable);
        rig.clock.advance(seconds(10));
        assert_eq!(lag(), seconds(10 * (u64::from(n) + 1)), "the first one waits");
    }
    let mut before = lag();
    let mut objects = 0;
    while archiver.status().lag_entries > 0 {
        super::super::archiver::uploader_of(&archiver).step(true).unwrap();
        let (status, oldest) = (archiver.status(), archiver.status().archived.get());
        // What is behind the object has waited for as long as it has, and not only since the object went up.
        if status.lag_entries > 0 && status.objects > objects {
            let first = db.visible_lsn().get() - 10;
            assert_eq!(status.lag_time, seconds(10 * (10 - (oldest - first))), "{status:?}");
            assert!(status.lag_time < before);
            before = status.lag_time;
        }
        objects = status.objects;
    }
    assert!(objects >= 3 && lag() == Duration::ZERO, "{objects}");

    // A wall clock that is set neither hides what waits nor raises an alarm.
    fill(&db, &keyspace, 10..11, 1000, Durability::Durable);
    let wall_ms = logwood_base::Clock::wall_ms(&*rig.clock);
    rig.clock.set_wall_ms(wall_ms + 3_600_000);
    assert!(lag() < seconds(1), "{:?}", lag());
    rig.clock.set_wall_ms(1000);
    rig.store.set(1, Fault::Dead);
    assert!(archiver.flush().is_err());
    rig.clock.advance(seconds(30));
    assert!(lag() >= seconds(30), "{:?}", lag());
    rig.store.heal();
    archiver.flush().unwrap();
    assert_eq!(lag(), Duration::ZERO);
}

#[test]
fn what_waited_before_the_archiver_was_attached_counts_from_its_commit() {
    let rig = Rig::new(15);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..5, 100, Durability::Durable);
    rig.clock.advance(Duration::from_secs(7200));
    let archiver = db.archive(rig.archive()).unwrap();
    assert_eq!(archiver.status().lag_time, Duration::from_secs(7200));
    archiver.flush().unwrap();
    assert_eq!(archiver.status().lag_time, Duration::ZERO);
}

#[test]
fn the_log_keeps_what_is_not_archived_and_lets_go_of_what_is() {
    let rig = Rig::new(3);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    for round in 0..6 {
        fill(&db, &keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    assert_eq!(db.core().group.first_lsn(), Lsn::FIRST, "nothing is archived yet");
    let before = db.statistics().log.segments;
    assert_eq!(db.statistics().log.laggard.unwrap().1, "archive");
    archiver.flush().unwrap();
    db.core().log.maintain().unwrap();
    assert!(db.statistics().log.segments < before / 2);
    assert!(db.core().group.first_lsn() > Lsn(500));
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn a_database_that_let_its_beginning_go_begins_its_chain_with_a_snapshot() {
    let rig = Rig::new(4);
    let (db, keyspace) = rig.open();
    for round in 0..6 {
        fill(&db, &keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    assert!(db.core().group.first_lsn() > Lsn::FIRST);
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    let archived = check_agreement(&rig, &db, &archiver);
    assert!(archived.gaps.is_empty());
    assert_eq!(snapshots(&rig, archiver.lineage()).len(), 1);
}

#[test]
fn snapshots_follow_the_log_and_state_what_they_hold() {
    let rig = Rig::new(5);
    let (db, keyspace) = rig.open();
    let other = db.ensure_keyspace("other").unwrap();
    other.put(b"stays", b"as it is").unwrap();
    let archiver = db.archive(rig.archive().snapshot_log_bytes(64 << 10)).unwrap();
    for round in 0..8 {
        fill(&db, &keyspace, round * 50..round * 50 + 50, 1000, Durability::Durable);
        archiver.flush().unwrap();
    }
    check_agreement(&rig, &db, &archiver);
    let snapshots = snapshots(&rig, archiver.lineage());
    assert!((3..=8).contains(&snapshots.len()), "{}", snapshots.len());
    // The last one, if nothing was committed since, is the state of the database.
    fill(&db, &keyspace, 400..500, 1000, Durability::Durable);
    archiver.flush().unwrap();
    let newest = super::rig::snapshots(&rig, archiver.lineage()).into_values().next_back().unwrap();
    assert_eq!(newest.lsn(), db.visible_lsn());
    let digests: Vec<_> = newest.digests.iter().map(|digest| digest.digest.unwrap()).collect();
    let view = db.snapshot();
    assert_eq!(digests, [view.digest_all(&keyspace).unwrap(), view.digest_all(&other).unwrap()]);
    assert_eq!(archiver.status().newest_snapshot, Some(newest.lsn()));
    assert!(rig.store.inner.keys().iter().all(|key| !key.starts_with("hold/")), "holds are taken back");
    // What is there already is not sent again.
    let pages = rig.store.puts.lock().iter().filter(|key| key.starts_with(PAGES_PREFIX)).count();
    assert_eq!(pages, rig.store.inner.list(PAGES_PREFIX).unwrap().len());
}

#[test]
fn a_full_backlog_stops_writes_until_the_archive_has_caught_up() {
    let rig = Rig::new(6);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().backlog_bytes_max(20_000)).unwrap();
    rig.store.set(1, Fault::Dead);
    let refused = (0..100).find_map(|n: u32| keyspace.put(&n.to_be_bytes(), &[7; 1000]).err());
    assert!(matches!(refused, Some(Error::ArchiveBehind { limit: 20_000, .. })), "{refused:?}");
    assert!(matches!(db.create_keyspace("x"), Err(Error::ArchiveBehind { .. })));
    assert!(keyspace.get(&0u32.to_be_bytes()).unwrap().is_some(), "reads go on");
    assert!(archiver.flush().is_err());
    rig.store.heal();
    archiver.flush().unwrap();
    keyspace.put(b"again", b"writes").unwrap();
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
    // Without an archiver nothing is bounded.
    archiver.stop().unwrap();
    for n in 0..100u32 {
        keyspace.put(&n.to_be_bytes(), &[7; 1000]).unwrap();
    }
}

#[test]
fn a_full_backlog_leaves_a_named_gap_behind_a_snapshot_when_that_is_wanted() {
    let rig = Rig::new(7);
    let (db, keyspace) = rig.open();
    let options = || rig.archive().backlog_bytes_max(200_000).leave_gaps(true);
    let archiver = db.archive(options()).unwrap();
    fill(&db, &keyspace, 0..50, 1000, Durability::Durable);
    let reached = archiver.flush().unwrap();
    rig.store.set(1, Fault::Dead);
    for round in 1..5 {
        fill(&db, &keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        assert!(archiver.flush().is_err());
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    assert!(db.core().group.first_lsn() > reached.next(), "the log was bounded");
    rig.store.heal();
    archiver.flush().unwrap();
    fill(&db, &keyspace, 1000..1050, 1000, Durability::Durable);
    archiver.flush().unwrap();
    let archived = check_agreement(&rig, &db, &archiver);
    assert_eq!(archived.gaps.len(), 1);
    assert_eq!(archived.gaps[0].0, reached.next());
    let snapshot = snapshots(&rig, archiver.lineage()).into_values().next().unwrap();
    assert_eq!(snapshot.trees.replay_from, archived.gaps[0].1.next());
    assert_eq!(archiver.status().gaps, 1);
}

#[test]
fn an_archiver_that_was_away_while_the_log_let_go_leaves_a_gap() {
    let rig = Rig::new(8);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..50, 1000, Durability::Durable);
    let reached = archiver.flush().unwrap();
    archiver.stop().unwrap();
    for round in 1..7 {
        fill(&db, &keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    assert!(db.core().group.first_lsn() > reached.next());
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    let archived = check_agreement(&rig, &db, &archiver);
    assert_eq!(archived.gaps.len(), 1);
}

#[test]
fn a_holder_that_the_log_revoked_leaves_a_gap() {
    let rig = Rig::new(9);
    let db = Database::open(DIR, rig.options().log_bytes_max(512 << 10)).unwrap();
    let keyspace = db.ensure_keyspace("k").unwrap();
    let archiver = db.archive(rig.archive()).unwrap();
    for round in 0..10 {
        fill(&db, &keyspace, round * 100..round * 100 + 100, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    assert!(db.core().group.first_lsn() > Lsn::FIRST, "the log kept its bound");
    archiver.flush().unwrap();
    let archived = check_agreement(&rig, &db, &archiver);
    assert_eq!(archived.gaps.len(), 1);
}

#[test]
fn a_clock_that_jumps_either_way_changes_nothing_that_is_archived() {
    let rig = Rig::new(10);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    let day = 24 * 3600 * 1000;
    for (round, wall) in [day * 10, day * 9, day * 11, 5].into_iter().enumerate() {
        rig.clock.set_wall_ms(wall);
        let round = round as u32;
        fill(&db, &keyspace, round * 10..round * 10 + 10, 100, Durability::Durable);
        archiver.flush().unwrap();
    }
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn one_archiver_at_a_time_and_a_closed_database_ends_it() {
    let rig = Rig::new(11);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().background(true)).unwrap();
    assert!(matches!(db.archive(rig.archive()), Err(Error::AlreadyExists { .. })));
    keyspace.put(b"k", b"v").unwrap();
    db.close().unwrap();
    rig.pass(Duration::from_secs(60));
    assert!(archiver.flush().is_err());
    drop(archiver);
    // What was not archived is archived by the next one.
    drop((db, keyspace));
    let (db, _) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn a_directory_without_its_lineage_file_begins_a_new_history() {
    let rig = Rig::new(12);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..10, 100, Durability::Durable);
    archiver.flush().unwrap();
    let before = archiver.lineage();
    archiver.stop().unwrap();
    assert!(rig.disk.remove_file(&std::path::Path::new(DIR).join("LINEAGE")));
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    assert_ne!(archiver.lineage(), before);
    check_agreement(&rig, &db, &archiver);
    assert_eq!(read_archive(&rig, before).entries, log_entries(&db));
}

#[test]
fn a_child_names_its_parent_when_the_parents_chain_reaches_the_fork() {
    use crate::archive::chain;
    use crate::archive::object::Parent;
    for reaches in [true, false] {
        let rig = Rig::new(13);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        fill(&db, &keyspace, 0..10, 100, Durability::Durable);
        archiver.flush().unwrap();
        let parent = archiver.lineage();
        archiver.stop().unwrap();
        if !reaches {
            fill(&db, &keyspace, 10..20, 100, Durability::Durable);
        }
        let fork_lsn = db.durable_lsn();
        // As a restore leaves it.
        let (database, log) = (db.id(), db.core().log.id());
        let parent = Some(Parent { lineage: parent, fork_lsn });
        let forked = LocalLineage { database, log, lineage: None, parent, confirmed: None };
        forked.write(&rig.disk, std::path::Path::new(DIR)).unwrap();
        fill(&db, &keyspace, 20..30, 100, Durability::Durable);
        let archiver = db.archive(rig.archive()).unwrap();
        archiver.flush().unwrap();
        let (start, _) = chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap();
        assert_eq!(start.parent, parent.filter(|_| reaches));
        let first = if reaches { fork_lsn.next() } else { Lsn::FIRST };
        assert_eq!(read_archive(&rig, archiver.lineage()).entries.keys().next(), Some(&first));
    }
}
