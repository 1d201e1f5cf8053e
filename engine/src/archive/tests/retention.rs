//! Retention: what stays, and what happens beside uploads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::{Error, Lsn};

use super::rig::{Rig, fill, snapshots};
use crate::archive::layout::{PAGES_PREFIX, RUNS_PREFIX, log_key, page_key, start_key};
use crate::archive::object::{Hold, RetentionRun};
use crate::archive::store::Store as _;
use crate::archive::{
    Archive, Archiver, PlacedHold, Point, RestoreOptions, RetentionOptions, chain, retention,
};
use crate::{Database, Durability};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// A database that was written to for some hours, with a snapshot about every hour.
pub(super) fn hours(rig: &Rig, hours: u32) -> (Database, Archiver) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10)).unwrap();
    for hour in 0..hours {
        for part in 0..4 {
            let n = hour * 40 + part * 10;
            fill(&db, &keyspace, n..n + 10, 800, Durability::Durable);
            rig.clock.advance(HOUR / 4);
            archiver.flush().unwrap();
        }
    }
    (db, archiver)
}

pub(super) fn keep(keep: Duration) -> RetentionOptions {
    RetentionOptions { keep, dry_run: false, deletions_max: 10_000 }
}

/// Every snapshot has its pages, and the chain goes on without a hole from the oldest snapshot to the end.
pub(super) fn check_whole(rig: &Rig, archiver: &Archiver, newest: Lsn) {
    let (client, lineage) = (rig.client(), archiver.lineage());
    let snapshots = snapshots(rig, lineage);
    let oldest = snapshots.values().next().expect("a snapshot").trees.replay_from;
    for page in snapshots.values().flat_map(|snapshot| snapshot.pages()) {
        client.page(&page.hash, page.bytes).unwrap();
    }
    let (start, _) = chain::start(&client, lineage).unwrap().unwrap();
    let listed = chain::listed(&client, lineage).unwrap();
    let (first, _) = listed.range(..=oldest).next_back().expect("the log behind the oldest snapshot");
    let mut walk = chain::Chain::from_lsn(&client, start.owner, *first);
    while walk.next_item().unwrap().is_some() {}
    assert_eq!(walk.position().next.previous(), newest);
}

#[test]
fn what_no_point_of_the_window_needs_goes_and_everything_else_stays() {
    let rig = Rig::new(1);
    let (db, archiver) = hours(&rig, 10);
    let all = snapshots(&rig, archiver.lineage());
    assert!(all.len() >= 8, "{}", all.len());
    let before = rig.store.inner.keys();
    let dry = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
    let planned = retention(&rig.client(), &rig.environment, &dry).unwrap();
    assert_eq!(rig.store.inner.keys(), before, "a dry run changes nothing");
    let few = RetentionOptions { deletions_max: 3, ..dry };
    let few = retention(&rig.client(), &rig.environment, &few).unwrap();
    assert_eq!(
        (few.condemned.len(), few.left),
        (3, planned.condemned.len() - 3),
        "it says that there is more"
    );
    let done = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
    assert_eq!(done, planned);
    assert!(done.bytes > 0 && done.condemned.len() > 20);
    let left: BTreeSet<String> = rig.store.inner.keys().into_iter().collect();
    let gone: BTreeSet<String> = done.condemned.iter().cloned().collect();
    assert_eq!(left, before.into_iter().filter(|key| !gone.contains(key)).collect());
    check_whole(&rig, &archiver, db.durable_lsn());
    // The base: the newest snapshot that is at least as old as the window.
    let kept = snapshots(&rig, archiver.lineage());
    let base = all.values().rfind(|snapshot| snapshot.time_ms <= done.from_ms).unwrap();
    assert_eq!(kept.keys().next(), Some(&base.lsn()));
    // Pages that a kept snapshot shares with one that is gone stay; all others went.
    let named: BTreeSet<String> =
        kept.values().flat_map(|snapshot| snapshot.pages().iter().map(|page| page_key(&page.hash))).collect();
    let pages: BTreeSet<String> =
        rig.store.inner.list(PAGES_PREFIX).unwrap().into_iter().map(|page| page.key).collect();
    assert_eq!(pages, named);
    // Nothing is left to do, and the archiver goes on.
    assert!(retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap().condemned.is_empty());
    archiver.flush().unwrap();
}

