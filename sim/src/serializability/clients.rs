//! Clients of the shipped engine that run random transactions and note what they saw.
//!
//! [`interleaved`] has one thread and a simulated disk: which client makes its next call, and when background work is
//! stepped, comes from the seed. [`threads`] has real threads. A client is honest, or makes a mistake that the checker
//! must find.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use logwood::{
    Database, Durability, Environment, Error, Keyspace, Lsn, Options, Snapshot, Ticket, Transaction,
};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};

use super::{Key, Observed, Read, WriteId};

/// How clients keep to the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discipline {
    /// They read and write in transactions.
    Honest,
    /// They read in a snapshot and write a batch: updates are lost.
    Batches,
    /// They look up keys in the transaction, and walk ranges in its snapshot: phantoms, and write skew over ranges.
    UnprotectedRanges,
    /// They look up keys in the transaction's snapshot, and write others: write skew.
    UnprotectedKeys,
    /// They note what another client has written and not committed as if they had read it.
    Peeking,
}

/// Keys that there are: few, so that transactions meet.
const KEYS: u8 = 10;

fn key(number: u8) -> Key {
    vec![b'k', number]
}

fn value(write: WriteId) -> [u8; 8] {
    write.to_be_bytes()
}

fn write_of(value: &[u8]) -> WriteId {
    WriteId::from_be_bytes(value.try_into().expect("the clients' own value"))
}

/// A transaction that a client has begun.
struct Begun {
    transaction: Transaction,
    observed: Observed,
    calls: u8,
}

/// One client.
#[derive(Default)]
struct Client {
    begun: Option<Begun>,
    on_their_way: Vec<(Ticket, Observed)>,
}

/// What all clients share.
struct Shared<'d> {
    db: &'d Database,
    keyspace: &'d Keyspace,
    discipline: Discipline,
    writes: &'d AtomicU64,
    /// The newest LSN that was acknowledged to anybody.
    acknowledged: &'d AtomicU64,
}

