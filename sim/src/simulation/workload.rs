//! What the client does.

use std::sync::Arc;

use logwood::{Batch, BulkOptions, Durability, Keyspace, Lsn};

use super::lives::read_all;
use super::oracle::{Records, State, difference};
use super::world::{Held, Promised, World};

/// Names of keyspaces, few, so that they are dropped and created again.
const NAMES: [&str; 4] = ["accounts", "blobs", "cities", "dates"];

impl World {
    /// One thing that a client does.
    pub(crate) fn work(&mut self) -> Result<(), String> {
        if self.keyspaces.is_empty() {
            return self.create_keyspace();
        }
        match self.rng.u8(..100) {
            0..=29 => self.commit_batch(1),
            30..=34 => self.transact(),
            35..=36 => self.put_if(),
            37..=40 => self.follow(),
            41..=54 => {
                let operations = self.rng.usize(2..30);
                self.commit_batch(operations)
            }
            55..=56 => self.commit_large(),
            57 => self.bulk_write(),
            58..=60 => self.create_keyspace(),
            61 => self.drop_keyspace(),
            62..=71 => self.check_visible(),
            72..=76 => self.hold_snapshot(),
            77..=80 => self.check_held(),
            81..=85 => self.checkpoint(),
            86 => self.compact(),
            87 => self.verify(),
            88 => self.back_up(),
            89..=91 => self.wait_for_all(),
            92..=95 => {
                let ms = self.rng.u64(1..200);
                self.pass(ms);
                Ok(())
            }
            _ => {
                let steps = self.rng.usize(1..30);
                self.step_background(steps);
                Ok(())
            }
        }
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        // Skewed: some keys are written again and again, long ones share prefixes.
        let number = if self.rng.bool() { self.rng.u16(..20) } else { self.rng.u16(..600) };
        match number % 7 {
            0 => format!("a/rather/long/path/that/many/keys/share/{number:05}").into_bytes(),
            1 => vec![(number & 0xff) as u8],
            _ => format!("key{number:04}").into_bytes(),
        }
    }

    pub(super) fn value(&mut self, bytes: usize) -> Arc<[u8]> {
        let mut value = vec![0; bytes];
        if self.rng.bool() {
            self.rng.fill(&mut value);
        } else {
            value.fill(b'a' + self.rng.u8(..26));
        }
        Arc::from(value)
    }

    pub(super) fn value_bytes(&mut self) -> usize {
        match self.rng.u8(..20) {
            0 => 0,
            1 => self.rng.usize(2_000..9_000),
            _ => self.rng.usize(1..200),
        }
    }

    pub(super) fn any_keyspace(&mut self) -> (String, Keyspace) {
        let at = self.rng.usize(..self.keyspaces.len());
        let (name, keyspace) = self.keyspaces.iter().nth(at).expect("below the length");
        (name.clone(), keyspace.clone())
    }

    fn commit_batch(&mut self, operations: usize) -> Result<(), String> {
        let mut batch = self.db().batch();
        let mut state = self.oracle.newest().clone();
        for _ in 0..operations {
            let (name, keyspace) = self.any_keyspace();
            let key = self.key();
            let records = records_of(&mut state, &name);
            let added = match self.rng.u8(..20) {
                0..=3 => {
                    records.remove(&key);
                    batch.delete(&keyspace, &key)
                }
                4 if operations > 1 => {
                    let mut to = self.key();
                    let mut from = key;
                    if from > to {
                        std::mem::swap(&mut from, &mut to);
                    }
                    delete_range(&mut batch, &keyspace, &from, &to, records)
                }
                _ => {
                    let bytes = self.value_bytes();
                    let value = self.value(bytes);
                    records.insert(key.clone(), Arc::clone(&value));
                    batch.put(&keyspace, &key, &value)
                }
            };
            added.map_err(|error| format!("a batch refuses what it must take: {error}"))?;
        }
        self.commit(batch, state)
    }

    /// More than an entry holds: it goes into the log in fragments.
    fn commit_large(&mut self) -> Result<(), String> {
        let mut batch = self.db().batch();
        let mut state = self.oracle.newest().clone();
        for _ in 0..self.rng.usize(2..8) {
            let (name, keyspace) = self.any_keyspace();
            let (key, bytes) = (self.key(), self.rng.usize(4_000..30_000));
            let value = self.value(bytes);
            records_of(&mut state, &name).insert(key.clone(), Arc::clone(&value));
            batch.put(&keyspace, &key, &value).map_err(|error| format!("a batch refuses: {error}"))?;
        }
        self.trace.count("large commits");
        self.commit(batch, state)
    }

    /// A bulk write of several sorted runs, with other commits between its fragments. Now and then it is given up.
    fn bulk_write(&mut self) -> Result<(), String> {
        self.wait_for_all()?;
        if self.disk.is_stopped() || self.full {
            // One that waits for room has its place, and is not acknowledged: nobody could say from where on it is there.
            return Ok(());
        }
        let mut bulk = match self.db().bulk_write(BulkOptions::new().memory_bytes(64 << 10)) {
            Ok(bulk) => bulk,
            Err(error) => return self.excuse("a bulk write", &error),
        };
        let mut writes = Vec::new();
        for _ in 0..self.rng.usize(50..700) {
            let (name, keyspace) = self.any_keyspace();
            let (key, bytes) = (self.key(), self.rng.usize(0..600));
            let value = (self.rng.u8(..4) > 0).then(|| self.value(bytes));
            let written = match &value {
                Some(value) => bulk.put(&keyspace, &key, value),
                None => bulk.delete(&keyspace, &key),
            };
            if let Err(error) = written {
                return self.excuse("a bulk write", &error);
            }
            writes.push((name, key, value));
            if self.rng.u8(..100) == 0 {
                self.commit_batch(1)?;
            }
        }
        if self.rng.u8(..5) == 0 {
            self.trace.count("bulk writes given up");
            return Ok(());
        }
        let durable = self.rng.u8(..3) > 0;
        let state = self.with(&writes);
        match bulk.commit(if durable { Durability::Durable } else { Durability::Buffered }) {
            Ok(lsn) => {
                self.trace.note(&format!("bulk write {lsn} of {}, durable {durable}", writes.len()));
                self.trace.count("bulk writes");
                let version = self.oracle.begun(lsn, state);
                self.oracle.acknowledged(version, durable);
                Ok(())
            }
            Err(error) => {
                self.begun_perhaps(&error, state);
                self.excuse("the end of a bulk write", &error)
            }
        }
    }

