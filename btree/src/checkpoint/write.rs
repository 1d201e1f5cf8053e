//! Pages of a checkpoint.

use std::sync::Arc;

use logwood_base::digest::Digest;
use logwood_base::limits::DELTA_BLOCKS_MAX;
use logwood_base::{KeyspaceId, Lsn, Result};

use super::walk::{Frame, LeafAtC};
use super::{CheckpointJob, WrittenLeaf};
use crate::format::child::{ChildEntry, DeltaRef};
use crate::format::delta::DeltaBuilder;
use crate::format::inner::InnerBuilder;
use crate::format::leaf::{LeafBuilder, LeafValue};
use crate::format::overflow::{OverflowRef, pieces};
use crate::node::Image;
use crate::node::overflow::{OverflowValue, RecordValue};
use crate::node::view::{View, ViewRecord};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::Shared;
use crate::store::{Label, PageKind, PageRef, Root, Stream};
use crate::sums::hash_of;

/// Bytes of separators and entries beyond which an inner page is cut.
const INNER_PAGE_BYTES: usize = 256 << 10;

/// Bytes that an entry takes in a page, about.
const ENTRY_BYTES: usize = 64;

/// The delta blocks of a leaf take at most this part of what its image takes: beyond that, reading them all costs more
/// than writing the leaf whole.
const DELTA_PARTS: usize = 2;

/// Long values that were written elsewhere, and where.
pub(super) type Moved = Vec<(Arc<OverflowValue>, Vec<PageRef>)>;

/// The entries of one level, with the keys that they begin at.
type Entries = Vec<(Vec<u8>, ChildEntry)>;

impl CheckpointJob {
    /// Writes a leaf as it was at C: a delta block beside its image, or all of it.
    pub(super) fn write_leaf(&mut self, keyspace: KeyspaceId, at_c: LeafAtC) -> Result<WrittenLeaf> {
        if let Some(before) = &at_c.image
            && at_c.whole
            && let Some(written) = self.write_delta(keyspace, &at_c, before)?
        {
            self.kept_beside_changes.extend(before.pages().map(|page| page.addr));
            return Ok(written);
        }
        self.written.replaced.extend(&at_c.pages);
        let mut moved = Vec::new();
        let image = self.write_image(keyspace, &at_c, &mut moved)?;
        let taken_over = |page: &&PageRef| self.kept_beside_changes.contains(&page.addr);
        let fresh = image.iter().flat_map(Image::pages).filter(|page| !taken_over(page)).copied().collect();
        Ok(WrittenLeaf { leaf: at_c.leaf, image, fresh, extends: false, moved })
    }

    /// Writes what changed between the image and C. `None` when the leaf is to be written whole.
    fn write_delta(
        &mut self,
        keyspace: KeyspaceId,
        at_c: &LeafAtC,
        before: &Image,
    ) -> Result<Option<WrittenLeaf>> {
        let (leaf, at, since) = (&at_c.leaf, self.lsn(), before.entry.newest_lsn());
        #[cfg(test)]
        let at = if planted(Bug::CheckpointOfTheNewest) { Lsn::MAX } else { at };
        let Some(area) = leaf.delta().filter(|_| leaf.base_lsn() <= since) else { return Ok(None) };
        let newest = area.newest_of_each(at);
        let changes = || newest.iter().filter(|change| change.lsn > since);
        let entry = &before.entry;
        let written = entry.deltas.iter().map(|delta| delta.page.bytes as usize).sum::<usize>();
        let more =
            changes().map(|change| change.key().len() + change.value().map_or(0, <[u8]>::len)).sum::<usize>();
        if entry.deltas.len() == DELTA_BLOCKS_MAX
            || (written + more) * DELTA_PARTS > entry.page.bytes as usize
        {
            return Ok(None);
        }
        let (mut first, mut last) = (Lsn::MAX, Lsn::ZERO);
        for change in area.visible(at).filter(|change| change.lsn > since) {
            (first, last) = (first.min(change.lsn), last.max(change.lsn));
        }
        let mut digest = entry.digest;
        let mut builder = DeltaBuilder::default();
        for change in changes() {
            let key = change.key();
            match leaf.get(key, since) {
                Some(RecordValue::Inline(old)) => digest.remove(key, old),
                Some(RecordValue::Overflow(old)) => digest.remove_hash(old.record_hash),
                None => {}
            }
            if let Some(value) = change.value() {
                digest.add(key, value);
            }
            // Long values make a leaf be rebuilt: what stands behind a base is short.
            builder.push(key, change.value().map(LeafValue::Inline).as_ref());
        }
        if digest.count == 0 || builder.is_empty() {
            return Ok(None);
        }
        let label = Label { kind: PageKind::Delta, level: 0, keyspace, low_key: &at_c.low };
        let page = self.append(Stream::Delta, &label, &builder.finish(first, last))?;
        self.report.deltas += 1;
        let mut image = before.clone();
        image.entry.deltas.push(DeltaRef { page, first_lsn: first, last_lsn: last });
        image.entry.resolved = image.entry.deltas.len() as u8;
        image.entry.digest = digest;
        #[cfg(test)]
        if planted(Bug::SumsWithoutTheDelta) {
            image.entry.digest = entry.digest;
        }
        Ok(Some(WrittenLeaf {
            leaf: leaf.clone(),
            image: Some(image),
            fresh: vec![page],
            extends: true,
            moved: Vec::new(),
        }))
    }

