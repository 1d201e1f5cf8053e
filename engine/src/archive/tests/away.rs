//! What becomes of the log while no archiver is attached: the next one finds what it has to archive, or says what it does not.

use logwood_base::Lsn;

use super::rig::{DIR, Rig, check_agreement, fill, fill_and_let_go, read_archive};
use crate::archive::{Archive, Archiver};
use crate::{Database, Durability, Error, Keyspace, Options};

/// Most bytes of log that are kept: more than `fill_and_let_go` writes in two rounds of 200 blocks, less than in five.
const KEPT: u64 = 3 << 20;

fn options(rig: &Rig) -> Options {
    rig.options().unarchived_log_bytes_max(KEPT)
}

fn open(rig: &Rig) -> (Database, Keyspace) {
    let db = Database::open(DIR, options(rig)).unwrap();
    let keyspace = db.ensure_keyspace("k").unwrap();
    (db, keyspace)
}

fn attach(rig: &Rig, db: &Database) -> Archiver {
    db.archive(rig.archive()).unwrap()
}

#[test]
fn the_log_is_kept_for_the_next_archiver_whether_the_last_one_stopped_or_was_killed() {
    for killed in [false, true] {
        let rig = Rig::new(1);
        let (db, keyspace) = open(&rig);
        let archiver = attach(&rig, &db);
        let lineage = archiver.lineage();
        fill(&db, &keyspace, 0..100, 300, Durability::Durable);
        archiver.flush().unwrap();
        fill(&db, &keyspace, 100..110, 300, Durability::Durable);
        if killed {
            std::mem::forget((db, keyspace, archiver));
            rig.kill(None);
        } else {
            archiver.stop().unwrap();
            fill_and_let_go(&db, &keyspace, 1..2);
            db.close().unwrap();
        }
        let (db, keyspace) = open(&rig);
        fill_and_let_go(&db, &keyspace, 2..3);
        db.compact().unwrap();
        let archiver = attach(&rig, &db);
        assert_eq!(archiver.lineage(), lineage, "killed: {killed}");
        fill(&db, &keyspace, 0..10, 300, Durability::Durable);
        archiver.flush().unwrap();
        let archived = check_agreement(&rig, &db, &archiver);
        assert_eq!((archived.gaps.len(), archiver.status().gaps), (0, 0), "killed: {killed}");
        // What is archived goes.
        db.core().log.maintain().unwrap();
        assert!(db.core().group.first_lsn() > Lsn(100));
    }
}

#[test]
fn beyond_its_bound_the_log_goes_and_the_next_archiver_names_what_went() {
    let rig = Rig::new(2);
    let (db, keyspace) = open(&rig);
    let archiver = attach(&rig, &db);
    fill(&db, &keyspace, 0..100, 300, Durability::Durable);
    let reached = archiver.flush().unwrap();
    archiver.stop().unwrap();
    fill_and_let_go(&db, &keyspace, 1..6);
    assert!(db.statistics().log.log_bytes < KEPT);
    let archiver = attach(&rig, &db);
    fill(&db, &keyspace, 0..10, 300, Durability::Durable);
    archiver.flush().unwrap();
    assert_eq!(check_agreement(&rig, &db, &archiver).gaps.len(), 1);
    assert_eq!(archiver.status().newest_gap.unwrap().0, reached.next());
}

#[test]
fn a_restored_database_keeps_its_log_from_the_fork_on() {
    let rig = Rig::new(3);
    let (db, keyspace) = open(&rig);
    let archiver = attach(&rig, &db);
    fill(&db, &keyspace, 0..100, 300, Durability::Durable);
    let fork = archiver.flush().unwrap();
    let parent = archiver.lineage();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let restoring = crate::archive::RestoreOptions::new().database(options(&rig));
    archive.restore("restored", &restoring).unwrap();
    let db = Database::open("restored", options(&rig)).unwrap();
    fill_and_let_go(&db, &db.keyspace("k").unwrap(), 1..3);
    let archiver = attach(&rig, &db);
    archiver.flush().unwrap();
    let listing = archive.list().unwrap();
    let child = listing.lineages.iter().find(|found| found.lineage == archiver.lineage()).unwrap();
    assert_eq!((child.parent, child.holes.len()), (Some((parent, fork)), 0), "{child:?}");
}

/// An archiver that is killed notes nothing of what it archived last: the log must hold something of it, wherever a segment
/// ended.
#[test]
fn wherever_the_log_ends_that_is_left_a_killed_archivers_lineage_is_gone_on_with() {
    for archived in 1..16 {
        let rig = Rig::new(4);
        let (db, keyspace) = rig.open();
        let archiver = attach(&rig, &db);
        let lineage = archiver.lineage();
        // Four fill a segment.
        for n in 0..16 {
            fill(&db, &keyspace, n..n + 1, 14 << 10, Durability::Durable);
            if n < archived {
                archiver.flush().unwrap();
            }
        }
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
        std::mem::forget((db, keyspace, archiver));
        rig.kill(None);
        let (db, _) = rig.open();
        let archiver = attach(&rig, &db);
        assert_eq!(archiver.lineage(), lineage, "{archived} archived");
        archiver.flush().unwrap();
        assert_eq!(check_agreement(&rig, &db, &archiver).gaps.len(), 0);
    }
}

#[test]
fn what_lies_before_a_lineage_without_a_parent_is_a_hole_of_it() {
    let rig = Rig::new(5);
    let (db, keyspace) = rig.open();
    fill_and_let_go(&db, &keyspace, 1..3);
    let archiver = attach(&rig, &db);
    archiver.flush().unwrap();
    fill(&db, &keyspace, 0..10, 300, Durability::Durable);
    let last = archiver.flush().unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let listing = archive.list().unwrap();
    let [found] = &listing.lineages[..] else { panic!("{listing:?}") };
    let ([hole], [interval]) = (&found.holes[..], &found.intervals[..]) else { panic!("{found:?}") };
    assert_eq!((hole.first, hole.last.next(), interval.last), (Lsn::FIRST, interval.first, last));
    assert!(hole.is_named_gap && interval.first > Lsn(100), "{found:?}");
    assert!(read_archive(&rig, archiver.lineage()).objects > 0);
}

#[test]
fn a_full_disk_takes_the_log_that_is_kept_for_the_next_archiver() {
    let rig = Rig::new(5);
    let db = Database::open(DIR, rig.options().unarchived_log_bytes_max(1 << 30)).unwrap();
    let keyspace = db.ensure_keyspace("k").unwrap();
    let archiver = attach(&rig, &db);
    fill(&db, &keyspace, 0..100, 300, Durability::Durable);
    archiver.flush().unwrap();
    archiver.stop().unwrap();
    rig.disk.set_capacity(Some(rig.disk.used_bytes() + (8 << 20)));
    let mut refused = 0;
    for round in 0..400u32 {
        match keyspace.put(b"same", &[round as u8; 50_000]) {
            Ok(_) => {}
            Err(Error::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        for done in [db.checkpoint().map(drop), db.core().log.maintain()] {
            assert!(matches!(done, Ok(()) | Err(Error::DiskFull { .. })), "{done:?}");
        }
    }
    assert!((1..20).contains(&refused), "{refused} of 400 were refused: {:?}", db.statistics());
}
