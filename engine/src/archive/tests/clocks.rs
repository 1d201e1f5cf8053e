//! Machines whose clocks do not agree, and processes that stand still: what is judged by the store's clock, by a holder's
//! own, and by the chain.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::environment::ManualClock;
use logwood_base::{Clock, Error, Lsn};

use super::retention::{HOUR, check_whole, hours, keep};
use super::rig::{Rig, fill, snapshots};
use crate::archive::layout::{HOLDS_PREFIX, RUNS_PREFIX};
use crate::archive::object::{Hold, RetentionRun};
use crate::archive::store::Store as _;
use crate::archive::{
    Archive, Archiver, PlacedHold, Point, RestoreOptions, RetentionOptions, chain, retention,
};
use crate::planted::Bug;
use crate::{Database, Durability};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whatever a judge's own clock says.
const SKEWS: [u64; 3] = [0, 1, 1_000_000_000_000];

fn set_clock(rig: &Rig, wall_ms: u64) {
    rig.clock.set_wall_ms(wall_ms);
}

#[test]
fn whether_a_run_is_dead_is_told_by_the_stores_clock_alone() {
    for judge_ms in SKEWS {
        for run_ms in SKEWS {
            let store_clock = Arc::new(ManualClock::new(5_000_000));
            let rig = Rig::with_store_clock(1, &store_clock);
            let (_db, archiver) = hours(&rig, 4);
            let page = snapshots(&rig, archiver.lineage()).values().next().unwrap().pages()[0].hash;
            let run = RetentionRun { id: 7, begun_ms: run_ms, condemned: ["pages/x".to_owned()].into() };
            rig.store.inner.put_new(&run.key(), &run.encode().bytes).unwrap();
            let hold = Hold {
                lineage: archiver.lineage(),
                placed_ms: run_ms,
                log: None,
                snapshot: None,
                pages: vec![page],
            };
            let held = PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap();
            set_clock(&rig, judge_ms);
            let run_once = || retention(&rig.client(), &rig.environment, &keep(Duration::ZERO));
            store_clock.advance(DAY - Duration::from_secs(1));
            match run_once() {
                // A clock at the beginning of time makes nothing old enough to go: no flag is raised then.
                Ok(report) => assert!(report.condemned.is_empty()),
                Err(error) => assert!(matches!(error, Error::AlreadyOpen { .. }), "{error}"),
            }
            assert!(rig.store.inner.peek(&run.key()).is_some(), "it may be at work");
            store_clock.advance(Duration::from_secs(2));
            let ran = run_once().unwrap();
            if !ran.condemned.is_empty() {
                assert!(rig.store.inner.list(RUNS_PREFIX).unwrap().is_empty());
            }
            assert!(rig.has_page(&page) && held.stands(&rig.client()).unwrap(), "it may be at work, too");
        }
    }
}

#[test]
fn of_two_runs_beside_a_dead_one_no_two_are_at_work_at_once() {
    let (mut refused, mut ran_inside) = (0, 0);
    for k in 1..80 {
        let rig = Rig::new(2);
        let (db, archiver) = hours(&rig, 5);
        let dead = RetentionRun { id: 7, begun_ms: 0, condemned: ["pages/x".to_owned()].into() };
        rig.store.inner.put_new(&dead.key(), &dead.encode().bytes).unwrap();
        rig.clock.advance(DAY + HOUR);
        let (client, environment) = (rig.client(), rig.environment.clone());
        let store = rig.store.inner.clone();
        let outcome = Arc::new(logwood_base::sync::Mutex::new(None));
        let found = Arc::clone(&outcome);
        rig.store.at(k, move || {
            let others = store.keys().into_iter().filter(|key| key.starts_with(RUNS_PREFIX));
            let others = others.filter(|key| *key != dead.key()).count();
            let few = RetentionOptions { deletions_max: 5, ..keep(Duration::ZERO) };
            *found.lock() = Some((others, retention(&client, &environment, &few)));
        });
        let outer = retention(&rig.client_of(Arc::new(rig.store.clone())), &rig.environment, &keep(HOUR));
        if rig.store.no_hook() {
            break;
        }
        let (others, inner) = outcome.lock().take().unwrap();
        match inner {
            Err(Error::AlreadyOpen { .. }) => {
                assert!(others > 0, "request {k}: nobody else was at work");
                refused += 1;
            }
            Ok(_) => {
                assert_eq!(others, 0, "request {k}: two at once");
                ran_inside += 1;
            }
            Err(error) => panic!("{error}"),
        }
        outer.unwrap();
        assert!(rig.store.inner.list(RUNS_PREFIX).unwrap().is_empty(), "request {k}: a flag is left");
        check_whole(&rig, &archiver, db.durable_lsn());
    }
    assert!(refused > 3 && ran_inside > 3, "{refused} {ran_inside}");
}

