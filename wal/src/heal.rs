//! Healing a damaged log: what is missing or doubtful is fetched, and the whole log is written again.
//!
//! # The order of steps, and why
//! 1. The directory is locked and read, holes included ([`crate::scan`]). What stands behind a hole tells which
//!    entries are doubtful ([`crate::replay`]).
//! 2. For each hole the caller gives the entries back, from a peer that holds its end in the same term, or, if they
//!    are committed, from the archive. They must continue what is known and end where the log says.
//! 3. All live entries are copied into new segments in a folder aside, under numbers greater than any that a file, a seal
//!    or a durable end names. Files and names are synced.
//! 4. They are renamed into the log, the first one last. Their headers say that healing wrote them; the first one's
//!    names no predecessor: with it, and not before, the new chain is the log.
//! 5. The log is opened as always, which deletes what its chain does not name.
//!
//! A crash before the end of 4 leaves the damaged log as it was: segments of healing without the first of them count for
//! nothing, not even as files that a seal names. Healing begins anew. A crash after 4 leaves a whole log.

use std::path::{Path, PathBuf};

use logwood_base::{
    AlignedBuffer, Environment, Error, GroupId, LogPosition, Lsn, Result, SegmentNo, Term, limits,
};

use crate::format::batch::{self, BatchFields, Kind, LSN_MAX, Placement};
use crate::format::{BLOCK, block_up};
use crate::inspect::{segments_of, walk_entries};
use crate::log::Log;
use crate::options::{Entry, Expect, Hole, LogOptions, Progress, Recovered};
use crate::recovery::{Identity, Records};
use crate::roll::opening;
use crate::scan::{Scan, ScanRequest, scan};
use crate::segment::{Prepared, Segment, create_written, path_of};

impl Log {
    /// Opens a log as [`Log::open`] does, and mends damage: `fetch` is asked for the entries of each [`Hole`]. For a
    /// hole that reaches to the end of its group it gives what is known to belong there, perhaps nothing. Where votes are
    /// in doubt ([`Hole::votes_doubtful`]), the member must not vote again under its old id: see to that before `fetch`
    /// returns, because the healed log does not tell it any more.
    ///
    /// A member whose disk lost a block mends its log from a peer:
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # use logwood_base::disk::SimulatedDisk;
    /// # use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
    /// # use logwood_wal::Hole;
    /// # use std::{path::Path, sync::Arc};
    /// # let disk = SimulatedDisk::new(1);
    /// # let env = Environment {
    /// #     disk: Arc::new(disk.clone()),
    /// #     clock: Arc::new(ManualClock::new(0)),
    /// #     random: Arc::new(SeededRandom::new(1)),
    /// #     spawner: Arc::new(ManualSpawner::new()),
    /// # };
    /// # let filled = |dir| -> logwood_base::Result<_> {
    /// #     let log = Log::create(&env, Path::new(dir), DatabaseId(1), LogOptions::default())?;
    /// #     let group = log.create_group(GroupId(1), BaseState::default())?;
    /// #     for lsn in 1..=9 {
    /// #         let (entries, durability) = ([(Term(1), &[lsn as u8; 100][..])], Durability::Durable);
    /// #         let (term, first_lsn) = (Term(1), Lsn(lsn));
    /// #         group.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// #     }
    /// #     Ok((log, group))
    /// # };
    /// let (_, peer) = filled("peer")?;
    /// let (log, _) = filled("log")?;
    /// log.close()?;
    /// disk.flip_bit(Path::new("log/00000000000000000001.log"), 5 * 4096 + 90, 1);
    /// let (dir, options) = (Path::new("log"), LogOptions::default());
    /// assert!(Log::open(&env, dir, Expect::default(), options.clone(), &mut |_| {}).is_err());
    ///
    /// let mut fetch = |hole: &Hole| {
    ///     let behind = hole.last.map_or(Lsn::MAX, |(last, _)| last.next());
    ///     peer.read(hole.first, behind, usize::MAX) // a long hole takes several reads
    /// };
    /// let (log, recovered) = Log::heal(&env, dir, Expect::default(), options, &mut |_| {}, &mut fetch)?;
    /// assert_eq!(recovered.healed.len(), 1);
    /// let group = log.group(GroupId(1)).expect("it was not lost");
    /// assert_eq!(group.read(Lsn(1), Lsn::MAX, usize::MAX)?, peer.read(Lsn(1), Lsn::MAX, usize::MAX)?);
    /// # Ok::<(), logwood_base::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `fetch` answers; `InvalidArgument` when its entries do not fit into the hole, `LimitExceeded` when one is
    /// larger than an entry may be in the segments that are written; as [`Log::open`]. The damaged
    /// log is as it was, then.
    pub fn heal(
        env: &Environment,
        dir: &Path,
        expect: Expect,
        options: LogOptions,
        progress: &mut dyn FnMut(Progress),
        fetch: &mut dyn FnMut(&Hole) -> Result<Vec<Entry>>,
    ) -> Result<(Self, Recovered)> {
        options.check()?;
        env.disk.list(dir)?;
        let lock = env.disk.lock(dir)?;
        let disk = &*env.disk;
        let request = ScanRequest { disk, dir, expect, writable: true, until: None, options: &options };
        let found = scan(&request, progress)?;
        if found.damage.is_empty() {
            return Self::open_locked(env, dir, expect, options, progress, lock);
        }
        let healed = found.damage.clone();
        rewrite(env, dir, &options.beside(found.segment_bytes_max()), found, fetch)?;
        // The manifest's position was in the damaged chain; the new one stands in for all of it.
        let expect = Expect { durable_end: LogPosition::ZERO, ..expect };
        let (log, recovered) = Self::open_locked(env, dir, expect, options, progress, lock)?;
        Ok((log, Recovered { healed, ..recovered }))
    }
}