    /// Writes all of a leaf. `None` when it held no records.
    fn write_image(
        &mut self,
        keyspace: KeyspaceId,
        at_c: &LeafAtC,
        moved: &mut Moved,
    ) -> Result<Option<Image>> {
        let at = self.lsn();
        #[cfg(test)]
        let at = if planted(Bug::CheckpointOfTheNewest) { Lsn::MAX } else { at };
        let view = View::new(&at_c.leaf, at);
        let start = view.place_of(&at_c.low);
        let end = at_c.high.as_ref().map_or_else(|| view.end(), |high| view.place_of(high));
        let leaf_bytes = self.shared.options.leaf_bytes;
        let body = LeafBody::of(view.records(start, end), leaf_bytes, |record, key, hash| {
            let label = Label { kind: PageKind::Overflow, level: 0, keyspace, low_key: key };
            match record.value {
                RecordValue::Inline(value) => self.write_overflow(&label, value, hash),
                RecordValue::Overflow(value) => {
                    let copied =
                        if value.is_moving() && at_c.serves() { self.copy(&label, value)? } else { None };
                    moved.extend(copied.iter().map(|copied| (Arc::clone(value), copied.extents.clone())));
                    Ok(copied.unwrap_or_else(|| self.take_over(value)))
                }
            }
        })?;
        #[cfg(test)]
        let body = body.map(|mut body| {
            if planted(Bug::HugeCounts) && !at_c.low.is_empty() && at_c.high.is_some() {
                body.digest.count += 1 << 63;
            }
            body
        });
        let Some(body) = body else { return Ok(None) };
        let changed = at_c.leaf.delta().and_then(|area| area.visible(at).last().map(|entry| entry.lsn));
        let lsn = changed.unwrap_or(at_c.leaf.base_lsn());
        let label = Label { kind: PageKind::Leaf, level: 0, keyspace, low_key: &at_c.low };
        let page = self.append(Stream::Base, &label, &body.bytes)?;
        self.report.leaves += 1;
        Ok(Some(body.image(page, lsn)))
    }

    /// Writes a long value.
    fn write_overflow(&mut self, label: &Label<'_>, value: &[u8], record_hash: u128) -> Result<OverflowRef> {
        let extents = pieces(value)
            .map(|piece| self.append(Stream::Overflow, label, piece))
            .collect::<Result<Vec<PageRef>>>()?;
        Ok(OverflowRef { total_bytes: value.len() as u64, record_hash, extents })
    }

    /// Writes a long value elsewhere, piece by piece. `None` when it cannot be read: then it is better left where it is.
    fn copy(&mut self, label: &Label<'_>, value: &OverflowValue) -> Result<Option<OverflowRef>> {
        let place = value.place();
        let mut extents = Vec::with_capacity(place.extents.len());
        for number in 0..place.extents.len() {
            let Ok(piece) = self.shared.read_piece(&place.extents, value.bytes, number) else {
                self.written.loose.append(&mut extents);
                return Ok(None);
            };
            extents.push(self.append(Stream::Overflow, label, piece.body())?);
        }
        Ok(Some(OverflowRef { extents, ..value.reference() }))
    }

    /// The reference to a long value that stays where it is.
    fn take_over(&mut self, value: &OverflowValue) -> OverflowRef {
        let reference = value.reference();
        #[cfg(test)]
        if planted(Bug::TakenOverCountsAsUnreached) {
            return reference;
        }
        self.kept_beside_changes.extend(reference.extents.iter().map(|page| page.addr));
        reference
    }

    fn append(&mut self, stream: Stream, label: &Label<'_>, body: &[u8]) -> Result<PageRef> {
        let page = self.shared.store.append(stream, label, body)?;
        self.written.took(page);
        Ok(page)
    }

    /// Writes the page of a frame; several when its node grew while the walk was inside. Answers the entries for the
    /// level above, and the image for the node in memory when one page says it all.
    pub(super) fn write_inner(
        &mut self,
        keyspace: KeyspaceId,
        frame: &Frame,
    ) -> Result<(Entries, Option<Image>)> {
        let entries = self.write_level(keyspace, frame.level, &frame.low, &frame.entries)?;
        let image = match &entries[..] {
            [(_, entry)] => Some(Image { entry: entry.clone(), overflow: Vec::new() }),
            _ => None,
        };
        if image.is_none() || !frame.exact {
            self.written.loose.extend(entries.iter().map(|(_, entry)| entry.page));
        }
        Ok((entries, image))
    }

