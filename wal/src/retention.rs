//! Keeping and letting go: holders, bases, copying idle groups' entries forward, removing old segments.
//!
//! Segments go from the oldest on. One may go when none of its entries is needed any more:
//! 1. Entries that their group released and no holder needs are given up by a *base* batch, durable first.
//! 2. Live entries of idle groups, which would keep the segment for ever, are *copied* forward, durable first, once
//!    the log holds more than twice what is live and some segments.
//! 3. Votes need nothing here: every newer segment begins with two copies of its own.
//!
//! # A removal, step by step
//! base and copy batches durable → everything else that was written durable, because overrides make entries
//! unneeded too → the index points nowhere into the segment → the file is renamed to a prepared one
//! or removed → the directory is synced. A crash before the last step leaves a segment that recovery reads, finds
//! superseded, and lets go again.
//!
//! # Who loses a hold
//! A holder with a bound of its own goes only where that helps:
//! 1. It keeps more bytes than its bound, and
//! 2. no holder of its group that *stays* keeps the same entries or earlier ones. Who stays has no bound, or is within its
//!    own: with such a one beside it, nothing would be freed, and the hold would be lost for what another keeps.
//!
//! Who stays is looked at anew with every step of upkeep, and each hold that moves or ends calls for one: when the last one
//! that kept the same has moved on or has gone, the bounded one goes. Two beyond their bounds do not save each other.
//! The bound of the log itself takes whoever is furthest behind, whatever its own bound.
//!
//! # A hold that comes in between
//! What the oldest segment needs is decided under the lock, and the lock is given up before a base is written: room for
//! it may have to be made. In between a holder may ask for entries below the base that was decided. They are still
//! there, so the hold is granted; were the base moved all the same, the entries would be gone under a hold that is
//! not lost. Therefore whether they may go is asked again under the lock that moves the base; if not, the base and the
//! segment stay, and the segment is judged anew. A holder who comes later finds the base moved, and is refused.

use logwood_base::sync::Arc;
use logwood_base::{Error, GroupId, Lsn, Result, SegmentNo};

use crate::append::{Mover, new_image};
use crate::format::batch::{BatchFields, ENTRY_FIXED_BYTES, FIXED_BYTES, Kind, RawEntry};
use crate::group_state::{GroupState, Holder};
use crate::mutants::planted;
use crate::options::{Entry, LogOptions};
use crate::reader::{RunWalker, Stored, read_run, stored_at};
use crate::shared::{Open, Shared, State};

/// A log may be this many segments bigger than twice what is live before idle groups' entries are copied.
const COPY_SLACK_SEGMENTS: u64 = 6;

/// Keeps entries from going until dropped.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Open>,
    group: GroupId,
    id: u64,
}

impl Hold {
    /// Registers a holder.
    pub(crate) fn new(
        shared: &Arc<Open>,
        group: GroupId,
        name: &str,
        from: Lsn,
        bytes_max: u64,
    ) -> Result<Self> {
        let mut state = shared.lock()?;
        let id = state.next_holder;
        state.next_holder += 1;
        let held = state.group_mut(group)?;
        let oldest = held.log.record.base.0.next();
        if from < oldest {
            return Err(Error::TooOld { what: "entry", asked: from, oldest });
        }
        held.holders.insert(id, Holder { name: name.to_owned(), from, bytes_max });
        Ok(Self { shared: Arc::clone(shared), group, id })
    }

    /// Entries before `from` are no longer needed.
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
    /// group.release(Lsn(2));
    /// let hold = group.hold("follower", Lsn(1))?;
    /// hold.advance(Lsn(2)); // it has entry 1
    /// assert_eq!(log.statistics().laggard.map(|(_, _, from)| from), Some(Lsn(2)));
    /// assert!(!hold.is_lost());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn advance(&self, from: Lsn) {
        let mut state = self.shared.state.lock();
        if let Some(holder) = self.holder(&mut state) {
            holder.from = holder.from.max(from);
        }
        drop(state);
        self.shared.wake_keeper();
    }

    /// Whether the hold was taken away because the log grew beyond its bound.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.holder(&mut self.shared.state.lock()).is_none()
    }

    fn holder<'a>(&self, state: &'a mut State) -> Option<&'a mut Holder> {
        state.groups.get_mut(&self.group)?.holders.get_mut(&self.id)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.holders.remove(&self.id);
        }
        drop(state);
        self.shared.wake_keeper();
    }
}

