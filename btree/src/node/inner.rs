//! The memory form of an inner node: separators and child words.
//!
//! Separators never change; a node whose children split or merge is replaced by another one. Only child words
//! change in place. Child `i` holds the keys from separator `i − 1` (inclusive) to separator `i` (exclusive).
//! Inner nodes have no versions: readers at any LSN use the newest structure, and leaves know their past.

use std::cmp::Ordering;
use std::sync::Arc;

use logwood_base::Lsn;
use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::search::{self, Head};
use super::slot::{Node, Slot};
use super::{Cold, Image};
use crate::account::{Account, InnerShare};

/// Most children of one inner node. Few in tests, so that their trees are high.
pub(crate) const CHILDREN_MAX: usize = if cfg!(test) { 24 } else { 512 };

/// Most bytes of separators of one inner node with more than a few children.
pub(crate) const SEPARATOR_BYTES_MAX: usize = 32 << 10;

/// What is kept of a child's page, whether the child is in memory or not, with the counts in front of it.
const ENTRY_BYTES: usize = size_of::<Cold>() + 2 * size_of::<usize>();

/// A list of keys in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    /// Appends a key.
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.push_parts(key, &[]);
    }

    /// Appends a key that comes in two parts.
    pub(crate) fn push_parts(&mut self, prefix: &[u8], suffix: &[u8]) {
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(suffix);
        self.ends.push(self.bytes.len() as u32);
    }

    /// How many keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all keys.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The key numbered `at`.
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.bytes[from..self.ends[at] as usize]
    }

    /// All keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// The keys numbered `range`.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let mut slice = Self::default();
        range.for_each(|at| slice.push(self.get(at)));
        slice
    }
}

/// An inner node.
#[derive(Debug)]
pub(crate) struct Inner {
    level: u8,
    prefix: Box<[u8]>,
    heads: Box<[Head]>,
    slots: Box<[Slot]>,
    /// Where each separator's suffix ends in `suffixes`.
    ends: Box<[u32]>,
    suffixes: Box<[u8]>,
    /// The LSN of the first change below since the image; `u64::MAX` when there was none.
    first_dirty: AtomicU64,
    image: Mutex<Option<Image>>,
    share: InnerShare,
}

impl Inner {
    /// A node over `children`, one more than there are separators; a dirty one since `dirty`.
    pub(crate) fn new(
        level: u8,
        separators: &Keys,
        children: Vec<Node>,
        dirty: Lsn,
        account: &Arc<Account>,
    ) -> Arc<Self> {
        assert_eq!(children.len(), separators.len() + 1, "a separator stands between two children");
        let first = if separators.is_empty() { &[][..] } else { separators.get(0) };
        let last = if separators.is_empty() { &[][..] } else { separators.get(separators.len() - 1) };
        let cut = search::common_prefix(first, last);
        let prefix = &first[..cut];
        let mut suffixes = Vec::with_capacity(separators.bytes());
        let mut ends = Vec::with_capacity(separators.len());
        for separator in separators.iter() {
            suffixes.extend_from_slice(&separator[cut..]);
            ends.push(suffixes.len() as u32);
        }
        let of_children = children.len() * (size_of::<Slot>() + ENTRY_BYTES);
        let bytes = size_of::<Self>() + cut + suffixes.len() + separators.len() * 8 + of_children;
        Arc::new(Self {
            level,
            prefix: prefix.into(),
            heads: separators.iter().map(|key| search::head_of(&key[cut..]).to_ne_bytes()).collect(),
            slots: children.into_iter().map(Slot::new).collect(),
            ends: ends.into_boxed_slice(),
            suffixes: suffixes.into_boxed_slice(),
            first_dirty: AtomicU64::new(dirty.0),
            image: Mutex::new(None),
            share: InnerShare::new(account, bytes),
        })
    }

    /// 1 above leaves, and so on up.
    pub(crate) const fn level(&self) -> u8 {
        self.level
    }

