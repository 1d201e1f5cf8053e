//! What runs know of snapshots and page segments: kept from one run of an archiver to its next, so that a snapshot of a large
//! database is read once and not every hour.
//!
//! Page segments are numbered as they are met, and a snapshot is remembered as the set of its numbers. So a run takes about
//! 150 bytes of memory for each page segment that is listed or named, and one bit for each of them in each snapshot: of a
//! database of 1 TiB in segments of 16 MiB with a thousand snapshots, 10 MB and 8 MB; and while it runs, about 30 bytes for each
//! log object, and 50 for each object that is not needed. When more than twice as many
//! are numbered as are listed, everything is forgotten and read anew.
//!
//! What stands at a snapshot's key can be another one than before. So each time its head is fetched, which names all of its
//! bytes: what is remembered counts for that head alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use logwood_base::{ArchiveDamage, Environment, LineageId, Lsn, Result};

use super::flag::store_time;
use crate::archive::chain::readable;
use crate::archive::layout::{PAGES_PREFIX, Sha256, parse_page, snapshot_key};
use crate::archive::object::{self, HEAD_BYTES, Kind, Link, SnapshotObject};
use crate::archive::order;
use crate::archive::read::standing::{Standing, standing};
use crate::archive::store::Client;

/// Numbers that are kept however few page segments are listed.
const NUMBERS_KEPT_MIN: usize = 1 << 10;

/// A set of numbers of page segments.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Numbers(Vec<u64>);

