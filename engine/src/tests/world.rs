//! A database on a simulated disk, and a model beside it that knows what must be there after any crash.
//!
//! The model is a list of states, one per commit in their order. What was acknowledged durably is a lower bound of
//! what a power cut may leave, what was acknowledged at all of what a kill may leave; the last commit begun is the
//! upper bound. After reopening the database must equal *one* state between: no acknowledged write is lost, the rest
//! is a prefix, nothing deleted returns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::checks::read_all;
use crate::typed::Writes;
use crate::{
    BulkOptions, Condition, Conditional, Database, Durability, Environment, Error, Keyspace, Options, Result,
};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};

pub(crate) const DIR: &str = "db";

/// Records of a keyspace.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// All keyspaces.
pub(crate) type State = BTreeMap<String, Records>;

/// One step of a run. Numbers choose among what there is, so that every list of steps is a valid run.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put {
        keyspace: u8,
        key: u8,
        bytes: u16,
        durable: bool,
    },
    Delete {
        keyspace: u8,
        key: u8,
    },
    Batch {
        operations: Vec<(u8, u8, Option<u16>)>,
        durable: bool,
    },
    /// A bulk write, with a put and a part of a checkpoint in the middle of it. It is given up unless it `ends`.
    Bulk {
        operations: Vec<(u8, u8, Option<u16>)>,
        between: Option<(u8, u8, u16)>,
        ends: bool,
        durable: bool,
    },
    DeleteRange {
        keyspace: u8,
        from: u8,
        to: u8,
    },
    /// A transaction that reads `guard`, which another commit changes meanwhile if it `meddles`.
    Transact {
        guard: (u8, u8),
        operations: Vec<(u8, u8, Option<u16>)>,
        meddles: bool,
        durable: bool,
    },
    /// A transaction that reads the first key of a range, puts `key`, deletes the range, and puts `key` once more: inside of the
    /// range or outside.
    TransactRange {
        keyspace: u8,
        from: u8,
        to: u8,
        key: u8,
        durable: bool,
    },
    PutIf {
        keyspace: u8,
        key: u8,
        bytes: u16,
        holds: bool,
    },
    Create {
        keyspace: u8,
    },
    Drop {
        keyspace: u8,
    },
    Checkpoint,
    Compact,
    Backup,
    Background {
        steps: u8,
    },
    Pass {
        ms: u16,
    },
    TakeSnapshot,
    DropSnapshot,
    Reopen,
    Kill,
    PowerCut {
        seed: u64,
    },
}

/// A snapshot, what it must show, and handles of the keyspaces at its time.
type Held = (crate::Snapshot, State, Vec<(String, Keyspace)>);

/// What a run is made of.
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) spawner: ManualSpawner,
    pub(crate) options: Options,
    pub(crate) db: Option<Database>,
    pub(crate) history: Vec<State>,
    /// Index of the newest state that a power cut must leave, and of the newest that a kill must leave.
    pub(crate) durable: usize,
    pub(crate) acknowledged: usize,
    pub(super) snapshots: Vec<Held>,
    counter: u64,
}

