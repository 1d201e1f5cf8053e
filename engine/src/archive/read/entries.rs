//! The entries of a history from one LSN up to a point, in order.
//!
//! Objects are fetched ahead by what a listing names, and each is then proven to be the one that follows; where the
//! listing says nothing, the key says where the next object must be. So a listing can make this slower and never wrong:
//! what it leaves out is found by key, what it adds is not in the chain.
//!
//! Within a lineage the [chain](crate::archive::chain) proves what follows what. Where a lineage forks from its parent,
//! its start object does: the parent's entries end at the fork.

use std::collections::BTreeMap;

use logwood_base::{ArchiveDamage, Error, Lsn, Result, Term};

use super::history::{History, Stretch};
use super::plan::reach_of_wrong;
use super::{Archive, FETCHING, Point};
use crate::ahead::Ahead;
use crate::archive::chain::{self, Chain, Item};
use crate::archive::layout::log_key;
use crate::archive::object::{Gap, LogObject};
use crate::archive::store::Client;
use crate::entry;
use crate::planted::{Bug, planted};
use crate::seed::log::EntryStream;

/// The last entry that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reached {
    pub(crate) lsn: Lsn,
    pub(crate) term: Term,
    pub(crate) time_ms: u64,
}

/// Streams entries.
pub(crate) struct Entries<'a> {
    archive: &'a Archive,
    history: &'a History,
    point: Point,
    /// The first entry that is wanted.
    from: Lsn,
    /// Which stretch is being read, and what of it.
    at: usize,
    walk: Walk,
    /// The object being read, and where in it.
    current: Option<(LogObject, Lsn, usize)>,
    reached: Option<Reached>,
    /// A gap that was in the way.
    stopped_at: Option<Gap>,
    done: bool,
    /// Told the LSN after each object.
    progress: Box<dyn FnMut(Lsn) + 'a>,
}

/// A walk along the chain of one stretch.
struct Walk {
    client: Client,
    chain: Chain,
    /// What a listing has, also of what lies behind the point.
    listed: BTreeMap<Lsn, u64>,
    /// Where listed objects begin that are fetched ahead, ascending; those before `next` were taken.
    hints: Vec<Lsn>,
    next: usize,
    ahead: Ahead<Result<Option<Item>>>,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        archive: &'a Archive,
        history: &'a History,
        from: Lsn,
        point: Point,
        progress: Box<dyn FnMut(Lsn) + 'a>,
    ) -> Result<Self> {
        let at = history.stretch_of(from);
        let walk = Walk::begin(archive, &history.stretches[at], from, point)?;
        let done = matches!(point, Point::Lsn(last) if last < from);
        let (current, reached, stopped_at) = (None, None, None);
        Ok(Self { archive, history, point, from, at, walk, current, reached, stopped_at, done, progress })
    }

    /// The last entry that was read, if there was one.
    pub(crate) fn reached(&self) -> Option<Reached> {
        self.reached
    }

    /// The gap that was in the way, where its snapshot leads to the point.
    pub(crate) fn gap_before_point(&self) -> Option<&Gap> {
        let gap = self.stopped_at.as_ref()?;
        (!matches!(self.point, Point::Lsn(lsn) if lsn < gap.snapshot_lsn)).then_some(gap)
    }

    /// The first entry behind a fork, where the reading ended with it.
    pub(crate) fn first_behind_fork(&self) -> Option<Lsn> {
        let first = self.stretch().start.first_lsn;
        (self.at > 0 && self.walk.chain.position().next == first).then_some(first)
    }

    fn stretch(&self) -> &'a Stretch {
        &self.history.stretches[self.at]
    }

    /// Goes on to the next object, or to the next lineage, or ends.
    fn advance(&mut self) -> Result<()> {
        let stretch = self.stretch();
        let next = self.walk.chain.position().next;
        if next > stretch.last {
            return self.enter_next();
        }
        let Some(item) = self.walk.next_item(stretch)? else {
            // Nothing stands there, nor behind it: the end, if no other lineage goes on from further behind.
            return match self.history.stretches.get(self.at + 1) {
                None => {
                    self.done = true;
                    Ok(())
                }
                Some(_) => Err(chain::hole(stretch.lineage(), next, stretch.last.next()).into()),
            };
        };
        match item {
            Item::Log(object) => {
                (self.progress)(object.manifest.last_lsn);
                self.current = Some((object, next, 0));
                Ok(())
            }
            Item::Gap(gap, _) if gap.is_end() && self.at + 1 == self.history.stretches.len() => {
                self.done = true;
                Ok(())
            }
            Item::Gap(gap, _) if gap.last_lsn < self.from => Ok(()),
            Item::Gap(gap, _) => {
                let (first, last, key) = (gap.first_lsn, gap.last_lsn, gap.key());
                self.stopped_at = Some(gap);
                let name = format!("lsn {first} to {last}, which {key} says were never archived,");
                Err(Error::NotFound { what: "archived entry", name })
            }
        }
    }

    fn enter_next(&mut self) -> Result<()> {
        if self.at + 1 == self.history.stretches.len() {
            self.done = true;
            return Ok(());
        }
        self.at += 1;
        let from = self.from.max(self.stretch().start.first_lsn);
        self.walk = Walk::begin(self.archive, self.stretch(), from, self.point)?;
        Ok(())
    }

    /// Whether an entry lies behind the point.
    fn is_behind(&self, lsn: Lsn, time_ms: u64) -> bool {
        match self.point {
            Point::Latest => false,
            Point::Lsn(last) => lsn > last && !planted(Bug::RestoreBeyondPoint),
            Point::TimeMs(time) => time_ms > time || (time_ms == time && planted(Bug::TimeExclusive)),
        }
    }

    /// Takes the entry at a place of the current object; answers whether it is wanted.
    fn take(&mut self, lsn: Lsn, term: Term, time_ms: u64) -> Result<bool> {
        if lsn > self.stretch().last {
            self.current = None;
            self.enter_next()?;
            return Ok(false);
        }
        if self.is_behind(lsn, time_ms) {
            self.done = true;
            return Ok(false);
        }
        if lsn < self.from {
            return Ok(false);
        }
        let before = self.reached;
        let follows = before.is_none_or(|before| before.term <= term && before.time_ms <= time_ms);
        if !follows || lsn != before.map_or(self.from, |before| before.lsn.next()) {
            let (expected, found) =
                (format!("an entry behind {before:?}"), format!("lsn {lsn} of term {term}"));
            let key = log_key(self.stretch().lineage(), lsn);
            return Err(ArchiveDamage::new(&key, "entries follow each other", expected, found)
                .taking(lsn, lsn)
                .into());
        }
        self.reached = Some(Reached { lsn, term, time_ms });
        self.done =
            matches!(self.point, Point::Lsn(last) if last == lsn) && !planted(Bug::RestoreBeyondPoint);
        Ok(true)
    }
}