    fn commit(&mut self, batch: Batch, state: State) -> Result<(), String> {
        let durable = self.rng.u8(..3) > 0;
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        let wait = self.rng.u8(..4) > 0;
        let length = batch.len();
        self.trace.count("commits");
        let committed = self.db().commit_async(batch, durability);
        match committed {
            Ok(ticket) => {
                let lsn = ticket.lsn();
                self.trace.note(&format!("commit {lsn} of {length}, durable {durable}"));
                let version = self.oracle.begun(lsn, state);
                self.promised.push(Promised { ticket, version, durable });
                if wait { self.wait_for(self.promised.len() - 1) } else { Ok(()) }
            }
            Err(error) => {
                if self.may_have_happened(&error) {
                    self.oracle.begun(Lsn::MAX, state);
                }
                self.excuse("commit", &error)
            }
        }
    }

    fn create_keyspace(&mut self) -> Result<(), String> {
        let name = NAMES[self.rng.usize(..NAMES.len())];
        if self.keyspaces.contains_key(name) {
            return Ok(());
        }
        let mut state = self.oracle.newest().clone();
        state.insert(name.to_owned(), Records::new());
        match self.db().create_keyspace(name) {
            Ok(keyspace) => {
                let lsn = self.db().visible_lsn();
                self.trace.note(&format!("created {name} at {lsn}"));
                let version = self.oracle.begun(lsn, state);
                self.oracle.acknowledged(version, true);
                self.keyspaces.insert(name.to_owned(), keyspace);
                Ok(())
            }
            Err(error) => {
                if self.may_have_happened(&error) {
                    self.oracle.begun(Lsn::MAX, state);
                }
                self.excuse("create keyspace", &error)
            }
        }
    }

    fn drop_keyspace(&mut self) -> Result<(), String> {
        let (name, keyspace) = self.any_keyspace();
        let mut state = self.oracle.newest().clone();
        state.remove(&name);
        match self.db().drop_keyspace(&name) {
            Ok(()) => {
                let lsn = self.db().visible_lsn();
                self.trace.note(&format!("dropped {name} at {lsn}"));
                self.trace.count("keyspaces dropped");
                let version = self.oracle.begun(lsn, state);
                self.oracle.acknowledged(version, true);
                self.keyspaces.remove(&name);
                // It is gone from snapshots too.
                for held in &mut self.held {
                    held.keyspaces.remove(&name);
                    held.state.remove(&name);
                }
                if keyspace.get(b"key0001").is_ok() {
                    return Err(format!("the dropped keyspace {name} still answers"));
                }
                Ok(())
            }
            Err(error) => {
                if self.may_have_happened(&error) {
                    self.oracle.begun(Lsn::MAX, state);
                }
                self.excuse("drop keyspace", &error)
            }
        }
    }

    fn hold_snapshot(&mut self) -> Result<(), String> {
        let snapshot = self.db().snapshot();
        let state = self.oracle.at(snapshot.lsn()).clone();
        self.held.push(Held { snapshot, keyspaces: self.keyspaces.clone(), state });
        if self.held.len() > 3 {
            let at = self.rng.usize(..self.held.len());
            self.held.swap_remove(at);
        }
        Ok(())
    }

    fn check_held(&mut self) -> Result<(), String> {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.usize(..self.held.len());
        let held = &self.held[at];
        match read_all(&held.keyspaces, &held.snapshot) {
            Ok(found) if found == held.state => {
                self.trace.count("snapshots read");
                Ok(())
            }
            Ok(found) => {
                let lsn = held.snapshot.lsn();
                Err(format!("the snapshot at {lsn} has changed: {}", difference(&held.state, &found)))
            }
            Err(error) => self.excuse("reading a snapshot", &error),
        }
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        self.trace.count("checkpoints");
        match self.db().checkpoint() {
            Ok(lsn) => {
                self.trace.note(&format!("checkpoint at {lsn}"));
                Ok(())
            }
            Err(error) => self.excuse("checkpoint", &error),
        }
    }

    fn compact(&mut self) -> Result<(), String> {
        self.trace.count("compactions");
        match self.db().compact() {
            Ok(()) => Ok(()),
            Err(error) => self.excuse("compact", &error),
        }
    }
}

fn records_of<'a>(state: &'a mut State, name: &str) -> &'a mut Records {
    state.entry(name.to_owned()).or_default()
}

fn delete_range(
    batch: &mut Batch,
    keyspace: &Keyspace,
    from: &[u8],
    to: &[u8],
    records: &mut Records,
) -> Result<(), logwood::Error> {
    records.retain(|key, _| key.as_slice() < from || key.as_slice() >= to);
    batch.delete_range(keyspace, from..to)
}
