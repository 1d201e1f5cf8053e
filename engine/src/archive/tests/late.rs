//! Deletions that a retention run had no answer to, and may yet be done when it has ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::{Clock, Error, Lsn};

use super::retention::{HOUR, check_whole, hours, keep, restored_early, restores};
use super::rig::{Fault, Rig, fill, snapshots};
use crate::Durability;
use crate::archive::layout::{
    HOLDS_PREFIX, LATE_PREFIX, PAGES_PREFIX, PROBES_PREFIX, RUNS_PREFIX, log_key, page_key, probe_key,
    snapshot_key, start_key,
};
use crate::archive::object::{Hold, RetentionRun};
use crate::archive::store::{ManualPause, Retry, Store as _};
use crate::archive::{Archive, Client, PlacedHold, RestoreOptions, RetentionOptions, chain, retention};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a run that has just ended had no answer to.
fn left_behind(rig: &Rig, keys: &[String]) -> String {
    let late = RetentionRun { id: 7, begun_ms: 5, condemned: keys.iter().cloned().collect() };
    rig.store.inner.put_new(&late.late_key(), &late.encode().bytes).unwrap();
    late.late_key()
}

fn keys(rig: &Rig, prefix: &str) -> Vec<String> {
    rig.store.inner.list(prefix).unwrap().into_iter().map(|object| object.key).collect()
}

#[test]
fn a_run_that_has_ended_is_in_nobodys_way_and_what_it_had_no_answer_to_stands_for_a_day() {
    let (mut unanswered, mut answered, mut refused) = (0, 0, 0);
    for attempts in [1, 3] {
        for k in 1..200 {
            let rig = Rig::new(33);
            let (db, archiver) = hours(&rig, 4);
            let client = rig.archive().retry(Retry { attempts, ..Retry::default() });
            let client = client.client(&rig.environment).unwrap();
            rig.store.set(k, Fault::FailAfter);
            let before = rig.store.requests();
            let ran = retention(&client, &rig.environment, &keep(HOUR));
            if rig.store.requests() - before < k {
                break;
            }
            rig.store.heal();
            let failed: BTreeSet<String> = rig.store.unanswered.lock().iter().cloned().collect();
            let of_others = [RUNS_PREFIX, HOLDS_PREFIX, "probe/"];
            let is_deleted = |key: &&String| of_others.iter().all(|prefix| !key.starts_with(prefix));
            let failed: BTreeSet<String> = failed.iter().filter(is_deleted).cloned().collect();
            let named: BTreeSet<String> = keys(&rig, LATE_PREFIX)
                .iter()
                .flat_map(|key| {
                    RetentionRun::decode(key, &rig.store.inner.peek(key).unwrap()).unwrap().condemned
                })
                .collect();
            // Only where the flag itself is left does it stand for what is not named.
            if keys(&rig, RUNS_PREFIX).is_empty() {
                assert_eq!(named, failed, "request {k}");
            } else {
                assert!(ran.is_err(), "request {k}");
            }
            unanswered += u32::from(!named.is_empty());
            answered += u32::from(failed.is_empty() && ran.is_ok());
            refused += u32::from(ran.is_err());
            if failed.is_empty() {
                continue;
            }
            let page = failed.iter().find_map(|key| crate::archive::layout::parse_page(key));
            let hold = |page| Hold {
                lineage: archiver.lineage(),
                placed_ms: 0,
                log: None,
                snapshot: None,
                pages: Vec::from_iter(page),
            };
            let place = |page| PlacedHold::place(&rig.client(), &rig.environment, hold(page));
            // Another run goes about its work at once.
            rig.store.inner.tamper(&page_key(&[9; 32]), Some(b"x"));
            let next = retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
            assert!(next.condemned.contains(&page_key(&[9; 32])), "request {k}: {next:?}");
            check_whole(&rig, &archiver, db.durable_lsn());
            if let Some(page) = page {
                assert!(place(Some(page)).is_err(), "request {k}: it may be taken yet");
            }
            place(Some([8; 32])).unwrap().remove(&rig.client()).unwrap();
            rig.clock.advance(DAY + HOUR);
            place(page).unwrap().remove(&rig.client()).unwrap();
            rig.store.inner.tamper(&page_key(&[9; 32]), Some(b"x"));
            retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
            assert_eq!(keys(&rig, LATE_PREFIX), Vec::<String>::new());
        }
    }
    assert!(unanswered > 5 && answered > 5 && refused > 5, "{unanswered} {answered} {refused}");
}

#[test]
fn a_run_that_fails_at_any_request_leaves_its_flag_only_where_that_could_not_be_lowered() {
    let (mut failed, mut left) = (0, Vec::new());
    for k in 1.. {
        let rig = Rig::new(32);
        let (_db, _archiver) = hours(&rig, 3);
        let client = rig.client_of(Arc::new(rig.store.clone()));
        rig.store.set(k, Fault::Fail);
        let before = rig.store.requests();
        let ran = retention(&client, &rig.environment, &keep(HOUR));
        if rig.store.requests() - before < k {
            break;
        }
        failed += u32::from(ran.is_err());
        if !keys(&rig, RUNS_PREFIX).is_empty() {
            left.push(k);
        }
    }
    // The last request of all is its deletion.
    assert!(failed > 20 && left.len() == 1, "{failed} {left:?}");
}

