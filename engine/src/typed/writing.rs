//! What a typed keyspace writes.

use std::ops::RangeBounds;

use logwood_base::{Lsn, Result};
use logwood_wal::Durability;

use super::keyspace::{TypedKeyspace, as_bytes, encoded, encoded_range};
use super::{KeyCodec, RangeWrites, ValueCodec, Writes};
use crate::condition::{Condition, Conditional};

impl<K: KeyCodec, V: ValueCodec> TypedKeyspace<K, V> {
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
    /// As [`Keyspace::put`](crate::Keyspace::put).
    pub fn put(&self, key: K::Ref<'_>, value: V::Ref<'_>) -> Result<Lsn> {
        self.bytes.put(&K::to_bytes(key), &encoded::<V>(value))
    }

    /// Sets the value of a key, as durably as said here.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// use logwood::Durability;
    ///
    /// // Survives the end of the process, but perhaps no power cut.
    /// ages.put_with("ada", 36, Durability::Buffered)?;
    /// assert_eq!(ages.get("ada")?, Some(36));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_with`](crate::Keyspace::put_with).
    pub fn put_with(&self, key: K::Ref<'_>, value: V::Ref<'_>, durability: Durability) -> Result<Lsn> {
        self.bytes.put_with(&K::to_bytes(key), &encoded::<V>(value), durability)
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
    /// As [`Keyspace::put_if`](crate::Keyspace::put_if).
    pub fn put_if(
        &self,
        key: K::Ref<'_>,
        value: V::Ref<'_>,
        condition: Condition<'_>,
    ) -> Result<Conditional> {
        self.bytes.put_if(&K::to_bytes(key), &encoded::<V>(value), condition)
    }

    /// Sets the value of a key in a batch, a transaction or a bulk write.
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
    /// As [`Keyspace::delete`](crate::Keyspace::delete).
    pub fn delete(&self, key: K::Ref<'_>) -> Result<Lsn> {
        self.bytes.delete(&K::to_bytes(key))
    }

    /// Takes the value of a key away, as durably as said here.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// use logwood::Durability;
    ///
    /// ages.put("ada", 36)?;
    /// ages.delete_with("ada", Durability::Buffered)?;
    /// assert!(!ages.contains("ada")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete_with`](crate::Keyspace::delete_with).
    pub fn delete_with(&self, key: K::Ref<'_>, durability: Durability) -> Result<Lsn> {
        self.bytes.delete_with(&K::to_bytes(key), durability)
    }

    /// Takes the value of a key away if a condition on its bytes holds.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// use logwood::Condition;
    ///
    /// ages.put("ada", 36)?;
    /// let seen = db.snapshot();
    /// assert!(ages.delete_if("ada", Condition::Unchanged(&seen))?.is_done());
    /// assert!(!ages.delete_if("ada", Condition::Present)?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete_if`](crate::Keyspace::delete_if).
    pub fn delete_if(&self, key: K::Ref<'_>, condition: Condition<'_>) -> Result<Conditional> {
        self.bytes.delete_if(&K::to_bytes(key), condition)
    }

    /// Takes the value of a key away, in a batch, a transaction or a bulk write.
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

    /// Takes the values of a range of keys away, in one entry of the log, however many they are.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// ages.put("bob", 20)?;
    /// ages.delete_range(.."b")?;
    /// assert_eq!((ages.get("ada")?, ages.get("bob")?), (None, Some(20)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`](crate::Keyspace::delete_range).
    pub fn delete_range<'k>(&self, range: impl RangeBounds<K::Ref<'k>>) -> Result<Lsn>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        self.bytes.delete_range::<&[u8]>((as_bytes(&from), as_bytes(&to)))
    }

    /// Takes the values of a range of keys away, in a batch or a transaction.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ages = db.ensure_keyspace("ages")?.typed::<String, u32>();
    /// ages.put("ada", 36)?;
    /// let mut batch = db.batch();
    /// ages.delete_range_in(&mut batch, ..)?;
    /// ages.put_in(&mut batch, "bob", 20)?;
    /// db.commit(batch, logwood::Durability::Durable)?;
    /// assert_eq!(ages.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`RangeWrites::delete_range`].
    pub fn delete_range_in<'k>(
        &self,
        writes: &mut impl RangeWrites,
        range: impl RangeBounds<K::Ref<'k>>,
    ) -> Result<()>
    where
        K::Ref<'k>: Clone,
    {
        let (from, to) = encoded_range::<K>(&range);
        writes.delete_range(&self.bytes, (as_bytes(&from), as_bytes(&to)))
    }
}
