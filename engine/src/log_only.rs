//! A replica's log without trees.
//!
//! It takes entries from elsewhere, keeps votes and membership, serves ranges of entries and lets them go by marks.
//! It holds no data that could be read, and no tree's file ever stands in its directory.

use std::path::Path;

use logwood_base::disk::{DirLock, create_dir_all};
use logwood_base::sync::Arc;
use logwood_base::{Corruption, DatabaseId, Environment, Error, GroupId, LogId, Lsn, NodeId, Result, Term};
use logwood_wal::{Append, BaseState, Expect, Group, Hold, Log, Tail, Ticket};

use crate::Options;
use crate::changes::{Changes, ChangesOptions, LogFeed, News, Oldest, whole_log};
use crate::directory::{Kind, Layout};
use crate::entry::Entry;

/// The log of a replica that has no trees.
///
/// ```
/// use logwood::entry::{Body, Entry};
/// use logwood::{Append, Durability, LogOnly, Lsn, Options, Term};
///
/// # let directory = tempfile::tempdir()?;
/// let log = LogOnly::open(directory.path(), Options::new())?;
/// let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
/// let ticket = log.append(Append {
///     term: Term(3),
///     previous: None,
///     first_lsn: Lsn(1),
///     entries: &[(Term(3), &payload)],
///     durability: Durability::Durable,
/// })?;
/// ticket.wait()?;
/// assert_eq!(log.last(), (Lsn(1), Term(3)));
/// assert_eq!(&*log.read(Lsn(1), Lsn(2), usize::MAX)?[0].payload, &payload[..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogOnly {
    layout: Layout,
    environment: Environment,
    options: Options,
    log: Log,
    group: Group,
    /// Told of what is committed, for those who follow it.
    news: Arc<News>,
    /// From where on changes can be read.
    oldest: Oldest,
    #[cfg(feature = "archive")]
    gate: std::sync::Arc<crate::archive::source::LogGate>,
    _lock: Box<dyn DirLock>,
}

#[cfg(feature = "archive")]
impl LogOnly {
    pub(crate) fn root(&self) -> &Path {
        &self.layout.root
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) const fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) const fn gate(&self) -> &std::sync::Arc<crate::archive::source::LogGate> {
        &self.gate
    }
}

/// How a log without trees is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOnlyStatistics {
    /// The database whose entries it keeps.
    pub database: DatabaseId,
    /// The log of this directory.
    pub log_id: LogId,
    /// Entries up to here are not in the log.
    pub base: Lsn,
    /// The last entry.
    pub appended: Lsn,
    /// Up to here, entries survive a power cut.
    pub durable: Lsn,
    /// Up to here, entries are decided.
    pub committed: Lsn,
    /// The log's own.
    pub log: logwood_wal::Statistics,
}