#[test]
fn what_was_left_of_looking_what_the_store_does_goes_after_a_day() {
    let rig = Rig::new(31);
    let (_db, _archiver) = hours(&rig, 4);
    let (old, young) = (probe_key(1), probe_key(2));
    rig.store.inner.put_new(&old, b"first").unwrap();
    rig.clock.advance(DAY + HOUR);
    rig.store.inner.put_new(&young, b"time").unwrap();
    let report = retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!report.condemned.is_empty());
    assert_eq!(keys(&rig, PROBES_PREFIX), [young]);
}

#[test]
fn where_what_was_not_answered_cannot_be_named_the_flag_stays() {
    let rig = Rig::new(34);
    let (_db, _archiver) = hours(&rig, 4);
    let client = rig.client_of(Arc::new(rig.store.clone()));
    let before = rig.store.requests();
    let dry = RetentionOptions { dry_run: true, ..keep(HOUR) };
    let planned = retention(&client, &rig.environment, &dry).unwrap();
    assert!(planned.condemned.len() > 5);
    // The store is out of reach from somewhere within the deletions on.
    let k = rig.store.requests() - before;
    rig.store.set(2 * k, Fault::Dead);
    assert!(retention(&client, &rig.environment, &keep(HOUR)).is_err());
    rig.store.heal();
    let gone = planned.condemned.iter().filter(|key| rig.store.inner.peek(key).is_none()).count();
    assert!((1..planned.condemned.len()).contains(&gone), "{gone}");
    assert_eq!((keys(&rig, RUNS_PREFIX).len(), keys(&rig, LATE_PREFIX).len()), (1, 0));
    let next = retention(&client, &rig.environment, &keep(HOUR));
    assert!(matches!(next, Err(Error::AlreadyOpen { .. })));
}

