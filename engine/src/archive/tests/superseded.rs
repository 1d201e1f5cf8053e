//! Lineages that another one took the place of: when they go, and what happens when their archivers wake up.

use std::sync::Arc;

use logwood_base::{Error, Lsn};

use super::retention::{HOUR, check_whole, hours, keep, restored_early, restores};
use super::rig::{Rig, fill, snapshots};
use crate::archive::layout::{LATE_PREFIX, start_key};
use crate::archive::store::Store as _;
use crate::archive::{Archive, Archiver, Point, RestoreOptions, RetentionOptions, retention};
use crate::{Database, Durability};

/// A database that was archived for some hours, restored from an earlier point, and archived again as another lineage.
pub(super) fn superseded(rig: &Rig) -> ((Database, Archiver), Database, Archiver) {
    let (db, archiver) = hours(rig, 6);
    let fork = Lsn(db.durable_lsn().get() / 2);
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let options = RestoreOptions::new().point(Point::Lsn(fork)).database(rig.options());
    archive.restore("restored", &options).unwrap();
    let restored = Database::open("restored", rig.options()).unwrap();
    let other = restored.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10)).unwrap();
    let keyspace = restored.keyspace("k").unwrap();
    for hour in 0..8 {
        fill(&restored, &keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
        rig.clock.advance(HOUR);
        other.flush().unwrap();
    }
    assert_ne!(archiver.lineage(), other.lineage());
    ((db, archiver), restored, other)
}

fn keys_of(rig: &Rig, archiver: &Archiver) -> Vec<String> {
    let prefix = format!("lineage/{}/", archiver.lineage());
    rig.store.inner.keys().into_iter().filter(|key| key.starts_with(&prefix)).collect()
}

#[test]
fn a_lineage_that_another_one_superseded_goes_when_the_window_has_passed_it() {
    let rig = Rig::new(21);
    let ((_, old), db, new) = superseded(&rig);
    // Its newest entries are in the window: all of what they need stays.
    retention(&rig.client(), &rig.environment, &keep(10 * HOUR)).unwrap();
    assert!(!snapshots(&rig, old.lineage()).is_empty());
    // In small pieces, each of which may be the last one for long.
    let few = RetentionOptions { deletions_max: 7, ..keep(3 * HOUR) };
    for _ in 0..100 {
        if retention(&rig.client(), &rig.environment, &few).unwrap().condemned.is_empty() {
            break;
        }
        check_whole(&rig, &new, db.durable_lsn());
        assert!(Archive::with_client(rig.client(), &rig.environment).list().unwrap().damage.is_empty());
    }
    assert_eq!(keys_of(&rig, &old), Vec::<String>::new());
    check_whole(&rig, &new, db.durable_lsn());
    let listing = Archive::with_client(rig.client(), &rig.environment).verify().unwrap();
    assert_eq!(listing.lineages.len(), 1);
    assert!(listing.lineages[0].holes.iter().all(|hole| hole.is_named_gap), "{listing:?}");
}

#[test]
fn a_parent_stays_while_what_its_child_would_begin_with_is_not_of_its_history() {
    let rig = Rig::new(40);
    let ((_, old), db, new) = superseded(&rig);
    let dry = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
    let planned = retention(&rig.client(), &rig.environment, &dry).unwrap();
    assert!(planned.condemned.contains(&start_key(old.lineage())));
    // As a copy of the directory would have put them, which had other entries there.
    for mut base in snapshots(&rig, new.lineage()).into_values() {
        if base.time_ms <= planned.from_ms {
            base.entry = Some([5; 32]);
            rig.store.inner.tamper(&base.key(), Some(&base.encode().bytes));
        }
    }
    let report = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
    assert!(!report.damage.is_empty());
    assert!(!report.condemned.contains(&start_key(old.lineage())), "{report:?}");
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let options = RestoreOptions::new().point(Point::TimeMs(planned.from_ms)).database(rig.options());
    let restored = archive.restore("proof", &options).unwrap();
    assert!(restored.lsn < db.durable_lsn() && restored.lineage == new.lineage(), "{restored:?}");
}

