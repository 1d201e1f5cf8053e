//! The end of the process, and every kind of failure of the store, at every request of scripted runs.

use logwood_base::Lsn;

use super::rig::{Fault, Rig, check_agreement, fill};
use crate::archive::layout::parse_start;
use crate::archive::{ArchiveOptions, RetentionOptions, retention};
use crate::tests::world::scale;
use crate::{Database, Durability, Keyspace, Result};

/// A run that uploads, rolls the log, checkpoints, lets go, snapshots and retains. Stops at the first failure.
fn script(rig: &Rig, db: &Database, keyspace: &Keyspace) -> Result<()> {
    let archiver = db.archive(options(rig))?;
    for round in 0..4u32 {
        fill(db, keyspace, round * 60..round * 60 + 60, 700, Durability::Durable);
        rig.clock.advance(std::time::Duration::from_secs(10));
        archiver.flush()?;
        db.checkpoint()?;
        db.core().log.maintain()?;
    }
    let keep = std::time::Duration::from_secs(12);
    let client = rig.client_of(std::sync::Arc::new(rig.store.clone()));
    retention(&client, &rig.environment, &RetentionOptions { keep, dry_run: false, deletions_max: 100 })?;
    archiver.flush().map(drop)
}

fn options(rig: &Rig) -> ArchiveOptions {
    rig.archive().object_bytes(16 << 10).snapshot_log_bytes(40 << 10)
}

/// The first entry that is still in the archive's chain or in a snapshot of it may be later than 1 after retention; what
/// the log has let go must be in one of them.
fn nothing_that_the_log_let_go_is_missing(rig: &Rig, db: &Database) {
    let first = db.core().group.first_lsn();
    if first == Lsn::FIRST {
        return;
    }
    let starts = rig.store.inner.keys().into_iter().filter_map(|key| parse_start(&key));
    let reached = starts.map(|lineage| {
        let client = rig.client();
        let listed = crate::archive::chain::listed(&client, lineage).unwrap();
        let (start, _) = crate::archive::chain::start(&client, lineage).unwrap().unwrap();
        let Some((newest, _)) = listed.iter().next_back() else { return Lsn::ZERO };
        let mut walk = crate::archive::Chain::from_lsn(&client, start.owner, *newest);
        walk.next_item().unwrap().unwrap().last_lsn()
    });
    let reached = reached.max().unwrap_or_default();
    assert!(reached.next() >= first, "the log begins at {first}, the archive ends at {reached}");
}

#[test]
fn the_process_ends_at_every_request_and_the_next_archiver_goes_on() {
    let mut finished = false;
    for k in 1..2000 {
        let rig = Rig::new(k);
        let (db, keyspace) = rig.open();
        rig.store.set(k, Fault::Dead);
        finished = script(&rig, &db, &keyspace).is_ok();
        // The process dies with the power, or without.
        nothing_that_the_log_let_go_is_missing(&rig, &db);
        std::mem::forget((db, keyspace));
        rig.kill((k % 2 == 0).then_some(k));
        rig.store.heal();
        let (db, keyspace) = rig.open();
        nothing_that_the_log_let_go_is_missing(&rig, &db);
        // A crash may have left `retention` behind: time passes until it is ignored.
        rig.clock.advance(std::time::Duration::from_secs(2 * 24 * 3600));
        let archiver = db.archive(options(&rig)).unwrap_or_else(|error| panic!("request {k}: {error}"));
        let keep = std::time::Duration::from_secs(12);
        let retain = RetentionOptions { keep, dry_run: false, deletions_max: 100 };
        let _ = retention(&rig.client(), &rig.environment, &retain);
        fill(&db, &keyspace, 0..80, 700, Durability::Durable);
        archiver.flush().unwrap_or_else(|error| panic!("request {k}: {error}"));
        check_from_newest(&rig, &db, &archiver, k);
        if finished {
            break;
        }
    }
    assert!(finished, "the script is longer than the test");
}