    /// The child words.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn suffix(&self, at: usize) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.suffixes[from..self.ends[at] as usize]
    }

    /// The key between child `at` and the next one.
    pub(crate) fn separator(&self, at: usize) -> Vec<u8> {
        [&self.prefix, self.suffix(at)].concat()
    }

    /// Appends the separators numbered `range`.
    pub(crate) fn copy_separators(&self, range: std::ops::Range<usize>, out: &mut Keys) {
        for at in range {
            out.push_parts(&self.prefix, self.suffix(at));
        }
    }

    /// How the separator behind child `at` stands to `key`.
    pub(crate) fn compare_separator(&self, at: usize, key: &[u8]) -> Ordering {
        match search::strip(key, &self.prefix) {
            Ok(suffix) => self.suffix(at).cmp(suffix),
            Err(order) => order.reverse(),
        }
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        match search::strip(key, &self.prefix) {
            Ok(suffix) => search::find(&self.heads, suffix, |at| self.suffix(at).cmp(suffix)),
            Err(Ordering::Less) => Err(0),
            Err(_) => Err(self.heads.len()),
        }
    }

    /// The child that holds `key`.
    pub(crate) fn child_of(&self, key: &[u8]) -> usize {
        match self.find(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The child that holds the greatest key below `key`, if any does.
    pub(crate) fn child_below(&self, key: &[u8]) -> usize {
        match self.find(key) {
            Ok(at) | Err(at) => at,
        }
    }

    /// Notes a change at `lsn` somewhere below; answers the image that is no longer true, once. Stores only once
    /// between two checkpoints.
    pub(crate) fn make_dirty(&self, lsn: Lsn) -> Option<Image> {
        if self.first_dirty.load(Relaxed) != u64::MAX {
            return None;
        }
        self.first_dirty.store(lsn.0, Relaxed);
        self.image.lock().take()
    }

    /// The first change below since the image; [`Lsn::MAX`] when there was none.
    pub(crate) fn first_dirty(&self) -> Lsn {
        Lsn(self.first_dirty.load(Relaxed))
    }

    /// Starts counting changes anew, before the checkpoint looks below; answers what stood before.
    pub(crate) fn take_dirty(&self) -> Lsn {
        Lsn(self.first_dirty.swap(u64::MAX, Relaxed))
    }

    /// The disk form, if there is one. It is the whole truth when nothing below is dirty.
    pub(crate) fn image(&self) -> Option<Image> {
        self.image.lock().clone()
    }

    /// The disk form, if it says everything that stands below.
    pub(crate) fn exact_image(&self) -> Option<Image> {
        self.image().filter(|_| self.first_dirty() == Lsn::MAX)
    }

    /// Notes that no new reader finds it.
    pub(super) fn retire(&self) {
        self.share.retire();
    }

    /// Attaches a disk form.
    pub(crate) fn set_image(&self, image: Option<Image>) {
        *self.image.lock() = image;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::content::Content;
    use crate::node::leaf::Leaf;

    #[test]
    fn children_are_chosen_as_the_separators_say() {
        let account = Arc::default();
        let mut separators = Keys::default();
        [&b"key1"[..], b"key3", b"key30", b"key5"].into_iter().for_each(|key| separators.push(key));
        let children =
            (0..5).map(|_| Node::Leaf(Leaf::build(&Content::default(), Lsn(0), None, &account))).collect();
        let inner = Inner::new(1, &separators, children, Lsn(1), &account);
        for (key, child, below) in [
            (&b"a"[..], 0, 0),
            (b"key1", 1, 0),
            (b"key2", 1, 1),
            (b"key3", 2, 1),
            (b"key30", 3, 2),
            (b"key5", 4, 3),
            (b"z", 4, 4),
        ] {
            assert_eq!((inner.child_of(key), inner.child_below(key)), (child, below), "{key:?}");
        }
        let mut copied = Keys::default();
        inner.copy_separators(0..4, &mut copied);
        assert_eq!(copied, separators);
    }
}