    /// Writes the pages of one level over a range that begins at `low`.
    fn write_level(
        &mut self,
        keyspace: KeyspaceId,
        level: u8,
        low: &[u8],
        children: &[(Vec<u8>, ChildEntry)],
    ) -> Result<Entries> {
        let mut entries = Entries::new();
        let mut rest = children;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|(key, _)| {
                bytes += key.len() + ENTRY_BYTES;
                bytes <= INNER_PAGE_BYTES
            });
            let count = fit.count().max(2).min(rest.len());
            let (part, behind) = rest.split_at(count);
            let from = if entries.is_empty() { low } else { &part[0].0 };
            let entry = self.write_inner_page(keyspace, level, from, part)?;
            entries.push((from.to_vec(), entry));
            rest = behind;
        }
        Ok(entries)
    }

    fn write_inner_page(
        &mut self,
        keyspace: KeyspaceId,
        level: u8,
        low: &[u8],
        children: &[(Vec<u8>, ChildEntry)],
    ) -> Result<ChildEntry> {
        let entry = write_inner_page(&self.shared, keyspace, level, low, children)?;
        self.written.took(entry.page);
        self.report.inners += 1;
        Ok(entry)
    }

    /// Makes one root of what the topmost frame gathered. `None` for a tree without records.
    pub(super) fn write_root(&mut self, keyspace: KeyspaceId, frame: Frame) -> Result<Option<Root>> {
        let mut level = frame.level;
        let mut entries = frame.entries;
        while entries.len() > 1 {
            entries = self.write_level(keyspace, level, &[], &entries)?;
            self.written.loose.extend(entries.iter().map(|(_, entry)| entry.page));
            level += 1;
        }
        Ok(entries.pop().map(|(_, child)| Root { level: level - 1, child }))
    }
}

/// The page of a leaf to be.
pub(crate) struct LeafBody {
    pub(crate) bytes: Vec<u8>,
    digest: Digest,
    /// Where its long values stand.
    overflow: Vec<PageRef>,
}

impl LeafBody {
    /// The page of some records. `long` says where a value stands that is on disk already, or makes its record larger than
    /// `leaf_bytes`. `None` when there are no records.
    pub(crate) fn of<'r>(
        records: impl Iterator<Item = ViewRecord<'r>>,
        leaf_bytes: usize,
        mut long: impl FnMut(&ViewRecord<'r>, &[u8], u128) -> Result<OverflowRef>,
    ) -> Result<Option<Self>> {
        let mut builder = LeafBuilder::default();
        let mut digest = Digest::EMPTY;
        let mut overflow = Vec::new();
        for record in records {
            let hash = hash_of(&record);
            digest.add_hash(hash);
            let key = record.key();
            let value = match record.value {
                RecordValue::Inline(value) if key.len() + value.len() <= leaf_bytes => {
                    LeafValue::Inline(value)
                }
                _ => LeafValue::Overflow(long(&record, &key, hash)?),
            };
            if let LeafValue::Overflow(reference) = &value {
                overflow.extend(&reference.extents);
            }
            builder.push(&key, &value);
        }
        if builder.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { bytes: builder.finish(), digest, overflow }))
    }

    /// The image that stands at `page`, as of `lsn`.
    pub(crate) fn image(self, page: PageRef, lsn: Lsn) -> Image {
        Image { entry: ChildEntry::of_image(page, lsn, self.digest), overflow: self.overflow }
    }
}

/// Writes an inner page over children.
pub(super) fn write_inner_page(
    shared: &Shared,
    keyspace: KeyspaceId,
    level: u8,
    low: &[u8],
    children: &[(Vec<u8>, ChildEntry)],
) -> Result<ChildEntry> {
    let mut builder = InnerBuilder::new(level);
    let mut sums = Digest::EMPTY;
    let mut lsn = Lsn::ZERO;
    let mut unresolved = false;
    for (at, (key, entry)) in children.iter().enumerate() {
        builder.push(if at == 0 { low } else { key }, entry.clone());
        sums = sums.plus(entry.digest);
        lsn = lsn.max(entry.newest_lsn());
        unresolved |= entry.unresolved;
    }
    let label = Label { kind: PageKind::Inner, level, keyspace, low_key: low };
    // Written again by nearly every checkpoint, they would leave holes between pages that last.
    let page = shared.store.append(Stream::Hot, &label, &builder.finish())?;
    Ok(ChildEntry { unresolved, ..ChildEntry::of_image(page, lsn, sums) })
}
