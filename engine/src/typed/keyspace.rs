//! A keyspace with types.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use logwood_base::{Lsn, Result};
use logwood_btree::Value;

use super::{KeyCodec, PrefixOf, ValueCodec};
use crate::batch::Batch;
use crate::bulk::BulkWrite;
use crate::condition::{Condition, Conditional};
use crate::keyspace::Keyspace;
use crate::range::{Range, behind_prefix};
use crate::snapshot::Snapshot;
use crate::transaction::{Transaction, TransactionRange};

/// A [`Keyspace`] whose keys are `K` and whose values are `V`. Made by [`Keyspace::typed`]; see the [module](super).
pub struct TypedKeyspace<K, V> {
    bytes: Keyspace,
    types: PhantomData<fn() -> (K, V)>,
}

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

/// What gathers writes: a [`Batch`] or a [`Transaction`].
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

impl Keyspace {
    /// The keyspace with types for its keys and values; see [`typed`](crate::typed).
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.get("ada")?, Some(36));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn typed<K: KeyCodec, V: ValueCodec>(&self) -> TypedKeyspace<K, V> {
        TypedKeyspace { bytes: self.clone(), types: PhantomData }
    }
}

impl<K: KeyCodec, V: ValueCodec> TypedKeyspace<K, V> {
    /// The keyspace without types.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.bytes().name(), "ages");
    /// assert_eq!(ages.bytes().count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn bytes(&self) -> &Keyspace {
        &self.bytes
    }

    /// The value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert_eq!((ages.get("ada")?, ages.get("alan")?), (Some(36), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `InvalidArgument` when the value is of another type.
    pub fn get(&self, key: K::Ref<'_>) -> Result<Option<V>> {
        self.bytes.get_with(&K::to_bytes(key), |value| value.map(V::decode).transpose())?
    }

    /// The value of a key in a snapshot or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let stock = db.ensure_keyspace("stock")?.typed::<String, u32>();
    /// let mut transaction = db.transaction();
    /// let before = stock.get_in(&transaction, "bolt")?.unwrap_or(0);
    /// stock.put_in(&mut transaction, "bolt", before + 5)?;
    /// transaction.commit(Durability::Durable)?;
    /// assert_eq!(stock.get("bolt")?, Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::get`]; `InvalidArgument` when the value is of another type.
    pub fn get_in(&self, view: &impl View, key: K::Ref<'_>) -> Result<Option<V>> {
        view.get(&self.bytes, &K::to_bytes(key))?.map(|value| V::decode(&value)).transpose()
    }

    /// Whether a key has a value.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert!(ages.contains("ada")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: K::Ref<'_>) -> Result<bool> {
        self.bytes.contains(&K::to_bytes(key))
    }

    /// Sets the value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// ages.put("ada", 37)?;
    /// assert_eq!(ages.get("ada")?, Some(37));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn put(&self, key: K::Ref<'_>, value: V::Ref<'_>) -> Result<Lsn> {
        self.bytes.put(&K::to_bytes(key), &encoded::<V>(value))
    }

    /// Sets the value of a key if a condition on its bytes holds.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// use logwood::Condition;
    ///
    /// assert!(ages.put_if("ada", 36, Condition::Absent)?.is_done());
    /// assert!(!ages.put_if("ada", 37, Condition::Absent)?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub fn put_if(
        &self,
        key: K::Ref<'_>,
        value: V::Ref<'_>,
        condition: Condition<'_>,
    ) -> Result<Conditional> {
        self.bytes.put_if(&K::to_bytes(key), &encoded::<V>(value), condition)
    }

    /// Sets the value of a key in a batch or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// let mut batch = db.batch();
    /// ages.put_in(&mut batch, "ada", 36)?;
    /// ages.put_in(&mut batch, "alan", 41)?;
    /// db.commit(batch, Durability::Durable)?;
    /// assert_eq!(ages.count_all()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Writes::put`].
    pub fn put_in(&self, writes: &mut impl Writes, key: K::Ref<'_>, value: V::Ref<'_>) -> Result<()> {
        writes.put(&self.bytes, &K::to_bytes(key), &encoded::<V>(value))
    }

    /// Takes the value of a key away; no matter if it has none.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// ages.delete("ada")?;
    /// assert_eq!(ages.get("ada")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete`].
    pub fn delete(&self, key: K::Ref<'_>) -> Result<Lsn> {
        self.bytes.delete(&K::to_bytes(key))
    }

    /// Takes the value of a key away, in a batch or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// let mut transaction = db.transaction();
    /// ages.delete_in(&mut transaction, "ada")?;
    /// transaction.commit(Durability::Durable)?;
    /// assert!(!ages.contains("ada")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Writes::delete`].
    pub fn delete_in(&self, writes: &mut impl Writes, key: K::Ref<'_>) -> Result<()> {
        writes.delete(&self.bytes, &K::to_bytes(key))
    }

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
    /// As [`Keyspace::range`].
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
    /// As [`Keyspace::range`].
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
    /// As [`Keyspace::range`].
    pub fn iter(&self) -> Result<TypedRange<K, V, Range>> {
        self.bytes.iter().map(TypedRange::new)
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
    /// As [`Keyspace::count`].
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
    /// As [`Keyspace::count`].
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
}

impl<K, V> Clone for TypedKeyspace<K, V> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), types: PhantomData }
    }
}

impl<K, V> std::fmt::Debug for TypedKeyspace<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedKeyspace").field(&self.bytes).finish()
    }
}

fn encoded<V: ValueCodec>(value: V::Ref<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V::encode(value, &mut bytes);
    bytes
}

fn encoded_range<'k, K: KeyCodec>(range: &impl RangeBounds<K::Ref<'k>>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>)
where
    K::Ref<'k>: Clone,
{
    let encoded = |bound: Bound<&K::Ref<'k>>| bound.map(|key| K::to_bytes(key.clone()));
    (encoded(range.start_bound()), encoded(range.end_bound()))
}

fn as_bytes(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
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
