//! The shape-independent digest of a set of records.
//!
//! `digest = Σ xxh3-128(u32 little-endian length of key ‖ key ‖ value) mod 2^128`, with the seed [`SEED`], which is a
//! constant of the format. Addition commutes, so the digest does not depend on how records are cut into pages, on
//! keyspace ids or on the machine: any two databases compare any key range. It finds accidents and bugs. It is *not*
//! proof against an adversary: sums of non-cryptographic hashes can be forged.

use xxhash_rust::xxh3::{Xxh3Builder, xxh3_128_with_seed};

/// Seed of every record's hash. Fixed for ever: changing it makes every stored digest wrong.
pub const SEED: u64 = 0x6c6f_6777_6f6f_6431;

/// Sum of record hashes modulo 2^128, with the number of records.
///
/// ```
/// use logwood_base::digest::Digest;
/// let mut left = Digest::EMPTY;
/// left.add(b"a", b"1");
/// left.add(b"b", b"2");
/// let mut right = Digest::EMPTY;
/// right.add(b"b", b"2");
/// right.add(b"x", b"9");
/// right.add(b"a", b"1");
/// right.remove(b"x", b"9");
/// assert_eq!(left, right);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Digest {
    /// How many records.
    pub count: u64,
    /// The sum of their hashes.
    pub sum: u128,
}

impl Digest {
    /// The digest of no records.
    pub const EMPTY: Self = Self { count: 0, sum: 0 };

    /// Adds a record.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.add_hash(record_hash(key, value));
    }

    /// Takes a record away that was added before.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.remove_hash(record_hash(key, value));
    }

    /// Adds a record by its [`record_hash`].
    pub fn add_hash(&mut self, hash: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Takes a record away by its [`record_hash`].
    pub fn remove_hash(&mut self, hash: u128) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash);
    }

    /// Joins the digests of two disjoint sets of records.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { count: self.count.wrapping_add(other.count), sum: self.sum.wrapping_add(other.sum) }
    }

    /// Takes a subset of records away.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self { count: self.count.wrapping_sub(other.count), sum: self.sum.wrapping_sub(other.sum) }
    }
}

/// Records up to this size are hashed from the stack in one call, which spares the hasher's state of half a KiB.
const SHORT_RECORD_BYTES_MAX: usize = 512;

/// The hash of one record, as it enters the sum.
///
/// # Panics
/// When the key is longer than 2^32 − 1 bytes, far beyond [`crate::limits::KEY_BYTES_MAX`].
#[must_use]
pub fn record_hash(key: &[u8], value: &[u8]) -> u128 {
    let length = 4 + key.len() + value.len();
    if length <= SHORT_RECORD_BYTES_MAX {
        let mut record = [0u8; SHORT_RECORD_BYTES_MAX];
        record[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
        record[4..4 + key.len()].copy_from_slice(key);
        record[4 + key.len()..length].copy_from_slice(value);
        return xxh3_128_with_seed(&record[..length], SEED);
    }
    let mut hasher = RecordHasher::new(key);
    hasher.update(value);
    hasher.finish()
}

/// Hashes one record whose value arrives in pieces.
#[derive(Clone)]
pub struct RecordHasher(xxhash_rust::xxh3::Xxh3);

impl RecordHasher {
    /// Starts with the key.
    ///
    /// # Panics
    /// When the key is longer than 2^32 − 1 bytes, far beyond [`crate::limits::KEY_BYTES_MAX`].
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let mut hasher = Xxh3Builder::new().with_seed(SEED).build();
        let length = u32::try_from(key.len()).expect("keys are bounded by limits::KEY_BYTES_MAX");
        hasher.update(&length.to_le_bytes());
        hasher.update(key);
        Self(hasher)
    }

    /// Adds the next piece of the value.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The hash of the record.
    #[must_use]
    pub fn finish(self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the format: a change of this value would make every stored digest wrong. The value was computed with the
    /// reference implementation of xxHash.
    #[test]
    fn golden_value() {
        assert_eq!(record_hash(b"key", b"value"), 0x7071_1123_6b1f_1739_875e_9f45_0905_e6a7);
    }

    #[test]
    fn the_border_between_key_and_value_matters() {
        assert_ne!(record_hash(b"ab", b"c"), record_hash(b"a", b"bc"));
    }

    #[test]
    fn pieces_are_the_whole_at_every_length() {
        let value: Vec<u8> = (0..1200u32).map(|n| n as u8).collect();
        for length in (0..value.len()).step_by(7) {
            let mut hasher = RecordHasher::new(b"k");
            hasher.update(&value[..length / 2]);
            hasher.update(&value[length / 2..length]);
            assert_eq!(hasher.finish(), record_hash(b"k", &value[..length]));
        }
    }
}