#[test]
fn the_disk_stops_at_any_call_of_an_archived_run_and_the_next_archiver_goes_on() {
    let total = {
        let rig = Rig::new(1);
        let (db, keyspace) = rig.open();
        let before = rig.disk.operations();
        script(&rig, &db, &keyspace).unwrap();
        rig.disk.operations() - before
    };
    let step = 7 / scale().min(7) as usize;
    let mut stopped = 0;
    for k in (1..=total).step_by(step) {
        let power = k % 2 == 0;
        let rig = Rig::new(k);
        let (db, keyspace) = rig.open();
        if power {
            rig.disk.crash_at(k)
        } else {
            rig.disk.kill_at(k)
        }
        stopped += u64::from(run_until_stopped(&rig, &db, &keyspace).is_err());
        std::mem::forget((db, keyspace));
        rig.spawner.kill_all();
        rig.disk.cancel_stop();
        rig.disk.restart();
        let (db, keyspace) = rig.open();
        nothing_that_the_log_let_go_is_missing(&rig, &db);
        rig.clock.advance(std::time::Duration::from_secs(2 * 24 * 3600));
        let archiver = db.archive(options(&rig)).unwrap_or_else(|error| panic!("call {k}: {error}"));
        fill(&db, &keyspace, 0..80, 700, Durability::Durable);
        archiver.flush().unwrap_or_else(|error| panic!("call {k}: {error}"));
        check_from_newest(&rig, &db, &archiver, k);
    }
    assert!(stopped > total / step as u64 / 2, "{stopped} of {total}");
}

/// As [`script`], of a disk that stops: then whatever is called fails, or panics where tests fill.
fn run_until_stopped(rig: &Rig, db: &Database, keyspace: &Keyspace) -> std::thread::Result<()> {
    let run = || script(rig, db, keyspace).unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
}

/// As [`check_agreement`], for a chain whose beginning retention may have taken.
fn check_from_newest(rig: &Rig, db: &Database, archiver: &crate::archive::Archiver, k: u64) {
    let client = rig.client();
    let lineage = archiver.lineage();
    let listed = crate::archive::chain::listed(&client, lineage).unwrap();
    let (start, _) = crate::archive::chain::start(&client, lineage).unwrap().unwrap();
    let first = *listed.keys().next().unwrap();
    let mut walk = crate::archive::Chain::from_lsn(&client, start.owner, first);
    let here = super::rig::log_entries(db);
    let mut last = Lsn::ZERO;
    while let Some(item) = walk.next_item().unwrap() {
        let crate::archive::chain::Item::Log(object) = &item else { panic!("request {k}: a gap") };
        for (lsn, term, payload) in object.entries() {
            if let Some(entry) = here.get(&lsn) {
                assert_eq!((entry.0, &entry.1[..]), (term.get(), payload), "request {k}, entry {lsn}");
            }
        }
        last = item.last_lsn();
    }
    assert_eq!(Some(&last), here.keys().next_back(), "request {k}");
    let snapshots = super::rig::snapshots(rig, lineage);
    for snapshot in snapshots.values() {
        assert!(first <= snapshot.trees.replay_from, "request {k}: a snapshot that nothing follows");
        for page in snapshot.pages() {
            let key = crate::archive::layout::page_key(&page.hash);
            assert!(
                rig.store.inner.peek(&key).is_some(),
                "request {k}: a page of snapshot {}",
                snapshot.lsn()
            );
        }
    }
    assert!(first == Lsn::FIRST || !snapshots.is_empty(), "request {k}: a chain without beginning");
}

#[test]
fn one_failure_of_any_kind_at_any_request_changes_nothing() {
    for fault in [Fault::Fail, Fault::FailAfter, Fault::Flip, Fault::Cut, Fault::Stale, Fault::Refuse] {
        let mut k = 0;
        loop {
            k += 1;
            let rig = Rig::new(1);
            let (db, keyspace) = rig.open();
            let archiver = db.archive(options(&rig)).unwrap();
            rig.store.set(k, fault);
            let mut failures = 0;
            for round in 0..3u32 {
                fill(&db, &keyspace, round * 60..round * 60 + 60, 700, Durability::Durable);
                while let Err(error) = archiver.flush() {
                    failures += 1;
                    assert!(failures < 3, "{fault:?} at request {k}: {error}");
                }
            }
            let struck = rig.store.requests() > k + 8;
            let archived = check_agreement(&rig, &db, &archiver);
            assert!(archived.gaps.is_empty());
            if !struck || k > 200 {
                break;
            }
        }
        assert!(k > 20, "{fault:?}: only {k} requests");
    }
}
