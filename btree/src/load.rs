//! Pages into memory.
//!
//! A reader that meets the address of a page reads it without any lock, builds the node and installs it in the place
//! of the address. Who comes second uses what the first one installed. Damage is an error for the keys that the page
//! holds; it changes nothing, and the next reader finds it again. Long values are not read: the leaf keeps where they stand.

use crossbeam_epoch::Guard;
use logwood_base::codec::CodecError;
use logwood_base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use logwood_base::sync::atomic::Ordering;
use logwood_base::{Corruption, Error, KeyspaceId, Lsn, Result};

use crate::descent::TreeCore;
use crate::format::child::ChildEntry;
use crate::format::delta::DeltaReader;
use crate::format::inner::InnerReader;
use crate::format::leaf::{LeafReader, LeafValue};
use crate::format::overflow::OverflowRef;
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
use std::sync::Arc;

/// A leaf holds one record that is as large as records may be, or some that are not.
const LEAF_BYTES_MAX: usize = 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX);

/// The records of a leaf as they were read, and the pages that its long values stand in: those too that a delta block has taken
/// away or replaced.
pub(crate) struct LoadedLeaf {
    pub(crate) records: Vec<(Vec<u8>, LoadedValue)>,
    pub(crate) overflow: Vec<PageRef>,
}

