//! Range deletes: the leaves at both ends change, and what stands between them leaves the tree whole.
//!
//! ```text
//!              fork                         fork                  detached
//!           /  |  |  \                     /    \                /   |   \
//!         a    b  c    d        →        a        d      +     a₂    b    d₁
//!        / \      |   / \               /          \           |     |    |
//!      l    m     n  o    r           l             r          m     n    o
//! ```
//!
//! The way to the first key and the way to the first key behind the range part at the *fork*. Every child between the
//! two ways, at the fork and below it, moves into a tree of its own, by its word: nothing is read, nothing is looked
//! into. So a range delete costs the copies of the nodes on two ways, whatever stands between them.
//!
//! # Invariants
//! 1. The first leaf takes over the keys of what was detached. It is made anew, and names the detached tree as its past:
//!    readers below the LSN go on in it, at any key of the range.
//! 2. Nothing changes in a detached tree any more. Its pages come into memory and leave it as those of any tree.
//! 3. The pages of a detached tree are given back after the first checkpoint at its LSN or above, which lists them
//!    ([`crate::checkpoint`]); its files stay for as long as somebody holds the tree.

use std::sync::Arc;

use logwood_base::{Error, Result};

use super::split::NoUnwinding;
use super::{Applier, Point};
use crate::cursor::KeyRange;
use crate::descent::{TreeCore, Way};
use crate::node::content::{Content, Edit};
use crate::node::inner::{Inner, Keys};
use crate::node::leaf::Leaf;
use crate::node::slot::{Node, Slot};
use crate::node::view::View;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::Place;
use crate::version::{Older, Part, Seek};

/// Two ways that part.
struct Ways<'w, 'g> {
    left: &'w Way<'g>,
    /// `None`: the range reaches to the end.
    right: Option<&'w Way<'g>>,
    /// The step at which they part.
    fork: usize,
}