/// Steps 2 to 4.
fn rewrite(
    env: &Environment,
    dir: &Path,
    options: &LogOptions,
    mut found: Scan,
    fetch: &mut dyn FnMut(&Hole) -> Result<Vec<Entry>>,
) -> Result<()> {
    let mut fetched: Vec<(GroupId, Vec<Entry>)> = Vec::new();
    for hole in found.holes() {
        let entries = fetch(&hole)?;
        check_fit(&hole, &entries, options.payload_bytes_max())?;
        accept(&mut found, &hole, &entries);
        fetched.push((hole.group, entries));
    }
    let records: Vec<_> = found.groups.iter().map(|(id, replay)| (*id, replay.log.record.clone())).collect();
    // Greater than what seals and durable ends name, too: a file that vanished must not seem to be there.
    let named = found.chain.iter().filter_map(|link| link.sealed).chain([found.durable_end.segment]);
    let number = named.chain(found.files.iter().map(|file| file.0)).max().unwrap_or_default().next();
    let aside = clear_aside(env, dir)?;
    let identity = (found.log, found.database);
    let segments = segments_of(found.log, &found.chain);
    let mut writer = Rewriter::new(env, &aside, options, identity, &records, number)?;
    for (id, replay) in &found.groups {
        let base = replay.log.record.base.0;
        let mut gifts =
            fetched.iter().filter(|(group, _)| group == id).flat_map(|(_, entries)| entries).peekable();
        let copy = |writer: &mut Rewriter<'_>, lsn: Lsn, term: Term, payload: &[u8]| {
            writer.entry(*id, lsn, term, payload)
        };
        walk_entries(&segments, *id, replay, base.next(), &mut |entry| {
            while let Some(gift) = gifts.next_if(|gift| gift.lsn < entry.lsn) {
                copy(&mut writer, gift.lsn, gift.term, &gift.payload)?;
            }
            copy(&mut writer, entry.lsn, entry.term, entry.payload)?;
            Ok(true)
        })?;
        for gift in gifts {
            copy(&mut writer, gift.lsn, gift.term, &gift.payload)?;
        }
        writer.end_batch();
    }
    let (first, last) = writer.finish()?;
    bring_in(env, dir, &aside, first, last)
}

