//! The walk over the trees, in key order, bottom-up.
//!
//! Each [`Frame`] is an inner page in the making: a level and a key range, fixed when the walk enters it. Its children
//! are taken as the tree has them when the walk comes to their keys. The topmost frame stands above the root.
//!
//! What a range delete has detached since C is still a part of the state at C: the walk finds it as the past of the leaf
//! that took its keys over. It takes up the leaves alone; the pages above them are not reached by this checkpoint, and are
//! discarded when the walk comes by.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::sync::hand_over;
use logwood_base::{Error, KeyspaceId, Lsn, Result};

use super::{CheckpointJob, Phase, STEP_BYTES, STEP_CHILDREN, VisitedInner};
use crate::descent::TreeCore;
use crate::format::child::ChildEntry;
use crate::node::Image;
use crate::node::inner::Inner;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::{WalkPosition, Writer};
use crate::store::{PageRef, TreeEntry};
use crate::version::{Found, Seek, Stand, stand_at, stand_before};

/// An inner page in the making.
pub(super) struct Frame {
    pub(super) level: u8,
    pub(super) low: Vec<u8>,
    high: Option<Vec<u8>>,
    /// Where the next child begins; `None` when all were taken.
    next: Option<Vec<u8>>,
    /// Low keys and entries of the children so far.
    pub(super) entries: Vec<(Vec<u8>, ChildEntry)>,
    /// The node in memory that the page will stand for, with its first change before the visit.
    node: Option<(Arc<Inner>, Lsn)>,
    /// Whether the page will say everything that stands below the node now.
    pub(super) exact: bool,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("level", &self.level).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What a child turns out to be.
enum Child {
    /// Its page stands as it is.
    Kept { image: Image, exact: bool, high: Option<Vec<u8>> },
    /// It must be looked into.
    Enter(Frame),
    /// A leaf that must be written as it was at C.
    Write(LeafAtC),
}

/// A version of a leaf, cut to a key range.
pub(super) struct LeafAtC {
    pub(super) leaf: Leaf,
    pub(super) low: Vec<u8>,
    pub(super) high: Option<Vec<u8>>,
    /// All of the leaf's range.
    pub(super) whole: bool,
    /// … and the leaf serves the newest state.
    serves: bool,
    /// … and nothing changed since C.
    exact: bool,
    /// The disk form of the leaf, older than C.
    pub(super) image: Option<Image>,
    /// All pages that belong to the leaf.
    pub(super) pages: Vec<PageRef>,
}

impl LeafAtC {
    /// Whether what is written is to stand for the leaf.
    pub(super) const fn serves(&self) -> bool {
        self.serves
    }
}

/// Where a leaf is looked at.
struct Place<'k> {
    /// Where what is asked for begins …
    key: &'k [u8],
    /// … and ends.
    high: Option<Vec<u8>>,
    /// Whether that is all of the leaf's range.
    whole: bool,
    /// Whether the leaf serves the newest state.
    in_tree: bool,
}

impl Frame {
    fn new(level: u8, low: Vec<u8>, high: Option<Vec<u8>>, node: Option<(Arc<Inner>, Lsn)>) -> Self {
        let exact = node.is_some();
        Self { level, next: Some(low.clone()), low, high, entries: Vec::new(), node, exact }
    }

    /// Moves behind a child that ends at `high`.
    fn advance(&mut self, high: Option<Vec<u8>>) {
        self.next = high.filter(|high| self.high.as_ref().is_none_or(|end| high < end));
    }
}

/// The lesser of two ends of ranges.
fn nearer(a: Option<Vec<u8>>, b: Option<&Vec<u8>>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a <= *b { a } else { b.clone() }),
        (a, b) => a.or_else(|| b.cloned()),
    }
}

impl CheckpointJob {
    /// Takes up some children.
    pub(super) fn walk_some(&mut self) -> Result<()> {
        let enough = self.written.bytes + STEP_BYTES;
        for _ in 0..STEP_CHILDREN {
            if self.written.bytes >= enough {
                break;
            }
            if self.stack.is_empty() && !self.begin_tree() {
                let end = WalkPosition { keyspace: KeyspaceId(u64::MAX), next: None };
                self.shared.writer.lock().walk = Some(end);
                self.phase = Phase::Detach;
                return Ok(());
            }
            self.walk_one()?;
        }
        Ok(())
    }

    /// Begins the next tree. Answers false when there is none.
    fn begin_tree(&mut self) -> bool {
        let Some(core) = self.trees.last() else { return false };
        let guard = crossbeam_epoch::pin();
        let level = match &*core.root.load(&guard) {
            Node::Inner(inner) => inner.level(),
            Node::Cold(cold) => cold.level,
            Node::Leaf(_) => 0,
        };
        self.stack.push(Frame::new(level + 1, Vec::new(), None, None));
        true
    }

