//! Sorted records of variable length: front-coded, with restart points. The body of leaves and delta blocks.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | prefix length | bytes that all keys begin with, cut off once |
//! | … | prefix | |
//! | … | record × count | see below |
//! | 4 × ⌈count / 16⌉ | restarts | offset of every 16th record, from the first record's first byte |
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | shared | bytes in common with the key before; 0 at a restart |
//! | varint | rest length | |
//! | … | rest | the key behind prefix and shared bytes |
//! | varint | tag | length × 4 + 0: value inline · 1: overflow reference follows · 2: deleted (delta blocks only) |
//! | … | value or reference | |
//!
//! # Validity
//! 1. Keys ascend strictly. `shared` is exact: the first byte of the rest, if there is one in the key before at that
//!    place, is greater.
//! 2. The count is kept by the page's own head, so that the restart table is found from the end.

use logwood_base::codec::{CodecError, Reader, Writer, varint_bytes};
use logwood_base::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX};

use super::overflow::OverflowRef;

/// Records from one restart point to the next.
pub(super) const RESTART_INTERVAL: usize = 16;

/// The value of a record: here, or elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeafValue<'a> {
    /// The bytes stand in the page.
    Inline(&'a [u8]),
    /// The bytes stand in overflow pages.
    Overflow(OverflowRef),
}

impl LeafValue<'_> {
    /// Length of the value, as the page says.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Overflow(reference) => usize::try_from(reference.total_bytes).unwrap_or(usize::MAX),
        }
    }
}

const TAG_OVERFLOW: u64 = 1;
const TAG_DELETED: u64 = 2;

/// Gathers records in order, for the encoders of leaves and delta blocks.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// End of each key and of each value in the two arenas, and the value's tag.
    records: Vec<(u32, u32, u64)>,
}

impl Gathered {
    /// Adds a record; `None` is a deletion.
    ///
    /// # Panics
    /// When keys do not ascend: the caller's mistake, which would make the page unreadable.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&LeafValue<'_>>) {
        assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes is too long", key.len());
        assert!(self.records.is_empty() || self.key(self.len() - 1) < key, "keys ascend");
        self.keys.extend_from_slice(key);
        let tag = match value {
            Some(LeafValue::Inline(bytes)) => {
                self.values.extend_from_slice(bytes);
                (bytes.len() as u64) << 2
            }
            Some(LeafValue::Overflow(reference)) => {
                reference.put(&mut self.values);
                TAG_OVERFLOW
            }
            None => TAG_DELETED,
        };
        assert!(self.keys.len() + self.values.len() <= 2 * PAGE_BYTES_MAX, "the caller cuts pages");
        self.records.push((self.keys.len() as u32, self.values.len() as u32, tag));
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.records.clear();
    }

    pub(super) fn key(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.records[n - 1].0 as usize };
        &self.keys[start..self.records[n].0 as usize]
    }

    pub(super) fn value(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.records[n - 1].1 as usize };
        &self.values[start..self.records[n].1 as usize]
    }

    /// Length of every key and of every value when all are the same and all values are inline.
    pub(super) fn uniform(&self) -> Option<(usize, usize)> {
        let (key, value) = (self.key_bytes(0)?, self.value(0).len());
        let tag = (value as u64) << 2;
        let alike = (0..self.len()).all(|n| self.key_bytes(n) == Some(key) && self.records[n].2 == tag);
        alike.then_some((key, value))
    }

    fn key_bytes(&self, n: usize) -> Option<usize> {
        (n < self.len()).then(|| self.key(n).len())
    }

    /// How many bytes all keys begin with.
    pub(super) fn prefix_bytes(&self) -> usize {
        match self.len() {
            0 => 0,
            n => common_bytes(self.key(0), self.key(n - 1)),
        }
    }

    /// How many bytes [`Gathered::encode`] appends.
    pub(super) fn encoded_bytes(&self) -> usize {
        let prefix = self.prefix_bytes();
        let mut bytes = varint_bytes(prefix as u64) + prefix + 4 * self.len().div_ceil(RESTART_INTERVAL);
        for n in 0..self.len() {
            let shared = self.shared_bytes(n, prefix);
            let rest = self.key(n).len() - prefix - shared;
            bytes += varint_bytes(shared as u64) + varint_bytes(rest as u64) + rest;
            bytes += varint_bytes(self.records[n].2) + self.value(n).len();
        }
        bytes
    }

    fn shared_bytes(&self, n: usize, prefix: usize) -> usize {
        if n.is_multiple_of(RESTART_INTERVAL) {
            0
        } else {
            common_bytes(&self.key(n - 1)[prefix..], &self.key(n)[prefix..])
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let prefix = self.prefix_bytes();
        out.put_varint(prefix as u64);
        if prefix > 0 {
            out.put_bytes(&self.key(0)[..prefix]);
        }
        let first = out.len();
        let mut restarts = Vec::with_capacity(self.len().div_ceil(RESTART_INTERVAL));
        for n in 0..self.len() {
            if n.is_multiple_of(RESTART_INTERVAL) {
                restarts.push((out.len() - first) as u32);
            }
            let shared = self.shared_bytes(n, prefix);
            let rest = &self.key(n)[prefix + shared..];
            out.put_varint(shared as u64);
            out.put_length_prefixed(rest);
            out.put_varint(self.records[n].2);
            out.put_bytes(self.value(n));
        }
        restarts.into_iter().for_each(|offset| out.put_u32(offset));
    }
}

