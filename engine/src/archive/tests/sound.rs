//! A listing and a retention run at every request of each other: nothing that retention does looks like damage, and nothing that
//! is promised goes.

use std::sync::Arc;

use logwood_base::sync::Mutex;

use super::retention::{HOUR, keep};
use super::rig::{Fault, Rig};
use super::superseded::superseded;
use crate::archive::{Archive, Listing, Point, RestoreOptions, RetentionOptions, retention};

fn archive(rig: &Rig) -> Archive {
    Archive::with_client(rig.client(), &rig.environment)
}

/// Restores the latest point, and the oldest that is promised.
fn restores_what_is_promised(rig: &Rig, from_ms: u64) {
    for point in [Point::Latest, Point::TimeMs(from_ms)] {
        let options = RestoreOptions::new().point(point).database(rig.options());
        archive(rig).restore("proof", &options).unwrap();
        crate::seed::settle::remove_tree(&rig.disk, "proof".as_ref()).unwrap();
    }
}

#[test]
fn at_every_request_of_a_run_the_archive_is_sound_and_where_the_run_ends_there_too() {
    for ends in [false, true] {
        for k in 1.. {
            let rig = Rig::new(61);
            let _running = superseded(&rig);
            let dry = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
            let planned = retention(&rig.client(), &rig.environment, &dry).unwrap();
            assert!(planned.condemned.iter().any(|key| key.ends_with("/start")), "{planned:?}");
            let seen: Arc<Mutex<Option<Listing>>> = Arc::default();
            let (looking, found) = (archive(&rig), Arc::clone(&seen));
            rig.store.at(k, move || *found.lock() = Some(looking.list().unwrap()));
            if ends {
                rig.store.set(k, Fault::Dead);
            }
            let client = rig.client_of(Arc::new(rig.store.clone()));
            let ran = retention(&client, &rig.environment, &keep(3 * HOUR));
            rig.store.heal();
            if rig.store.no_hook() {
                ran.unwrap();
                assert!(k > 30, "{k}");
                break;
            }
            let listing = seen.lock().take().unwrap();
            assert!(listing.is_sound(), "request {k}: {listing:?}");
            let listing = archive(&rig).verify().unwrap();
            assert!(listing.is_sound(), "request {k}: {listing:?}");
            if ends {
                restores_what_is_promised(&rig, planned.from_ms);
            }
        }
    }
}

#[test]
fn at_every_request_of_a_listing_a_run_does_nothing_that_looks_like_damage() {
    for verifies in [false, true] {
        for k in 1.. {
            let rig = Rig::new(62);
            let _running = superseded(&rig);
            let (client, environment) = (rig.client(), rig.environment.clone());
            rig.store.at(k, move || drop(retention(&client, &environment, &keep(3 * HOUR)).unwrap()));
            let looking = Archive::with_client(rig.client_of(Arc::new(rig.store.clone())), &rig.environment);
            let listing = if verifies { looking.verify().unwrap() } else { looking.list().unwrap() };
            if rig.store.no_hook() {
                assert!(k > 30, "{k}");
                break;
            }
            assert!(listing.is_sound(), "request {k}: {listing:?}");
        }
    }
}

#[test]
fn at_every_request_of_a_listing_an_upload_with_a_snapshot_does_nothing_that_looks_like_damage() {
    for k in 1.. {
        let rig = Rig::new(63);
        let (db, archiver) = super::retention::hours(&rig, 3);
        let (archiver, db) = (Arc::new(archiver), Arc::new(db));
        let (writing, uploading) = (Arc::clone(&db), Arc::clone(&archiver));
        rig.store.at(k, move || {
            let keyspace = writing.keyspace("k").unwrap();
            super::rig::fill(&writing, &keyspace, 0..60, 900, crate::Durability::Durable);
            uploading.flush().unwrap();
        });
        let before = archiver.status().snapshots;
        let looking = Archive::with_client(rig.client_of(Arc::new(rig.store.clone())), &rig.environment);
        let listing = looking.list().unwrap();
        if rig.store.no_hook() {
            assert!(k > 15, "{k}");
            break;
        }
        assert!(archiver.status().snapshots > before);
        assert!(listing.is_sound(), "request {k}: {listing:?}");
        let lineage = &listing.lineages[0];
        assert!(lineage.snapshots.iter().all(|snapshot| !snapshot.is_ahead), "request {k}: {lineage:?}");
    }
}
