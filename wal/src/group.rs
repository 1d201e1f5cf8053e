//! One group of the log: its public face.

use std::fmt;

use logwood_base::sync::Arc;
use logwood_base::{Error, GroupId, Lsn, NodeId, Result, Term};

use crate::append::Mover;
use crate::format::batch::{ENTRY_FIXED_BYTES, FIXED_BYTES};
use crate::options::{Append, Entry};
use crate::reader::Cursor;
use crate::retention::Hold;
use crate::shared::Open;
use crate::tail::Tail;
use crate::ticket::Ticket;

/// A group's entries, vote and membership in an open log. Cheap to clone.
///
/// Where a group stands:
///
/// ```
/// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
/// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
/// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
/// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
/// # let group = log.create_group(GroupId(1), BaseState::default())?;
/// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
/// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
/// # };
/// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
/// assert_eq!((group.id(), group.base()), (GroupId(1), (Lsn::ZERO, Term::NONE)));
/// assert_eq!((group.first_lsn(), group.last()), (Lsn(1), (Lsn(2), Term(2))));
/// assert_eq!((group.appended_lsn(), group.durable_lsn()), (Lsn(2), Lsn(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Group {
    shared: Arc<Open>,
    id: GroupId,
}

impl Group {
    pub(crate) fn new(shared: Arc<Open>, id: GroupId) -> Self {
        Self { shared, id }
    }

    /// The group's number.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Takes entries into the next batch and returns at once. They can be read from here on; everything the group
    /// had at or after `first_lsn` is replaced.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// let first: [(Term, &[u8]); 2] = [(Term(1), b"set x 1"), (Term(1), b"set y 2")];
    /// let durability = Durability::Durable;
    /// let append = Append { term: Term(1), previous: None, first_lsn: Lsn(1), entries: &first, durability };
    /// group.append(append)?.wait()?;
    /// // The leader of term 2 never saw the second entry, and replaces it.
    /// let second: [(Term, &[u8]); 1] = [(Term(2), b"set y 3")];
    /// let previous = Some((Lsn(1), Term(1)));
    /// let append = Append { term: Term(2), previous, first_lsn: Lsn(2), entries: &second, durability };
    /// group.append(append)?.wait()?;
    /// assert_eq!(group.last(), (Lsn(2), Term(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a gap, a term that goes back, or entries that would replace committed ones;
    /// `LimitExceeded`; `DiskFull` when no room can be prepared. Nothing is numbered then. `Poisoned`, `Closed`.
    pub fn append(&self, append: Append<'_>) -> Result<Ticket> {
        let sequence = self.shared.append(self.id, &append)?;
        let last = Lsn(append.first_lsn.0 + append.entries.len() as u64 - 1);
        Ok(Ticket::new(Arc::clone(&self.shared), sequence, last))
    }

    /// Sees to it that the next append of `bytes` of payloads finds room, unless others come before it, or [`Log::compact`](crate::Log::compact) gives it back.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// group.make_room(1 << 10)?; // a full disk is told here, before anything is decided
    /// append(Lsn(1), &[(Term(2), &[0; 1 << 10])], Durability::Durable)?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `DiskFull` when no room can be prepared; `Io`, `Poisoned`, `Closed`.
    pub fn make_room(&self, bytes: usize) -> Result<()> {
        self.shared.reserve(bytes + ENTRY_FIXED_BYTES + FIXED_BYTES).map(drop)
    }

