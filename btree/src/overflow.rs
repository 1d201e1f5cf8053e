//! Reading long values from their overflow pages.
//!
//! Every piece but the last one is [`PIECE_BYTES`] long, so that any byte of a value is found with one read. Whoever writes them
//! cuts them so; a piece of another length is damage.

use std::sync::atomic::Ordering;

use logwood_base::digest::RecordHasher;
use logwood_base::{Error, Escaped, KeyspaceId, Result};

use crate::format::overflow::{OverflowRef, PIECE_BYTES};
use crate::load::{affecting, contradiction};
use crate::node::overflow::OverflowValue;
use crate::shared::Shared;
use crate::store::{Page, PageKind, PageRef, Store};

/// Pieces that are read at once: memory that a value takes beside itself while it is read whole.
const PIECES_AT_ONCE: usize = 8;

impl Shared {
    /// Appends a long value to `out`.
    ///
    /// # Errors
    /// `Corruption`; `Io`. What was appended is a part of the value then.
    pub(crate) fn read_overflow(&self, value: &OverflowValue, out: &mut Vec<u8>) -> Result<()> {
        let place = value.place();
        let mut number = 0;
        for extents in place.extents.chunks(PIECES_AT_ONCE) {
            for page in self.store.read_many(extents) {
                let page = judge(&self.store, &place.extents, value.bytes, number, page?)?;
                self.account.overflow_reads.fetch_add(1, Ordering::Relaxed);
                if number == 0 {
                    // Not sooner: what a damaged reference says of the length is no reason to make room.
                    out.reserve(value.bytes);
                }
                out.extend_from_slice(page.body());
                number += 1;
            }
        }
        require_count(&self.store, &place.extents, value.bytes)
    }

    /// Reads one piece of a long value.
    ///
    /// # Errors
    /// `Corruption`; `Io`.
    pub(crate) fn read_piece(&self, extents: &[PageRef], bytes: usize, number: usize) -> Result<Page> {
        let page = self.store.read(&extents[number])?;
        self.account.overflow_reads.fetch_add(1, Ordering::Relaxed);
        judge(&self.store, extents, bytes, number, page)
    }
}

/// Requires that a value has as many pieces as its length asks for.
///
/// # Errors
/// `Corruption`.
pub(crate) fn require_count(store: &Store, extents: &[PageRef], bytes: usize) -> Result<()> {
    let expected = bytes.div_ceil(PIECE_BYTES);
    if extents.len() == expected {
        return Ok(());
    }
    match extents.first() {
        Some(first) => Err(contradiction(store, first, "pieces of a long value", expected, extents.len())),
        None => Err(Error::Internal("a long value without pieces".into())),
    }
}

/// The hash of a record with a long value, computed from its pieces as the device has them.
///
/// # Errors
/// `Corruption`; `Io`.
pub(crate) fn hash_from_device(store: &Store, key: &[u8], reference: &OverflowRef) -> Result<u128> {
    let bytes = usize::try_from(reference.total_bytes).unwrap_or(usize::MAX);
    let extents = &reference.extents;
    require_count(store, extents, bytes)?;
    let mut hasher = RecordHasher::new(key);
    for (number, extent) in extents.iter().enumerate() {
        let page = judge(store, extents, bytes, number, store.read_from_device(extent)?)?;
        hasher.update(page.body());
    }
    Ok(hasher.finish())
}

/// Requires that a page is the piece of that number of a value of so many bytes.
fn judge(store: &Store, extents: &[PageRef], bytes: usize, number: usize, page: Page) -> Result<Page> {
    let extent = &extents[number];
    if page.kind() != PageKind::Overflow {
        let (expected, found) = (PageKind::Overflow as u8, page.kind() as u8);
        return Err(contradiction(store, extent, "page kind", expected, found));
    }
    let expected = bytes.saturating_sub(number * PIECE_BYTES).min(PIECE_BYTES);
    if page.body().len() == expected {
        Ok(page)
    } else {
        Err(contradiction(store, extent, "length of a piece", expected, page.body().len()))
    }
}

/// Adds to damage of a long value whose it is.
pub(crate) fn of_value(error: Error, keyspace: KeyspaceId, key: &[u8]) -> Error {
    affecting(error, || format!("keyspace {keyspace}, the value of \"{}\"", Escaped(key)))
}
