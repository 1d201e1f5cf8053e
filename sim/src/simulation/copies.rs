//! Backups while the database is in use: whatever happens meanwhile, what stands there is an earlier one or the new one.

use logwood::{Database, Error, Lsn};
use logwood_base::environment::ManualSpawner;

use super::lives::{handles, read_all};
use super::oracle::{State, difference};
use super::world::{World, environment};

/// Where backups go.
const TO: &str = "backup";

/// What may stand there.
#[derive(Default)]
pub struct Copies {
    /// The last one that was finished; `None`: none was.
    finished: Option<(Lsn, State)>,
    /// What those that were cut off since may have become.
    begun: Vec<State>,
}

impl World {
    /// Brings the backup up to date.
    pub(crate) fn back_up(&mut self) -> Result<(), String> {
        // All that is visible by now is in it, and more may be.
        let visible = self.db().visible_lsn();
        self.copies.begun.extend(self.oracle.since(visible));
        match self.db().backup(TO) {
            Ok(report) if report.lsn < visible => {
                Err(format!("a backup at {} does not hold what was visible at {visible}", report.lsn))
            }
            Ok(report) => {
                self.trace.note(&format!("backup at {}", report.lsn));
                self.trace.count("backups");
                let state = self.oracle.at(report.lsn).clone();
                self.copies = Copies { finished: Some((report.lsn, state)), begun: Vec::new() };
                self.check_backup()
            }
            Err(error) => {
                self.trace.count("backups cut off");
                self.excuse("backup", &error)
            }
        }
    }

    /// Opens what stands there, on a copy of the disk.
    pub(crate) fn check_backup(&mut self) -> Result<(), String> {
        if self.disk.is_stopped() || self.copies.finished.is_none() && self.copies.begun.is_empty() {
            return Ok(());
        }
        let copy = self.disk.snapshot();
        copy.clear_faults();
        copy.set_capacity(None);
        let spawner = ManualSpawner::new();
        let environment = environment(&copy, &self.clock, &spawner, self.rng.u64(..));
        let opened = Database::open(TO, self.options.clone().environment(environment).create(false));
        let read = opened.and_then(|db| read_all(&handles(&db)?, &db.snapshot()));
        self.trace.count("backups opened");
        match (read, &self.copies) {
            (Ok(found), Copies { finished: Some((_, state)), .. }) if found == *state => Ok(()),
            // One that was cut off behind its end is whole.
            (Ok(found), Copies { begun, .. }) if begun.contains(&found) => Ok(()),
            (Ok(found), Copies { finished: Some((lsn, state)), .. }) => {
                Err(format!("the backup at {lsn} is something else: {}", difference(state, &found)))
            }
            (Ok(_), _) => Err("a backup that was never finished opens as no state that ever was".to_owned()),
            (Err(Error::NotFound { .. } | Error::WrongKind { .. }), Copies { finished: None, .. }) => Ok(()),
            (Err(error), _) => Err(format!("the backup does not open: {error}")),
        }
    }
}
