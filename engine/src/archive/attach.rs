//! Finding one's place: which lineage a directory writes to, and where its chain stands.
//!
//! 1. Ask the store whether it refuses a second create-only put.
//! 2. The lineage: the one asked for, else the one in `LINEAGE` if its start is still there and it is not closed, else a
//!    new one, noted there before anything is put.
//! 3. The start object: fetched, or put. A parent is named only when its chain is open and reaches the fork, which can be
//!    restored there; what that needs is held until the start stands, by which retention knows of the child.
//! 4. Walk from the last object that was confirmed, else from the one that a listing puts at the log's beginning, to the
//!    first key at which there is nothing; compare everything with the log here ([`walk`](super::walk)).
//! 5. A listing shows whether the chain goes on behind that: a hole. It begins where the walk does, or at the newest snapshot.
//! 6. Where nothing shows that the end of the chain is this log's, which has let go of what stands there: a new lineage.
//! 7. What was confirmed and is not there any more, and cannot be put again from the log: told, up to the snapshot with which the
//!    chain goes on.
//!
//! What is refused: another database's chain, other entries than here (`Fenced`), and a chain that reaches further than
//! the log of a database, which decides alone: that log has lost its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{Error, LineageId, Lsn, Result};
use logwood_btree::store::SegmentEntry;

use super::chain::{self, Chain, readable};
use super::hold::is_lineage_condemned;
use super::layout::{PAGES_PREFIX, log_key, page_key, parse_lsn, snapshot_prefix, start_key};
use super::lineage::LocalLineage;
use super::object::{Link, Owner, Parent, Start};
use super::options::ArchiveOptions;
use super::read::base::missing_base;
use super::read::history::History;
use super::read::plan::{Base, Plan};
use super::read::{Archive, Point};
use super::restore::Holds;
use super::source::Source;
use super::status::Shared;
use super::store::{Client, probe};
use super::uploader::{Uploader, ended};
use super::walk::{Walked, walk};
use crate::planted::{Bug, planted};

/// Finds the place in the chain where the log goes on.
pub(super) fn attach(source: Source, options: ArchiveOptions) -> Result<Uploader> {
    options.check()?;
    let client = options.client(&source.environment)?;
    // From here on nothing that is not archived goes.
    let first = source.group.first_lsn();
    let hold = source.hold(first)?;
    // Each time under a new key: what an attempt that failed has left tells nothing.
    client.retried(|| probe(client.store(), &source.environment))?;
    let disk = &*source.environment.disk;
    let mut local = LocalLineage::read(disk, &source.root, source.database(), source.log.id())?;
    if let Some(wanted) = options.lineage
        && local.lineage != Some(wanted)
    {
        local = LocalLineage { lineage: Some(wanted), confirmed: None, ..local };
    }
    let mut place = settle(&client, &source, &mut local, &options)?;
    let lost_from = place.lost_from;
    let is_known = place.walked.is_known || !source.decides_alone() || planted(Bug::TrustEnd);
    if !is_known {
        let next = place.walked.chain.position().next;
        let reason = format!("entries before {next} cannot be compared, for the log here has let go of them");
        if options.lineage.is_some() {
            return Err(Error::Fenced { key: log_key(place.lineage, next), reason });
        }
        tracing::warn!(lineage = %place.lineage, reason, "a new lineage is begun");
    }
    if (place.walked.ended || !is_known) && options.lineage.is_none() {
        (local.lineage, local.confirmed) = (None, None);
        place = settle(&client, &source, &mut local, &options)?;
    }
    let Place { lineage, start, walked, listed, newest_snapshot, is_rootless, .. } = place;
    let shared = Arc::new(Shared::new(lineage));
    let behind = listed.range(newest_snapshot.unwrap_or_default()..).map(|(_, bytes)| bytes).sum();
    let attached_at = source.group.appended_lsn();
    let needs_snapshot = start.needs_snapshot() || is_rootless;
    let base_missing = (needs_snapshot && newest_snapshot.is_none()).then_some(start.first_lsn);
    let next = walked.chain.position().next;
    // Else the log has all of it, and it is put again.
    let lost_from = lost_from.filter(|_| base_missing.is_some() || next < first);
    shared.update(|figures| {
        figures.status.archived = next.previous();
        figures.status.newest_snapshot = newest_snapshot;
        figures.confirmed = walked.confirmed;
        figures.archived_ms = Some(walked.chain.position().time_ms).filter(|time_ms| *time_ms > 0);
    });
    if let Some(lost) = lost_from
        && let Some((_, manifest)) = source.checkpoint(false)?
    {
        tracing::warn!(%lineage, from = %lost, "the archive has lost what was confirmed, and the log does not have it");
        // The snapshot is not older.
        shared.update(|figures| figures.status.lose(lost, manifest.checkpoint_lsn.previous()));
    }
    hold.advance(walked.confirmed.map_or(next, |(first, _)| first));
    let proven = options.verify_pages.then(BTreeSet::new);
    let proof_due = options.verify_pages && source.decides_alone();
    let mut uploader = Uploader {
        noted: (source.environment.clock.monotonic(), 1),
        certain_at: (
            source.environment.clock.monotonic(),
            walked.chain.position().time_ms.max(start.created_ms),
        ),
        start_seen: source.environment.clock.monotonic(),
        client,
        source,
        options,
        shared,
        chain: walked.chain,
        hold: Some(hold),
        attached_at,
        gathered: None,
        counted: 0,
        waiting_since: None,
        unsynced_since: None,
        other: None,
        tried: Vec::new(),
        parted: false,
        gap_pieces: 0,
        base_missing,
        lost_from,
        snapshot: None,
        put_off: (0, Duration::ZERO),
        objects_in_a_row: 0,
        proven,
        proof_due,
        since_snapshot: behind,
        local,
        fenced: None,
    };
    if let Some(item) = walked.other {
        uploader.adopt(item)?;
    }
    if next < first {
        if !uploader.source.decides_alone() {
            return Err(Error::TooOld { what: "entry", asked: next, oldest: first });
        }
        uploader.part("the log let go of entries while no archiver was attached");
    }
    // What was compared by now may not be comparable any more when the next one looks.
    uploader.note(true);
    Ok(uploader)
}

