//! How a life of the database begins and ends, and what is held against the oracle then.

use std::collections::BTreeMap;
use std::sync::Arc;

use logwood::{Database, Error, Keyspace, Result, Snapshot};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::oracle::{Death, Records, State, difference, digest};
use super::world::{DIRECTORY, World};

/// How often in a row an open may be cut off before it is left in peace.
const CUT_OPENS_MAX: u32 = 4;

/// Everything that a database holds.
///
/// # Errors
/// As reading.
pub fn read_all(keyspaces: &BTreeMap<String, Keyspace>, snapshot: &Snapshot) -> Result<State> {
    let mut state = State::new();
    for (name, keyspace) in keyspaces {
        let mut records = Records::new();
        for record in snapshot.iter(keyspace)? {
            let (key, value) = record?;
            records.insert(key.to_vec(), Arc::from(&*value));
        }
        state.insert(name.clone(), records);
    }
    Ok(state)
}

/// Handles of all keyspaces.
///
/// # Errors
/// As [`Database::keyspace`].
pub fn handles(db: &Database) -> Result<BTreeMap<String, Keyspace>> {
    db.keyspaces().into_iter().map(|name| db.keyspace(&name).map(|keyspace| (name, keyspace))).collect()
}

impl World {
    /// Opens, perhaps several times because the machine dies meanwhile, and checks what is there.
    pub(crate) fn open(&mut self, mut death: Death, may_be_cut: bool) -> Result<(), String> {
        self.calm();
        self.faulty = false;
        for attempt in 0.. {
            if may_be_cut && attempt < CUT_OPENS_MAX && self.rng.u8(..4) == 0 {
                self.stop_disk_at(40);
            }
            let opened = Database::open(DIRECTORY, self.options.clone());
            match opened {
                Ok(db) => {
                    self.disk.cancel_stop();
                    if self.disk.is_stopped() {
                        // The call that was cut off belonged to something that opening need not wait for.
                        drop(db);
                        death = self.settle_stop(death);
                        continue;
                    }
                    self.db = Some(db);
                    break;
                }
                Err(error) if self.disk.is_stopped() => {
                    self.trace.note(&format!("open is cut off: {error}"));
                    self.trace.count("crashes in recovery");
                    death = self.settle_stop(death);
                }
                Err(error) => return Err(format!("opening failed without a cause: {error}")),
            }
        }
        if self.lying_disk {
            let lie = [Operation::WriteDurable, Operation::Sync];
            self.disk.set_fault(Fault::new(&lie, Outcome::Lost).on("log/").for_ever());
        }
        self.check_recovered(death)
    }

    fn check_recovered(&mut self, death: Death) -> Result<(), String> {
        let db = self.db();
        self.keyspaces = handles(&db).map_err(|error| format!("after opening: {error}"))?;
        let snapshot = db.snapshot();
        let found = read_all(&self.keyspaces, &snapshot)
            .map_err(|error| format!("reading after opening: {error}"))?;
        let visible = db.visible_lsn();
        self.trace.note(&format!(
            "opened after {death:?}, visible {visible}, disk calls {}",
            self.disk.operations()
        ));
        self.trace.count("lives");
        self.oracle.recovered(found, visible, death)?;
        self.check_followed(visible)?;
        if self.rng.u8(..3) == 0 {
            self.check_backup()?;
        }
        if self.rng.u8(..3) == 0 {
            self.verify()?;
        }
        Ok(())
    }

    /// Goes on after the disk was stopped. Answers how the last life ended, taken together with `before`.
    fn settle_stop(&mut self, before: Death) -> Death {
        let mut rng = self.rng.fork();
        self.db = None;
        self.spawner.kill_all();
        if self.stopped_by_power {
            self.disk.crash(&mut rng);
            return Death::Power;
        }
        // What a killed process was writing lands, sector by sector or not, before the lock is free: the engine writes
        // with blocking calls only.
        self.disk.kill_process();
        self.disk.land_late_writes(&mut rng);
        before
    }

    /// Arms a power cut or a kill within the next `calls` changing calls.
    pub(crate) fn stop_disk_at(&mut self, calls: u64) {
        let at = self.rng.u64(1..=calls);
        self.stopped_by_power = self.rng.bool();
        if self.stopped_by_power {
            self.disk.crash_at(at);
        } else {
            self.disk.kill_at(at);
        }
    }

