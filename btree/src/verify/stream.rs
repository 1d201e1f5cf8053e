//! One pass over a file, past the page cache, in bounded memory: every byte is hashed, and pieces are handed out.

use std::sync::Arc;

use logwood_base::{Error, File, Result};
use sha2::{Digest as _, Sha256};

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

    /// The next `length` bytes, which must be in the file.
    pub(super) fn take(&mut self, length: usize) -> Result<&[u8]> {
        while self.window.len() - self.taken < length {
            self.window.drain(..self.taken);
            self.taken = 0;
            self.fill()?;
        }
        let start = self.taken;
        self.taken += length;
        Ok(&self.window[start..start + length])
    }

    /// Goes to `offset`, which is not before what was taken.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<()> {
        while self.next < offset {
            self.window.clear();
            self.taken = 0;
            self.fill()?;
        }
        self.taken = self.window.len() - (self.next - offset) as usize;
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let length = WINDOW_BYTES.min((self.size - self.next) as usize);
        if length == 0 {
            return Err(Error::Internal("a read beyond what the trailer promises".into()));
        }
        let (bytes, _) = self.file.read_past_cache(self.next, length)?;
        self.hasher.update(&*bytes);
        self.window.extend_from_slice(&bytes);
        self.next += length as u64;
        Ok(())
    }

    /// Reads the rest, and answers the hash of everything.
    pub(super) fn finish(mut self) -> Result<ContentHash> {
        while self.next < self.size {
            self.window.clear();
            self.taken = 0;
            self.fill()?;
        }
        Ok(self.hasher.finalize().into())
    }
}
