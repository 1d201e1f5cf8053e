//! Transactions and conditional writes: what they read, and that they are refused when they must be, and only then.

use std::sync::Arc;

use logwood::{Condition, Conditional, Durability, Error, Keyspace, Ticket, Transaction};

use super::oracle::State;
use super::world::{Promised, World};

/// What somebody writes: a key of a keyspace, and its value if it gets one.
pub(super) type Write = (String, Vec<u8>, Option<Arc<[u8]>>);

impl World {
    /// A transaction that reads a key and perhaps walks a range; a commit that changes what it read may come between.
    pub(crate) fn transact(&mut self) -> Result<(), String> {
        // What is in flight is not read, and is validated against: only without it is it known who meddles.
        self.wait_for_all()?;
        if self.disk.is_stopped() {
            return Ok(());
        }
        let (name, keyspace) = self.any_keyspace();
        let (guard, first, walks) = (self.key(), self.key(), self.rng.bool());
        let mut transaction = self.db().transaction();
        if let Err(error) = self.read_in(&transaction, &name, &keyspace, &guard, walks.then_some(&first))? {
            return self.excuse("a transaction's read", &error);
        }
        let writes = self.write_in(&mut transaction, &name, &keyspace)?;
        let key = match walks && self.rng.bool() {
            // In the range that was walked, and was not there.
            true => [&first[..], b"/new"].concat(),
            false => guard,
        };
        let meddled = self.rng.u8(..3) == 0 && self.meddle(&name, &keyspace, key)?;
        if self.disk.is_stopped() {
            return Ok(());
        }
        let durable = self.rng.bool();
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        match transaction.commit_async(durability) {
            Ok(ticket) => self.end_transaction(ticket, durable, meddled, writes),
            Err(error) => {
                let state = self.with(&writes);
                self.begun_perhaps(&error, state);
                self.excuse("a transaction", &error)
            }
        }
    }

    /// Reads as a transaction, and compares. The inner error is the engine's.
    fn read_in(
        &self,
        transaction: &Transaction,
        name: &str,
        keyspace: &Keyspace,
        guard: &[u8],
        walked: Option<&Vec<u8>>,
    ) -> Result<Result<(), Error>, String> {
        let lsn = transaction.snapshot().lsn();
        let records = &self.oracle.at(lsn)[name];
        let found = match transaction.get(keyspace, guard) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        if found.as_deref() != records.get(guard).map(|value| &**value) {
            return Err(format!("a transaction at {lsn} reads something else in {name}"));
        }
        let Some(first) = walked else { return Ok(Ok(())) };
        match transaction.count(keyspace, first.clone()..) {
            Ok(count) if count == records.range(first.clone()..).count() as u64 => Ok(Ok(())),
            Ok(count) => Err(format!("a transaction at {lsn} counts {count} records in a range of {name}")),
            Err(error) => Ok(Err(error)),
        }
    }

    fn write_in(
        &mut self,
        transaction: &mut Transaction,
        name: &str,
        keyspace: &Keyspace,
    ) -> Result<Vec<Write>, String> {
        let mut writes = Vec::new();
        for _ in 0..self.rng.usize(1..6) {
            let (key, bytes) = (self.key(), self.value_bytes());
            let value = (self.rng.u8(..4) > 0).then(|| self.value(bytes));
            let written = match &value {
                Some(value) => transaction.put(keyspace, &key, value),
                None => transaction.delete(keyspace, &key),
            };
            written.map_err(|error| format!("a transaction refuses a write: {error}"))?;
            writes.push((name.to_owned(), key, value));
        }
        Ok(writes)
    }

