//! Ranges of a typed keyspace.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use logwood_base::Result;
use logwood_base::digest::Digest;
use logwood_btree::Value;

use super::keyspace::{TypedKeyspace, as_bytes, encoded_range};
use super::{KeyCodec, PrefixOf, ValueCodec, View};
use crate::range::{Range, behind_prefix};

impl<K: KeyCodec, V: ValueCodec> TypedKeyspace<K, V> {
    /// The records of a range of keys, in both directions, as of now.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let readings = db.ensure_keyspace("readings")?.typed::<(String, u32), i64>();
    /// for (hour, celsius) in [(9, 18), (12, 24), (15, -3)] {
    ///     readings.put(("oslo", hour), celsius)?;
    /// }
    /// let noon = readings.range(("oslo", 10)..("oslo", 14))?.next().expect("one")?;
    /// assert_eq!(noon, (("oslo".to_owned(), 12), 24));
    /// let mut batch = db.batch();
    /// readings.delete_in(&mut batch, ("oslo", 15))?;
    /// db.commit(batch, logwood::Durability::Durable)?;
    /// assert_eq!(readings.count_in(&db.snapshot(), ("oslo", 0)..)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::range`](crate::Keyspace::range).
    pub fn range<'k>(&self, range: impl RangeBounds<K::Ref<'k>>) -> Result<TypedRange<K, V, Range>>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        let records = self.bytes.range::<&[u8]>((as_bytes(&from), as_bytes(&to)))?;
        Ok(TypedRange::new(records))
    }

    /// The records of a range of keys in a snapshot or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// let snapshot = db.snapshot();
    /// ages.put("alan", 41)?;
    /// let names = ages.range_in(&snapshot, "a".."b")?.map(|record| record.map(|(name, _)| name));
    /// assert_eq!(names.collect::<Result<Vec<_>, _>>()?, ["ada"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn range_in<'k, 'v, W: View>(
        &self,
        view: &'v W,
        range: impl RangeBounds<K::Ref<'k>>,
    ) -> Result<TypedRange<K, V, W::Range<'v>>>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        Ok(TypedRange::new(view.range(&self.bytes, (as_bytes(&from), as_bytes(&to)))?))
    }

    /// The records whose keys begin with some parts: `orders.prefix::<(String,)>(("ada",))`.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let orders = db.ensure_keyspace("orders")?.typed::<(String, u64), String>();
    /// orders.put(("ada", 1), "apples")?;
    /// orders.put(("ada", 2), "pears")?;
    /// orders.put(("adam", 1), "nuts")?;
    /// assert_eq!(orders.prefix::<(String,)>(("ada",))?.count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::range`](crate::Keyspace::range).
    pub fn prefix<P: PrefixOf<K>>(&self, prefix: P::Ref<'_>) -> Result<TypedRange<K, V, Range>> {
        let mut bytes = Vec::with_capacity(32);
        P::encode(prefix, false, &mut bytes);
        self.bytes.prefix(&bytes).map(TypedRange::new)
    }

    /// The records whose keys begin with some parts, in a snapshot or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let orders = db.ensure_keyspace("orders")?.typed::<(String, u64), String>();
    /// orders.put(("ada", 1), "apples")?;
    /// let snapshot = db.snapshot();
    /// orders.put(("ada", 2), "pears")?;
    /// assert_eq!(orders.prefix_in::<(String,), _>(&snapshot, ("ada",))?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn prefix_in<'v, P: PrefixOf<K>, W: View>(
        &self,
        view: &'v W,
        prefix: P::Ref<'_>,
    ) -> Result<TypedRange<K, V, W::Range<'v>>> {
        let mut bytes = Vec::with_capacity(32);
        P::encode(prefix, false, &mut bytes);
        let behind = behind_prefix(&bytes);
        let end = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        Ok(TypedRange::new(view.range(&self.bytes, (Bound::Included(&bytes), end))?))
    }

    /// All records.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// ages.put("alan", 41)?;
    /// let oldest = ages.iter()?.collect::<Result<Vec<_>, _>>()?.into_iter().max_by_key(|(_, age)| *age);
    /// assert_eq!(oldest, Some(("alan".to_owned(), 41)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::range`](crate::Keyspace::range).
    pub fn iter(&self) -> Result<TypedRange<K, V, Range>> {
        self.bytes.iter().map(TypedRange::new)
    }

    /// The record with the least key.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("bob", 20)?;
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.first()?, Some(("ada".to_owned(), 36)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::first`](crate::Keyspace::first); `InvalidArgument` when the record is of other types.
    pub fn first(&self) -> Result<Option<(K, V)>> {
        self.iter()?.next().transpose()
    }

    /// The record with the greatest key.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("bob", 20)?;
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.last()?, Some(("bob".to_owned(), 20)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::last`](crate::Keyspace::last); `InvalidArgument` when the record is of other types.
    pub fn last(&self) -> Result<Option<(K, V)>> {
        self.iter()?.next_back().transpose()
    }

    /// How many records there are.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::count`](crate::Keyspace::count).
    pub fn count_all(&self) -> Result<u64> {
        self.bytes.count_all()
    }

    /// How many records a range of keys has.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// ages.put("bob", 20)?;
    /// assert_eq!(ages.count("b"..)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::count`](crate::Keyspace::count).
    pub fn count<'k>(&self, range: impl RangeBounds<K::Ref<'k>>) -> Result<u64>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        self.bytes.count::<&[u8]>((as_bytes(&from), as_bytes(&to)))
    }

    /// How many records a range of keys has in a snapshot or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// let snapshot = db.snapshot();
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.count_in(&snapshot, "a"..)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::count`].
    pub fn count_in<'k>(&self, view: &impl View, range: impl RangeBounds<K::Ref<'k>>) -> Result<u64>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        view.count(&self.bytes, (as_bytes(&from), as_bytes(&to)))
    }

    /// The digest of a range of keys; see [`Keyspace::digest`](crate::Keyspace::digest).
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// let before = ages.digest("b"..)?;
    /// ages.put("ada", 37)?;
    /// assert_eq!(ages.digest("b"..)?, before);
    /// ages.put("bob", 20)?;
    /// assert_ne!(ages.digest("b"..)?, before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::digest`](crate::Keyspace::digest).
    pub fn digest<'k>(&self, range: impl RangeBounds<K::Ref<'k>>) -> Result<Digest>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        self.bytes.digest::<&[u8]>((as_bytes(&from), as_bytes(&to)))
    }

    /// The digest of all records.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// let empty = ages.digest_all()?;
    /// ages.put("ada", 36)?;
    /// assert_ne!(ages.digest_all()?, empty);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::digest`](crate::Keyspace::digest).
    pub fn digest_all(&self) -> Result<Digest> {
        self.bytes.digest_all()
    }
}