/// A hold on the oldest snapshot, which nothing else keeps.
fn hold_oldest(rig: &Rig, archiver: &Archiver) -> (PlacedHold, Lsn) {
    let all = snapshots(rig, archiver.lineage());
    let oldest = all.values().next().unwrap();
    let hold = Hold {
        lineage: archiver.lineage(),
        placed_ms: 0,
        log: None,
        snapshot: Some(oldest.lsn()),
        pages: oldest.pages().iter().map(|page| page.hash).collect(),
    };
    (PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap(), oldest.lsn())
}

/// A holder that is at work for weeks, while retention runs every few hours. Whether what it needs is still there.
fn held_for_weeks() -> bool {
    let rig = Rig::new(3);
    let (_db, archiver) = hours(&rig, 6);
    let (mut held, lsn) = hold_oldest(&rig, &archiver);
    for _ in 0..24 * 20 / 5 {
        rig.clock.advance(5 * HOUR);
        assert!(held.renew(&rig.client(), &rig.environment).unwrap());
        retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
        if !snapshots(&rig, archiver.lineage()).contains_key(&lsn) {
            return false;
        }
        let holds = rig.store.inner.list(HOLDS_PREFIX).unwrap().len();
        assert!((1..=2).contains(&holds), "{holds}");
    }
    held.remove(&rig.client()).unwrap();
    assert!(rig.store.inner.list(HOLDS_PREFIX).unwrap().is_empty());
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    !snapshots(&rig, archiver.lineage()).contains_key(&lsn)
}

#[test]
fn a_hold_that_is_renewed_spares_what_it_names_for_as_long_as_its_holder_works() {
    super::mutants::found(Bug::KeepHold, || assert!(held_for_weeks()));
}

#[test]
fn a_renewal_at_any_moment_of_a_run_leaves_no_moment_without_a_hold() {
    let mut renewed = 0;
    for k in 1..60 {
        let rig = Rig::new(4);
        let (_db, archiver) = hours(&rig, 6);
        let (held, lsn) = hold_oldest(&rig, &archiver);
        // Twice, a day apart by the holder's clock: at once by the run's.
        let client = rig.client();
        let holder = Rig::beside(44, logwood_base::disk::SimulatedDisk::new(4), &rig.store.inner);
        let held = Arc::new(logwood_base::sync::Mutex::new(held));
        let renewing = Arc::clone(&held);
        rig.store.at(k, move || {
            for _ in 0..2 {
                holder.clock.advance(30 * HOUR);
                renewed_or_told(&renewing, &client, &holder);
            }
        });
        retention(&rig.client_of(Arc::new(rig.store.clone())), &rig.environment, &keep(HOUR)).unwrap();
        if rig.store.no_hook() {
            break;
        }
        renewed += 1;
        assert!(snapshots(&rig, archiver.lineage()).contains_key(&lsn), "request {k}");
        assert!(held.lock().stands(&rig.client()).unwrap(), "request {k}");
    }
    assert!(renewed > 8, "{renewed}");
}

/// While a run condemns what is held, a renewal is refused, and the hold before stands.
fn renewed_or_told(
    held: &logwood_base::sync::Mutex<PlacedHold>,
    client: &crate::archive::Client,
    holder: &Rig,
) {
    match held.lock().renew(client, &holder.environment) {
        Ok(stood) => assert!(stood),
        Err(error) => {
            assert!(matches!(error, Error::ArchiveUnavailable { operation: "hold", .. }), "{error}")
        }
    }
}

