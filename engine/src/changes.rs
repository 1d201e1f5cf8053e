//! Following the commits of a database, in order.
//!
//! The log is the change stream: an entry that is visible is never taken back, so a reader that remembers the LSN of the
//! last commit it has dealt with goes on exactly behind it, in this process or in a later one.
//!
//! 1. Nothing is handed out that readers do not see. What was committed as buffered may be handed out and be taken back by a
//!    power cut, as its writer was told; [`ChangesOptions::durable_only`] waits for it.
//! 2. No commit is passed over, nor the rest of one that could not be read to its end. What was let go is `TooOld`, for
//!    good.
//! 3. A large transaction is handed out at the LSN of its commit, as a stream of changes that reads its fragments from the
//!    log again: memory is bounded by one operation, however large the transaction is.
//!
//! # What the log keeps for a reader
//! A reader that holds is a holder in the log, by its name: entries from its position on stay, and the fragments of
//! transactions that were open there. When it keeps more than [`ChangesOptions::log_bytes_max`], it loses its hold, and
//! its next call answers `TooOld`; what others keep before its position is not counted. Who is furthest behind stands in
//! [`Statistics::log`](crate::Statistics::log)`.laggard`.
//!
//! A hold lives as long as its reader. What it covers is in the log still after a restart, until the first checkpoint
//! lets go of what nobody holds by then: a reader whose name the database was opened with
//! ([`Options::follower`](crate::Options::follower)) finds it whenever it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{KeyspaceId, Lsn, Result};
use logwood_wal::Group;

use crate::core::{Core, Handle};
use crate::directory::Layout;
use crate::entry::Operation;
use crate::planted::{Bug, planted};
pub use change_set::ChangeSet;
use feed::Feed;
pub(crate) use feed::LogFeed;
pub(crate) use followers::Followers;
pub(crate) use news::News;
pub(crate) use oldest::Oldest;
use reader::{Beginning, Reader};

mod change_set;
mod feed;
mod followers;
mod news;
mod oldest;
pub(crate) mod reader;

/// How changes are followed. Built by its setters, which can be chained.
///
/// ```
/// use logwood::ChangesOptions;
/// let options = ChangesOptions::new()
///     .name("search index")
///     .durable_only(true)
///     .hold_until_released(true)
///     .log_bytes_max(4 << 30);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ChangesOptions {
    pub(crate) name: String,
    pub(crate) hold: bool,
    pub(crate) until_released: bool,
    pub(crate) durable_only: bool,
    pub(crate) log_bytes_max: u64,
}

impl Default for ChangesOptions {
    fn default() -> Self {
        Self {
            name: "changes".to_owned(),
            hold: true,
            until_released: false,
            durable_only: false,
            log_bytes_max: 32 << 30,
        }
    }
}

impl ChangesOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the reader is called in statistics. Default: `changes`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Whether the log keeps what the reader has not read yet. Default: true. Without, a reader that falls behind what the
    /// log lets go of gets `TooOld`.
    #[must_use]
    pub fn hold(mut self, hold: bool) -> Self {
        self.hold = hold;
        self
    }

    /// Whether the log keeps commits until [`Changes::release`] says that they are not needed, not even after a crash.
    /// Default: false; then a commit is let go when the next one is asked for. Name the follower in
    /// [`Options::follower`](crate::Options::follower) too: else the first checkpoint after a restart may come before its
    /// reader, and let go of what nobody holds then.
    #[must_use]
    pub fn hold_until_released(mut self, until_released: bool) -> Self {
        self.until_released = until_released;
        self
    }

    /// Whether only what survives a power cut is handed out, buffered commits too: the reader syncs the log when they are
    /// not durable yet. Default: false. What is kept outside of the database needs it where buffered commits are made:
    /// after a power cut took some of them, their LSNs belong to other commits.
    #[must_use]
    pub fn durable_only(mut self, durable_only: bool) -> Self {
        self.durable_only = durable_only;
        self
    }

    /// Most bytes of log, counted in whole segments, that are kept for the reader. Beyond, it loses its hold, unless somebody
    /// else keeps the same commits or earlier ones, without a bound or within one: then when that one goes on. 0 is no
    /// bound but [`Options::log_bytes_max`](crate::Options::log_bytes_max). Default: 32 GiB, twice what a bulk write out of
    /// order takes at most by default: all of it is kept for the reader until it ends.
    #[must_use]
    pub fn log_bytes_max(mut self, bytes: u64) -> Self {
        self.log_bytes_max = bytes;
        self
    }
}

/// What a commit did to one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// A key has this value from now on.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A key has no value from now on. It may not have had one before.
    Delete {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
    },
    /// No key of a range has a value from now on. It ends nowhere before it begins.
    DeleteRange {
        /// Where.
        keyspace: KeyspaceId,
        /// The first key.
        from: &'a [u8],
        /// The key behind the last one; `None`: to the end.
        to: Option<&'a [u8]>,
    },
    /// There is a new, empty keyspace.
    CreateKeyspace {
        /// Its number, never used before.
        keyspace: KeyspaceId,
        /// Its name.
        name: &'a str,
    },
    /// A keyspace is gone, with all it held.
    DropKeyspace {
        /// Its number.
        keyspace: KeyspaceId,
    },
}

