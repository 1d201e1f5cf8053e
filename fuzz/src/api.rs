//! A script of calls on a database over a simulated disk, with crashes, faults and flipped bits, beside a model.
//!
//! The input is cut into steps of four bytes: what, and three arguments; every input is a valid script.
//!
//! | what mod 20 | step |
//! |---|---|
//! | 0–3 | put a short value; 4 a long one |
//! | 5 | delete a key; 6 a range; 7 a batch over keyspaces, a bulk write, or a transaction with or without a conflict |
//! | 8 | create a keyspace, or drop it |
//! | 9 | take a snapshot, or let one go; follow the changes where the last argument mod 8 is 7 |
//! | 10, 11 | checkpoint, or back up where the first argument mod 4 is 3; compact |
//! | 12 | let time pass and background work go on |
//! | 13 | close and open |
//! | 14 | kill the process, its writes landing before or after the next one opens |
//! | 15 | cut the power |
//! | 16, 17 | cut the power, or kill, at the n-th changing call from here |
//! | 18 | the n-th call of a kind fails |
//! | 19 | close, flip a bit of a file, open, judge; the script ends |
//!
//! The model is a list of states, one per commit. An acknowledged durable commit bounds from below what a power cut
//! leaves, any acknowledged commit what a kill leaves; the last commit begun is the upper bound. Held:
//! 1. A database that is opened equals one whole state between the bounds, by walking either way, by looking up, by
//!    count and by digest. It opens, whenever nothing but crashes happened.
//! 2. A writer reads its own write; a snapshot stays what it was.
//! 3. A call fails only when a fault was armed.
//! 4. After a flipped bit, what is read is right or a named error; and when all of it is right, nothing was lost.
//! 5. A follower of durable changes, whose view outlives every process, gets each commit once and in order.
//! 6. A backup that was finished opens as the state of its moment.
//! 7. Verifying finds nothing where nothing was flipped, and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logwood::{
    BulkOptions, ChangesOptions, Database, Durability, Error, Keyspace, Options, Snapshot, inspect,
};
use logwood_base::digest::Digest;
use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Clock, Environment};
use logwood_sim::simulation::follower::View;

const DIR: &str = "db";
const BACKUP: &str = "backup";
const FOLLOWER: &str = "view";
/// Steps beyond these are not run: libfuzzer likes many short scripts better than a long one.
const STEPS_MAX: usize = 150;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type State = BTreeMap<String, Records>;

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let seed = bytes.iter().take(8).fold(7, |seed, byte| seed << 8 ^ u64::from(*byte));
    let mut world = World::new(seed);
    world.open();
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        let [what, a, b, c] = *step else { unreachable!("chunks of four") };
        if what % 20 == 19 {
            return world.flip(usize::from(a), u32::from_le_bytes([b, c, a, 0]), 1 << (a % 8));
        }
        if world.step(what, a, b, c).is_err() {
            world.fell();
        }
    }
    world.check();
    world.disk.cancel_stop();
    world.disk.clear_faults();
    world.end_process();
    world.disk.kill_process();
    world.open();
    world.check();
    let damage = world.damage();
    assert!(damage.is_empty(), "damage where nothing was damaged: {}", damage.join("; "));
}