/// The folder in which new segments are written: no file of it can pass for one of the damaged log. What an earlier
/// healing left there goes.
fn clear_aside(env: &Environment, dir: &Path) -> Result<PathBuf> {
    let aside = dir.join("healing");
    env.disk.create_dir(&aside)?;
    for entry in env.disk.list(&aside)? {
        env.disk.remove(&aside.join(entry.name))?;
    }
    env.disk.sync_dir(&aside)?;
    Ok(aside)
}

/// Step 4: the first segment comes last, and makes it the log.
fn bring_in(env: &Environment, dir: &Path, aside: &Path, first: SegmentNo, last: SegmentNo) -> Result<()> {
    let disk = &*env.disk;
    for number in (first.0 + 1..=last.0).map(SegmentNo) {
        disk.rename(&path_of(aside, number), &path_of(dir, number))?;
    }
    disk.sync_dir(dir)?;
    disk.rename(&path_of(aside, first), &path_of(dir, first))?;
    disk.sync_dir(dir)?;
    disk.remove_dir(aside)?;
    disk.sync_dir(dir)
}

/// Whether fetched entries fill a hole and agree with what is around it.
fn check_fit(hole: &Hole, entries: &[Entry], payload_bytes_max: usize) -> Result<()> {
    let refuse =
        |what: String| Err(Error::InvalidArgument(format!("fetched for group {}: {what}", hole.group)));
    let mut before = (hole.first.previous(), hole.previous.1.max(Term::NONE));
    for entry in entries {
        if entry.lsn != before.0.next() || entry.term < before.1 || entry.term == Term::NONE {
            return refuse(format!(
                "{} in term {} behind {} in {}",
                entry.lsn, entry.term, before.0, before.1
            ));
        }
        limits::check("entry payload bytes", entry.payload.len(), payload_bytes_max)?;
        before = (entry.lsn, entry.term);
    }
    if before.0 > LSN_MAX {
        return refuse(format!("{}, beyond the numbering", before.0));
    }
    match hole.last {
        Some((lsn, _)) if before.0 != lsn => refuse(format!("up to {}, wanted up to {lsn}", before.0)),
        Some((_, term)) if term != Term::NONE && before.1 != term => {
            refuse(format!("{} in term {}, wanted in {term}", before.0, before.1))
        }
        _ => Ok(()),
    }
}

/// Notes fetched entries in a group's record, so that the new header tells of them.
fn accept(found: &mut Scan, hole: &Hole, entries: &[Entry]) {
    let Some(replay) = found.groups.get_mut(&hole.group) else { return };
    let log = &mut replay.log;
    if hole.last.is_none() {
        log.truncate(hole.first);
        log.index.truncate(hole.first);
        replay.doubt = None;
        for entry in entries {
            log.push(entry.lsn, entry.term);
            log.record.append_term = log.record.append_term.max(entry.term);
        }
    } else {
        let last = log.record.last.0;
        for entry in entries {
            log.terms.set(entry.lsn, entry.lsn, entry.term, last);
        }
    }
}

/// Writes copies into new segments.
struct Rewriter<'a> {
    env: &'a Environment,
    dir: &'a Path,
    options: &'a LogOptions,
    identity: Identity,
    records: &'a Records,
    root: Segment,
    root_header: AlignedBuffer,
    segment: Option<Segment>,
    /// What is gathered for the current segment, from `start` on.
    bytes: AlignedBuffer,
    start: u32,
    crc: u32,
    batch: Option<(usize, BatchFields)>,
    /// Exact end of the last batch.
    last: LogPosition,
}