/// The value of a record that was read.
pub(crate) enum LoadedValue {
    /// Its bytes.
    Inline(Vec<u8>),
    /// Where they are.
    Overflow(OverflowRef),
}

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

    /// Reads and builds one node. `level` is what the parent says that it must be.
    fn read_node(&self, entry: &ChildEntry, level: u8, past: Vec<Part>) -> Result<Node> {
        let page = self.store.read(&entry.page)?;
        match page.kind() {
            PageKind::Leaf if level == 0 => {
                let (leaf, overflow) = match self.build_plain(&page, entry, &past)? {
                    Some(leaf) => (leaf, Vec::new()),
                    None => {
                        let LoadedLeaf { records, overflow } = read_leaf(&self.store, &page, entry)?;
                        (self.build(records, entry.newest_lsn(), Previous::new(past)), overflow)
                    }
                };
                leaf.set_image(Image { entry: entry.clone(), overflow }, true);
                Ok(Node::Leaf(leaf))
            }
            PageKind::Inner if level > 0 => {
                let inner = self.read_inner(&page, entry)?;
                if level != inner.level() {
                    return Err(self.contradiction(entry, "page level", level, inner.level()));
                }
                Ok(Node::Inner(inner))
            }
            kind => Err(self.contradiction(entry, "page kind of level", level, kind as u8)),
        }
    }

    /// Builds a leaf whose records all stand in its page, straight from there; `None` when some do not.
    fn build_plain(&self, page: &Page, entry: &ChildEntry, past: &[Part]) -> Result<Option<Leaf>> {
        let decoding = |error: CodecError| undecodable(&self.store, &entry.page, error);
        if !entry.deltas.is_empty() {
            return Ok(None);
        }
        let reader = LeafReader::new(page.body()).map_err(decoding)?;
        let mut iter = reader.iter();
        let mut keys = Vec::with_capacity(page.body().len());
        let mut records = Vec::with_capacity(reader.len());
        while let Some((key, value)) = iter.next().map_err(decoding)? {
            let LeafValue::Inline(value) = value else { return Ok(None) };
            let from = keys.len();
            keys.extend_from_slice(key);
            records.push((from..keys.len(), value));
        }
        if records.len() as u64 != entry.digest.count {
            let (expected, found) = (entry.digest.count, records.len());
            return Err(contradiction(&self.store, &entry.page, "record count", expected, found));
        }
        let records = records.into_iter().map(|(key, value)| ViewRecord::whole(&keys[key], value));
        let past = Previous::new(past.to_vec());
        Ok(Some(Leaf::build(&Content::of_records(records), entry.lsn, past, &self.account)))
    }

    /// Builds a leaf some of whose values may stand elsewhere. The caller keeps the pages of those.
    fn build(&self, records: Vec<(Vec<u8>, LoadedValue)>, lsn: Lsn, past: Option<Previous>) -> Leaf {
        let mut overflow = Vec::new();
        let inline: Vec<_> = records
            .into_iter()
            .map(|(key, value)| match value {
                LoadedValue::Inline(value) => (key, Some(value)),
                LoadedValue::Overflow(reference) => {
                    overflow.push(Arc::new(OverflowValue::new(reference, &self.store, &self.account)));
                    (key, None)
                }
            })
            .collect();
        let mut overflow = overflow.iter();
        let records = inline.iter().filter_map(|(key, value)| {
            let value = match value {
                Some(value) => RecordValue::Inline(value),
                None => RecordValue::Overflow(overflow.next()?),
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

/// The records of a leaf: its image, its delta blocks over it. Reads no overflow page.
///
/// # Errors
/// `Corruption`; `Io`.
pub(crate) fn read_leaf(store: &Store, page: &Page, entry: &ChildEntry) -> Result<LoadedLeaf> {
    let decoding = |error: CodecError| undecodable(store, &entry.page, error);
    let reader = LeafReader::new(page.body()).map_err(decoding)?;
    let mut iter = reader.iter();
    let mut loaded = LoadedLeaf { records: Vec::with_capacity(reader.len()), overflow: Vec::new() };
    let mut bytes = 0;
    while let Some((key, value)) = iter.next().map_err(decoding)? {
        bytes = value.bytes().saturating_add(bytes + key.len());
        if bytes > LEAF_BYTES_MAX {
            return Err(contradiction(
                store,
                &entry.page,
                "bytes of a leaf's records",
                LEAF_BYTES_MAX,
                bytes,
            ));
        }
        let key = key.to_vec();
        let value = loaded.value(value);
        loaded.records.push((key, value));
    }
    if entry.deltas.is_empty() {
        if loaded.records.len() as u64 != entry.digest.count {
            let (expected, found) = (entry.digest.count, loaded.records.len());
            return Err(contradiction(store, &entry.page, "record count", expected, found));
        }
        return Ok(loaded);
    }
    let blocks: Vec<PageRef> = entry.deltas.iter().map(|delta| delta.page).collect();
    for (block, page) in blocks.iter().zip(store.read_many(&blocks)) {
        lay_over(store, &mut loaded, block, &page?)?;
    }
    Ok(loaded)
}

/// Lays a delta block over the records before it.
fn lay_over(store: &Store, loaded: &mut LoadedLeaf, block: &PageRef, page: &Page) -> Result<()> {
    if page.kind() != PageKind::Delta {
        return Err(contradiction(store, block, "page kind", PageKind::Delta as u8, page.kind() as u8));
    }
    let decoding = |error: CodecError| undecodable(store, block, error);
    let mut iter = DeltaReader::new(page.body()).map_err(decoding)?.iter();
    while let Some((key, value)) = iter.next().map_err(decoding)? {
        let place = loaded.records.binary_search_by(|(other, _)| other[..].cmp(key));
        let value = value.map(|value| loaded.value(value));
        match (place, value) {
            (Ok(at), Some(value)) => loaded.records[at].1 = value,
            (Ok(at), None) => drop(loaded.records.remove(at)),
            (Err(at), Some(value)) => loaded.records.insert(at, (key.to_vec(), value)),
            (Err(_), None) => {}
        }
    }
    Ok(())
}

impl LoadedLeaf {
    /// Takes a value, and notes its pages.
    fn value(&mut self, value: LeafValue<'_>) -> LoadedValue {
        match value {
            LeafValue::Inline(bytes) => LoadedValue::Inline(bytes.to_vec()),
            LeafValue::Overflow(reference) => {
                self.overflow.extend(&reference.extents);
                LoadedValue::Overflow(reference)
            }
        }
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
        key.map_or_else(|| none.to_owned(), |key| format!("\"{}\"", key.escape_ascii()))
    };
    format!("keyspace {keyspace}, keys from {} to {}", bound(low, "the first"), bound(high, "the last"))
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