/// How many bytes two keys begin with in common.
pub(super) fn common_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(l, r)| l == r).count()
}

/// Whether `after` follows `before`, both behind the bytes that they are said to share, and they share no more.
pub(super) fn continues(before: &[u8], after: &[u8]) -> bool {
    match (before.first(), after.first()) {
        (None, after) => after.is_some(),
        (Some(before), Some(after)) => before < after,
        (Some(_), None) => false,
    }
}

/// Reads what [`Gathered::encode`] wrote, without building anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    count: usize,
    prefix: &'a [u8],
    records: &'a [u8],
    restarts: &'a [u8],
    /// Where the records begin in the page's body, for errors.
    base: usize,
}

/// One record: the value of `None` is a deletion.
type Found<'a> = Option<LeafValue<'a>>;

impl<'a> Records<'a> {
    /// Takes the rest of `reader` as `count` records.
    pub(super) fn take(reader: &mut Reader<'a>, count: usize) -> Result<Self, CodecError> {
        let prefix = reader.length_prefixed(KEY_BYTES_MAX, "key prefix")?;
        let error = reader.error("restart table");
        // Three bytes is the shortest record.
        let table = count.div_ceil(RESTART_INTERVAL) * 4;
        if count > reader.remaining() / 3 || table > reader.remaining() {
            return Err(error);
        }
        let base = reader.offset();
        let records = reader.bytes(reader.remaining() - table, "records")?;
        let restarts = reader.bytes(table, "restart table")?;
        Ok(Self { count, prefix, records, restarts, base })
    }

