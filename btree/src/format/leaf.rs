//! The body of a leaf page: sorted records.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 1 | mode | 0 variable, 1 dense |
//! | varint | count | records |
//! | … | variable | `records`: front-coded with restart points |
//! | … | dense | prefix length varint, prefix, rest length varint, value length varint, then (rest ‖ value) × count |
//!
//! Dense mode is for keys of one length with inline values of one length: no slots, no lengths, no restart table;
//! 24 + 150 byte records cost nothing but the page's head. It is chosen unless front coding saves an eighth more.
//!
//! # Validity
//! 1. Keys ascend strictly; the prefix is what the first and the last key have in common.
//! 2. In dense mode the records fill the page exactly. An empty leaf is variable.
//!
//! [`LeafReader::get`] searches the bytes as they are; [`LeafReader::iter`] walks them in one pass;
//! [`LeafReader::dense`] hands out the records as one slice, which a memory form of fixed-length records can copy
//! whole.

use logwood_base::codec::{CodecError, Reader, Writer, varint_bytes};
use logwood_base::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX};

pub use super::records::LeafValue;
use super::records::{Gathered, Records, RecordsIter};

const MODE_VARIABLE: u8 = 0;
const MODE_DENSE: u8 = 1;

const DELETION: CodecError = CodecError { offset: 0, what: "deletion in a leaf" };

/// Gathers the records of one leaf and writes its body. Can be used again after [`LeafBuilder::finish`].
///
/// ```
/// use logwood_btree::format::leaf::{LeafBuilder, LeafReader, LeafValue};
/// let mut builder = LeafBuilder::default();
/// builder.push(b"ant", &LeafValue::Inline(b"1"));
/// builder.push(b"bee", &LeafValue::Inline(b"22"));
/// let body = builder.finish();
///
/// let reader = LeafReader::new(&body)?;
/// assert_eq!(reader.len(), 2);
/// assert_eq!(reader.get(b"bee")?, Some(LeafValue::Inline(b"22")));
/// # Ok::<(), logwood_base::codec::CodecError>(())
/// ```
#[derive(Debug, Default)]
pub struct LeafBuilder {
    records: Gathered,
}

impl LeafBuilder {
    /// Adds the next record.
    ///
    /// # Panics
    /// When keys do not ascend strictly, or the records pass twice the longest page.
    pub fn push(&mut self, key: &[u8], value: &LeafValue<'_>) {
        self.records.push(key, Some(value));
    }

    /// Records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// Writes the body and forgets the records.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let records = &self.records;
        let count = records.len();
        let variable_bytes = records.encoded_bytes();
        let mut out = Vec::with_capacity(variable_bytes + 16);
        let prefix = records.prefix_bytes();
        let dense = records.uniform().filter(|&(key, value)| {
            let rest = key - prefix;
            let head = varint_bytes(prefix as u64) + prefix + varint_bytes(rest as u64);
            let bytes = head + varint_bytes(value as u64) + count * (rest + value);
            rest + value > 0 && variable_bytes + bytes / 8 >= bytes
        });
        match dense {
            Some((key, value)) => {
                out.put_u8(MODE_DENSE);
                out.put_varint(count as u64);
                out.put_length_prefixed(&records.key(0)[..prefix]);
                out.put_varint((key - prefix) as u64);
                out.put_varint(value as u64);
                for n in 0..count {
                    out.put_bytes(&records.key(n)[prefix..]);
                    out.put_bytes(records.value(n));
                }
            }
            None => {
                out.put_u8(MODE_VARIABLE);
                out.put_varint(count as u64);
                records.encode(&mut out);
            }
        }
        self.records.clear();
        out
    }
}

/// Fixed-length records as they stand in a dense leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenseRecords<'a> {
    /// What every key begins with.
    pub prefix: &'a [u8],
    /// Bytes of each key behind the prefix.
    pub rest_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// `rest ‖ value` of each record, in order.
    pub records: &'a [u8],
}

