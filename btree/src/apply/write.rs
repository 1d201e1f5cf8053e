//! Point changes of one leaf.

use logwood_base::{Error, Result};
use smallvec::SmallVec;

use super::split::Waiting;
use super::{Applier, Point};
use crate::account::Class;
use crate::cursor::KeyRange;
use crate::descent::{TreeCore, Way};
use crate::node::content::{Content, Edit};
use crate::node::delta::{DELTA_SLOTS, DeltaArea};
use crate::node::inner::Keys;
use crate::node::leaf::Leaf;
use crate::node::search;
use crate::node::slot::{Node, Seen};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::Place;
use crate::store::PageRef;
use crate::version::{Older, Part, Previous, Seek};

/// Points whose leaves are looked at together.
const WARM_POINTS: usize = 16;

impl<'s> Applier<'s> {
    /// Applies sorted changes of different keys to one tree, those of the first `leaves_max` leaves. Answers how many those are.
    pub(super) fn write(
        &mut self,
        core: &TreeCore,
        points: &[Point<'_>],
        leaves_max: usize,
    ) -> Result<usize> {
        let mut waiting = Waiting::default();
        let written = self.write_leaves(core, points, leaves_max, &mut waiting);
        self.replace_waiting(core, &mut waiting);
        written
    }

    fn write_leaves(
        &mut self,
        core: &TreeCore,
        points: &[Point<'_>],
        leaves_max: usize,
        waiting: &mut Waiting<'s>,
    ) -> Result<usize> {
        let guard = self.guard;
        let mut rest = points;
        let (mut warm, mut leaves, mut written) = (0, 0, 0);
        while let Some(first) = rest.first()
            && leaves < leaves_max
        {
            // Points that lie thinly: each waits for memory of its own.
            if warm <= written && rest.len() > 1 && written < leaves * 4 {
                self.warm(core, &rest[..rest.len().min(WARM_POINTS)]);
                warm = written + WARM_POINTS;
            }
            if !waiting.is_below_parent(first.key) {
                self.replace_waiting(core, waiting);
            }
            let way = core.way(self.shared, Seek::From(first.key), guard)?;
            let Some(leaf) = way.node.leaf() else {
                return Err(Error::Internal("a way did not end in a leaf".into()));
            };
            let count = 1 + rest[1..].iter().take_while(|point| way.reaches(point.key)).count();
            let (here, behind) = rest.split_at(count);
            let fits = self.fits(leaf, here);
            let older = if fits { None } else { self.older_on_disk(core, &way, leaf) };
            self.make_dirty(&way, leaf, Place { keyspace: core.id, key: first.key });
            if fits {
                here.iter().for_each(|point| leaf.push(self.lsn, point.key, point.value));
            } else if !self.rebuild_later(core, &way, leaf, older.as_ref(), here, waiting) {
                // The neighbours that it might join are not the ones that the tree has yet.
                self.replace_waiting(core, waiting);
                continue;
            }
            rest = behind;
            written += count;
            leaves += 1;
        }
        Ok(written)
    }

    /// Looks at what the writing of each point will look at first: one round per step that a look takes, so that the
    /// memory of all leaves is waited for at once. What is on disk is left there.
    fn warm(&self, core: &TreeCore, points: &[Point<'_>]) {
        let mut ends: SmallVec<[Seen<'_>; WARM_POINTS]> = SmallVec::new();
        ends.extend(points.iter().filter_map(|point| core.leaf_in_memory(point.key, self.guard)));
        let leaves = || ends.iter().filter_map(Seen::leaf);
        let areas: SmallVec<[&DeltaArea; WARM_POINTS]> = leaves().filter_map(Leaf::delta).collect();
        areas.iter().for_each(|area| area.warm());
    }

    /// Notes a change in a leaf and in the nodes above it.
    pub(super) fn make_dirty(&mut self, way: &Way<'_>, leaf: &Leaf, place: Place<'_>) {
        self.make_steps_dirty(way, place);
        leaf.make_dirty();
    }

    /// Notes a change below the nodes of a way.
    pub(super) fn make_steps_dirty(&mut self, way: &Way<'_>, place: Place<'_>) {
        for (inner, _) in &way.steps {
            if let Some(image) = inner.make_dirty(self.lsn) {
                self.writer.discard(image.into_pages(), self.lsn, place);
            }
        }
    }

    /// Whether the delta area has room for the changes.
    pub(super) fn fits(&self, leaf: &Leaf, points: &[Point<'_>]) -> bool {
        let (used, bytes) = leaf.delta().map_or((0, 0), |area| (area.len(), area.bytes()));
        if used + points.len() > DELTA_SLOTS {
            return false;
        }
        if leaf.base_lsn() == self.lsn && leaf.image().is_some() {
            // Its page was written ahead, by this very entry, and says everything up to its LSN: no delta block could add to it.
            return false;
        }
        let more: usize =
            points.iter().map(|point| point.key.len() + point.value.map_or(0, <[u8]>::len)).sum();
        let budget = self.shared.options.leaf_bytes;
        // A leaf that comes from disk has folded in what stood behind its base: only here is seen how it grows.
        let base = leaf.cost(0, leaf.len());
        if leaf.has_long(base, budget) && points.iter().any(|point| leaf.is_long(point.key, budget)) {
            // A base that kept a long value beside its successor would keep its memory, or its file.
            return false;
        }
        let whole = base + bytes + more;
        bytes + more <= budget / 2 && (leaf.len() < 2 || whole <= budget + budget / 2)
    }

    /// Puts new leaves in the place of one, its changes and `points` folded in. `older` serves readers of before, if that is not
    /// the leaf itself.
    pub(super) fn rebuild(
        &mut self,
        core: &TreeCore,
        way: &Way<'s>,
        leaf: &Leaf,
        older: Option<&Older>,
        points: &[Point<'_>],
    ) {
        let mut waiting = Waiting::default();
        self.rebuild_later(core, way, leaf, older, points, &mut waiting);
        self.replace_waiting(core, &mut waiting);
    }

    /// As [`rebuild`](Self::rebuild), but several new leaves wait for their parent. Answers whether it was done; it always is
    /// while none wait.
    fn rebuild_later(
        &mut self,
        core: &TreeCore,
        way: &Way<'s>,
        leaf: &Leaf,
        older: Option<&Older>,
        points: &[Point<'_>],
        waiting: &mut Waiting<'s>,
    ) -> bool {
        leaf.warm();
        let edits: SmallVec<[Edit<'_>; DELTA_SLOTS]> =
            points.iter().map(|point| Edit { key: point.key, value: point.value }).collect();
        let mut content = Content::of(leaf, &edits);
        let low = way.low().unwrap_or_default();
        let budget = self.shared.options.leaf_bytes;
        if content.cost < budget / 4 {
            if !waiting.is_empty() {
                return false;
            }
            match self.join_neighbour(core, way, leaf, older, content) {
                None => return true,
                Some(alone) => content = alone,
            }
        }
        let contents = content.cut(budget);
        let high = if contents.len() > 1 { way.high() } else { None };
        let mut nodes = Vec::with_capacity(contents.len());
        let mut separators = Keys::default();
        let mut carried = Vec::new();
        let mut low = low;
        for (at, content) in contents.iter().enumerate() {
            let border = contents.get(at + 1).and_then(|next| Some((content.last()?, next.first()?)));
            let next_low = border.map(|(left, right)| search::separator(&left.key(), &right.key()));
            let end = next_low.as_deref().or(high.as_deref());
            let past = self.past_on_disk(leaf, older, &low, end);
            let new = self.new_leaf(content, past);
            carried.append(&mut new.pages());
            nodes.push(Node::Leaf(new));
            if let Some(next) = next_low {
                separators.push(&next);
                low = next;
            }
        }
        let place = Place { keyspace: core.id, key: points.first().map_or(&[], |point| point.key) };
        self.supersede_on_disk(leaf, older, &carried, place);
        self.replace_later(core, &way.steps, nodes, separators, waiting);
        true
    }

    /// [`Applier::older_of`] a leaf that is rebuilt in memory, if it is not itself kept for readers of before: when it was on disk
    /// until now, so that nobody misses it in memory, and when enough is kept already.
    pub(super) fn older_on_disk(&self, core: &TreeCore, way: &Way<'_>, leaf: &Leaf) -> Option<Older> {
        let enough = || self.shared.account.bytes(Class::Kept) >= self.kept_max;
        (self.keeps_past && (way.loaded || enough())).then(|| self.older_of(core, way, leaf))
    }

    /// What serves readers of before, when another leaf takes the place of `leaf`: its page, if that says it all to everybody
    /// who may read below.
    pub(super) fn older_of(&self, core: &TreeCore, way: &Way<'_>, leaf: &Leaf) -> Older {
        let says_all = leaf.is_clean()
            && leaf.newest_lsn() <= self.shared.registry.oldest()
            && leaf.header().prev.load(self.guard).is_none();
        // A page whose segment is still being written may have to be written again: then nothing leads to it from here.
        let image = leaf.image().filter(|image| {
            says_all && image.pages().all(|page| !self.shared.store.is_open(page.addr.segment))
        });
        let Some(image) = image else { return Older::Leaf(leaf.clone()) };
        let range = KeyRange { low: way.low().unwrap_or_default(), high: way.high() };
        Older::Tree(TreeCore::old_page(core.id, image, range, self.lsn, self.shared.store.pin()))
    }

    /// What a part of what `leaf` becomes names as its past.
    pub(super) fn past_on_disk(
        &self,
        leaf: &Leaf,
        older: Option<&Older>,
        low: &[u8],
        high: Option<&[u8]>,
    ) -> Vec<Part> {
        #[cfg(test)]
        if planted(Bug::LeafOnDiskForgetsThePast) && older.is_some() {
            return Vec::new();
        }
        match older {
            Some(older) if leaf.base_lsn() < self.lsn => {
                vec![Part { low: low.into(), older: older.clone(), valid_below: self.lsn }]
            }
            _ => self.past_of(leaf, low, high),
        }
    }

    /// What a new leaf over `low..high` names as its past, when `leaf` held that range before.
    pub(super) fn past_of(&self, leaf: &Leaf, low: &[u8], high: Option<&[u8]>) -> Vec<Part> {
        #[cfg(test)]
        if planted(Bug::SplitForgetsThePast) && !low.is_empty() {
            return Vec::new();
        }
        if !self.keeps_past {
            return Vec::new();
        }
        if leaf.base_lsn() < self.lsn {
            return vec![Part { low: low.into(), older: Older::Leaf(leaf.clone()), valid_below: self.lsn }];
        }
        // Made by this very entry: nobody ever sees it. Its own past is the past.
        let Some(previous) = leaf.header().prev.load(self.guard) else { return Vec::new() };
        let parts = previous.parts();
        let mut past = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let from = if number == 0 { low } else { low.max(&*part.low) };
            let end = parts.get(number + 1).map(|next| &*next.low);
            let to = match (end, high) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if to.is_none_or(|to| from < to) {
                past.push(Part { low: from.into(), ..part.clone() });
            }
        }
        past
    }

    /// A leaf of this entry.
    pub(super) fn new_leaf(&mut self, content: &Content<'_>, past: Vec<Part>) -> Leaf {
        let leaf = Leaf::build(content, self.lsn, Previous::new(past), &self.shared.account);
        if self.keeps_past {
            self.writer.made(self.lsn, &leaf);
        }
        leaf
    }

    /// Notes that another leaf serves from this entry on, and that no state from here on reaches the pages of this one, but for
    /// those that were `carried` over with long values.
    pub(super) fn supersede(&mut self, leaf: &Leaf, carried: &[PageRef], place: Place<'_>) {
        leaf.supersede(self.lsn);
        let mut pages = leaf.take_pages();
        #[cfg(test)]
        let carried = if planted(Bug::LongValuesGoWithTheImage) { &[] } else { carried };
        pages.retain(|page| carried.iter().all(|other| other.addr != page.addr));
        self.writer.discard(pages, self.lsn, place);
        let is_past = self.keeps_past && leaf.base_lsn() < self.lsn;
        let class = if is_past { Class::Kept } else { Class::Retired };
        leaf.header().share.move_to(class);
    }

    /// As [`Applier::supersede`], of a leaf whose page stands for it if that is what is `older`.
    pub(super) fn supersede_on_disk(
        &mut self,
        leaf: &Leaf,
        older: Option<&Older>,
        carried: &[PageRef],
        place: Place<'_>,
    ) {
        self.supersede(leaf, carried, place);
        if matches!(older, Some(Older::Tree(_))) {
            leaf.header().share.move_to(Class::Retired);
        }
    }
}
