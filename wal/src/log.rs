//! The open log: its public face.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use logwood_base::limits::{self, BLOCK_BYTES, GROUPS_MAX, MEMBERSHIP_BYTES_MAX};
use logwood_base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use logwood_base::sync::{Arc, Condvar, Mutex};
use logwood_base::{
    AlignedBuffer, DatabaseId, Disk, Environment, Error, GroupId, LogId, LogPosition, Lsn, Result, SegmentNo,
    Term,
};

use crate::calls::{Futures, Woken};
use crate::crowd::Crowd;
use crate::format::batch::LSN_MAX;
use crate::format::header::{HEADER_BYTES_MAX, HeaderRead, SegmentHeader};
use crate::format::{block_up, parse_file_name};
use crate::group::Group;
use crate::group_state::{GroupLog, GroupState};
use crate::options::{BaseState, LogOptions, Statistics};
use crate::segment::{Segment, create_written, path_of, write_header};
use crate::shared::{Open, Shared, State, Tasks};

/// The first segment after opening is at most this big, so that opening is quick; and so is the one that compaction leaves.
pub(crate) const FIRST_SEGMENT_BYTES_MAX: u32 = 1 << 20;

/// An open log. Cheap to clone; the log closes when the last handle, group, ticket and reader of it is dropped.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) shared: Arc<Open>,
}

/// Where writing goes on when a log opens.
pub(crate) struct Start {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: u32,
    pub(crate) end: LogPosition,
    pub(crate) previous_crc: u32,
    pub(crate) next_segment: SegmentNo,
    pub(crate) groups: BTreeMap<GroupId, GroupState>,
}

impl Log {
    /// Makes a new log in `dir`, which is created if it does not exist, and draws its identity.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let env = Environment::system()?;
    /// let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// log.close()?;
    /// assert!(Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default()).is_err(), "one stands there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists` when a log stands there, damaged ones included; `AlreadyOpen`; `InvalidArgument` for options;
    /// `DiskFull`, `Io`.
    pub fn create(env: &Environment, dir: &Path, database: DatabaseId, options: LogOptions) -> Result<Self> {
        options.check()?;
        let disk = &*env.disk;
        logwood_base::disk::create_dir_all(disk, dir)?;
        let lock = disk.lock(dir)?;
        let leftovers = leftovers(disk, dir)?;
        let number = SegmentNo(1);
        for leftover in leftovers {
            disk.remove(&path_of(dir, leftover))?;
        }
        let log = LogId::random(&*env.random);
        let bytes = options.segment_bytes.min(FIRST_SEGMENT_BYTES_MAX);
        let prepared = create_written(disk, dir, number, bytes, true, &|| false)?;
        let header = SegmentHeader {
            segment_bytes: bytes,
            log,
            database,
            segment: number,
            predecessor: LogPosition::ZERO,
            predecessor_crc: 0,
            rewriting: false,
            groups: Vec::new(),
        };
        let previous_crc = write_header(&*prepared.file, &header)?;
        let end = header.header_bytes() as u32;
        let start = Start {
            segments: vec![Arc::new(Segment::new(log, number, bytes, prepared.file))],
            tail: block_up(end),
            end: LogPosition::new(number, end),
            previous_crc,
            next_segment: number.next(),
            groups: BTreeMap::new(),
        };
        Self::start(env, dir, (log, database), options, start, lock)
    }

