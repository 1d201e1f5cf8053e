//! One pass over a file, past the page cache, in bounded memory: every byte is hashed, and pieces are handed out.

use std::borrow::Cow;
use std::sync::Arc;

use logwood_base::{File, Result};
use sha2::{Digest as _, Sha256};

use super::segment::{SegmentBytes, beyond};
use crate::format::manifest::ContentHash;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Reads a file once from start to end, hashing all of it and handing out pieces.
pub(super) struct ByteStream {
    file: Arc<dyn File>,
    size: u64,
    /// Where the next window begins.
    next: u64,
    window: Vec<u8>,
    /// How much of the window was handed out.
    taken: usize,
    hasher: Sha256,
}

impl ByteStream {
    /// Begins at the start of a file of `size` bytes.
    pub(super) fn new(file: Arc<dyn File>, size: u64) -> Self {
        Self { file, size, next: 0, window: Vec::new(), taken: 0, hasher: Sha256::new() }
    }

    /// Where the window begins that is read next.
    pub(super) const fn position(&self) -> u64 {
        self.next
    }

    fn fill(&mut self) -> Result<()> {
        let length = WINDOW_BYTES.min((self.size - self.next) as usize);
        if length == 0 {
            return Err(beyond());
        }
        let (bytes, _) = self.file.read_past_cache(self.next, length)?;
        self.hasher.update(&*bytes);
        self.window.extend_from_slice(&bytes);
        self.next += length as u64;
        Ok(())
    }
}

impl SegmentBytes for ByteStream {
    fn size(&self) -> u64 {
        self.size
    }

    fn part(&self, at: u64, length: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned(self.file.read_past_cache(at, length)?.0.to_vec()))
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        while self.window.len() - self.taken < length {
            self.window.drain(..self.taken);
            self.taken = 0;
            self.fill()?;
        }
        let start = self.taken;
        self.taken += length;
        Ok(&self.window[start..start + length])
    }

    fn skip_to(&mut self, offset: u64) -> Result<()> {
        while self.next < offset {
            self.window.clear();
            self.taken = 0;
            self.fill()?;
        }
        self.taken = self.window.len() - (self.next - offset) as usize;
        Ok(())
    }

    /// Reads the rest, and answers the hash of everything.
    fn finish(&mut self) -> Result<Option<ContentHash>> {
        while self.next < self.size {
            self.window.clear();
            self.taken = 0;
            self.fill()?;
        }
        Ok(Some(std::mem::take(&mut self.hasher).finalize().into()))
    }
}
