//! A directory that was copied with its `LINEAGE`, or a disk that was rolled back: two histories, one of which may write.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::sync::Mutex;
use logwood_base::{Error, Lsn};

use super::model::Model;
use super::rig::{DIR, Rig, check_agreement, fill, fill_and_let_go, read_archive};
use crate::archive::{Archive, Archiver, Point, RestoreOptions, chain};
use crate::seed::settle::remove_tree;
use crate::tests::checks::read_all;
use crate::tests::world::{State, scale};
use crate::{Database, Durability, Keyspace};

/// An archived database, whose directory has noted where its chain ends.
fn archived(rig: &Rig) -> (Database, Keyspace, Archiver) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    archiver.flush().unwrap();
    archiver.stop().unwrap();
    let archiver = db.archive(rig.archive()).unwrap();
    (db, keyspace, archiver)
}

/// A copy goes on without an archiver until its log has let go of where the chain ends, and leaves a gap. Then the original,
/// which has committed `more` times as much, must find out.
pub(super) fn a_gap_of_a_copy_fences(more: u32) {
    let rig = Rig::new(1);
    let (db, keyspace, archiver) = archived(&rig);
    let before = archiver.status().archived;
    let copy = rig.copy();
    let (other_db, other_keyspace) = copy.open();
    fill_and_let_go(&other_db, &other_keyspace, 1..4);
    fill(&db, &keyspace, 0..1 + more, 300, Durability::Durable);
    let other = other_db.archive(copy.archive()).unwrap();
    assert_eq!(other.lineage(), archiver.lineage());
    other.flush().unwrap();
    assert_eq!(read_archive(&copy, other.lineage()).gaps.len(), 1);
    let objects = rig.store.inner.keys();
    let error = archiver.flush().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(archiver.status().archived, before, "nothing more counts as archived");
    assert!(archiver.status().stopped.is_some());
    assert_eq!(rig.store.inner.keys(), objects);
    check_agreement(&copy, &other_db, &other);
}

#[test]
fn a_gap_that_a_copy_left_fences_the_original_whether_its_log_ends_before_or_behind_it() {
    for more in [0, 300, 900] {
        a_gap_of_a_copy_fences(more);
    }
}

#[test]
fn the_next_archiver_of_the_original_refuses_the_gap_of_a_copy_too() {
    for more in [0, 900] {
        let rig = Rig::new(1);
        let (db, keyspace, archiver) = archived(&rig);
        let copy = rig.copy();
        archiver.stop().unwrap();
        let (other_db, other_keyspace) = copy.open();
        fill_and_let_go(&other_db, &other_keyspace, 1..4);
        other_db.archive(copy.archive()).unwrap().flush().unwrap();
        fill(&db, &keyspace, 0..1 + more, 300, Durability::Durable);
        match db.archive(rig.archive()).map(drop) {
            Err(Error::Corruption(damage)) => {
                assert!(more == 0 && damage.check == "end of the log", "{damage}")
            }
            Err(Error::Fenced { .. }) => assert!(more > 0),
            other => panic!("{other:?}"),
        }
    }
}

/// A copy, or the original after its disk was rolled back, goes on until its log has let go of where the chain ends, which
/// it never noted.
pub(super) fn goes_on_in_a_lineage_of_its_own(rolled_back: bool) {
    let rig = Rig::new(2);
    let (db, keyspace, archiver) = archived(&rig);
    let copy = rig.copy();
    // The original goes on; the copy's directory has not noted that, and its log ends before.
    fill(&db, &keyspace, 20..40, 300, Durability::Durable);
    archiver.flush().unwrap();
    let chain = read_archive(&rig, archiver.lineage());
    let state = read_all(&db).unwrap();
    let (other_db, other_keyspace) = copy.open();
    fill_and_let_go(&other_db, &other_keyspace, 1..4);
    if rolled_back {
        archiver.stop().unwrap();
        db.close().unwrap();
    }
    let asked_for = other_db.archive(copy.archive().lineage(chain_lineage(&rig))).map(drop);
    assert!(matches!(asked_for, Err(Error::Fenced { .. })), "{asked_for:?}");
    let other = other_db.archive(copy.archive()).unwrap();
    other.flush().unwrap();
    let lineages = Archive::with_client(rig.client(), &rig.environment).list().unwrap().lineages;
    assert_eq!(lineages.len(), 2);
    let old = lineages.iter().find(|lineage| lineage.lineage != other.lineage()).unwrap().lineage;
    assert_eq!(read_archive(&rig, old), chain, "as it was");
    assert_eq!(restored(&copy, Some(other.lineage()), Point::Latest).0, read_all(&other_db).unwrap());
    assert_eq!(restored(&copy, Some(old), Point::Latest).0, state);
}