    /// Begins to serve.
    pub(crate) fn start(
        env: &Environment,
        dir: &Path,
        (log, database): (LogId, DatabaseId),
        options: LogOptions,
        start: Start,
        lock: Box<dyn logwood_base::disk::DirLock>,
    ) -> Result<Self> {
        let Start { segments, tail, end, previous_crc, next_segment, groups } = start;
        let state = State {
            groups,
            segments,
            tail,
            end,
            previous_crc,
            durable_end: end,
            dirty: false,
            exclusive: false,
            ending: false,
            queue: VecDeque::new(),
            futures: Futures::default(),
            in_flight: VecDeque::new(),
            batches_in_flight: 0,
            crowd: Crowd::default(),
            next_sequence: 2,
            next_flight: 0,
            prepared: VecDeque::new(),
            next_segment,
            keeper_called: None,
            unproven: false,
            poison: None,
            closed: false,
            spare: Vec::new(),
            recent_bytes: 0,
            next_holder: 0,
            figures: Statistics::default(),
        };
        let shared = Arc::new(Shared {
            env: env.clone(),
            dir: dir.to_owned(),
            writes_wanted: crate::crowd::writes_wanted(options.batches_in_flight_max),
            options,
            log,
            database,
            state: Mutex::new(state),
            acknowledged: AtomicU64::new(1),
            drained: Condvar::new(),
            news: Condvar::new(),
            readers_waiting: AtomicU64::new(0),
            preparing: Mutex::new(()),
            short_of_room: AtomicUsize::new(0),
            state_writing: Mutex::new(()),
            retaining: Mutex::new(()),
            tasks: Mutex::new(Tasks::default()),
            writer_asleep: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        shared.start_tasks()?;
        Ok(Self { shared: Arc::new(Open::new(shared)) })
    }

    /// The log's identity.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.log
    }

    /// The database it belongs to.
    #[must_use]
    pub fn database(&self) -> DatabaseId {
        self.shared.database
    }

    /// Adds a group, which begins behind `base`. Durable on return.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// // A member that joins behind a snapshot of entry 40, which was of term 3.
    /// let joined = BaseState { lsn: Lsn(40), term: Term(3), membership: b"members 1, 2, 3".to_vec() };
    /// let member = log.create_group(GroupId(2), joined)?;
    /// assert_eq!((member.first_lsn(), member.last()), (Lsn(41), (Lsn(40), Term(3))));
    /// assert_eq!(log.groups(), [GroupId(1), GroupId(2)]);
    /// assert_eq!(log.group(GroupId(3)).map(|group| group.id()), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists`; `LimitExceeded` for groups or membership; `InvalidArgument` for group 0 or a base without
    /// a term; `DiskFull`, `Poisoned`, `Closed`.
    pub fn create_group(&self, id: GroupId, base: BaseState) -> Result<Group> {
        limits::check("membership bytes", base.membership.len(), MEMBERSHIP_BYTES_MAX)?;
        if id == GroupId(0) || base.lsn > LSN_MAX || (base.lsn > Lsn::ZERO) != (base.term > Term::NONE) {
            return Err(Error::InvalidArgument(format!(
                "group {id} with base {} in {}",
                base.lsn, base.term
            )));
        }
        let mut state = self.shared.reserve(base.membership.len() + BLOCK_BYTES)?;
        if state.groups.contains_key(&id) {
            return Err(Error::AlreadyExists { what: "group", name: id.to_string() });
        }
        limits::check("groups", state.groups.len() + 1, GROUPS_MAX)?;
        self.shared.check_table(&state, base.membership.len() + 128)?;
        let mut log = GroupLog::default();
        log.set_base(base.lsn, base.term, (base.lsn, base.membership), false);
        log.record.last = log.record.base;
        // Nothing of it is durable before its first batch has come home.
        let group = GroupState { released: base.lsn, log, ..GroupState::default() };
        state.groups.insert(id, group);
        let sequence = crate::roll::base_image(&mut state, id);
        drop(state);
        self.shared.wait(sequence.unwrap_or(0))?;
        Ok(Group::new(Arc::clone(&self.shared), id))
    }

    /// A group of this log.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Group> {
        let known = self.shared.state.lock().groups.contains_key(&id);
        known.then(|| Group::new(Arc::clone(&self.shared), id))
    }

