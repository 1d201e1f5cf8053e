//! Whether a history of transactions is serializable: a search for cycles.
//!
//! Every value that is written is written once, so a read tells whose write it saw. From reads and writes, and from the
//! places in the log that order the versions of each key, follows who must come before whom in any serial order that
//! would explain the history:
//!
//! | edge | from | to |
//! |---|---|---|
//! | `wr`, reads from | who wrote a version | who read it |
//! | `ww`, write order | who wrote a version | who wrote the next one |
//! | `rw`, anti-dependency | who read a version | who wrote the next one |
//!
//! A key that a walked range did not hold was read as absent: that is how phantoms show. The history is serializable if
//! and only if there is no cycle. What was read of transactions that never committed, or was written over within one,
//! is a dirty read; a snapshot older than what had been acknowledged before it was taken is stale.
//!
//! [`clients`] makes histories with the shipped engine, honest ones and ones that must be found out.

pub mod clients;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use logwood::Lsn;

/// A key.
pub type Key = Vec<u8>;

/// Names one written value; never used twice in a history.
pub type WriteId = u64;

/// One read and its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// A key was looked up.
    Key(Key, Option<WriteId>),
    /// All records from a key up to, and without, another one.
    Range(Key, Key, Vec<(Key, WriteId)>),
}

/// A transaction that committed, as its client saw it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// Where it read.
    pub snapshot: Lsn,
    /// The newest commit that anybody had been told of before it began.
    pub acknowledged: Lsn,
    /// Its place in the log; `None` when it wrote nothing.
    pub commit: Option<Lsn>,
    /// What it read of others.
    pub reads: Vec<Read>,
    /// The last write to each key; `None` is a delete.
    pub writes: BTreeMap<Key, Option<WriteId>>,
}

/// Why one transaction comes before another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dependency {
    /// The second read what the first wrote.
    ReadsFrom,
    /// The second wrote over what the first wrote.
    WriteOrder,
    /// The second wrote over what the first read.
    AntiDependency,
}

/// A step of a cycle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Who comes before.
    pub from: usize,
    /// Who comes behind.
    pub to: usize,
    /// Why.
    pub dependency: Dependency,
    /// Because of which key.
    pub key: Key,
}

/// What no serial order explains. Numbers are places in the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anomaly {
    /// A transaction read what was never committed.
    DirtyRead {
        /// Who read it.
        reader: usize,
        /// Which key.
        key: Key,
        /// What was written there.
        write: WriteId,
    },
    /// A transaction did not see what had been acknowledged before it began.
    Stale {
        /// Which one.
        reader: usize,
    },
    /// Each comes before the next one, and the last before the first.
    Cycle(Vec<Edge>),
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DirtyRead { reader, key, write } => {
                write!(
                    f,
                    "transaction {reader} read write {write} of {}, never committed",
                    key.escape_ascii()
                )
            }
            Self::Stale { reader } => write!(f, "transaction {reader} read what was not new any more"),
            Self::Cycle(edges) => edges.iter().try_for_each(|Edge { from, to, dependency, key }| {
                let kind = match dependency {
                    Dependency::ReadsFrom => "wr",
                    Dependency::WriteOrder => "ww",
                    Dependency::AntiDependency => "rw",
                };
                write!(f, "[{from} -{kind} {}-> {to}]", key.escape_ascii())
            }),
        }
    }
}

/// A version of a key: its place, whose it is, its value.
type Version = (Lsn, usize, Option<WriteId>);

struct Graph<'h> {
    history: &'h [Observed],
    versions: BTreeMap<&'h [u8], Vec<Version>>,
    /// Where a committed value stands among its key's versions.
    places: BTreeMap<WriteId, usize>,
    edges: Vec<BTreeMap<usize, (Dependency, &'h [u8])>>,
}

/// Looks for something that no serial order explains.
///
/// # Errors
/// The first that is found.
pub fn check(history: &[Observed]) -> Result<(), Anomaly> {
    let mut graph = Graph::new(history);
    graph.order_writes();
    for (reader, transaction) in history.iter().enumerate() {
        if transaction.snapshot < transaction.acknowledged {
            return Err(Anomaly::Stale { reader });
        }
        graph.order_reads(reader)?;
    }
    graph.find_cycle().map_or(Ok(()), |cycle| Err(Anomaly::Cycle(cycle)))
}

