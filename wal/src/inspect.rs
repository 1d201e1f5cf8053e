//! Looking at a log without changing anything: no lock, no sync, no new file.
//!
//! A report on a log that another process has open is a report of some moment; what that process writes meanwhile may
//! look like a torn tail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use logwood_base::sync::Arc;
use logwood_base::{
    Corruption, DatabaseId, Environment, GroupId, LogId, LogPosition, Lsn, NodeId, Result, SegmentNo, Term,
};

use crate::options::{Expect, Hole, LogOptions, Progress};
use crate::reader::{EntryRef, RunWalker, Stored, read_run};
use crate::replay::Replay;
use crate::scan::{Scan, ScanRequest, scan};
use crate::segment::{Segment, path_of};

/// A segment file as a report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub number: SegmentNo,
    /// Its file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u32,
    /// Exact end of its last batch that counts.
    pub end: u32,
    /// Whether its last batch closes it.
    pub sealed: bool,
}

/// A group as a report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// The greatest term known, and the vote given in it.
    pub vote: (Term, NodeId),
    /// Entries up to here may be gone.
    pub base: (Lsn, Term),
    /// The last entry.
    pub last: (Lsn, Term),
    /// Known to be committed.
    pub committed: Lsn,
    /// The membership and the entry that set it.
    pub membership: (Lsn, Vec<u8>),
}

/// Everything that can be said about a log without changing it. Made by [`Log::inspect`](crate::Log::inspect).
#[derive(Debug)]
pub struct Inspection {
    /// The log's identity.
    pub log: LogId,
    /// The database it belongs to.
    pub database: DatabaseId,
    /// Segments of the log, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Segment files that are not part of the log: prepared ahead, or left over.
    pub other_files: Vec<SegmentNo>,
    /// Groups.
    pub groups: BTreeMap<GroupId, GroupReport>,
    /// Where the log ends.
    pub end: LogPosition,
    /// The greatest position that is known to have been durable.
    pub durable_end: LogPosition,
    /// Valid batches beyond the end, which the next opening drops: a torn tail, no damage. None where there is damage.
    pub dropped_batches: u64,
    /// Damage, with its evidence.
    pub damage: Vec<Corruption>,
    /// Entries that the damage took, to be fetched for [`Log::heal`](crate::Log::heal).
    pub holes: Vec<Hole>,
    files: Vec<Arc<Segment>>,
    replays: BTreeMap<GroupId, Replay>,
}

/// How often a log is looked at whose damage is another each time.
const LOOKS_MAX: usize = 8;

/// Whether two looks found the same damage. How much of the log was durable may be told otherwise each time.
fn is_same(one: &Corruption, other: &Corruption) -> bool {
    (&one.path, one.offset, one.check) == (&other.path, other.offset, other.check)
}