    /// All groups, ascending.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.state.lock().groups.keys().copied().collect()
    }

    /// The position before which every byte is synced, for manifests.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// let before = log.durable_position();
    /// group.set_vote(Term(1), NodeId(2))?;
    /// assert!(log.durable_position() > before);
    /// log.close()?;
    /// // Who keeps it elsewhere has a log refused that ends before it.
    /// let expect = Expect { durable_end: before, log: Some(log.id()), database: Some(log.database()) };
    /// let (log, recovered) = Log::open(&env, directory.path(), expect, LogOptions::default(), &mut |_| {})?;
    /// assert!(recovered.durable_end > before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durable_position(&self) -> LogPosition {
        self.shared.state.lock().durable_end
    }

    /// Makes everything durable that was appended before the call, buffered entries included.
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
    /// append(Lsn(1), &[(Term(2), b"set x 1")], Durability::Buffered)?;
    /// append(Lsn(2), &[(Term(2), b"set y 2")], Durability::Buffered)?.wait()?; // survives the process
    /// log.sync()?; // and now a power cut, both of them
    /// assert_eq!(group.durable_lsn(), Lsn(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned`, `Closed`, `DiskFull`.
    pub fn sync(&self) -> Result<()> {
        self.shared.sync_all()
    }

    /// Does all upkeep that is due, which the keeper task does by itself: prepares segments, lets old ones go.
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
    /// group.release(Lsn(20));
    /// log.maintain()?;
    /// assert!(group.first_lsn() > Lsn(10), "the old segments went");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As appending.
    pub fn maintain(&self) -> Result<()> {
        while self.shared.maintain_step(false)? {}
        Ok(())
    }

    /// Gives back all space that the log does not need now, for whoever wants it: the segments that nothing needs, those
    /// that are kept or written ahead for later, and what is left of the current segment, behind which a small one begins
    /// (1 MiB), as behind an opening. Writing goes on beside it; while it does the current segment stays. What is appended
    /// next waits until a segment is written, where the small one has no room for it.
    ///
    /// Costs a sync of what is buffered, and, where a small segment begins, writing it and the three durable writes of a
    /// change of segments.
    ///
    /// ```
    /// use logwood_base::{DatabaseId, Environment, GroupId, Term};
    /// use logwood_wal::{Append, BaseState, Durability, Log, LogOptions};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let env = Environment::system()?;
    /// let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// assert!(log.statistics().log_bytes <= 1 << 20);
    /// log.compact()?;
    /// assert_eq!(log.statistics().prepared_segments, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As appending. After `DiskFull`, when not even a small segment can be written, what was to go is gone.
    pub fn compact(&self) -> Result<()> {
        self.shared.compact()
    }

    /// Figures.
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
    /// append(Lsn(1), &[(Term(2), b"set x 1")], Durability::Durable)?.wait()?;
    /// let _hold = group.hold("follower", Lsn(1))?;
    /// group.release(Lsn(1));
    /// let statistics = log.statistics();
    /// assert!(statistics.durable_writes > 0);
    /// assert_eq!(statistics.laggard, Some((GroupId(1), "follower".to_owned(), Lsn(1))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let state = self.shared.state.lock();
        Statistics {
            segments: state.segments.len(),
            log_bytes: crate::retention::log_bytes(&state),
            prepared_segments: state.prepared.len(),
            recent_bytes: state.recent_bytes,
            buffer_bytes: state.buffer_bytes(),
            index_runs: state.groups.values().map(|group| group.log.index.runs().len()).sum(),
            laggard: crate::retention::laggard(&state),
            ..state.figures.clone()
        }
    }

    /// Writes and syncs everything, seals, and closes the log for all its handles. Waits for the writes that other
    /// threads have on their way: their tickets are answered by what became of them, and the directory may be opened
    /// again only behind them. What others append meanwhile is either written or answered `Closed`.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// log.close()?;
    /// assert!(group.set_vote(Term(1), NodeId(2)).is_err(), "closed for all its handles");
    /// Log::open(&env, directory.path(), Expect::default(), LogOptions::default(), &mut |_| {})?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` when a write failed before or fails now. The log is closed all the same.
    pub fn close(&self) -> Result<()> {
        self.close_and_wake().0
    }

    /// As [`Log::close`]. Futures that still wait are woken when what is answered is dropped: for whoever holds locks while the log
    /// is closed, which a future may want that goes on inside of its waker.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment};
    /// # use logwood_wal::{Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// let lock = std::sync::Mutex::new(());
    /// let (closed, woken) = {
    ///     let _held = lock.lock();
    ///     log.close_and_wake()
    /// };
    /// drop(woken);
    /// closed?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_and_wake(&self) -> (Result<()>, Woken) {
        let finished = self.sync().and_then(|()| self.shared.seal());
        let tasks = std::mem::take(&mut *self.shared.tasks.lock());
        drop(tasks);
        let mut state = self.shared.come_to_rest();
        state.exclusive = false;
        state.closed = true;
        state.poison.get_or_insert(Error::Closed);
        let calls = self.shared.stop(&mut state, &Error::Closed);
        let futures = state.futures.take();
        drop(state);
        calls.make(&self.shared);
        // Who prepares a segment comes to its end as well; the next one finds the log closed.
        drop(self.shared.preparing.lock());
        drop(self.shared.lock.lock().take());
        (finished, futures)
    }
}

/// Segment files of a creation that never came to its end: none has a header, and none has anything behind the
/// place where the header goes.
fn leftovers(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentNo>> {
    let mut numbers: Vec<SegmentNo> =
        disk.list(dir)?.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    numbers.sort_unstable();
    for number in &numbers {
        if !is_leftover(disk, dir, *number)? {
            return Err(Error::AlreadyExists { what: "log", name: dir.display().to_string() });
        }
    }
    Ok(numbers)
}

/// Whether a file holds nothing that a finished creation would have left.
///
/// A creation makes number 1 and no other: a later segment without a header has lost it, and a base with it.
pub(crate) fn is_leftover(disk: &dyn Disk, dir: &Path, number: SegmentNo) -> Result<bool> {
    if number != SegmentNo(1) {
        return Ok(false);
    }
    let file = disk.open(&path_of(dir, number), logwood_base::Access::Read)?;
    let size = file.size()?;
    let mut bytes = AlignedBuffer::zeroed(size.min(1 << 20) as usize);
    let mut offset = 0;
    while offset < size {
        let piece = (size - offset).min(bytes.len() as u64) as usize;
        file.read_at(offset, &mut bytes[..piece])?;
        let mut content = &bytes[..piece];
        if offset == 0 {
            let head = &content[..piece.min(HEADER_BYTES_MAX)];
            if !matches!(SegmentHeader::decode(head, number), HeaderRead::Invalid(_)) {
                return Ok(false);
            }
            content = &content[piece.min(BLOCK_BYTES)..];
        }
        if content.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += piece as u64;
    }
    Ok(true)
}
