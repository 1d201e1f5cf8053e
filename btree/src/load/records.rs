//! The records of a leaf as its pages have them: the image, its delta blocks laid over it.
//!
//! Keys are put together in one place, values stay in the pages. Whoever puts a leaf into memory reads them here, and so does
//! whoever verifies it.

use std::ops::Range;

use logwood_base::Result;
use logwood_base::codec::CodecError;
use logwood_base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::{contradiction, undecodable};
use crate::format::child::ChildEntry;
use crate::format::delta::DeltaReader;
use crate::format::leaf::{LeafReader, LeafValue};
use crate::node::content::record_cost;
use crate::store::{Page, PageKind, PageRef, Store};

/// A leaf holds one record that is as large as records may be, or some that are not.
const LEAF_BYTES_MAX: usize = 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX);

/// The records of a leaf, in key order.
pub(crate) struct LeafRecords<'p> {
    /// The keys of all pages, in the order in which they were read.
    keys: Vec<u8>,
    /// Where the key stands, and the value.
    records: Vec<(Range<usize>, LeafValue<'p>)>,
    /// The pages that long values stand in: those too that a delta block has taken away or replaced.
    pub(crate) overflow: Vec<PageRef>,
}

impl<'p> LeafRecords<'p> {
    /// The records of the leaf that `entry` names: `image` is its page, `blocks` are its delta blocks, oldest first. Reads no
    /// overflow page.
    ///
    /// # Errors
    /// `Corruption`.
    pub(crate) fn read(
        store: &Store,
        entry: &ChildEntry,
        image: &'p Page,
        blocks: &'p [Page],
    ) -> Result<Self> {
        let decoding = |error: CodecError| undecodable(store, &entry.page, error);
        let reader = LeafReader::new(image.body()).map_err(decoding)?;
        let mut leaf = Self {
            keys: Vec::with_capacity(image.body().len()),
            records: Vec::with_capacity(reader.len()),
            overflow: Vec::new(),
        };
        let mut iter = reader.iter();
        let mut bytes = 0;
        while let Some((key, value)) = iter.next().map_err(decoding)? {
            bytes = value.bytes().saturating_add(bytes + key.len());
            if bytes > LEAF_BYTES_MAX {
                let check = "bytes of a leaf's records";
                return Err(contradiction(store, &entry.page, check, LEAF_BYTES_MAX, bytes));
            }
            leaf.push(key, value);
        }
        if blocks.is_empty() && leaf.records.len() as u64 != entry.digest.count {
            let (expected, found) = (entry.digest.count, leaf.records.len());
            return Err(contradiction(store, &entry.page, "record count", expected, found));
        }
        for (delta, block) in entry.deltas.iter().zip(blocks) {
            let page = &delta.page;
            if block.kind() != PageKind::Delta {
                let (expected, found) = (PageKind::Delta as u8, block.kind() as u8);
                return Err(contradiction(store, page, "page kind", expected, found));
            }
            leaf.lay_over(block).map_err(|error| undecodable(store, page, error))?;
        }
        Ok(leaf)
    }

    /// Lays a delta block over the records before it.
    fn lay_over(&mut self, block: &'p Page) -> Result<(), CodecError> {
        let reader = DeltaReader::new(block.body())?;
        let merged = Vec::with_capacity(self.records.len() + reader.len());
        let mut before = std::mem::replace(&mut self.records, merged).into_iter();
        let mut iter = reader.iter();
        while let Some((key, value)) = iter.next()? {
            let keys = &self.keys;
            let smaller = before.as_slice().partition_point(|(other, _)| keys[other.clone()] < *key);
            self.records.extend(before.by_ref().take(smaller));
            if before.as_slice().first().is_some_and(|(other, _)| self.keys[other.clone()] == *key) {
                before.next();
            }
            if let Some(value) = value {
                self.push(key, value);
            }
        }
        self.records.extend(before);
        Ok(())
    }

    /// Adds a record behind the others, and notes the pages of its value.
    fn push(&mut self, key: &[u8], value: LeafValue<'p>) {
        if let LeafValue::Overflow(reference) = &value {
            self.overflow.extend(&reference.extents);
        }
        let from = self.keys.len();
        self.keys.extend_from_slice(key);
        self.records.push((from..self.keys.len(), value));
    }

    /// What the records take in memory, about, long values whole.
    pub(crate) fn cost(&self) -> usize {
        self.records.iter().map(|(key, value)| record_cost(key.len(), value.bytes())).sum()
    }

    /// Every key and value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &LeafValue<'p>)> {
        self.records.iter().map(|(key, value)| (&self.keys[key.clone()], value))
    }
}