/// What can be done about the oldest segment.
enum Oldest {
    /// It is the only one, or all of it is needed.
    Stays,
    /// Nothing of it is needed once these groups' bases stand at these entries, which that one moves.
    Goes(Vec<(GroupId, Lsn)>, Mover),
    /// It would go if these groups' live entries stood elsewhere.
    Copy(Vec<(GroupId, Lsn)>, Vec<GroupId>),
    /// This holder of this group keeps more than its bound, and nobody else keeps that; or more than the log's.
    Revoke(GroupId, u64),
}

impl Shared {
    /// One piece of upkeep; `in_background`: beside commits that should not notice it. Answers whether there may be more.
    pub(crate) fn maintain_step(&self, in_background: bool) -> Result<bool> {
        let wanted = self.wants_segment(&*self.lock()?);
        if self.let_go_step()? {
            return Ok(true);
        }
        if wanted && in_background {
            self.prepare_ahead()?;
        } else if wanted {
            self.prepare_segment(|state| self.wants_segment(state))?;
        }
        Ok(wanted)
    }

    /// Whether a segment should be prepared ahead: the current one has begun to fill.
    pub(crate) fn wants_segment(&self, state: &State) -> bool {
        state.tail > state.current().bytes / 4 && state.prepared.len() < self.options.pool_segments
    }

    /// Lets the oldest segment go if that is possible now. Answers whether something was done.
    pub(crate) fn let_go_step(&self) -> Result<bool> {
        let _one_at_a_time = self.retaining.lock();
        let mut state = self.lock()?;
        let number = state.segments[0].number;
        match self.judge_oldest(&state) {
            Oldest::Stays => Ok(false),
            Oldest::Revoke(group, holder) => {
                revoke(&mut state, group, holder);
                Ok(true)
            }
            Oldest::Goes(bases, mover) => {
                drop(state);
                self.write_bases(bases, mover)?;
                self.remove_oldest(number)
            }
            Oldest::Copy(bases, groups) => {
                drop(state);
                self.write_bases(bases, Mover::Upkeep)?;
                for group in groups {
                    if !self.copy_forward(group, number)? {
                        return Ok(true);
                    }
                }
                self.remove_oldest(number)
            }
        }
    }

    fn judge_oldest(&self, state: &State) -> Oldest {
        if state.segments.len() < 2 || state.exclusive {
            return Oldest::Stays;
        }
        let (bases, blocked) = bases_through(state, state.segments[0].number);
        if blocked.is_empty() {
            return self.goes(state, bases);
        }
        let total = log_bytes(state);
        let bound = self.options.log_bytes_max;
        if let Some((group, holder)) = furthest_behind(state).filter(|_| bound > 0 && total > bound) {
            return Oldest::Revoke(group, holder);
        }
        if let Some((group, holder)) = beyond_own_bound(&self.options, state) {
            return Oldest::Revoke(group, holder);
        }
        let live: u64 = state.groups.values().map(live_bytes).sum();
        // Copying everything once brings the log down to what is live and little more, so that this comes to rest.
        if total > 2 * live + COPY_SLACK_SEGMENTS * u64::from(self.options.segment_bytes) {
            return Oldest::Copy(bases, blocked);
        }
        Oldest::Stays
    }

    /// The oldest segment goes with these bases. They may take of the room at the log's end that is kept for when the disk is
    /// full, because a segment of full size that goes becomes the next one. For a smaller one, such as an opening begins,
    /// they may only when one of full size goes with the same bases: else nothing would be left for that one.
    fn goes(&self, state: &State, bases: Vec<(GroupId, Lsn)>) -> Oldest {
        let mut complete = state.segments.iter().take(state.segments.len() - 1);
        let full = complete.find(|segment| segment.bytes >= self.options.segment_bytes);
        match full.map(|segment| bases_through(state, segment.number)) {
            Some((bases, blocked)) if blocked.is_empty() => Oldest::Goes(bases, Mover::LettingGo),
            _ => Oldest::Goes(bases, Mover::Upkeep),
        }
    }