impl<'a> Rewriter<'a> {
    fn new(
        env: &'a Environment,
        dir: &'a Path,
        options: &'a LogOptions,
        identity: Identity,
        records: &'a Records,
        number: SegmentNo,
    ) -> Result<Self> {
        let root = make(env, dir, options, identity, number)?;
        let header = opening(identity, &root, LogPosition::ZERO, 0, true, records);
        let start = block_up(header.end);
        Ok(Self {
            env,
            dir,
            options,
            identity,
            records,
            root,
            root_header: header.bytes,
            segment: None,
            bytes: AlignedBuffer::default(),
            start,
            crc: header.crc,
            batch: None,
            last: LogPosition::new(number, header.end),
        })
    }

    fn current(&self) -> &Segment {
        self.segment.as_ref().unwrap_or(&self.root)
    }

    /// Adds one entry to the current batch, or to a new one.
    fn entry(&mut self, group: GroupId, lsn: Lsn, term: Term, payload: &[u8]) -> Result<()> {
        let more = payload.len() + batch::ENTRY_FIXED_BYTES;
        let continues = self.batch.is_some_and(|(start, fields)| {
            fields.group == group
                && fields.last_lsn().next() == lsn
                && self.bytes.len() - start + more <= self.options.batch_limit()
        });
        if !continues {
            self.end_batch();
            let room = self.current().bytes.saturating_sub(self.start + 3 * BLOCK) as usize;
            if self.bytes.len() + more + batch::FIXED_BYTES + self.options.batch_limit() > room
                && !self.bytes.is_empty()
            {
                self.next_segment()?;
            }
            let record = self.records.iter().find(|(id, _)| *id == group).map(|(_, record)| record);
            let fields = BatchFields {
                kind: Kind::Copy,
                group,
                append_term: record.map_or(term, |record| record.append_term),
                prev_term: Term::NONE,
                commit_lsn: record.map_or(Lsn::ZERO, |record| record.committed),
                first_lsn: lsn,
                count: 0,
            };
            self.batch = Some((self.bytes.len(), fields));
            batch::begin(&mut self.bytes);
        }
        batch::put_entry(&mut self.bytes, term, payload);
        if let Some((_, fields)) = &mut self.batch {
            fields.count += 1;
        }
        Ok(())
    }

    /// Gives the current batch its place.
    fn end_batch(&mut self) {
        let Some((from, fields)) = self.batch.take() else { return };
        let at = self.start + from as u32;
        let placement = Placement { durable_end: LogPosition::ZERO, previous_crc: self.crc };
        let seed = self.current().seed_at(at);
        self.crc = batch::finish(&mut self.bytes[from..], &fields, &placement, seed);
        self.last = LogPosition::new(self.current().number, self.start + self.bytes.len() as u32);
    }

    /// Writes what was gathered, durably.
    fn write(&mut self) -> Result<()> {
        let segment = self.segment.as_ref().unwrap_or(&self.root);
        if !self.bytes.is_empty() {
            segment.file.write_at(u64::from(self.start), &self.bytes)?;
        }
        segment.file.sync()?;
        self.bytes.clear();
        Ok(())
    }

    fn next_segment(&mut self) -> Result<()> {
        self.write()?;
        let number = self.current().number.next();
        let segment = make(self.env, self.dir, self.options, self.identity, number)?;
        let header = opening(self.identity, &segment, self.last, self.crc, true, self.records);
        segment.file.write_durable(0, &header.bytes)?;
        self.start = block_up(header.end);
        self.crc = header.crc;
        self.last = LogPosition::new(number, header.end);
        self.segment = Some(segment);
        Ok(())
    }

    /// Makes everything durable. Answers the first and the last segment.
    fn finish(mut self) -> Result<(SegmentNo, SegmentNo)> {
        self.end_batch();
        self.write()?;
        self.root.file.write_durable(0, &self.root_header)?;
        Ok((self.root.number, self.last.segment))
    }
}

fn make(
    env: &Environment,
    dir: &Path,
    options: &LogOptions,
    identity: Identity,
    number: SegmentNo,
) -> Result<Segment> {
    let Prepared { bytes, file, .. } =
        create_written(&*env.disk, dir, number, options.segment_bytes, true, &|| false)?;
    Ok(Segment::new(identity.0, number, bytes, file))
}