    /// Takes up one child of the lowest frame, or finishes the frame.
    fn walk_one(&mut self) -> Result<()> {
        let Some(core) = self.trees.last().cloned() else { return Ok(()) };
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let Some(next) = frame.next.clone() else { return self.finish_frame(&core) };
        match self.child(&core, frame, &next)? {
            Child::Kept { image, exact, high } => {
                if !exact {
                    self.kept_beside_changes.extend(image.pages().map(|page| page.addr));
                }
                if let Some(frame) = self.stack.last_mut() {
                    frame.entries.push((next, image.entry));
                    frame.exact &= exact;
                    frame.advance(high);
                }
            }
            Child::Enter(frame) => self.stack.push(frame),
            Child::Write(leaf) => {
                let (serves, exact, high) = (leaf.serves, leaf.exact, leaf.high.clone());
                let written = self.write_leaf(core.id, leaf)?;
                let Some(frame) = self.stack.last_mut() else { return Ok(()) };
                frame.advance(high);
                // A leaf without records has no page: its neighbour's range reaches over it.
                frame.exact &= exact && written.image.is_some();
                if let Some(image) = &written.image {
                    frame.entries.push((next, image.entry.clone()));
                }
                if serves {
                    self.written.leaves.push(written);
                } else {
                    self.written.loose.extend(written.fresh);
                }
            }
        }
        Ok(())
    }

    /// Looks at the child of `frame` that holds `key`, under the writer's lock: nothing moves meanwhile.
    fn child(&self, core: &TreeCore, frame: &Frame, key: &[u8]) -> Result<Child> {
        let guard = crossbeam_epoch::pin();
        let mut writer = self.shared.writer.lock();
        let child = self.look_at(&mut writer, core, frame, key, &guard)?;
        if let Child::Kept { high, .. } = &child {
            // Under the same lock: whoever makes it dirty from here on knows that its page was taken up.
            writer.walk = Some(WalkPosition { keyspace: core.id, next: high.clone() });
        }
        hand_over(writer);
        Ok(child)
    }

    fn look_at(
        &self,
        writer: &mut Writer,
        core: &TreeCore,
        frame: &Frame,
        key: &[u8],
        guard: &Guard,
    ) -> Result<Child> {
        let way = core.way_to_level(&self.shared, key, frame.level - 1, guard)?;
        let end = way.high();
        let starts_here = way.low().unwrap_or_default() == key;
        let ends_here = match (&end, &frame.high) {
            (None, _) => frame.high.is_none(),
            (Some(_), None) => true,
            (Some(end), Some(high)) => end <= high,
        };
        let whole = starts_here && ends_here;
        let high = nearer(end, frame.high.as_ref());
        let level = match &*way.node {
            Node::Inner(inner) => inner.level(),
            Node::Cold(cold) => cold.level,
            Node::Leaf(_) => 0,
        };
        if level + 1 < frame.level {
            // The tree became lower since this frame was entered: a page on the level between.
            return Ok(Child::Enter(Frame::new(frame.level - 1, key.to_vec(), high, None)));
        }
        match &*way.node {
            Node::Cold(cold) if cold.is_newer_than(self.lsn()) => {
                let stand = stand_at(&way.node, self.lsn(), Seek::From(key), guard);
                self.past_child(writer, stand, key, high, guard)
            }
            Node::Cold(cold) if whole => {
                let image = Image { entry: cold.entry.clone(), overflow: Vec::new() };
                Ok(Child::Kept { image, exact: true, high })
            }
            Node::Cold(_) => Err(Error::Internal("a page that is not in memory changed its range".into())),
            Node::Inner(inner) => Ok(self.inner_child(inner, key, high, whole)),
            Node::Leaf(leaf) => {
                debug_assert!(way.reaches(key), "the way leads to the key");
                self.leaf_child(writer, leaf, Place { key, high, whole, in_tree: true }, guard)
            }
        }
    }

    fn inner_child(&self, inner: &Arc<Inner>, key: &[u8], high: Option<Vec<u8>>, whole: bool) -> Child {
        if whole && let Some(image) = inner.exact_image() {
            return Child::Kept { image, exact: true, high };
        }
        // From here on changes count anew: those that come before the commit make it dirty again.
        let node = whole.then(|| (Arc::clone(inner), inner.take_dirty()));
        Child::Enter(Frame::new(inner.level(), key.to_vec(), high, node))
    }

    fn leaf_child(&self, writer: &mut Writer, leaf: &Leaf, place: Place<'_>, guard: &Guard) -> Result<Child> {
        let at = self.lsn();
        let Place { key, high, whole, in_tree } = place;
        let image = leaf.image();
        if whole && let Some(image) = &image {
            let newest = image.entry.newest_lsn();
            let first = leaf.first_change_above(newest);
            if newest <= at && (leaf.is_clean() || first.is_none_or(|first| first > at)) {
                let exact = in_tree && leaf.is_clean();
                return Ok(Child::Kept { image: image.clone(), exact, high });
            }
        }
        if leaf.base_lsn() > at {
            let stand = stand_before(&leaf.header().prev, at, Seek::From(key), guard);
            return self.past_child(writer, stand, key, high, guard);
        }
        let serves = whole && in_tree;
        Ok(Child::Write(LeafAtC {
            leaf: leaf.clone(),
            low: key.to_vec(),
            high,
            whole,
            serves,
            exact: serves && leaf.newest_lsn() <= at,
            image,
            pages: leaf.pages(),
        }))
    }

