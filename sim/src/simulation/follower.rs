//! Somebody who follows the changes and keeps a view of the database elsewhere, where no crash of it reaches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use logwood::{Change, ChangeSet, Changes, ChangesOptions, Error, KeyspaceId, Lsn, Result};

use super::oracle::{State, difference};
use super::world::World;

/// The follower's name, which the database is opened with.
pub(super) const NAME: &str = "view";

/// What is kept elsewhere.
#[derive(Clone, Default)]
pub struct View {
    names: BTreeMap<KeyspaceId, String>,
    state: State,
    /// The last commit that is in it.
    lsn: Lsn,
}

impl View {
    /// What it shows.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The last commit that is in it.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Takes a commit in, all of it.
    ///
    /// # Errors
    /// As [`ChangeSet::next`]; the view is then to be thrown away.
    pub fn take(&mut self, set: &mut ChangeSet<'_>) -> Result<()> {
        self.lsn = set.lsn();
        while let Some(change) = set.next()? {
            match change {
                Change::CreateKeyspace { keyspace, name } => {
                    self.names.insert(keyspace, name.to_owned());
                    self.state.insert(name.to_owned(), BTreeMap::new());
                }
                Change::DropKeyspace { keyspace } => {
                    if let Some(name) = self.names.remove(&keyspace) {
                        self.state.remove(&name);
                    }
                }
                Change::Put { keyspace, key, value } => {
                    self.records(keyspace).insert(key.to_vec(), Arc::from(value));
                }
                Change::Delete { keyspace, key } => {
                    self.records(keyspace).remove(key);
                }
                Change::DeleteRange { keyspace, from, to } => {
                    self.records(keyspace)
                        .retain(|key, _| key.as_slice() < from || to.is_some_and(|to| key.as_slice() >= to));
                }
                other => return Err(Error::Internal(format!("a follower does not know {other:?}"))),
            }
        }
        Ok(())
    }

    fn records(&mut self, keyspace: KeyspaceId) -> &mut super::oracle::Records {
        let name = self.names.get(&keyspace).cloned().unwrap_or_else(|| format!("keyspace {keyspace}?"));
        self.state.entry(name).or_default()
    }
}

impl World {
    /// Takes the commits that are there, each whole or not at all, and compares the view with what was promised.
    pub(crate) fn follow(&mut self) -> std::result::Result<(), String> {
        let mut changes = match self.changes.take() {
            Some(changes) => changes,
            None => match self.begin_to_follow() {
                Ok(changes) => changes,
                Err(error) => return self.excuse("following", &error),
            },
        };
        let outcome = self.take_all(&mut changes);
        let position = changes.position();
        self.changes = Some(changes);
        match outcome {
            Ok(()) => {
                self.trace.note(&format!("followed up to {}", self.view.lsn));
                self.trace.count("commits followed up to");
                let expected = self.oracle.at(position.previous());
                if *expected == self.view.state {
                    return Ok(());
                }
                let difference = difference(expected, &self.view.state);
                Err(format!("the view at {} is something else: {difference}", self.view.lsn))
            }
            Err(Err(error)) => {
                self.changes = None;
                self.excuse("following", &error)
            }
            Err(Ok(message)) => Err(message),
        }
    }

    fn begin_to_follow(&self) -> Result<Changes> {
        let options = ChangesOptions::new().name(NAME).hold_until_released(true).durable_only(true);
        self.db().changes_with(self.view.lsn.next(), &options)
    }

    /// Fails with what is wrong, or with the engine's error.
    fn take_all(
        &mut self,
        changes: &mut Changes,
    ) -> std::result::Result<(), std::result::Result<String, Error>> {
        while let Some(mut set) = changes.next(Duration::ZERO).map_err(Err)? {
            let before = self.view.lsn;
            if set.lsn() <= before {
                return Err(Ok(format!("{} is handed out behind {before}", set.lsn())));
            }
            let mut next = self.view.clone();
            next.take(&mut set).map_err(Err)?;
            self.view = next;
            if self.rng.bool() {
                changes.release(self.view.lsn);
            }
        }
        Ok(())
    }

    /// What was handed out as durable is never taken back.
    pub(crate) fn check_followed(&self, visible: Lsn) -> std::result::Result<(), String> {
        match self.view.lsn <= visible {
            true => Ok(()),
            false => Err(format!("{} was followed and is gone: the log ends at {visible}", self.view.lsn)),
        }
    }
}
