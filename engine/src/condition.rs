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
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use logwood_base::sync::Arc;
use logwood_base::{Changed, Conflict, Result};
use logwood_base::{Lsn, limits};
use logwood_btree::{At, Value, ValueReader};
use logwood_wal::Durability;

use crate::core::{Core, Sequencer};
use crate::entry::{self, Operation};
use crate::keyspace::Keyspace;
use crate::planted::{Bug, planted};
use crate::snapshot::Snapshot;
use crate::ticket::{LogWrite, Ticket};

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
        let begun =
            self.begin_if(key, &Operation::Put { keyspace: self.id(), key, value }, condition, durability)?;
        self.finish_if(begun)
    }

    /// As [`Keyspace::put_if_with`], but for the wait: answers a ticket to wait for, or to `.await`. Whether the condition holds
    /// is decided when this returns; the answer comes when what it tells of is visible. What is there instead is read before
    /// this returns.
    ///
    /// ```
    /// # use logwood::{Condition, Conditional, Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let names = db.ensure_keyspace("names")?;
    /// let ada = names.put_if_async(b"ada", b"1", Condition::Absent, Durability::Durable)?;
    /// let alan = names.put_if_async(b"alan", b"2", Condition::Absent, Durability::Durable)?;
    /// let again = names.put_if_async(b"ada", b"3", Condition::Absent, Durability::Durable)?;
    /// // One write of the log may be enough for all of them.
    /// assert!(ada.wait()?.is_done() && alan.wait()?.is_done());
    /// assert_eq!(again.wait()?, Conditional::Refused(Some(b"1"[..].into())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if`], for what is known before the write.
    pub fn put_if_async(
        &self,
        key: &[u8],
        value: &[u8],
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<ConditionalTicket> {
        limits::check("value bytes", value.len(), self.core().options.value_bytes_max)?;
        let begun =
            self.begin_if(key, &Operation::Put { keyspace: self.id(), key, value }, condition, durability)?;
        Ok(ConditionalTicket::new(self, begun))
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
        let begun =
            self.begin_if(key, &Operation::Delete { keyspace: self.id(), key }, condition, durability)?;
        self.finish_if(begun)
    }

    /// As [`Keyspace::delete_if_with`], but for the wait: see [`Keyspace::put_if_async`].
    ///
    /// ```
    /// # use logwood::{Condition, Database, Durability, Options, Result};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let locks = db.ensure_keyspace("locks")?;
    /// async fn unlock(locks: &logwood::Keyspace, job: &[u8], me: &[u8]) -> Result<bool> {
    ///     let unlocked = locks.delete_if_async(job, Condition::Equals(me), Durability::Durable)?;
    ///     Ok(unlocked.await?.is_done())
    /// }
    /// # locks.put(b"job", b"me")?;
    /// # let ticket = locks.delete_if_async(b"job", Condition::Equals(b"me"), Durability::Durable)?;
    /// # assert!(ticket.wait()?.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put_if_async`].
    pub fn delete_if_async(
        &self,
        key: &[u8],
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<ConditionalTicket> {
        let begun =
            self.begin_if(key, &Operation::Delete { keyspace: self.id(), key }, condition, durability)?;
        Ok(ConditionalTicket::new(self, begun))
    }

    /// Decides whether a condition holds, and gives the write its place if it does.
    fn begin_if(
        &self,
        key: &[u8],
        operation: &Operation<'_>,
        condition: Condition<'_>,
        durability: Durability,
    ) -> Result<Begun> {
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
            (Ok((lsn, write)), _) => Ok(Begun::Written(lsn, write)),
            (Err(refusal), Some(found)) => {
                let at = if planted(Bug::AnswerBeforeVisible) { Lsn::ZERO } else { refusal.at };
                Ok(Begun::Refused(at, found.map(ValueReader::into_value).transpose()?))
            }
            (Err(refusal), None) => Err(refusal.error),
        }
    }

    fn finish_if(&self, begun: Begun) -> Result<Conditional> {
        match begun {
            Begun::Written(lsn, write) => self.core().finish_commit(lsn, &write).map(Conditional::Done),
            Begun::Refused(at, found) => {
                self.core().wait_visible(at)?;
                Ok(Conditional::Refused(found))
            }
        }
    }
}

/// A conditional write that is decided.
enum Begun {
    /// It has its place in the log.
    Written(Lsn, LogWrite),
    /// This is there instead, since a commit that must be visible before anybody is told.
    Refused(Lsn, Option<Value>),
}

/// The promise of an answer to a conditional write; see [`Ticket`] for how it is waited for, or `.await`ed. Made by
/// [`Keyspace::put_if_async`] and [`Keyspace::delete_if_async`]. A ticket that is dropped does not take the write back.
///
/// ```
/// # use logwood::{Condition, Conditional, Database, Durability, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # let seats = db.ensure_keyspace("seats")?;
/// let ticket = seats.put_if_async(b"12A", b"ada", Condition::Absent, Durability::Durable)?;
/// if !ticket.is_done() {
///     println!("something else in the meantime");
/// }
/// let Conditional::Done(lsn) = ticket.wait()? else { panic!("it was free") };
/// assert_eq!(lsn, ticket.lsn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a write is promised only when its ticket says so"]
#[derive(Debug)]
pub struct ConditionalTicket {
    ticket: Ticket,
    /// What is there instead, when the condition did not hold.
    refused: Option<Option<Value>>,
}

impl ConditionalTicket {
    fn new(keyspace: &Keyspace, begun: Begun) -> Self {
        let core = Arc::clone(keyspace.core());
        match begun {
            Begun::Written(lsn, write) => Self { ticket: Ticket::new(core, lsn, write), refused: None },
            Begun::Refused(at, found) => Self { ticket: Ticket::visible(core, at), refused: Some(found) },
        }
    }

    /// The write's place in the log. Of one that is refused, a commit that is there to be seen when the answer comes: the
    /// newest one that changed the key, or a later one.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.ticket.lsn()
    }

    /// Whether waiting would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ticket.is_done()
    }

    /// Waits until the write is as durable as was asked for, and visible; of one that is refused, until what the answer tells of
    /// is visible. Waiting again is allowed.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn wait(&self) -> Result<Conditional> {
        self.ticket.wait().map(|lsn| self.answer(lsn))
    }

    fn answer(&self, lsn: Lsn) -> Conditional {
        self.refused.clone().map_or(Conditional::Done(lsn), Conditional::Refused)
    }
}

impl Future for ConditionalTicket {
    type Output = Result<Conditional>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Conditional>> {
        let polled = Pin::new(&mut self.ticket).poll(context);
        polled.map(|told| told.map(|lsn| self.answer(lsn)))
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
