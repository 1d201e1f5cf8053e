//! Random histories with the archiver itself: whatever happened, a restore to an LSN equals the model at that LSN.
//!
//! `LOGWOOD_SIM_FROM=SEED LOGWOOD_SIM_SEEDS=1 cargo test -p logwood --features archive --lib archive::tests::histories`
//! replays one. A thousand are run by default; `LOGWOOD_TEST_SCALE` multiplies them.

use std::time::Duration;

use super::model::Model;
use super::rig::{DIR, Fault, Rig};
use crate::archive::{Archive, ArchiveOptions, Archiver, Point, RestoreOptions, RetentionOptions, retention};
use crate::tests::checks::read_all;
use crate::tests::world::scale;
use crate::{Database, Durability, Error, Lsn};

const FAULTS: [Fault; 7] =
    [Fault::Fail, Fault::FailAfter, Fault::Flip, Fault::Cut, Fault::Stale, Fault::Refuse, Fault::Dead];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// What must have happened in some of the histories.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    snapshots: u64,
    forks: u64,
    retained: u64,
    failed: u64,
    killed: u64,
    released: u64,
}

#[test]
fn random_histories_restore_to_the_model_at_a_random_lsn_whatever_the_archiver_met() {
    let (from, seeds) = (number("LOGWOOD_SIM_FROM", 0), number("LOGWOOD_SIM_SEEDS", 1000 * scale()));
    let mut all = Seen::default();
    for seed in from..from + seeds {
        let outcome = std::panic::catch_unwind(|| Life::new(seed).live());
        match outcome {
            Ok(seen) => {
                all.snapshots += u64::from(seen.snapshots > 0);
                all.forks += u64::from(seen.forks > 0);
                all.retained += u64::from(seen.retained > 0);
                all.failed += u64::from(seen.failed > 0);
                all.killed += u64::from(seen.killed > 0);
                all.released += u64::from(seen.released > 0);
            }
            Err(panic) => {
                eprintln!("seed {seed}: LOGWOOD_SIM_FROM={seed} LOGWOOD_SIM_SEEDS=1 replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // What never happens is not tested.
    let Seen { snapshots, forks, retained, failed, killed, released } = all;
    let least = [snapshots, forks, retained, failed, killed, released].into_iter().min().unwrap();
    assert!(seeds < 100 || least > seeds / 20, "of {seeds}: {all:?}");
}

/// One history.
struct Life {
    rig: Rig,
    rng: fastrand::Rng,
    model: Model,
    directory: String,
    /// Taken while the process is down.
    running: Option<(Database, Archiver)>,
    options: ArchiveOptions,
    durability: Durability,
    /// Points from here on are promised.
    oldest: Lsn,
    seen: Seen,
}

impl Life {
    fn new(seed: u64) -> Self {
        let rig = Rig::new(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let options = rig
            .archive()
            .object_bytes(rng.usize(500..12_000))
            .snapshot_log_bytes([0, 2_000, 8_000][rng.usize(0..3)]);
        // Only a power cut takes buffered commits, and there is none where they are made.
        let durability = if rng.bool() { Durability::Durable } else { Durability::Buffered };
        let (model, directory) = (Model::default(), DIR.to_owned());
        let oldest = Lsn::FIRST;
        let mut life = Self {
            rig,
            rng,
            model,
            directory,
            running: None,
            options,
            durability,
            oldest,
            seen: Seen::default(),
        };
        life.begin();
        life
    }

    fn begin(&mut self) {
        let db = Database::open(&self.directory, self.rig.options().background(false)).unwrap();
        let archiver = db.archive(self.options.clone()).unwrap();
        self.running = Some((db, archiver));
    }

    fn db(&self) -> &Database {
        &self.running.as_ref().unwrap().0
    }

    fn archiver(&self) -> &Archiver {
        &self.running.as_ref().unwrap().1
    }

    fn live(mut self) -> Seen {
        for _ in 0..self.rng.u32(20..90) {
            match self.rng.u8(0..100) {
                0..60 => self.commit(),
                60..75 => drop(self.archiver().flush().unwrap()),
                75..82 => self.fail(),
                82..86 => self.release(),
                86..89 => self.reattach(),
                89..91 => self.kill(),
                91..95 => self.retain(),
                95..97 => self.lose(),
                _ => self.rig.clock.advance(Duration::from_secs(self.rng.u64(60..7200))),
            }
        }
        self.commit();
        self.archiver().flush().unwrap();
        let last = self.db().visible_lsn();
        let lsn = Lsn(self.rng.u64(self.oldest.get()..=last.get()));
        self.check(Point::Lsn(lsn));
        self.check(Point::Latest);
        self.seen
    }

    fn commit(&mut self) {
        self.rig.clock.advance(Duration::from_millis(self.rng.u64(1..90_000)));
        let (db, _) = self.running.as_ref().unwrap();
        self.model.commit(db, &mut self.rng, self.durability);
    }

    /// One request of a flush goes wrong; the next flush ends well.
    fn fail(&mut self) {
        let fault = FAULTS[self.rng.usize(0..FAULTS.len())];
        self.commit();
        self.rig.store.set(self.rng.u64(1..12), fault);
        match self.archiver().flush() {
            Ok(_) => {}
            Err(error @ (Error::Fenced { .. } | Error::Corruption(_))) => panic!("{fault:?}: {error}"),
            Err(_) => self.seen.failed += 1,
        }
        self.rig.store.heal();
    }

    /// The log lets go of what it may.
    fn release(&mut self) {
        self.db().checkpoint().unwrap();
        self.db().core().log.maintain().unwrap();
        self.seen.released += u64::from(self.db().core().group.first_lsn() > Lsn::FIRST);
    }

    fn reattach(&mut self) {
        let (db, archiver) = self.running.take().unwrap();
        archiver.stop().unwrap();
        let archiver = db.archive(self.options.clone()).unwrap();
        self.running = Some((db, archiver));
    }

    /// The process ends, in the middle of a flush or between two; with the power, where nothing is buffered.
    fn kill(&mut self) {
        if self.rng.bool() {
            self.rig.store.set(self.rng.u64(1..12), Fault::Dead);
            let _ = self.archiver().flush();
            self.rig.store.heal();
        }
        std::mem::forget(self.running.take());
        let power = self.durability == Durability::Durable && self.rng.bool();
        self.rig.kill(power.then(|| self.rng.u64(..)));
        self.begin();
        self.seen.killed += 1;
    }

    fn retain(&mut self) {
        let keep = Duration::from_secs(self.rng.u64(0..9_000));
        // A run that a crash left behind is out of the way after a day.
        let options = RetentionOptions { keep, dry_run: false, deletions_max: self.rng.usize(1..60) };
        let report = retention(&self.rig.client(), &self.rig.environment, &options).unwrap();
        assert!(report.damage.is_empty(), "{report:?}");
        let promised = self.model.states.iter().filter(|(_, (time_ms, _))| *time_ms <= report.from_ms);
        self.oldest = self.oldest.max(promised.map(|(lsn, _)| *lsn).max().unwrap_or_default());
        self.seen.retained += u64::from(!report.condemned.is_empty());
    }

    /// The machine is lost; the database is restored, to its end or to an earlier point, and goes on as another lineage.
    fn lose(&mut self) {
        self.archiver().flush().unwrap();
        let last = self.db().visible_lsn();
        if last < self.oldest.max(Lsn::FIRST) {
            return;
        }
        let lsn = Lsn(self.rng.u64(self.oldest.max(Lsn::FIRST).get()..=last.get()));
        let before = self.archiver().lineage();
        let (db, archiver) = self.running.take().unwrap();
        archiver.stop().unwrap();
        db.close().unwrap();
        drop(db);
        self.seen.forks += 1;
        let to = format!("{DIR}{}", self.seen.forks);
        let report = self.restore(&to, Point::Lsn(lsn));
        assert_eq!(report, lsn);
        crate::seed::settle::remove_tree(&self.rig.disk, self.directory.as_ref()).unwrap();
        self.directory = to;
        self.model.go_back_to(lsn);
        self.begin();
        assert_ne!(self.archiver().lineage(), before, "a history of its own");
        // So that the new lineage is the one written to last.
        self.rig.clock.advance(Duration::from_secs(1));
        self.commit();
        self.archiver().flush().unwrap();
    }

    fn restore(&mut self, to: &str, point: Point) -> Lsn {
        let archive = Archive::with_client(self.rig.client(), &self.rig.environment);
        let options = RestoreOptions::new().point(point).database(self.rig.options());
        let report = archive
            .restore(to, &options)
            .unwrap_or_else(|error| panic!("{point}, from {}: {error}", self.oldest));
        assert!(report.notes.is_empty(), "{report:?}");
        self.seen.snapshots += u64::from(report.snapshot.is_some());
        report.lsn
    }

    fn check(&mut self, point: Point) {
        let lsn = self.restore("restored", point);
        match point {
            Point::Lsn(wanted) => assert_eq!(lsn, wanted),
            _ => assert_eq!(lsn, self.db().visible_lsn()),
        }
        let restored = Database::open("restored", self.rig.options().background(false)).unwrap();
        assert_eq!(&read_all(&restored).unwrap(), self.model.at(lsn), "lsn {lsn}");
        restored.close().unwrap();
        crate::seed::settle::remove_tree(&self.rig.disk, "restored".as_ref()).unwrap();
    }
}