impl Shared<'_> {
    fn begin(&self) -> Begun {
        let acknowledged = Lsn(self.acknowledged.load(Ordering::SeqCst));
        let transaction = self.db.transaction();
        let snapshot = transaction.snapshot().lsn();
        let observed = Observed { snapshot, acknowledged, ..Observed::default() };
        Begun { transaction, observed, calls: 0 }
    }

    /// One read or write.
    fn call(&self, begun: &mut Begun, rng: &mut Rng) -> Result<(), Error> {
        begun.calls += 1;
        let (from, to) = (rng.u8(..KEYS), rng.u8(..KEYS));
        let (from, to) = (from.min(to), from.max(to));
        match rng.u8(..10) {
            0..=3 => {
                let is_bare = matches!(self.discipline, Discipline::UnprotectedKeys | Discipline::Batches);
                let found = match is_bare {
                    true => begun.transaction.snapshot().get(self.keyspace, &key(from))?,
                    false => begun.transaction.get(self.keyspace, &key(from))?,
                };
                let found = found.map(|found| write_of(&found));
                match begun.observed.writes.get(&key(from)).filter(|_| !is_bare) {
                    Some(own) => require_own(&key(from), found, *own)?,
                    None => begun.observed.reads.push(Read::Key(key(from), found)),
                }
            }
            4 | 5 => match self.discipline {
                Discipline::UnprotectedRanges | Discipline::Batches => {
                    let found = walk(begun.transaction.snapshot(), self.keyspace, from, to)?;
                    begun.observed.reads.push(Read::Range(key(from), key(to), found));
                }
                _ => {
                    let records = begun.transaction.range(self.keyspace, key(from)..key(to))?;
                    let records =
                        if rng.bool() { records.collect::<Vec<_>>() } else { records.rev().collect() };
                    let records = records
                        .into_iter()
                        .map(|record| record.map(|(key, value)| (key.to_vec(), write_of(&value))));
                    let found = records.collect::<Result<BTreeMap<_, _>, _>>()?;
                    note_walk(&mut begun.observed, key(from), key(to), found)?;
                }
            },
            6..=8 => {
                let write = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
                begun.transaction.put(self.keyspace, &key(from), &value(write))?;
                begun.observed.writes.insert(key(from), Some(write));
            }
            _ => {
                begun.transaction.delete(self.keyspace, &key(from))?;
                begun.observed.writes.insert(key(from), None);
            }
        }
        Ok(())
    }

    /// Commits; the answer comes with the ticket.
    fn commit(&self, begun: Begun, rng: &mut Rng) -> Result<(Ticket, Observed), Error> {
        let durability = if rng.bool() { Durability::Durable } else { Durability::Buffered };
        let Begun { transaction, observed, .. } = begun;
        let ticket = if self.discipline == Discipline::Batches && !observed.writes.is_empty() {
            let mut batch = self.db.batch();
            for (key, write) in &observed.writes {
                match write {
                    Some(write) => batch.put(self.keyspace, key, &value(*write))?,
                    None => batch.delete(self.keyspace, key)?,
                }
            }
            transaction.rollback();
            self.db.commit_async(batch, durability)?
        } else {
            transaction.commit_async(durability)?
        };
        Ok((ticket, observed))
    }

    /// Waits for the answer, and keeps what committed.
    fn settle(
        &self,
        (ticket, mut observed): (Ticket, Observed),
        history: &mut Vec<Observed>,
    ) -> Result<(), Error> {
        match ticket.wait() {
            Ok(lsn) => {
                if !observed.writes.is_empty() {
                    observed.commit = Some(lsn);
                    self.acknowledged.fetch_max(lsn.get(), Ordering::SeqCst);
                }
                history.push(observed);
                Ok(())
            }
            Err(Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Notes what a walk in a transaction has found: between its own records what others wrote, and those as it wrote them.
fn note_walk(
    observed: &mut Observed,
    mut from: Key,
    to: Key,
    mut found: BTreeMap<Key, WriteId>,
) -> Result<(), Error> {
    for (key, own) in observed.writes.range(from.clone()..to.clone()) {
        require_own(key, found.remove(key), *own)?;
        let behind = found.split_off(key);
        observed.reads.push(Read::Range(from, key.clone(), found.into_iter().collect()));
        found = behind;
        from = [&key[..], &[0]].concat();
    }
    observed.reads.push(Read::Range(from, to, found.into_iter().collect()));
    Ok(())
}

/// What a transaction reads of its own is what it wrote last.
fn require_own(key: &[u8], found: Option<WriteId>, own: Option<WriteId>) -> Result<(), Error> {
    match found == own {
        true => Ok(()),
        false => Err(Error::Internal(format!("{} is {found:?}, written as {own:?}", key.escape_ascii()))),
    }
}

fn walk(snapshot: &Snapshot, keyspace: &Keyspace, from: u8, to: u8) -> Result<Vec<(Key, WriteId)>, Error> {
    let records = snapshot.range(keyspace, key(from)..key(to))?;
    records.map(|record| record.map(|(key, value)| (key.to_vec(), write_of(&value)))).collect()
}

/// The history of some clients whose calls are interleaved as a seed says, on a simulated disk.
///
/// # Errors
/// What the engine answered besides conflicts.
pub fn interleaved(
    seed: u64,
    clients: usize,
    steps: usize,
    discipline: Discipline,
) -> Result<Vec<Observed>, Error> {
    let (clock, spawner) = (Arc::new(ManualClock::new(1)), ManualSpawner::new());
    let environment = Environment {
        disk: Arc::new(SimulatedDisk::new(seed)),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(seed)),
        spawner: Arc::new(spawner.clone()),
    };
    let options = Options::new().environment(environment).log_segment_bytes(64 << 10).cache_bytes(256 << 10);
    let db = Database::open("db", options)?;
    let keyspace = db.create_keyspace("k")?;
    let (writes, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let shared =
        Shared { db: &db, keyspace: &keyspace, discipline, writes: &writes, acknowledged: &acknowledged };
    let mut rng = Rng::with_seed(seed);
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::default()).collect();
    let mut history = Vec::new();
    for _ in 0..steps {
        let number = rng.usize(..clients.len());
        if rng.u8(..20) == 0 {
            clock.advance(Duration::from_millis(1));
            spawner.run_until_idle(logwood_base::Clock::monotonic(&*clock), 4);
        }
        let peeked =
            clients.iter().enumerate().filter(|(other, _)| *other != number).find_map(|(_, client)| {
                let (key, write) = client.begun.as_ref()?.observed.writes.iter().next()?;
                Some((key.clone(), (*write)?))
            });
        let client = &mut clients[number];
        match &mut client.begun {
            None if rng.u8(..3) == 0 => {
                if let Some(ticket) = client.on_their_way.pop() {
                    shared.settle(ticket, &mut history)?;
                }
            }
            None => client.begun = Some(shared.begin()),
            Some(begun) if begun.calls < rng.u8(2..8) => {
                shared.call(begun, &mut rng)?;
                if let Some((key, write)) = peeked.filter(|_| discipline == Discipline::Peeking) {
                    begun.observed.reads.push(Read::Key(key, Some(write)));
                }
            }
            Some(_) => {
                if let Some(begun) = client.begun.take() {
                    client.on_their_way.push(shared.commit(begun, &mut rng)?);
                }
            }
        }
    }
    for ticket in clients.into_iter().flat_map(|client| client.on_their_way) {
        shared.settle(ticket, &mut history)?;
    }
    Ok(history)
}

/// The history of clients on threads of their own, over a database that is open.
///
/// # Errors
/// What the engine answered besides conflicts.
#[expect(clippy::disallowed_methods, reason = "histories of real threads are one of its sources")]
pub fn threads(
    db: &Database,
    threads: u64,
    transactions: usize,
    discipline: Discipline,
) -> Result<Vec<Observed>, Error> {
    let keyspace = db.ensure_keyspace("k")?;
    let (writes, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let shared = Shared { db, keyspace: &keyspace, discipline, writes: &writes, acknowledged: &acknowledged };
    let client = |seed: u64| -> Result<Vec<Observed>, Error> {
        let mut rng = Rng::with_seed(seed);
        let mut history = Vec::new();
        for _ in 0..transactions {
            let mut begun = shared.begin();
            for _ in 0..rng.u8(2..8) {
                shared.call(&mut begun, &mut rng)?;
            }
            let ticket = shared.commit(begun, &mut rng)?;
            shared.settle(ticket, &mut history)?;
        }
        Ok(history)
    };
    let histories = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..threads).map(|seed| scope.spawn(move || client(seed))).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for history in histories {
        all.extend(history?);
    }
    Ok(all)
}

/// How many of a history's transactions wrote.
#[must_use]
pub fn writers(history: &[Observed]) -> usize {
    history.iter().filter(|transaction| transaction.commit.is_some()).count()
}

/// What the last write of each key was, for those who compare it with the database.
#[must_use]
pub fn final_state(history: &[Observed]) -> BTreeMap<Key, WriteId> {
    let mut writers: Vec<_> = history.iter().filter(|transaction| transaction.commit.is_some()).collect();
    writers.sort_by_key(|transaction| transaction.commit);
    let mut state = BTreeMap::new();
    for (key, write) in writers.into_iter().flat_map(|transaction| &transaction.writes) {
        match write {
            Some(write) => drop(state.insert(key.clone(), *write)),
            None => drop(state.remove(key)),
        }
    }
    state
}