#[test]
fn an_archiver_keeps_its_own_window_and_finds_its_place_after_reopening() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    let options = || rig.archive().object_bytes(4 << 10).snapshot_log_bytes(30 << 10).keep(2 * HOUR);
    let mut archiver = db.archive(options()).unwrap();
    for hour in 0..8 {
        fill(&db, &keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
        rig.clock.advance(HOUR);
        archiver.flush().unwrap();
        if hour % 3 == 2 {
            archiver.stop().unwrap();
            archiver = db.archive(options()).unwrap();
        }
    }
    assert!(snapshots(&rig, archiver.lineage()).len() <= 5);
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn neither_a_clock_that_runs_ahead_nor_idleness_shortens_the_window() {
    let rig = Rig::new(3);
    let (db, archiver) = hours(&rig, 6);
    rig.clock.advance(1000 * HOUR);
    let report = retention(&rig.client(), &rig.environment, &keep(100 * HOUR)).unwrap();
    assert!(report.condemned.is_empty(), "the newest entry's time counts");
    let report = retention(&rig.client(), &rig.environment, &keep(2 * HOUR)).unwrap();
    assert!(!report.condemned.is_empty());
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn a_hold_spares_what_it_names_until_it_is_a_week_old() {
    let rig = Rig::new(4);
    let (_db, archiver) = hours(&rig, 8);
    let all = snapshots(&rig, archiver.lineage());
    let oldest = all.values().next().unwrap();
    let hold = Hold {
        lineage: archiver.lineage(),
        placed_ms: 0,
        log: Some((oldest.trees.replay_from, oldest.trees.replay_from)),
        snapshot: Some(oldest.lsn()),
        pages: Vec::new(),
    };
    let placed = PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap();
    let report = retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!report.spared.is_empty() && !report.condemned.is_empty());
    let kept = snapshots(&rig, archiver.lineage());
    assert!(kept.contains_key(&oldest.lsn()));
    for page in oldest.pages() {
        rig.client().page(&page.hash, page.bytes).unwrap();
    }
    let listed = chain::listed(&rig.client(), archiver.lineage()).unwrap();
    assert!(*listed.keys().next().unwrap() <= oldest.trees.replay_from);
    placed.remove(&rig.client()).unwrap();
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(!snapshots(&rig, archiver.lineage()).contains_key(&oldest.lsn()));
}

#[test]
fn behind_what_a_hold_spares_the_log_stays_and_the_archive_is_whole() {
    // As an upload holds its snapshot, and as a restore up to a fork holds log.
    for holds_snapshot in [true, false] {
        let rig = Rig::new(8);
        let (db, archiver) = hours(&rig, 8);
        let all = snapshots(&rig, archiver.lineage());
        let held = all.values().nth(1).unwrap();
        let first = held.trees.replay_from;
        let listed = chain::listed(&rig.client(), archiver.lineage()).unwrap();
        let before = listed.range(..=first).rev().nth(1).map(|(at, _)| *at).unwrap();
        let last = listed.range(first.next()..).nth(2).map(|(at, _)| *at).unwrap();
        let (lsn, log) = if holds_snapshot { (Some(held.lsn()), None) } else { (None, Some((first, last))) };
        let hold = Hold { lineage: archiver.lineage(), placed_ms: 0, log, snapshot: lsn, pages: Vec::new() };
        let placed = PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap();
        let report = retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
        assert!(!report.spared.is_empty() && !report.condemned.is_empty(), "{report:?}");
        assert!(rig.client().is_gone(&log_key(archiver.lineage(), before)).unwrap(), "no more than that");
        let archive = Archive::with_client(rig.client(), &rig.environment);
        let listing = archive.list().unwrap();
        assert!(listing.is_sound(), "{listing:?}");
        let intervals = &listing.lineages[0].intervals;
        let kept = snapshots(&rig, archiver.lineage());
        let oldest = *kept.keys().next().unwrap();
        assert_eq!(kept.contains_key(&held.lsn()), holds_snapshot);
        assert_eq!(intervals.len(), 1, "{listing:?}");
        assert_eq!((intervals[0].first, intervals[0].last), (oldest, db.durable_lsn()));
        check_whole(&rig, &archiver, db.durable_lsn());
        // What lies before it is answered as where nothing is held.
        let restored = |lsn: Lsn| {
            let options = RestoreOptions::new().point(Point::Lsn(lsn)).database(rig.options());
            archive.restore(format!("at {lsn}"), &options).map(|report| report.lsn)
        };
        let before = restored(oldest.previous()).unwrap_err();
        assert!(before.to_string().contains("are not kept"), "{before}");
        assert_eq!(restored(oldest.next()).unwrap(), oldest.next());
        // When the hold has gone, all of that goes.
        placed.remove(&rig.client()).unwrap();
        retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
        assert!(archive.list().unwrap().is_sound());
        let (first, _) = chain::listed(&rig.client(), archiver.lineage()).unwrap().pop_first().unwrap();
        assert!(first > held.lsn(), "{first}");
    }
}

#[test]
fn a_hold_on_what_a_run_condemns_is_withdrawn() {
    let rig = Rig::new(5);
    let (_db, archiver) = hours(&rig, 3);
    let page = snapshots(&rig, archiver.lineage()).values().next().unwrap().pages()[0].hash;
    let run = RetentionRun { id: 1, begun_ms: 5, condemned: [page_key(&page)].into() };
    rig.store.inner.put_new(&run.key(), &run.encode().bytes).unwrap();
    let hold =
        Hold { lineage: archiver.lineage(), placed_ms: 5, log: None, snapshot: None, pages: vec![page] };
    let error = PlacedHold::place(&rig.client(), &rig.environment, hold.clone()).unwrap_err();
    assert!(matches!(error, Error::ArchiveUnavailable { .. }), "{error}");
    assert!(rig.store.inner.list("hold/").unwrap().is_empty());
    // One that cannot be read condemns everything.
    rig.store.inner.tamper(&run.key(), Some(b"damaged"));
    assert!(PlacedHold::place(&rig.client(), &rig.environment, hold.clone()).is_err());
    // A run that crashed is in the way for a day: of holds, and of other runs.
    assert!(matches!(
        retention(&rig.client(), &rig.environment, &keep(HOUR)),
        Err(Error::AlreadyOpen { .. })
    ));
    rig.clock.advance(25 * HOUR);
    let placed = PlacedHold::place(&rig.client(), &rig.environment, hold).unwrap();
    placed.remove(&rig.client()).unwrap();
    retention(&rig.client(), &rig.environment, &keep(HOUR)).unwrap();
    assert!(rig.store.inner.list(RUNS_PREFIX).unwrap().is_empty(), "it is taken away");
}

#[test]
fn a_snapshot_that_the_chain_never_reached_is_no_base() {
    let rig = Rig::new(30);
    let (db, archiver) = hours(&rig, 6);
    archiver.flush().unwrap();
    let lineage = archiver.lineage();
    archiver.stop().unwrap();
    // What comes next is lost with the machine, but for the snapshot that was to stand in for a gap.
    let keyspace = db.keyspace("k").unwrap();
    let reached = db.durable_lsn();
    fill(&db, &keyspace, 300..340, 800, Durability::Durable);
    let options = rig.archive().backlog_bytes_max(1).leave_gaps(true);
    let dying = db.archive(options).unwrap();
    fill(&db, &keyspace, 340..360, 800, Durability::Durable);
    let before = snapshots(&rig, lineage).len();
    {
        let mut uploader = super::super::archiver::uploader_of(&dying);
        for _ in 0..200 {
            uploader.step(true).unwrap();
            if snapshots(&rig, lineage).len() > before {
                break;
            }
        }
    }
    // The gap that it was for may stand there, too: it is as if it had never come.
    rig.store.inner.tamper(&crate::archive::layout::log_key(lineage, reached.next()), None);
    assert!(snapshots(&rig, lineage).len() > before);
    rig.clock.advance(100 * HOUR);
    retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let options = RestoreOptions::new().point(Point::Lsn(reached)).database(rig.options());
    assert_eq!(
        archive.restore("restored", &options).unwrap().lsn,
        reached,
        "the chain's end can be restored"
    );
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_everything_else_that_is_not_needed_goes() {
    // The oldest one, which goes; the base; the newest one, which stays and could name any page.
    for which in 0..3 {
        let rig = Rig::new(6);
        let (db, archiver) = hours(&rig, 24);
        let dry = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
        let whole = retention(&rig.client(), &rig.environment, &dry).unwrap();
        let all = snapshots(&rig, archiver.lineage());
        let base = all.values().rposition(|snapshot| snapshot.time_ms <= whole.from_ms).unwrap();
        let at = [0, base, all.len() - 1][which];
        let key = all.values().nth(at).unwrap().key();
        rig.store.inner.tamper(&key, Some(b"damaged"));
        let pages: Vec<_> = all.values().flat_map(|snapshot| snapshot.pages().to_vec()).collect();
        let report = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
        assert_eq!(report.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), [&key]);
        assert_eq!(report.condemned.contains(&key), which == 0, "{which}");
        assert!(report.condemned.len() > 10, "{which}: {report:?}");
        assert!(report.condemned.iter().any(|key| key.starts_with(PAGES_PREFIX)), "{which}: {report:?}");
        // What is left is whole, but for the one that was damaged.
        rig.store.inner.tamper(&key, None);
        check_whole(&rig, &archiver, db.durable_lsn());
        let lost = pages.iter().filter(|page| !rig.has_page(&page.hash)).count();
        assert!(lost > 0);
        // The next run, without the damaged one, ends where one would have that met no damage.
        retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
        check_whole(&rig, &archiver, db.durable_lsn());
    }
}

#[test]
fn a_snapshot_without_its_pages_is_no_base() {
    let rig = Rig::new(7);
    let (_db, archiver) = hours(&rig, 6);
    let client = rig.client();
    let plan = RetentionOptions { dry_run: true, ..keep(2 * HOUR) };
    let from_ms = retention(&client, &rig.environment, &plan).unwrap().from_ms;
    let all = snapshots(&rig, archiver.lineage());
    let suits: Vec<_> = all.values().filter(|snapshot| snapshot.time_ms <= from_ms).collect();
    let [.., before, base] = suits[..] else { panic!("two snapshots before the window") };
    let own = base.pages().iter().find(|page| before.pages().iter().all(|other| other.hash != page.hash));
    rig.store.inner.tamper(&page_key(&own.unwrap().hash), None);
    retention(&client, &rig.environment, &keep(2 * HOUR)).unwrap();
    let kept = snapshots(&rig, archiver.lineage());
    assert_eq!(kept.keys().next(), Some(&before.lsn()));
}

#[test]
fn a_snapshot_that_the_chain_contradicts_is_named_and_is_no_base() {
    let rig = Rig::new(39);
    let (db, archiver) = hours(&rig, 6);
    let client = rig.client();
    let plan = RetentionOptions { dry_run: true, ..keep(2 * HOUR) };
    let planned = retention(&client, &rig.environment, &plan).unwrap();
    assert!(planned.condemned.len() > 5 && planned.damage.is_empty());
    let all = snapshots(&rig, archiver.lineage());
    let mut base = all.into_values().rfind(|snapshot| snapshot.time_ms <= planned.from_ms).unwrap();
    // As a copy of the directory would have put it, which had another entry there.
    base.entry = Some([5; 32]);
    rig.store.inner.tamper(&base.key(), Some(&base.encode().bytes));
    let before = all_before(&rig, &archiver, base.lsn());
    // The one before is the base, as often as it is looked at.
    for _ in 0..2 {
        let report = retention(&client, &rig.environment, &keep(2 * HOUR)).unwrap();
        assert_eq!(report.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), [&base.key()]);
        let left = snapshots(&rig, archiver.lineage());
        assert_eq!(left.keys().next(), before.last(), "{report:?}");
    }
    rig.store.inner.tamper(&base.key(), None);
    check_whole(&rig, &archiver, db.durable_lsn());
}