impl<'a> From<Operation<'a>> for Change<'a> {
    fn from(operation: Operation<'a>) -> Self {
        match operation {
            Operation::Put { keyspace, key, value } => Self::Put { keyspace, key, value },
            Operation::Delete { keyspace, key } => Self::Delete { keyspace, key },
            // Nobody commits one that is upside down; whoever writes entries himself may have.
            Operation::DeleteRange { keyspace, from, to } => {
                Self::DeleteRange { keyspace, from, to: to.map(|to| to.max(from)) }
            }
        }
    }
}

/// The commits of a database from an LSN on, in order. Made by [`Database::changes`](crate::Database::changes)
/// and [`LogOnly::changes`](crate::LogOnly::changes).
///
/// ```
/// use std::time::Duration;
/// use logwood::{Change, Database, Lsn, Options};
///
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let ks = db.ensure_keyspace("accounts")?;
/// ks.put(b"ada", b"10")?;
///
/// let mut changes = db.changes(Lsn(1))?;
/// let mut puts = 0;
/// while let Some(mut set) = changes.next(Duration::ZERO)? {
///     while let Some(change) = set.next()? {
///         match change {
///             Change::Put { keyspace, key, value } => {
///                 assert_eq!((keyspace, key, value), (ks.id(), &b"ada"[..], &b"10"[..]));
///                 puts += 1;
///             }
///             Change::CreateKeyspace { name, .. } => assert_eq!(name, "accounts"),
///             other => panic!("{other:?}"),
///         }
///     }
/// }
/// assert_eq!(puts, 1);
/// assert_eq!(changes.position(), db.visible_lsn().next(), "where to go on");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Changes {
    feed: Arc<dyn Feed>,
    reader: Reader,
    /// Its number among those who wait for news.
    waiter: u64,
    durable_only: bool,
    /// Where its hold goes when it is dropped, and under which name.
    place: Option<(Arc<Handle>, String)>,
}

impl Changes {
    pub(crate) fn new(core: Arc<Handle>, from: Lsn, options: &ChangesOptions) -> Result<Self> {
        let beginning = {
            let sequencer = core.sequencer.lock();
            sequencer.check_open()?;
            let fragments = &sequencer.applier.fragments;
            let (open, ended) = (fragments.open().collect(), fragments.ended_from(from).collect());
            Beginning { from, last: sequencer.applier.applied(), open, ended }
        };
        let log = Layout::new(&core.path).log();
        let whole: (_, &dyn Fn(&Group) -> Lsn) = (&core.oldest, &|_| core.whole_from());
        let reader = Reader::new(core.group.clone(), &log, beginning, whole, options)?;
        let mut changes = Self::over(Arc::clone(&core) as Arc<dyn Feed>, reader, options);
        if options.hold {
            core.followers.came(&options.name);
            changes.place = Some((core, options.name.clone()));
        }
        Ok(changes)
    }

    /// The commits of a log whose owner says what is committed. It is read once from its first entry up to `from`, for
    /// the transactions that are open there.
    pub(crate) fn of_log(
        feed: LogFeed,
        log: &Path,
        from: Lsn,
        oldest: &Oldest,
        options: &ChangesOptions,
    ) -> Result<Self> {
        feed.check()?;
        let from = from.max(Lsn::FIRST);
        // Whatever is found out below stays true until the reader has a hold of its own.
        let _all = reader::hold_all(&feed.group, &options.name, 0)?;
        let open = if from <= feed.group.last().0.next() {
            reader::open_before(&feed.group, log, from)?
        } else {
            BTreeSet::new()
        };
        // What ends behind `from` is met, and what began before it is open there.
        let beginning = Beginning { from, last: feed.group.last().0, open, ended: BTreeMap::new() };
        let whole: (_, &dyn Fn(&Group) -> Lsn) = (oldest, &whole_log);
        let reader = Reader::new(feed.group.clone(), log, beginning, whole, options)?;
        Ok(Self::over(Arc::new(feed), reader, options))
    }

    fn over(feed: Arc<dyn Feed>, reader: Reader, options: &ChangesOptions) -> Self {
        let waiter = feed.news().join();
        Self { feed, reader, waiter, durable_only: options.durable_only, place: None }
    }