    /// Gives up the entries up to a base in each group, where no holder has come for them meanwhile.
    pub(crate) fn write_bases(&self, bases: Vec<(GroupId, Lsn)>, mover: Mover) -> Result<()> {
        for (id, lsn) in bases {
            let state = self.lock()?;
            let group = &state.group(id)?.log;
            let term = group.term_of(lsn).unwrap_or_default();
            // The membership as of the base is the newest one that was set at or before it. A later one stays the
            // group's membership, and is not touched by a base.
            let membership = group.record.membership.clone();
            let stays = membership.0 > lsn;
            drop(state);
            let membership = if stays { (Lsn::ZERO, Vec::new()) } else { membership };
            self.write_base(id, lsn, term, membership, mover)?;
        }
        Ok(())
    }

    /// Copies what a group has in the oldest segment. Answers false when the group changed meanwhile.
    fn copy_forward(&self, id: GroupId, oldest: SegmentNo) -> Result<bool> {
        let (epoch, mut next) = {
            let state = self.lock()?;
            let group = state.group(id)?;
            let Some(first) = group.log.index.in_segment(oldest).map(|run| run.first).min() else {
                return Ok(true);
            };
            (group.epoch, first)
        };
        loop {
            let stored = {
                let state = self.lock()?;
                let group = state.group(id)?;
                let run = group.log.index.in_segment(oldest).find(|run| run.last >= next);
                let Some(first) = run.map(|run| run.first.max(next)) else { return Ok(true) };
                if group.epoch != epoch || first > group.stored {
                    return Ok(false);
                }
                let mut stored = stored_at(&state, id, first)?;
                stored.limit = stored.run.last.min(group.stored);
                next = first;
                stored
            };
            let bytes = read_run(&stored, Vec::new())?;
            while next <= stored.limit {
                let entries = self.gather(id, &stored, &bytes, next)?;
                let Some(last) = entries.last().map(|entry| entry.lsn) else { return Ok(false) };
                if !self.copy_entries(id, epoch, &entries)? {
                    return Ok(false);
                }
                next = last.next();
            }
        }
    }

    /// Entries of a run from `from` on, about as many as fill a batch.
    fn gather(&self, id: GroupId, stored: &Stored, bytes: &[u8], from: Lsn) -> Result<Vec<Entry>> {
        let mut walker = RunWalker::new(id, stored, from);
        let (mut entries, mut total) = (Vec::new(), 0);
        while let Some(RawEntry { lsn, term, payload }) = walker.next(stored, bytes)? {
            total += payload.len() + ENTRY_FIXED_BYTES;
            if total > self.options.batch_limit() && !entries.is_empty() {
                break;
            }
            entries.push(Entry { lsn, term, payload: Arc::from(payload) });
        }
        Ok(entries)
    }

    /// Queues a copy and waits for it. Answers false, and copies nothing, when the group was overridden meanwhile.
    fn copy_entries(&self, id: GroupId, epoch: u64, entries: &[Entry]) -> Result<bool> {
        let bytes: usize = entries.iter().map(|entry| entry.payload.len() + ENTRY_FIXED_BYTES).sum();
        let mut state = self.reserve(bytes + FIXED_BYTES)?;
        let group = state.group(id)?;
        let first = entries.first().map_or(Lsn::ZERO, |entry| entry.lsn);
        if group.epoch != epoch || first <= group.log.record.base.0 {
            return Ok(false);
        }
        let fields = BatchFields {
            kind: Kind::Copy,
            group: id,
            append_term: group.log.record.append_term,
            prev_term: group.log.term_of(first.previous()).unwrap_or_default(),
            commit_lsn: group.log.record.committed,
            first_lsn: first,
            count: 1,
        };
        let image = new_image(&mut state);
        for entry in entries {
            let fields = BatchFields { first_lsn: entry.lsn, ..fields };
            image.put_entry(epoch, fields, entry.term, &entry.payload);
        }
        let sequence = image.sequence;
        state.figures.copied_bytes += bytes as u64;
        drop(state);
        self.wait(sequence)?;
        Ok(true)
    }

