//! Pages into memory.
//!
//! A reader that meets the address of a page reads it without any lock, builds the node and installs it in the place
//! of the address. Who comes second uses what the first one installed. Damage is an error for the keys that the page
//! holds; it changes nothing, and the next reader finds it again. Long values are not read: the leaf keeps where they stand.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::codec::CodecError;
use logwood_base::sync::atomic::Ordering;
use logwood_base::{Corruption, Error, Escaped, KeyspaceId, Lsn, Result};

use crate::descent::{TreeCore, Way};
use crate::format::child::ChildEntry;
use crate::format::inner::InnerReader;
use crate::format::leaf::LeafValue;
use crate::node::content::Content;
use crate::node::inner::{Inner, Keys};
use crate::node::leaf::Leaf;
use crate::node::overflow::{OverflowValue, RecordValue};
use crate::node::slot::{Node, Seen, Slot};
use crate::node::view::ViewRecord;
use crate::node::{Cold, Image};
use crate::shared::Shared;
use crate::store::{Page, PageKind, PageRef, Store};
use crate::version::{Part, Previous};

mod records;

pub(crate) use records::LeafRecords;

impl Shared {
    /// Puts the page that `slot` names into memory. `None` when the slot moved on meanwhile: begin at the root again.
    ///
    /// # Errors
    /// `Corruption` that names the keyspace and key range; `Io`.
    pub(crate) fn load_child<'g>(
        &self,
        core: &TreeCore,
        slot: &Slot,
        key: &[u8],
        guard: &'g Guard,
    ) -> Result<Option<Seen<'g>>> {
        // The address is learnt under the pin: from here on its file stays.
        let _pin = self.store.pin();
        let seen = slot.load(guard);
        let Node::Cold(cold) = &*seen else { return Ok(Some(seen)) };
        let past = cold.past.load(guard).map(|past| past.parts().to_vec());
        let node = self
            .read_node(&cold.entry, cold.level, past.unwrap_or_default())
            .map_err(|error| affecting(error, || core.describe_range(key, cold.level, guard)))?;
        self.account.cold_reads.fetch_add(1, Ordering::Relaxed);
        let aged = match &node {
            Node::Leaf(leaf) if leaf.header().prev.load(guard).is_some() => Some(leaf.clone()),
            _ => None,
        };
        if slot.install(&seen, node, guard) {
            self.loaded.lock().extend(aged);
            core.old_page.iter().for_each(|old| self.note_old_page(&old.tree));
        }
        let now = slot.load(guard);
        // Not on the way down: an inner node that went at once would take the leaf that is loaded below it along, out of
        // everybody's sight.
        if now.leaf().is_some() {
            self.evict_if_idle(guard);
        }
        Ok((!matches!(&*now, Node::Cold(_))).then_some(now))
    }

    /// Finds the way to the leaf that holds `key`. If that is on disk, it is read and found to be one that can be loaded, and
    /// stays on disk. Answers too about how many bytes its records are, long values whole.
    ///
    /// # Errors
    /// As [`Shared::load_child`].
    pub(crate) fn look_at_leaf<'g>(
        &self,
        core: &TreeCore,
        key: &[u8],
        guard: &'g Guard,
    ) -> Result<(Way<'g>, usize)> {
        // As in `load_child`.
        let _pin = self.store.pin();
        let way = core.way_to_level(self, key, 0, guard)?;
        let bytes = match &*way.node {
            Node::Leaf(leaf) => leaf.cost(0, leaf.len()),
            Node::Cold(cold) => {
                self.account.cold_reads.fetch_add(1, Ordering::Relaxed);
                let read = self.read_leaf(&cold.entry, |records| records.cost());
                read.map_err(|error| affecting(error, || core.describe_range(key, 0, guard)))?
            }
            Node::Inner(_) => 0,
        };
        // Of all that is looked through, the nodes above would stay.
        self.evict_if_idle(guard);
        Ok((way, bytes))
    }

    /// Reads and builds one node. `level` is what the parent says that it must be.
    fn read_node(&self, entry: &ChildEntry, level: u8, past: Vec<Part>) -> Result<Node> {
        if level == 0 {
            return self.read_leaf(entry, |records| {
                let leaf = self.build(&records, entry.newest_lsn(), Previous::new(past));
                leaf.set_image(Image { entry: entry.clone(), overflow: records.overflow }, true);
                Node::Leaf(leaf)
            });
        }
        let page = self.store.read(&entry.page)?;
        if page.kind() != PageKind::Inner {
            return Err(self.contradiction(entry, "page kind of level", level, page.kind() as u8));
        }
        let inner = self.read_inner(&page, entry)?;
        if level != inner.level() {
            return Err(self.contradiction(entry, "page level", level, inner.level()));
        }
        Ok(Node::Inner(inner))
    }

    /// Reads the pages of a leaf, and has `work` do something with its records.
    fn read_leaf<T>(&self, entry: &ChildEntry, work: impl FnOnce(LeafRecords<'_>) -> T) -> Result<T> {
        let page = self.store.read(&entry.page)?;
        if page.kind() != PageKind::Leaf {
            return Err(self.contradiction(entry, "page kind of level", 0, page.kind() as u8));
        }
        let blocks: Vec<PageRef> = entry.deltas.iter().map(|delta| delta.page).collect();
        let blocks = self.store.read_many(&blocks).into_iter().collect::<Result<Vec<Page>>>()?;
        Ok(work(LeafRecords::read(&self.store, entry, &page, &blocks)?))
    }

    /// Builds a leaf. Some of its values may stand elsewhere: the caller keeps the pages of those.
    fn build(&self, records: &LeafRecords<'_>, lsn: Lsn, past: Option<Previous>) -> Leaf {
        let overflow: Vec<_> = records
            .iter()
            .filter_map(|(_, value)| match value {
                LeafValue::Inline(_) => None,
                LeafValue::Overflow(reference) => Some(reference.clone()),
            })
            .map(|reference| Arc::new(OverflowValue::new(reference, &self.store, &self.account)))
            .collect();
        let mut overflow = overflow.iter();
        let records = records.iter().filter_map(|(key, value)| {
            let value = match value {
                LeafValue::Inline(value) => RecordValue::Inline(value),
                LeafValue::Overflow(_) => RecordValue::Overflow(overflow.next()?),
            };
            Some(ViewRecord { prefix: &[], suffix: key, value })
        });
        Leaf::build(&Content::of_records(records), lsn, past, &self.account)
    }

    fn read_inner(&self, page: &Page, entry: &ChildEntry) -> Result<Arc<Inner>> {
        let decoding = |error: CodecError| undecodable(&self.store, &entry.page, error);
        let reader = InnerReader::new(page.body()).map_err(decoding)?;
        let mut iter = reader.iter();
        let mut separators = Keys::default();
        let mut children = Vec::with_capacity(reader.len());
        while let Some((separator, child)) = iter.next().map_err(decoding)? {
            if !children.is_empty() {
                separators.push(separator);
            }
            children.push(Node::Cold(Arc::new(Cold::new(child, reader.level() - 1))));
        }
        self.ever_cold.store(true, Ordering::Relaxed);
        let inner = Inner::new(reader.level(), &separators, children, Lsn::MAX, &self.account);
        inner.set_image(Some(Image { entry: entry.clone(), overflow: Vec::new() }));
        Ok(inner)
    }

    fn contradiction(&self, entry: &ChildEntry, check: &'static str, expected: u8, found: u8) -> Error {
        contradiction(&self.store, &entry.page, check, expected, found)
    }
}

