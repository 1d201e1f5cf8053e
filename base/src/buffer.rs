//! A growable byte buffer whose first byte lies on a block boundary, as direct I/O asks for.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::limits::BLOCK_BYTES;
use crate::memory::Mapping;

/// Bytes that start on a boundary of [`BLOCK_BYTES`] in memory.
///
/// Where an allocator gives the memory, the alignment comes from reserving one block too many and starting at the first boundary
/// inside, so that no unsafe code is needed. Growing beyond the reserve copies.
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
    storage: Storage,
}

enum Storage {
    /// `start` bytes of nothing, then the content. Never reallocated in place: see `reserve`.
    Allocated { bytes: Vec<u8>, start: usize },
    /// The content is the first `length` bytes.
    Mapped { mapping: Mapping, length: usize },
}

impl Default for Storage {
    fn default() -> Self {
        Self::Allocated { bytes: Vec::new(), start: 0 }
    }
}

impl AlignedBuffer {
    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut storage: Vec<u8> = Vec::with_capacity(bytes + BLOCK_BYTES);
        let start = storage.as_ptr().align_offset(BLOCK_BYTES);
        storage.resize(start, 0);
        Self { storage: Storage::Allocated { bytes: storage, start } }
    }

    /// An empty buffer with room for `bytes`, straight from the system and given back to it: see [`Mapping`]. For large buffers
    /// that live for a short time.
    ///
    /// ```
    /// let mut piece = logwood_base::AlignedBuffer::mapped(1 << 20);
    /// piece.extend_from_slice(b"batch");
    /// assert_eq!((&*piece, piece.capacity()), (&b"batch"[..], 1 << 20));
    /// ```
    #[must_use]
    pub fn mapped(bytes: usize) -> Self {
        Self { storage: Storage::Mapped { mapping: Mapping::new(bytes), length: 0 } }
    }

    /// A buffer of `bytes` zeros, to be read into.
    ///
    /// ```
    /// let mut block = logwood_base::AlignedBuffer::zeroed(4096);
    /// block[..5].copy_from_slice(b"batch");
    /// block.truncate(6);
    /// assert_eq!(&*block, b"batch\0");
    /// ```
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        let mut buffer = Self::with_capacity(bytes);
        buffer.pad_to(bytes);
        buffer
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        self.reserve(more.len());
        match &mut self.storage {
            Storage::Allocated { bytes, .. } => bytes.extend_from_slice(more),
            Storage::Mapped { mapping, length } => {
                mapping[*length..*length + more.len()].copy_from_slice(more);
                *length += more.len();
            }
        }
    }

    /// Appends zeros until the content is at least `length` bytes long.
    pub fn pad_to(&mut self, length: usize) {
        let before = self.len();
        if length > before {
            self.reserve(length - before);
            match &mut self.storage {
                Storage::Allocated { bytes, start } => bytes.resize(*start + length, 0),
                Storage::Mapped { mapping, length: end } => {
                    mapping[before..length].fill(0);
                    *end = length;
                }
            }
        }
    }

    /// Memory that it holds, in bytes, used or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.storage {
            Storage::Allocated { bytes, .. } => bytes.capacity(),
            Storage::Mapped { mapping, .. } => mapping.len(),
        }
    }

    /// Keeps the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.storage {
            Storage::Allocated { bytes, start } => bytes.truncate(*start + length),
            Storage::Mapped { length: end, .. } => *end = length.min(*end),
        }
    }

    /// Drops the content and keeps the room.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Makes room for `more` bytes, moving to a new aligned place when there is none.
    fn reserve(&mut self, more: usize) {
        let has_room = match &self.storage {
            Storage::Allocated { bytes, start } => {
                // A default buffer, which has no room yet, does not start on a boundary.
                bytes.capacity() - bytes.len() >= more
                    && (bytes.as_ptr() as usize + start).is_multiple_of(BLOCK_BYTES)
            }
            Storage::Mapped { mapping, length } => mapping.len() - length >= more,
        };
        if !has_room {
            let mut moved = Self::with_capacity((self.len() + more).max(2 * self.len()));
            moved.extend_from_slice(self);
            *self = moved;
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.storage {
            Storage::Allocated { bytes, start } => &bytes[*start..],
            Storage::Mapped { mapping, length } => &mapping[..*length],
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::Allocated { bytes, start } => &mut bytes[*start..],
            Storage::Mapped { mapping, length } => &mut mapping[..*length],
        }
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
        for mut buffer in
            [AlignedBuffer::default(), AlignedBuffer::mapped(20_000), AlignedBuffer::mapped(100)]
        {
            let mut expected = Vec::new();
            for n in 0..3000u32 {
                buffer.extend_from_slice(&n.to_le_bytes());
                expected.extend_from_slice(&n.to_le_bytes());
                assert!((buffer.as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
            }
            assert_eq!(&*buffer, &*expected);
            buffer.truncate(10);
            buffer.pad_to(5000);
            assert_eq!(&buffer[..10], &expected[..10]);
            assert!(
                buffer.len() == 5000 && buffer[10..].iter().all(|byte| *byte == 0),
                "what stood there is gone"
            );
            buffer.clear();
            assert!(buffer.is_empty());
            buffer.extend_from_slice(b"again");
            assert!((buffer.as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
        }
    }
}