    /// What served C where a leaf is newer.
    fn past_child(
        &self,
        writer: &mut Writer,
        stand: Option<Stand<'_>>,
        key: &[u8],
        high: Option<Vec<u8>>,
        guard: &Guard,
    ) -> Result<Child> {
        let stand = stand.ok_or_else(|| Error::Internal("the version of a checkpoint was let go".into()))?;
        let high = nearer(stand.high, high.as_ref());
        match stand.found {
            Found::Tree(core) => self.detached_child(writer, &core, key, high, guard),
            Found::Leaf(leaf) => {
                let leaf = leaf.into_owned();
                let low = key.to_vec();
                Ok(Child::Write(LeafAtC {
                    leaf,
                    low,
                    high,
                    whole: false,
                    serves: false,
                    exact: false,
                    image: None,
                    pages: Vec::new(),
                }))
            }
        }
    }

    /// Looks at a leaf that was detached since C, whose keys up to `high` are asked for.
    fn detached_child(
        &self,
        writer: &mut Writer,
        core: &TreeCore,
        key: &[u8],
        high: Option<Vec<u8>>,
        guard: &Guard,
    ) -> Result<Child> {
        let mut way = core.way_to_level(&self.shared, key, 0, guard)?;
        #[cfg(test)]
        let reached = planted(Bug::DetachedInnersCountAsReached);
        #[cfg(not(test))]
        let reached = false;
        for (inner, _) in way.steps.iter().filter(|_| !reached) {
            if let Some(image) = inner.make_dirty(Lsn::ZERO) {
                writer.discard_pages(image.into_pages(), Lsn::ZERO);
            }
        }
        let end = way.high().or_else(|| core.range.high.clone());
        let starts_here = way.low().unwrap_or_else(|| core.range.low.clone()) == key;
        let ends_here = match (&end, &high) {
            (None, high) => high.is_none(),
            (Some(_), None) => true,
            (Some(end), Some(high)) => end <= high,
        };
        let whole = starts_here && ends_here;
        let high = nearer(end, high.as_ref());
        let at = self.lsn();
        if !whole && matches!(&*way.node, Node::Cold(cold) if !cold.is_newer_than(at)) {
            // Its keys were parted since: a page of each part is written.
            way = core.way(&self.shared, Seek::From(key), guard)?;
        }
        match &*way.node {
            Node::Cold(cold) if cold.is_newer_than(at) => {
                let stand = stand_at(&way.node, at, Seek::From(key), guard);
                self.past_child(writer, stand, key, high, guard)
            }
            Node::Cold(cold) => {
                // What was replaced is garbage already: its pages must be known as kept.
                let overflow = core.old_page.as_ref().map_or_else(Vec::new, |old| old.overflow.clone());
                let image = Image { entry: cold.entry.clone(), overflow };
                Ok(Child::Kept { image, exact: false, high })
            }
            Node::Leaf(leaf) => {
                if !whole && leaf.base_lsn() <= at && core.old_page.is_none() && leaf.image().is_some() {
                    leaf.make_dirty();
                    writer.discard_pages(leaf.take_image(), Lsn::ZERO);
                }
                self.leaf_child(writer, leaf, Place { key, high, whole, in_tree: false }, guard)
            }
            Node::Inner(_) => Err(Error::Internal("a way did not end in a leaf".into())),
        }
    }

    /// Writes the page of the lowest frame and hands its entry up.
    fn finish_frame(&mut self, core: &TreeCore) -> Result<()> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if self.stack.is_empty() {
            let root = self.write_root(core.id, frame)?;
            self.finished.push(TreeEntry { keyspace: core.id, root });
            self.trees.pop();
            return Ok(());
        }
        let (entries, image) = match self.write_inner(core.id, &frame) {
            Ok(written) => written,
            Err(error) => {
                // Back, so that giving up finds the node.
                self.stack.push(frame);
                return Err(error);
            }
        };
        let exact = frame.exact && image.is_some();
        if let Some((node, dirty_before)) = frame.node {
            self.written.inners.push(VisitedInner { node, dirty_before, image: image.filter(|_| exact) });
        }
        if let Some(above) = self.stack.last_mut() {
            above.entries.extend(entries);
            above.exact &= exact;
            above.advance(frame.high);
        }
        Ok(())
    }

    /// The inner nodes whose frames were not finished.
    pub(super) fn unfinished(&mut self) -> Vec<VisitedInner> {
        let frames = std::mem::take(&mut self.stack);
        let nodes = frames.into_iter().filter_map(|frame| frame.node);
        nodes.map(|(node, dirty_before)| VisitedInner { node, dirty_before, image: None }).collect()
    }
}