impl crate::Log {
    /// Reads a whole log and reports on it. Changes nothing. Beside a process that opens the log or writes to it, files
    /// come and go between two looks: what is damaged is damaged in two of them.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// group.set_vote(Term(1), NodeId(2))?;
    /// // Also beside the process that has the log open.
    /// let report = Log::inspect(&env, directory.path(), &mut |_| {})?;
    /// assert!(report.damage.is_empty());
    /// assert_eq!(report.groups[&GroupId(1)].vote, (Term(1), NodeId(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no log; `Corruption` when not even a header is left; `UnsupportedFormat`; `Io`. Other
    /// damage is in the report.
    pub fn inspect(env: &Environment, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Inspection> {
        let options = LogOptions::default();
        let expect = Expect::default();
        let request =
            ScanRequest { disk: &*env.disk, dir, expect, writable: false, until: None, options: &options };
        let mut found = scan(&request, progress)?;
        for look in 1..LOOKS_MAX {
            if found.damage.is_empty() {
                break;
            }
            let before = std::mem::replace(&mut found, scan(&request, progress)?).damage;
            let is_twice = |damage: &Corruption| before.iter().any(|other| is_same(damage, other));
            if found.damage.iter().all(is_twice) {
                break;
            }
            if look + 1 == LOOKS_MAX {
                found.damage.retain(is_twice);
            }
        }
        Ok(Inspection::new(dir, found))
    }
}

impl Inspection {
    fn new(dir: &Path, found: Scan) -> Self {
        let holes = found.holes();
        let segments = found.chain.iter().map(|link| SegmentReport {
            number: link.header.segment,
            path: path_of(dir, link.header.segment),
            bytes: link.header.segment_bytes,
            end: link.end,
            sealed: link.sealed.is_some(),
        });
        let segments: Vec<_> = segments.collect();
        let named = |number: SegmentNo| segments.iter().any(|segment| segment.number == number);
        let groups = found.groups.iter().map(|(id, replay)| (*id, GroupReport::new(replay)));
        Self {
            log: found.log,
            database: found.database,
            other_files: found.files.iter().map(|file| file.0).filter(|number| !named(*number)).collect(),
            groups: groups.collect(),
            end: found.end,
            durable_end: found.durable_end,
            dropped_batches: if found.damage.is_empty() { found.beyond.batches } else { 0 },
            damage: found.damage,
            holes,
            files: segments_of(found.log, &found.chain),
            replays: found.groups,
            segments,
        }
    }

    /// Calls `each` with the entries of a group from `from` on, in order, until it answers false. Entries that damage
    /// took are passed over.
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
    /// append(Lsn(1), &[(Term(2), b"set x 1"), (Term(2), b"set y 2")], Durability::Durable)?.wait()?;
    /// let report = Log::inspect(&env, directory.path(), &mut |_| {})?;
    /// let mut payloads = Vec::new();
    /// report.entries(GroupId(1), Lsn(2), |entry| {
    ///     payloads.push(entry.payload.to_vec());
    ///     true
    /// })?;
    /// assert_eq!(payloads, [b"set y 2"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io`, or `Corruption` when bytes changed since the report was made.
    pub fn entries(
        &self,
        group: GroupId,
        from: Lsn,
        mut each: impl FnMut(EntryRef<'_>) -> bool,
    ) -> Result<()> {
        let Some(replay) = self.replays.get(&group) else { return Ok(()) };
        walk_entries(&self.files, group, replay, from, &mut |entry| Ok(each(entry)))
    }
}

impl GroupReport {
    fn new(replay: &Replay) -> Self {
        let record = &replay.log.record;
        Self {
            vote: record.vote,
            base: record.base,
            last: record.last,
            committed: record.committed,
            membership: record.membership.clone(),
        }
    }
}

/// The segments of a chain, to read from.
pub(crate) fn segments_of(log: LogId, chain: &[crate::scan::Link]) -> Vec<Arc<Segment>> {
    let segment = |link: &crate::scan::Link| {
        let (number, bytes) = (link.header.segment, link.header.segment_bytes);
        Arc::new(Segment::new(log, number, bytes, link.file.clone()))
    };
    chain.iter().map(segment).collect()
}

/// Walks over the entries of a group as a scan found them, until `each` answers false.
pub(crate) fn walk_entries(
    segments: &[Arc<Segment>],
    group: GroupId,
    replay: &Replay,
    from: Lsn,
    each: &mut dyn FnMut(EntryRef<'_>) -> Result<bool>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for run in replay.log.index.runs().iter().filter(|run| run.last >= from) {
        let Ok(at) = segments.binary_search_by_key(&run.start.segment, |segment| segment.number) else {
            continue;
        };
        let stored = Stored { segment: Arc::clone(&segments[at]), run: *run, limit: run.last, sealed: true };
        bytes = read_run(&stored, bytes)?;
        let mut walker = RunWalker::new(group, &stored, from);
        while let Some(entry) = walker.next(&stored, &bytes)? {
            if !each(EntryRef { lsn: entry.lsn, term: entry.term, payload: entry.payload })? {
                return Ok(());
            }
        }
    }
    Ok(())
}