impl<'h> Graph<'h> {
    fn new(history: &'h [Observed]) -> Self {
        let mut versions: BTreeMap<&[u8], Vec<Version>> = BTreeMap::new();
        for (number, transaction) in history.iter().enumerate() {
            let Some(lsn) = transaction.commit else { continue };
            for (key, write) in &transaction.writes {
                versions.entry(key).or_default().push((lsn, number, *write));
            }
        }
        let mut places = BTreeMap::new();
        for versions in versions.values_mut() {
            versions.sort_unstable();
            let writes = versions.iter().enumerate();
            places.extend(writes.filter_map(|(place, (_, _, write))| Some(((*write)?, place))));
        }
        Self { history, versions, places, edges: vec![BTreeMap::new(); history.len()] }
    }

    fn add(&mut self, from: usize, to: usize, dependency: Dependency, key: &'h [u8]) {
        if from != to {
            self.edges[from].entry(to).or_insert((dependency, key));
        }
    }

    fn order_writes(&mut self) {
        let pairs: Vec<_> = self
            .versions
            .iter()
            .flat_map(|(key, versions)| versions.windows(2).map(|pair| (pair[0].1, pair[1].1, *key)))
            .collect();
        pairs.into_iter().for_each(|(from, to, key)| self.add(from, to, Dependency::WriteOrder, key));
    }

    fn order_reads(&mut self, reader: usize) -> Result<(), Anomaly> {
        for read in &self.history[reader].reads {
            match read {
                Read::Key(key, found) => self.saw(reader, key, *found)?,
                Read::Range(from, to, found) => {
                    let found: BTreeMap<&[u8], WriteId> =
                        found.iter().map(|(key, write)| (&key[..], *write)).collect();
                    let written = self.versions.range(&from[..]..&to[..]).map(|(key, _)| *key);
                    let keys: BTreeSet<&[u8]> = written.chain(found.keys().copied()).collect();
                    for key in keys {
                        self.saw(reader, key, found.get(key).copied())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes which version of a key was seen.
    fn saw(&mut self, reader: usize, key: &'h [u8], found: Option<WriteId>) -> Result<(), Anomaly> {
        let versions = self.versions.get(key).map_or(&[][..], Vec::as_slice);
        // Before the first version, and behind each delete, a key is absent. Which absence it was says the snapshot.
        let place = match found {
            Some(write) => match self.places.get(&write) {
                Some(place) if versions.get(*place).is_some_and(|version| version.2 == Some(write)) => {
                    Some(*place)
                }
                _ => return Err(Anomaly::DirtyRead { reader, key: key.to_vec(), write }),
            },
            None => {
                let snapshot = self.history[reader].snapshot;
                let before = versions.partition_point(|(lsn, _, _)| *lsn <= snapshot);
                versions[..before].iter().rposition(|(_, _, write)| write.is_none())
            }
        };
        let writer = place.map(|place| versions[place].1);
        let next = versions.get(place.map_or(0, |place| place + 1)).map(|version| version.1);
        if let Some(writer) = writer {
            self.add(writer, reader, Dependency::ReadsFrom, key);
        }
        if let Some(next) = next {
            self.add(reader, next, Dependency::AntiDependency, key);
        }
        Ok(())
    }

    /// A shortest cycle through some transaction, if there is any cycle.
    fn find_cycle(&self) -> Option<Vec<Edge>> {
        // Whoever nothing is left before, or behind, is in no cycle; what remains, if anything, holds one.
        let mut left: BTreeSet<usize> = (0..self.edges.len()).collect();
        loop {
            let targets: BTreeSet<usize> =
                left.iter().flat_map(|from| self.edges[*from].keys().copied()).collect();
            let inner: BTreeSet<usize> = left
                .iter()
                .copied()
                .filter(|number| {
                    targets.contains(number) && self.edges[*number].keys().any(|to| left.contains(to))
                })
                .collect();
            if inner.len() == left.len() {
                break;
            }
            left = inner;
        }
        left.iter().filter_map(|start| self.cycle_through(*start, &left)).min_by_key(Vec::len)
    }

    fn cycle_through(&self, start: usize, among: &BTreeSet<usize>) -> Option<Vec<Edge>> {
        let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(from) = queue.pop_front() {
            for to in self.edges[from].keys().copied().filter(|to| among.contains(to)) {
                if to == start {
                    let mut cycle = vec![self.edge(from, to)];
                    let mut at = from;
                    while at != start {
                        cycle.push(self.edge(came_from[&at], at));
                        at = came_from[&at];
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if to != start && !came_from.contains_key(&to) {
                    came_from.insert(to, from);
                    queue.push_back(to);
                }
            }
        }
        None
    }

    fn edge(&self, from: usize, to: usize) -> Edge {
        let (dependency, key) = self.edges[from][&to];
        Edge { from, to, dependency, key: key.to_vec() }
    }
}