/// A lineage, and where its chain goes on.
struct Place {
    lineage: LineageId,
    start: Start,
    walked: Walked,
    listed: BTreeMap<Lsn, u64>,
    newest_snapshot: Option<Lsn>,
    /// Its parent does not lead to it (any more), or its beginning is gone: nothing can be restored before it has a snapshot.
    is_rootless: bool,
    /// The first entry that is not there, where the object that was confirmed last is not there either.
    lost_from: Option<Lsn>,
}

/// Notes the lineage in the directory, sees to it that it has a start, and walks its chain.
fn settle(
    client: &Client,
    source: &Source,
    local: &mut LocalLineage,
    options: &ArchiveOptions,
) -> Result<Place> {
    let noted = local.confirmed;
    let lineage = match local.lineage {
        // It was superseded while nobody wrote to it, and retention let go of it; or the store was emptied.
        Some(lineage)
            if options.lineage.is_none()
                && client.is_gone(&start_key(lineage))?
                && (local.confirmed.is_some() || is_lineage_condemned(client, lineage)?) =>
        {
            if let Some((confirmed, _)) = noted {
                // Before the note of it goes: should attaching end early, this was the only word.
                tracing::warn!(%lineage, %confirmed, "the archive has lost the lineage that was confirmed, or is another one");
            }
            local.confirmed = None;
            LineageId::random(&*source.environment.random)
        }
        Some(lineage) => lineage,
        None => LineageId::random(&*source.environment.random),
    };
    let owner = Owner { database: source.database(), lineage };
    local.lineage = Some(lineage);
    source.check_open()?;
    local.write(&*source.environment.disk, &source.root)?;
    let found = chain::start(client, lineage)?;
    let was_there = found.is_some();
    let (start, link) = begin(client, source, owner, found, local.parent, options.lineage.is_some())?;
    let snapshots = client.list(&snapshot_prefix(lineage))?;
    let newest_snapshot = snapshots.iter().filter_map(|object| parse_lsn(&object.key)).max();
    let listed = listed(client, lineage, local.confirmed, newest_snapshot, options)?;
    let walked = walk(client, source, &start, link, local.confirmed, &listed)?;
    let is_rootless = match start.parent {
        _ if newest_snapshot.is_some() || !was_there => false,
        // Put by a process that ended, it may have taken effect when nobody held any more what it names.
        Some(parent) if listed.is_empty() => Fork::of(client, source, parent)?.is_none(),
        _ => missing_base(client, lineage)?.is_some_and(|damage| {
            tracing::warn!(%damage, "the lineage has nothing to begin with, and is given a snapshot");
            true
        }),
    };
    let next = walked.chain.position().next;
    let lost_from = noted.filter(|_| !walked.ended).and_then(|(noted, _)| {
        if was_there || !listed.is_empty() {
            return (next <= noted).then_some(next);
        }
        // Where it began went with its start.
        Some(local.parent.map_or(Lsn::FIRST, |parent| parent.fork_lsn.next()))
    });
    Ok(Place { lineage, start, walked, listed, newest_snapshot, is_rootless, lost_from })
}

