//! New nodes in the place of old ones.

use std::ops::Range;

use smallvec::SmallVec;

use super::Applier;
use crate::descent::TreeCore;
use crate::node::inner::{CHILDREN_MAX, Inner, Keys, SEPARATOR_BYTES_MAX};
use crate::node::slot::Node;

/// What was taken out of an inner node, which readers may go on using.
struct Taken {
    /// The children of the nodes to come, and the separators between them.
    children: Vec<Node>,
    keys: Keys,
    /// The children whose place was taken.
    replaced: SmallVec<[Node; 2]>,
}

/// Ends the process when a panic unwinds through it: between taking the children out of a node that readers still
/// stand on and putting in the node that owns them, unwinding would free them under the readers.
pub(super) struct NoUnwinding;

impl Drop for NoUnwinding {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl Applier<'_> {
    /// Puts `nodes` in the place of `replaced` neighbouring children, of which the last step's is the first.
    pub(super) fn replace_child(
        &self,
        core: &TreeCore,
        steps: &[(&Inner, usize)],
        replaced: usize,
        nodes: Vec<Node>,
        separators: &Keys,
    ) {
        let Some(((parent, first), above)) = steps.split_last() else {
            return self.replace_root(core, nodes, separators);
        };
        let mut nodes = nodes;
        if nodes.len() == 1
            && replaced == 1
            && let Some(node) = nodes.pop()
        {
            return parent.slots()[*first].replace(node, self.guard);
        }
        let whole = NoUnwinding;
        let Taken { children, keys, replaced: gone } =
            self.take_children(parent, *first..*first + replaced, nodes, separators);
        if above.is_empty() && children.len() == 1 {
            // The tree becomes lower by one level.
            self.replace_root(core, children, &keys);
        } else {
            let at_end = first + replaced == parent.slots().len();
            let (inners, between) = self.build_inners(parent.level(), children, &keys, at_end);
            self.replace_child(core, above, 1, inners, &between);
        }
        std::mem::forget(whole);
        // Only now: until the new parent stands, a reader that comes still finds them through the old one.
        gone.into_iter().for_each(|node| node.retire(self.guard));
    }

    /// Moves the children of `parent` out of it, with `nodes` in the place of the span.
    fn take_children(
        &self,
        parent: &Inner,
        span: Range<usize>,
        nodes: Vec<Node>,
        separators: &Keys,
    ) -> Taken {
        let slots = parent.slots();
        let mut keys = Keys::default();
        parent.copy_separators(0..span.start, &mut keys);
        separators.iter().for_each(|key| keys.push(key));
        parent.copy_separators(span.end - 1..slots.len() - 1, &mut keys);
        let mut children = Vec::with_capacity(slots.len() + nodes.len());
        children.extend(slots[..span.start].iter().map(|slot| slot.freeze()));
        let replaced = slots[span.clone()].iter().map(|slot| slot.freeze()).collect();
        children.extend(nodes);
        children.extend(slots[span.end..].iter().map(|slot| slot.freeze()));
        Taken { children, keys, replaced }
    }

    /// As many inner nodes as the children need.
    pub(super) fn build_inners(
        &self,
        level: u8,
        children: Vec<Node>,
        keys: &Keys,
        at_end: bool,
    ) -> (Vec<Node>, Keys) {
        let mut children = children.into_iter();
        let mut inners = Vec::new();
        let mut between = Keys::default();
        let mut from = 0;
        for to in inner_cuts(keys, at_end) {
            let part = keys.slice(from..to - 1);
            let nodes = children.by_ref().take(to - from).collect();
            inners.push(Node::Inner(Inner::new(level, &part, nodes, self.lsn, &self.shared.account)));
            if to - 1 < keys.len() {
                between.push(keys.get(to - 1));
            }
            from = to;
        }
        (inners, between)
    }

    /// Puts one node, or a new level over several, at the root.
    pub(super) fn replace_root(&self, core: &TreeCore, mut nodes: Vec<Node>, separators: &Keys) {
        let mut keys = separators.clone();
        while nodes.len() > 1 {
            let below = match &nodes[0] {
                Node::Inner(inner) => inner.level(),
                _ => 0,
            };
            (nodes, keys) = self.build_inners(below + 1, nodes, &keys, false);
        }
        if let Some(node) = nodes.pop() {
            core.root.replace(node, self.guard);
        }
    }
}

/// Where to cut the children of an inner node: the ends of the pieces. There is one child more than keys.
fn inner_cuts(keys: &Keys, at_end: bool) -> Vec<usize> {
    let children = keys.len() + 1;
    let by_bytes = keys.bytes().div_ceil(SEPARATOR_BYTES_MAX).max(1);
    // Two children at least stay together, however long their separators are.
    let pieces = children.div_ceil(CHILDREN_MAX).max(by_bytes).min(children / 2).max(1);
    if pieces == 2 && at_end && children > 16 {
        return vec![children * 9 / 10, children];
    }
    (1..=pieces).map(|piece| children * piece / pieces).collect()
}