#[test]
fn a_store_that_answers_no_deletion_is_asked_for_no_more_than_can_be_named() {
    let rig = Rig::new(35);
    let (_db, _archiver) = hours(&rig, 2);
    for n in 0..1500u32 {
        let mut hash = [7; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        rig.store.inner.tamper(&page_key(&hash), Some(b"x"));
    }
    let client = rig.archive().client(&rig.environment).unwrap();
    rig.store.fail_deletions_once(PAGES_PREFIX);
    let report = retention(&client, &rig.environment, &keep(HOUR)).unwrap();
    let pages = report.condemned.iter().filter(|key| key.starts_with(PAGES_PREFIX)).count();
    assert_eq!(pages, 1000);
    assert!(report.left >= 500, "{}", report.left);
    assert!(keys(&rig, RUNS_PREFIX).is_empty());
    let [late] = &keys(&rig, LATE_PREFIX)[..] else { panic!("one object") };
    let late = RetentionRun::decode(late, &rig.store.inner.peek(late).unwrap()).unwrap();
    assert_eq!(late.condemned.len(), 1000);
}

#[test]
fn a_lineage_does_not_fork_from_what_may_yet_be_deleted() {
    let rig = Rig::new(36);
    let (old, restored, fork) = restored_early(&rig, "restored");
    left_behind(&rig, &[snapshot_key(old.lineage(), fork)]);
    let archiver = restored.archive(rig.archive()).unwrap();
    let (start, _) = chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap();
    assert_eq!(start.parent, None);
    archiver.flush().unwrap();
    // The deletion is done.
    rig.store.inner.tamper(&snapshot_key(old.lineage(), fork), None);
    restores(&rig, &archiver, &restored);
}

#[test]
fn a_start_whose_deletion_may_come_late_is_not_put_again() {
    for is_at_work in [true, false] {
        let rig = Rig::new(37);
        let (db, keyspace) = rig.open();
        // Begun, and nothing confirmed.
        let first = db.archive(rig.archive()).unwrap();
        let lineage = first.lineage();
        first.stop().unwrap();
        let start = rig.store.inner.peek(&start_key(lineage)).unwrap();
        rig.store.inner.tamper(&start_key(lineage), None);
        // A crash before it was put: it is put now.
        let again = db.archive(rig.archive()).unwrap();
        assert_eq!(again.lineage(), lineage);
        again.stop().unwrap();
        assert_eq!(rig.store.inner.peek(&start_key(lineage)), Some(start));
        rig.store.inner.tamper(&start_key(lineage), None);
        if is_at_work {
            let run = RetentionRun { id: 7, begun_ms: 5, condemned: [start_key(lineage)].into() };
            rig.store.inner.put_new(&run.key(), &run.encode().bytes).unwrap();
        } else {
            left_behind(&rig, &[log_key(lineage, Lsn(1))]);
        }
        // Whoever was told to write there begins nothing there.
        let told = db.archive(rig.archive().lineage(lineage));
        assert!(matches!(told, Err(Error::Fenced { .. })), "{told:?}");
        let archiver = db.archive(rig.archive()).unwrap();
        assert_ne!(archiver.lineage(), lineage);
        fill(&db, &keyspace, 0..5, 100, Durability::Durable);
        archiver.flush().unwrap();
        // The deletion is done.
        rig.store.inner.tamper(&start_key(lineage), None);
        restores(&rig, &archiver, &db);
    }
}

#[test]
fn what_is_held_takes_no_place_among_what_a_run_deletes_and_a_dry_run_knows_it() {
    let rig = Rig::new(38);
    let (db, archiver) = hours(&rig, 8);
    let all = snapshots(&rig, archiver.lineage());
    let held = all.values().next().unwrap();
    let hold = Hold {
        lineage: archiver.lineage(),
        placed_ms: 0,
        log: Some((held.trees.replay_from, held.trees.replay_from)),
        snapshot: Some(held.lsn()),
        pages: held.pages().iter().map(|page| page.hash).collect(),
    };
    let dry = RetentionOptions { dry_run: true, ..keep(HOUR) };
    let before = retention(&rig.client(), &rig.environment, &dry).unwrap();
    assert!(before.spared.is_empty());
    let placed = PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap();
    let planned = retention(&rig.client(), &rig.environment, &dry).unwrap();
    assert!(planned.spared.len() > 2 && planned.spared.iter().all(|key| before.condemned.contains(key)));
    assert_eq!(planned.spared.len() + planned.condemned.len(), before.condemned.len());
    // As few as are held, which come first: each run gets on.
    let few = RetentionOptions { deletions_max: planned.spared.len(), ..keep(HOUR) };
    let mut deleted = 0;
    loop {
        let report = retention(&rig.client(), &rig.environment, &few).unwrap();
        deleted += report.condemned.len();
        assert_eq!(report.left, planned.condemned.len() - deleted);
        if report.left == 0 {
            break;
        }
        assert_eq!(report.condemned.len(), planned.spared.len());
    }
    assert_eq!(deleted, planned.condemned.len());
    assert!(snapshots(&rig, archiver.lineage()).contains_key(&held.lsn()));
    placed.remove(&rig.client()).unwrap();
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn a_run_that_is_cut_off_says_how_much_is_left() {
    let rig = Rig::new(39);
    let (_db, _archiver) = hours(&rig, 6);
    let client = rig.client_of(Arc::new(rig.store.clone()));
    let dry = RetentionOptions { dry_run: true, ..keep(HOUR) };
    let before = rig.store.requests();
    let planned = retention(&client, &rig.environment, &dry).unwrap();
    // In the middle of the deletions its clock says that it was at work for hours.
    let clock = Arc::clone(&rig.clock);
    rig.store.at(2 * (rig.store.requests() - before), move || {
        clock.advance(2 * HOUR);
    });
    let report = retention(&client, &rig.environment, &keep(HOUR)).unwrap();
    assert!(!rig.store.no_hook());
    assert!(!report.condemned.is_empty() && report.left > 0, "{report:?}");
    assert_eq!(report.condemned.len() + report.left, planned.condemned.len());
}

#[test]
fn a_restore_waits_for_a_run_that_is_at_work_and_for_nothing_that_stays_as_it_is_for_a_day() {
    let rig = Rig::new(20);
    let (db, archiver) = hours(&rig, 2);
    let newest = snapshots(&rig, archiver.lineage()).into_values().next_back().unwrap();
    let condemned = [newest.key()].into();
    let run = RetentionRun { id: 7, begun_ms: 1, condemned };
    let body = run.encode().bytes;
    let at_work = run.key();
    let ended = format!("{LATE_PREFIX}{}", &at_work[RUNS_PREFIX.len()..]);
    for (key, body, waits) in [
        (at_work.clone(), &body[..], true),
        (ended.clone(), &body[..], false),
        (at_work, b"not a run", false),
        (ended, b"not a run", false),
    ] {
        rig.store.inner.put_new(&key, body).unwrap();
        let pause = Arc::new(ManualPause::new(Arc::clone(&rig.clock)));
        let store = Arc::new(rig.store.inner.clone());
        let client = Client::with_pause(store, &rig.environment, Retry::default(), pause);
        let archive = Archive::with_client(client, &rig.environment);
        let begun = rig.clock.monotonic();
        let options = RestoreOptions::new().database(rig.options());
        let report = archive.restore("unheld", &options).unwrap();
        assert_eq!(report.lsn, db.durable_lsn());
        assert!(report.notes.iter().any(|note| note.contains("retention is not kept away")), "{report:?}");
        let waited = rig.clock.monotonic().saturating_sub(begun);
        assert_eq!(waited > std::time::Duration::ZERO, waits, "{key}: {waited:?}");
        crate::seed::settle::remove_tree(&rig.disk, "unheld".as_ref()).unwrap();
        rig.store.inner.tamper(&key, None);
    }
}