/// The objects of the chain that are of use: behind what was noted, and behind the newest snapshot, for their bytes are what
/// the next one is due by. All of them, where what was noted is gone.
fn listed(
    client: &Client,
    lineage: LineageId,
    noted: Option<(Lsn, Link)>,
    newest_snapshot: Option<Lsn>,
    options: &ArchiveOptions,
) -> Result<BTreeMap<Lsn, u64>> {
    let Some((noted, _)) = noted else { return chain::listed(client, lineage) };
    let counted = if options.snapshot_log_bytes == 0 { noted } else { newest_snapshot.unwrap_or_default() };
    let listed = chain::listed_from(client, lineage, noted.min(counted))?;
    if listed.contains_key(&noted) { Ok(listed) } else { chain::listed(client, lineage) }
}

/// The start object that was `found`, or else puts it.
fn begin(
    client: &Client,
    source: &Source,
    owner: Owner,
    found: Option<(Start, Link)>,
    parent: Option<Parent>,
    asked_for: bool,
) -> Result<(Start, Link)> {
    let key = start_key(owner.lineage);
    let ours = |(start, link): (Start, Link)| {
        if start.owner == owner {
            return Ok((start, link));
        }
        let reason = format!("it is a chain of database {}", start.owner.database);
        Err(Error::Fenced { key: key.clone(), reason })
    };
    if let Some(found) = found {
        return ours(found);
    }
    if asked_for && is_lineage_condemned(client, owner.lineage)? {
        return Err(ended(key.clone()));
    }
    let fork = parent.map_or(Ok(None), |parent| Fork::of(client, source, parent))?;
    let (parent, parent_next) = fork.as_ref().map(|fork| (fork.parent, fork.parent_next)).unzip();
    let first_lsn = match parent {
        Some(parent) => parent.fork_lsn.next(),
        None => first_of_new_chain(source, asked_for)?,
    };
    let created_ms = source.environment.clock.wall_ms();
    let start = Start { owner, first_lsn, created_ms, parent, parent_next };
    // Whatever it answers, what stands there then decides: another replica may have been first.
    let put = client.put_new(&key, &start.encode().bytes);
    match chain::start(client, owner.lineage)? {
        Some(found) => ours(found),
        None => Err(put.err().unwrap_or_else(|| super::store::missing(&key))),
    }
}

/// A place in a parent's chain at which a new one can begin, held.
struct Fork {
    parent: Parent,
    /// The entry that comes next in the parent's chain.
    parent_next: Lsn,
    _holds: Holds,
}

