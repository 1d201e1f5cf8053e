//! BYTES of the operations inside a commit, one behind the other up to the end.
//!
//! | size | name | meaning |
//! |---|---|---|
//! | 1 | tag | 1 put · 2 delete · 3 delete a bounded range · 4 delete a range to the end |
//! | varint | keyspace | its number |
//! | string | key | 3, 4: the first key of the range |
//! | string | value | 1: the value; 3: the key behind the range; 2, 4: absent |
//!
//! Keys have at most [`KEY_BYTES_MAX`] bytes, values [`VALUE_BYTES_MAX`]. A later operation on a key wins. A batch
//! is built in this form, and committing it copies it once, into the log.

use logwood_base::KeyspaceId;
use logwood_base::codec::{CodecError, Reader, Writer, varint_bytes};
use logwood_base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
const DELETE_TO_END: u8 = 4;

/// Most bytes that an operation takes besides its keys and values: a tag and three varints.
pub(crate) const OPERATION_OVERHEAD_MAX: usize = 1 + 10 + 10 + 10;

/// One effect on one keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// The key has this value from now on.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The key has no value from now on.
    Delete {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
    },
    /// No key of the range has a value from now on.
    DeleteRange {
        /// Where.
        keyspace: KeyspaceId,
        /// The first key.
        from: &'a [u8],
        /// The key behind the last one; `None`: to the end.
        to: Option<&'a [u8]>,
    },
}

/// A put or a delete without its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: &'a [u8],
    /// How long the value is that follows; nothing follows a delete.
    pub(crate) value_bytes: usize,
}

/// Longest [`Head`].
pub(crate) const HEAD_BYTES_MAX: usize = OPERATION_OVERHEAD_MAX + KEY_BYTES_MAX;

impl<'a> Head<'a> {
    /// Reads one, up to where its value begins; `None` for a range delete.
    ///
    /// # Errors
    /// When the bytes do not follow the table, or end before the value begins.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Option<Self>, CodecError> {
        let error = reader.error("operation");
        let tag = reader.u8("operation")?;
        if matches!(tag, DELETE_RANGE | DELETE_TO_END) {
            return Ok(None);
        }
        let keyspace = KeyspaceId(reader.varint("keyspace")?);
        let key = reader.length_prefixed(KEY_BYTES_MAX, "key")?;
        let value_bytes = match tag {
            PUT => reader.varint("value")?,
            DELETE => 0,
            _ => return Err(error),
        };
        if value_bytes > VALUE_BYTES_MAX as u64 {
            return Err(error);
        }
        Ok(Some(Self { keyspace, key, value_bytes: value_bytes as usize }))
    }
}

/// The operations of a commit, still encoded.
///
/// ```
/// use logwood::KeyspaceId;
/// use logwood::entry::{Operation, Operations};
/// let keyspace = KeyspaceId(1);
/// let written = [
///     Operation::Put { keyspace, key: b"ada", value: b"1815" },
///     Operation::DeleteRange { keyspace, from: b"b", to: None },
/// ];
/// let mut bytes = Vec::new();
/// written.iter().for_each(|operation| operation.encode(&mut bytes));
/// let read: Vec<_> = Operations::new(&bytes).into_iter().collect::<Result<_, _>>()?;
/// assert_eq!(read, written);
/// // The first that cannot be read ends it.
/// assert!(Operations::new(&bytes[..5]).iter().last().is_some_and(|last| last.is_err()));
/// # Ok::<(), logwood_base::codec::CodecError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations<'a> {
    bytes: &'a [u8],
}

impl<'a> Operations<'a> {
    /// Operations as they stand in a commit, from the first on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoded bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads one after the other; the first that cannot be read ends it with its error.
    #[must_use]
    pub const fn iter(&self) -> OperationIter<'a> {
        OperationIter { reader: Reader::new(self.bytes), failed: false }
    }
}

impl<'a> IntoIterator for Operations<'a> {
    type Item = Result<Operation<'a>, CodecError>;
    type IntoIter = OperationIter<'a>;

    fn into_iter(self) -> OperationIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Operations`].
#[derive(Clone, Debug)]
pub struct OperationIter<'a> {
    reader: Reader<'a>,
    failed: bool,
}

impl OperationIter<'_> {
    /// Bytes read so far.
    pub(crate) const fn offset(&self) -> usize {
        self.reader.offset()
    }
}

impl<'a> Iterator for OperationIter<'a> {
    type Item = Result<Operation<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.remaining() == 0 {
            return None;
        }
        let operation = Operation::decode(&mut self.reader);
        self.failed = operation.is_err();
        Some(operation)
    }
}

impl<'a> Operation<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// When the bytes do not follow the table.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, CodecError> {
        let error = reader.error("operation");
        let tag = reader.u8("operation")?;
        let keyspace = KeyspaceId(reader.varint("keyspace")?);
        let key = reader.length_prefixed(KEY_BYTES_MAX, "key")?;
        Ok(match tag {
            PUT => Self::Put { keyspace, key, value: reader.length_prefixed(VALUE_BYTES_MAX, "value")? },
            DELETE => Self::Delete { keyspace, key },
            DELETE_RANGE => {
                let to = reader.length_prefixed(KEY_BYTES_MAX, "end of the range")?;
                Self::DeleteRange { keyspace, from: key, to: Some(to) }
            }
            DELETE_TO_END => Self::DeleteRange { keyspace, from: key, to: None },
            _ => return Err(error),
        })
    }

    /// Appends the bytes that [`Operation::decode`] reads. Lengths are the caller's to check.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let (tag, keyspace, key, second) = match *self {
            Self::Put { keyspace, key, value } => (PUT, keyspace, key, Some(value)),
            Self::Delete { keyspace, key } => (DELETE, keyspace, key, None),
            Self::DeleteRange { keyspace, from, to: Some(to) } => (DELETE_RANGE, keyspace, from, Some(to)),
            Self::DeleteRange { keyspace, from, to: None } => (DELETE_TO_END, keyspace, from, None),
        };
        bytes.reserve(OPERATION_OVERHEAD_MAX + key.len() + second.map_or(0, <[u8]>::len));
        bytes.put_u8(tag);
        bytes.put_varint(keyspace.get());
        bytes.put_length_prefixed(key);
        if let Some(second) = second {
            bytes.put_length_prefixed(second);
        }
    }

    /// The keyspace it changes.
    #[must_use]
    pub const fn keyspace(&self) -> KeyspaceId {
        match self {
            Self::Put { keyspace, .. }
            | Self::Delete { keyspace, .. }
            | Self::DeleteRange { keyspace, .. } => *keyspace,
        }
    }
}

/// Appends what stands in front of the value of a put.
pub(crate) fn begin_put(bytes: &mut Vec<u8>, keyspace: KeyspaceId, key: &[u8], value_bytes: usize) {
    bytes.put_u8(PUT);
    bytes.put_varint(keyspace.get());
    bytes.put_length_prefixed(key);
    bytes.put_varint(value_bytes as u64);
}

/// Bytes that a put takes.
pub(crate) fn put_bytes(keyspace: KeyspaceId, key_bytes: usize, value_bytes: usize) -> usize {
    let lengths = varint_bytes(key_bytes as u64) + varint_bytes(value_bytes as u64);
    1 + varint_bytes(keyspace.get()) + lengths + key_bytes + value_bytes
}