/// The snapshots of an archiver's lineage before an entry.
fn all_before(rig: &Rig, archiver: &Archiver, lsn: Lsn) -> Vec<Lsn> {
    snapshots(rig, archiver.lineage()).into_keys().filter(|found| *found < lsn).collect()
}

#[test]
fn a_snapshot_that_needs_entries_of_a_gap_is_no_base() {
    let rig = Rig::new(38);
    let (_db, archiver) = hours(&rig, 8);
    let client = rig.client();
    let plan = RetentionOptions { dry_run: true, ..keep(3 * HOUR) };
    let planned = retention(&client, &rig.environment, &plan).unwrap();
    assert!(planned.condemned.iter().any(|key| key.contains("/log/")));
    let all = snapshots(&rig, archiver.lineage());
    let mut base = all.into_values().rfind(|snapshot| snapshot.time_ms <= planned.from_ms).unwrap();
    // As when it was taken while a large transaction was open, of which the log let go.
    base.trees.replay_from = base.lsn();
    rig.store.inner.tamper(&base.key(), Some(&base.encode().bytes));
    let listed = chain::listed(&client, archiver.lineage()).unwrap();
    let first_lsn = *listed.range(..=base.lsn()).next_back().unwrap().0;
    let last_lsn = listed.range(first_lsn.next()..).next().unwrap().0.previous();
    let gap = crate::archive::object::Gap {
        owner: base.owner,
        first_lsn,
        last_lsn,
        snapshot_lsn: last_lsn,
        left_ms: 5,
        previous: crate::archive::object::Link::default(),
    };
    rig.store.inner.tamper(&gap.key(), Some(&gap.encode().bytes));
    let before = all_before(&rig, &archiver, base.lsn());
    retention(&client, &rig.environment, &keep(3 * HOUR)).unwrap();
    let left = snapshots(&rig, archiver.lineage());
    assert_eq!(left.keys().next(), before.last(), "the one before is");
}

