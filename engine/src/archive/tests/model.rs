//! A model beside a database that is archived: what there is after each commit.

use std::collections::BTreeMap;

use crate::tests::world::State;
use crate::{Database, Durability, Lsn};

/// The state after each commit, and its time.
#[derive(Clone, Debug, Default)]
pub(in crate::archive) struct Model {
    pub(in crate::archive) states: BTreeMap<Lsn, (u64, State)>,
    pub(in crate::archive) state: State,
    counter: u64,
}

impl Model {
    /// One random change of the database, and of the model.
    pub(in crate::archive) fn commit(
        &mut self,
        db: &Database,
        rng: &mut fastrand::Rng,
        durability: Durability,
    ) {
        self.counter += 1;
        let name = ["a", "b", "c"][rng.usize(0..3)];
        let kind = rng.u8(0..100);
        if !self.state.contains_key(name) {
            db.create_keyspace(name).unwrap();
            self.state.insert(name.to_owned(), BTreeMap::new());
        } else if kind < 2 {
            db.drop_keyspace(name).unwrap();
            self.state.remove(name);
        } else {
            let records = self.state.get_mut(name).unwrap();
            let ks = db.keyspace(name).unwrap();
            let key = |rng: &mut fastrand::Rng| format!("key {:03}", rng.u32(0..300)).into_bytes();
            let mut batch = db.batch();
            if kind < 8 {
                let (from, to) = (key(rng), key(rng));
                batch.delete_range(&ks, &from[..]..&to[..]).unwrap();
                records.retain(|key, _| *key < from || *key >= to);
            } else {
                // Some are larger than an entry.
                let (records_in, bytes) =
                    if kind < 11 { (40, 900) } else { (rng.u32(1..4), rng.usize(0..300)) };
                for _ in 0..records_in {
                    let key = key(rng);
                    if rng.u8(0..5) == 0 {
                        batch.delete(&ks, &key).unwrap();
                        records.remove(&key);
                    } else {
                        let value = format!("{} {}", self.counter, "x".repeat(bytes)).into_bytes();
                        batch.put(&ks, &key, &value).unwrap();
                        records.insert(key, value);
                    }
                }
            }
            db.commit(batch, durability).unwrap();
        }
        self.note(db);
    }

    /// Takes the state as that after the last commit.
    pub(in crate::archive) fn note(&mut self, db: &Database) {
        let last = db.visible_lsn();
        let entry = &db.core().group.read(last, last.next(), 1 << 20).unwrap()[0];
        let time_ms = crate::entry::time_of(&entry.payload);
        self.states.insert(last, (time_ms, self.state.clone()));
    }

    /// The state that a restore to an LSN must give: after the last commit up to there.
    pub(in crate::archive) fn at(&self, lsn: Lsn) -> &State {
        static NOTHING: State = State::new();
        self.states.range(..=lsn).next_back().map_or(&NOTHING, |(_, (_, state))| state)
    }

    /// What came behind an LSN never was.
    pub(in crate::archive) fn go_back_to(&mut self, lsn: Lsn) {
        self.states.retain(|later, _| *later <= lsn);
        self.state = self.at(lsn).clone();
    }
}
