//! One simulated machine with one database, through all of its lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use logwood::{Changes, Corruption, Database, Environment, Error, Keyspace, Options, Snapshot, Ticket};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{Clock, ManualClock, ManualSpawner, SeededRandom};

use super::copies::Copies;
use super::follower::{self, View};
use super::oracle::{Death, Oracle, State};
use super::trace::Trace;

/// Where the database lives on the simulated disk.
pub const DIRECTORY: &str = "db";

/// A commit whose ticket was not waited for yet.
pub struct Promised {
    /// Its ticket.
    pub ticket: Ticket,
    /// Its version in the oracle.
    pub version: usize,
    /// What was asked for.
    pub durable: bool,
}

/// A snapshot that is held, and what it must show.
pub struct Held {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The keyspaces of its moment.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// What they held.
    pub state: State,
}

/// Everything.
pub struct World {
    /// Draws all that happens.
    pub rng: Rng,
    /// The disk.
    pub disk: SimulatedDisk,
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// Background work.
    pub spawner: ManualSpawner,
    /// The database, while it is open.
    pub db: Option<Database>,
    /// Handles of its keyspaces.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// Snapshots held.
    pub held: Vec<Held>,
    /// Tickets not waited for.
    pub promised: Vec<Promised>,
    /// The follower, while it follows.
    pub changes: Option<Changes>,
    /// What it has kept elsewhere.
    pub view: View,
    /// The backups.
    pub copies: Copies,
    /// What was promised.
    pub oracle: Oracle,
    /// What happened.
    pub trace: Trace,
    /// A fault of the disk was armed in this life: errors are part of the game.
    pub faulty: bool,
    /// The disk is full.
    pub full: bool,
    /// Whether what will stop the disk is a power cut; otherwise it is a kill.
    pub stopped_by_power: bool,
    /// The disk acknowledges durable writes of the log and never stores them.
    pub lying_disk: bool,
    pub(super) options: Options,
}

impl World {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let spawner = ManualSpawner::new();
        let disk = SimulatedDisk::new(rng.u64(..));
        let environment = environment(&disk, &clock, &spawner, rng.u64(..));
        // Small sizes, so that short lives roll, checkpoint, evict and clean.
        let options = Options::new()
            .environment(environment)
            .log_segment_bytes(64 << 10)
            .page_segment_bytes(64 << 10)
            .cache_bytes([64 << 10, 256 << 10, 4 << 20][rng.usize(..3)])
            .recovery_log_bytes_max(256 << 10)
            .log_recent_bytes_max(16 << 10)
            .follower(follower::NAME, 0)
            .log_pool_segments(rng.usize(..3))
            .background(rng.u8(..8) > 0);
        Self {
            rng,
            disk,
            clock,
            spawner,
            db: None,
            keyspaces: BTreeMap::new(),
            held: Vec::new(),
            promised: Vec::new(),
            changes: None,
            view: View::default(),
            copies: Copies::default(),
            oracle: Oracle::new(),
            trace: Trace::default(),
            faulty: false,
            full: false,
            stopped_by_power: false,
            lying_disk: false,
            options,
        }
    }

    /// Lives through `steps` steps, then closes and looks at everything once more.
    pub(crate) fn live(&mut self, steps: u32) -> Result<(), String> {
        self.open(Death::Process, true)?;
        for _ in 0..steps {
            self.trace.next_step();
            if self.rng.u8(..100) < 14 {
                self.weather()?;
            } else {
                self.work()?;
            }
            let steps = self.rng.usize(..4);
            self.step_background(steps);
            self.after_step()?;
        }
        self.calm();
        self.reopen()?;
        self.rehearse_damage()?;
        self.close()
    }

    /// The open database.
    pub(crate) fn db(&self) -> Database {
        self.db.clone().expect("the database is open between steps")
    }

    /// Steps background tasks, each time one that is drawn among those that want to be stepped.
    pub(crate) fn step_background(&mut self, steps: usize) {
        for _ in 0..steps {
            let now = self.clock.monotonic();
            let runnable = self.spawner.runnable(now);
            if runnable.is_empty() || self.disk.is_stopped() {
                break;
            }
            let id = runnable[self.rng.usize(..runnable.len())];
            self.spawner.step(id, now);
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Holds an error against what was done to the machine.
    pub(crate) fn excuse(&mut self, what: &str, error: &Error) -> Result<(), String> {
        self.trace.note(&format!("{what}: {error}"));
        let excused = match error {
            _ if self.disk.is_stopped() => true,
            Error::DiskFull { .. } => self.full,
            Error::Io { .. } | Error::Poisoned { .. } => self.faulty,
            // What verifies calls a device that does not give its bytes back damage, and goes on; nothing else is excused.
            Error::Corruption(damage) if damage.check == Corruption::UNREADABLE => self.faulty,
            _ => false,
        };
        if excused { Ok(()) } else { Err(format!("{what} failed without a cause: {error}")) }
    }

    fn after_step(&mut self) -> Result<(), String> {
        if self.disk.is_stopped() {
            return self.restart_after_stop();
        }
        let poisoned = self.db().statistics().poisoned;
        let Some(cause) = poisoned else { return Ok(()) };
        if !self.faulty {
            return Err(format!("writes are stopped without a cause: {cause}"));
        }
        if self.rng.bool() {
            self.trace.note("stopped: open again");
            self.trace.count("reopened after a failure");
            self.forget_handles();
            let _ = self.db().close();
            self.db = None;
            self.spawner.kill_all();
            return self.open(Death::Power, false);
        }
        Ok(())
    }

    /// All faults end.
    pub(crate) fn calm(&mut self) {
        self.disk.clear_faults();
        self.disk.cancel_stop();
        self.disk.set_capacity(None);
        self.full = false;
    }

    pub(crate) fn forget_handles(&mut self) {
        self.held.clear();
        self.promised.clear();
        self.changes = None;
        self.keyspaces.clear();
    }

    /// The process is gone: what it had in memory is dropped without reaching the disk.
    pub(crate) fn bury(&mut self) {
        self.spawner.kill_all();
        self.forget_handles();
        self.db = None;
    }
}

pub(super) fn environment(
    disk: &SimulatedDisk,
    clock: &Arc<ManualClock>,
    spawner: &ManualSpawner,
    seed: u64,
) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(seed)),
        spawner: Arc::new(spawner.clone()),
    }
}
