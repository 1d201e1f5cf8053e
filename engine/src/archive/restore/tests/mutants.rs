//! Bugs planted into restoring: each must be found by the test that is named for it, which passes without.

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::{TO, World, options};
use crate::archive::layout::{parse_lsn, snapshot_key};
use crate::archive::object::{Link, SnapshotObject};
use crate::archive::tests::mutants::found;
use crate::archive::{ArchiveOptions, Point};
use crate::planted::Bug;
use crate::{Database, DatabaseId, Error, Lsn, Term};

#[test]
fn a_page_that_is_not_compared_with_its_name_is_found() {
    found(Bug::SkipPageHash, || {
        let world = World::filled(41);
        let newest = world.check_restore(Point::Latest, world.last()).snapshot.unwrap();
        for key in world.store.keys().into_iter().filter(|key| key.starts_with("pages/")) {
            let mut body = world.store.peek(&key).unwrap().to_vec();
            let middle = body.len() / 2;
            body[middle] ^= 1;
            world.store.tamper(&key, Some(&body));
        }
        // No snapshot can be begun with: the log alone, and what was passed over is told.
        let report = world.check_restore(Point::Latest, world.last());
        assert!(report.snapshot.is_none() && !report.notes.is_empty(), "{newest}: {report:?}");
    });
}

#[test]
fn log_objects_that_are_taken_from_where_a_listing_has_them_are_found() {
    found(Bug::TrustListing, || {
        let world = World::filled(42);
        let key = world.store.keys().into_iter().rfind(|key| key.contains("/log/")).unwrap();
        // The same entries behind another predecessor: right by itself, and none of this chain.
        let mut other = World::filled(42);
        other.store.tamper(&key, None);
        other.chain.next = parse_lsn(&key).unwrap();
        other.chain.link = Link([9; 32]);
        other.chain.restart_at(Term::NONE, 0);
        other.upload();
        world.store.tamper(&key, other.store.peek(&key).as_deref());
        let outcome = world.restore(Point::Latest);
        world.forget_restored();
        assert!(matches!(outcome, Err(Error::ArchiveCorrupt(damage)) if damage.key == key));
    });
}

#[test]
fn a_snapshot_of_another_database_in_this_history_is_found() {
    found(Bug::ForeignSnapshot, || {
        let world = World::filled(43);
        let snapshot = world.check_restore(Point::Latest, world.last()).snapshot.unwrap();
        let key = snapshot_key(world.chain.owner.lineage, snapshot);
        let (mut object, _) = SnapshotObject::decode(&key, &world.store.peek(&key).unwrap()).unwrap();
        object.owner.database = DatabaseId(9);
        object.trees.database = DatabaseId(9);
        world.store.tamper(&key, Some(&object.encode().bytes));
        let report = world.check_restore(Point::Latest, world.last());
        assert!(report.snapshot < Some(snapshot) && report.notes[0].contains(&key), "{report:?}");
    });
}

#[test]
fn a_restore_that_leaves_the_newest_object_out_is_found() {
    found(Bug::ForgetLastObject, || {
        let world = World::filled(44);
        world.check_restore(Point::Latest, world.last());
    });
}

#[test]
fn a_restore_that_goes_on_behind_the_lsn_that_was_asked_for_is_found() {
    found(Bug::RestoreBeyondPoint, || {
        let world = World::filled(45);
        let lsn = Lsn(world.last().get() - 7);
        world.check_restore(Point::Lsn(lsn), lsn);
    });
}

#[test]
fn a_restore_that_leaves_out_what_was_committed_at_the_time_itself_is_found() {
    found(Bug::TimeExclusive, || {
        let world = World::filled(46);
        let (lsn, (time_ms, _)) = world.model.states.last_key_value().unwrap();
        world.check_restore(Point::TimeMs(*time_ms), *lsn);
    });
}

#[test]
fn a_restored_database_that_goes_on_in_the_history_it_came_from_is_found() {
    found(Bug::KeepLineage, || {
        let world = World::filled(47);
        let earlier = Lsn(world.last().get() - 9);
        world.restore(Point::Lsn(earlier)).unwrap();
        let restored = Database::open(TO, options(&world.environment)).unwrap();
        let store = std::sync::Arc::new(world.store.clone());
        let archiver = restored.archive(ArchiveOptions::to_store(store).background(false)).unwrap();
        archiver.flush().unwrap();
        assert_ne!(archiver.lineage(), world.chain.owner.lineage);
    });
}

#[test]
fn records_that_are_not_compared_with_the_digests_of_the_snapshot_are_found() {
    found(Bug::SkipDigests, || {
        let world = World::filled(48);
        let key = world.store.keys().into_iter().rfind(|key| key.contains("/snapshot/")).unwrap();
        let (mut object, _) = SnapshotObject::decode(&key, &world.store.peek(&key).unwrap()).unwrap();
        object.digests.iter_mut().for_each(|digest| digest.digest.as_mut().unwrap().sum ^= 1);
        world.store.tamper(&key, Some(&object.encode().bytes));
        assert!(matches!(world.restore(Point::Latest), Err(Error::ArchiveCorrupt(_))));
    });
}

#[test]
fn pages_that_are_not_read_back_from_the_device_are_found() {
    found(Bug::NoReadBack, || {
        let world = World::large(49);
        // The disk says that it wrote, and did not, or wrote something else.
        for outcome in [Outcome::Lost, Outcome::FlippedBit] {
            world.disk.set_fault(Fault::new(&[Operation::Write], outcome).on("seed/pages").nth(3));
            let restored = world.restore(Point::Latest);
            world.disk.clear_faults();
            assert!(matches!(restored, Err(Error::Corruption(_) | Error::Io { .. })), "{restored:?}");
            // The same call goes on, and ends well.
            world.check_restore(Point::Latest, world.last());
        }
    });
}
