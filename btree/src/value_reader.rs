//! Reading one value piece by piece.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::sync::Arc;

use logwood_base::{Error, KeyspaceId, Lsn, Result};

use crate::format::overflow::PIECE_BYTES;
use crate::node::leaf::Leaf;
use crate::node::overflow::{OverflowPlace, RecordValue};
use crate::overflow::{of_value, require_count};
use crate::shared::Shared;
use crate::store::Page;
use crate::value::Value;

/// Reads a value of any length in pieces: [`Read`], [`Seek`] and [`BufRead`] over it. See
/// [`Tree::value_reader`](crate::Tree::value_reader).
///
/// It stands on the value that was there when it was made, whatever is written afterwards, and keeps the files of that value until
/// it is dropped; nothing else. It holds one piece of 256 KiB in memory, read from the disk and proven when it is asked for. A value
/// that no checkpoint has written yet is in memory anyhow, and lent from there.
///
/// A piece that cannot be read is an [`io::Error`] with the [`Error`] inside, which names key, file and offset; other pieces can be
/// sought and read.
#[derive(Debug)]
pub struct ValueReader {
    source: Source,
    bytes: usize,
    position: u64,
}

enum Source {
    /// A short value, or one that is its reader's own.
    Copied(Box<[u8]>),
    /// A long one that stands in a leaf, at this record.
    Leaf(Leaf, usize),
    Pages(Pages),
}

/// A value in overflow pages.
struct Pages {
    shared: Arc<Shared>,
    place: Arc<OverflowPlace>,
    /// The piece that was read last, with its number.
    piece: Option<(usize, Page)>,
    keyspace: KeyspaceId,
    key: Vec<u8>,
}

impl ValueReader {
    /// The value of `key`, which `leaf` shows at `at`.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        keyspace: KeyspaceId,
        key: &[u8],
        (leaf, at): (&Leaf, Lsn),
        value: RecordValue<'_>,
    ) -> Result<Self> {
        let source = match (value, leaf.base_place(key, at)) {
            (RecordValue::Overflow(value), _) => {
                let place = value.place();
                require_count(&shared.store, &place.extents, value.bytes)
                    .map_err(|error| of_value(error, keyspace, key))?;
                let shared = Arc::clone(shared);
                Source::Pages(Pages { shared, place, piece: None, keyspace, key: key.to_vec() })
            }
            (RecordValue::Inline(value), Some(record)) if value.len() > shared.options.leaf_bytes => {
                Source::Leaf(leaf.clone(), record)
            }
            (RecordValue::Inline(value), _) => Source::Copied(value.into()),
        };
        Ok(Self { source, bytes: value.len(), position: 0 })
    }

    /// Length of the value in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.bytes as u64
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether two readers stand on the same stored value: then it has the same bytes. Nothing is read, and values that stand in
    /// different places may be equal too.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// forest.replay(Lsn(2), &[put("ada", "1815")])?;
    /// let reader = tree.value_reader(b"ada", At::Latest)?.expect("it is there");
    /// assert!(reader.is_same(&tree.value_reader(b"ada", At::Latest)?.expect("it is there")));
    /// forest.replay(Lsn(3), &[put("ada", "1852")])?;
    /// assert!(!reader.is_same(&tree.value_reader(b"ada", At::Latest)?.expect("it is there")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::Copied(a), Source::Copied(b)) => a == b,
            (Source::Leaf(a, at), Source::Leaf(b, other)) => a.is(b) && at == other,
            (Source::Pages(a), Source::Pages(b)) => Arc::ptr_eq(&a.place, &b.place),
            _ => false,
        }
    }

    /// Whether the value has these bytes. Reads no more of it than that takes, from its beginning on, and none of a value of
    /// another length.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// forest.replay(Lsn(2), &[put("ada", "1815")])?;
    /// let mut reader = tree.value_reader(b"ada", At::Latest)?.expect("it is there");
    /// assert!(reader.equals(b"1815")? && !reader.equals(b"1816")? && !reader.equals(b"18150")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption` naming the key of a piece that cannot be trusted; `Io`.
    pub fn equals(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.bytes != bytes.len() {
            return Ok(false);
        }
        self.position = 0;
        let mut left = bytes;
        while !left.is_empty() {
            let rest = self.rest()?;
            let count = rest.len().min(left.len());
            if rest[..count] != left[..count] {
                return Ok(false);
            }
            left = &left[count..];
            self.position += count as u64;
        }
        Ok(true)
    }

    /// The whole value.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// forest.replay(Lsn(2), &[put("ada", "1815")])?;
    /// let reader = tree.value_reader(b"ada", At::Latest)?.expect("it is there");
    /// assert_eq!((reader.len(), &reader.into_value()?[..]), (4, &b"1815"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ValueReader::equals`].
    pub fn into_value(mut self) -> Result<Value> {
        if let Source::Copied(value) = self.source {
            return Ok(Vec::from(value).into());
        }
        let mut bytes = Vec::new();
        self.position = 0;
        loop {
            let rest = self.rest()?;
            if rest.is_empty() {
                return Ok(bytes.into());
            }
            bytes.extend_from_slice(rest);
            self.position = bytes.len() as u64;
        }
    }

    /// The bytes from the position on that are in memory, or come there by one read: none at the end.
    fn rest(&mut self) -> Result<&[u8]> {
        let Some(at) = usize::try_from(self.position).ok().filter(|at| *at < self.bytes) else {
            return Ok(&[]);
        };
        match &mut self.source {
            Source::Copied(value) => Ok(&value[at..]),
            Source::Leaf(leaf, record) => Ok(&leaf.record(*record).1[at..]),
            Source::Pages(pages) => Ok(&pages.piece(self.bytes, at / PIECE_BYTES)?[at % PIECE_BYTES..]),
        }
    }
}

/// A reader of what its maker holds: of a value that is not written yet.
impl From<Box<[u8]>> for ValueReader {
    fn from(value: Box<[u8]>) -> Self {
        Self { bytes: value.len(), source: Source::Copied(value), position: 0 }
    }
}

impl Pages {
    /// The piece of that number.
    fn piece(&mut self, bytes: usize, number: usize) -> Result<&[u8]> {
        if self.piece.as_ref().is_none_or(|(there, _)| *there != number) {
            // One piece at a time takes memory.
            self.piece = None;
        }
        let page = match self.piece.take() {
            Some((_, page)) => page,
            None => {
                let read = self.shared.read_piece(&self.place.extents, bytes, number);
                read.map_err(|error| of_value(error, self.keyspace, &self.key))?
            }
        };
        Ok(self.piece.insert((number, page)).1.body())
    }
}

impl Read for ValueReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.fill_buf()?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ValueReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.rest().map_err(into_io)
    }

    fn consume(&mut self, count: usize) {
        self.position = self.position.saturating_add(count as u64);
    }
}

impl Seek for ValueReader {
    /// Any position may be sought; behind the end there are no bytes.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a position before the value");
        self.position = position.ok_or_else(outside)?;
        Ok(self.position)
    }
}

/// The error as `std::io` has it, with ours inside.
fn into_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Corruption(_) => io::ErrorKind::InvalidData,
        Error::Io { source, .. } => source.kind(),
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Copied(_) => "Copied",
            Self::Leaf(..) => "Leaf",
            Self::Pages(_) => "Pages",
        })
    }
}