impl EntryStream for Entries<'_> {
    fn next(&mut self) -> Result<Option<(Lsn, Term, &[u8])>> {
        let place = loop {
            if self.done {
                return Ok(None);
            }
            let Some((object, lsn, at)) = &mut self.current else {
                self.advance()?;
                continue;
            };
            let Some((term, payload, behind)) = object.entry_at(*at) else {
                self.current = None;
                continue;
            };
            let (this, place) = (*lsn, *at);
            let time_ms = entry::time_of(payload);
            (*lsn, *at) = (lsn.next(), behind);
            if self.take(this, term, time_ms)? {
                break place;
            }
        };
        let Some((object, next, _)) = &self.current else { return Ok(None) };
        let lsn = next.previous();
        Ok(object.entry_at(place).map(|(term, payload, _)| (lsn, term, payload)))
    }
}

impl Walk {
    /// Begins at the object that holds `from`, or where it would be.
    fn begin(archive: &Archive, stretch: &Stretch, from: Lsn, point: Point) -> Result<Self> {
        let client = &archive.client;
        let last = match point {
            Point::Lsn(lsn) => lsn.min(stretch.last),
            _ => stretch.last,
        };
        let listed = chain::listed(client, stretch.lineage())?;
        let first = listed.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let chain = if first <= stretch.start.first_lsn {
            Chain::from_start(client, &stretch.start, stretch.link)
        } else {
            Chain::from_lsn(client, stretch.owner(), first)
        };
        let hints: Vec<Lsn> =
            listed.keys().copied().filter(|lsn| *lsn >= chain.position().next && *lsn <= last).collect();
        let keys: Vec<String> = hints.iter().map(|lsn| log_key(stretch.lineage(), *lsn)).collect();
        let (client, fetching) = (client.clone(), client.clone());
        let ahead = Ahead::new(&archive.environment, FETCHING, archive.fetching(), keys.len(), move |at| {
            chain::fetch(&fetching, &keys[at])
        })?;
        Ok(Self { client, chain, listed, hints, next: 0, ahead })
    }

    /// The next object of the chain; `None` where nothing stands, nor behind it.
    fn next_item(&mut self, stretch: &Stretch) -> Result<Option<Item>> {
        let wanted = self.chain.position().next;
        let (mut fetched, mut is_listed) = (None, false);
        while let Some(hint) = self.hints.get(self.next).filter(|hint| **hint <= wanted) {
            // What stands between two objects of a chain is none of it.
            let is_wanted = *hint == wanted;
            self.next += 1;
            let found = self.ahead.take();
            (fetched, is_listed) = if is_wanted { (found, true) } else { (None, false) };
        }
        if planted(Bug::ForgetLastObject) && self.next == self.hints.len() {
            return Ok(None);
        }
        if let Some(Ok(Some(item))) = fetched {
            if planted(Bug::TrustListing) {
                self.chain.follow(&item);
                return Ok(Some(item));
            }
            if self.chain.admit(&item.place()).is_ok() {
                return Ok(Some(item));
            }
        }
        // Asked again, as often as it takes: what came ahead may have been an older body.
        let behind = self.listed.range(wanted.next()..).next().map(|(behind, _)| *behind);
        let found = match self.chain.next_item() {
            Err(Error::ArchiveCorrupt(damage)) => return Err(self.taking_all(stretch, *damage)?.into()),
            found => found?,
        };
        match (found, behind) {
            (None, Some(behind)) => Err(chain::hole(stretch.lineage(), wanted, behind).into()),
            // The newest object of a chain goes with its lineage alone: it was there a moment ago.
            (None, None) if is_listed => {
                let key = log_key(stretch.lineage(), wanted);
                let damage = ArchiveDamage::new(&key, "chain", "an object, which is listed", "none");
                Err(self.taking_all(stretch, damage)?.into())
            }
            (found, _) => Ok(found),
        }
    }

    /// Says of the next object, which is wrong, which entries it takes: whatever it says itself, those up to the next one.
    fn taking_all(&self, stretch: &Stretch, damage: ArchiveDamage) -> Result<ArchiveDamage> {
        let first = self.chain.position().next;
        let last = match self.listed.range(first.next()..).next() {
            Some((behind, _)) => behind.previous(),
            None if stretch.last < Lsn::MAX => stretch.last.max(first),
            None => {
                let bytes = self.listed.get(&first).copied().unwrap_or(0);
                reach_of_wrong(&self.client, &self.chain, bytes, first)?
            }
        };
        Ok(damage.taking(first, last))
    }
}
