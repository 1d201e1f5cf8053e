//! A keyspace with types.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use logwood_base::Result;

use super::{KeyCodec, ValueCodec, View};
use crate::keyspace::Keyspace;

/// A [`Keyspace`] whose keys are `K` and whose values are `V`. Made by [`Keyspace::typed`]; see the [module](super).
pub struct TypedKeyspace<K, V> {
    pub(super) bytes: Keyspace,
    types: PhantomData<fn() -> (K, V)>,
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

    /// The values of several keys, all of one moment, in the order of the keys; faster than one by one.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// assert_eq!(ages.get_many(["alan", "ada"])?, [None, Some(36)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get_many`]; `InvalidArgument` when a value is of another type.
    pub fn get_many<'k>(&self, keys: impl IntoIterator<Item = K::Ref<'k>>) -> Result<Vec<Option<V>>> {
        let keys: Vec<_> = keys.into_iter().map(K::to_bytes).collect();
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        let found = self.bytes.get_many(&keys)?;
        found.into_iter().map(|value| value.map(|value| V::decode(&value)).transpose()).collect()
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

    /// Whether a key has a value in a snapshot or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// let before = db.snapshot();
    /// ages.put("ada", 36)?;
    /// assert!(!ages.contains_in(&before, "ada")? && ages.contains_in(&db.snapshot(), "ada")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`View::contains`].
    pub fn contains_in(&self, view: &impl View, key: K::Ref<'_>) -> Result<bool> {
        view.contains(&self.bytes, &K::to_bytes(key))
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

pub(super) fn encoded<V: ValueCodec>(value: V::Ref<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V::encode(value, &mut bytes);
    bytes
}

pub(super) fn encoded_range<'k, K: KeyCodec>(
    range: &impl RangeBounds<K::Ref<'k>>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>)
where
    K::Ref<'k>: Clone,
{
    let encoded = |bound: Bound<&K::Ref<'k>>| bound.map(|key| K::to_bytes(key.clone()));
    (encoded(range.start_bound()), encoded(range.end_bound()))
}

pub(super) fn as_bytes(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}
