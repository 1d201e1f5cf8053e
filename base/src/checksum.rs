//! Seeded CRC-32 (the ISO-HDLC polynomial, as in zlib), computed with SIMD by `crc32fast`.
//!
//! A checksum is seeded with *where and in which life* the bytes stand, so that bytes of an earlier life of a
//! recycled file, of another place, or of another node never verify. 32 bits miss one damage in 2^32; what must
//! not miss at all is covered by the 128-bit digest ([`crate::digest`]) besides.

/// CRC-32 of `bytes` behind a seed.
///
/// The seed's bytes are fed in front of the data, so that two seeds give unrelated checksums.
///
/// ```
/// use logwood_base::checksum::{Seed, checksum};
/// let here = Seed::new().u64(1).u64(4096);
/// let there = Seed::new().u64(1).u64(8192);
/// assert_ne!(checksum(here, b"batch"), checksum(there, b"batch"));
/// ```
#[must_use]
pub fn checksum(seed: Seed, bytes: &[u8]) -> u32 {
    checksum_parts(seed, &[bytes])
}

/// CRC-32 of several slices as if they were one.
#[must_use]
pub fn checksum_parts(seed: Seed, parts: &[&[u8]]) -> u32 {
    let mut hasher = seed.hasher;
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// What a checksum is bound to besides the bytes.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    hasher: crc32fast::Hasher,
}

impl Seed {
    /// A seed that binds to nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds to a 64-bit number: a segment number, an offset.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.hasher.update(&value.to_le_bytes());
        self
    }

    /// Binds to a 128-bit identity.
    #[must_use]
    pub fn u128(mut self, value: u128) -> Self {
        self.hasher.update(&value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_of_the_polynomial() {
        assert_eq!(checksum(Seed::new(), b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn parts_are_the_whole() {
        let seed = Seed::new().u128(5);
        assert_eq!(checksum(seed.clone(), b"abcdef"), checksum_parts(seed, &[b"ab", b"", b"cdef"]));
    }
}