    /// The next commit; `None` when there is none within `timeout`. One of an empty batch has no changes. With a timeout of zero it
    /// never waits, but for the disk: when it reads entries that are not in memory any more, and with
    /// [`ChangesOptions::durable_only`] when it syncs what was committed as buffered. What was not read of the commit
    /// before is passed over.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use std::time::Duration;
    ///
    /// let mut changes = db.changes(db.visible_lsn().next())?;
    /// assert!(changes.next(Duration::ZERO)?.is_none());
    /// let lsn = ks.put(b"a", b"1")?;
    /// let mut keys = Vec::new();
    /// while let Some(mut commit) = changes.next(Duration::ZERO)? {
    ///     while let Some(change) = commit.next()? {
    ///         if let logwood::Change::Put { key, .. } = change {
    ///             keys.push(key.to_vec());
    ///         }
    ///     }
    /// }
    /// assert_eq!((keys, changes.position()), (vec![b"a".to_vec()], lsn.next()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when the log let go of what comes next: build anew from a snapshot, and go on behind it. `Closed`;
    /// `Poisoned` at the end of what is visible; `Corruption`, `Io` from the log. `TooOld` and `Corruption` stay. After a
    /// [`ChangeSet::next`] that failed with `Io` the same commit is handed out once more, from its first change on; after
    /// one that failed otherwise, its error is answered here as well, and stays.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<ChangeSet<'_>>> {
        let deadline = self.feed.monotonic().saturating_add(timeout);
        loop {
            if self.reader.advance(self.bound()?)? {
                return self.reader.current().map(Some);
            }
            self.feed.check()?;
            let left = deadline.saturating_sub(self.feed.monotonic());
            if left.is_zero() {
                return Ok(None);
            }
            self.feed.settle()?;
            self.feed.news().wait(self.reader.position(), left);
        }
    }

    /// How far it may read.
    fn bound(&self) -> Result<Lsn> {
        if planted(Bug::ChangesBeforeVisible) {
            return Ok(self.reader.appended());
        }
        let decided = self.feed.decided();
        if self.durable_only && self.reader.position() <= decided { self.feed.durable() } else { Ok(decided) }
    }

    /// Waits, in any executor, until [`Changes::next`] with a timeout of zero has something to look at. It may still
    /// answer `None`: not every entry of the log changes something.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use logwood::{Changes, Result};
    /// async fn follow(mut changes: Changes) -> Result<()> {
    ///     loop {
    ///         changes.ready().await?;
    ///         while let Some(mut set) = changes.next(Duration::ZERO)? {
    ///             while let Some(change) = set.next()? {
    ///                 println!("{change:?}");
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// `Closed`, `Poisoned`.
    pub fn ready(&mut self) -> Ready<'_> {
        Ready { changes: self }
    }

    /// The LSN of the first entry that was not handed out yet, or of the commit whose changes could not be read to their
    /// end: where to go on later.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut changes = db.changes(db.visible_lsn().next())?;
    /// let lsn = ks.put(b"a", b"1")?;
    /// assert_eq!(changes.position(), lsn);
    /// assert!(changes.next(std::time::Duration::ZERO)?.is_some());
    /// assert_eq!(changes.position(), lsn.next(), "where a later reader goes on");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// Commits up to `lsn` are not needed any more, not even after a crash. What was not handed out yet stays, however great
    /// `lsn` is. Only with [`ChangesOptions::hold_until_released`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use logwood::{ChangesOptions, Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("orders")?.put(b"1", b"ten apples")?;
    /// let options = ChangesOptions::new().name("mirror").hold_until_released(true).durable_only(true);
    /// let mut changes = db.changes_with(db.oldest_change_lsn()?, &options)?;
    /// while let Some(mut set) = changes.next(Duration::ZERO)? {
    ///     let (lsn, _time) = (set.lsn(), set.time_ms());
    ///     while let Some(_change) = set.next()? {
    ///         // Goes into the mirror, which keeps `lsn` beside it, and is made durable there …
    ///     }
    ///     // … and only then:
    ///     changes.release(lsn);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, lsn: Lsn) {
        self.reader.release(lsn);
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.feed.news().leave(self.waiter);
        if let (Some((core, name)), Some(hold)) = (self.place.take(), self.reader.take_hold()) {
            core.followers.left(&name, hold);
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// Waits for news. Made by [`Changes::ready`].
#[must_use = "nothing is waited for unless it is polled"]
#[derive(Debug)]
pub struct Ready<'a> {
    changes: &'a mut Changes,
}

impl Future for Ready<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Changes { feed, reader, waiter, .. } = &mut *self.get_mut().changes;
        if feed.decided() >= reader.position() || reader.is_lost() {
            return Poll::Ready(Ok(()));
        }
        if feed.news().register(*waiter, reader.position(), context.waker()) {
            return Poll::Ready(feed.check());
        }
        Poll::Pending
    }
}

impl Core {
    /// The oldest LSN that changes can be read from.
    pub(crate) fn oldest_change_lsn(&self) -> Result<Lsn> {
        self.oldest.of(&self.group, &Layout::new(&self.path).log(), &|_| self.whole_from())
    }

    /// A place that the log does not let go beyond, unless a later checkpoint allows it, and that no transaction reaches over
    /// which has ended. The log of a copy may begin inside of one: such a place is behind its end.
    fn whole_from(&self) -> Lsn {
        let needed = self.forest.store().replay_from();
        let first = self.group.first_lsn();
        let fragments = &mut self.sequencer.lock().applier.fragments;
        let torn = fragments.end_of_those_before(first);
        let whole = fragments.whole_from(needed).max(torn);
        // What ended before is not known here, but by looking.
        whole.max(fragments.finished_from())
    }
}

/// Of a log whose owner lets go of it as he likes, all that is decided must be looked through.
pub(crate) fn whole_log(group: &Group) -> Lsn {
    group.committed_lsn().next()
}