#[test]
fn behind_objects_that_the_log_cannot_compare_any_more_no_gap_is_left_but_a_lineage_begun() {
    for rolled_back in [false, true] {
        goes_on_in_a_lineage_of_its_own(rolled_back);
    }
}

fn chain_lineage(rig: &Rig) -> crate::LineageId {
    let keys = rig.store.inner.keys();
    keys.iter().find_map(|key| crate::archive::layout::parse_start(key)).unwrap()
}

/// What a restore gives, and what it told.
fn restored(rig: &Rig, lineage: Option<crate::LineageId>, point: Point) -> (State, Vec<String>) {
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let mut options = RestoreOptions::new().point(point).database(rig.options());
    if let Some(lineage) = lineage {
        options = options.lineage(lineage);
    }
    let report = archive.restore("restored", &options).unwrap_or_else(|error| panic!("{point}: {error}"));
    let db = Database::open("restored", rig.options().background(false)).unwrap();
    let state = read_all(&db).unwrap();
    db.close().unwrap();
    drop(db);
    remove_tree(&rig.disk, "restored".as_ref()).unwrap();
    (state, report.notes)
}

/// The original archives at any moment while a copy leaves a gap. Answers how often the copy's snapshot came to stand in
/// the lineage of the original. `passes`: whether the original goes on beyond where the copy was, before its machine is lost.
pub(super) fn restores_beside_the_snapshot_of_a_copy(passes: bool) -> usize {
    let (mut fenced, mut foreign) = (0, 0);
    for k in 1..200 {
        let rig = Rig::new(3);
        let (db, keyspace, archiver) = archived(&rig);
        let copy = rig.copy();
        let (other_db, other_keyspace) = copy.open();
        fill_and_let_go(&other_db, &other_keyspace, 1..4);
        let other = other_db.archive(copy.archive()).unwrap();
        fill(&db, &keyspace, 20..30, 300, Durability::Durable);
        let outcome = Arc::new(Mutex::new(None));
        let (found, archiver) = (Arc::clone(&outcome), Arc::new(archiver));
        let racing = Arc::clone(&archiver);
        copy.store.at(k, move || *found.lock() = Some(racing.flush().is_ok()));
        let other_flushed = other.flush();
        if copy.store.no_hook() {
            break;
        }
        if other_flushed.is_ok() {
            assert_eq!(*outcome.lock(), Some(false), "request {k}: both have archived");
            continue;
        }
        assert!(matches!(other_flushed, Err(Error::Fenced { .. })), "{other_flushed:?}");
        fenced += 1;
        fill(&db, &keyspace, 30..40, 300, Durability::Durable);
        while passes && db.visible_lsn() < other_db.visible_lsn() {
            fill(&db, &keyspace, 40..90, 300, Durability::Durable);
        }
        archiver.flush().unwrap();
        let snapshots = super::rig::snapshots(&rig, archiver.lineage());
        let (state, notes) = restored(&rig, None, Point::Latest);
        assert_eq!(notes.len(), snapshots.len(), "request {k}");
        assert_eq!(state, read_all(&db).unwrap(), "request {k}");
        let listing = Archive::with_client(rig.client(), &rig.environment).list().unwrap();
        let [lineage] = &listing.lineages[..] else { panic!("one lineage") };
        let reaches: Vec<Lsn> = lineage.intervals.iter().map(|interval| interval.last).collect();
        assert_eq!(reaches, [db.visible_lsn()], "request {k}: {lineage:?}");
        for snapshot in &lineage.snapshots {
            assert_eq!((snapshot.is_ahead, snapshot.damage.is_some()), (!passes, passes), "{snapshot:?}");
            if !passes {
                // It is there for whoever knows better, and says what it is.
                let (state, notes) = restored(&rig, None, Point::Lsn(snapshot.lsn));
                assert_eq!(state, read_all(&other_db).unwrap());
                assert_eq!(notes.len(), 1);
            }
        }
        foreign += snapshots.len();
    }
    assert!(fenced > 3, "{fenced}");
    foreign
}