#[test]
fn into_a_lineage_that_has_gone_no_snapshot_is_put_at_any_moment_of_a_run() {
    for week in [false, true] {
        let (mut lived, mut told, mut k) = (0, 0, 0);
        loop {
            k += 1;
            let rig = Rig::new(41);
            let ((_old_db, old), db, new) = superseded(&rig);
            // One that reads what is there takes a snapshot when it is attached; it stood still until now.
            super::super::archiver::uploader_of(&old).proof_due = true;
            let machine = rig.clone();
            rig.store.at(k, move || {
                if week {
                    // So long that its hold is taken for a dead one's.
                    machine.clock.advance(200 * HOUR);
                }
                retention(&machine.client(), &machine.environment, &keep(3 * HOUR)).unwrap();
            });
            let mut flushed = old.flush();
            if rig.store.no_hook() {
                break;
            }
            if week && matches!(flushed, Err(Error::ArchiveCorrupt(_))) {
                // What it had just put was taken before it was read back: it is tried again.
                flushed = old.flush();
            }
            match flushed {
                Ok(_) => {
                    lived += 1;
                    // After the last look at its hold a week takes the snapshot with the lineage.
                    let keys = keys_of(&rig, &old);
                    assert!(
                        keys.contains(&start_key(old.lineage())) || week && keys.is_empty(),
                        "request {k}: {keys:?}"
                    );
                }
                Err(Error::Fenced { .. }) => {
                    told += 1;
                    assert!(old.status().stopped.is_some());
                    assert_eq!(keys_of(&rig, &old), Vec::<String>::new(), "request {k}");
                    assert!(matches!(old.flush(), Err(Error::Fenced { .. })), "for good");
                }
                Err(error) => panic!("request {k}: {error}"),
            }
            assert!(rig.store.inner.list("hold/").unwrap().is_empty(), "request {k}");
            let report = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
            assert!(report.damage.is_empty(), "request {k}: {report:?}");
            restores(&rig, &new, &db);
            let archive = Archive::with_client(rig.client(), &rig.environment);
            assert_eq!(archive.newest_lineage().unwrap(), new.lineage(), "request {k}");
        }
        assert!(told > if week { 3 } else { 0 } && (week || lived > 3), "{lived} {told} of {k}");
    }
}

#[test]
fn a_superseded_lineage_whose_archiver_wakes_up_lives_or_its_archiver_is_told() {
    let (mut lived, mut told) = (0, 0);
    for k in 1..60 {
        let rig = Rig::new(22);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10)).unwrap();
        fill(&db, &keyspace, 0..60, 800, Durability::Durable);
        archiver.flush().unwrap();
        let fork = db.durable_lsn();
        let archive = Archive::with_client(rig.client(), &rig.environment);
        let options = RestoreOptions::new().point(Point::Lsn(fork)).database(rig.options());
        archive.restore("restored", &options).unwrap();
        let restored = Database::open("restored", rig.options()).unwrap();
        let other = restored.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
        let other_keyspace = restored.keyspace("k").unwrap();
        for hour in 0..4 {
            rig.clock.advance(2 * HOUR);
            fill(&restored, &other_keyspace, hour..hour + 1, 800, Durability::Durable);
            other.flush().unwrap();
        }
        // A run begins, and at its k-th request the old database is written to again and archived.
        fill(&db, &keyspace, 60..62, 800, Durability::Durable);
        let faulty = Arc::new(rig.store.clone());
        let client = rig.client_of(faulty);
        let archiver = Arc::new(archiver);
        let (waking, outcome) = (Arc::clone(&archiver), Arc::new(logwood_base::sync::Mutex::new(None)));
        let found = Arc::clone(&outcome);
        rig.store.at(k, move || *found.lock() = Some(waking.flush().map(drop)));
        let ran = retention(&client, &rig.environment, &keep(HOUR));
        rig.store.no_hook();
        let Some(outcome) = outcome.lock().take() else { break };
        ran.unwrap();
        match outcome {
            Ok(()) => {
                lived += 1;
                let options = RestoreOptions::new().lineage(archiver.lineage()).database(rig.options());
                let archive = Archive::with_client(rig.client(), &rig.environment);
                assert_eq!(archive.restore("again", &options).unwrap().lsn, db.durable_lsn(), "request {k}");
            }
            Err(Error::Fenced { .. }) => {
                told += 1;
                Arc::into_inner(archiver).unwrap().stop().unwrap();
                let next = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
                next.flush().unwrap();
                let options = RestoreOptions::new().lineage(next.lineage()).database(rig.options());
                let archive = Archive::with_client(rig.client(), &rig.environment);
                assert_eq!(archive.restore("again", &options).unwrap().lsn, db.durable_lsn(), "request {k}");
            }
            Err(error) => panic!("request {k}: {error}"),
        }
    }
    assert!(lived > 3 && told > 3, "{lived} {told}");
}