#[test]
fn a_holder_that_stood_still_for_a_week_is_told_that_it_held_nothing() {
    let rig = Rig::new(5);
    let (_db, archiver) = hours(&rig, 6);
    let (mut held, lsn) = hold_oldest(&rig, &archiver);
    rig.clock.advance(8 * DAY);
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!snapshots(&rig, archiver.lineage()).contains_key(&lsn));
    assert!(!held.renew(&rig.client(), &rig.environment).unwrap());
    assert!(rig.store.inner.list(HOLDS_PREFIX).unwrap().is_empty());
}

#[test]
fn a_hold_that_cannot_be_read_is_in_the_way_for_a_week_and_no_longer() {
    let rig = Rig::new(6);
    let (_db, _archiver) = hours(&rig, 6);
    rig.store.inner.tamper("hold/00000000000000000000000000000001", Some(b"damaged"));
    let run = || retention(&rig.client(), &rig.environment, &keep(HOUR));
    assert!(matches!(run(), Err(Error::ArchiveCorrupt(damage)) if damage.key.starts_with("hold/")));
    assert!(rig.store.inner.list(RUNS_PREFIX).unwrap().is_empty());
    rig.clock.advance(8 * DAY);
    assert!(!run().unwrap().condemned.is_empty());
    assert!(rig.store.inner.list(HOLDS_PREFIX).unwrap().is_empty());
}

#[test]
fn a_view_that_is_open_for_weeks_keeps_what_it_reads() {
    let rig = Rig::new(7);
    let (_db, archiver) = hours(&rig, 8);
    let (lsn, _) = snapshots(&rig, archiver.lineage()).into_iter().nth(1).unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let view = archive.open_at("view", Point::Lsn(lsn), None, rig.options()).unwrap();
    for _ in 0..30 {
        rig.pass(DAY);
        retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    }
    assert!(view.keyspace("k").unwrap().count_all().unwrap() > 30);
    view.close().unwrap();
    drop(view);
    assert!(rig.store.inner.list(HOLDS_PREFIX).unwrap().is_empty());
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!snapshots(&rig, archiver.lineage()).contains_key(&lsn));
}

#[test]
fn an_upload_that_stands_still_for_weeks_at_any_request_puts_no_snapshot_without_its_pages() {
    let mut stood = 0;
    for k in 1..60 {
        let rig = Rig::new(8);
        let (db, archiver) = hours(&rig, 3);
        let keyspace = db.keyspace("k").unwrap();
        // Pages that no snapshot names, of an upload that failed, are what the next one skips.
        rig.store.refuse_snapshots(true);
        fill(&db, &keyspace, 160..200, 800, Durability::Durable);
        assert!(archiver.flush().is_err());
        rig.store.refuse_snapshots(false);
        let (client, environment, clock) = (rig.client(), rig.environment.clone(), Arc::clone(&rig.clock));
        rig.store.at(k, move || {
            clock.advance(8 * DAY);
            retention(&client, &environment, &keep(Duration::ZERO)).unwrap();
        });
        let _ = archiver.flush();
        if rig.store.no_hook() {
            break;
        }
        stood += 1;
        for snapshot in snapshots(&rig, archiver.lineage()).values() {
            assert!(snapshot.pages().iter().all(|page| rig.has_page(&page.hash)), "request {k}");
        }
        archiver.flush().unwrap();
        check_whole(&rig, &archiver, db.durable_lsn());
    }
    assert!(stood > 8, "{stood}");
}

/// A database that was archived, lost, and restored from an earlier point on a machine whose clock is days behind.
fn restored_in_the_past(rig: &Rig, machine: &Rig, back: u64) -> (Archiver, Database, Archiver) {
    let (db, archiver) = hours(rig, 6);
    let fork = Lsn(db.durable_lsn().get() - back);
    let archive = Archive::with_client(rig.client(), &machine.environment);
    let options = RestoreOptions::new().point(Point::Lsn(fork)).database(machine.options());
    archive.restore("restored", &options).unwrap();
    let restored = Database::open("restored", machine.options()).unwrap();
    let other =
        restored.archive(machine.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10)).unwrap();
    (archiver, restored, other)
}