impl Fork {
    /// The fork, when the parent stands in this archive, is open, can be restored up to there, and the log here goes on from
    /// there.
    fn of(client: &Client, source: &Source, parent: Parent) -> Result<Option<Self>> {
        let lsn = parent.fork_lsn;
        if source.group.first_lsn() > lsn.next() || lsn > source.group.appended_lsn() {
            return Ok(None);
        }
        let archive = Archive::with_client(client.clone(), &source.environment);
        let plan = match Plan::new(&archive, Some(parent.lineage), Point::Lsn(lsn)) {
            Err(Error::NotFound { .. } | Error::ArchiveCorrupt(_)) => return Ok(None),
            plan => plan?,
        };
        if plan.owner().database != source.database() {
            return Ok(None);
        }
        let Some((history, base)) = whole_base(client, plan, lsn)? else { return Ok(None) };
        let holds = Holds::place(&archive, &history, &base)?;
        match holds.refused() {
            None => {}
            // A retention run is at work on just that, or died at it within the last day.
            Some(Error::ArchiveUnavailable { operation: "hold", .. }) => return Ok(None),
            Some(refused) => return Err(refused.clone()),
        }
        // Looked at again: what went before it was held is missed now.
        if !is_whole(client, &history, &base, lsn)? {
            return Ok(None);
        }
        let next = parent_next(client, &history, lsn)?;
        Ok(next.map(|parent_next| Self { parent, parent_next, _holds: holds }))
    }
}

/// The state nearest to an LSN that a history can be restored from, with all that it consists of.
fn whole_base(client: &Client, mut plan: Plan, lsn: Lsn) -> Result<Option<(History, Base)>> {
    loop {
        let base = match plan.next_base(client) {
            Err(Error::NotFound { .. } | Error::ArchiveCorrupt(_)) => return Ok(None),
            base => base?,
        };
        if is_whole(client, &plan.history, &base, lsn)? {
            return Ok(Some((plan.history, base)));
        }
    }
}

/// Whether the page segments of a base are there, with their lengths, and an object with the entry that it needs first to get
/// to an LSN.
fn is_whole(client: &Client, history: &History, base: &Base, lsn: Lsn) -> Result<bool> {
    if let Some(snapshot) = &base.snapshot {
        // One request for a thousand of them.
        let pages = client.list(PAGES_PREFIX)?.into_iter().map(|page| (page.key, page.bytes));
        let pages: BTreeMap<String, u64> = pages.collect();
        let is_there = |page: &SegmentEntry| pages.get(&page_key(&page.hash)) == Some(&u64::from(page.bytes));
        if !snapshot.pages().iter().all(is_there) {
            return Ok(false);
        }
    }
    let from = base.trees.replay_from;
    let stretch = &history.stretches[history.stretch_of(from)];
    Ok(from > lsn || chain::listed(client, stretch.lineage())?.range(..=from).next().is_some())
}

/// The entry that comes next in the chain that a history ends with, when that is open and reaches an LSN.
fn parent_next(client: &Client, history: &History, lsn: Lsn) -> Result<Option<Lsn>> {
    let Some(stretch) = history.stretches.last() else { return Ok(None) };
    let lineage = stretch.lineage();
    let listed = chain::listed(client, lineage)?;
    let tail = chain::tail(client, lineage, &listed, &mut Vec::new())?;
    if tail.newest.is_some_and(|newest| newest.is_end()) {
        return Ok(None);
    }
    let first = stretch.start.first_lsn;
    let next = tail.next.unwrap_or(first).max(lsn.next());
    if first == lsn.next() {
        return Ok(Some(next));
    }
    let Some((before, _)) = listed.range(..=lsn).next_back() else { return Ok(None) };
    let found = readable(Chain::from_lsn(client, stretch.owner(), *before).next_item(), &mut Vec::new())?;
    Ok(found.flatten().is_some_and(|item| item.last_lsn() >= lsn).then_some(next))
}

/// Where a chain without parent begins: with the first entry, or where a checkpoint can stand in for what is gone.
fn first_of_new_chain(source: &Source, asked_for: bool) -> Result<Lsn> {
    let first = source.group.first_lsn();
    if first == Lsn::FIRST {
        return Ok(first);
    }
    match source.checkpoint(false)? {
        Some((_, manifest)) => Ok(manifest.replay_from),
        None if asked_for => Err(Error::NotFound {
            what: "chain of the lineage that was asked for, and its entry",
            name: "1".to_owned(),
        }),
        None => Err(Error::InvalidArgument(
            "a log replica that does not begin at entry 1 archives to the lineage of its database: name it"
                .to_owned(),
        )),
    }
}