#[test]
fn a_snapshot_that_a_copy_put_before_it_was_refused_is_no_base_of_the_originals_history() {
    for passes in [true, false] {
        assert!(restores_beside_the_snapshot_of_a_copy(passes) > 0);
    }
}

#[test]
fn what_is_restored_from_a_snapshot_ahead_of_the_log_is_nobodys_child_although_the_original_goes_on_past_it()
{
    let rig = Rig::new(5);
    let (db, keyspace, archiver) = archived(&rig);
    let copy = rig.copy();
    let (other_db, other_keyspace) = copy.open();
    fill_and_let_go(&other_db, &other_keyspace, 1..4);
    let other = other_db.archive(copy.archive()).unwrap();
    // The snapshot of its gap arrives, and the gap does not.
    copy.store.delay_log();
    assert!(other.flush().is_err());
    let ahead = *super::rig::snapshots(&rig, archiver.lineage()).keys().next_back().unwrap();
    let state = read_all(&other_db).unwrap();
    drop((other, other_keyspace, other_db));
    let machine = Rig::beside(77, SimulatedDisk::new(77), &rig.store.inner);
    let archive = Archive::with_client(machine.client(), &machine.environment);
    let options = RestoreOptions::new().point(Point::Lsn(ahead)).database(machine.options());
    assert_eq!(archive.restore(DIR, &options).unwrap().lsn, ahead);
    // The original comes to the same LSN, with other entries.
    while db.visible_lsn() <= ahead.next() {
        fill(&db, &keyspace, 0..50, 300, Durability::Durable);
    }
    archiver.flush().unwrap();
    let (found, notes) = restored(&rig, None, Point::Latest);
    assert_eq!((found, notes.len()), (read_all(&db).unwrap(), 1));
    let (restored_db, restored_keyspace) = machine.open();
    assert_eq!(read_all(&restored_db).unwrap(), state);
    let new = restored_db.archive(machine.archive()).unwrap();
    fill(&restored_db, &restored_keyspace, 7..9, 300, Durability::Durable);
    new.flush().unwrap();
    let (start, _) = chain::start(&rig.client(), new.lineage()).unwrap().unwrap();
    assert_eq!(start.parent, None);
    check_agreement(&machine, &restored_db, &new);
    for (lineage, db) in [(new.lineage(), &restored_db), (archiver.lineage(), &db)] {
        assert_eq!(restored(&rig, Some(lineage), Point::Latest).0, read_all(db).unwrap());
    }
}

#[test]
fn an_object_and_a_gap_that_take_effect_when_the_log_has_let_go_are_known_for_ones_own() {
    let rig = Rig::new(4);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().backlog_bytes_max(100_000).leave_gaps(true)).unwrap();
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    archiver.flush().unwrap();
    for round in 0..6 {
        rig.store.delay_log();
        fill(&db, &keyspace, 0..20, 300, Durability::Durable);
        assert!(archiver.flush().is_err());
        // The backlog fills, and what was put at first is given up, and the log goes on; then a gap is tried, and given up.
        for from in [1, 4] {
            fill_and_let_go(&db, &keyspace, from..from + 2);
            assert!(archiver.flush().is_err());
        }
        fill_and_let_go(&db, &keyspace, 8..10);
        assert!(rig.store.take_effect() >= 3, "round {round}");
        archiver.flush().unwrap_or_else(|error| panic!("round {round}: {error}"));
        check_agreement(&rig, &db, &archiver);
    }
}

