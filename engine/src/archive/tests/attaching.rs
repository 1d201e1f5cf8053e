//! Where an archiver begins when something stands in its way, and what it asks the store for.

use std::path::Path;
use std::sync::atomic::Ordering;

use logwood_base::{Error, LineageId, Lsn};

use super::rig::{DIR, Fault, Rig, check_agreement, fill, read_archive, snapshots};
use crate::archive::layout::{PROBES_PREFIX, log_key, parse_lineage};
use crate::archive::lineage::LocalLineage;
use crate::archive::object::{Owner, Parent, RetentionRun, Start};
use crate::archive::store::{Put, Retry, Store as _};
use crate::archive::{Archive, Archiver, RetentionOptions, chain, retention};
use crate::{Database, Durability, Keyspace};

/// A database whose directory says that it forks from an archived lineage at its last entry, as a restore leaves it.
fn forked(rig: &Rig, lineage: Option<LineageId>) -> (Database, Keyspace, Parent) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..10, 100, Durability::Durable);
    archiver.flush().unwrap();
    let parent = Parent { lineage: archiver.lineage(), fork_lsn: db.durable_lsn() };
    archiver.stop().unwrap();
    let (database, log) = (db.id(), db.core().log.id());
    let forked = LocalLineage { database, log, lineage, parent: Some(parent), confirmed: None };
    forked.write(&rig.disk, Path::new(DIR)).unwrap();
    fill(&db, &keyspace, 10..20, 100, Durability::Durable);
    (db, keyspace, parent)
}

fn start_of(rig: &Rig, archiver: &Archiver) -> Start {
    chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap().0
}

