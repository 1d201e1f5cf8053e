//! Pages that a checkpoint does not reach any more.

use std::collections::HashSet;

use logwood_base::PageAddr;

use super::CheckpointJob;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::{Ahead, Garbage};
use crate::store::{Detached, PageRef};

impl CheckpointJob {
    /// Tells the store which pages neither the trees at C nor the detached subtrees reach any more. Answers those that
    /// they do not reach although they cannot be retired yet, since later states below the change that replaced them may
    /// still use them; and all subtrees that are detached.
    pub(super) fn retire(&mut self) -> (Vec<PageRef>, Vec<Detached>) {
        let store = &self.shared.store;
        let (at, number) = (self.snapshot.lsn(), self.number);
        // What was found stands in sealed segments now. Should the commit fail, the next one names it.
        let found = self.detaching.take();
        let mut writer = self.shared.writer.lock();
        let garbage = std::mem::take(&mut writer.garbage);
        let ahead = std::mem::take(&mut writer.ahead);
        let left = writer.dropped.extract_if(.., |core| found.is_of(core)).collect::<Vec<_>>();
        writer.detached.extend(found.roots);
        let detached = writer.detached.clone();
        // There may be much to look through, and writers need not wait for it. What becomes garbage meanwhile counts as
        // reached: the walk is past it, or it is of a detached subtree that was copied just now.
        drop(writer);
        let (gone, mut kept): (Vec<_>, Vec<_>) = garbage.into_iter().partition(|garbage| {
            #[cfg(test)]
            if planted(Bug::RetiredWhileReached) {
                return true;
            }
            garbage.from <= at && garbage.after_job < number
        });
        let later = kept.iter().filter(|garbage| garbage.taken_up_by != number);
        let mut unreached: Vec<PageRef> = later.flat_map(|garbage| &garbage.pages).copied().collect();
        #[cfg(test)]
        if planted(Bug::ReplacedCountsAsReached) {
            self.written.replaced.clear();
        }
        unreached.append(&mut self.written.replaced);
        let ahead = self.add_ahead(ahead, &mut unreached, &gone);
        unreached.retain(|page| !self.kept_beside_changes.contains(&page.addr));
        // What this job replaced may have become garbage since, and so may what comes after C.
        unreached.sort_unstable_by_key(|page| page.addr);
        unreached.dedup_by_key(|page| page.addr);
        gone.iter().flat_map(|garbage| &garbage.pages).for_each(|page| store.retire(page));
        found.pages.iter().for_each(|page| store.retire(page));
        let mut writer = self.shared.writer.lock();
        kept.append(&mut writer.garbage);
        writer.garbage = kept;
        writer.ahead = ahead;
        drop(writer);
        // Perhaps the last that held them: memory is given back without the writer's lock.
        drop((left, found.trees));
        (unreached, detached)
    }

    /// Adds the pages of states that come after C, but for those that are garbage already. Answers what is left of them.
    fn add_ahead(&self, mut ahead: Vec<Ahead>, unreached: &mut Vec<PageRef>, gone: &[Garbage]) -> Vec<Ahead> {
        let at = self.snapshot.lsn();
        ahead.retain(|ahead| ahead.since > at);
        if ahead.is_empty() {
            return ahead;
        }
        let gone: HashSet<PageAddr> =
            gone.iter().flat_map(|garbage| &garbage.pages).map(|page| page.addr).collect();
        for ahead in &mut ahead {
            ahead.pages.retain(|page| !gone.contains(&page.addr));
            unreached.extend(&ahead.pages);
        }
        ahead
    }
}
