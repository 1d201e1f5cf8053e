//! An archive that has lost what a directory had confirmed: it is put again, or told.

use std::collections::BTreeSet;
use std::path::Path;

use logwood_base::{Error, Lsn};

use super::rig::{DIR, Rig, check_agreement, fill, fill_and_let_go, read_archive, snapshots};
use crate::archive::layout::start_key;
use crate::archive::lineage::LocalLineage;
use crate::archive::{Archive, Archiver, Point, RestoreOptions};
use crate::{Database, Durability};

/// What goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    /// What was put behind some moment, as when a bucket is rolled back.
    Newest,
    /// All but the start.
    Log,
    All,
}

/// A database that was archived in two objects, and then lost what `loss` says. Answers the end of the first object.
fn archived_and_lost(rig: &Rig, loss: Loss) -> (Database, Lsn) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..5, 300, Durability::Durable);
    let first = archiver.flush().unwrap();
    let kept: BTreeSet<String> = rig.store.inner.keys().into_iter().collect();
    fill(&db, &keyspace, 5..10, 300, Durability::Durable);
    archiver.flush().unwrap();
    archiver.stop().unwrap();
    for key in rig.store.inner.keys() {
        let goes = match loss {
            Loss::Newest => !kept.contains(&key),
            Loss::Log => !key.ends_with("/start"),
            Loss::All => true,
        };
        if goes {
            rig.store.inner.tamper(&key, None);
        }
    }
    (db, first)
}

fn restored(rig: &Rig, archiver: &Archiver, lsn: Lsn) -> Result<Lsn, Error> {
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let options = RestoreOptions::new().lineage(archiver.lineage()).point(Point::Lsn(lsn));
    archive.restore(format!("restored {lsn}"), &options.database(rig.options())).map(|report| report.lsn)
}

#[test]
fn what_the_log_still_has_is_put_again_and_nothing_is_told() {
    for loss in [Loss::Newest, Loss::Log, Loss::All] {
        let rig = Rig::new(1);
        let (db, _) = archived_and_lost(&rig, loss);
        let archiver = db.archive(rig.archive()).unwrap();
        archiver.flush().unwrap();
        let status = archiver.status();
        assert_eq!((status.gaps, status.newest_gap, status.lost), (0, None, None), "{loss:?}");
        let archived = check_agreement(&rig, &db, &archiver);
        assert_eq!(archived.entries.keys().next(), Some(&Lsn::FIRST), "{loss:?}");
    }
}

#[test]
fn what_the_log_has_let_go_of_is_told_as_lost_up_to_the_snapshot_that_the_chain_goes_on_behind() {
    for loss in [Loss::Newest, Loss::Log, Loss::All] {
        for is_flushed in [false, true] {
            let rig = Rig::new(2);
            let (db, kept) = archived_and_lost(&rig, loss);
            let keyspace = db.keyspace("k").unwrap();
            fill_and_let_go(&db, &keyspace, 1..3);
            let archiver = db.archive(rig.archive()).unwrap();
            let first = if loss == Loss::Newest { kept.next() } else { Lsn::FIRST };
            let taken = Some((first, db.visible_lsn().previous()));
            let status = archiver.status();
            assert_eq!((status.gaps, status.newest_gap, status.lost), (1, taken, taken), "{loss:?}");
            if is_flushed {
                archiver.flush().unwrap();
            }
            // What is committed before that snapshot cannot be restored either.
            fill(&db, &keyspace, 10..15, 300, Durability::Durable);
            archiver.flush().unwrap();
            let status = archiver.status();
            let snapshot = *snapshots(&rig, archiver.lineage()).keys().next().unwrap();
            let taken = Some((first, snapshot.previous()));
            assert_eq!((status.gaps, status.newest_gap, status.lost), (1, taken, taken), "{loss:?}");
            assert_eq!(check_agreement(&rig, &db, &archiver).gaps.len(), usize::from(loss == Loss::Log));
            assert_eq!(restored(&rig, &archiver, snapshot).unwrap(), snapshot);
            for lost in [first, snapshot.previous()] {
                assert!(matches!(restored(&rig, &archiver, lost), Err(Error::NotFound { .. })), "{lost}");
            }
            archiver.stop().unwrap();
            let archiver = db.archive(rig.archive()).unwrap();
            archiver.flush().unwrap();
            assert_eq!((archiver.status().gaps, archiver.status().lost), (0, None), "told once");
        }
    }
}

#[test]
fn a_gap_that_follows_what_was_lost_is_another_one() {
    let rig = Rig::new(3);
    let (db, _) = archived_and_lost(&rig, Loss::All);
    let keyspace = db.keyspace("k").unwrap();
    fill_and_let_go(&db, &keyspace, 1..3);
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    let lost = archiver.status().lost;
    let first = db.visible_lsn().next();
    super::super::archiver::uploader_of(&archiver).part("the test wants a gap");
    fill(&db, &keyspace, 0..10, 300, Durability::Durable);
    archiver.flush().unwrap();
    let status = archiver.status();
    assert_eq!((status.gaps, status.newest_gap.unwrap().0, status.lost), (2, first, lost));
    assert_eq!(read_archive(&rig, archiver.lineage()).gaps.len(), 1);
}

#[test]
fn a_database_that_is_closed_while_an_archiver_begins_writes_nothing_into_its_directory_any_more() {
    let rig = Rig::new(4);
    let (db, _) = archived_and_lost(&rig, Loss::All);
    let (database, log) = (db.id(), db.core().log.id());
    let local = || LocalLineage::read(&rig.disk, Path::new(DIR), database, log).unwrap();
    let before = local();
    let start = start_key(before.lineage.unwrap());
    assert!(rig.store.inner.peek(&start).is_none());
    // The last of the requests by which it is asked whether the start is gone: four of the probe go before.
    let closed = db.clone();
    rig.store.at(7, move || closed.close().unwrap());
    let refused = db.archive(rig.archive());
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert!(!rig.store.no_hook());
    assert_eq!(local(), before);
    assert_eq!(rig.store.inner.keys(), Vec::<String>::new());
}
