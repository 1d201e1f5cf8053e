//! Single writes that depend on what is there.
//!
//! The condition is looked at under the sequencer's lock, at what is applied: nothing can come between it and the
//! write. That it does not hold is a statement about the database, so it is answered only when the newest commit that
//! changed the key is visible: before that a crash could take back what the answer tells of. Where that commit's
//! write fails, the answer is `Poisoned`.
//!
//! A long value is read without the lock: what the key has is compared before it is taken, and under it only looked at whether
//! that is still the same stored value. A value that is refused is held by a reader, and read behind the lock. Only when somebody
//! has changed the key in between to a long value of the same length, it is read once more, under the lock.

use std::borrow::Cow;

use logwood_base::{Changed, Conflict, Result};
use logwood_base::{Lsn, limits};
use logwood_btree::{At, Value, ValueReader};
use logwood_wal::Durability;

use crate::core::{Core, Sequencer};
use crate::entry::{self, Operation};
use crate::keyspace::Keyspace;
use crate::planted::{Bug, planted};
use crate::snapshot::Snapshot;

/// What must be true of a key for [`Keyspace::put_if`] and [`Keyspace::delete_if`] to change it.
///
/// Records carry no version number. What a version is for, that nobody has changed the value since it was looked at,
/// is [`Condition::Unchanged`]: the version is a snapshot, and what counts is the value. Where it matters that nobody has
/// written to the key in between, be it the same value, or has deleted and put it again, use a
/// [`Transaction`](crate::Transaction): a read in it conflicts with every change of the key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Condition<'a> {
    /// It has no value.
    Absent,
    /// It has a value.
    Present,
    /// It has this value.
    Equals(&'a [u8]),
    /// It has the value that it has in the snapshot, or none as there; whatever it had in between.
    Unchanged(&'a Snapshot),
}

/// What came of a conditional write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conditional {
    /// The condition held, and the write is as durable as was asked for.
    Done(Lsn),
    /// It did not, and nothing was written: this is what the key had instead.
    Refused(Option<Value>),
}

impl Conditional {
    /// Whether the write was done.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::Condition;
    /// assert!(ks.put_if(b"job", b"mine", Condition::Absent)?.is_done());
    /// assert!(!ks.put_if(b"job", b"yours", Condition::Absent)?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Keyspace {
    /// Sets the value of a key if a condition holds, as durably as
    /// [`Options::durability`](crate::Options::durability) says. Costs a look at the key, and what [`Keyspace::put`] costs when the
    /// condition holds. A refusal writes nothing; it waits until what it tells of is visible.
    ///
    /// ```
    /// # use logwood::{Condition, Conditional, Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let locks = db.ensure_keyspace("locks")?;
    /// assert!(locks.put_if(b"job", b"me", Condition::Absent)?.is_done());
    /// let refused = locks.put_if(b"job", b"you", Condition::Absent)?;
    /// assert_eq!(refused, Conditional::Refused(Some(b"me"[..].into())));
    /// assert!(locks.delete_if(b"job", Condition::Equals(b"me"))?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`] and [`Keyspace::get`]; `InvalidArgument` for a snapshot of another database.
    pub fn put_if(&self, key: &[u8], value: &[u8], condition: Condition<'_>) -> Result<Conditional> {
        self.put_if_with(key, value, condition, self.core().options.durability)
    }

    /// Sets the value of a key if a condition holds, as durably as said here. Costs what [`Keyspace::put_if`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::Condition;
    ///
    /// let done = ks.put_if_with(b"a", b"1", Condition::Absent, Durability::Buffered)?;
    /// assert!(done.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub fn put_if_with(
        &self,
        key: &[u8],
        value: &[u8],
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<Conditional> {
        limits::check("value bytes", value.len(), self.core().options.value_bytes_max)?;
        self.commit_if(key, &Operation::Put { keyspace: self.id(), key, value }, condition, durability)
    }

