//! Unlinking versions that nobody needs.
//!
//! Versions form a graph and not a tree: both halves of a split leaf name it, and a merged leaf names two. One call
//! prunes each version once, or its time would double with every split and merge that snapshots hold. A chain that was
//! pruned and lies below the visible LSN is not walked again before a snapshot is released ([`Previous::settle`]), or
//! each write to a leaf would cost a walk along all versions of it that snapshots hold.

use std::collections::HashSet;

use crossbeam_epoch::Guard;
use logwood_base::Lsn;

use super::cell::EpochCell;
use super::registry::Needs;
use super::{Older, Part, Previous};
use crate::account::Class;

/// Keeps of the versions before a leaf only what `needs` asks for. Answers whether any is left. Only the holder of
/// the writer's lock calls this.
pub(crate) fn prune(before: &EpochCell<Previous>, needs: &Needs, guard: &Guard) -> bool {
    Pruning { needs, guard, pruned: HashSet::new() }.versions_before(before)
}

#[cfg(test)]
thread_local! {
    /// How often this thread looked through the versions before a leaf.
    pub(crate) static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

fn count_look() {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
}

struct Pruning<'p> {
    needs: &'p Needs,
    guard: &'p Guard,
    /// Leaves whose past was looked through. What is needed does not change meanwhile.
    pruned: HashSet<usize>,
}

impl Pruning<'_> {
    fn versions_before(&mut self, before: &EpochCell<Previous>) -> bool {
        let Some(previous) = before.load(self.guard) else { return false };
        if previous.is_settled(self.needs) {
            return true;
        }
        count_look();
        let mut kept = Vec::new();
        let mut changed = false;
        for (number, part) in previous.parts().iter().enumerate() {
            let high = previous.parts().get(number + 1).map(|next| &*next.low);
            changed |= !self.keep_part(part, &part.low, high, part.valid_below, &mut kept);
        }
        if !changed {
            previous.settle(self.needs);
            return true;
        }
        let kept = Previous::new(kept);
        let left = kept.is_some();
        if let Some(kept) = &kept {
            kept.settle(self.needs);
        }
        before.replace(kept, self.guard);
        left
    }

    /// Appends `part`, cut to `low..high`, when it is needed; else what it kept itself of its own past. Answers whether
    /// it stayed as it was.
    fn keep_part(
        &mut self,
        part: &Part,
        low: &[u8],
        high: Option<&[u8]>,
        valid_below: Lsn,
        kept: &mut Vec<Part>,
    ) -> bool {
        if self.needs.any_in(part.older.base_lsn(), valid_below) {
            // Two halves of a leaf that were joined again are one part.
            let continues = |last: &Part| last.older.is(&part.older) && last.valid_below == valid_below;
            if kept.last().is_some_and(continues) {
                return false;
            }
            kept.push(Part { low: low.into(), older: part.older.clone(), valid_below });
            if let Older::Leaf(leaf) = &part.older {
                leaf.header().share.move_to(Class::Kept);
                if self.pruned.insert(leaf.address()) {
                    self.versions_before(&leaf.header().prev);
                }
            }
            return true;
        }
        // Nobody reads below the LSN at which a tree was detached: so nobody reads any older version in it.
        let Older::Leaf(leaf) = &part.older else { return false };
        leaf.header().share.move_to(Class::Retired);
        if let Some(previous) = leaf.header().prev.load(self.guard) {
            for (number, older) in previous.parts().iter().enumerate() {
                let older_high = previous.parts().get(number + 1).map(|next| &*next.low);
                let from = if number == 0 { low } else { low.max(&*older.low) };
                let to = match (high, older_high) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                if to.is_none_or(|to| from < to) {
                    self.keep_part(older, from, to, older.valid_below, kept);
                }
            }
        }
        false
    }
}