impl Applier<'_> {
    /// Deletes every key that the tree holds in a range.
    pub(super) fn delete_range(&mut self, core: &TreeCore, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let left = core.way(self.shared, Seek::From(from), self.guard)?;
        let Some(high) = left.high().filter(|high| to.is_none_or(|to| **high < *to)) else {
            return self.delete_in_leaf(core, from, to);
        };
        let right = to.map(|to| core.way(self.shared, Seek::From(to), self.guard)).transpose()?;
        let behind = right.as_ref().and_then(Way::low);
        if behind.as_ref() == Some(&high) {
            self.delete_in_leaf(core, from, Some(&high))?;
        } else {
            self.detach(core, &left, right.as_ref(), from, KeyRange { low: high, high: behind.clone() })?;
            self.join_if_small(core, from)?;
        }
        // The merging of small leaves may have moved the border.
        match (behind, to) {
            (Some(behind), Some(to)) if *behind < *to => self.delete_in_leaf(core, &behind, Some(to)),
            _ => Ok(()),
        }
    }

    /// Deletes the keys of a range that one leaf holds.
    fn delete_in_leaf(&mut self, core: &TreeCore, from: &[u8], to: Option<&[u8]>) -> Result<()> {
        let way = core.way(self.shared, Seek::From(from), self.guard)?;
        let leaf = way.node.leaf().ok_or_else(lost)?;
        let keys = keys_of(leaf, from, to);
        let points: Vec<Point<'_>> = keys.iter().map(|key| Point { core, key, value: None }).collect();
        self.write(core, &points, usize::MAX).map(drop)
    }

    /// Takes everything between two ways out of the tree, and with it the keys of the left leaf from `from` on. `range`
    /// is what stands between the two leaves.
    fn detach<'g>(
        &mut self,
        core: &TreeCore,
        left: &Way<'g>,
        right: Option<&Way<'g>>,
        from: &[u8],
        range: KeyRange,
    ) -> Result<()> {
        let leaf = left.node.leaf().ok_or_else(lost)?;
        let fork = right.map_or(0, |right| {
            left.steps.iter().zip(&right.steps).take_while(|(left, right)| left.1 == right.1).count()
        });
        let ways = Ways { left, right, fork };
        self.make_dirty(left, leaf, Place { keyspace: core.id, key: from });
        if let Some((right, high)) = right.zip(range.high.as_ref()) {
            self.make_steps_dirty(right, Place { keyspace: core.id, key: high });
        }
        let keys = keys_of(leaf, from, None);
        let edits: Vec<Edit<'_>> = keys.iter().map(|key| Edit { key, value: None }).collect();
        let low = left.low().unwrap_or_default();

        let whole = NoUnwinding;
        let inside = self.take_inside(&ways);
        let pin = self.shared.store.pin();
        let detached = Arc::new(TreeCore::detached(core.id, inside, range.clone(), self.lsn, pin));
        let mut past = self.past_of(leaf, &low, Some(&range.low));
        #[cfg(test)]
        let forgotten = planted(Bug::DetachedIsForgotten);
        #[cfg(not(test))]
        let forgotten = false;
        if !forgotten {
            let older = Older::Tree(Arc::clone(&detached));
            past.push(Part { low: (*range.low).into(), older, valid_below: self.lsn });
        }
        let new = self.new_leaf(&Content::of(leaf, &edits), past);
        self.supersede(leaf, &new.pages(), Place { keyspace: core.id, key: from });
        self.close_gap(core, &ways, new, range.high.as_deref());
        std::mem::forget(whole);
        self.writer.detach(detached);
        Ok(())
    }

    /// Moves what stands between the ways under a root of its own.
    fn take_inside(&self, ways: &Ways<'_, '_>) -> Node {
        let mut first: Option<Node> = None;
        for (inner, child) in ways.left.steps[ways.fork + 1..].iter().rev() {
            let slots = inner.slots();
            let mut keys = Keys::default();
            inner.copy_separators(child + usize::from(first.is_none())..slots.len() - 1, &mut keys);
            let mut nodes: Vec<Node> = first.take().into_iter().collect();
            nodes.extend(slots[child + 1..].iter().map(|slot| slot.freeze()));
            first = (!nodes.is_empty()).then(|| self.inner(inner.level(), &keys, nodes));
        }
        let mut last: Option<Node> = None;
        for (inner, child) in ways.right.iter().flat_map(|way| way.steps[ways.fork + 1..].iter().rev()) {
            let mut keys = Keys::default();
            inner.copy_separators(0..(child + usize::from(last.is_some())).saturating_sub(1), &mut keys);
            let mut nodes: Vec<Node> = inner.slots()[..*child].iter().map(|slot| slot.freeze()).collect();
            nodes.extend(last.take());
            last = (!nodes.is_empty()).then(|| self.inner(inner.level(), &keys, nodes));
        }
        let (fork, left) = ways.left.steps[ways.fork];
        let right = ways.right.map_or(fork.slots().len(), |way| way.steps[ways.fork].1);
        let mut keys = Keys::default();
        let until = right - usize::from(last.is_none());
        fork.copy_separators(left + usize::from(first.is_none())..until, &mut keys);
        let mut nodes: Vec<Node> = first.into_iter().collect();
        nodes.extend(fork.slots()[left + 1..right].iter().map(|slot| slot.freeze()));
        nodes.extend(last);
        if nodes.len() == 1
            && let Some(alone) = nodes.pop()
        {
            return alone;
        }
        self.inner(fork.level(), &keys, nodes)
    }

    /// Builds the nodes on both ways anew, without what was between them: `new` stands for the left leaf, and reaches to
    /// `behind`, where the right leaf begins.
    fn close_gap(&self, core: &TreeCore, ways: &Ways<'_, '_>, new: Leaf, behind: Option<&[u8]>) {
        // What readers may still stand on.
        let mut gone = Vec::new();
        let mut left_node = Node::Leaf(new);
        for (inner, child) in ways.left.steps[ways.fork + 1..].iter().rev() {
            let mut keys = Keys::default();
            inner.copy_separators(0..*child, &mut keys);
            let mut nodes: Vec<Node> = inner.slots()[..*child].iter().map(|slot| slot.freeze()).collect();
            gone.push(inner.slots()[*child].freeze());
            nodes.push(left_node);
            left_node = self.inner(inner.level(), &keys, nodes);
        }
        let mut right_node: Option<Node> = None;
        for (inner, child) in ways.right.iter().flat_map(|way| way.steps[ways.fork + 1..].iter().rev()) {
            let slots = inner.slots();
            let mut keys = Keys::default();
            inner.copy_separators(*child..slots.len() - 1, &mut keys);
            let mut nodes = vec![self.keep_or_replace(&slots[*child], right_node.take(), &mut gone)];
            nodes.extend(slots[child + 1..].iter().map(|slot| slot.freeze()));
            right_node = Some(self.inner(inner.level(), &keys, nodes));
        }

        let (fork, left) = ways.left.steps[ways.fork];
        let slots = fork.slots();
        let mut keys = Keys::default();
        fork.copy_separators(0..left, &mut keys);
        let mut nodes: Vec<Node> = slots[..left].iter().map(|slot| slot.freeze()).collect();
        gone.push(slots[left].freeze());
        nodes.push(left_node);
        if let Some((way, behind)) = ways.right.zip(behind) {
            let right = way.steps[ways.fork].1;
            keys.push(behind);
            fork.copy_separators(right..slots.len() - 1, &mut keys);
            nodes.push(self.keep_or_replace(&slots[right], right_node, &mut gone));
            nodes.extend(slots[right + 1..].iter().map(|slot| slot.freeze()));
        }
        let above = &ways.left.steps[..ways.fork];
        if above.is_empty() && nodes.len() == 1 {
            // The tree becomes lower by as many levels as have one node left.
            while let [Node::Inner(inner)] = &nodes[..]
                && inner.slots().len() == 1
            {
                let only = inner.slots()[0].freeze();
                gone.append(&mut nodes);
                nodes.push(only);
            }
            self.replace_root(core, nodes, &keys);
        } else {
            let (inners, between) = self.build_inners(fork.level(), nodes, &keys, false);
            self.replace_child(core, above, 1, inners, &between);
        }
        // Only now: until the new nodes stand, a reader that comes still finds them through the old ones.
        gone.into_iter().for_each(|node| node.retire(self.guard));
    }

    /// The child of a node on the right way: as it is, or what was built in its place.
    fn keep_or_replace(&self, slot: &Slot, new: Option<Node>, gone: &mut Vec<Node>) -> Node {
        let old = slot.freeze();
        match new {
            None => old,
            Some(new) => {
                gone.push(old);
                new
            }
        }
    }

    fn inner(&self, level: u8, keys: &Keys, nodes: Vec<Node>) -> Node {
        Node::Inner(Inner::new(level, keys, nodes, self.lsn, &self.shared.account))
    }

    /// Joins the leaf that holds `key` with a neighbour, if it has become small and there is one with room.
    fn join_if_small(&mut self, core: &TreeCore, key: &[u8]) -> Result<()> {
        let way = core.way(self.shared, Seek::From(key), self.guard)?;
        let leaf = way.node.leaf().ok_or_else(lost)?;
        let content = Content::of(leaf, &[]);
        if content.cost < self.shared.options.leaf_bytes / 4 {
            self.join_neighbour(core, &way, leaf, None, content);
        }
        Ok(())
    }
}

/// The keys that a leaf holds in a range.
fn keys_of(leaf: &Leaf, from: &[u8], to: Option<&[u8]>) -> Vec<Vec<u8>> {
    let view = View::new(leaf, logwood_base::Lsn::MAX);
    let end = to.map_or_else(|| view.end(), |to| view.place_of(to));
    view.records(view.place_of(from), end).map(|record| record.key()).collect()
}

/// A way always ends in a leaf.
fn lost() -> Error {
    Error::Internal("a way did not end in a leaf".into())
}