    /// Remembers that entries up to `lsn` are committed. It rides on the next batch.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(1), b"set y 2")], Durability::Durable)?.wait()?;
    /// group.set_committed(Lsn(1));
    /// assert_eq!(group.committed_lsn(), Lsn(1));
    /// assert!(append(Lsn(1), &[(Term(2), b"set x 3")], Durability::Durable).is_err(), "it is committed");
    /// append(Lsn(2), &[(Term(2), b"set y 3")], Durability::Durable)?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_committed(&self, lsn: Lsn) {
        if let Some(group) = self.shared.state.lock().groups.get_mut(&self.id) {
            group.log.set_committed(lsn);
        }
    }

    /// Records term and vote, durably, in two places, read back from the device. A node gives one vote in a term: the
    /// same one may be recorded again, and one may be given in a term that was recorded without a vote (node 0), but none
    /// is ever changed or taken back.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// group.set_vote(Term(1), NodeId(2))?; // and then the candidate is answered
    /// assert_eq!(group.vote(), (Term(1), NodeId(2)));
    /// assert!(group.set_vote(Term(1), NodeId(3)).is_err(), "one vote in a term");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when the term goes back; `AlreadyExists` when another vote was given, or asked to be recorded,
    /// in this term, and then nothing is changed; `DiskFull`; `Corruption` when what is read back is not what was
    /// written, which stops the log; `Poisoned`, `Closed`.
    pub fn set_vote(&self, term: Term, vote: NodeId) -> Result<()> {
        self.shared.write_state(self.id, Some((term, vote)), None)
    }

    /// Records the membership set by the entry at `lsn`, as [`Group::set_vote`] does.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"add member 4")], Durability::Durable)?.wait()?;
    /// group.set_membership(Lsn(1), b"members 1, 2, 3, 4")?;
    /// assert_eq!(group.membership(), (Lsn(1), b"members 1, 2, 3, 4".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Group::set_vote`]; `LimitExceeded` beyond 1024 bytes.
    pub fn set_membership(&self, lsn: Lsn, membership: &[u8]) -> Result<()> {
        self.shared.write_state(self.id, None, Some((lsn, membership)))
    }

    /// Moves the base to `lsn`: entries up to there may go. When the log did not hold `lsn` in `term`, as before a
    /// jump to a snapshot, all entries go. Durable on return.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1")], Durability::Durable)?.wait()?;
    /// // The leader sent a snapshot of entry 40, and it is installed.
    /// group.set_base(Lsn(40), Term(2), b"members 1, 2, 3")?;
    /// assert_eq!((group.base(), group.last()), ((Lsn(40), Term(2)), (Lsn(40), Term(2))));
    /// append(Lsn(41), &[(Term(2), b"set x 2")], Durability::Durable)?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when the base would go back or contradict what is committed; `DiskFull`, where
    /// [`Group::release`] lets go without asking for room; `Poisoned`, `Closed`.
    pub fn set_base(&self, lsn: Lsn, term: Term, membership: &[u8]) -> Result<()> {
        self.shared.write_base(self.id, lsn, term, (lsn, membership.to_vec()), Mover::Owner)?;
        self.shared.wake_keeper();
        Ok(())
    }

    /// The greatest term known and the vote given in it.
    #[must_use]
    pub fn vote(&self) -> (Term, NodeId) {
        self.look(|record| record.log.record.vote)
    }

    /// The newest membership and the entry that set it.
    #[must_use]
    pub fn membership(&self) -> (Lsn, Vec<u8>) {
        self.look(|group| group.log.record.membership.clone())
    }

    /// The entry up to which entries may be gone, and its term.
    #[must_use]
    pub fn base(&self) -> (Lsn, Term) {
        self.look(|group| group.log.record.base)
    }

    /// The last entry and its term; the base when there is none.
    #[must_use]
    pub fn last(&self) -> (Lsn, Term) {
        self.look(|group| group.log.record.last)
    }

    /// The oldest entry that can be read, if there is any.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.base().0.next()
    }

    /// The greatest entry known to be committed.
    #[must_use]
    pub fn committed_lsn(&self) -> Lsn {
        self.look(|group| group.log.record.committed)
    }

    /// The last entry appended; readable, perhaps not written yet.
    #[must_use]
    pub fn appended_lsn(&self) -> Lsn {
        self.last().0
    }

    /// The last entry that survives a power cut. While a jump to a snapshot is being written, it is below it.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.look(|group| group.durable)
    }

    /// The term of an entry, the base included.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
    /// assert_eq!(group.term_of(Lsn(1))?, Term(1));
    /// assert!(group.term_of(Lsn(3)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` before the base, `NotFound` beyond the last entry.
    pub fn term_of(&self, lsn: Lsn) -> Result<Term> {
        let state = self.shared.state.lock();
        let log = &state.group(self.id)?.log;
        match log.term_of(lsn) {
            Some(term) => Ok(term),
            None if lsn < log.record.base.0 => {
                Err(Error::TooOld { what: "entry", asked: lsn, oldest: log.record.base.0.next() })
            }
            None => Err(Error::NotFound { what: "entry", name: lsn.to_string() }),
        }
    }

    /// Entries in `from..to`: at least one if there is any, else no more than `bytes_max` bytes of payload; perhaps
    /// fewer than there are. Empty at the end.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
    /// let entries = group.read(Lsn(2), Lsn::MAX, 1 << 20)?;
    /// assert_eq!((entries[0].term, &entries[0].payload[..]), (Term(2), &b"set y 2"[..]));
    /// assert_eq!(group.read(Lsn(1), Lsn::MAX, 0)?.len(), 1, "at least one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when entries were let go; `Corruption`, `Io` from the segment; `Closed`.
    pub fn read(&self, from: Lsn, to: Lsn, bytes_max: usize) -> Result<Vec<Entry>> {
        self.shared.read(self.id, from, to, bytes_max)
    }

    /// Streams entries from `from` on, for replay.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
    /// let mut cursor = group.cursor(group.first_lsn());
    /// let mut payloads = Vec::new();
    /// while let Some(entry) = cursor.next()? {
    ///     payloads.push(entry.payload.to_vec()); // it lends them
    /// }
    /// assert_eq!(payloads, [b"set x 1", b"set y 2"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cursor(&self, from: Lsn) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), self.id, from)
    }

    /// Follows entries from `from` on as they are appended.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// let mut tail = group.tail(Lsn(1));
    /// append(Lsn(1), &[(Term(1), b"set x 1")], Durability::Durable)?.wait()?;
    /// let entries = tail.next(std::time::Duration::ZERO)?.expect("it was appended");
    /// assert_eq!((entries.len(), tail.position()), (1, Lsn(2)));
    /// assert_eq!(tail.next(std::time::Duration::ZERO)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tail(&self, from: Lsn) -> Tail {
        Tail::new(Arc::clone(&self.shared), self.id, from)
    }

    /// Keeps entries from `from` on until the hold is advanced or dropped. `name` shows in statistics.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), options)?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, payload: &[u8]| {
    /// #     let (entries, durability) = ([(Term(1), payload)], Durability::Durable);
    /// #     group.append(Append { term: Term(1), previous: None, first_lsn, entries: &entries, durability })
    /// # };
    /// for lsn in 1..=20 {
    ///     append(Lsn(lsn), &[0; 10_000])?.wait()?; // in segments of 64 KiB
    /// }
    /// let hold = group.hold("follower 2", Lsn(3))?;
    /// group.release(Lsn(20));
    /// log.maintain()?;
    /// assert!(group.read(Lsn(3), Lsn::MAX, 0).is_ok(), "it is held");
    /// hold.advance(Lsn(19));
    /// log.maintain()?;
    /// assert!(group.read(Lsn(3), Lsn::MAX, 0).is_err(), "it was let go");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when they are gone; `Closed`, `Poisoned`.
    pub fn hold(&self, name: &str, from: Lsn) -> Result<Hold> {
        Hold::new(&self.shared, self.id, name, from, 0)
    }

    /// As [`Group::hold`], with a bound of its own: the hold is lost when the segments from `from` on take more than
    /// `bytes_max` bytes, counted in whole segments, unless somebody else holds the same entries or earlier ones without a
    /// bound, or within one: it goes when that one has moved on. 0: no bound but [`LogOptions::log_bytes_max`].
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), options)?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, payload: &[u8]| {
    /// #     let (entries, durability) = ([(Term(1), payload)], Durability::Durable);
    /// #     group.append(Append { term: Term(1), previous: None, first_lsn, entries: &entries, durability })
    /// # };
    /// let hold = group.hold_bounded("slow follower", Lsn(1), 128 << 10)?;
    /// for lsn in 1..=20 {
    ///     append(Lsn(lsn), &[0; 10_000])?.wait()?; // in segments of 64 KiB
    /// }
    /// group.release(Lsn(20));
    /// log.maintain()?;
    /// assert!(hold.is_lost(), "it needs a snapshot now");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Group::hold`].
    ///
    /// [`LogOptions::log_bytes_max`]: crate::LogOptions::log_bytes_max
    pub fn hold_bounded(&self, name: &str, from: Lsn, bytes_max: u64) -> Result<Hold> {
        Hold::new(&self.shared, self.id, name, from, bytes_max)
    }

    /// Entries up to `lsn` may go unless a holder needs them. The space comes back in the background, a segment at a
    /// time; the base follows.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), options)?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, payload: &[u8]| {
    /// #     let (entries, durability) = ([(Term(1), payload)], Durability::Durable);
    /// #     group.append(Append { term: Term(1), previous: None, first_lsn, entries: &entries, durability })
    /// # };
    /// for lsn in 1..=20 {
    ///     append(Lsn(lsn), &[0; 10_000])?.wait()?; // in segments of 64 KiB
    /// }
    /// group.release(Lsn(10)); // a snapshot has them
    /// log.maintain()?; // now; else it happens in the background
    /// assert!(group.read(Lsn(1), Lsn::MAX, 0).is_err(), "its segment went");
    /// assert!(group.read(Lsn(11), Lsn::MAX, 0).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&self, lsn: Lsn) {
        if let Some(group) = self.shared.state.lock().groups.get_mut(&self.id) {
            group.released = group.released.max(lsn);
        }
        self.shared.wake_keeper();
    }

    /// A group is never removed from an open log, so that looking cannot fail.
    fn look<T: Default>(&self, look: impl FnOnce(&crate::group_state::GroupState) -> T) -> T {
        self.shared.state.lock().groups.get(&self.id).map(look).unwrap_or_default()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}
