//! Cleaning: giving back the space of page segments that are mostly dead.
//!
//! A victim is a sealed segment with few live pages. Each page that the trees still reach is marked: its node is
//! loaded, and counts as dirty although its records did not change. The next checkpoint writes it elsewhere; then
//! nothing reaches the victim, and its file goes with the manifest that no longer names it.
//!
//! In the background this goes in steps, each a few pages. What is marked is dirty and stays in memory until the next
//! checkpoint, so that no more than a part of the cache is marked between two of them.
//!
//! It comes to its end where nobody writes. A checkpoint is asked for only when that much is marked, and what it moves fills
//! segments, all but the last one of each stream: each round leaves fewer bytes in segments that are worth cleaning. Inner
//! pages may make segments worth cleaning again and again, because moving one writes those above it anew; they do not count
//! as marked, and move with the checkpoints that others ask for.
//!
//! What never happens: a page is moved by itself, or judged by anything but its address in the tree. So cleaning is
//! as safe as checkpoints are, and stopping in the middle loses nothing.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::sync::hand_over;
use logwood_base::{Error, Lsn, Result, SegmentNo};

use crate::descent::{TreeCore, Way};
use crate::forest::Forest;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::{Ahead, Place, Shared, Writer};
use crate::store::{Label, LivePercent, PageKind, PageLabel, PageRef, Pin, Stream};
use crate::version::Seek;

/// What is worth emptying while the database is in use.
const WORTH_CLEANING: LivePercent = LivePercent { images: 50, deltas: 10 };
/// What `compact` moves: nearly everything that has anything dead beside it, and all delta blocks.
const WORTH_COMPACTING: LivePercent = LivePercent { images: 90, deltas: 100 };
/// Rounds of marking and checkpoints of one `compact`: each leaves less to do, and two or three do it.
const COMPACT_ROUNDS: usize = 8;
/// Pages that one step looks at.
const STEP_PAGES: usize = 64;
/// Between two checkpoints no more than this part of the cache is marked, or so many bytes: what a checkpoint moves must fill a
/// segment far enough. One takes up to 8 KiB beside its pages, and one that is half empty is worth cleaning again.
const MARKED_SHARE: usize = 4;
const MARKED_BYTES_MIN: usize = 64 << 10;

/// What a step of cleaning came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cleaned {
    /// There may be more to mark.
    More,
    /// Enough is marked: the next checkpoint moves it, and then there may be more.
    Enough,
    /// Nothing is worth moving.
    Nothing,
}

/// A segment that is to be emptied. A checkpoint that ends meanwhile may leave nothing alive in it: its file stays until its
/// pages have been looked through, and then none of them is the trees'.
pub(crate) struct Victim {
    pub(crate) number: SegmentNo,
    _pin: Pin,
}