/// Small segments and caches, so that short runs roll, checkpoint and evict.
pub(crate) fn small_options() -> Options {
    Options::new()
        .log_segment_bytes(64 << 10)
        .page_segment_bytes(64 << 10)
        .cache_bytes(256 << 10)
        .recovery_log_bytes_max(256 << 10)
        .log_recent_bytes_max(16 << 10)
        .log_pool_segments(1)
        .batch_bytes_max(4 << 20)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let spawner = ManualSpawner::new();
        let disk = SimulatedDisk::new(seed);
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(seed)),
            spawner: Arc::new(spawner.clone()),
        };
        Self {
            disk,
            clock,
            spawner,
            options: small_options().environment(environment),
            db: None,
            history: vec![State::new()],
            durable: 0,
            acknowledged: 0,
            snapshots: Vec::new(),
            counter: 0,
        }
    }

    pub(crate) fn db(&self) -> &Database {
        self.db.as_ref().expect("the database is open")
    }

    /// Opens, and finds out which state is there.
    pub(crate) fn open(&mut self, least: usize) -> Result<()> {
        let db = Database::open(DIR, self.options.clone())?;
        let found = read_all(&db)?;
        let matching = (least..self.history.len()).rev().find(|&at| self.history[at] == found);
        let Some(at) = matching else {
            panic!("{}", self.explain(&found, least));
        };
        self.history.truncate(at + 1);
        // Recovery syncs what it finds: from now on nothing takes it back.
        (self.durable, self.acknowledged) = (at, at);
        self.db = Some(db);
        Ok(())
    }

    fn explain(&self, found: &State, least: usize) -> String {
        let mut lines = format!("no state in {least}..{} is there\n", self.history.len());
        for (name, state) in [("must", &self.history[least]), ("may", &self.history[self.history.len() - 1])]
        {
            for keyspace in state.keys().chain(found.keys()) {
                let empty = Records::new();
                let (expected, there) =
                    (state.get(keyspace).unwrap_or(&empty), found.get(keyspace).unwrap_or(&empty));
                for key in expected.keys().chain(there.keys()) {
                    let (expected, there) = (expected.get(key), there.get(key));
                    if expected != there {
                        let text = |value: Option<&Vec<u8>>| {
                            value.map(|value| {
                                format!("{}…{}", value[..value.len().min(12)].escape_ascii(), value.len())
                            })
                        };
                        lines += &format!(
                            "{name}: {keyspace} {}: {:?}, found {:?}\n",
                            key.escape_ascii(),
                            text(expected),
                            text(there)
                        );
                    }
                }
            }
        }
        lines
    }

    /// The same disk and model once more, to try another future. The process in it has ended.
    pub(crate) fn fork(&self) -> Self {
        let mut fork = Self::new(0);
        fork.disk = self.disk.snapshot();
        let environment = Environment {
            disk: Arc::new(fork.disk.clone()),
            clock: fork.clock.clone(),
            random: Arc::new(SeededRandom::new(self.counter)),
            spawner: Arc::new(fork.spawner.clone()),
        };
        fork.options = self.options.clone().environment(environment);
        (fork.durable, fork.acknowledged) = (self.durable, self.acknowledged);
        fork.history.clone_from(&self.history);
        fork.counter = self.counter;
        fork
    }

    /// After errors without poison: what was refused may still take effect, so the model takes what is there.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.db().checkpoint()?;
        let found = read_all(self.db())?;
        let at = (self.acknowledged..self.history.len()).rev().find(|&at| self.history[at] == found);
        let Some(at) = at else { panic!("{}", self.explain(&found, self.acknowledged)) };
        self.history.truncate(at + 1);
        (self.durable, self.acknowledged) = (at, at);
        Ok(())
    }

    /// Ends the process without closing anything.
    pub(crate) fn drop_all(&mut self) {
        self.snapshots.clear();
        self.db = None;
        self.spawner.kill_all();
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.disk.kill_process();
        self.drop_all();
        self.open(self.acknowledged)
    }

    pub(crate) fn power_cut(&mut self, seed: u64) -> Result<()> {
        self.disk.crash(&mut fastrand::Rng::with_seed(seed));
        self.drop_all();
        self.open(self.durable)
    }

    /// Notes the outcome of a commit that leads to `next`.
    fn committed(&mut self, next: State, durability: Durability, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => {
                self.history.push(next);
                self.acknowledged = self.history.len() - 1;
                if durability == Durability::Durable {
                    self.durable = self.acknowledged;
                }
                Ok(())
            }
            // Nothing was promised: it may be there after a crash.
            Err(error @ (Error::Poisoned { .. } | Error::DiskFull { .. } | Error::Io { .. })) => {
                self.history.push(next);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn name(keyspace: u8) -> String {
        format!("ks{}", keyspace % 3)
    }

    fn key(key: u8) -> Vec<u8> {
        let mut bytes = format!("key-{:03}", key % 96).into_bytes();
        // Some keys share long prefixes, some are prefixes of others.
        if key.is_multiple_of(7) {
            bytes.extend_from_slice(&[b'x'; 40]);
        }
        bytes
    }

    fn value(&mut self, bytes: u16) -> Vec<u8> {
        self.counter += 1;
        let length = match bytes % 64 {
            0 => 20_000 + usize::from(bytes) % 30_000,
            1..=4 => 3_000,
            other => usize::from(other) * 4,
        };
        let mut value = self.counter.to_le_bytes().to_vec();
        value.resize(length.max(8), self.counter as u8);
        value
    }

    /// The keyspace and the state as it is, if the keyspace exists.
    fn target(&self, keyspace: u8) -> Result<Option<(Keyspace, String, State)>> {
        let state = self.history[self.history.len() - 1].clone();
        let name = Self::name(keyspace);
        match self.db().keyspace(&name) {
            Ok(handle) => {
                assert!(state.contains_key(&name));
                Ok(Some((handle, name, state)))
            }
            Err(Error::NotFound { .. }) => {
                assert!(!state.contains_key(&name), "{name} is lost");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts and deletes, of keyspaces that exist, in what gathers writes and in the state they lead to.
    fn gather(
        &mut self,
        operations: &[(u8, u8, Option<u16>)],
        writes: &mut impl Writes,
        next: &mut State,
    ) -> Result<()> {
        for (keyspace, key, bytes) in operations {
            let Some((handle, name, _)) = self.target(*keyspace)? else { continue };
            let (key, records) = (Self::key(*key), next.get_mut(&name).unwrap());
            match bytes {
                Some(bytes) => {
                    let value = self.value(*bytes);
                    writes.put(&handle, &key, &value)?;
                    records.insert(key, value);
                }
                None => {
                    writes.delete(&handle, &key)?;
                    records.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn transact(
        &mut self,
        guard: (u8, u8),
        operations: &[(u8, u8, Option<u16>)],
        meddles: bool,
        durability: Durability,
    ) -> Result<()> {
        let Some((handle, name, seen)) = self.target(guard.0)? else { return Ok(()) };
        let guard = Self::key(guard.1);
        let mut transaction = self.db().transaction();
        let found = transaction.get(&handle, &guard)?;
        assert_eq!(found.as_deref(), seen[&name].get(&guard).map(Vec::as_slice));
        if meddles {
            let (value, mut next) = (self.value(9), seen.clone());
            next.get_mut(&name).unwrap().insert(guard.clone(), value.clone());
            let outcome = handle.put_with(&guard, &value, durability).map(drop);
            self.committed(next, durability, outcome)?;
        }
        let mut next = seen;
        self.gather(operations, &mut transaction, &mut next)?;
        assert_eq!(transaction.count_all(&handle)?, next[&name].len() as u64, "it sees its own writes");
        let writes = transaction.bytes() > 0;
        match transaction.commit(durability) {
            Err(Error::Conflict(conflict)) => {
                assert!(meddles && writes, "{conflict}");
                Ok(())
            }
            Ok(_) if !writes => Ok(()),
            outcome => {
                assert!(!meddles || outcome.is_err(), "another commit came between");
                self.committed(next, durability, outcome.map(drop))
            }
        }
    }

    fn bulk(
        &mut self,
        operations: &[(u8, u8, Option<u16>)],
        between: Option<(u8, u8, u16)>,
        ends: bool,
        durability: Durability,
    ) -> Result<()> {
        let mut bulk = self.db().bulk_write(BulkOptions::new().memory_bytes(64 << 10))?;
        let mut written = Vec::new();
        for (at, (keyspace, key, bytes)) in operations.iter().enumerate() {
            if let Some((keyspace, key, bytes)) = between.filter(|_| at == operations.len() / 2) {
                let _ = self.db().core().begin_part_of_checkpoint()?;
                self.step(&Step::Put { keyspace, key, bytes, durable: false })?;
            }
            let Some((handle, name, _)) = self.target(*keyspace)? else { continue };
            let (key, value) = (Self::key(*key), bytes.map(|bytes| self.value(bytes)));
            match &value {
                Some(value) => bulk.put(&handle, &key, value)?,
                None => bulk.delete(&handle, &key)?,
            }
            written.push((name, key, value));
        }
        if !ends {
            return Ok(());
        }
        let mut next = self.history[self.history.len() - 1].clone();
        for (name, key, value) in written {
            let records = next.get_mut(&name).unwrap();
            match value {
                Some(value) => drop(records.insert(key, value)),
                None => drop(records.remove(&key)),
            }
        }
        let outcome = bulk.commit(durability).map(drop);
        self.committed(next, durability, outcome)
    }

    /// Runs one step and compares what it touched.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Put { keyspace, key, bytes, durable } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                let (key, value) = (Self::key(*key), self.value(*bytes));
                next.get_mut(&name).unwrap().insert(key.clone(), value.clone());
                let durability = durability(*durable);
                let outcome = handle.put_with(&key, &value, durability).map(drop);
                self.committed(next, durability, outcome)?;
                assert_eq!(
                    handle.get(&key)?.as_deref(),
                    Some(value.as_slice()),
                    "a writer reads its own write"
                );
            }
            Step::Delete { keyspace, key } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                let key = Self::key(*key);
                next.get_mut(&name).unwrap().remove(&key);
                let outcome = handle.delete(&key).map(drop);
                self.committed(next, Durability::Durable, outcome)?;
                assert!(!handle.contains(&key)?);
            }
            Step::Batch { operations, durable } => {
                let mut next = self.history[self.history.len() - 1].clone();
                let mut batch = self.db().batch();
                self.gather(operations, &mut batch, &mut next)?;
                let durability = durability(*durable);
                let outcome = self.db().commit(batch, durability).map(drop);
                self.committed(next, durability, outcome)?;
            }
            Step::Bulk { operations, between, ends, durable } => {
                return self.bulk(operations, *between, *ends, durability(*durable));
            }
            Step::DeleteRange { keyspace, from, to } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                let (from, to) = (Self::key(*from.min(to)), Self::key(*from.max(to)));
                next.get_mut(&name).unwrap().retain(|key, _| *key < from || *key >= to);
                let mut batch = self.db().batch();
                batch.delete_range(&handle, from..to)?;
                let outcome = self.db().commit(batch, Durability::Durable).map(drop);
                self.committed(next, Durability::Durable, outcome)?;
            }
            Step::Transact { guard, operations, meddles, durable } => {
                return self.transact(*guard, operations, *meddles, durability(*durable));
            }
            Step::TransactRange { keyspace, from, to, key, durable } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                let (from, to) = (Self::key(*from.min(to)), Self::key(*from.max(to)));
                let (key, value) = (Self::key(*key), self.value(7));
                let records = next.get_mut(&name).unwrap();
                let mut transaction = self.db().transaction();
                let first = transaction.range(&handle, &from[..]..)?.next().transpose()?;
                let expected = records.range(from.clone()..).next();
                assert_eq!(first.as_ref().map(|(key, _)| &**key), expected.map(|(key, _)| &key[..]));
                transaction.put(&handle, &key, b"is overwritten, or deleted with the range")?;
                transaction.delete_range(&handle, &from[..]..&to[..])?;
                transaction.put(&handle, &key, &value)?;
                records.retain(|key, _| *key < from || *key >= to);
                records.insert(key, value);
                assert_eq!(transaction.count_all(&handle)?, records.len() as u64, "it sees its own writes");
                let durability = durability(*durable);
                let outcome = transaction.commit(durability).map(drop);
                self.committed(next, durability, outcome)?;
            }
            Step::PutIf { keyspace, key, bytes, holds } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                let (key, value) = (Self::key(*key), self.value(*bytes));
                let now = next[&name].get(&key).cloned();
                let condition = match &now {
                    _ if !holds => Condition::Equals(b"never written"),
                    Some(now) => Condition::Equals(now),
                    None => Condition::Absent,
                };
                next.get_mut(&name).unwrap().insert(key.clone(), value.clone());
                match handle.put_if(&key, &value, condition) {
                    Ok(Conditional::Refused(found)) => {
                        assert!(!holds);
                        assert_eq!(found.as_deref(), now.as_deref());
                    }
                    outcome => {
                        assert!(*holds || outcome.is_err());
                        self.committed(next, Durability::Durable, outcome.map(drop))?;
                    }
                }
            }
            Step::Create { keyspace } => {
                let name = Self::name(*keyspace);
                let mut next = self.history[self.history.len() - 1].clone();
                let outcome = self.db().create_keyspace(&name).map(drop);
                if next.contains_key(&name) {
                    if !matches!(outcome, Err(Error::Poisoned { .. } | Error::Io { .. })) {
                        assert!(matches!(outcome, Err(Error::AlreadyExists { .. })), "{outcome:?}");
                    }
                    return Ok(());
                }
                next.insert(name, Records::new());
                self.committed(next, Durability::Durable, outcome)?;
            }
            Step::Drop { keyspace } => {
                let Some((handle, name, mut next)) = self.target(*keyspace)? else { return Ok(()) };
                next.remove(&name);
                let outcome = self.db().drop_keyspace(&name);
                self.committed(next, Durability::Durable, outcome)?;
                assert!(matches!(handle.get(b"k"), Err(Error::NotFound { .. })));
            }
            Step::Checkpoint => {
                let lsn = self.db().checkpoint()?;
                assert!(lsn <= self.db().visible_lsn());
                self.durable = self.acknowledged;
            }
            Step::Compact => {
                self.db().compact()?;
                self.durable = self.acknowledged;
            }
            Step::Backup => {
                self.db().backup(super::backup::TO)?;
                self.durable = self.acknowledged;
                // As it is, and opened on a copy of the disk.
                let copied = super::backup::read_backup(self)?;
                assert_eq!(copied, self.history[self.history.len() - 1], "the backup is another state");
            }
            Step::Background { steps } => {
                let now = logwood_base::Clock::monotonic(&*self.clock);
                self.spawner.run_until_idle(now, usize::from(*steps));
            }
            Step::Pass { ms } => self.clock.advance(Duration::from_millis(u64::from(*ms))),
            Step::TakeSnapshot => {
                let state = self.history[self.history.len() - 1].clone();
                let handles = state.keys().map(|name| Ok((name.clone(), self.db().keyspace(name)?)));
                let handles = handles.collect::<Result<_>>()?;
                self.snapshots.push((self.db().snapshot(), state, handles));
            }
            Step::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    self.snapshots.remove(0);
                }
            }
            Step::Reopen => {
                self.snapshots.clear();
                self.db().close()?;
                self.db = None;
                self.durable = self.acknowledged;
                self.open(self.acknowledged)?;
            }
            Step::Kill => self.kill()?,
            Step::PowerCut { seed } => self.power_cut(*seed)?,
        }
        Ok(())
    }
}

pub(crate) fn durability(durable: bool) -> Durability {
    if durable { Durability::Durable } else { Durability::Buffered }
}

/// How much more is tried than in a short run.
pub(crate) fn scale() -> u64 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}
