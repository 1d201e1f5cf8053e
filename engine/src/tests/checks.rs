//! What is compared with the model: everything that can be read, and what verification says.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use logwood_base::environment::SeededRandom;

use super::world::{DIR, Records, State, World};
use crate::{Database, Environment, Error, Result};

impl World {
    /// Compares everything that can be read with the model, snapshots too.
    pub(crate) fn check(&self) -> Result<()> {
        let state = &self.history[self.history.len() - 1];
        assert_eq!(&read_all(self.db())?, state);
        for (name, records) in state {
            let handle = self.db().keyspace(name)?;
            let backwards: Vec<_> = handle.iter()?.rev().collect::<Result<_>>()?;
            assert!(
                backwards
                    .iter()
                    .map(|(key, value)| (&**key, &**value))
                    .eq(records.iter().rev().map(|(key, value)| (key.as_slice(), value.as_slice())))
            );
            assert_eq!(handle.count_all()?, records.len() as u64);
            let keys: Vec<&[u8]> = records.keys().rev().map(Vec::as_slice).collect();
            let many = handle.get_many(&keys)?;
            assert!(
                many.iter()
                    .map(|value| value.as_deref())
                    .eq(records.values().rev().map(|value| Some(&value[..])))
            );
            for (key, value) in records.iter().filter(|(_, value)| value.len() > 8 << 10) {
                let mut reader = handle.value_reader(key)?.expect("it was found above");
                let (from, mut rest) = (value.len() / 3, Vec::new());
                reader.seek(SeekFrom::Start(from as u64)).unwrap();
                reader.read_to_end(&mut rest).unwrap();
                assert!((reader.len(), &rest[..]) == (value.len() as u64, &value[from..]));
            }
            let cuts = handle.split_keys::<&[u8]>(.., 5)?;
            assert!(cuts.len() < 5 && cuts.is_sorted_by(|a, b| a < b), "{cuts:?}");
            let about = handle.approximate_size::<&[u8]>(..)?.records;
            assert!(about <= 3 * records.len() as u64 + 100, "{about} for {}", records.len());
            let mut digest = crate::Digest::EMPTY;
            records.iter().for_each(|(key, value)| digest.add(key, value));
            assert_eq!(handle.digest::<&[u8]>(..)?, digest);
        }
        for (snapshot, state, handles) in &self.snapshots {
            for (name, handle) in handles {
                match snapshot.iter(handle) {
                    Ok(range) => {
                        let records: Records = range
                            .map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())))
                            .collect::<Result<_>>()?;
                        assert_eq!(&records, &state[name], "a snapshot changes never");
                    }
                    Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error}"),
                }
            }
        }
        self.db().statistics().watermarks.check();
        Ok(())
    }

    /// Verifies every byte of the directory, whose process has ended.
    pub(crate) fn verify_clean(&self) {
        let damage = self.verify_damage();
        assert!(damage.is_empty(), "{damage:?}");
    }

    /// How many keys of the closed directory can be read, when it opens.
    pub(crate) fn readable_keys(&self) -> usize {
        let Ok(db) = Database::open(DIR, self.options.clone()) else { return 0 };
        let mut readable = 0;
        for (name, records) in &self.history[self.history.len() - 1] {
            let Ok(ks) = db.keyspace(name) else { continue };
            readable += records.keys().filter(|key| ks.get(key).is_ok()).count();
        }
        readable
    }

    /// The same disk, clock and spawner, for calls beside the database.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            spawner: Arc::new(self.spawner.clone()),
        }
    }

    /// What verification finds.
    pub(crate) fn verify_damage(&self) -> Vec<crate::Damage> {
        let mut damage = Vec::new();
        let environment = self.environment();
        let before = self.disk.operations();
        crate::inspect::verify_in(&environment, Path::new(DIR), &mut |found| damage.push(found), &mut |_| {})
            .unwrap();
        assert_eq!(self.disk.operations(), before, "verification changes nothing");
        damage
    }
}

/// Everything that can be read.
pub(crate) fn read_all(db: &Database) -> Result<State> {
    let mut state = State::new();
    for name in db.keyspaces() {
        let records = db.keyspace(&name)?.iter()?;
        let records = records.map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())));
        state.insert(name, records.collect::<Result<_>>()?);
    }
    Ok(state)
}
