//! What callers hand in and get back: options, expectations, reports.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::limits::{
    BLOCK_BYTES, ENTRY_PAYLOAD_BYTES_MAX, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX,
    LOG_SEGMENT_BYTES_MIN,
};
use logwood_base::{
    Corruption, DatabaseId, Error, GroupId, LogId, LogPosition, Lsn, Result, SegmentNo, Term,
};

use crate::log::FIRST_SEGMENT_BYTES_MAX;
#[cfg(test)]
use crate::mutants::Mutant;

/// How a log writes and what it keeps. All have documented defaults.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a segment file; a multiple of 4096. Default 16 MiB. The first segment after opening may be smaller. A
    /// log that has larger segments goes on with segments large enough for their entries.
    pub segment_bytes: u32,
    /// How many batches may be submitted and not yet acknowledged. It also bounds what rot of the very last batches
    /// can hide until the idle seal. Default 8.
    pub batches_in_flight_max: usize,
    /// A batch takes no more entries beyond this size; also at most a quarter segment. Default 256 KiB.
    pub batch_bytes_max: usize,
    /// How many bytes of recent entries stay in memory for followers and readers. Entries that are not written yet
    /// stay in any case. Default 32 MiB.
    pub recent_bytes_max: usize,
    /// How many segments are prepared (written with zeros, or recycled) ahead of use, once the current one is a
    /// quarter full. Of those that come free twice as many are kept. Default 2.
    pub pool_segments: usize,
    /// Quiet time after which a seal proves the last batches. Default 5 ms.
    pub seal_delay: Duration,
    /// Beyond this size of the log a holder that prevents letting go loses its hold. 0: no bound. Default 0.
    pub log_bytes_max: u64,
    /// Planted bugs, for the tests that must find them.
    #[cfg(test)]
    pub(crate) mutant: Mutant,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: LOG_SEGMENT_BYTES_DEFAULT,
            batches_in_flight_max: 8,
            batch_bytes_max: 256 << 10,
            recent_bytes_max: 32 << 20,
            pool_segments: 2,
            seal_delay: Duration::from_millis(5),
            log_bytes_max: 0,
            #[cfg(test)]
            mutant: Mutant::None,
        }
    }
}

impl LogOptions {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = LOG_SEGMENT_BYTES_MIN..=LOG_SEGMENT_BYTES_MAX;
        if !sizes.contains(&self.segment_bytes) || !(self.segment_bytes as usize).is_multiple_of(BLOCK_BYTES)
        {
            let found = self.segment_bytes;
            return Err(Error::InvalidArgument(format!("segment_bytes {found} is not a size for segments")));
        }
        if self.batches_in_flight_max == 0 {
            return Err(Error::InvalidArgument("batches_in_flight_max is 0".to_owned()));
        }
        Ok(())
    }

    /// The same for a log that has segments of `greatest` bytes: an entry of one of them must fit when it is copied
    /// forward or healed. The first segment after opening may hold larger entries than its size says, which is twice
    /// allowed for.
    pub(crate) fn beside(&self, greatest: u32) -> Self {
        let wanted =
            if greatest > self.segment_bytes { greatest.max(2 * FIRST_SEGMENT_BYTES_MAX) } else { 0 };
        Self { segment_bytes: self.segment_bytes.max(wanted), ..self.clone() }
    }

    /// Longest payload of one entry.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        ENTRY_PAYLOAD_BYTES_MAX.min(self.segment_bytes as usize / 4)
    }

    /// Size beyond which a batch takes no more entries.
    pub(crate) fn batch_limit(&self) -> usize {
        self.batch_bytes_max.clamp(1, self.segment_bytes as usize / 4)
    }
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Survives a power cut.
    #[default]
    Durable,
    /// Survives the process, not a power cut.
    Buffered,
}