    /// Takes the value of a key away if a condition holds, as durably as
    /// [`Options::durability`](crate::Options::durability) says. Costs what [`Keyspace::put_if`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::{Condition, Conditional};
    ///
    /// ks.put(b"a", b"1")?;
    /// let seen = db.snapshot();
    /// ks.put(b"a", b"2")?;
    /// let refused = ks.delete_if(b"a", Condition::Unchanged(&seen))?;
    /// assert_eq!(refused, Conditional::Refused(Some(b"2"[..].into())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub fn delete_if(&self, key: &[u8], condition: Condition<'_>) -> Result<Conditional> {
        self.delete_if_with(key, condition, self.core().options.durability)
    }

    /// Takes the value of a key away if a condition holds, as durably as said here. Costs what [`Keyspace::put_if`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::Condition;
    ///
    /// ks.put(b"a", b"1")?;
    /// assert!(ks.delete_if_with(b"a", Condition::Present, Durability::Buffered)?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub fn delete_if_with(
        &self,
        key: &[u8],
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<Conditional> {
        self.commit_if(key, &Operation::Delete { keyspace: self.id(), key }, condition, durability)
    }

    fn commit_if(
        &self,
        key: &[u8],
        operation: &Operation<'_>,
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<Conditional> {
        limits::check("key bytes", key.len(), self.core().options.key_bytes_max)?;
        let tree = &self.shared().tree;
        let wanted = match condition {
            Condition::Absent => Wanted::Nothing,
            Condition::Present => Wanted::Anything,
            Condition::Equals(value) => Wanted::Value(value.into()),
            Condition::Unchanged(snapshot) => match snapshot.get(self, key)? {
                Some(value) => Wanted::Value(value.into_vec().into()),
                None => Wanted::Nothing,
            },
        };
        self.shared().check_exists()?;
        // Also brings the leaf into memory, before anybody has to wait for it.
        let mut seen = tree.value_reader(key, At::Latest)?;
        let seen_holds = wanted.is(seen.as_mut())?;
        let mut payload = Vec::with_capacity(256);
        entry::begin_commit(&mut payload);
        operation.encode(&mut payload);
        let mut refused = None;
        let core = self.core();
        let begun = core.begin_commit_if(
            &mut payload,
            std::slice::from_ref(self.shared()),
            durability,
            |sequencer| {
                let mut found = tree.value_reader(key, At::Applied)?;
                let holds = match (&seen, &found) {
                    (Some(seen), Some(found)) if seen.is_same(found) => seen_holds,
                    _ => wanted.is(found.as_mut())?,
                };
                if holds {
                    return Ok(());
                }
                refused = Some(found);
                let lsn = core.newest_change(sequencer, self, key);
                Err(Conflict { keyspace: self.name().to_owned(), changed: Changed::Key(key.to_vec()), lsn }
                    .into())
            },
        );
        match (begun, refused) {
            (Ok((lsn, write)), _) => core.finish_commit(lsn, &write).map(Conditional::Done),
            (Err(refusal), Some(found)) => {
                if !planted(Bug::AnswerBeforeVisible) {
                    core.wait_visible(refusal.at)?;
                }
                Ok(Conditional::Refused(found.map(ValueReader::into_value).transpose()?))
            }
            (Err(refusal), None) => Err(refusal.error),
        }
    }
}

/// What a condition asks for.
enum Wanted<'a> {
    Nothing,
    Anything,
    Value(Cow<'a, [u8]>),
}

impl Wanted<'_> {
    /// Whether it is what a key has. Reads a value only if it has the length that is asked for.
    fn is(&self, found: Option<&mut ValueReader>) -> Result<bool> {
        match (self, found) {
            (Self::Nothing, found) => Ok(found.is_none()),
            (Self::Anything, found) => Ok(found.is_some()),
            (Self::Value(value), Some(found)) => found.equals(value),
            (Self::Value(_), None) => Ok(false),
        }
    }
}

impl Core {
    /// The newest commit that changed a key, when it is not visible yet; else one that is.
    fn newest_change(&self, sequencer: &Sequencer, keyspace: &Keyspace, key: &[u8]) -> Lsn {
        let recent = self.transactions.recent.lock();
        let newest = recent.newest_change(keyspace.id(), key, self.visible_lsn());
        newest.unwrap_or_else(|| sequencer.applier.applied())
    }
}