#[test]
fn a_lineage_that_is_restored_on_a_machine_whose_clock_is_behind_is_the_later_one_and_stays() {
    for back in [0, 100] {
        let rig = Rig::new(9);
        rig.clock.set_wall_ms(40 * 24 * 3_600_000);
        let machine = Rig::beside(10, logwood_base::disk::SimulatedDisk::new(10), &rig.store.inner);
        machine.clock.set_wall_ms(1000);
        let (old, db, new) = restored_in_the_past(&rig, &machine, back);
        let archive = || Archive::with_client(rig.client(), &rig.environment);
        assert_eq!(archive().newest_lineage().unwrap(), new.lineage(), "before it has an entry");
        let keyspace = db.keyspace("k").unwrap();
        for hour in 0..30 {
            fill(&db, &keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
            rig.clock.advance(HOUR);
            machine.clock.advance(HOUR);
            new.flush().unwrap();
            assert_eq!(archive().newest_lineage().unwrap(), new.lineage());
            // By a machine with the right time, as well as by the one that is behind.
            for judge in [&rig, &machine] {
                retention(&rig.client(), &judge.environment, &keep(5 * HOUR)).unwrap();
            }
            check_whole(&rig, &new, db.durable_lsn());
        }
        // Its entries' times stand still until its clock has come to where the old one's was: all of them are in the window.
        assert!(snapshots(&rig, new.lineage()).len() > 20);
        let listing = archive().list().unwrap();
        let order: Vec<_> = listing.lineages.iter().map(|lineage| lineage.lineage).collect();
        assert_eq!(order.last(), Some(&new.lineage()), "{:?}", old.lineage());
        let options = RestoreOptions::new().database(rig.options());
        assert_eq!(archive().restore("again", &options).unwrap().lsn, db.durable_lsn());
    }
}

#[test]
fn a_parent_that_lives_on_after_a_trial_restore_is_the_one_that_was_written_to_last() {
    let rig = Rig::new(11);
    let machine = Rig::beside(12, logwood_base::disk::SimulatedDisk::new(12), &rig.store.inner);
    let (db, archiver) = hours(&rig, 3);
    let archive = Archive::with_client(rig.client(), &rig.environment);
    archive.restore("trial", &RestoreOptions::new().database(rig.options())).unwrap();
    let trial = Database::open("trial", rig.options()).unwrap();
    let other = trial.archive(machine.archive()).unwrap();
    other.flush().unwrap();
    assert_eq!(archive.newest_lineage().unwrap(), other.lineage());
    let (start, _) = chain::start(&rig.client(), other.lineage()).unwrap().unwrap();
    assert_eq!(start.parent_next, Some(db.durable_lsn().next()));
    // The trial is over; the database itself goes on.
    let keyspace = db.keyspace("k").unwrap();
    rig.clock.advance(HOUR);
    fill(&db, &keyspace, 0..5, 100, Durability::Durable);
    archiver.flush().unwrap();
    assert_eq!(archive.newest_lineage().unwrap(), archiver.lineage());
    // Where what it wrote since cannot be read, that it did is told by the key, and not when: none of the two is chosen.
    let listed = chain::listed(&rig.client(), archiver.lineage()).unwrap();
    let newest = crate::archive::layout::log_key(archiver.lineage(), *listed.keys().next_back().unwrap());
    let whole = rig.store.inner.peek(&newest).unwrap();
    rig.store.inner.tamper(&newest, Some(b"damaged"));
    let outcome = archive.restore("lost", &RestoreOptions::new().database(rig.options()));
    assert!(matches!(outcome, Err(Error::ArchiveCorrupt(damage)) if damage.key == newest));
    // What the trial did not see the end of is none of the choice.
    let listed: Vec<Lsn> = listed.into_keys().collect();
    let seen = crate::archive::layout::log_key(archiver.lineage(), listed[listed.len() - 2]);
    rig.store.inner.tamper(&newest, None);
    rig.store.inner.tamper(&seen, Some(b"damaged"));
    assert_eq!(archive.newest_lineage().unwrap(), other.lineage());
    rig.store.inner.tamper(&newest, Some(&whole));
    assert_eq!(archive.newest_lineage().unwrap(), archiver.lineage());
    rig.store.inner.tamper(&newest, Some(b"damaged"));
    retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
    assert!(chain::start(&rig.client(), archiver.lineage()).unwrap().is_some());
}

#[test]
fn a_clock_that_jumps_ahead_where_a_database_and_its_retention_run_ends_no_window() {
    let store_clock = Arc::new(ManualClock::new(1_000_000));
    let rig = Rig::with_store_clock(21, &store_clock);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10)).unwrap();
    let write = |hour: u32| {
        fill(&db, &keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
        archiver.flush().unwrap();
    };
    for hour in 0..8 {
        write(hour);
        rig.clock.advance(HOUR);
        store_clock.advance(HOUR);
    }
    set_clock(&rig, 3_000 * 24 * 3_600_000);
    write(8);
    let report = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
    let kept_ms = store_clock.wall_ms() - 3 * 3_600_000;
    assert!((kept_ms..=kept_ms + 1000).contains(&report.from_ms), "{report:?}");
    assert!(!report.condemned.is_empty(), "what is older goes all the same");
    let oldest = snapshots(&rig, archiver.lineage()).into_values().next().unwrap();
    assert!(oldest.time_ms <= kept_ms, "{} {kept_ms}", oldest.time_ms);
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn a_lineage_stays_for_hours_by_the_stores_clock_whatever_times_its_entries_have() {
    let store_clock = Arc::new(ManualClock::new(5_000_000));
    let rig = Rig::with_store_clock(13, &store_clock);
    let (db, old) = hours(&rig, 3);
    let archive = Archive::with_client(rig.client(), &rig.environment);
    archive.restore("restored", &RestoreOptions::new().database(rig.options())).unwrap();
    let restored = Database::open("restored", rig.options()).unwrap();
    let new = restored.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(1)).unwrap();
    let keyspace = restored.keyspace("k").unwrap();
    let prefix = format!("lineage/{}/", old.lineage());
    let is_there = || rig.store.inner.keys().iter().any(|key| key.starts_with(&prefix));
    // Days by the clocks of everybody who writes and judges, and no time at all by the store's.
    for day in 0..3 {
        rig.clock.advance(DAY);
        fill(&restored, &keyspace, day * 40..day * 40 + 40, 800, Durability::Durable);
        new.flush().unwrap();
        retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
        assert!(is_there(), "its archiver may have put the last object a moment ago");
    }
    store_clock.advance(2 * DAY + 5 * HOUR);
    fill(&restored, &keyspace, 0..5, 800, Durability::Durable);
    new.flush().unwrap();
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!is_there());
    assert!(store_clock.wall_ms() < rig.clock.wall_ms());
    check_whole(&rig, &new, restored.durable_lsn());
    drop((db, old));
}

