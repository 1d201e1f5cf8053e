//! What a point in time is restored from: a snapshot, or the beginning of the history.
//!
//! The newest snapshot at or before the point is the nearest; when it is damaged the next older one does as well, with
//! more log behind it, and what was found is told. One that the chain has not come to may be of another history: it is taken
//! last, but where its own LSN is the point, which nothing else leads to. A point before everything that retention keeps is not
//! there, which is no damage.

use logwood_base::{
    ArchiveDamage, Error, Generation, LineageId, LogId, LogPosition, Lsn, Result, SegmentNo, Term,
};
use logwood_btree::store::Manifest;

use super::history::{History, newest, starts};
use super::standing::{Standing, standing};
use super::{Archive, Point};
use crate::archive::chain::{self, Chain, Content, Place};
use crate::archive::layout::{log_key, parse_lsn, snapshot_key, snapshot_prefix, start_key};
use crate::archive::object::{Gap, Kind, Owner, SnapshotObject};
use crate::archive::store::{Client, missing_object};
use crate::archive::utc;
use crate::planted::{Bug, planted};
use crate::state::EngineState;

/// Looks for what a point is restored from.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) history: History,
    point: Point,
    /// Snapshots that were not looked at yet, by stretch and LSN: the newest is last.
    snapshots: Vec<(Lsn, usize)>,
    /// Whether the whole history is there, from entry 1 on.
    from_first: bool,
    /// The oldest snapshot that is listed, at or behind the point as well.
    oldest: Option<Lsn>,
    /// Snapshots that the chain has not come to, the newest first.
    ahead: Vec<SnapshotObject>,
    /// What kept better choices from being made.
    pub(crate) passed_over: Vec<Error>,
    /// What is to be told of snapshots that the chain has not come to.
    pub(crate) doubts: Vec<String>,
}

/// A state to begin with.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// The object; `None` for the empty database before entry 1.
    pub(crate) snapshot: Option<SnapshotObject>,
    pub(crate) trees: Manifest,
    /// Term of the entry before `replay_from`.
    pub(crate) term: Term,
    /// The chain has not come to it: it may be of another history.
    pub(crate) is_ahead: bool,
}

impl Plan {
    pub(crate) fn new(archive: &Archive, lineage: Option<LineageId>, point: Point) -> Result<Self> {
        if point == Point::Lsn(Lsn::ZERO) {
            return Err(Error::InvalidArgument("entries are numbered from lsn 1 on".to_owned()));
        }
        let lineage = match lineage {
            Some(lineage) => lineage,
            None => newest(archive)?.lineage,
        };
        let history = History::of(&archive.client, lineage)?;
        if let Point::Lsn(lsn) = point
            && let Some(unkept) = unkept_behind_fork(&archive.client, &history, (point, lsn))?
        {
            return Err(unkept);
        }
        if let Point::Lsn(lsn) = point {
            refuse_beyond_end(&archive.client, &history, lsn)?;
        }
        let (mut snapshots, mut oldest) = (Vec::new(), None);
        for (at, stretch) in history.stretches.iter().enumerate() {
            let last = match point {
                Point::Lsn(lsn) => lsn.min(stretch.last),
                _ => stretch.last,
            };
            let listed = snapshots_of(&archive.client, stretch.lineage())?;
            oldest =
                oldest.into_iter().chain(listed.iter().copied().filter(|lsn| *lsn <= stretch.last)).min();
            snapshots.extend(listed.into_iter().filter(|lsn| *lsn <= last).map(|lsn| (lsn, at)));
        }
        snapshots.sort_unstable();
        let first = &history.stretches[0].start;
        let from_first = first.first_lsn == Lsn::FIRST && first.parent.is_none();
        let passed_over = history.cut.iter().cloned().collect();
        let (ahead, doubts) = (Vec::new(), Vec::new());
        Ok(Self { history, point, snapshots, from_first, oldest, ahead, passed_over, doubts })
    }

    pub(crate) fn owner(&self) -> Owner {
        self.history.owner()
    }