impl Forest {
    /// Marks some live pages of the emptiest segment for the next checkpoint, or goes on with those of the one before.
    /// Between two checkpoints a quarter of the cache is marked at most, or 64 KiB.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # use logwood_btree::Cleaned;
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// forest.checkpoint(&checkpoint_at(Lsn(2)))?;
    /// // After each checkpoint, or as often as there is time:
    /// while forest.clean_step()? == Cleaned::More {}
    /// forest.checkpoint(&checkpoint_at(Lsn(2)))?; // moves what was marked, and lets the files go
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption`, `Io` of a page that had to be read. Nothing is lost: the page stays where it is.
    pub fn clean_step(&self) -> Result<Cleaned> {
        let mut writer = self.shared.writer.lock();
        if writer.marked_bytes > (self.shared.options.cache_bytes / MARKED_SHARE).max(MARKED_BYTES_MIN) {
            return Ok(Cleaned::Enough);
        }
        let marking = writer.marking.take();
        drop(writer);
        let (victim, mut pages) = match marking {
            Some(marking) => marking,
            None => match self.victim(WORTH_CLEANING) {
                Some(victim) => (victim.number, self.pages_of(&victim)?),
                None => return Ok(Cleaned::Nothing),
            },
        };
        let rest = pages.split_off(pages.len().min(STEP_PAGES));
        // A page that fails is passed over: the next look at this segment finds it again.
        let marked = self.mark_pages(&pages);
        let mut writer = self.shared.writer.lock();
        if rest.is_empty() {
            writer.marked.insert(victim);
        } else {
            writer.marking = Some((victim, rest));
        }
        marked.map(|()| Cleaned::More)
    }

    /// Marks all live pages of the emptiest segment that has no more alive than this. Answers whether there was one.
    ///
    /// # Errors
    /// As [`Forest::clean_step`].
    pub(crate) fn clean_below(&self, most: LivePercent) -> Result<bool> {
        let Some(victim) = self.victim(most) else { return Ok(false) };
        self.mark_pages(&self.pages_of(&victim)?)?;
        self.shared.writer.lock().marked.insert(victim.number);
        Ok(true)
    }

    /// The emptiest segment that is not marked.
    pub(crate) fn victim(&self, most: LivePercent) -> Option<Victim> {
        let pin = self.shared.store.pin();
        let marked = self.shared.writer.lock().marked.clone();
        let victims = self.shared.store.victims(marked.len() + 1, most);
        let number = victims.into_iter().find(|number| !marked.contains(number))?;
        Some(Victim { number, _pin: pin })
    }

    /// What stands in a segment, whether or not it is still alive.
    pub(crate) fn pages_of(&self, victim: &Victim) -> Result<Vec<PageLabel>> {
        self.shared.store.pages_of(victim.number)
    }

    /// Packs everything: gives back what was dropped or detached, marks what is worth moving and has `checkpoint` write it,
    /// until little is left. Memory stays
    /// bounded by writing a checkpoint whenever a quarter of the cache is dirty. The last call of `checkpoint` lets
    /// the files go.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// forest.compact(&mut || forest.checkpoint(&checkpoint_at(forest.visible_lsn())).map(drop))?;
    /// assert!(tree.contains(b"ada", At::Latest)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::clean_step`], and what `checkpoint` answers.
    pub fn compact(&self, checkpoint: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        // What changed since the last one shows only now which pages are dead. And what was dropped and detached goes first:
        // the segments that only it fills need no moving.
        checkpoint()?;
        if self.give_back_step()? {
            while self.give_back_step()? {}
            checkpoint()?;
        }
        for _ in 0..COMPACT_ROUNDS {
            let mut moved = false;
            // No more than there are now: what a checkpoint in between writes may be worth moving again at once, when
            // segments are small against the leaves.
            for _ in 0..self.shared.store.live_bytes().len() {
                if !self.clean_below(WORTH_COMPACTING)? {
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

    pub(crate) fn mark_pages(&self, pages: &[PageLabel]) -> Result<()> {
        for label in pages {
            let guard = crossbeam_epoch::pin();
            let Some(core) = self.shared.tree(label.keyspace) else { continue };
            self.shared.mark_page(&core, label, &guard)?;
        }
        Ok(())
    }
}

impl Shared {
    /// Brings into memory what trees reach of segments that could not be written, and writes long values of theirs elsewhere:
    /// large entries go to pages before a checkpoint comes to them. A page that cannot be read stays where it is, and is an
    /// answer to whoever asks for it. The caller holds the writer's lock, so that nothing that came in leaves again before it
    /// counts as changed.
    ///
    /// # Errors
    /// `DiskFull`, `Io`: the segments must stay for now.
    pub(crate) fn take_out_of_abandoned(&self, writer: &mut Writer) -> Result<()> {
        for label in self.store.abandoned().iter().flat_map(|abandoned| &abandoned.pages) {
            let guard = crossbeam_epoch::pin();
            let left = writer.dropped.iter().filter(|core| core.id == label.keyspace).cloned();
            let cores: Vec<_> = self.tree(label.keyspace).into_iter().chain(left).collect();
            for core in cores {
                match self.mark_locked(writer, &core, label, &guard) {
                    Ok(true) => {}
                    // It may be the leaf of a long value, and readable the next time.
                    Err(error @ Error::Io { .. }) => return Err(error),
                    _ => continue,
                }
                let way = core.way(self, Seek::From(&label.low_key), &guard)?;
                if label.kind == PageKind::Overflow
                    && let Some(leaf) = way.node.leaf()
                {
                    self.copy_out(writer, leaf, label)?;
                }
            }
        }
        Ok(())
    }

    /// Writes those long values of a leaf elsewhere that stand at the page.
    fn copy_out(&self, writer: &mut Writer, leaf: &Leaf, label: &PageLabel) -> Result<()> {
        for value in leaf.overflow_values().filter(|value| value.is_moving()) {
            let place = value.place();
            let to = Label {
                kind: PageKind::Overflow,
                level: 0,
                keyspace: label.keyspace,
                low_key: &label.low_key,
            };
            let mut pages = Vec::with_capacity(place.extents.len());
            for number in 0..place.extents.len() {
                let piece = self.read_piece(&place.extents, value.bytes, number);
                let copied = piece.and_then(|piece| self.store.append(Stream::Overflow, &to, piece.body()));
                match copied {
                    Ok(page) => pages.push(page),
                    Err(error) => {
                        writer.discard_pages(pages, Lsn::ZERO);
                        return Err(error);
                    }
                }
            }
            leaf.move_overflow(&place.extents, &pages);
            value.move_to(pages.clone(), &self.store);
            // A page that this leaf has replaced, and that a state of before reaches, may name the old place.
            writer.discard_pages(place.extents.clone(), leaf.base_lsn());
            writer.ahead.push(Ahead { since: leaf.base_lsn(), pages });
        }
        Ok(())
    }

    fn mark_locked(
        &self,
        writer: &mut Writer,
        core: &TreeCore,
        label: &PageLabel,
        guard: &Guard,
    ) -> Result<bool> {
        if !self.bring_in(core, label, guard)? {
            return Ok(false);
        }
        let level = if label.kind == PageKind::Inner { label.level } else { 0 };
        let way = core.way_to_level(self, &label.low_key, level, guard)?;
        Ok(mark(writer, &way, label))
    }

    /// Marks the node whose page it is, if the tree still reaches it.
    pub(crate) fn mark_page(&self, core: &Arc<TreeCore>, label: &PageLabel, guard: &Guard) -> Result<()> {
        if self.bring_in(core, label, guard)? {
            // Once more under the lock: now nothing moves.
            let mut writer = self.writer.lock();
            let dropped = core.dropped() != Lsn::MAX;
            #[cfg(test)]
            let dropped = dropped && !planted(Bug::CleanerMarksWhatWasDropped);
            // Of one that was dropped, a checkpoint may be giving the pages back.
            if !dropped && self.mark_locked(&mut writer, core, label, guard)? {
                self.account.written.lock().moved += 1;
            }
            hand_over(writer);
        }
        Ok(())
    }

    /// Brings the node of a page into memory. Answers whether it may be the tree's.
    fn bring_in(&self, core: &TreeCore, label: &PageLabel, guard: &Guard) -> Result<bool> {
        let at_page =
            |entry: &crate::format::child::ChildEntry| entry.pages().any(|page| page.addr == label.page.addr);
        let level = if label.kind == PageKind::Inner { label.level } else { 0 };
        let way = core.way_to_level(self, &label.low_key, level, guard)?;
        match &*way.node {
            // Overflow pages are known to their leaf only: it must be loaded, but not they.
            Node::Cold(cold) if cold.level == level => {
                if !at_page(&cold.entry) && label.kind != PageKind::Overflow {
                    return Ok(false);
                }
                if level == 0 {
                    core.way(self, Seek::From(&label.low_key), guard)?;
                } else {
                    core.way_to_level(self, &label.low_key, level - 1, guard)?;
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

/// Marks the node at the end of a way when `label` is one of its pages, and answers whether it is.
fn mark(writer: &mut Writer, way: &Way<'_>, label: &PageLabel) -> bool {
    let is_it = |page: &PageRef| page.addr == label.page.addr;
    let applied = writer.applied;
    let place = Place { keyspace: label.keyspace, key: &label.low_key };
    match &*way.node {
        Node::Leaf(leaf) if leaf.pages().iter().any(is_it) => {
            // One that had changed, or was marked for another of its pages, takes no more memory now than before.
            if leaf.is_clean() {
                writer.marked_bytes += leaf.header().share.bytes();
            }
            leaf.make_dirty();
            writer.discard(leaf.take_image(), Lsn::ZERO, place);
            if label.kind == PageKind::Overflow {
                leaf.overflow_values().for_each(|value| value.ask_to_move(label.page.addr));
                // No memory, but the next checkpoint's work.
                writer.marked_bytes += label.page.bytes as usize;
            }
        }
        Node::Inner(inner) if inner.image().is_some_and(|image| image.pages().any(is_it)) => {
            if let Some(image) = inner.make_dirty(applied) {
                writer.discard(image.into_pages(), Lsn::ZERO, place);
            }
        }
        _ => return false,
    }
    for (inner, _) in &way.steps {
        if let Some(image) = inner.make_dirty(applied) {
            writer.discard(image.into_pages(), Lsn::ZERO, place);
        }
    }
    true
}
