//! Unlinking versions that nobody needs.

use crossbeam_epoch::Guard;
use logwood_base::Lsn;

use super::registry::Needs;
use super::{Part, Previous};
use crate::account::Class;
use crate::node::leaf::Leaf;

/// Keeps of the versions before `leaf` only what `needs` asks for. Answers whether any is left. Only the holder of
/// the writer's lock calls this.
pub(crate) fn prune(leaf: &Leaf, needs: &Needs, guard: &Guard) -> bool {
    let Some(previous) = leaf.header().prev.load(guard) else { return false };
    let mut kept = Vec::new();
    let mut changed = false;
    for (number, part) in previous.parts().iter().enumerate() {
        let high = previous.parts().get(number + 1).map(|next| &*next.low);
        changed |= !keep_part(part, &part.low, high, part.valid_below, needs, guard, &mut kept);
    }
    let left = !kept.is_empty();
    if changed {
        leaf.header().prev.replace(Previous::new(kept), guard);
    }
    left
}

/// Appends `part`, cut to `low..high`, when it is needed; else what it kept itself of its own past. Answers whether
/// it stayed as it was.
fn keep_part(
    part: &Part,
    low: &[u8],
    high: Option<&[u8]>,
    valid_below: Lsn,
    needs: &Needs,
    guard: &Guard,
    kept: &mut Vec<Part>,
) -> bool {
    if needs.any_in(part.leaf.base_lsn(), valid_below) {
        part.leaf.header().share.move_to(Class::Kept);
        kept.push(Part { low: low.into(), leaf: part.leaf.clone(), valid_below });
        prune(&part.leaf, needs, guard);
        return true;
    }
    part.leaf.header().share.move_to(Class::Retired);
    if let Some(previous) = part.leaf.header().prev.load(guard) {
        for (number, older) in previous.parts().iter().enumerate() {
            let older_high = previous.parts().get(number + 1).map(|next| &*next.low);
            let from = if number == 0 { low } else { low.max(&*older.low) };
            let to = match (high, older_high) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if to.is_none_or(|to| from < to) {
                keep_part(older, from, to, older.valid_below, needs, guard, kept);
            }
        }
    }
    false
}
