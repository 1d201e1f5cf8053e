//! The body of a delta block: what changed in one leaf since its last image.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | first LSN | the oldest change |
//! | varint | last LSN − first LSN | |
//! | varint | count | changes; at least one |
//! | … | records | `records`: key, and value, overflow reference or deletion |
//!
//! # Validity
//! 1. One change a key: the newest at the block's last LSN. Keys ascend strictly.
//! 2. The LSNs are those that the parent's entry names; a block never spans a checkpoint.
//!
//! A leaf is its base image with its blocks laid over it, oldest first.

use logwood_base::Lsn;
use logwood_base::codec::{CodecError, Reader, Writer};

use super::records::{Gathered, LeafValue, Records, RecordsIter};

/// Gathers the changes of one leaf and writes the block's body.
#[derive(Debug, Default)]
pub struct DeltaBuilder {
    records: Gathered,
}

impl DeltaBuilder {
    /// Adds the next change; `None` deletes the key.
    ///
    /// # Panics
    /// When keys do not ascend strictly.
    pub fn push(&mut self, key: &[u8], value: Option<&LeafValue<'_>>) {
        self.records.push(key, value);
    }

    /// Changes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// Writes the body and forgets the changes.
    ///
    /// # Panics
    /// When there are none, or `first` is above `last`.
    #[must_use]
    pub fn finish(&mut self, first: Lsn, last: Lsn) -> Vec<u8> {
        assert!(first <= last && !self.is_empty(), "an empty delta block");
        let mut out = Vec::with_capacity(self.records.encoded_bytes() + 24);
        out.put_varint(first.get());
        out.put_varint(last.get() - first.get());
        out.put_varint(self.records.len() as u64);
        self.records.encode(&mut out);
        self.records.clear();
        out
    }
}

/// Reads the body of a delta block.
#[derive(Clone, Copy, Debug)]
pub struct DeltaReader<'a> {
    first_lsn: Lsn,
    last_lsn: Lsn,
    count: usize,
    records: Records<'a>,
}

impl<'a> DeltaReader<'a> {
    /// Looks at the head of a body.
    ///
    /// # Errors
    /// When head, count and length do not fit together.
    pub fn new(body: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let first_lsn = Lsn(reader.varint("delta first LSN")?);
        let error = reader.error("delta last LSN");
        let last_lsn = first_lsn.checked_add(reader.varint("delta last LSN")?).ok_or(error)?;
        let error = reader.error("delta count");
        let count = usize::try_from(reader.varint("delta count")?).map_err(|_| error)?;
        if count == 0 {
            return Err(error);
        }
        let records = Records::take(&mut reader, count)?;
        Ok(Self { first_lsn, last_lsn, count, records })
    }

    /// The oldest change.
    #[must_use]
    pub const fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// The newest change.
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// How many changes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Never: a block has at least one change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The change of `key`: outer `None` when the block does not speak of it, inner `None` when it deletes it.
    ///
    /// # Errors
    /// When the bytes on the way to it are not records.
    pub fn get(&self, key: &[u8]) -> Result<Option<Option<LeafValue<'a>>>, CodecError> {
        self.records.get(key)
    }

    /// Walks all changes in order.
    #[must_use]
    pub fn iter(&self) -> DeltaIter<'a> {
        DeltaIter(self.records.iter())
    }

    /// Reads everything and judges order and every record.
    ///
    /// # Errors
    /// At the first rule that is broken.
    pub fn check(&self) -> Result<(), CodecError> {
        self.check_each(|_, _| ())
    }

    /// As [`DeltaReader::check`], and hands out each change on the way: none of it is proven before the end.
    ///
    /// # Errors
    /// As [`DeltaReader::check`].
    pub fn check_each(&self, mut visit: impl FnMut(&[u8], Option<&LeafValue<'a>>)) -> Result<(), CodecError> {
        self.records.check_each(|key, value| {
            visit(key, value.as_ref());
            Ok(())
        })
    }
}

/// Walks the changes of a delta block. It lends the key.
#[derive(Debug)]
pub struct DeltaIter<'a>(RecordsIter<'a>);

impl<'a> DeltaIter<'a> {
    /// The next key with its value, or `None` where it is deleted.
    ///
    /// # Errors
    /// When the bytes are not a record, or keys do not ascend. It stays failed.
    #[allow(clippy::should_implement_trait, clippy::type_complexity)] // It lends the key.
    pub fn next(&mut self) -> Result<Option<(&[u8], Option<LeafValue<'a>>)>, CodecError> {
        self.0.next()
    }
}