/// Records of a typed keyspace, in the order of their keys; `.rev()` goes from the end. After an error it has no more
/// items.
pub struct TypedRange<K, V, R> {
    records: R,
    failed: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: KeyCodec, V: ValueCodec, R> TypedRange<K, V, R> {
    const fn new(records: R) -> Self {
        Self { records, failed: false, types: PhantomData }
    }

    fn decode(&mut self, record: Option<Result<(Value, Value)>>) -> Option<Result<(K, V)>> {
        if self.failed {
            return None;
        }
        let record = record?.and_then(|(key, value)| Ok((K::from_bytes(&key)?, V::decode(&value)?)));
        self.failed = record.is_err();
        Some(record)
    }
}

impl<K: KeyCodec, V: ValueCodec, R: Iterator<Item = Result<(Value, Value)>>> Iterator
    for TypedRange<K, V, R>
{
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next();
        self.decode(record)
    }
}

impl<K: KeyCodec, V: ValueCodec, R: DoubleEndedIterator<Item = Result<(Value, Value)>>> DoubleEndedIterator
    for TypedRange<K, V, R>
{
    fn next_back(&mut self) -> Option<Self::Item> {
        let record = self.records.next_back();
        self.decode(record)
    }
}

impl<K: KeyCodec, V: ValueCodec, R: FusedIterator<Item = Result<(Value, Value)>>> FusedIterator
    for TypedRange<K, V, R>
{
}

impl<K, V, R: std::fmt::Debug> std::fmt::Debug for TypedRange<K, V, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedRange").field(&self.records).finish()
    }
}