    /// Another commit changes a key. Answers whether it has its place.
    fn meddle(&mut self, name: &str, keyspace: &Keyspace, key: Vec<u8>) -> Result<bool, String> {
        let value = self.value(7);
        let mut batch = self.db().batch();
        let put = batch.put(keyspace, &key, &value);
        put.map_err(|error| format!("a batch refuses: {error}"))?;
        let state = self.with(&[(name.to_owned(), key, Some(value))]);
        match self.db().commit_async(batch, Durability::Buffered) {
            Ok(ticket) => {
                let version = self.oracle.begun(ticket.lsn(), state);
                self.promised.push(Promised { ticket, version, durable: false });
                Ok(true)
            }
            Err(error) => {
                self.begun_perhaps(&error, state);
                self.excuse("a commit that meddles", &error).map(|()| false)
            }
        }
    }

    fn end_transaction(
        &mut self,
        ticket: Ticket,
        durable: bool,
        meddled: bool,
        writes: Vec<Write>,
    ) -> Result<(), String> {
        // The ticket of one that is refused tells where the other commit stands.
        if ticket.lsn() <= self.oracle.newest_lsn() {
            return match ticket.wait() {
                Err(Error::Conflict(_)) if meddled || self.faulty || self.full => {
                    self.trace.count("conflicts");
                    Ok(())
                }
                Err(error @ Error::Conflict(_)) => Err(format!("refused, and nobody meddled: {error}")),
                Err(error) => self.excuse("a transaction that is refused", &error),
                Ok(lsn) => {
                    Err(format!("a transaction is acknowledged at {lsn}, where another commit stands"))
                }
            };
        }
        if meddled {
            return Err(format!("a transaction took {}: what it had read was changed", ticket.lsn()));
        }
        self.trace.note(&format!("transaction {}, durable {durable}", ticket.lsn()));
        self.trace.count("transactions");
        let state = self.with(&writes);
        let version = self.oracle.begun(ticket.lsn(), state);
        self.promised.push(Promised { ticket, version, durable });
        self.wait_for(self.promised.len() - 1)
    }

    /// A put under a condition that holds, or under one that does not.
    pub(crate) fn put_if(&mut self) -> Result<(), String> {
        self.wait_for_all()?;
        if self.disk.is_stopped() || self.faulty || self.full {
            // What failed may have its place all the same, and nobody could say what the condition is about.
            return Ok(());
        }
        let (name, keyspace) = self.any_keyspace();
        let (key, bytes, holds) = (self.key(), self.value_bytes(), self.rng.bool());
        let value = self.value(bytes);
        let now = self.oracle.newest()[&name].get(&key).cloned();
        let condition = match &now {
            Some(now) if holds => Condition::Equals(now),
            None if !holds => Condition::Present,
            _ => Condition::Absent,
        };
        let state = self.with(&[(name, key.clone(), Some(Arc::clone(&value)))]);
        match keyspace.put_if(&key, &value, condition) {
            Ok(Conditional::Done(lsn)) if holds => {
                self.trace.count("conditional puts");
                let version = self.oracle.begun(lsn, state);
                self.oracle.acknowledged(version, true);
                Ok(())
            }
            Ok(Conditional::Refused(found)) if !holds && found.as_deref() == now.as_deref() => Ok(()),
            Ok(outcome) => Err(format!("a condition holds: {holds}, and the answer is {outcome:?}")),
            Err(error) => {
                self.begun_perhaps(&error, state);
                self.excuse("a conditional put", &error)
            }
        }
    }

    /// The newest state, with some writes.
    pub(super) fn with(&self, writes: &[Write]) -> State {
        let mut state = self.oracle.newest().clone();
        for (name, key, value) in writes {
            let records = state.entry(name.clone()).or_default();
            match value {
                Some(value) => records.insert(key.clone(), Arc::clone(value)),
                None => records.remove(key),
            };
        }
        state
    }

    /// A call failed that may have left its entry in the log.
    pub(super) fn begun_perhaps(&mut self, error: &Error, state: State) {
        if self.may_have_happened(error) {
            self.oracle.begun(logwood::Lsn::MAX, state);
        }
    }
}