#[test]
fn a_superseded_child_that_wakes_up_keeps_what_it_forked_from() {
    let (mut lived, mut told) = (0, 0);
    for k in 1.. {
        let rig = Rig::new(37);
        let (_old, middle, _) = restored_early(&rig, "middle");
        // Without a snapshot of its own: what it begins with is its parent's.
        let child = Arc::new(middle.archive(rig.archive()).unwrap());
        fill(&middle, &middle.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
        child.flush().unwrap();
        let archive = Archive::with_client(rig.client(), &rig.environment);
        let options = RestoreOptions::new().lineage(child.lineage()).database(rig.options());
        archive.restore("newest", &options).unwrap();
        let newest = Database::open("newest", rig.options()).unwrap();
        let other = newest.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
        for hour in 0..5 {
            rig.clock.advance(2 * HOUR);
            fill(&newest, &newest.keyspace("k").unwrap(), hour..hour + 1, 800, Durability::Durable);
            other.flush().unwrap();
        }
        fill(&middle, &middle.keyspace("k").unwrap(), 60..62, 800, Durability::Durable);
        let outcome = Arc::new(logwood_base::sync::Mutex::new(None));
        let (found, waking) = (Arc::clone(&outcome), Arc::clone(&child));
        rig.store.at(k, move || *found.lock() = Some(waking.flush().map(drop)));
        let client = rig.client_of(Arc::new(rig.store.clone()));
        // So few that what is taken first is the parent's.
        let few = RetentionOptions { deletions_max: if k % 2 == 0 { 3 } else { 1000 }, ..keep(HOUR) };
        retention(&client, &rig.environment, &few).unwrap();
        rig.store.no_hook();
        let Some(outcome) = outcome.lock().take() else { break };
        match outcome {
            Ok(()) => {
                lived += 1;
                restores(&rig, &child, &middle);
            }
            Err(Error::Fenced { .. }) => told += 1,
            Err(error) => panic!("request {k}: {error}"),
        }
        restores(&rig, &other, &newest);
    }
    assert!(lived > 3 && told > 0, "{lived} {told}");
}

#[test]
fn a_restore_that_nothing_is_held_for_never_takes_for_the_end_what_a_run_has_left_of_a_lineage() {
    // All of it, or so much that of the lineage nothing is left and the page segments of its snapshots are.
    never_takes_for_the_end(|_| 10_000);
    never_takes_for_the_end(|condemned| {
        condemned.iter().position(|key| key.ends_with("/start")).unwrap() + 1
    });
}

fn never_takes_for_the_end(deletions: impl Fn(&[String]) -> usize) {
    let (mut whole, mut missed) = (0, 0);
    for k in 1.. {
        let rig = Rig::new(42);
        let ((db, old), _, _) = superseded(&rig);
        // So that there is log behind the newest one.
        let (_, newest) = snapshots(&rig, old.lineage()).pop_last().unwrap();
        rig.store.inner.tamper(&newest.key(), None);
        let dry = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
        let condemned = retention(&rig.client(), &rig.environment, &dry).unwrap().condemned;
        let wanted = RetentionOptions { deletions_max: deletions(&condemned), ..keep(3 * HOUR) };
        // Nobody can hold anything for a day; runs are not hindered.
        let foreign = format!("{LATE_PREFIX}{}", "0".repeat(32));
        rig.store.inner.put_new(&foreign, b"not a run").unwrap();
        let (client, environment) = (rig.client(), rig.environment.clone());
        rig.store.at(k, move || drop(retention(&client, &environment, &wanted).unwrap()));
        let archive = Archive::with_client(rig.client_of(Arc::new(rig.store.clone())), &rig.environment);
        let options = RestoreOptions::new().lineage(old.lineage()).database(rig.options()).verify(false);
        let restored = archive.restore("unheld", &options);
        let is_past = rig.store.no_hook();
        match restored {
            // While the restore tries to hold it, a run spares it.
            Ok(report) => {
                whole += 1;
                assert_eq!(report.lsn, db.durable_lsn(), "request {k}");
                let told = report.notes.iter().any(|note| note.contains("retention is not kept away"));
                assert!(told && report.notes.iter().any(|note| note.contains(&foreign)), "{report:?}");
            }
            Err(Error::ArchiveCorrupt(_) | Error::NotFound { .. }) => missed += 1,
            Err(error) => panic!("request {k}: {error}"),
        }
        if is_past {
            break;
        }
    }
    assert!(whole > 0 && missed > 5, "{whole} {missed}");
}