/// One of several that went on from the same state.
struct Branch {
    rig: Rig,
    db: Database,
    archiver: Option<Archiver>,
    model: Model,
}

impl Branch {
    fn open(rig: Rig, model: Model) -> Self {
        let db = Database::open(DIR, rig.options().background(false)).unwrap();
        Self { rig, db, archiver: None, model }
    }

    fn commit(&mut self, rng: &mut fastrand::Rng) {
        self.rig.clock.advance(Duration::from_millis(rng.u64(1..30_000)));
        self.model.commit(&self.db, rng, Durability::Durable);
    }

    /// Lets the log go of all that it need not keep: of two checkpoints the older one is needed, too.
    fn release(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..2 {
            (0..16).for_each(|_| self.commit(rng));
            self.db.checkpoint().unwrap();
        }
        self.db.core().log.maintain().unwrap();
    }

    /// Archives everything, if it may.
    fn flush(&mut self) -> bool {
        if self.archiver.is_none() {
            match self.db.archive(self.rig.archive().object_bytes(2000)) {
                Ok(archiver) => self.archiver = Some(archiver),
                Err(Error::Fenced { .. } | Error::Corruption(_)) => return false,
                Err(error) => panic!("{error}"),
            }
        }
        match self.archiver.as_ref().unwrap().flush() {
            Ok(reached) => {
                assert_eq!(reached, self.db.visible_lsn());
                true
            }
            Err(Error::Fenced { .. }) => {
                self.archiver = None;
                false
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn of_random_copies_whoever_is_told_that_all_is_archived_finds_it_there() {
    let (mut gaps, mut refused, mut lineages) = (0, 0, 0);
    for seed in 0..60 * scale() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut branches = vec![Branch::open(Rig::new(seed), Model::default())];
        for _ in 0..rng.u32(20..60) {
            let at = rng.usize(0..branches.len());
            let branch = &mut branches[at];
            match rng.u8(0..20) {
                0..10 => {
                    for _ in 0..rng.u32(1..10) {
                        branch.commit(&mut rng);
                    }
                }
                10..14 => refused += u32::from(!branch.flush()),
                14 | 15 => {
                    if let Some(archiver) = branch.archiver.take() {
                        archiver.stop().unwrap();
                    }
                }
                16..18 => {
                    branch.release(&mut rng);
                }
                _ if branches.len() < 3 => {
                    let (rig, model) = (branches[at].rig.copy(), branches[at].model.clone());
                    branches.push(Branch::open(rig, model));
                }
                _ => {}
            }
        }
        for branch in &mut branches {
            branch.commit(&mut rng);
            let last = branch.db.visible_lsn();
            if !branch.flush() {
                refused += 1;
                continue;
            }
            let lineage = branch.archiver.as_ref().unwrap().lineage();
            let (state, _) = restored(&branch.rig, Some(lineage), Point::Lsn(last));
            assert!(state == *branch.model.at(last), "seed {seed}: another state than was committed");
        }
        // Whatever is said to be restorable is what one of them was.
        let archive = Archive::with_client(branches[0].rig.client(), &branches[0].rig.environment);
        let listing = archive.list().unwrap();
        lineages += listing.lineages.len();
        for lineage in &listing.lineages {
            gaps += lineage.holes.iter().filter(|hole| hole.is_named_gap).count();
            for interval in &lineage.intervals {
                let lsn = Lsn(rng.u64(interval.first.get()..=interval.last.get()));
                let (state, _) = restored(&branches[0].rig, Some(lineage.lineage), Point::Lsn(lsn));
                assert!(
                    branches.iter().any(|branch| *branch.model.at(lsn) == state),
                    "seed {seed}, lsn {lsn}"
                );
            }
        }
    }
    assert!(gaps > 10 && refused > 30 && lineages > 70, "{gaps} {refused} {lineages}");
}
