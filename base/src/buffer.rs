//! A growable byte buffer whose first byte lies on a block boundary, as direct I/O asks for.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::limits::BLOCK_BYTES;

/// Bytes that start on a boundary of [`BLOCK_BYTES`] in memory.
///
/// The alignment comes from reserving one block too many and starting at the first boundary inside, so that no
/// unsafe code is needed. Growing beyond the reserve copies.
///
/// ```
/// use logwood_base::AlignedBuffer;
/// let mut buffer = AlignedBuffer::with_capacity(10_000);
/// buffer.extend_from_slice(b"batch");
/// buffer.pad_to(4096);
/// assert_eq!(buffer.len(), 4096);
/// assert_eq!(buffer.as_ptr() as usize % 4096, 0);
/// ```
#[derive(Default)]
pub struct AlignedBuffer {
    /// `start` bytes of nothing, then the content. Never reallocated in place: see `reserve`.
    storage: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut storage: Vec<u8> = Vec::with_capacity(bytes + BLOCK_BYTES);
        let start = storage.as_ptr().align_offset(BLOCK_BYTES);
        storage.resize(start, 0);
        Self { storage, start }
    }

    /// A buffer of `bytes` zeros.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        let mut buffer = Self::with_capacity(bytes);
        buffer.pad_to(bytes);
        buffer
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.storage.extend_from_slice(bytes);
    }

    /// Appends zeros until the content is at least `length` bytes long.
    pub fn pad_to(&mut self, length: usize) {
        if length > self.len() {
            self.reserve(length - self.len());
            self.storage.resize(self.start + length, 0);
        }
    }

    /// Memory that it holds, in bytes, used or not.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.storage.truncate(self.start + length);
    }

    /// Drops the content and keeps the room.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Makes room for `more` bytes, moving to a new aligned place when there is none.
    fn reserve(&mut self, more: usize) {
        if self.storage.capacity() - self.storage.len() >= more && self.is_aligned() {
            return;
        }
        let mut moved = Self::with_capacity((self.len() + more).max(2 * self.len()));
        moved.storage.extend_from_slice(self);
        *self = moved;
    }

    /// Whether the content starts on a boundary. Only a default buffer, which has no room yet, does not.
    fn is_aligned(&self) -> bool {
        (self.storage.as_ptr() as usize + self.start).is_multiple_of(BLOCK_BYTES)
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..]
    }
}

impl crate::codec::Writer for AlignedBuffer {
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_aligned_while_it_grows() {
        let mut buffer = AlignedBuffer::default();
        let mut expected = Vec::new();
        for n in 0..3000u32 {
            buffer.extend_from_slice(&n.to_le_bytes());
            expected.extend_from_slice(&n.to_le_bytes());
            assert!((buffer.as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
        }
        assert_eq!(&*buffer, &*expected);
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.extend_from_slice(b"again");
        assert!((buffer.as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
    }
}
