//! A leaf that became small joins a neighbour.
//!
//! Only a neighbour under the same parent, and only one that is in memory: a page is never read to save space.

use super::Applier;
use crate::descent::{TreeCore, Way};
use crate::node::content::Content;
use crate::node::inner::Keys;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
use crate::shared::Place;
use crate::version::Older;

impl Applier<'_> {
    /// Builds one leaf of `content`, which is to replace `leaf`, and of a neighbour's records, if there is one with
    /// room. Else the content comes back. `older` as for [`Applier::rebuild`].
    pub(super) fn join_neighbour<'v>(
        &mut self,
        core: &TreeCore,
        way: &Way<'_>,
        leaf: &Leaf,
        older: Option<&Older>,
        content: Content<'v>,
    ) -> Option<Content<'v>> {
        let Some(((parent, child), above)) = way.steps.split_last() else { return Some(content) };
        let low = &way.low().unwrap_or_default()[..];
        let room = (self.shared.options.leaf_bytes * 3 / 4).saturating_sub(content.cost);
        for (number, left) in [(child + 1, false), (child.wrapping_sub(1), true)] {
            let Some(slot) = parent.slots().get(number) else { continue };
            let seen = slot.load(self.guard);
            let Some(neighbour) = seen.leaf() else { continue };
            let theirs = Content::of(neighbour, &[]);
            if theirs.cost > room {
                continue;
            }
            let border = parent.separator(number.min(*child));
            let their_low = match number {
                0 => Way::low_of(above).unwrap_or_default(),
                _ => parent.separator(number - 1),
            };
            let (first, second, past) = if left {
                let mut past = self.past_of(neighbour, &their_low, Some(&border));
                past.extend(self.past_on_disk(leaf, older, &border, None));
                (theirs, content, past)
            } else {
                let mut past = self.past_on_disk(leaf, older, low, Some(&border));
                past.extend(self.past_of(neighbour, &border, None));
                (content, theirs, past)
            };
            let joined = self.new_leaf(&first.with(second), past);
            let carried = joined.pages();
            self.supersede_on_disk(leaf, older, &carried, Place { keyspace: core.id, key: low });
            self.supersede(neighbour, &carried, Place { keyspace: core.id, key: &their_low });
            let mut steps = way.steps.clone();
            if let Some(last) = steps.last_mut() {
                last.1 = number.min(*child);
            }
            self.replace_child(core, &steps, 2, vec![Node::Leaf(joined)], &Keys::default());
            return None;
        }
        Some(content)
    }
}
