//! Random histories of several clients at once, all interleavings of whose calls come from a seed.
//!
//! The log is the order: each transaction that commits must have read what it would have read running alone at its
//! place in the log, right behind the commit before it. One that writes nothing: at its snapshot.

use std::collections::BTreeMap;

use super::one;
use crate::tests::world::scale;
use crate::{Condition, Conditional, Database, Durability, Error, Keyspace, Lsn, Ticket, Transaction};

/// What was read, and what it answered.
#[derive(Clone, Debug)]
enum Read {
    Key(u8, Option<Vec<u8>>),
    /// Records of a range, as many as were walked; whether from behind.
    Walk {
        from: u8,
        to: u8,
        back: bool,
        whole: bool,
        found: Vec<(Vec<u8>, Vec<u8>)>,
    },
    Count(u8, u8, u64),
    /// A condition: what was there, whether the write was done.
    Condition(u8, Option<Vec<u8>>),
}

/// Reads, each with how many of its own writes the transaction had done before.
type Reads = Vec<(usize, Read)>;
type Writes = Vec<(u8, u8, Option<Vec<u8>>)>;
type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A commit, at its place.
#[derive(Debug, Default)]
struct Committed {
    reads: Reads,
    /// From a key up to another one: a value for one key, or none for all of them.
    writes: Writes,
}

#[derive(Default)]
struct Client {
    transaction: Option<Transaction>,
    reads: Reads,
    writes: Writes,
    /// On their way.
    tickets: Vec<(Ticket, Committed)>,
}

struct History<'d> {
    db: &'d Database,
    ks: &'d Keyspace,
    rng: fastrand::Rng,
    counter: u32,
    committed: BTreeMap<Lsn, Committed>,
    read_only: Vec<(Lsn, Committed)>,
    conflicts: usize,
}