    pub(super) const fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    pub(super) fn iter(&self) -> RecordsIter<'a> {
        RecordsIter {
            records: *self,
            reader: Reader::new(self.records),
            next: 0,
            has_before: false,
            key: self.prefix.to_vec(),
            failed: false,
        }
    }

    fn restart(&self, n: usize) -> Result<usize, CodecError> {
        let bytes = self.restarts[4 * n..4 * n + 4].try_into().expect("four bytes");
        let offset = u32::from_le_bytes(bytes) as usize;
        let error = CodecError { offset: self.base + self.records.len() + 4 * n, what: "restart offset" };
        if offset < self.records.len() { Ok(offset) } else { Err(error) }
    }

    /// Walks everything, requires that every restart point is where its record begins, and hands out each record on the way.
    pub(super) fn check_each(
        &self,
        mut visit: impl FnMut(&[u8], Found<'a>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let mut iter = self.iter();
        for n in 0..self.count {
            let offset = iter.reader.offset();
            if n.is_multiple_of(RESTART_INTERVAL) && self.restart(n / RESTART_INTERVAL)? != offset {
                return Err(CodecError { offset: self.base + offset, what: "restart offset" });
            }
            if let Some((key, value)) = iter.next()? {
                visit(key, value)?;
            }
        }
        iter.next().map(|_| ())
    }

    /// The rest of the key at a restart point.
    fn restart_key(&self, n: usize) -> Result<&'a [u8], CodecError> {
        let mut reader = Reader::new(&self.records[self.restart(n)?..]);
        let error = CodecError { offset: self.base, what: "restart record" };
        if reader.varint("shared key bytes")? != 0 {
            return Err(error);
        }
        reader.length_prefixed(KEY_BYTES_MAX, "key")
    }

    /// Searches one key: a binary search over the restart points, then a walk over at most sixteen records.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Found<'a>>, CodecError> {
        let Some(rest) = key.strip_prefix(self.prefix) else { return Ok(None) };
        let (mut low, mut high) = (0, self.count.div_ceil(RESTART_INTERVAL));
        while low < high {
            let middle = low.midpoint(high);
            if self.restart_key(middle)? <= rest { low = middle + 1 } else { high = middle }
        }
        let Some(block) = low.checked_sub(1) else { return Ok(None) };
        let mut iter = self.iter();
        iter.next = block * RESTART_INTERVAL;
        iter.reader = Reader::new(&self.records[self.restart(block)?..]);
        for _ in 0..RESTART_INTERVAL {
            match iter.next()? {
                Some((found, value)) if found == key => return Ok(Some(value)),
                Some((found, _)) if found < key => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Walks records in order, with one buffer for the key.
#[derive(Debug)]
pub(super) struct RecordsIter<'a> {
    records: Records<'a>,
    reader: Reader<'a>,
    next: usize,
    /// Whether `key` holds the key before; not after a jump to a restart point.
    has_before: bool,
    key: Vec<u8>,
    failed: bool,
}

impl<'a> RecordsIter<'a> {
    /// The next record. An iterator that failed stays failed.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], Found<'a>)>, CodecError> {
        if self.failed {
            return Err(self.reader.error("record after a failure"));
        }
        let result = self.step();
        self.failed = result.is_err();
        Ok(result?.map(|value| (&self.key[..], value)))
    }

    fn step(&mut self) -> Result<Option<Found<'a>>, CodecError> {
        if self.next == self.records.count {
            self.reader.finish("end of records")?;
            return Ok(None);
        }
        let prefix = self.records.prefix.len();
        let reader = &mut self.reader;
        let error = reader.error("key order");
        let is_restart = self.next.is_multiple_of(RESTART_INTERVAL);
        let shared = reader.varint("shared key bytes")? as usize;
        if is_restart && shared != 0 || shared > self.key.len() - prefix {
            return Err(error);
        }
        let rest = reader.length_prefixed(KEY_BYTES_MAX, "key")?;
        let before = &self.key[prefix + shared..];
        let ascends = !self.has_before || if is_restart { before < rest } else { continues(before, rest) };
        if !ascends || prefix + shared + rest.len() > KEY_BYTES_MAX {
            return Err(error);
        }
        self.key.truncate(prefix + shared);
        self.key.extend_from_slice(rest);
        self.next += 1;
        self.has_before = true;
        let error = reader.error("value tag");
        let tag = reader.varint("value tag")?;
        match tag & 3 {
            0 => {
                let length = usize::try_from(tag >> 2).map_err(|_| error)?;
                Ok(Some(Some(LeafValue::Inline(reader.bytes(length, "value")?))))
            }
            TAG_OVERFLOW if tag == TAG_OVERFLOW => {
                Ok(Some(Some(LeafValue::Overflow(OverflowRef::take(reader)?))))
            }
            TAG_DELETED if tag == TAG_DELETED => Ok(Some(None)),
            _ => Err(error),
        }
    }
}
