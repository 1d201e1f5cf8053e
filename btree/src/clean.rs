//! Cleaning: giving back the space of page segments that are mostly dead.
//!
//! A victim is a sealed segment with few live pages. Each page that the trees still reach is marked: its node is
//! loaded, and counts as dirty although its records did not change. The next checkpoint writes it elsewhere; then
//! nothing reaches the victim, and its file goes with the manifest that no longer names it.
//!
//! What never happens: a page is moved by itself, or judged by anything but its address in the tree. So cleaning is
//! as safe as checkpoints are, and stopping in the middle loses nothing.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::{Lsn, Result, SegmentNo};

use crate::descent::{TreeCore, Way};
use crate::forest::Forest;
use crate::node::slot::Node;
use crate::shared::{Place, Shared, Writer};
use crate::store::{PageKind, PageLabel};
use crate::version::Seek;

/// A segment with no more than this part of its bytes alive is worth emptying.
const LIVE_PERCENT_MAX: u32 = 60;
/// What `compact` moves: nearly everything that has anything dead beside it.
const COMPACT_LIVE_PERCENT_MAX: u32 = 90;
/// Rounds of marking and checkpoints of one `compact`: each leaves less to do, and two or three do it.
const COMPACT_ROUNDS: usize = 8;

impl Forest {
    /// Marks the live pages of the emptiest segment for the next checkpoint. Answers whether there was one.
    ///
    /// # Errors
    /// `Corruption`, `Io` of a page that had to be read. Nothing is lost: the page stays where it is.
    pub fn clean_step(&self) -> Result<bool> {
        self.clean_below(LIVE_PERCENT_MAX)
    }

    /// As [`Forest::clean_step`], for segments with no more than `live_percent_max` percent of their bytes alive.
    ///
    /// # Errors
    /// As [`Forest::clean_step`].
    pub fn clean_below(&self, live_percent_max: u32) -> Result<bool> {
        let marked = self.shared.writer.lock().marked.clone();
        let victims = self.shared.store.victims(marked.len() + 1, live_percent_max);
        let Some(victim) = victims.into_iter().find(|victim| !marked.contains(victim)) else {
            return Ok(false);
        };
        self.mark_segment(victim)?;
        self.shared.writer.lock().marked.insert(victim);
        Ok(true)
    }

    /// Packs everything: gives back what was dropped or detached, marks what is worth moving and has `checkpoint` write it,
    /// until little is left. Memory stays
    /// bounded by writing a checkpoint whenever a quarter of the cache is dirty. The last call of `checkpoint` lets
    /// the files go.
    ///
    /// # Errors
    /// As [`Forest::clean_step`], and what `checkpoint` answers.
    pub fn compact(&self, checkpoint: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        // What was dropped and detached goes first: the segments that only it fills need no moving.
        if !self.shared.writer.lock().dropped.is_empty() {
            checkpoint()?;
        }
        if self.give_back_step()? {
            while self.give_back_step()? {}
            checkpoint()?;
        }
        for _ in 0..COMPACT_ROUNDS {
            let mut moved = false;
            // No more than there are now: what a checkpoint in between writes may be worth moving again at once, when
            // segments are small against the leaves.
            for _ in 0..self.shared.store.live_bytes().len() {
                if !self.clean_below(COMPACT_LIVE_PERCENT_MAX)? {
                    break;
                }
                moved = true;
                if self.dirty_bytes() > self.shared.options.cache_bytes / 4 {
                    checkpoint()?;
                }
            }
            checkpoint()?;
            if !moved {
                break;
            }
        }
        // The generation before the last one still names the old files: they go with it.
        checkpoint()
    }

    fn mark_segment(&self, victim: SegmentNo) -> Result<()> {
        for label in self.shared.store.pages_of(victim)? {
            let guard = crossbeam_epoch::pin();
            let Some(core) = self.shared.tree(label.keyspace) else { continue };
            self.shared.mark_page(&core, &label, &guard)?;
        }
        Ok(())
    }
}

impl Shared {
    /// Marks the node whose page it is, if the tree still reaches it.
    fn mark_page(&self, core: &Arc<TreeCore>, label: &PageLabel, guard: &Guard) -> Result<()> {
        let at_page =
            |entry: &crate::format::child::ChildEntry| entry.pages().any(|page| page.addr == label.page.addr);
        let level = if label.kind == PageKind::Inner { label.level } else { 0 };
        let way = core.way_to_level(self, &label.low_key, level, guard)?;
        match &*way.node {
            // Overflow pages are known to their leaf only: it must be loaded.
            Node::Cold(cold) if cold.level == level => {
                if !at_page(&cold.entry) && label.kind != PageKind::Overflow {
                    return Ok(());
                }
                if level == 0 {
                    core.way(self, Seek::From(&label.low_key), guard)?;
                } else {
                    core.way_to_level(self, &label.low_key, level - 1, guard)?;
                }
            }
            _ => {}
        }
        // Once more under the lock: now nothing moves.
        let mut writer = self.writer.lock();
        let way = core.way_to_level(self, &label.low_key, level, guard)?;
        mark(&mut writer, &way, label);
        Ok(())
    }
}

/// Marks the node at the end of a way when `label` is one of its pages.
fn mark(writer: &mut Writer, way: &Way<'_>, label: &PageLabel) {
    let names = |image: &crate::node::Image| image.pages().any(|page| page.addr == label.page.addr);
    let applied = writer.applied;
    let place = Place { keyspace: label.keyspace, key: &label.low_key };
    match &*way.node {
        Node::Leaf(leaf) if leaf.is_clean() && leaf.image().as_ref().is_some_and(names) => {
            if let Some(image) = leaf.make_dirty() {
                writer.discard(&image, Lsn::ZERO, place);
            }
            leaf.drop_image();
        }
        Node::Inner(inner) if inner.image().as_ref().is_some_and(names) => {
            if let Some(image) = inner.make_dirty(applied) {
                writer.discard(&image, Lsn::ZERO, place);
            }
        }
        _ => return,
    }
    for (inner, _) in &way.steps {
        if let Some(image) = inner.make_dirty(applied) {
            writer.discard(&image, Lsn::ZERO, place);
        }
    }
}