#[test]
fn a_retention_run_that_condemns_the_fork_leaves_the_new_lineage_without_a_parent_and_not_without_an_archive()
{
    let rig = Rig::new(1);
    let (db, _, parent) = forked(&rig, None);
    let condemned = [log_key(parent.lineage, Lsn::FIRST)].into();
    let run = RetentionRun { id: 7, begun_ms: 1, condemned };
    assert_eq!(rig.store.inner.put_new(&run.key(), &run.encode().bytes).unwrap(), Put::Created);
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    assert_eq!(start_of(&rig, &archiver).parent, None);
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn a_start_that_took_effect_when_its_parent_had_gone_is_given_a_snapshot() {
    for parent_stands in [true, false] {
        let rig = Rig::new(2);
        let lineage = LineageId(0x77);
        let (db, _, parent) = forked(&rig, Some(lineage));
        let owner = Owner { database: db.id(), lineage };
        let (first_lsn, created_ms) = (parent.fork_lsn.next(), 5);
        let start =
            Start { owner, first_lsn, created_ms, parent: Some(parent), parent_next: Some(first_lsn) };
        let key = crate::archive::layout::start_key(lineage);
        assert_eq!(rig.store.inner.put_new(&key, &start.encode().bytes).unwrap(), Put::Created);
        if !parent_stands {
            let of_parent = |key: &String| parse_lineage(key) == Some(parent.lineage);
            for key in rig.store.inner.keys().into_iter().filter(of_parent) {
                rig.store.inner.tamper(&key, None);
            }
        }
        let archiver = db.archive(rig.archive()).unwrap();
        archiver.flush().unwrap();
        assert_eq!(start_of(&rig, &archiver), start);
        assert_eq!(snapshots(&rig, lineage).len(), usize::from(!parent_stands));
        let listing = Archive::with_client(rig.client(), &rig.environment).list().unwrap();
        let listed = listing.lineages.iter().find(|listed| listed.lineage == lineage).unwrap();
        let reaches = listed.intervals.last().map(|interval| interval.last);
        assert_eq!(reaches, Some(db.durable_lsn()), "{listed:?}");
    }
}

#[test]
fn a_request_of_the_probe_that_fails_is_not_the_end_of_it() {
    for fault in [Fault::Fail, Fault::FailAfter] {
        for k in 1..=4 {
            let rig = Rig::new(3);
            let (db, keyspace) = rig.open();
            rig.store.set(k, fault);
            let archiver =
                db.archive(rig.archive()).unwrap_or_else(|error| panic!("{fault:?}, {k}: {error}"));
            fill(&db, &keyspace, 0..10, 100, Durability::Durable);
            archiver.flush().unwrap();
            check_agreement(&rig, &db, &archiver);
        }
    }
}

#[test]
fn what_the_probe_gets_back_wrong_once_is_asked_for_again_and_refuses_no_archiver_for_good() {
    for (k, fault) in [(3, Fault::Flip), (3, Fault::Cut), (3, Fault::Stale), (1, Fault::Refuse)] {
        for attempts in [1, 3] {
            let rig = Rig::new(5);
            let (db, keyspace) = rig.open();
            let options = || rig.archive().retry(Retry { attempts, ..Retry::default() });
            rig.store.set(k, fault);
            let archiver = match db.archive(options()) {
                Ok(archiver) => archiver,
                Err(error) => {
                    assert_eq!(attempts, 1, "{fault:?}: {error}");
                    let may_pass = match &error {
                        Error::ArchiveCorrupt(damage) => damage.key.starts_with(PROBES_PREFIX),
                        Error::ArchiveUnavailable { key, .. } => key.starts_with(PROBES_PREFIX),
                        _ => false,
                    };
                    assert!(may_pass, "{fault:?}: {error}");
                    db.archive(options()).unwrap()
                }
            };
            fill(&db, &keyspace, 0..10, 100, Durability::Durable);
            archiver.flush().unwrap();
            check_agreement(&rig, &db, &archiver);
        }
    }
}

#[test]
fn of_a_long_chain_what_lies_before_the_place_that_was_noted_is_not_listed() {
    for snapshot_log_bytes in [0, 20_000] {
        let rig = Rig::new(4);
        let (db, keyspace) = rig.open();
        let options = || rig.archive().object_bytes(1000).snapshot_log_bytes(snapshot_log_bytes);
        let archiver = db.archive(options()).unwrap();
        for n in 0..100 {
            fill(&db, &keyspace, n..n + 1, 1000, Durability::Durable);
            archiver.flush().unwrap();
        }
        archiver.stop().unwrap();
        let before = rig.store.listed.load(Ordering::SeqCst);
        let archiver = db.archive(options()).unwrap();
        let listed = rig.store.listed.load(Ordering::SeqCst) - before;
        assert!(listed < 40, "{listed}");
        assert!(read_archive(&rig, archiver.lineage()).objects >= 100);
        fill(&db, &keyspace, 100..110, 1000, Durability::Durable);
        archiver.flush().unwrap();
        check_agreement(&rig, &db, &archiver);
    }
}

#[test]
fn a_lineage_that_has_lost_what_it_begins_with_is_told_by_retention_and_given_a_snapshot_by_the_next_archiver()
 {
    for what in ["the end of the parent", "the parent", "the first object"] {
        let rig = Rig::new(6);
        let (db, _, parent) = forked(&rig, None);
        let archiver = db.archive(rig.archive()).unwrap();
        archiver.flush().unwrap();
        let (lineage, client) = (archiver.lineage(), rig.client());
        assert_eq!(start_of(&rig, &archiver).parent, Some(parent));
        archiver.stop().unwrap();
        let ask = RetentionOptions { keep: std::time::Duration::ZERO, dry_run: true, deletions_max: 10 };
        let told = retention(&client, &rig.environment, &ask).unwrap();
        assert!(!told.is_newest_lost && told.damage.is_empty(), "{told:?}");
        let last = *chain::listed(&client, parent.lineage).unwrap().keys().next_back().unwrap();
        for key in rig.store.inner.keys() {
            let goes = match what {
                "the end of the parent" => key == log_key(parent.lineage, last),
                "the parent" => parse_lineage(&key) == Some(parent.lineage),
                _ => key == log_key(parent.lineage, Lsn::FIRST),
            };
            if goes {
                rig.store.inner.tamper(&key, None);
            }
        }
        let told = retention(&client, &rig.environment, &ask).unwrap();
        assert!(told.is_newest_lost && !told.damage.is_empty(), "{what}: {told:?}");
        let archive = Archive::with_client(client.clone(), &rig.environment);
        let options = crate::archive::RestoreOptions::new().lineage(lineage).database(rig.options());
        archive.restore("restored", &options).unwrap_err();
        crate::seed::settle::remove_tree(&rig.disk, Path::new("restored")).unwrap();

        let archiver = db.archive(rig.archive()).unwrap();
        archiver.flush().unwrap();
        assert_eq!(archiver.lineage(), lineage);
        assert_eq!(archive.restore("restored", &options).unwrap().lsn, db.durable_lsn());
        assert!(!retention(&client, &rig.environment, &ask).unwrap().is_newest_lost);
    }
}