/// An upload in the middle of a retention run, or a run in the middle of an upload, at the k-th request, for every k. The
/// archive has pages that no snapshot names, of an upload that failed, and the upload needs them. Answers how often a
/// snapshot ended up without one of its pages.
pub(super) fn broken_by_races(seed: u64) -> usize {
    let mut broken = 0;
    for upload_first in [true, false] {
        for k in 1..40 {
            let rig = Rig::new(seed);
            let (db, archiver) = hours(&rig, 3);
            let archiver = Arc::new(archiver);
            let keyspace = db.keyspace("k").unwrap();
            rig.store.refuse_snapshots(true);
            fill(&db, &keyspace, 160..200, 800, Durability::Durable);
            assert!(archiver.flush().is_err());
            rig.store.refuse_snapshots(false);
            let environment = rig.environment.clone();
            let client = rig.client_of(Arc::new(rig.store.clone()));
            let run = move || drop(retention(&client, &environment, &keep(Duration::ZERO)));
            let uploading = Arc::clone(&archiver);
            let upload = move || drop(uploading.flush());
            if upload_first {
                rig.store.at(k, run);
                upload();
            } else {
                rig.store.at(k, upload);
                run();
            }
            rig.store.no_hook();
            let lost = snapshots(&rig, archiver.lineage())
                .values()
                .any(|snapshot| snapshot.pages().iter().any(|page| !rig.has_page(&page.hash)));
            broken += usize::from(lost);
            archiver.flush().unwrap();
        }
    }
    broken
}

