//! What a transaction is going to change: seen by its own reads, and encoded when it commits.
//!
//! Only the last change of each key is kept. Ranges that were deleted stand apart, and come first in the entry: a
//! record that was written into such a range was written behind it, for whatever stood in the range before was taken
//! out when it was deleted.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use logwood_base::codec::varint_bytes;
use logwood_base::sync::Arc;
use logwood_base::{Result, limits};

use super::intervals::Intervals;
use crate::catalog::KeyspaceShared;
use crate::entry::{self, Operation};

/// What a deleted range takes in an entry besides its keys, at most: a tag, the keyspace, two lengths.
const RANGE_OVERHEAD: usize = 1 + 10 + 3 + 3;

/// A key, and its value or that it has none.
pub(crate) type Records = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// A walk over own records.
pub(crate) type OwnRange<'a> = btree_map::Range<'a, Box<[u8]>, Option<Box<[u8]>>>;

/// All changes.
#[derive(Debug)]
pub(crate) struct WriteSet {
    keyspaces: Vec<KeyspaceWrites>,
    /// Bytes that the operations take in an entry, at most.
    bytes: usize,
    bytes_max: usize,
}

/// Changes of one keyspace.
#[derive(Debug)]
pub(crate) struct KeyspaceWrites {
    keyspace: Arc<KeyspaceShared>,
    records: Records,
    deleted: Intervals,
}

/// What the transaction itself says of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Own<'a> {
    /// It has this value, or none.
    Written(Option<&'a [u8]>),
    /// Nothing.
    Untouched,
}

impl WriteSet {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { keyspaces: Vec::new(), bytes: 0, bytes_max }
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that the changes take in the log, at most.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets or takes away the value of a key.
    pub(crate) fn write(
        &mut self,
        keyspace: &Arc<KeyspaceShared>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        self.check(keyspace, key, value.map(<[u8]>::len))?;
        self.write_owned(keyspace, key, value.map(Box::from))
    }

    /// As [`WriteSet::write`], of a value that is given away.
    pub(crate) fn write_owned(
        &mut self,
        keyspace: &Arc<KeyspaceShared>,
        key: &[u8],
        value: Option<Box<[u8]>>,
    ) -> Result<()> {
        let bytes = self.check(keyspace, key, value.as_deref().map(<[u8]>::len))?;
        let at = self.at(keyspace);
        let writes = &mut self.keyspaces[at];
        match writes.records.get_mut(key) {
            Some(written) => *written = value,
            None => drop(writes.records.insert(key.into(), value)),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Refuses a value of this length, or that there is none, where it would be too much. Answers what [`WriteSet::bytes`]
    /// would be with it.
    pub(crate) fn check(
        &self,
        keyspace: &Arc<KeyspaceShared>,
        key: &[u8],
        value_bytes: Option<usize>,
    ) -> Result<usize> {
        let written = self.of(keyspace).and_then(|writes| writes.records.get(key));
        let bytes_of = |value_bytes| operation_bytes(keyspace, key, value_bytes);
        let before = written.map_or(0, |value| bytes_of(value.as_deref().map(<[u8]>::len)));
        let bytes = self.bytes - before + bytes_of(value_bytes);
        limits::check("batch bytes", bytes, self.bytes_max)?;
        Ok(bytes)
    }

    /// Takes the values of a range away.
    pub(crate) fn delete_range(
        &mut self,
        keyspace: &Arc<KeyspaceShared>,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<()> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let at = self.at(keyspace);
        let writes = &mut self.keyspaces[at];
        let most = self.bytes + RANGE_OVERHEAD + from.len() + to.map_or(0, <[u8]>::len);
        limits::check("batch bytes", most, self.bytes_max)?;
        let inside: Vec<_> = writes.range(from, to).map(|(key, _)| key.clone()).collect();
        for key in inside {
            if let Some(value) = writes.records.remove(&key) {
                self.bytes -= operation_bytes(keyspace, &key, value.as_deref().map(<[u8]>::len));
            }
        }
        self.bytes -= writes.deleted_bytes();
        writes.deleted.add(from.to_vec(), to.map(<[u8]>::to_vec));
        self.bytes += writes.deleted_bytes();
        Ok(())
    }

    /// What was written to a key.
    pub(crate) fn get(&self, keyspace: &Arc<KeyspaceShared>, key: &[u8]) -> Own<'_> {
        let Some(writes) = self.of(keyspace) else { return Own::Untouched };
        match writes.records.get(key) {
            Some(value) => Own::Written(value.as_deref()),
            None if writes.deleted.contains(key) => Own::Written(None),
            None => Own::Untouched,
        }
    }

    /// The changes of a keyspace, if there are any.
    pub(crate) fn of(&self, keyspace: &Arc<KeyspaceShared>) -> Option<&KeyspaceWrites> {
        self.keyspaces.iter().find(|writes| Arc::ptr_eq(&writes.keyspace, keyspace))
    }

    /// The payload of the commit, its time still 0, and the keyspaces that it changes.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Arc<KeyspaceShared>>) {
        let mut payload = Vec::with_capacity(entry::HEADER_BYTES + self.bytes);
        entry::begin_commit(&mut payload);
        let mut keyspaces = Vec::with_capacity(self.keyspaces.len());
        for KeyspaceWrites { keyspace: shared, records, deleted } in self.keyspaces {
            let keyspace = shared.id;
            for (from, to) in deleted.iter() {
                Operation::DeleteRange { keyspace, from, to }.encode(&mut payload);
            }
            for (key, value) in records {
                let key = &*key;
                let operation = match value.as_deref() {
                    Some(value) => Operation::Put { keyspace, key, value },
                    // The range around it is deleted already.
                    None if deleted.contains(key) => continue,
                    None => Operation::Delete { keyspace, key },
                };
                operation.encode(&mut payload);
            }
            keyspaces.push(shared);
        }
        (payload, keyspaces)
    }

    fn at(&mut self, keyspace: &Arc<KeyspaceShared>) -> usize {
        if let Some(at) = self.keyspaces.iter().position(|writes| Arc::ptr_eq(&writes.keyspace, keyspace)) {
            return at;
        }
        let keyspace = Arc::clone(keyspace);
        self.keyspaces.push(KeyspaceWrites {
            keyspace,
            records: Records::new(),
            deleted: Intervals::default(),
        });
        self.keyspaces.len() - 1
    }
}

impl KeyspaceWrites {
    /// Own records of a range, that have a value and that have none.
    pub(crate) fn range(&self, from: &[u8], to: Option<&[u8]>) -> OwnRange<'_> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range::<[u8], _>((Bound::Included(from), to))
    }

    /// Ranges that were deleted before own records were written.
    pub(crate) const fn deleted(&self) -> &Intervals {
        &self.deleted
    }

    /// At most.
    fn deleted_bytes(&self) -> usize {
        self.deleted.len() * RANGE_OVERHEAD + self.deleted.key_bytes()
    }
}

/// What a put of a value of this length, or a delete, takes in an entry.
fn operation_bytes(keyspace: &KeyspaceShared, key: &[u8], value_bytes: Option<usize>) -> usize {
    let string = |bytes: usize| varint_bytes(bytes as u64) + bytes;
    1 + varint_bytes(keyspace.id.get()) + string(key.len()) + value_bytes.map_or(0, string)
}
