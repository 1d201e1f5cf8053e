//! What somebody else put where this archiver would have: compared with the log here as far as entries are decided, and gone
//! on behind, or `Fenced`.
//!
//! Where the log has let go of what it would compare, nothing but this archiver's own attempts is known: an object that it
//! gave up for a gap, or a gap that it gave up for another, may have taken effect late.

use logwood_base::{Error, Lsn, Result};

use super::chain::Item;
use super::compare;
use super::layout::log_key;
use super::uploader::{Uploader, ended};
use crate::planted::{Bug, planted};

impl Uploader {
    /// Takes an object in that somebody else put where this archiver would have.
    pub(super) fn adopt(&mut self, item: Item) -> Result<()> {
        self.other = Some((item, self.chain.position().next.previous()));
        self.step_other().map(drop)
    }

    /// Compares somebody else's object with the log here, as far as entries are decided. Answers whether anything was
    /// compared.
    pub(super) fn step_other(&mut self) -> Result<bool> {
        let Some((item, compared)) = self.other.take() else { return Ok(false) };
        self.gathered = None;
        let until = item.reaches().min(self.source.decided());
        if let Err(error) = self.compare_other(&item, compared, until) {
            self.other = Some((item, compared));
            return Err(error);
        }
        if until < item.reaches() {
            // Of a gap nothing is known before the last that it tells of. Until that is here nothing can be archived, and it
            // comes by appends alone: they must not be refused for what waits.
            let is_gap = matches!(item, Item::Gap(..));
            let until = if is_gap { compared } else { until.max(compared) };
            if is_gap {
                self.settle_all();
            }
            self.other = Some((item, until));
            if until > compared {
                self.moved(None);
            }
            return Ok(until > compared);
        }
        if let Item::Log(object) = &item {
            let counted = object.entries().filter(|(lsn, ..)| *lsn > self.attached_at);
            let counted: usize = counted.map(|(_, _, payload)| payload.len()).sum();
            self.source.with_gate(|gate, _| gate.settle(counted as u64));
            self.since_snapshot += object.entries_bytes() as u64;
            self.shared.update(|figures| figures.status.compared += 1);
        }
        self.chain.follow(&item);
        self.moved(Some((item.first_lsn(), item.link())));
        Ok(true)
    }

    /// Refuses somebody else's object unless it is of the history here: what stands between `compared` and `until`, with
    /// which it may end.
    fn compare_other(&self, item: &Item, compared: Lsn, until: Lsn) -> Result<()> {
        let fenced = |reason: String| {
            let key = log_key(self.shared.lineage, item.first_lsn());
            Err(Error::Fenced { key, reason })
        };
        let (reaches, here) = (item.reaches(), self.source.group.appended_lsn());
        let is_known = match item {
            Item::Log(object) => compare::entries(&self.source, object, compared.next(), until)?,
            Item::Gap(gap, _) if gap.is_end() => return Err(ended(gap.key())),
            Item::Gap(..) if self.source.decides_alone() && reaches > here && !planted(Bug::TrustGap) => {
                return fenced(format!("a gap to entry {reaches}, and here they end at {here}"));
            }
            Item::Gap(..) if until < reaches => return Ok(()),
            Item::Gap(gap, _) => compare::gap(&self.client, &self.source, gap)?,
        };
        // What the log has let go of cannot be compared; what this archiver has put need not be.
        if until < reaches || is_known || self.tried.contains(&item.link()) {
            return Ok(());
        }
        fenced(format!("entries to {reaches}, which the log here has let go of: attach another archiver"))
    }
}