    /// Takes the oldest segment out of the log, if nothing points to it any more. What made its entries unneeded may
    /// be a buffered override, or one in flight: that must be durable first, or a power cut would bring them back.
    fn remove_oldest(&self, number: SegmentNo) -> Result<bool> {
        let state = self.lock()?;
        let unneeded = state.segments.len() > 1
            && state.segments[0].number == number
            && state.groups.values().all(|group| group.log.index.in_segment(number).next().is_none());
        drop(state);
        if !unneeded {
            return Ok(true);
        }
        if !planted!(self.options, RemoveBeforeDurable) {
            self.sync_all()?;
        }
        let mut state = self.lock()?;
        let segment = state.segments.remove(0);
        drop(state);
        self.let_go(segment)?;
        Ok(true)
    }
}

/// Where the groups' bases have to stand for the segments up to this one to go, and the groups that need some of them.
fn bases_through(state: &State, segment: SegmentNo) -> (Vec<(GroupId, Lsn)>, Vec<GroupId>) {
    let (mut bases, mut blocked) = (Vec::new(), Vec::new());
    for (id, group) in &state.groups {
        let releasable = group.releasable();
        let last = group.log.index.through_segment(segment).map(|run| run.last).max();
        if last.is_some_and(|last| last > releasable) {
            blocked.push(*id);
        }
        let base = last.map(|last| last.min(releasable)).filter(|base| *base > group.log.record.base.0);
        bases.extend(base.map(|base| (*id, base)));
    }
    (bases, blocked)
}

/// Bytes of the log's files.
pub(crate) fn log_bytes(state: &State) -> u64 {
    state.segments.iter().map(|segment| u64::from(segment.bytes)).sum()
}

/// The holder that keeps the oldest entries although their group released them: its group, name and position.
pub(crate) fn laggard(state: &State) -> Option<(GroupId, String, Lsn)> {
    let (id, holder) = furthest_behind(state)?;
    let holder = state.groups.get(&id)?.holders.get(&holder)?;
    Some((id, holder.name.clone(), holder.from))
}

/// The same by its number.
fn furthest_behind(state: &State) -> Option<(GroupId, u64)> {
    let holders = state.groups.iter().flat_map(|(id, group)| {
        group.holders.iter().map(|(holder, held)| (*id, *holder, held.from, group.released))
    });
    holders
        .filter(|(_, _, from, released)| from <= released)
        .max_by_key(|(_, _, from, released)| released.entries_since(*from))
        .map(|(id, holder, _, _)| (id, holder))
}

/// A holder that keeps more bytes than it may, and entries that nobody else keeps who stays.
fn beyond_own_bound(options: &LogOptions, state: &State) -> Option<(GroupId, u64)> {
    state.groups.iter().find_map(|(id, group)| {
        let (beyond, stay): (Vec<_>, Vec<_>) =
            group.holders.iter().partition(|(_, holder)| is_beyond_own_bound(state, group, holder));
        let kept_by_others = match planted!(options, RevokeForNothing) {
            true => None,
            false => stay.iter().map(|(_, holder)| holder.from).min(),
        };
        let mut alone =
            beyond.iter().filter(|(_, holder)| kept_by_others.is_none_or(|kept| holder.from < kept));
        alone.next().map(|(holder, _)| (*id, **holder))
    })
}

/// Whether the entries that a holder needs, and the group released, take more bytes than it may keep.
fn is_beyond_own_bound(state: &State, group: &GroupState, holder: &Holder) -> bool {
    if holder.bytes_max == 0 || holder.from > group.released {
        return false;
    }
    // What has no place yet takes no segment.
    let Some(first) = group.log.index.find(holder.from).map(|run| run.start.segment) else { return false };
    let kept = state.segments.iter().filter(|segment| segment.number >= first);
    kept.map(|segment| u64::from(segment.bytes)).sum::<u64>() > holder.bytes_max
}

fn revoke(state: &mut State, id: GroupId, holder: u64) {
    let Some(held) = state.groups.get_mut(&id).and_then(|group| group.holders.remove(&holder)) else {
        return;
    };
    let Holder { name, from, .. } = held;
    tracing::warn!(group = %id, name, %from, "a holder lost its hold: the log passed its bound");
}

fn live_bytes(group: &GroupState) -> u64 {
    let releasable = group.releasable();
    let live = group.log.index.runs().iter().filter(|run| run.last > releasable);
    live.map(|run| u64::from(run.bytes)).sum()
}