    /// Whether a snapshot that may be of another history is begun with in the place of a base whose log failed: where the history
    /// has nothing to begin with, because its beginning has gone, or goes no further, for a gap. Where something that is there is
    /// damaged, or is missed further on, that is the answer: before it other points can be restored, and the snapshot's own by its
    /// LSN.
    pub(crate) fn falls_to_ahead(&self, client: &Client, base: &Base, error: &Error) -> Result<bool> {
        if self.ahead.is_empty() {
            return Ok(false);
        }
        match error {
            Error::NotFound { .. } => Ok(true),
            Error::ArchiveCorrupt(_) if base.snapshot.is_none() => client.is_gone(&self.first_key()),
            _ => Ok(false),
        }
    }

    /// Whether a snapshot of a lineage is one that the chain has not come to, as far as it was looked at.
    pub(crate) fn is_ahead(&self, lineage: LineageId, lsn: Lsn) -> bool {
        self.ahead.iter().any(|ahead| ahead.owner.lineage == lineage && ahead.lsn() == lsn)
    }

    /// Where the first entry of the history stands.
    fn first_key(&self) -> String {
        log_key(self.history.stretches[0].lineage(), Lsn::FIRST)
    }

    /// Leaves a snapshot out, for what was found wrong with it.
    pub(crate) fn pass_over(&mut self, snapshot: Lsn, damage: Error) {
        self.snapshots.retain(|(lsn, _)| *lsn != snapshot);
        self.passed_over.push(damage);
    }