/// A page whose bytes verify, but do not decode.
pub(crate) fn undecodable(store: &Store, page: &PageRef, error: CodecError) -> Error {
    contradiction(store, page, "page structure", "records in order", error)
}

/// A page whose content contradicts what its parent says of it.
pub(crate) fn contradiction(
    store: &Store,
    page: &PageRef,
    check: &'static str,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Error {
    let path = store.segment_path(page.addr.segment);
    Corruption::new(&path, u64::from(page.addr.offset), check, expected, found).into()
}

/// Adds to damage which keys it takes away.
pub(crate) fn affecting(error: Error, range: impl FnOnce() -> String) -> Error {
    match error {
        Error::Corruption(corruption) => corruption.affecting(range()).into(),
        other => other,
    }
}

/// A key range in words.
pub(crate) fn describe(keyspace: KeyspaceId, low: Option<&[u8]>, high: Option<&[u8]>) -> String {
    let bound = |key: Option<&[u8]>, none: &str| {
        key.map_or_else(|| none.to_owned(), |key| format!("'{}'", Escaped(key)))
    };
    format!("keyspace {keyspace}, keys from {} to {}", bound(low, "the start"), bound(high, "the end"))
}

impl TreeCore {
    /// The range of the node at `level` that holds `key`, in words, without loading anything.
    fn describe_range(&self, key: &[u8], level: u8, guard: &Guard) -> String {
        let mut low = None;
        let mut high = None;
        let mut seen = self.root.load(guard);
        while let Some(inner) = seen.inner().filter(|inner| inner.level() > level) {
            let child = inner.child_of(key);
            if child > 0 {
                low = Some(inner.separator(child - 1));
            }
            if child + 1 < inner.slots().len() {
                high = Some(inner.separator(child));
            }
            seen = inner.slots()[child].load(guard);
        }
        describe(self.id, low.as_deref(), high.as_deref())
    }
}