impl LogOnly {
    /// Opens the log in a directory, and creates it when there never was one: for the database of
    /// [`Options::database_id`], from entry 1 on. A replica that was made once and whose log is gone has lost its votes:
    /// nothing is made in its place. Reads and checks the whole log that is there.
    ///
    /// ```
    /// # use logwood::{LogOnly, Lsn, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// let log = LogOnly::open(directory.path(), Options::new())?;
    /// assert_eq!(log.last(), (Lsn::ZERO, Term::NONE));
    /// log.close()?;
    /// let with_trees = logwood::Database::open(directory.path(), Options::new());
    /// assert!(matches!(with_trees, Err(logwood::Error::WrongKind { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `WrongKind` when the directory holds a database; `Corruption` when its log is gone; otherwise as
    /// [`Database::open`](crate::Database::open).
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_at(path.as_ref(), options, BaseState::default())
    }

    /// As [`LogOnly::open`]; a new log begins behind `base`, which stands for all entries up to it.
    ///
    /// ```
    /// # use logwood::{BaseState, LogOnly, Lsn, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// // A replica that joins: others hold what entries 1 to 40 made.
    /// let base = BaseState { lsn: Lsn(40), term: Term(3), membership: b"three nodes".to_vec() };
    /// let log = LogOnly::open_behind(directory.path(), Options::new(), base)?;
    /// assert_eq!((log.base(), log.last()), ((Lsn(40), Term(3)), (Lsn(40), Term(3))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`LogOnly::open`].
    pub fn open_behind(path: impl AsRef<Path>, options: Options, base: BaseState) -> Result<Self> {
        Self::open_at(path.as_ref(), options, base)
    }

    fn open_at(root: &Path, options: Options, base: BaseState) -> Result<Self> {
        options.check()?;
        let environment = options.environment_or_system()?;
        let disk = &*environment.disk;
        let layout = Layout::new(root);
        if options.create {
            create_dir_all(disk, root)?;
        }
        let exists = layout.kind(disk).map(|kind| kind != Kind::Empty);
        if !options.create && !matches!(exists, Ok(true)) {
            return Err(Error::NotFound { what: "log", name: root.display().to_string() });
        }
        let lock = disk.lock(root)?;
        layout.check(layout.kind(disk)?, Kind::LogOnly)?;
        let (log, group) = open_log(&environment, &layout, &options, base)?;
        #[cfg(feature = "archive")]
        let gate = std::sync::Arc::default();
        let news = Arc::new(News::new(group.committed_lsn()));
        Ok(Self {
            layout,
            environment,
            options,
            log,
            group,
            news,
            oldest: Oldest::default(),
            #[cfg(feature = "archive")]
            gate,
            _lock: lock,
        })
    }

    /// Takes entries in, as a leader sent them: everything at or behind `first_lsn` is replaced. The payloads must be
    /// entries of this format version; what they do is not looked at. They are decoded and copied here; waiting for the ticket
    /// costs one durable write, shared with all threads that wait at the same time.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// let append = Append { term, previous: None, first_lsn, entries: &entries, durability };
    /// log.append(append)?.wait()?; // and then it is acknowledged to the leader
    /// assert_eq!(log.last(), (Lsn(2), Term(1)));
    /// let other = Append { previous: Some((Lsn(2), Term(9))), first_lsn: Lsn(3), ..append };
    /// assert!(log.append(other).is_err(), "the leader means another history");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a gap, a term that goes back, an entry that is committed already, or another entry
    /// before the first than the sender says; `UnsupportedFormat` for entries of a newer version; `LimitExceeded`,
    /// `DiskFull`, `ArchiveBehind`: nothing was changed. `Poisoned` after a failed write.
    pub fn append(&self, append: Append<'_>) -> Result<Ticket> {
        for (at, (_, payload)) in append.entries.iter().enumerate() {
            logwood_base::limits::check("entry bytes", payload.len(), self.options.payload_bytes_max())?;
            let lsn = Lsn(append.first_lsn.get().saturating_add(at as u64));
            Entry::decode(payload).map_err(|error| match error.at(&self.layout.log(), lsn) {
                Error::Corruption(corruption) => {
                    Error::InvalidArgument(format!("entry {lsn} does not decode: {}", corruption.expected))
                }
                newer => newer,
            })?;
        }
        #[cfg(feature = "archive")]
        self.gate.admit(&append)?;
        self.group.append(append)
    }

    /// Entries from `from` up to, and without, `to`: at least one if there is any, at most `bytes_max` bytes. The newest, up
    /// to [`Options::log_recent_bytes_max`] of them, come from memory; others from their segment, up to about 64 KiB of it for each
    /// call.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// let entries = log.read(Lsn(1), Lsn(3), 1 << 20)?;
    /// assert_eq!(entries.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when they were let go; `Corruption`; `Io`.
    pub fn read(&self, from: Lsn, to: Lsn, bytes_max: usize) -> Result<Vec<logwood_wal::Entry>> {
        self.group.read(from, to, bytes_max)
    }

    /// Follows the log from an entry on, waiting for new ones: decided or not, durable or not. Nothing is read yet.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// let mut tail = log.tail(Lsn(1));
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// let entries = tail.next(std::time::Duration::ZERO)?.expect("they were appended");
    /// assert_eq!(entries.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tail(&self, from: Lsn) -> Tail {
        self.group.tail(from)
    }

    /// The last entry and its term. Costs a lock for an instant, as every look at what the log keeps in memory does.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// assert_eq!(log.last(), (Lsn(2), Term(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn last(&self) -> (Lsn, Term) {
        self.group.last()
    }

    /// The term of an entry. Costs a search in memory.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// assert_eq!(log.term_of(Lsn(2))?, Term(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld`, `NotFound`.
    pub fn term_of(&self, lsn: Lsn) -> Result<Term> {
        self.group.term_of(lsn)
    }

    /// Which entries are not in the log: those up to here. Costs what [`LogOnly::last`] costs.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// assert_eq!(log.base(), (Lsn::ZERO, Term::NONE), "it holds all entries from 1 on");
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_base(Lsn(2), Term(1), b"three nodes")?;
    /// assert_eq!(log.base(), (Lsn(2), Term(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn base(&self) -> (Lsn, Term) {
        self.group.base()
    }

    /// Moves the base, as a snapshot at `lsn` asks; durable when this returns. Costs one durable write; the space comes back in
    /// the background.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// // A snapshot at 2 came from elsewhere: entries up to there are not needed.
    /// log.set_base(Lsn(2), Term(1), b"three nodes")?;
    /// assert_eq!(log.base(), (Lsn(2), Term(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned`, `InvalidArgument`.
    pub fn set_base(&self, lsn: Lsn, term: Term, membership: &[u8]) -> Result<()> {
        self.group.set_base(lsn, term, membership)
    }

    /// The newest term seen and who got the vote in it. Costs what [`LogOnly::last`] costs.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// assert_eq!(log.vote(), (Term::NONE, NodeId::NOBODY));
    /// log.set_vote(Term(2), NodeId(3))?;
    /// assert_eq!(log.vote(), (Term(2), NodeId(3)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn vote(&self) -> (Term, NodeId) {
        self.group.vote()
    }

    /// Keeps a vote; when this returns it stands in two blocks and was read back from the device. Costs a durable write and two
    /// reads.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_vote(Term(2), NodeId(3))?;
    /// assert_eq!(log.vote(), (Term(2), NodeId(3)));
    /// assert!(log.set_vote(Term(2), NodeId(4)).is_err(), "one vote in a term");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a term that goes back; `AlreadyExists` for another vote than was given, or asked to be kept,
    /// in this term; `DiskFull`, `Poisoned`.
    pub fn set_vote(&self, term: Term, node: NodeId) -> Result<()> {
        self.group.set_vote(term, node)
    }

    /// Who belongs to the group, and since which entry. Costs what [`LogOnly::last`] costs, and a copy.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_membership(Lsn(2), b"three nodes")?;
    /// assert_eq!(log.membership(), (Lsn(2), b"three nodes".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn membership(&self) -> (Lsn, Vec<u8>) {
        self.group.membership()
    }

    /// Keeps who belongs to the group; durable when this returns. Costs what [`LogOnly::set_vote`] costs.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_membership(Lsn(1), b"three nodes")?;
    /// assert_eq!(log.membership(), (Lsn(1), b"three nodes".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned`, `LimitExceeded`.
    pub fn set_membership(&self, lsn: Lsn, membership: &[u8]) -> Result<()> {
        self.group.set_membership(lsn, membership)
    }

    /// Remembers up to where entries are decided; rides on the next write, and costs none. Whoever follows [`LogOnly::changes`]
    /// is told.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_committed(Lsn(1));
    /// assert_eq!(log.statistics().committed, Lsn(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_committed(&self, lsn: Lsn) {
        self.group.set_committed(lsn);
        self.news.published(self.group.committed_lsn());
    }

    /// Follows the commits from `from` on, in order, as far as they are decided ([`LogOnly::set_committed`]): what a
    /// replica with trees would have applied, whole, without one. `from` is at most one beyond the last entry; a commit that
    /// is not decided yet is waited for.
    ///
    /// Reads the log once from its first entry up to `from`, for the large transactions that are open there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use logwood::entry::{Body, Entry};
    /// use logwood::{Append, Change, ChangesOptions, Durability, KeyspaceId, LogOnly, Lsn, Options, Term};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let log = LogOnly::open(directory.path(), Options::new())?;
    /// let mut changes = log.changes(Lsn(1), &ChangesOptions::new().name("index"))?;
    /// let body = Body::CreateKeyspace { id: KeyspaceId(1), name: "orders" };
    /// let payload = Entry { time_ms: 1, request: None, body }.encode();
    /// let entries = [(Term(1), &payload[..])];
    /// let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// assert!(changes.next(Duration::ZERO)?.is_none(), "a quorum may still decide otherwise");
    ///
    /// log.set_committed(Lsn(1));
    /// let mut set = changes.next(Duration::ZERO)?.expect("it is decided");
    /// assert!(matches!(set.next()?, Some(Change::CreateKeyspace { name: "orders", .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::changes_with`](crate::Database::changes_with).
    pub fn changes(&self, from: Lsn, options: &ChangesOptions) -> Result<Changes> {
        let feed = LogFeed {
            environment: self.environment.clone(),
            log: self.log.clone(),
            group: self.group.clone(),
            news: Arc::clone(&self.news),
        };
        Changes::of_log(feed, &self.layout.log(), from, &self.oldest, options)
    }

    /// The oldest LSN that [`LogOnly::changes`] can begin at. Reads the log once for each time that it has let go
    /// of entries, and then what is new in it: a large transaction of which the first part is gone may end anywhere. One that
    /// ends later is met, and is `TooOld`, by whoever follows: see [`LogOnly::release`].
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # use logwood::ChangesOptions;
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// assert_eq!(log.oldest_change_lsn()?, Lsn(1));
    /// log.set_base(Lsn(2), Term(1), b"three nodes")?;
    /// assert_eq!(log.oldest_change_lsn()?, Lsn(3));
    /// assert!(log.changes(Lsn(2), &ChangesOptions::new()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::oldest_change_lsn`](crate::Database::oldest_change_lsn).
    pub fn oldest_change_lsn(&self) -> Result<Lsn> {
        self.oldest.of(&self.group, &self.layout.log(), &whole_log)
    }

    /// Lets entries up to `lsn` go, as far as no holder needs them. Costs no write here: the space comes back in the background,
    /// a segment at a time. Where changes are followed, do not release the first part of a large transaction that has not ended:
    /// whoever begins behind it cannot read it.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_committed(Lsn(2));
    /// log.release(Lsn(2)); // every replica with trees has a checkpoint that holds them
    /// assert_eq!(log.last(), (Lsn(2), Term(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&self, lsn: Lsn) {
        self.group.release(lsn);
    }

    /// Keeps entries from `from` on for somebody, who is named in statistics. Costs a lock for an instant, and the room of what is
    /// kept.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path(), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// let hold = log.hold("the slow replica", Lsn(1))?;
    /// log.set_committed(Lsn(2));
    /// log.release(Lsn(2));
    /// assert_eq!(log.read(Lsn(1), Lsn(2), 1 << 20)?.len(), 1, "it is held");
    /// # drop(hold);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when they are gone; `Poisoned`.
    pub fn hold(&self, name: &str, from: Lsn) -> Result<Hold> {
        self.group.hold(name, from)
    }

    /// Refuses: a log without trees has no data to read.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// assert!(matches!(log.get("users", b"ada"), Err(logwood::Error::WrongKind { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Always `WrongKind`.
    pub fn get(&self, _keyspace: &str, _key: &[u8]) -> Result<std::convert::Infallible> {
        let path = self.layout.root.clone();
        Err(Error::WrongKind { path, holds: Kind::LogOnly.words(), wanted: Kind::Database.words() })
    }

    /// How it is doing. Reads no file.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// let statistics = log.statistics();
    /// assert_eq!((statistics.appended, statistics.durable, statistics.committed), (Lsn(2), Lsn(2), Lsn::ZERO));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> LogOnlyStatistics {
        let base = self.group.base().0;
        let durable = self.group.durable_lsn();
        LogOnlyStatistics {
            database: self.log.database(),
            log_id: self.log.id(),
            base,
            durable,
            committed: self.group.committed_lsn(),
            appended: self.group.appended_lsn(),
            log: self.log.statistics(),
        }
    }

    /// The disk, clock and background work that it uses.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// println!("{}", log.environment().disk.describe().durable_write);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Makes everything durable and frees the directory. Costs a sync and a last durable write.
    ///
    /// ```
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.close()?;
    /// let again = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// assert_eq!(again.last(), (Lsn(2), Term(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` when a write failed.
    pub fn close(self) -> Result<()> {
        self.news.end();
        self.log.close()
    }
}