impl History<'_> {
    fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        self.counter.to_be_bytes().to_vec()
    }

    fn key(&mut self) -> u8 {
        self.rng.u8(..12)
    }

    fn step(&mut self, client: &mut Client) {
        let Some(transaction) = &mut client.transaction else {
            match self.rng.u8(..8) {
                0 => self.put(client),
                1 => self.put_if(),
                2 => drop(client.tickets.pop().map(|ticket| self.settle(ticket))),
                _ => client.transaction = Some(self.db.transaction()),
            }
            return;
        };
        let (from, to) = (self.key(), self.key());
        let (from, to) = (from.min(to), from.max(to));
        match self.rng.u8(..14) {
            0..=3 => {
                let found = transaction.get(self.ks, &[from]).unwrap();
                note(client, Read::Key(from, found.map(|value| value.to_vec())));
            }
            4 => {
                let count = transaction.count(self.ks, [from]..[to]).unwrap();
                note(client, Read::Count(from, to, count));
            }
            5 | 6 => {
                let (back, most) = (self.rng.bool(), self.rng.usize(..6));
                let mut walk = transaction.range(self.ks, [from]..[to]).unwrap();
                let mut next = || if back { walk.next_back() } else { walk.next() };
                let mut found = Vec::new();
                while found.len() < most
                    && let Some(record) = next()
                {
                    let (key, value) = record.unwrap();
                    found.push((key.to_vec(), value.to_vec()));
                }
                let whole = found.len() < most;
                drop(walk);
                note(client, Read::Walk { from, to, back, whole, found });
            }
            7..=9 => {
                let value = self.value();
                let transaction = client.transaction.as_mut().unwrap();
                transaction.put(self.ks, &[from], &value).unwrap();
                client.writes.push((from, from + 1, Some(value)));
            }
            10 => {
                transaction.delete(self.ks, &[from]).unwrap();
                client.writes.push((from, from + 1, None));
            }
            11 if self.rng.bool() => {
                transaction.delete_range(self.ks, [from]..[to]).unwrap();
                client.writes.push((from, to, None));
            }
            _ => self.commit(client),
        }
    }

    fn commit(&mut self, client: &mut Client) {
        let transaction = client.transaction.take().unwrap();
        let (reads, writes) = (std::mem::take(&mut client.reads), std::mem::take(&mut client.writes));
        if self.rng.u8(..10) == 0 {
            return transaction.rollback();
        }
        let durability = if self.rng.bool() { Durability::Durable } else { Durability::Buffered };
        let read_only = writes.is_empty() || transaction.bytes() == 0;
        let ticket = transaction.commit_async(durability).unwrap();
        if read_only {
            assert!(ticket.is_done());
            self.read_only.push((ticket.wait().unwrap(), Committed { reads, writes }));
            return;
        }
        client.tickets.push((ticket, Committed { reads, writes }));
        if self.rng.bool()
            && let Some(ticket) = client.tickets.pop()
        {
            self.settle(ticket);
        }
    }

    fn settle(&mut self, (ticket, committed): (Ticket, Committed)) {
        match ticket.wait() {
            Ok(lsn) => drop(self.committed.insert(lsn, committed)),
            Err(Error::Conflict(conflict)) => {
                assert!(self.db.visible_lsn() >= conflict.lsn);
                self.conflicts += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn put(&mut self, client: &mut Client) {
        let (key, value) = (self.key(), self.value());
        let mut batch = self.db.batch();
        batch.put(self.ks, &[key], &value).unwrap();
        let ticket = self.db.commit_async(batch, Durability::Durable).unwrap();
        let writes = vec![(key, key + 1, Some(value))];
        client.tickets.push((ticket, Committed { reads: Vec::new(), writes }));
    }

    fn put_if(&mut self) {
        let (key, value) = (self.key(), self.value());
        let seen = self.ks.get(&[key]).unwrap();
        let condition = seen.as_deref().map_or(Condition::Absent, Condition::Equals);
        match self.ks.put_if(&[key], &value, condition).unwrap() {
            Conditional::Done(lsn) => {
                let reads = vec![(0, Read::Condition(key, seen.map(|value| value.to_vec())))];
                self.committed.insert(lsn, Committed { reads, writes: vec![(key, key + 1, Some(value))] });
            }
            Conditional::Refused(found) => assert_ne!(found, seen),
        }
    }

    /// Runs every commit alone, in the order of the log.
    fn check(&self) {
        let mut state = State::new();
        let mut read_only = self.read_only.iter().collect::<Vec<_>>();
        read_only.sort_by_key(|(lsn, _)| *lsn);
        let mut read_only = read_only.into_iter().peekable();
        for (lsn, committed) in &self.committed {
            while let Some((at, read_only)) = read_only.next_if(|(at, _)| at < lsn) {
                run_alone(&state, read_only, *at);
            }
            state = run_alone(&state, committed, *lsn);
        }
        read_only.for_each(|(at, read_only)| drop(run_alone(&state, read_only, *at)));
    }
}

fn note(client: &mut Client, read: Read) {
    client.reads.push((client.writes.len(), read));
}

/// What a transaction leaves that runs alone on `state`, when it reads what it had read: what was there, and its own writes
/// so far laid over it.
fn run_alone(state: &State, committed: &Committed, at: Lsn) -> State {
    let (mut state, mut done) = (state.clone(), 0);
    for (before, read) in &committed.reads {
        lay(&mut state, &committed.writes[done..*before]);
        done = *before;
        check(&state, read, at);
    }
    lay(&mut state, &committed.writes[done..]);
    state
}

fn lay(state: &mut State, writes: &[(u8, u8, Option<Vec<u8>>)]) {
    for (from, to, value) in writes {
        match value {
            Some(value) => drop(state.insert(vec![*from], value.clone())),
            None => state.retain(|key, _| !(*from..*to).contains(&key[0])),
        }
    }
}

fn check(state: &State, read: &Read, at: Lsn) {
    let records =
        |from: u8, to: u8| state.range(vec![from]..vec![to]).map(|(key, value)| (key.clone(), value.clone()));
    match read {
        Read::Key(key, found) | Read::Condition(key, found) => {
            assert_eq!(state.get(&vec![*key]), found.as_ref(), "key {key} as of {at}");
        }
        Read::Count(from, to, count) => assert_eq!(records(*from, *to).count() as u64, *count, "as of {at}"),
        Read::Walk { from, to, back, whole, found } => {
            let mut expected: Vec<_> =
                if *back { records(*from, *to).rev().collect() } else { records(*from, *to).collect() };
            if !whole {
                expected.truncate(found.len());
            }
            assert_eq!(found, &expected, "{from}..{to} as of {at}");
        }
    }
}

#[test]
pub(crate) fn every_transaction_is_as_if_alone_at_its_place_in_the_log() {
    let (mut commits, mut conflicts) = (0, 0);
    for seed in 0..60 * scale() {
        let (world, ks) = one();
        let mut history = History {
            db: world.db(),
            ks: &ks,
            rng: fastrand::Rng::with_seed(seed),
            counter: 0,
            committed: BTreeMap::new(),
            read_only: Vec::new(),
            conflicts: 0,
        };
        let mut clients: Vec<Client> = (0..5).map(|_| Client::default()).collect();
        for _ in 0..300 {
            let client = history.rng.usize(..clients.len());
            history.step(&mut clients[client]);
        }
        for client in clients {
            client.tickets.into_iter().for_each(|ticket| history.settle(ticket));
        }
        history.check();
        commits += history.committed.len();
        conflicts += history.conflicts;
    }
    assert!(conflicts > 100 && commits > 1000, "{conflicts} conflicts, {commits} commits");
}
