//! The body of an inner page: the children of one node.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 1 | level | 1 above leaves, 2 above those, … |
//! | varint | count | children; at least one |
//! | varint | prefix length | bytes that all separators begin with, the first child's left out |
//! | … | prefix | |
//! | … | child × count | see below |
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | shared | bytes in common with the separator before, behind the prefix; 0 for the first two children |
//! | varint | rest length | |
//! | … | rest | the separator behind prefix and shared bytes |
//! | … | entry | [`super::child`] |
//!
//! # Validity
//! 1. A child's separator is ≤ every key below it and > every key below the child before: the shortest such bytes
//!    will do. The first child's separator is the node's own low fence and is written whole, without the prefix; it
//!    is empty in the leftmost node of a level.
//! 2. Separators ascend strictly.

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::KEY_BYTES_MAX;

use super::child::ChildEntry;
use super::page::PageRef;
use super::records::{common_bytes, continues};

/// Highest level that a tree can reach with two children a node.
pub const LEVEL_MAX: u8 = 64;

/// Shortest child: bounds the room made for a list of them.
const CHILD_BYTES_MIN: u64 = 2 + 1 + PageRef::ENCODED_BYTES_MIN as u64 + 1 + 1 + 16;

/// Gathers the children of one inner node and writes its body.
#[derive(Debug)]
pub struct InnerBuilder {
    level: u8,
    separators: Vec<Vec<u8>>,
    entries: Vec<ChildEntry>,
}

impl InnerBuilder {
    /// A node of this level.
    ///
    /// # Panics
    /// When the level is 0 or above [`LEVEL_MAX`].
    #[must_use]
    pub fn new(level: u8) -> Self {
        assert!((1..=LEVEL_MAX).contains(&level), "level {level} of an inner node");
        Self { level, separators: Vec::new(), entries: Vec::new() }
    }

    /// Adds the next child.
    ///
    /// # Panics
    /// When separators do not ascend strictly.
    pub fn push(&mut self, separator: &[u8], entry: ChildEntry) {
        assert!(separator.len() <= KEY_BYTES_MAX, "a separator of {} bytes is too long", separator.len());
        assert!(self.separators.last().is_none_or(|last| last[..] < *separator), "separators ascend");
        self.separators.push(separator.to_vec());
        self.entries.push(entry);
    }

    /// Writes the body.
    ///
    /// # Panics
    /// When there are no children.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        assert!(!self.entries.is_empty(), "an inner node without children");
        let prefix = match &self.separators[..] {
            [_, second, .., last] => common_bytes(second, last),
            [_, second] => second.len(),
            _ => 0,
        };
        let mut out = Vec::with_capacity(64 * self.entries.len());
        out.put_u8(self.level);
        out.put_varint(self.entries.len() as u64);
        out.put_varint(prefix as u64);
        if prefix > 0 {
            out.put_bytes(&self.separators[1][..prefix]);
        }
        let mut before: &[u8] = &[];
        for (n, (separator, entry)) in self.separators.iter().zip(&self.entries).enumerate() {
            let behind = if n == 0 { &separator[..] } else { &separator[prefix..] };
            let shared = if n < 2 { 0 } else { common_bytes(before, behind) };
            out.put_varint(shared as u64);
            out.put_length_prefixed(&behind[shared..]);
            entry.put(&mut out);
            before = behind;
        }
        out
    }
}

/// Reads the body of an inner page.
#[derive(Clone, Copy, Debug)]
pub struct InnerReader<'a> {
    level: u8,
    count: usize,
    prefix: &'a [u8],
    children: &'a [u8],
}

impl<'a> InnerReader<'a> {
    /// Looks at the head of a body.
    ///
    /// # Errors
    /// When the head makes no sense.
    pub fn new(body: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let error = reader.error("inner level");
        let level = reader.u8("inner level")?;
        if !(1..=LEVEL_MAX).contains(&level) {
            return Err(error);
        }
        let error = reader.error("inner count");
        let count = reader.varint("inner count")?;
        let prefix = reader.length_prefixed(KEY_BYTES_MAX, "separator prefix")?;
        let children = reader.bytes(reader.remaining(), "children")?;
        // Shared and own length of the separator, flags, page, LSN, count, digest.
        if count == 0 || count > children.len() as u64 / CHILD_BYTES_MIN {
            return Err(error);
        }
        Ok(Self { level, count: count as usize, prefix, children })
    }

    /// 1 above leaves, 2 above those, …
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// How many children there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Never: a node has at least one child.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks the children in order.
    #[must_use]
    pub fn iter(&self) -> InnerIter<'a> {
        InnerIter {
            inner: *self,
            reader: Reader::new(self.children),
            next: 0,
            separator: Vec::new(),
            failed: false,
        }
    }

    /// Reads everything and judges order and every entry.
    ///
    /// # Errors
    /// At the first rule that is broken.
    pub fn check(&self) -> Result<(), CodecError> {
        let mut iter = self.iter();
        while iter.next()?.is_some() {}
        Ok(())
    }
}

/// Walks the children of an inner page. It lends the separator.
#[derive(Debug)]
pub struct InnerIter<'a> {
    inner: InnerReader<'a>,
    reader: Reader<'a>,
    next: usize,
    separator: Vec<u8>,
    failed: bool,
}

impl InnerIter<'_> {
    /// The next separator and child.
    ///
    /// # Errors
    /// When the bytes are not a child, or separators do not ascend. It stays failed.
    #[allow(clippy::should_implement_trait)] // It lends the separator.
    pub fn next(&mut self) -> Result<Option<(&[u8], ChildEntry)>, CodecError> {
        if self.failed {
            return Err(self.reader.error("child after a failure"));
        }
        let result = self.step();
        self.failed = result.is_err();
        Ok(result?.map(|entry| (&self.separator[..], entry)))
    }

    fn step(&mut self) -> Result<Option<ChildEntry>, CodecError> {
        if self.next == self.inner.count {
            self.reader.finish("end of children")?;
            return Ok(None);
        }
        let reader = &mut self.reader;
        let error = reader.error("separator order");
        let prefix = if self.next == 0 { 0 } else { self.inner.prefix.len() };
        let shared = reader.varint("shared separator bytes")? as usize;
        let rest = reader.length_prefixed(KEY_BYTES_MAX, "separator")?;
        let shared_max = if self.next < 2 { 0 } else { self.separator.len() - prefix };
        if shared > shared_max || prefix + shared + rest.len() > KEY_BYTES_MAX {
            return Err(error);
        }
        let ascends = match self.next {
            0 => true,
            // The first separator does not have the prefix: compare the whole.
            1 => self.separator[..] < *[self.inner.prefix, rest].concat(),
            _ => continues(&self.separator[prefix + shared..], rest),
        };
        if !ascends {
            return Err(error);
        }
        if self.next == 1 {
            self.separator.clear();
            self.separator.extend_from_slice(self.inner.prefix);
        }
        self.separator.truncate(prefix + shared);
        self.separator.extend_from_slice(rest);
        let entry = ChildEntry::take(reader)?;
        self.next += 1;
        Ok(Some(entry))
    }
}