impl Numbers {
    pub(super) fn insert(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 64);
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn is_within(&self, other: &Self) -> bool {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        self.0.iter().zip(others).all(|(word, other)| word & !other == 0)
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub(super) struct Snapshot {
    link: Link,
    pub(super) time_ms: u64,
    pub(super) replay_from: Lsn,
    pub(super) pages: Numbers,
    /// It states another length of a page segment than another snapshot: one of them cannot be right.
    is_at_odds: bool,
    /// How it stands to the chain, once the chain has told: neither of the two is written anew.
    standing: Option<Standing>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(in crate::archive) struct Facts {
    numbers: BTreeMap<Sha256, u32>,
    /// By number: the length that the first snapshot states which names it.
    lengths: Vec<u32>,
    snapshots: BTreeMap<(LineageId, Lsn), Snapshot>,
    /// The page segments that were listed when the run began, with their lengths.
    listed: Vec<(Sha256, u64)>,
    /// What the store's clock said when an archiver's first run began, and the monotonic time then.
    began: Option<(u64, Duration)>,
    /// Whether time alone changes nothing any more in what the last run found.
    pub(super) is_still: bool,
}

impl Facts {
    /// Begins a run: lists the page segments.
    pub(super) fn list_pages(&mut self, client: &Client) -> Result<()> {
        self.listed.clear();
        let listed = &mut self.listed;
        client.list_behind(PAGES_PREFIX, "", |page| {
            listed.extend(parse_page(&page.key).map(|hash| (hash, page.bytes)));
            if client.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        client.goes_on()?;
        if self.lengths.len() > (2 * self.listed.len()).max(NUMBERS_KEPT_MIN) {
            let listed = std::mem::take(&mut self.listed);
            *self = Self { listed, began: self.began, ..Self::default() };
        }
        Ok(())
    }

    /// Asks the store what time it is, for runs that follow each other.
    pub(super) fn begin(&mut self, client: &Client, environment: &Environment) -> Result<()> {
        if self.began.is_none() {
            let put_ms = store_time(client, environment)?;
            self.began = Some((put_ms, environment.clock.monotonic()));
        }
        Ok(())
    }

    /// The latest that it can be by the store's clock: as long after what that said when the first run began as has passed by the
    /// monotonic clock. Where the store is a directory its clock is the machine's, and this is the only one that does not jump
    /// with it. A run that is started by hand has nothing to go by.
    pub(super) fn latest_ms(&self, now: Duration) -> u64 {
        let Some((put_ms, then)) = self.began else { return u64::MAX };
        let elapsed_ms = u64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(u64::MAX);
        order::put_by(put_ms).saturating_add(elapsed_ms)
    }

    /// The page segments that were there when the run began, each with its number when a snapshot names it.
    pub(super) fn pages(&self) -> impl Iterator<Item = (Sha256, u64, Option<u32>)> {
        self.listed.iter().map(|(hash, bytes)| (*hash, *bytes, self.number(hash)))
    }

    pub(super) fn number(&self, hash: &Sha256) -> Option<u32> {
        self.numbers.get(hash).copied()
    }

    /// Those that were there with the lengths that snapshots state.
    pub(super) fn whole(&self) -> Numbers {
        let mut whole = Numbers::default();
        for (_, bytes, number) in self.pages() {
            if let Some(number) = number.filter(|number| u64::from(self.lengths[*number as usize]) == bytes) {
                whole.insert(number);
            }
        }
        whole
    }

    /// A snapshot that was read in this run.
    pub(super) fn snapshot(&self, lineage: LineageId, lsn: Lsn) -> Option<&Snapshot> {
        self.snapshots.get(&(lineage, lsn))
    }

    /// How a snapshot that was read in this run stands to the chain of its lineage; `None` when it cannot be read any more.
    pub(super) fn standing(
        &mut self,
        client: &Client,
        (lineage, lsn): (LineageId, Lsn),
        damage: &mut Vec<ArchiveDamage>,
    ) -> Result<Option<Standing>> {
        let known = self.snapshots.get_mut(&(lineage, lsn));
        if let Some(standing) = known.as_ref().and_then(|known| known.standing.as_ref()) {
            return Ok(Some(standing.clone()));
        }
        let key = snapshot_key(lineage, lsn);
        let found = readable(client.require(&key, Kind::Snapshot, SnapshotObject::decode), damage)?;
        let Some((snapshot, link)) = found else { return Ok(None) };
        let standing = standing(client, &snapshot)?;
        if let Some(known) = known.filter(|known| known.link == link)
            && matches!(standing, Standing::InChain | Standing::Contradicted(_))
        {
            known.standing = Some(standing.clone());
        }
        Ok(Some(standing))
    }

    /// Forgets snapshots that are not among those that were met.
    pub(super) fn forget(&mut self, is_there: impl Fn(LineageId, Lsn) -> bool) {
        self.snapshots.retain(|(lineage, lsn), _| is_there(*lineage, *lsn));
    }

    /// Reads a snapshot, of which a listing says that it is `bytes` long, unless it is known as it stands there. Answers
    /// whether it is there and can be read; damage is kept.
    pub(super) fn read(
        &mut self,
        client: &Client,
        (lineage, lsn, bytes): (LineageId, Lsn, u64),
        damage: &mut Vec<ArchiveDamage>,
    ) -> Result<bool> {
        client.goes_on()?;
        let key = snapshot_key(lineage, lsn);
        if let Some(known) = self.snapshots.get(&(lineage, lsn)) {
            let first = client.fetch_first(&key, bytes.min(HEAD_BYTES as u64), |key, first| {
                object::peek(key, first, bytes).map(|heading| heading.link)
            });
            if readable(first, &mut Vec::new())?.flatten() == Some(known.link) {
                return Ok(true);
            }
            self.snapshots.remove(&(lineage, lsn));
        }
        let found = readable(client.fetch(&key, Kind::Snapshot, SnapshotObject::decode), damage)?.flatten();
        let Some((found, link)) = found else { return Ok(false) };
        let known = self.of(&found, link);
        self.snapshots.insert((lineage, lsn), known);
        Ok(true)
    }

    fn of(&mut self, found: &SnapshotObject, link: Link) -> Snapshot {
        let (mut pages, mut is_at_odds) = (Numbers::default(), false);
        for page in found.pages() {
            let number = *self.numbers.entry(page.hash).or_insert_with(|| {
                self.lengths.push(page.bytes);
                (self.lengths.len() - 1) as u32
            });
            is_at_odds |= self.lengths[number as usize] != page.bytes;
            pages.insert(number);
        }
        let (time_ms, replay_from) = (found.time_ms, found.trees.replay_from);
        Snapshot { link, time_ms, replay_from, pages, is_at_odds, standing: None }
    }
}

impl Snapshot {
    /// Whether all its page segments are among these, which are there with their lengths.
    pub(super) fn is_whole(&self, whole: &Numbers) -> bool {
        !self.is_at_odds && self.pages.is_within(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_numbers_holds_what_was_put_in_and_nothing_else() {
        let (mut few, mut many) = (Numbers::default(), Numbers::default());
        for number in [0, 63, 64, 700] {
            many.insert(number);
        }
        few.insert(63);
        assert!(few.is_within(&many) && !many.is_within(&few));
        assert!(Numbers::default().is_within(&few) && Numbers::default().is_within(&Numbers::default()));
        assert!(many.contains(700) && !many.contains(699) && !many.contains(100_000));
        few.insert(1);
        assert!(!few.is_within(&many));
        few.add(&many);
        assert!(many.is_within(&few) && few.contains(1));
    }
}
