//! What becomes of a leaf that sorted changes send to disk: pages, and one leaf that stays open in memory.

use std::sync::Arc;

use logwood_base::{Error, KeyspaceId, Lsn, Result};

use super::super::{Applier, Point};
use super::Pass;
use crate::checkpoint::LeafBody;
use crate::descent::{TreeCore, Way};
use crate::format::overflow::{OverflowRef, pieces};
use crate::node::content::{Content, Edit};
use crate::node::inner::Keys;
use crate::node::leaf::Leaf;
use crate::node::overflow::RecordValue;
use crate::node::search;
use crate::node::slot::Node;
use crate::node::{Cold, Image};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::{Ahead, Place};
use crate::store::{Label, PageKind, PageRef, Stream};
use crate::version::{Older, Seek};

impl Applier<'_> {
    /// Notes which leaf is open now, and writes the page of the one that was. `may_wait`: on a full disk it stays in memory.
    pub(super) fn open(
        &mut self,
        pass: &mut Pass,
        open: (KeyspaceId, Vec<u8>),
        may_wait: bool,
    ) -> Result<()> {
        let Some((keyspace, low)) =
            pass.open.replace(open).filter(|before| pass.open.as_ref() != Some(before))
        else {
            return Ok(());
        };
        #[cfg(test)]
        if planted(Bug::OpenLeavesStayInMemory) {
            return Ok(());
        }
        let Some(core) = self.shared.tree(keyspace) else { return Ok(()) };
        let way = core.way(self.shared, Seek::From(&low), self.guard)?;
        // One that holds nothing has no page; it joins a neighbour some day.
        let Some(leaf) = way.node.leaf().filter(|leaf| leaf.base_lsn() == self.lsn && !leaf.is_clean())
        else {
            return Ok(());
        };
        let content = Content::of(leaf, &[]);
        if content.first().is_none() {
            return Ok(());
        }
        self.make_dirty(&way, leaf, Place { keyspace, key: &low });
        match self.write_pages(&core, &way, leaf, None, content, false) {
            Err(Error::DiskFull { .. }) if may_wait => pass.has_room = false,
            written => drop(written?),
        }
        Ok(())
    }

    /// Puts pages in the place of a leaf, its changes and `points` folded in. `older` serves readers of before, if there may
    /// be any. `open`: the last one stays in memory. So does a small one, or it joins the one in front of it. Answers where what
    /// stays begins.
    pub(super) fn rebuild_on_disk(
        &mut self,
        core: &TreeCore,
        way: &Way<'_>,
        leaf: &Leaf,
        older: Option<&Older>,
        points: &[Point<'_>],
        open: bool,
    ) -> Result<Option<Vec<u8>>> {
        let edits: Vec<Edit<'_>> =
            points.iter().map(|point| Edit { key: point.key, value: point.value }).collect();
        let content = Content::of(leaf, &edits);
        let is_small = content.cost < self.shared.options.leaf_bytes / 4;
        if is_small && let Some(low) = self.join_before(core, way, leaf, older, &content) {
            return Ok(Some(low));
        }
        self.write_pages(core, way, leaf, older, content, open || is_small)
    }

    /// Has what a leaf becomes join the leaf in front of it, if that is one of this entry, in memory, and has room. Answers
    /// where that begins.
    fn join_before(
        &mut self,
        core: &TreeCore,
        way: &Way<'_>,
        leaf: &Leaf,
        older: Option<&Older>,
        content: &Content<'_>,
    ) -> Option<Vec<u8>> {
        let ((parent, child), above) = way.steps.split_last()?;
        let number = child.checked_sub(1)?;
        let seen = parent.slots()[number].load(self.guard);
        let before = seen.leaf().filter(|before| before.base_lsn() == self.lsn && !before.is_clean())?;
        let theirs = Content::of(before, &[]);
        if theirs.cost + content.cost > self.shared.options.leaf_bytes * 3 / 4 {
            return None;
        }
        let border = parent.separator(number);
        let low = match number {
            0 => Way::low_of(above).unwrap_or_default(),
            _ => parent.separator(number - 1),
        };
        let mut past = self.past_of(before, &low, Some(&border));
        past.extend(self.past_on_disk(leaf, older, &border, None));
        #[cfg(test)]
        if planted(Bug::JoinedLeafForgetsThePast) {
            past.pop();
        }
        let joined = self.new_leaf(&theirs.with(content.clone()), past);
        let carried = joined.pages();
        self.supersede_on_disk(leaf, older, &carried, Place { keyspace: core.id, key: &border });
        self.supersede(before, &carried, Place { keyspace: core.id, key: &low });
        let mut steps = way.steps.clone();
        if let Some(last) = steps.last_mut() {
            last.1 = number;
        }
        self.replace_child(core, &steps, 2, vec![Node::Leaf(joined)], &Keys::default());
        Some(low)
    }

    /// Puts pages in the place of a leaf. `open`: the last one stays in memory. Answers where that begins.
    fn write_pages(
        &mut self,
        core: &TreeCore,
        way: &Way<'_>,
        leaf: &Leaf,
        older: Option<&Older>,
        content: Content<'_>,
        open: bool,
    ) -> Result<Option<Vec<u8>>> {
        let contents = content.cut(self.shared.options.leaf_bytes);
        let high = way.high();
        let start = way.low().unwrap_or_default();
        let mut low = start.clone();
        let mut nodes = Vec::with_capacity(contents.len());
        let mut separators = Keys::default();
        let mut ahead = Ahead { since: self.lsn, pages: Vec::new() };
        let mut carried = Vec::new();
        for (at, content) in contents.iter().enumerate() {
            let border = contents.get(at + 1).and_then(|next| Some((content.last()?, next.first()?)));
            let next_low = border.map(|(left, right)| search::separator(&left.key(), &right.key()));
            let past = self.past_on_disk(leaf, older, &low, next_low.as_deref().or(high.as_deref()));
            nodes.push(if open && next_low.is_none() {
                let new = self.new_leaf(content, past);
                carried.append(&mut new.pages());
                Node::Leaf(new)
            } else {
                let image = match self.write_page(core.id, &low, content, &mut ahead.pages) {
                    Ok(image) => image,
                    Err(error) => {
                        // Nothing leads to what was written.
                        self.writer.discard_pages(ahead.pages, Lsn::ZERO);
                        return Err(error);
                    }
                };
                carried.extend(&image.overflow);
                Node::Cold(Arc::new(Cold::with_past(image.entry, past)))
            });
            if let Some(next) = next_low {
                separators.push(&next);
                low = next;
            }
        }
        for node in &nodes {
            if let Node::Cold(cold) = node
                && self.keeps_past
            {
                self.writer.made_cold(self.lsn, cold);
            }
        }
        self.writer.ahead.push(ahead);
        self.shared.note_cold();
        self.supersede_on_disk(leaf, older, &carried, Place { keyspace: core.id, key: &start });
        self.replace_child(core, &way.steps, 1, nodes, &separators);
        Ok(open.then_some(low))
    }

    /// Writes the page of a leaf that begins at `low`, and those of long values that have none yet. What was written is put
    /// behind `written`, also when not all could be.
    fn write_page(
        &self,
        keyspace: KeyspaceId,
        low: &[u8],
        content: &Content<'_>,
        written: &mut Vec<PageRef>,
    ) -> Result<Image> {
        let store = &self.shared.store;
        let body = LeafBody::of(content.records(), self.shared.options.leaf_bytes, |record, key, hash| {
            let value = match record.value {
                RecordValue::Overflow(value) => return Ok(value.reference()),
                RecordValue::Inline(value) => value,
            };
            let label = Label { kind: PageKind::Overflow, level: 0, keyspace, low_key: key };
            let mut extents = Vec::new();
            for piece in pieces(value) {
                let page = store.append(Stream::Overflow, &label, piece)?;
                written.push(page);
                extents.push(page);
            }
            Ok(OverflowRef { total_bytes: value.len() as u64, record_hash: hash, extents })
        })?;
        let body = body.ok_or_else(|| Error::Internal("a part of a leaf without records".into()))?;
        let label = Label { kind: PageKind::Leaf, level: 0, keyspace, low_key: low };
        let page = store.append(Stream::Base, &label, &body.bytes)?;
        written.push(page);
        Ok(body.image(page, self.lsn))
    }
}