#[test]
fn a_superseded_lineage_stays_for_as_long_as_points_are_kept_by_the_stores_clock() {
    let store_clock = Arc::new(ManualClock::new(100 * 24 * 3_600_000));
    let rig = Rig::with_store_clock(22, &store_clock);
    let (_db, old) = hours(&rig, 3);
    let archive = Archive::with_client(rig.client(), &rig.environment);
    archive.restore("restored", &RestoreOptions::new().database(rig.options())).unwrap();
    let restored = Database::open("restored", rig.options()).unwrap();
    let new = restored.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(1)).unwrap();
    let keyspace = restored.keyspace("k").unwrap();
    let is_there = || chain::start(&rig.client(), old.lineage()).unwrap().is_some();
    // The child has a base of its own from the second day on.
    for (hours, stays) in [(1, true), (3, true), (4, false)] {
        // Days by the clocks of those who write and judge.
        rig.clock.advance(DAY);
        store_clock.advance(hours * HOUR);
        fill(&restored, &keyspace, 0..40, 800, Durability::Durable);
        new.flush().unwrap();
        retention(&rig.client(), &rig.environment, &keep(6 * HOUR)).unwrap();
        assert_eq!(is_there(), stays);
    }
    check_whole(&rig, &new, restored.durable_lsn());
}
