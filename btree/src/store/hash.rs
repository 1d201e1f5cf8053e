//! The hash that names a page segment's content.

use sha2::{Digest as _, Sha256};

use super::ContentHash;

/// Computes a [`ContentHash`] of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct ContentHasher(Sha256);

impl ContentHasher {
    /// Of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of all bytes.
    #[must_use]
    pub fn finish(self) -> ContentHash {
        self.0.finalize().into()
    }
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::new()
    }
}