/// Reads the body of a leaf without building anything.
#[derive(Clone, Copy, Debug)]
pub struct LeafReader<'a> {
    count: usize,
    form: Form<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Form<'a> {
    Variable(Records<'a>),
    Dense(DenseRecords<'a>),
}

impl<'a> LeafReader<'a> {
    /// Looks at the head of a body.
    ///
    /// # Errors
    /// When head, count and length do not fit together.
    pub fn new(body: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let error = reader.error("leaf mode");
        let mode = reader.u8("leaf mode")?;
        let count_error = reader.error("leaf count");
        let count = usize::try_from(reader.varint("leaf count")?).map_err(|_| count_error)?;
        let form = match mode {
            MODE_VARIABLE => Form::Variable(Records::take(&mut reader, count)?),
            MODE_DENSE => Form::Dense(take_dense(&mut reader, count)?),
            _ => return Err(error),
        };
        Ok(Self { count, form })
    }

    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What every key begins with.
    #[must_use]
    pub const fn prefix(&self) -> &'a [u8] {
        match &self.form {
            Form::Variable(records) => records.prefix(),
            Form::Dense(dense) => dense.prefix,
        }
    }

    /// The records as one slice, when all have one length.
    #[must_use]
    pub const fn dense(&self) -> Option<DenseRecords<'a>> {
        match self.form {
            Form::Variable(_) => None,
            Form::Dense(dense) => Some(dense),
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When the bytes on the way to it are not records.
    pub fn get(&self, key: &[u8]) -> Result<Option<LeafValue<'a>>, CodecError> {
        match &self.form {
            Form::Variable(records) => match records.get(key)? {
                None => Ok(None),
                Some(Some(value)) => Ok(Some(value)),
                Some(None) => Err(DELETION),
            },
            Form::Dense(dense) => Ok(dense.get(key, self.count).map(LeafValue::Inline)),
        }
    }

    /// Walks all records in order.
    #[must_use]
    pub fn iter(&self) -> LeafIter<'a> {
        match self.form {
            Form::Variable(records) => LeafIter(IterForm::Variable(records.iter())),
            Form::Dense(dense) => {
                LeafIter(IterForm::Dense { dense, next: 0, key: dense.prefix.to_vec(), failed: false })
            }
        }
    }

    /// Reads everything and judges what [`LeafReader::new`] does not: order and every record.
    ///
    /// # Errors
    /// At the first rule that is broken.
    pub fn check(&self) -> Result<(), CodecError> {
        self.check_each(|_, _| ())
    }

    /// As [`LeafReader::check`], and hands out each record on the way: none of it is proven before the end.
    ///
    /// # Errors
    /// As [`LeafReader::check`].
    pub fn check_each(&self, mut visit: impl FnMut(&[u8], &LeafValue<'a>)) -> Result<(), CodecError> {
        match &self.form {
            Form::Variable(records) => records.check_each(|key, value| match value {
                Some(value) => {
                    visit(key, &value);
                    Ok(())
                }
                None => Err(DELETION),
            }),
            Form::Dense(_) => {
                let mut iter = self.iter();
                while let Some((key, value)) = iter.next()? {
                    visit(key, &value);
                }
                Ok(())
            }
        }
    }
}

fn take_dense<'a>(reader: &mut Reader<'a>, count: usize) -> Result<DenseRecords<'a>, CodecError> {
    let prefix = reader.length_prefixed(KEY_BYTES_MAX, "key prefix")?;
    let error = reader.error("dense lengths");
    let rest_bytes = reader.varint("key length")?;
    let value_bytes = reader.varint("value length")?;
    if rest_bytes > KEY_BYTES_MAX as u64 - prefix.len() as u64 || value_bytes > PAGE_BYTES_MAX as u64 {
        return Err(error);
    }
    let record = (rest_bytes + value_bytes) as usize;
    if count == 0 || record == 0 || rest_bytes == 0 && count > 1 {
        return Err(error);
    }
    if count.checked_mul(record) != Some(reader.remaining()) {
        return Err(error);
    }
    let records = reader.bytes(reader.remaining(), "dense records")?;
    Ok(DenseRecords { prefix, rest_bytes: rest_bytes as usize, value_bytes: value_bytes as usize, records })
}

impl<'a> DenseRecords<'a> {
    /// Key behind the prefix, and value, of record `n`.
    ///
    /// # Panics
    /// Beyond the last record.
    #[must_use]
    pub fn record(&self, n: usize) -> (&'a [u8], &'a [u8]) {
        let stride = self.rest_bytes + self.value_bytes;
        self.records[n * stride..(n + 1) * stride].split_at(self.rest_bytes)
    }

    fn get(&self, key: &[u8], count: usize) -> Option<&'a [u8]> {
        let rest = key.strip_prefix(self.prefix)?;
        if rest.len() != self.rest_bytes {
            return None;
        }
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            let (found, value) = self.record(middle);
            match found.cmp(rest) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(value),
            }
        }
        None
    }
}

/// Walks the records of a leaf. It lends the key: `while let Some((key, value)) = iter.next()?`.
#[derive(Debug)]
pub struct LeafIter<'a>(IterForm<'a>);

#[derive(Debug)]
enum IterForm<'a> {
    Variable(RecordsIter<'a>),
    Dense { dense: DenseRecords<'a>, next: usize, key: Vec<u8>, failed: bool },
}

impl<'a> LeafIter<'a> {
    /// The next key and value.
    ///
    /// # Errors
    /// When the bytes are not a record, or keys do not ascend. It stays failed.
    #[allow(clippy::should_implement_trait)] // It lends the key, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<(&[u8], LeafValue<'a>)>, CodecError> {
        match &mut self.0 {
            IterForm::Variable(records) => match records.next()? {
                None => Ok(None),
                Some((key, Some(value))) => Ok(Some((key, value))),
                Some((_, None)) => Err(DELETION),
            },
            IterForm::Dense { dense, next, key, failed } => {
                let stride = dense.rest_bytes + dense.value_bytes;
                if *next * stride == dense.records.len() {
                    return Ok(None);
                }
                let (rest, value) = dense.record(*next);
                let prefix = dense.prefix.len();
                if *failed || *next > 0 && key[prefix..] >= *rest {
                    *failed = true;
                    return Err(CodecError { offset: *next * stride, what: "key order" });
                }
                key.truncate(prefix);
                key.extend_from_slice(rest);
                *next += 1;
                Ok(Some((key, LeafValue::Inline(value))))
            }
        }
    }
}