impl Drop for LogOnly {
    fn drop(&mut self) {
        // Nobody is left who could say what is committed.
        self.news.end();
    }
}

/// The log of a directory with its group; made, or made to the end, where no replica was ever made.
fn open_log(
    environment: &Environment,
    layout: &Layout,
    options: &Options,
    base: BaseState,
) -> Result<(Log, Group)> {
    let disk = &*environment.disk;
    let folder = layout.log();
    let is_replica = layout.is_replica(disk)?;
    let expect = Expect { database: options.database_id, ..Expect::default() };
    let log = match Log::open(environment, &folder, expect, options.log_options(), &mut |_| {}) {
        Ok((log, _)) => log,
        Err(Error::NotFound { .. }) if options.create && !is_replica => {
            disk.create_dir(&folder)?;
            disk.sync_dir(&layout.root)?;
            let database = options.database_id.unwrap_or_else(|| DatabaseId::random(&*environment.random));
            Log::create(environment, &folder, database, options.log_options())?
        }
        Err(error) => return Err(layout.missed_replica(disk, error)),
    };
    let group = match log.group(GroupId::LOCAL) {
        Some(group) => group,
        None if is_replica => {
            return Err(Corruption::new(&folder, 0, "groups of the log", "group 1", "none").into());
        }
        // The process ended between the log's creation and its group's.
        None => log.create_group(GroupId::LOCAL, base)?,
    };
    if !is_replica {
        layout.mark_replica(disk)?;
    }
    Ok((log, group))
}