#[test]
fn no_interleaving_of_an_upload_and_a_run_loses_a_page() {
    assert_eq!(broken_by_races(8), 0);
}

/// A restore with a retention run at its k-th request, or a run with a restore at its k-th, for every k.
#[test]
fn a_restore_and_a_retention_run_at_any_moment_of_each_other_give_what_was_asked_for_or_say_why_not() {
    let rig = Rig::new(23);
    let (db, archiver) = hours(&rig, 8);
    let objects: Vec<(String, Arc<[u8]>)> = rig
        .store
        .inner
        .keys()
        .into_iter()
        .map(|key| (key.clone(), rig.store.inner.peek(&key).unwrap()))
        .collect();
    let digest = db.keyspace("k").unwrap().digest_all().unwrap();
    let all = snapshots(&rig, archiver.lineage());
    // One point is promised; the other one is older than the window.
    let old = all.keys().nth(1).copied().unwrap();
    for point in [Point::Latest, Point::Lsn(old)] {
        for restore_first in [true, false] {
            let (mut restored, mut refused, mut k) = (0, 0, 0);
            loop {
                k += 1;
                for key in rig.store.inner.keys() {
                    rig.store.inner.tamper(&key, None);
                }
                objects.iter().for_each(|(key, body)| rig.store.inner.tamper(key, Some(body)));
                let to = format!("restored {k} {restore_first} {point:?}");
                let environment = rig.environment.clone();
                let client = rig.client_of(Arc::new(rig.store.clone()));
                let archive = Archive::with_client(client.clone(), &environment);
                let options = RestoreOptions::new().point(point).database(rig.options());
                let outcome = Arc::new(logwood_base::sync::Mutex::new(None));
                let (found, path) = (Arc::clone(&outcome), to.clone());
                let restore = move || *found.lock() = Some(archive.restore(&path, &options));
                let run = move || drop(retention(&client, &environment, &keep(HOUR)));
                if restore_first {
                    rig.store.at(k, run);
                    restore();
                } else {
                    rig.store.at(k, restore);
                    run();
                }
                let is_past = rig.store.no_hook();
                let outcome = outcome.lock().take();
                match outcome {
                    Some(Ok(report)) => {
                        restored += 1;
                        let opened = Database::open(&to, rig.options()).unwrap();
                        if point == Point::Latest {
                            assert_eq!(opened.keyspace("k").unwrap().digest_all().unwrap(), digest);
                        } else {
                            assert_eq!(report.lsn, old);
                        }
                        opened.close().unwrap();
                    }
                    Some(Err(error)) => {
                        refused += 1;
                        let is_clear = matches!(
                            error,
                            Error::ArchiveUnavailable { .. }
                                | Error::NotFound { .. }
                                | Error::ArchiveCorrupt(_)
                        );
                        assert!(is_clear && point != Point::Latest, "request {k}: {error}");
                    }
                    None => {}
                }
                let _ = crate::seed::settle::remove_tree(&rig.disk, to.as_ref());
                if is_past || k > 120 {
                    break;
                }
            }
            assert!(restored > 3 && k > 10, "{point:?} {restore_first}: {restored} {refused} of {k}");
            assert!(point == Point::Latest || refused > 0 || restore_first, "{refused}");
        }
    }
}

