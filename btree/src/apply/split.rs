//! New nodes in the place of old ones.
//!
//! A node whose children split is built anew. Sorted changes split many neighbours one after the other: what takes their
//! places waits ([`Waiting`]), and their parent is built once for all of them. Meanwhile the tree is what it was before: a way
//! to any other child of that parent stays true, and readers find the old children through it.

use std::ops::Range;

use smallvec::SmallVec;

use super::Applier;
use crate::descent::{Steps, TreeCore, Way};
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

/// Nodes in the place of neighbouring children of one node.
pub(super) struct Replacement {
    span: Range<usize>,
    nodes: Vec<Node>,
    /// Between the nodes.
    separators: Keys,
}

/// New children that wait for their parent to be built anew.
#[derive(Default)]
pub(super) struct Waiting<'g> {
    /// The way to the last of the children that they replace; of no meaning while there are none.
    steps: Steps<'g>,
    /// Ascending.
    replacements: Vec<Replacement>,
}

impl Waiting<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.replacements.is_empty()
    }

    /// Whether `key`, which is not below what waits, is the parent's: a way to it is of the tree that the new children will
    /// change.
    pub(super) fn is_below_parent(&self, key: &[u8]) -> bool {
        self.steps.split_last().is_some_and(|(_, above)| Way::reaches_below(above, key))
    }
}

/// Ends the process when a panic unwinds through it: between taking the children out of a node that readers still
/// stand on and putting in the node that owns them, unwinding would free them under the readers.
pub(super) struct NoUnwinding;

impl Drop for NoUnwinding {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl<'s> Applier<'s> {
    /// Puts `nodes` in the place of the child at the end of `steps`: at once, or with others of its parent's children.
    pub(super) fn replace_later(
        &self,
        core: &TreeCore,
        steps: &Steps<'s>,
        nodes: Vec<Node>,
        separators: Keys,
        waiting: &mut Waiting<'s>,
    ) {
        let Some((parent, first)) = steps.last().filter(|_| nodes.len() > 1) else {
            return self.replace_child(core, steps, 1, nodes, &separators);
        };
        let is_parent = |(other, _): &(&Inner, usize)| std::ptr::eq(*other, *parent);
        assert!(waiting.steps.last().is_none_or(is_parent), "children of one parent wait");
        waiting.replacements.push(Replacement { span: *first..first + 1, nodes, separators });
        waiting.steps.clone_from(steps);
    }

    /// Puts in their places what waits, and leaves nothing waiting.
    pub(super) fn replace_waiting(&self, core: &TreeCore, waiting: &mut Waiting<'s>) {
        let Waiting { steps, replacements } = std::mem::take(waiting);
        if let Some(((parent, _), above)) = steps.split_last()
            && !replacements.is_empty()
        {
            self.replace_children(core, parent, above, replacements);
        }
    }

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
        let span = *first..*first + replaced;
        let replacement = Replacement { span, nodes, separators: separators.clone() };
        self.replace_children(core, parent, above, vec![replacement]);
    }

    /// Builds `parent`, to which the steps `above` lead, anew, with some of its children replaced.
    fn replace_children(
        &self,
        core: &TreeCore,
        parent: &Inner,
        above: &[(&Inner, usize)],
        replacements: Vec<Replacement>,
    ) {
        // Keys that arrive in order all fall into the last child.
        let at_end = matches!(&replacements[..], [only] if only.span.end == parent.slots().len());
        let whole = NoUnwinding;
        let Taken { children, keys, replaced: gone } = self.take_children(parent, replacements);
        if above.is_empty() && children.len() == 1 {
            // The tree becomes lower by one level.
            self.replace_root(core, children, &keys);
        } else {
            let (inners, between) = self.build_inners(parent.level(), children, &keys, at_end);
            self.replace_child(core, above, 1, inners, &between);
        }
        std::mem::forget(whole);
        // Only now: until the new parent stands, a reader that comes still finds them through the old one.
        gone.into_iter().for_each(|node| node.retire(self.guard));
    }

    /// Moves the children of `parent` out of it, with new ones in the place of some.
    fn take_children(&self, parent: &Inner, replacements: Vec<Replacement>) -> Taken {
        let slots = parent.slots();
        let more: usize = replacements.iter().map(|replacement| replacement.nodes.len()).sum();
        let mut keys = Keys::default();
        let mut children = Vec::with_capacity(slots.len() + more);
        let mut replaced = SmallVec::new();
        // The first child that was not taken, and the first separator.
        let (mut child, mut separator) = (0, 0);
        for Replacement { span, nodes, separators } in replacements {
            parent.copy_separators(separator..span.start, &mut keys);
            separators.iter().for_each(|key| keys.push(key));
            children.extend(slots[child..span.start].iter().map(|slot| slot.freeze()));
            replaced.extend(slots[span.clone()].iter().map(|slot| slot.freeze()));
            children.extend(nodes);
            (child, separator) = (span.end, span.end - 1);
        }
        parent.copy_separators(separator..slots.len() - 1, &mut keys);
        children.extend(slots[child..].iter().map(|slot| slot.freeze()));
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
