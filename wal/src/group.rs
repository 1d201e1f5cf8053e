//! One group of the log: its public face.

use std::fmt;

use logwood_base::sync::Arc;
use logwood_base::{Error, GroupId, Lsn, NodeId, Result, Term};

use crate::append::Mover;
use crate::format::batch::{ENTRY_FIXED_BYTES, FIXED_BYTES};
use crate::options::{Append, Entry};
use crate::reader::Cursor;
use crate::retention::Hold;
use crate::shared::Shared;
use crate::tail::Tail;
use crate::ticket::Ticket;

/// A group's entries, vote and membership in an open log. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
    id: GroupId,
}

impl Group {
    pub(crate) fn new(shared: Arc<Shared>, id: GroupId) -> Self {
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
    /// # Errors
    /// `InvalidArgument` for a gap, a term that goes back, or entries that would replace committed ones;
    /// `LimitExceeded`; `DiskFull` when no room can be prepared. Nothing is numbered then. `Poisoned`, `Closed`.
    pub fn append(&self, append: Append<'_>) -> Result<Ticket> {
        let sequence = self.shared.append(self.id, &append)?;
        let last = Lsn(append.first_lsn.0 + append.entries.len() as u64 - 1);
        Ok(Ticket::new(Arc::clone(&self.shared), sequence, last))
    }

    /// Sees to it that the next append of `bytes` of payloads finds room, unless others come before it.
    ///
    /// # Errors
    /// `DiskFull` when no room can be prepared; `Io`, `Poisoned`, `Closed`.
    pub fn make_room(&self, bytes: usize) -> Result<()> {
        self.shared.reserve(bytes + ENTRY_FIXED_BYTES + FIXED_BYTES).map(drop)
    }

    /// Remembers that entries up to `lsn` are committed. It rides on the next batch.
    pub fn set_committed(&self, lsn: Lsn) {
        if let Some(group) = self.shared.state.lock().groups.get_mut(&self.id) {
            group.log.set_committed(lsn);
        }
    }

    /// Records term and vote, durably, in two places, read back from the device. A node gives one vote in a term: the
    /// same one may be recorded again, and one may be given in a term that was recorded without a vote (node 0), but none
    /// is ever changed or taken back.
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
    /// # Errors
    /// As [`Group::set_vote`]; `LimitExceeded` beyond 1024 bytes.
    pub fn set_membership(&self, lsn: Lsn, membership: &[u8]) -> Result<()> {
        self.shared.write_state(self.id, None, Some((lsn, membership)))
    }

    /// Moves the base to `lsn`: entries up to there may go. When the log did not hold `lsn` in `term`, as before a
    /// jump to a snapshot, all entries go. Durable on return.
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
    /// # Errors
    /// `TooOld` when entries were let go; `Corruption`, `Io` from the segment; `Closed`.
    pub fn read(&self, from: Lsn, to: Lsn, bytes_max: usize) -> Result<Vec<Entry>> {
        self.shared.read(self.id, from, to, bytes_max)
    }

    /// Streams entries from `from` on, for replay.
    #[must_use]
    pub fn cursor(&self, from: Lsn) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), self.id, from)
    }

    /// Follows entries from `from` on as they are appended.
    #[must_use]
    pub fn tail(&self, from: Lsn) -> Tail {
        Tail::new(Arc::clone(&self.shared), self.id, from)
    }

    /// Keeps entries from `from` on until the hold is advanced or dropped. `name` shows in statistics.
    ///
    /// # Errors
    /// `TooOld` when they are gone; `Closed`, `Poisoned`.
    pub fn hold(&self, name: &str, from: Lsn) -> Result<Hold> {
        self.shared.hold(self.id, name, from, 0)
    }

    /// As [`Group::hold`], with a bound of its own: the hold is lost when the segments from `from` on take more than
    /// `bytes_max` bytes, counted in whole segments. 0: no bound but [`LogOptions::log_bytes_max`].
    ///
    /// # Errors
    /// As [`Group::hold`].
    ///
    /// [`LogOptions::log_bytes_max`]: crate::LogOptions::log_bytes_max
    pub fn hold_bounded(&self, name: &str, from: Lsn, bytes_max: u64) -> Result<Hold> {
        self.shared.hold(self.id, name, from, bytes_max)
    }

    /// Entries up to `lsn` may go unless a holder needs them. The space comes back in the background, a segment at a
    /// time; the base follows.
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