/// A database that was archived for hours, and restored as it was at its second snapshot, by which the archive of the restored
/// one begins.
pub(super) fn restored_early(rig: &Rig, to: &str) -> (Archiver, Database, Lsn) {
    let (_db, archiver) = hours(rig, 6);
    let fork = *snapshots(rig, archiver.lineage()).keys().nth(1).unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    archive.restore(to, &RestoreOptions::new().point(Point::Lsn(fork)).database(rig.options())).unwrap();
    (archiver, Database::open(to, rig.options()).unwrap(), fork)
}

pub(super) fn restores(rig: &Rig, archiver: &Archiver, db: &Database) {
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let options = RestoreOptions::new().lineage(archiver.lineage()).database(rig.options());
    assert_eq!(archive.restore("proof", &options).unwrap().lsn, db.durable_lsn());
    crate::seed::settle::remove_tree(&rig.disk, "proof".as_ref()).unwrap();
}

#[test]
fn a_lineage_that_begins_at_any_moment_of_a_run_has_what_it_begins_with() {
    for begins_first in [true, false] {
        let (mut forked, mut alone, mut k) = (0, 0, 0);
        loop {
            k += 1;
            let rig = Rig::new(34);
            let (_old, restored, fork) = restored_early(&rig, "restored");
            fill(&restored, &restored.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
            let (client, environment) = (rig.client_of(Arc::new(rig.store.clone())), rig.environment.clone());
            let run = move || drop(retention(&client, &environment, &keep(Duration::ZERO)));
            let begun = Arc::new(logwood_base::sync::Mutex::new(None));
            let (found, begin_at) = (Arc::clone(&begun), restored.clone());
            let options = rig.archive();
            let begin = move || *found.lock() = Some(begin_at.archive(options));
            if begins_first {
                rig.store.at(k, run);
                begin();
            } else {
                rig.store.at(k, begin);
                run();
            }
            let is_past = rig.store.no_hook();
            let archiver = match begun.lock().take() {
                Some(Ok(archiver)) => archiver,
                Some(Err(Error::ArchiveUnavailable { .. })) | None => {
                    restored.archive(rig.archive()).unwrap()
                }
                Some(Err(error)) => panic!("request {k}: {error}"),
            };
            archiver.flush().unwrap();
            let (start, _) = chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap();
            assert!(start.parent.is_none_or(|parent| parent.fork_lsn == fork));
            forked += u32::from(start.parent.is_some());
            alone += u32::from(start.parent.is_none());
            restores(&rig, &archiver, &restored);
            retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
            restores(&rig, &archiver, &restored);
            if is_past {
                break;
            }
        }
        assert!(forked > 5 && k > 10, "{begins_first}: {forked} {alone} of {k}");
    }
}

#[test]
fn a_parent_that_is_closed_or_has_nothing_to_begin_with_is_not_forked_from() {
    for is_closed in [true, false] {
        let rig = Rig::new(35);
        let (old, restored, _) = restored_early(&rig, "restored");
        if is_closed {
            let (start, _) = chain::start(&rig.client(), old.lineage()).unwrap().unwrap();
            let first = *chain::listed(&rig.client(), old.lineage()).unwrap().keys().next_back().unwrap();
            let mut walk = chain::Chain::from_lsn(&rig.client(), start.owner, first);
            while walk.next_item().unwrap().is_some() {}
            let (next, link) = (walk.position().next, walk.position().link.unwrap());
            let end = crate::archive::object::Gap::end(start.owner, next, 5, link);
            rig.store.inner.tamper(&end.key(), Some(&end.encode().bytes));
        } else {
            // All that leads to the fork; the fork itself is there.
            let gone = |key: &String| key.contains("/snapshot/") || key.contains("/log/00000000000000000001");
            rig.store
                .inner
                .keys()
                .iter()
                .filter(|key| gone(key))
                .for_each(|key| rig.store.inner.tamper(key, None));
        }
        let archiver = restored.archive(rig.archive()).unwrap();
        fill(&restored, &restored.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
        archiver.flush().unwrap();
        let (start, _) = chain::start(&rig.client(), archiver.lineage()).unwrap().unwrap();
        assert_eq!(start.parent, None, "{is_closed}");
        restores(&rig, &archiver, &restored);
    }
}

#[test]
fn nothing_of_any_lineage_goes_while_a_start_cannot_be_read() {
    let rig = Rig::new(36);
    let (old, restored, _) = restored_early(&rig, "restored");
    let archiver = restored.archive(rig.archive()).unwrap();
    fill(&restored, &restored.keyspace("k").unwrap(), 0..5, 100, Durability::Durable);
    archiver.flush().unwrap();
    let key = start_key(archiver.lineage());
    let whole = rig.store.inner.peek(&key).unwrap();
    rig.store.inner.tamper(&key, Some(b"damaged"));
    let report = retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
    assert_eq!(report.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), [&key]);
    assert!(report.condemned.iter().all(|key| key.starts_with(PAGES_PREFIX)), "{report:?}");
    rig.store.inner.tamper(&key, Some(&whole));
    restores(&rig, &archiver, &restored);
    restores(&rig, &old, &Database::open(super::rig::DIR, rig.options()).unwrap());
}
