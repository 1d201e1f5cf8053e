//! Reading for the walk: the pages of many children at once.
//!
//! A checkpoint writes leaves in the order of their keys: children of one node stand close to each other on disk, and so do
//! their delta blocks. Read one by one, each of them would cost a turn of the device.

use std::collections::HashMap;

use logwood_base::Result;
use logwood_base::digest::Digest;

use crate::format::child::ChildEntry;
use crate::store::{Page, PageRef, Store};

/// How much is read before any of it is looked at: what the walk holds of each level, and about a child more.
const PIECE_BYTES: usize = 4 << 20;

/// Pages that were read and not yet looked at.
pub(super) struct ReadAhead<'a> {
    store: &'a Store,
    pages: HashMap<PageRef, Result<Page>>,
}

impl<'a> ReadAhead<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, pages: HashMap::new() }
    }

    /// Reads the pages of the first of `children`, except of those whose sums are known. Answers the sums, or `None`, of each
    /// child of this piece: at least one, if there is any.
    pub(super) fn piece<'c>(
        &mut self,
        children: impl Iterator<Item = (&'c ChildEntry, Option<Digest>)>,
    ) -> Vec<Option<Digest>> {
        let (mut settled, mut wanted, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (entry, digest) in children {
            if digest.is_none() {
                wanted.extend(entry.pages().copied());
                bytes += entry.pages().map(|page| page.bytes as usize).sum::<usize>();
            }
            settled.push(digest);
            if bytes >= PIECE_BYTES {
                break;
            }
        }
        let pages = self.store.read_many_from_device(&wanted);
        self.pages.extend(wanted.into_iter().zip(pages));
        settled
    }

    /// The image of a child, and its delta blocks.
    ///
    /// # Errors
    /// That of the first page that cannot be had.
    pub(super) fn take(&mut self, entry: &ChildEntry) -> Result<(Page, Vec<Page>)> {
        // All of them are taken, also when the first is damaged: none stays behind.
        let pages: Vec<Result<Page>> = entry.pages().map(|page| self.one(page)).collect();
        let mut pages = pages.into_iter();
        let image = pages.next().expect("a child has an image")?;
        Ok((image, pages.collect::<Result<_>>()?))
    }

    fn one(&mut self, page: &PageRef) -> Result<Page> {
        self.pages.remove(page).unwrap_or_else(|| self.store.read_from_device(page))
    }
}