struct World {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    spawner: ManualSpawner,
    random: Arc<SeededRandom>,
    rng: fastrand::Rng,
    db: Option<Database>,
    snapshots: Vec<(Snapshot, State)>,
    /// The states after each commit that was begun; the first is the empty database.
    history: Vec<State>,
    /// The newest state that a power cut must leave.
    durable: usize,
    /// The newest state that a kill must leave.
    acknowledged: usize,
    /// What a follower keeps, where no crash reaches.
    view: View,
    /// Whether anything may have gone wrong by order since the last start.
    armed: bool,
    /// Makes values unlike one another.
    counter: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            clock: Arc::new(ManualClock::new(1_000_000)),
            spawner: ManualSpawner::new(),
            random: Arc::new(SeededRandom::new(seed)),
            rng: fastrand::Rng::with_seed(seed),
            db: None,
            snapshots: Vec::new(),
            history: vec![State::new()],
            durable: 0,
            acknowledged: 0,
            view: View::default(),
            armed: false,
            counter: 0,
        }
    }

    fn environment(&self) -> Environment {
        Environment {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            random: self.random.clone(),
            spawner: Arc::new(self.spawner.clone()),
        }
    }

    /// Small segments and caches, so that short scripts roll, checkpoint and evict.
    fn options(&self) -> Options {
        Options::new()
            .environment(self.environment())
            .log_segment_bytes(64 << 10)
            .page_segment_bytes(64 << 10)
            .cache_bytes(128 << 10)
            .recovery_log_bytes_max(192 << 10)
            .log_recent_bytes_max(16 << 10)
            .log_pool_segments(1)
            .follower(FOLLOWER, 0)
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("the database is open")
    }

    fn now(&self) -> &State {
        self.history.last().expect("the empty database is there")
    }

    /// Opens after a kill or a close: whatever was acknowledged is there.
    fn open(&mut self) {
        self.open_with(self.acknowledged);
    }

    /// Opens, and requires one whole state not older than `least`.
    fn open_with(&mut self, mut least: usize) {
        for _ in 0..8 {
            let opened = Database::open(DIR, self.options()).and_then(|db| Ok((read_all(&db)?, db)));
            match opened {
                Ok((found, db)) => {
                    let at = (least..self.history.len()).rev().find(|at| self.history[*at] == found);
                    let at = at.unwrap_or_else(|| {
                        panic!(
                            "none of the states {least}..{} is there: {}",
                            self.history.len(),
                            self.differences(&found, least)
                        )
                    });
                    self.history.truncate(at + 1);
                    // Opening syncs what it finds.
                    (self.durable, self.acknowledged) = (at, at);
                    self.db = Some(db);
                    return;
                }
                Err(error) => {
                    assert!(self.armed, "does not open: {error}");
                    least = least.min(self.stop());
                }
            }
        }
        panic!("does not open although nothing is armed any more");
    }

    /// What tells the found state from the bounds, in few words.
    fn differences(&self, found: &State, least: usize) -> String {
        let mut words = String::new();
        for (bound, state) in [("least", &self.history[least]), ("last", self.now())] {
            let names = |state: &State| state.keys().cloned().collect::<Vec<_>>().join(",");
            words += &format!(" [{bound} has {}, found {}]", names(state), names(found));
            for (name, records) in state {
                let Some(there) = found.get(name) else { continue };
                let keys = records.keys().chain(there.keys());
                let mut differ: Vec<_> = keys.filter(|key| records.get(*key) != there.get(*key)).collect();
                differ.dedup();
                for key in differ.into_iter().take(4) {
                    let text =
                        |value: Option<&Vec<u8>>| value.map(|value| value[..value.len().min(8)].to_vec());
                    let (expected, there) = (text(records.get(key)), text(there.get(key)));
                    words += &format!(" {name}/{}: {expected:?}, found {there:?};", key.escape_ascii());
                }
            }
        }
        words
    }

    /// Ends the process without closing anything.
    fn end_process(&mut self) {
        self.snapshots.clear();
        self.spawner.kill_all();
        self.db = None;
    }

    /// Ends what is left of a process that failed, and answers which state must be there.
    fn stop(&mut self) -> usize {
        let had_power = !self.disk.is_stopped() || self.disk.late_bytes() > 0;
        self.disk.cancel_stop();
        self.disk.clear_faults();
        self.end_process();
        self.armed = false;
        // A stop by `crash_at` can only be settled as a power cut; `restart` does what fits.
        self.disk.restart();
        if had_power { self.acknowledged.min(self.durable) } else { self.durable }
    }

    /// A call failed: only by order. The process ends, and another one opens.
    fn fell(&mut self) {
        assert!(self.armed, "a call failed and nothing was armed");
        let least = self.stop();
        self.open_with(least);
        self.check();
    }

    fn value(&mut self, length: usize) -> Vec<u8> {
        self.counter += 1;
        let mut value = self.counter.to_be_bytes().to_vec();
        // Neither all alike nor incompressible.
        let filled = (0..length.saturating_sub(4)).map(|n| (n % 7 * n / 64) as u8 ^ self.counter as u8);
        value.extend(filled);
        value
    }

    /// The keyspace of this number, when it exists.
    fn keyspace(&self, number: u8) -> Result<Option<(String, Keyspace)>, Error> {
        let name = format!("ks{}", number % 3);
        match self.db().keyspace(&name) {
            Ok(keyspace) => {
                assert!(self.now().contains_key(&name), "{name} was dropped and is there");
                Ok(Some((name, keyspace)))
            }
            Err(Error::NotFound { .. }) => {
                assert!(!self.now().contains_key(&name), "{name} was created and is gone");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes the outcome of a commit that leads to `next`.
    fn committed<T>(&mut self, next: State, durable: bool, outcome: Result<T, Error>) -> Result<(), Error> {
        self.history.push(next);
        // Nothing is promised of a commit that failed; it may be there nevertheless.
        outcome?;
        self.acknowledged = self.history.len() - 1;
        if durable {
            self.durable = self.acknowledged;
        }
        Ok(())
    }

    fn step(&mut self, what: u8, a: u8, b: u8, c: u8) -> Result<(), Error> {
        match what % 20 {
            0..=3 => self.put(a, b, usize::from(c) * 3),
            4 => self.put(a, b, 3_000 + usize::from(c) * 200),
            5 => {
                let Some((name, keyspace)) = self.keyspace(a)? else { return Ok(()) };
                let mut next = self.now().clone();
                next.get_mut(&name).expect("it exists").remove(&key(b));
                let durable = a & 0x80 == 0;
                let outcome = keyspace.delete_with(&key(b), durability(durable));
                self.committed(next, durable, outcome)?;
                assert!(!keyspace.contains(&key(b))?, "deleted and there");
                Ok(())
            }
            6 => {
                let Some((name, keyspace)) = self.keyspace(a)? else { return Ok(()) };
                let (from, to) = (key(b.min(c)), key(b.max(c)));
                let (from, to) = (from.clone().min(to.clone()), from.max(to));
                let mut next = self.now().clone();
                next.get_mut(&name).expect("it exists").retain(|key, _| *key < from || *key >= to);
                let mut batch = self.db().batch();
                batch.delete_range(&keyspace, from..to)?;
                let outcome = self.db().commit(batch, Durability::Durable);
                self.committed(next, true, outcome)
            }
            7 if c % 4 == 3 => self.transact(a, b, c),
            7 if c % 4 == 2 => self.bulk(a, b, c),
            7 => self.batch(a, b, c),
            8 => self.create_or_drop(a, c),
            9 if c % 8 == 7 => self.follow(),
            9 => {
                if c.is_multiple_of(2) || self.snapshots.is_empty() {
                    self.snapshots.push((self.db().snapshot(), self.now().clone()));
                } else {
                    let (snapshot, state) = self.snapshots.remove(usize::from(b) % self.snapshots.len());
                    self.check_snapshot(&snapshot, &state)?;
                }
                Ok(())
            }
            10 if a % 4 == 3 => self.back_up(),
            10 => {
                self.db().checkpoint()?;
                self.durable = self.acknowledged;
                Ok(())
            }
            11 => {
                self.db().compact()?;
                self.durable = self.acknowledged;
                Ok(())
            }
            12 => {
                self.clock.advance(Duration::from_millis(u64::from(b)));
                self.spawner.run_until_idle(self.clock.monotonic(), usize::from(a));
                Ok(())
            }
            13 => {
                self.snapshots.clear();
                self.db().close()?;
                self.durable = self.acknowledged;
                self.end_process();
                self.open();
                Ok(())
            }
            14 => {
                self.disk.kill_process();
                self.end_process();
                if c.is_multiple_of(2) {
                    self.disk.land_late_writes(&mut self.rng);
                }
                self.open();
                self.disk.land_late_writes(&mut self.rng);
                Ok(())
            }
            15 => {
                self.rng = fastrand::Rng::with_seed(u64::from(b) << 8 | u64::from(c));
                self.disk.crash(&mut self.rng);
                self.end_process();
                self.open_with(self.durable);
                Ok(())
            }
            16 => {
                self.armed = true;
                self.disk.crash_at(1 + u64::from(b) % 64);
                Ok(())
            }
            17 => {
                self.armed = true;
                self.disk.kill_at(1 + u64::from(b) % 64);
                Ok(())
            }
            _ => {
                self.armed = true;
                let kinds: [&[Operation]; 8] = [
                    Operation::WRITES,
                    Operation::READS,
                    Operation::GROWING,
                    &[Operation::Sync],
                    &[Operation::SyncDir],
                    &[Operation::Create],
                    &[Operation::Rename],
                    &[Operation::Remove],
                ];
                let outcome = if b.is_multiple_of(2) { Outcome::Io } else { Outcome::DiskFull };
                self.disk
                    .set_fault(Fault::new(kinds[usize::from(a % 8)], outcome).nth(1 + u64::from(c % 32)));
                Ok(())
            }
        }
    }

    fn put(&mut self, a: u8, b: u8, length: usize) -> Result<(), Error> {
        let Some((name, keyspace)) = self.keyspace(a)? else { return self.create_or_drop(a, 0) };
        let (value, durable) = (self.value(length), a & 0x80 == 0);
        let mut next = self.now().clone();
        next.get_mut(&name).expect("it exists").insert(key(b), value.clone());
        let outcome = keyspace.put_with(&key(b), &value, durability(durable));
        self.committed(next, durable, outcome)?;
        assert_eq!(keyspace.get(&key(b))?.as_deref(), Some(&value[..]), "a writer reads its own write");
        Ok(())
    }

    /// A bulk write of a few sorted runs, with another commit in the middle or not. It may be given up.
    fn bulk(&mut self, a: u8, b: u8, c: u8) -> Result<(), Error> {
        let Some((name, keyspace)) = self.keyspace(a)? else { return Ok(()) };
        let durable = a & 0x80 == 0;
        let mut bulk = self.db().bulk_write(BulkOptions::new().memory_bytes(64 << 10))?;
        let mut written = Vec::new();
        let count = u32::from(b) * 4;
        for number in 0..count {
            let key = key((number * 37 % 251) as u8);
            let value = (number % 5 > 0).then(|| self.value(usize::from(c) * 2));
            match &value {
                Some(value) => bulk.put(&keyspace, &key, value)?,
                None => bulk.delete(&keyspace, &key)?,
            }
            written.push((key, value));
            if c & 4 != 0 && number == count / 2 {
                self.put(a, b, 9)?;
            }
        }
        if c & 8 != 0 {
            return Ok(());
        }
        let mut next = self.now().clone();
        let records = next.get_mut(&name).expect("it exists");
        for (key, value) in written {
            match value {
                Some(value) => drop(records.insert(key, value)),
                None => drop(records.remove(&key)),
            }
        }
        let mut outcome = bulk.commit(durability(durable));
        if c & 16 != 0 && matches!(outcome, Err(Error::DiskFull { .. })) {
            // It takes more, the last key once again, unless it has its place in the log already.
            let (last, value) =
                (key((count.saturating_sub(1) * 37 % 251) as u8), self.value(usize::from(c) * 3));
            if bulk.put(&keyspace, &last, &value).is_ok() {
                next.get_mut(&name).expect("it exists").insert(last, value);
                outcome = bulk.commit(durability(durable));
            }
        }
        self.committed(next, durable, outcome)
    }

    /// A transaction that reads and writes one keyspace; another commit meddles with what it read, or not.
    fn transact(&mut self, a: u8, b: u8, c: u8) -> Result<(), Error> {
        let Some((name, keyspace)) = self.keyspace(a)? else { return Ok(()) };
        let durable = a & 0x80 == 0;
        let mut transaction = self.db().transaction();
        let found = transaction.get(&keyspace, &key(b))?;
        assert_eq!(
            found.as_deref(),
            self.now()[&name].get(&key(b)).map(Vec::as_slice),
            "read in a transaction"
        );
        let mut next = self.now().clone();
        for number in 0..c / 8 {
            let (key, value) = (key(b.wrapping_add(number)), self.value(usize::from(number) * 40));
            transaction.put(&keyspace, &key, &value)?;
            next.get_mut(&name).expect("it exists").insert(key, value);
        }
        assert_eq!(transaction.count_all(&keyspace)?, next[&name].len() as u64, "it sees its own writes");
        let meddles = a & 0x40 != 0;
        if meddles {
            self.put(a, b, 9)?;
        }
        if transaction.bytes() == 0 {
            return transaction.commit(durability(durable)).map(drop);
        }
        match transaction.commit(durability(durable)) {
            Err(Error::Conflict(conflict)) => {
                assert!(meddles, "{conflict}");
                Ok(())
            }
            outcome => {
                assert!(!meddles || outcome.is_err(), "another commit came between");
                self.committed(next, durable, outcome)
            }
        }
    }

    /// Takes the commits that the follower does not have yet.
    fn follow(&mut self) -> Result<(), Error> {
        let options = ChangesOptions::new().name(FOLLOWER).hold_until_released(true).durable_only(true);
        let mut changes = match self.db().changes_with(self.view.lsn().next(), &options) {
            Err(error @ (Error::TooOld { .. } | Error::Replaced(_))) => {
                panic!("the follower cannot go on: {error}")
            }
            other => other?,
        };
        while let Some(mut set) = changes.next(Duration::ZERO)? {
            assert!(set.lsn() > self.view.lsn(), "a commit twice");
            let mut next = self.view.clone();
            next.take(&mut set)?;
            self.view = next;
        }
        changes.release(self.view.lsn());
        let found = self.view.state().iter().map(|(name, records)| {
            (name.clone(), records.iter().map(|(key, value)| (key.clone(), value.to_vec())).collect())
        });
        let found: State = found.collect();
        let last = self.history.len() - 1;
        assert!(found == *self.now(), "the view is another:{}", self.differences(&found, last));
        Ok(())
    }

    /// Brings the backup up to date, and opens it on a copy of the disk.
    fn back_up(&mut self) -> Result<(), Error> {
        self.db().backup(BACKUP)?;
        self.durable = self.acknowledged;
        let copy = self.disk.snapshot();
        copy.cancel_stop();
        copy.clear_faults();
        let environment = Environment {
            disk: Arc::new(copy),
            spawner: Arc::new(ManualSpawner::new()),
            ..self.environment()
        };
        let db = Database::open(BACKUP, self.options().environment(environment).create(false));
        let found = db.and_then(|db| read_all(&db)).unwrap_or_else(|error| panic!("the backup: {error}"));
        let last = self.history.len() - 1;
        assert!(found == *self.now(), "the backup is another:{}", self.differences(&found, last));
        Ok(())
    }

    fn batch(&mut self, a: u8, b: u8, c: u8) -> Result<(), Error> {
        let mut next = self.now().clone();
        let mut batch = self.db().batch();
        for n in 0..=c % 16 {
            let Some((name, keyspace)) = self.keyspace(a.wrapping_add(n))? else { continue };
            let key = key(b.wrapping_add(n.wrapping_mul(c / 16 + 1)));
            let records = next.get_mut(&name).expect("it exists");
            if n % 4 == 3 {
                batch.delete(&keyspace, &key)?;
                records.remove(&key);
            } else {
                let value = self.value(usize::from(c) + usize::from(n) * 40);
                batch.put(&keyspace, &key, &value)?;
                records.insert(key, value);
            }
        }
        let durable = a & 0x80 == 0;
        let outcome = self.db().commit(batch, durability(durable));
        self.committed(next, durable, outcome)
    }

    fn create_or_drop(&mut self, a: u8, c: u8) -> Result<(), Error> {
        let mut next = self.now().clone();
        match self.keyspace(a)? {
            None => {
                let name = format!("ks{}", a % 3);
                next.insert(name.clone(), Records::new());
                let outcome = self.db().create_keyspace(&name);
                self.committed(next, true, outcome)
            }
            Some((name, keyspace)) if c % 4 == 3 => {
                next.remove(&name);
                let outcome = self.db().drop_keyspace(&name);
                self.committed(next, true, outcome)?;
                assert!(matches!(keyspace.get(b"k"), Err(Error::NotFound { .. })), "dropped and readable");
                Ok(())
            }
            Some((name, _)) => {
                let again = self.db().create_keyspace(&name).err();
                match again {
                    Some(Error::AlreadyExists { .. }) => Ok(()),
                    Some(error) => Err(error),
                    None => panic!("{name} was created twice"),
                }
            }
        }
    }

    /// Everything that can be read is the model's, in every way of reading.
    fn check(&mut self) {
        let checked = self.try_check();
        if let Err(error) = checked {
            assert!(self.armed, "reading failed and nothing was armed: {error}");
            let least = self.stop();
            self.open_with(least);
            self.try_check().unwrap_or_else(|error| panic!("reading failed: {error}"));
        }
    }

    fn try_check(&self) -> Result<(), Error> {
        let found = read_all(self.db())?;
        assert!(
            found == *self.now(),
            "not the last state:{}",
            self.differences(&found, self.history.len() - 1)
        );
        for (name, records) in self.now() {
            let keyspace = self.db().keyspace(name)?;
            let mut digest = Digest::EMPTY;
            let mut backwards = keyspace.iter()?;
            for (key, value) in records.iter().rev() {
                let (found_key, found_value) = backwards.next_back().expect("a record is missing")?;
                assert_eq!((&*found_key, &*found_value), (&key[..], &value[..]), "backwards");
                assert_eq!(keyspace.get(key)?.as_deref(), Some(&value[..]), "looked up");
                digest.add(key, value);
            }
            assert!(backwards.next_back().transpose()?.is_none(), "more records backwards");
            assert_eq!(keyspace.count_all()?, records.len() as u64);
            assert_eq!(keyspace.digest::<&[u8]>(..)?, digest);
            let middle = key(128);
            assert_eq!(keyspace.count(middle.clone()..)?, records.range(middle..).count() as u64);
        }
        self.snapshots.iter().try_for_each(|(snapshot, state)| self.check_snapshot(snapshot, state))
    }

    /// A snapshot is what it was, for the keyspaces that still are.
    fn check_snapshot(&self, snapshot: &Snapshot, state: &State) -> Result<(), Error> {
        for (name, records) in state {
            let Ok(keyspace) = self.db().keyspace(name) else { continue };
            let range = match snapshot.iter(&keyspace) {
                // Dropped since, and created again under the same name.
                Err(Error::NotFound { .. }) => continue,
                other => other?,
            };
            let mut found = Records::new();
            for record in range {
                let (key, value) = record?;
                found.insert(key.to_vec(), value.to_vec());
            }
            let is_of_this_life = found == *records || found.is_empty();
            assert!(is_of_this_life, "a snapshot at {} changed", snapshot.lsn());
        }
        Ok(())
    }

    /// What verifying the directory names. It must change nothing.
    fn damage(&self) -> Vec<String> {
        let before = self.disk.operations();
        let mut damage = Vec::new();
        inspect::verify_in(
            &self.environment(),
            Path::new(DIR),
            &mut |found| damage.push(found.corruption.to_string()),
            &mut |_| (),
        )
        .unwrap_or_else(|error| panic!("verifying failed: {error}"));
        assert_eq!(self.disk.operations(), before, "verifying changed the directory");
        damage
    }

    /// Closes, flips a bit somewhere, and judges what is there.
    fn flip(&mut self, file: usize, offset: u32, mask: u8) {
        self.disk.cancel_stop();
        self.disk.clear_faults();
        self.snapshots.clear();
        if self.db().close().is_err() {
            return self.fell();
        }
        self.end_process();
        let files: Vec<PathBuf> = self
            .disk
            .paths()
            .into_iter()
            .filter(|path| self.disk.read_file(path).is_some_and(|bytes| !bytes.is_empty()))
            .collect();
        let path = &files[file % files.len()];
        let size = self.disk.read_file(path).expect("it is listed").len() as u64;
        let at = u64::from(offset) % size;
        self.disk.flip_bit(path, at, mask);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.judge_flipped()));
        if let Err(panic) = told {
            eprintln!("the flipped bit: {} at {at}, mask {mask:#x}", path.display());
            std::panic::resume_unwind(panic);
        }
    }

    fn judge_flipped(&self) {
        let files = self.disk.paths();
        let mut named = 0;
        let verified =
            inspect::verify_in(&self.environment(), Path::new(DIR), &mut |_| named += 1, &mut |_| ());
        assert_eq!(self.disk.paths(), files, "verifying changed the directory");
        let is_named = verified.as_ref().is_ok_and(|_| named > 0)
            || matches!(verified, Err(Error::Corruption(_) | Error::UnsupportedFormat { .. }));
        assert!(is_named || verified.is_ok(), "verifying failed: {verified:?}");
        let db = match Database::open(DIR, self.options()) {
            Ok(db) => db,
            Err(error) => {
                let is_damage = matches!(error, Error::Corruption(_) | Error::UnsupportedFormat { .. });
                assert!(is_damage, "not named as damage: {error}");
                assert!(is_named, "opening names what verifying does not: {error}");
                return;
            }
        };
        match read_all(&db) {
            Ok(found) => assert!(
                found == *self.now(),
                "a wrong answer after a flipped bit:{}",
                self.differences(&found, self.history.len() - 1)
            ),
            Err(error) => {
                assert!(error.corruption().is_some(), "not named as damage: {error}");
                assert!(is_named, "reading names what verifying does not: {error}");
            }
        }
        for (name, records) in self.now() {
            let Ok(keyspace) = db.keyspace(name) else { continue };
            for (key, value) in records {
                match keyspace.get(key) {
                    Ok(found) => {
                        assert_eq!(found.as_deref(), Some(&value[..]), "a wrong answer after a flipped bit")
                    }
                    Err(error) => assert!(error.corruption().is_some(), "not named as damage: {error}"),
                }
            }
        }
    }
}

/// Keys that share much; every seventh is long, some are prefixes of others.
fn key(number: u8) -> Vec<u8> {
    let mut key = format!("key/{:02}", number / 4).into_bytes();
    key.extend(vec![b'a' + number % 4; usize::from(number % 4)]);
    if number.is_multiple_of(7) {
        key.extend([b'-'; 120]);
    }
    key
}

const fn durability(durable: bool) -> Durability {
    if durable { Durability::Durable } else { Durability::Buffered }
}

/// Every record of every keyspace.
fn read_all(db: &Database) -> Result<State, Error> {
    let mut state = State::new();
    for name in db.keyspaces() {
        let mut records = Records::new();
        for record in db.keyspace(&name)?.iter()? {
            let (key, value) = record?;
            let before = records.insert(key.to_vec(), value.to_vec());
            assert!(before.is_none(), "a key twice");
        }
        state.insert(name, records);
    }
    Ok(state)
}
