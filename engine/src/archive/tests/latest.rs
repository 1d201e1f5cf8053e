//! Which of several histories is the latest, where something of one is lost, and where clocks are ahead.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::ManualClock;
use logwood_base::{Clock as _, Error, LineageId, Lsn};

use super::retention::{HOUR, check_whole, hours, keep, restored_early, restores};
use super::rig::{Rig, fill, snapshots};
use crate::archive::layout::{log_key, start_key};
use crate::archive::object::{Gap, Link, Owner};
use crate::archive::store::{Memory, Store as _};
use crate::archive::{Archive, Client, Point, RestoreOptions, chain, retention};
use crate::{Database, Durability};

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

#[test]
fn a_history_whose_start_is_lost_is_named_and_no_older_one_is_restored_in_its_place() {
    // With a snapshot and a log; with a log alone.
    for is_alone in [false, true] {
        let rig = Rig::new(60);
        let (old, restored, _) = restored_early(&rig, "restored");
        let options = rig.archive().object_bytes(1).snapshot_log_bytes(u64::from(!is_alone));
        let new = restored.archive(options).unwrap();
        rig.clock.advance(2 * HOUR);
        fill(&restored, &restored.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
        new.flush().unwrap();
        assert_eq!(snapshots(&rig, new.lineage()).is_empty(), is_alone);
        let archive = Archive::with_client(rig.client(), &rig.environment);
        assert_eq!(archive.newest_lineage().unwrap(), new.lineage());
        let key = start_key(new.lineage());
        let whole = rig.store.inner.peek(&key).unwrap();
        rig.store.inner.tamper(&key, None);
        let names_it = |error: Error| matches!(error, Error::ArchiveCorrupt(damage) if damage.key == key);
        assert!(names_it(archive.newest_lineage().unwrap_err()));
        let options = || RestoreOptions::new().database(rig.options());
        assert!(names_it(archive.restore("lost", &options()).unwrap_err()));
        assert!(names_it(archive.open_at("view", Point::Latest, None, rig.options()).map(drop).unwrap_err()));
        let listing = archive.list().unwrap();
        assert_eq!(listing.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), [&key]);
        // Nothing of any lineage goes: it may need any of them.
        rig.clock.advance(100 * HOUR);
        let report = retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
        assert_eq!(report.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), [&key]);
        assert!(report.condemned.iter().all(|key| !key.starts_with("lineage/")), "{report:?}");
        // The other one can be asked for, and this one again when it is whole.
        archive.restore("named", &options().lineage(old.lineage())).unwrap();
        rig.store.inner.tamper(&key, Some(&whole));
        restores(&rig, &new, &restored);
    }
}

#[test]
fn what_retention_leaves_of_a_lineage_is_no_damage() {
    let rig = Rig::new(61);
    let (db, archiver) = hours(&rig, 2);
    let (start, _) = chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap();
    let owner = Owner { lineage: LineageId(7), ..start.owner };
    let end = Gap::end(owner, Lsn(50), 5, Link::default());
    rig.store.inner.tamper(&end.key(), Some(&end.encode().bytes));
    // And what an archiver put that stood still.
    rig.store.inner.tamper(&log_key(owner.lineage, Lsn(40)), Some(b"an object"));
    let archive = Archive::with_client(rig.client(), &rig.environment);
    assert_eq!(archive.newest_lineage().unwrap(), archiver.lineage());
    assert!(archive.list().unwrap().damage.is_empty());
    assert!(retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap().damage.is_empty());
    check_whole(&rig, &archiver, db.durable_lsn());
}

/// The archive as it is when it is copied by a program that does not keep times.
fn copied(rig: &Rig, clock: &Arc<ManualClock>) -> Client {
    let copy = Memory::with_clock(Arc::clone(clock) as Arc<dyn logwood_base::Clock>);
    for key in rig.store.inner.keys().into_iter().rev() {
        clock.advance(Duration::from_secs(2));
        copy.put_new(&key, &rig.store.inner.peek(&key).unwrap()).unwrap();
    }
    rig.client_of(Arc::new(copy))
}

#[test]
fn a_trial_restore_on_a_machine_whose_clock_is_ahead_is_the_latest_only_while_it_is_written_to() {
    for ahead_ms in [0, YEAR_MS] {
        let store_clock = Arc::new(ManualClock::new(1_000_000));
        let rig = Rig::with_store_clock(62, &store_clock);
        let machine = Rig::beside(63, SimulatedDisk::new(63), &rig.store.inner);
        let (db, archiver) = hours(&rig, 3);
        store_clock.advance(3 * HOUR);
        machine.clock.set_wall_ms(rig.clock.wall_ms() + ahead_ms);
        let archive = Archive::with_client(rig.client(), &machine.environment);
        archive.restore("trial", &RestoreOptions::new().database(machine.options())).unwrap();
        let trial = Database::open("trial", machine.options()).unwrap();
        let other = trial.archive(machine.archive()).unwrap();
        let pass = || [&rig.clock, &machine.clock, &store_clock].map(|clock| clock.advance(HOUR));
        pass();
        for (db, archiver) in [(&db, &archiver), (&trial, &other)] {
            fill(db, &db.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
            archiver.flush().unwrap();
            pass();
        }
        assert_eq!(archive.newest_lineage().unwrap(), other.lineage());
        fill(&db, &db.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
        archiver.flush().unwrap();
        assert_eq!(archive.newest_lineage().unwrap(), archiver.lineage(), "{ahead_ms}");
        // In a copy the entries' own times are all that is left.
        let copy = Archive::with_client(copied(&rig, &store_clock), &rig.environment);
        let latest = if ahead_ms == 0 { archiver.lineage() } else { other.lineage() };
        assert_eq!(copy.newest_lineage().unwrap(), latest, "{ahead_ms}");
    }
}

#[test]
fn an_archiver_that_lives_on_when_the_clock_of_its_machine_jumps_keeps_its_window() {
    // The archive is a directory of that machine: its clock and the store's are one.
    let rig = Rig::new(64);
    let (db, keyspace) = rig.open();
    let options = rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10).keep(3 * HOUR);
    let archiver = db.archive(options).unwrap();
    let mut truth_ms = rig.clock.wall_ms();
    for hour in 0..12 {
        if hour == 8 {
            rig.clock.set_wall_ms(truth_ms + YEAR_MS);
        }
        fill(&db, &keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
        rig.clock.advance(HOUR);
        truth_ms += HOUR.as_millis() as u64;
        archiver.flush().unwrap();
        let oldest = snapshots(&rig, archiver.lineage()).into_values().next().unwrap();
        if hour >= 4 {
            assert!(oldest.time_ms <= truth_ms - 3 * 3_600_000, "{hour}: {}", oldest.time_ms);
        }
        check_whole(&rig, &archiver, db.durable_lsn());
    }
    assert_eq!(archiver.status().retention_failing, None);
    // What is old by the time that has passed goes all the same.
    assert!(archiver.status().retention_deleted > 10);
    assert!(chain::listed(&rig.client(), archiver.lineage()).unwrap().keys().next() > Some(&Lsn(1)));
}