    /// The next best state to begin with.
    ///
    /// # Errors
    /// When there is none left: the first damage that was in the way, or `NotFound`; `ArchiveUnavailable`.
    pub(crate) fn next_base(&mut self, client: &Client) -> Result<Base> {
        while let Some((lsn, at)) = self.snapshots.pop() {
            let owner = self.history.stretches[at].owner();
            let key = snapshot_key(owner.lineage, lsn);
            match client.require(&key, Kind::Snapshot, |key, bytes| owned_snapshot(owner, key, bytes)) {
                Ok(snapshot) if matches!(self.point, Point::TimeMs(time) if snapshot.time_ms > time) => {}
                Ok(snapshot) => match standing(client, &snapshot)? {
                    Standing::Contradicted(damage) => self.passed_over.push(damage.into()),
                    Standing::Ahead(next) => {
                        let end = next.previous();
                        self.doubts.push(format!(
                            "{key} stands beyond lsn {end}, where the log of its lineage ends, and may be of another \
                             history: it is restored where its lsn is asked for, or there is nothing else"
                        ));
                        if self.point == Point::Lsn(lsn) {
                            return Ok(Base::ahead(snapshot));
                        }
                        self.ahead.push(snapshot);
                    }
                    Standing::InChain | Standing::Unknown => return Ok(Base::of(snapshot)),
                },
                Err(error @ Error::ArchiveCorrupt(_)) => self.passed_over.push(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(oldest) = self.kept_from(client)? {
            let name = format!("{}, for points before lsn {oldest} are not kept,", self.point);
            return Err(Error::NotFound { what: "restorable point", name });
        }
        if std::mem::take(&mut self.from_first) {
            let trees = Manifest {
                generation: Generation(1),
                database: self.owner().database,
                log: LogId(0),
                checkpoint_lsn: Lsn::ZERO,
                replay_from: Lsn::FIRST,
                log_durable_end: LogPosition::ZERO,
                next_segment: SegmentNo(1),
                engine_state: EngineState::new().encode(),
                trees: Vec::new(),
                detached: Vec::new(),
                segments: Vec::new(),
            };
            return Ok(Base { snapshot: None, trees, term: Term::NONE, is_ahead: false });
        }
        if !self.ahead.is_empty() {
            return Ok(Base::ahead(self.ahead.remove(0)));
        }
        if self.passed_over.is_empty() {
            // Retention takes a parent as a whole only where a child has something to begin with.
            if let Some(parent) = self.history.stretches[0].start.parent {
                let lost = missing_object(&start_key(parent.lineage));
                return Err(lost.taking(Lsn::FIRST, parent.fork_lsn).into());
            }
            let name = format!(
                "{} of lineage {}, for no snapshot is old enough and its log does not begin at 1{},",
                self.point,
                self.owner().lineage,
                self.told_others(client)?
            );
            return Err(Error::NotFound { what: "restorable point", name });
        }
        Err(self.passed_over.remove(0))
    }

    /// Which other lineages can be asked for: one that has just begun may be the latest, and hold no point yet.
    fn told_others(&self, client: &Client) -> Result<String> {
        let own = self.owner().lineage;
        let all = starts(client)?.found.into_iter().map(|(start, _)| start.owner.lineage);
        let others: Vec<String> = all.filter(|other| *other != own).map(|other| other.to_string()).collect();
        Ok(if others.is_empty() {
            String::new()
        } else {
            format!(", while the archive has other lineages: {}", others.join(", "))
        })
    }

    /// That the point is not kept, where the log of a lineage is missing from its first entry on, which is `first`: up to the fork
    /// all entries are at most as late as the point in time, and whether the next ones are went with them. Where anything that is
    /// there cannot be used, that is in the way.
    pub(crate) fn unkept_behind_fork(&self, client: &Client, first: Lsn) -> Result<Option<Error>> {
        let is_in_the_way = !self.passed_over.is_empty() || !self.ahead.is_empty();
        if is_in_the_way || !matches!(self.point, Point::TimeMs(_)) {
            return Ok(None);
        }
        unkept_behind_fork(client, &self.history, (self.point, first))
    }

    /// The first point that is kept, where the one that is asked for lies before it: retention has let go of the first entries,
    /// and of all snapshots before one that stands. Where anything that is there cannot be used, that is in the way.
    fn kept_from(&self, client: &Client) -> Result<Option<Lsn>> {
        let is_in_the_way = !self.passed_over.is_empty() || !self.ahead.is_empty();
        if is_in_the_way || self.point == Point::Latest || self.oldest.is_none() {
            return Ok(None);
        }
        if self.from_first && !client.is_gone(&self.first_key())? {
            return Ok(None);
        }
        Ok(self.oldest)
    }
}

/// Refuses a point beyond the end of the history, where it ends with entries that no snapshot and no other lineage reaches beyond:
/// before anything is fetched, or made where it is to be restored. Whatever leaves that open is for the reading to find out.
fn refuse_beyond_end(client: &Client, history: &History, lsn: Lsn) -> Result<()> {
    let Some(stretch) = history.stretches.last() else { return Ok(()) };
    let lineage = stretch.lineage();
    let Some((newest, bytes)) = chain::listed_at(client, lineage, lsn)? else { return Ok(()) };
    let place = chain::readable(chain::peek(client, &log_key(lineage, newest), bytes), &mut Vec::new())?;
    let Some(place) = place.flatten() else { return Ok(()) };
    let end = place.last_lsn;
    let is_end =
        matches!(place.content, Content::Entries(..)) && end < lsn && newest >= stretch.start.first_lsn;
    if !is_end
        || snapshots_of(client, lineage)?.into_iter().any(|snapshot| snapshot > end)
        || !chain::listed_from(client, lineage, end.next())?.is_empty()
        || !client.is_gone(&log_key(lineage, end.next()))?
    {
        return Ok(());
    }
    let mut parents = starts(client)?.found.into_iter().filter_map(|(start, _)| start.parent);
    if parents.any(|parent| parent.lineage == lineage && parent.fork_lsn > end) {
        return Ok(());
    }
    let name = format!("lsn {lsn}, for the archive ends at lsn {end},");
    Err(Error::NotFound { what: "archived entry", name })
}

/// That an entry lies between a fork and the first snapshot behind it, where retention has let go of the points there: no snapshot
/// before the fork leads to them then. It is told by the log's beginning, as a listing tells it.
fn unkept_behind_fork(
    client: &Client,
    history: &History,
    (point, lsn): (Point, Lsn),
) -> Result<Option<Error>> {
    let at = history.stretch_of(lsn);
    let (lineage, first) = (history.stretches[at].lineage(), history.stretches[at].start.first_lsn);
    if at == 0 {
        return Ok(None);
    }
    match snapshots_of(client, lineage)?.into_iter().min().filter(|oldest| *oldest > lsn) {
        Some(oldest) if client.is_gone(&log_key(lineage, first))? => {
            let last = oldest.previous();
            let name = format!("{point}, for points from lsn {first} to {last} are not kept,");
            Ok(Some(Error::NotFound { what: "restorable point", name }))
        }
        _ => Ok(None),
    }
}

/// That the snapshot is missing which leads over a gap, where that is damage: retention takes it only where a later one is there to
/// begin with, or with all of a lineage that it has closed. `is_ahead` tells later ones that the chain has not come to.
pub(crate) fn lost_snapshot(
    client: &Client,
    gap: &Gap,
    is_ahead: impl Fn(&Lsn) -> bool,
) -> Result<Option<Error>> {
    let lineage = gap.owner.lineage;
    let key = snapshot_key(lineage, gap.snapshot_lsn);
    if !client.is_gone(&key)? {
        return Ok(None);
    }
    let is_later = |lsn: &Lsn| *lsn > gap.snapshot_lsn && !is_ahead(lsn);
    if snapshots_of(client, lineage)?.iter().any(is_later) {
        return Ok(None);
    }
    let newest = chain::listed(client, lineage)?.keys().next_back().copied().unwrap_or(gap.first_lsn);
    let found = chain::readable(chain::fetch(client, &log_key(lineage, newest)), &mut Vec::new())?;
    let place = found.flatten().map(|item| item.place());
    if place.as_ref().is_some_and(Place::is_end) {
        return Ok(None);
    }
    let last = place.map_or(newest, |place| place.last_lsn).max(gap.snapshot_lsn);
    Ok(Some(missing_object(&key).taking(gap.last_lsn.next().min(gap.snapshot_lsn), last).into()))
}

impl Base {
    fn of(snapshot: SnapshotObject) -> Self {
        let (trees, term) = (snapshot.trees.clone(), snapshot.base_term);
        Self { snapshot: Some(snapshot), trees, term, is_ahead: false }
    }

    fn ahead(snapshot: SnapshotObject) -> Self {
        Self { is_ahead: true, ..Self::of(snapshot) }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("the latest entry"),
            Self::Lsn(lsn) => write!(f, "lsn {lsn}"),
            Self::TimeMs(time) => f.write_str(&utc(*time)),
        }
    }
}

/// The LSNs of a lineage's snapshots, ascending, as a listing has them.
pub(crate) fn snapshots_of(client: &Client, lineage: LineageId) -> Result<Vec<Lsn>> {
    let objects = client.list(&snapshot_prefix(lineage))?;
    Ok(objects.iter().filter_map(|object| parse_lsn(&object.key)).collect())
}

/// Reads a snapshot that must belong to `owner`.
pub(crate) fn owned_snapshot(owner: Owner, key: &str, bytes: &[u8]) -> Result<SnapshotObject> {
    let (snapshot, _) = SnapshotObject::decode(key, bytes)?;
    if snapshot.owner == owner || planted(Bug::ForeignSnapshot) {
        return Ok(snapshot);
    }
    let (expected, found) = (owner.database, snapshot.owner.database);
    Err(ArchiveDamage::new(key, "snapshot's database", expected, found).into())
}

/// How far the last object of a chain reaches that is wrong and `bytes` long, which is the next one of a walk: as far as its head
/// says, where that is right, or a snapshot stands; at least to `least`.
pub(crate) fn reach_of_wrong(client: &Client, chain: &Chain, bytes: u64, least: Lsn) -> Result<Lsn> {
    let (lineage, first) = (chain.owner().lineage, chain.position().next);
    let newest = snapshots_of(client, lineage)?.into_iter().max();
    let place = chain::peek(client, &log_key(lineage, first), bytes).ok().flatten();
    let place = place.filter(|place| !place.is_end() && chain.clone().admit(place).is_ok());
    let known = newest.into_iter().chain(place.map(|place| place.last_lsn));
    Ok(known.max().map_or(least, |known| known.max(least)))
}
