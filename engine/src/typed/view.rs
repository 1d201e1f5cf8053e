//! What typed keyspaces are read and written in.

use std::iter::FusedIterator;
use std::ops::Bound;

use logwood_base::Result;
use logwood_btree::Value;

use crate::batch::Batch;
use crate::bulk::BulkWrite;
use crate::keyspace::Keyspace;
use crate::range::Range;
use crate::snapshot::Snapshot;
use crate::transaction::{Transaction, TransactionRange};

/// What keyspaces are read in: a [`Snapshot`] or a [`Transaction`].
pub trait View {
    /// Walks records.
    type Range<'v>: DoubleEndedIterator<Item = Result<(Value, Value)>> + FusedIterator
    where
        Self: 'v;

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Snapshot::get`], or [`Transaction::get`].
    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>>;

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`View::get`].
    fn contains(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool>;

    /// The records of a range.
    ///
    /// # Errors
    /// As [`View::get`].
    fn range(&self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Self::Range<'_>>;

    /// How many records a range has.
    ///
    /// # Errors
    /// As [`View::get`].
    fn count(&self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<u64>;
}

impl View for Snapshot {
    type Range<'v> = Range;

    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.get(keyspace, key)
    }

    fn contains(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
        self.contains(keyspace, key)
    }

    fn range(&self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Range> {
        self.range::<&[u8]>(keyspace, range)
    }

    fn count(&self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<u64> {
        self.count::<&[u8]>(keyspace, range)
    }
}

impl View for Transaction {
    type Range<'v> = TransactionRange<'v>;

    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.get(keyspace, key)
    }

    fn contains(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
        self.contains(keyspace, key)
    }

    fn range(
        &self,
        keyspace: &Keyspace,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<TransactionRange<'_>> {
        self.range::<&[u8]>(keyspace, range)
    }

    fn count(&self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<u64> {
        self.count::<&[u8]>(keyspace, range)
    }
}

/// What gathers writes: a [`Batch`], a [`Transaction`] or a [`BulkWrite`].
pub trait Writes {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// As [`Batch::put`], or [`Transaction::put`].
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()>;

    /// Takes the value of a key away.
    ///
    /// # Errors
    /// As [`Writes::put`].
    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()>;
}

impl Writes for Batch {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(keyspace, key, value)
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.delete(keyspace, key)
    }
}

impl Writes for Transaction {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(keyspace, key, value)
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.delete(keyspace, key)
    }
}

impl Writes for BulkWrite {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(keyspace, key, value)
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.delete(keyspace, key)
    }
}

/// What gathers range deletes too: a [`Batch`] or a [`Transaction`].
pub trait RangeWrites: Writes {
    /// Takes the values of a range of keys away.
    ///
    /// # Errors
    /// As [`Batch::delete_range`], or [`Transaction::delete_range`].
    fn delete_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<()>;
}

impl RangeWrites for Batch {
    fn delete_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<()> {
        self.delete_range::<&[u8]>(keyspace, range)
    }
}

impl RangeWrites for Transaction {
    fn delete_range(&mut self, keyspace: &Keyspace, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<()> {
        self.delete_range::<&[u8]>(keyspace, range)
    }
}