    /// The disk was stopped in the middle of something: the next life begins.
    pub(crate) fn restart_after_stop(&mut self) -> Result<(), String> {
        let power = self.stopped_by_power;
        self.trace.note(if power { "the power was cut" } else { "the process was killed" });
        self.trace.count(if power { "power cuts" } else { "kills" });
        // After a failed sync the cache deceives: only what was durable is promised.
        let before = if self.faulty { Death::Power } else { Death::Process };
        self.forget_handles();
        let death = self.settle_stop(before);
        self.open(death, true)
    }

    /// The power goes, or the process is killed, between two calls.
    pub(crate) fn die_now(&mut self, power: bool) -> Result<(), String> {
        let before = if self.faulty { Death::Power } else { Death::Process };
        let mut rng = self.rng.fork();
        if power {
            self.disk.crash(&mut rng);
        } else {
            self.disk.kill_process();
        }
        self.bury();
        self.trace.note(if power { "power cut" } else { "kill" });
        self.trace.count(if power { "power cuts" } else { "kills" });
        self.open(if power { Death::Power } else { before }, true)
    }

    /// Closes cleanly: everything is durable then.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.wait_for_all()?;
        if self.disk.is_stopped() {
            return self.restart_after_stop();
        }
        self.forget_handles();
        let closed = self.db().close();
        self.db = None;
        self.spawner.kill_all();
        match closed {
            Ok(()) => self.oracle.synced(),
            Err(error) => self.excuse("close", &error)?,
        }
        self.trace.note("closed");
        Ok(())
    }

    /// Closes and opens.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        let faulty = self.faulty;
        self.close()?;
        if self.db.is_some() {
            return Ok(());
        }
        if self.disk.is_stopped() {
            return self.restart_after_stop();
        }
        self.trace.count("clean reopens");
        self.open(if faulty { Death::Power } else { Death::Process }, true)
    }

    /// What readers see now, against the oracle: contents, counts, digests.
    pub(crate) fn check_visible(&mut self) -> Result<(), String> {
        let db = self.db();
        let snapshot = db.snapshot();
        let found = match read_all(&self.keyspaces, &snapshot) {
            Ok(found) => found,
            Err(error) => return self.excuse("reading everything", &error),
        };
        let lsn = snapshot.lsn();
        let expected = self.oracle.at(lsn);
        if *expected != found {
            return Err(format!("at LSN {lsn} readers see something else: {}", difference(expected, &found)));
        }
        for (name, keyspace) in self.keyspaces.clone() {
            let expected = digest(&found[&name]);
            let counted = snapshot.count::<&[u8]>(&keyspace, ..);
            let summed = snapshot.digest::<&[u8]>(&keyspace, ..);
            match (counted, summed) {
                (Ok(count), Ok(sum)) if count == expected.count && sum == expected => {}
                (Ok(count), Ok(sum)) => {
                    return Err(format!(
                        "{name}: count {count}, digest {sum:?}; its records give {expected:?}"
                    ));
                }
                (Err(error), _) | (_, Err(error)) => self.excuse("counting", &error)?,
            }
        }
        self.trace.count("full reads");
        Ok(())
    }

    /// A full verification: nothing may be damaged.
    pub(crate) fn verify(&mut self) -> Result<(), String> {
        let mut damages = Vec::new();
        let verified = self.db().verify(&mut |damage| damages.push(damage), &mut |_| {});
        self.trace.count("verifications");
        match verified {
            Err(error) => self.excuse("verify", &error),
            Ok(_) if !damages.is_empty() && !self.faulty => {
                Err(format!("verification names damage, and none was done: {:?}", damages[0]))
            }
            Ok(report) => {
                self.trace.note(&format!("verified {} pages, {} entries", report.pages, report.entries));
                Ok(())
            }
        }
    }

    /// Waits for all tickets, in a drawn order.
    pub(crate) fn wait_for_all(&mut self) -> Result<(), String> {
        while !self.promised.is_empty() {
            let index = self.rng.usize(..self.promised.len());
            self.wait_for(index)?;
        }
        Ok(())
    }

    /// Waits for one ticket.
    pub(crate) fn wait_for(&mut self, index: usize) -> Result<(), String> {
        let promised = self.promised.swap_remove(index);
        match promised.ticket.wait() {
            Ok(lsn) => {
                self.trace.note(&format!("acknowledged {lsn}"));
                self.oracle.acknowledged(promised.version, promised.durable);
                Ok(())
            }
            Err(error) => self.excuse("waiting", &error),
        }
    }

    /// Whether a failed call may have left its entry in the log: only when it stopped the database.
    pub(crate) fn may_have_happened(&self, error: &Error) -> bool {
        self.disk.is_stopped()
            || matches!(error, Error::Poisoned { .. })
            || self.db.as_ref().is_some_and(|db| db.statistics().poisoned.is_some())
    }
}