/// Entries to append to a group.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Term of the leader that sends them; never decreases within a group.
    pub term: Term,
    /// The entry that the sender says stands before the first one. Checked when given.
    pub previous: Option<(Lsn, Term)>,
    /// LSN of the first entry. Everything the group has at or after it is replaced.
    pub first_lsn: Lsn,
    /// Each entry's own term, and its payload.
    pub entries: &'a [(Term, &'a [u8])],
    /// What the ticket's acknowledgement promises.
    pub durability: Durability,
}

/// One entry as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number within its group.
    pub lsn: Lsn,
    /// The term in which a leader made it.
    pub term: Term,
    /// What the log keeps for its caller.
    pub payload: Arc<[u8]>,
}

/// Where a group begins: with a database that starts anew (all zero), or behind a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseState {
    /// Entries up to here are not in the log.
    pub lsn: Lsn,
    /// Term of the entry at `lsn`.
    pub term: Term,
    /// Membership as of `lsn`, opaque to the log, at most 1024 bytes.
    pub membership: Vec<u8>,
}

/// What a caller knows about a log from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// The database that the log must belong to.
    pub database: Option<DatabaseId>,
    /// The log's identity.
    pub log: Option<LogId>,
    /// A position that is known to have been durable, from a manifest; [`LogPosition::ZERO`] for none. A log that
    /// ends before is damaged.
    pub durable_end: LogPosition,
}

/// How far opening has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments read and checked.
    pub bytes_done: u64,
    /// Bytes of segments to read.
    pub bytes_total: u64,
}

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Exact end of the last batch that counts.
    pub end: LogPosition,
    /// The greatest position that any evidence says was durable.
    pub durable_end: LogPosition,
    /// Valid batches beyond the end, of writes that were never acknowledged; dropped.
    pub dropped_batches: u64,
    /// Bytes that they had.
    pub dropped_bytes: u64,
    /// Whether the tail could only be read through a cache and was therefore written again.
    pub tail_rewritten: bool,
    /// Segments of the log, the new one included.
    pub segments: usize,
    /// Segment files deleted because the log does not name them.
    pub removed: Vec<SegmentNo>,
    /// What healing mended, when it was asked for.
    pub healed: Vec<Corruption>,
}

/// Entries that damage has taken, for a peer or an archive to give back; or a vote, which nobody can give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The group.
    pub group: GroupId,
    /// First entry that is missing or doubtful.
    pub first: Lsn,
    /// Last one with its term, when what stands behind the hole tells; `None` when the hole reaches to the end of
    /// the group, whose last entry is then not known: give what is known to belong there. Before `first` where no entry
    /// is missing, and only the vote is in doubt: nothing is to be given.
    pub last: Option<(Lsn, Term)>,
    /// The entry before `first`, which is known to be right.
    pub previous: (Lsn, Term),
    /// Whether both copies of a vote of this group may have been lost: the member must rejoin under a new id. It is told
    /// here and nowhere later: a log that was healed keeps the newest vote that was found, and no doubt.
    pub votes_doubtful: bool,
}

/// Figures about a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Segment files in the log.
    pub segments: usize,
    /// Bytes of segment files in the log.
    pub log_bytes: u64,
    /// Segments prepared ahead.
    pub prepared_segments: usize,
    /// Batches written since opening.
    pub batches: u64,
    /// Writes that were waited for to be durable, since opening.
    pub durable_writes: u64,
    /// Full syncs because buffered bytes preceded a durable write.
    pub syncs: u64,
    /// Bytes of entries in memory.
    pub recent_bytes: usize,
    /// Memory of batches that wait to be written, and of buffers kept for the next ones.
    pub buffer_bytes: usize,
    /// Memory of the index.
    pub index_runs: usize,
    /// Times the log went on in a new segment.
    pub rolls: u64,
    /// Entries' bytes copied forward.
    pub copied_bytes: u64,
    /// Who keeps the oldest entries from going: group, holder's name, and its position.
    pub laggard: Option<(GroupId, String, Lsn)>,
}
