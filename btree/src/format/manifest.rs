//! The bytes of one copy of a manifest: `manifest/{generation:020}.a` and `.b`.
//!
//! Head, the same in every version, then a body. All numbers little-endian.
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwmanif1` |
//! | 8 | 2 | read version | needed to read the file: 1, with detached subtrees 2 |
//! | 10 | 2 | write version | that wrote it: 2; in those of version 1, 1 |
//! | 12 | 4 | body bytes | |
//! | 16 | 8 | generation | that of the file's name |
//! | 24 | 4 | body crc32 | seeded with the generation |
//! | 28 | 4 | head crc32 | of bytes 0–27 |
//! | 32 | … | body | |
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16 | database id | shared by all replicas |
//! | 16 | log id | of the log beside it |
//! | 8 | checkpoint LSN | C: the trees are exactly the state at C |
//! | 8 | replay from | entries from here on must be in the log: min(C + 1, oldest fragment open at C) |
//! | 8 + 4 | log durable end | segment and offset: every byte of the log before it was synced |
//! | 8 | next segment | page segments from this number on did not exist |
//! | varint, … | engine state | opaque to the trees; at most [`ENGINE_STATE_BYTES_MAX`] |
//! | varint | trees | then, per tree, ascending by keyspace: |
//! | varint | keyspace | |
//! | 1 | root level + 1 | 0 = an empty tree, and nothing follows |
//! | … | root | [`super::child`] |
//! | varint | segments | then, per page segment, ascending by number: |
//! | varint | number − that of the one before | |
//! | varint | blocks | length of the file in units of 4 KiB |
//! | varint | live bytes | of pages that these trees, or the detached subtrees, reach; at least 1 |
//! | 1 | stream | |
//! | 32 | content hash | SHA-256 of the file |
//! | varint | detached | from read version 2 on, at least 1; then, per subtree: |
//! | varint | keyspace | whose it was |
//! | 1 | level | 0 for a leaf |
//! | … | root | [`super::child`] |
//!
//! # Validity
//! 1. A copy is valid when head and body verify, nothing is left over, and the generation is that of its name.
//! 2. A read version above ours, in a head that verifies, is a newer format and not damage.
//! 3. A manifest without detached subtrees is written as version 1 says.
//! 4. Which copy of which generation is opened: [`crate::manifest`].

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{BLOCK_BYTES, KEYSPACES_MAX, PAGE_SEGMENT_BYTES_MAX};
use logwood_base::{
    DatabaseId, FormatVersion, Generation, KeyspaceId, LogId, LogPosition, Lsn, PageAddr, SegmentNo,
};

use super::NUMBER_MAX;
use super::child::ChildEntry;
use super::inner::LEVEL_MAX;
use super::segment::{HeaderFault, Stream};

/// The greatest version that this program reads, and the one that it writes.
pub const VERSION: FormatVersion = FormatVersion(2);
/// What is needed to read a manifest without detached subtrees.
const VERSION_PLAIN: FormatVersion = FormatVersion(1);
/// Most bytes of the engine's own state.
pub const ENGINE_STATE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of one copy, judged before the file is read.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// Length of the head.
pub const HEAD_BYTES: usize = 32;

const MAGIC: &[u8; 8] = b"lwmanif1";
/// Shortest description of a segment: bounds the room made for a list of them.
const SEGMENT_ENTRY_BYTES_MIN: usize = 36;
/// Shortest description of a detached subtree: bounds the room made for a list of them.
const DETACHED_BYTES_MIN: usize = 28;

/// SHA-256 of a page segment's bytes.
pub type ContentHash = [u8; 32];

/// The root of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// 0 when the root is a leaf.
    pub level: u8,
    /// As a parent would keep it.
    pub child: ChildEntry,
}

/// A tree as a manifest names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeEntry {
    /// Whose it is.
    pub keyspace: KeyspaceId,
    /// `None` for an empty tree.
    pub root: Option<Root>,
}

/// A subtree that no tree reaches any more, and whose pages were not given back yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detached {
    /// Whose it was.
    pub keyspace: KeyspaceId,
    /// Its topmost page.
    pub root: Root,
}

/// A page segment as a manifest names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentEntry {
    /// Number of the segment.
    pub number: SegmentNo,
    /// Length of the file.
    pub bytes: u32,
    /// Stored bytes of the pages that the manifest's trees and detached subtrees reach.
    pub live_bytes: u32,
    /// Which pages it gathers.
    pub stream: Stream,
    /// SHA-256 of the file.
    pub hash: ContentHash,
}

/// One generation: the state of all trees at one LSN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Its number.
    pub generation: Generation,
    /// Shared by all replicas.
    pub database: DatabaseId,
    /// The log beside it.
    pub log: LogId,
    /// The trees are exactly the state at this LSN.
    pub checkpoint_lsn: Lsn,
    /// The log must hold the entries from here on.
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
    /// Page segments from this number on did not exist.
    pub next_segment: SegmentNo,
    /// Opaque to the trees.
    pub engine_state: Vec<u8>,
    /// Ascending by keyspace.
    pub trees: Vec<TreeEntry>,
    /// In any order.
    pub detached: Vec<Detached>,
    /// Ascending by number.
    pub segments: Vec<SegmentEntry>,
}

impl Manifest {
    /// The bytes of each copy.
    ///
    /// # Panics
    /// When a list does not ascend, or a limit is passed that the caller checks at the door.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256 + self.engine_state.len() + 48 * self.segments.len());
        body.put_u128(self.database.0);
        body.put_u128(self.log.0);
        body.put_u64(self.checkpoint_lsn.get());
        body.put_u64(self.replay_from.get());
        body.put_u64(self.log_durable_end.segment.get());
        body.put_u32(self.log_durable_end.offset);
        body.put_u64(self.next_segment.get());
        assert!(self.engine_state.len() <= ENGINE_STATE_BYTES_MAX, "the engine's state is bounded");
        body.put_length_prefixed(&self.engine_state);
        assert!(self.trees.is_sorted_by(|a, b| a.keyspace < b.keyspace), "trees ascend");
        body.put_varint(self.trees.len() as u64);
        for tree in &self.trees {
            body.put_varint(tree.keyspace.get());
            match &tree.root {
                None => body.put_u8(0),
                Some(root) => {
                    body.put_u8(root.level + 1);
                    root.child.put(&mut body);
                }
            }
        }
        body.put_varint(self.segments.len() as u64);
        let mut before = SegmentNo(0);
        for segment in &self.segments {
            assert!(segment.number > before && segment.live_bytes > 0, "segments ascend and live");
            assert!(segment.bytes.is_multiple_of(BLOCK_BYTES as u32), "segments are whole blocks");
            body.put_varint(segment.number.get() - before.get());
            body.put_varint(u64::from(segment.bytes) / BLOCK_BYTES as u64);
            body.put_varint(u64::from(segment.live_bytes));
            body.put_u8(segment.stream as u8);
            body.put_bytes(&segment.hash);
            before = segment.number;
        }
        let version = if self.detached.is_empty() { VERSION_PLAIN } else { VERSION };
        if version > VERSION_PLAIN {
            body.put_varint(self.detached.len() as u64);
            for Detached { keyspace, root } in &self.detached {
                body.put_varint(keyspace.get());
                body.put_u8(root.level);
                root.child.put(&mut body);
            }
        }
        let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
        out.put_bytes(MAGIC);
        out.put_u16(version.0);
        out.put_u16(version.0);
        out.put_u32(u32::try_from(body.len()).expect("bounded by MANIFEST_BYTES_MAX"));
        out.put_u64(self.generation.get());
        out.put_u32(checksum(Seed::new().u64(self.generation.get()), &body));
        let head = checksum(Seed::new(), &out);
        out.put_u32(head);
        out.put_bytes(&body);
        out
    }

    /// Reads one copy of `generation`.
    ///
    /// # Errors
    /// [`HeaderFault::Newer`] only when the head verifies.
    pub fn decode(bytes: &[u8], generation: Generation) -> Result<Self, HeaderFault> {
        let mut reader = Reader::new(bytes);
        let head = reader.bytes(HEAD_BYTES - 4, "manifest head")?;
        let error = reader.error("manifest head checksum");
        if reader.u32("manifest head checksum")? != checksum(Seed::new(), head) {
            return Err(error.into());
        }
        let mut head = Reader::new(head);
        let error = head.error("manifest magic");
        if head.array::<8>("manifest magic")? != *MAGIC {
            return Err(error.into());
        }
        let read_version = FormatVersion(head.u16("read version")?);
        if read_version > VERSION {
            return Err(HeaderFault::Newer(read_version));
        }
        head.u16("write version")?;
        let error = head.error("manifest length");
        if head.u32("manifest length")? as usize != reader.remaining() {
            return Err(error.into());
        }
        let error = head.error("manifest generation");
        if head.u64("manifest generation")? != generation.get() || generation.get() > NUMBER_MAX {
            return Err(error.into());
        }
        let error = head.error("manifest body checksum");
        let body = reader.bytes(reader.remaining(), "manifest body")?;
        if head.u32("manifest body checksum")? != checksum(Seed::new().u64(generation.get()), body) {
            return Err(error.into());
        }
        Ok(decode_body(body, generation, read_version)?)
    }

    /// The segment that holds `addr`, when this manifest names it.
    #[must_use]
    pub fn segment(&self, number: SegmentNo) -> Option<&SegmentEntry> {
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        Some(&self.segments[at])
    }

    /// The pages that the manifest itself refers to: the roots, of detached subtrees too.
    pub fn root_pages(&self) -> impl Iterator<Item = PageAddr> {
        let roots = self.trees.iter().filter_map(|tree| tree.root.as_ref());
        let roots = roots.chain(self.detached.iter().map(|detached| &detached.root));
        roots.flat_map(|root| root.child.pages().map(|page| page.addr))
    }
}

fn decode_body(body: &[u8], generation: Generation, version: FormatVersion) -> Result<Manifest, CodecError> {
    let mut reader = Reader::new(body);
    let database = DatabaseId(reader.u128("database id")?);
    let log = LogId(reader.u128("log id")?);
    let checkpoint_lsn = Lsn(reader.u64("checkpoint LSN")?);
    let replay_from = Lsn(reader.u64("replay from")?);
    let log_segment = SegmentNo(reader.u64("log durable end")?);
    let log_durable_end = LogPosition::new(log_segment, reader.u32("log durable end")?);
    let next_segment = SegmentNo(reader.u64("next segment")?);
    let error = reader.error("next segment");
    if next_segment.get() > NUMBER_MAX {
        return Err(error);
    }
    let engine_state = reader.length_prefixed(ENGINE_STATE_BYTES_MAX, "engine state")?.to_vec();
    let trees = take_trees(&mut reader)?;
    let segments = take_segments(&mut reader)?;
    let detached = if version > VERSION_PLAIN { take_detached(&mut reader)? } else { Vec::new() };
    reader.finish("manifest")?;
    let error = reader.error("next segment");
    if segments.last().is_some_and(|last| last.number >= next_segment) {
        return Err(error);
    }
    Ok(Manifest {
        generation,
        database,
        log,
        checkpoint_lsn,
        replay_from,
        log_durable_end,
        next_segment,
        engine_state,
        trees,
        detached,
        segments,
    })
}

fn take_detached(reader: &mut Reader<'_>) -> Result<Vec<Detached>, CodecError> {
    let error = reader.error("number of detached subtrees");
    let count = reader.varint("number of detached subtrees")?;
    if count == 0 || count > (reader.remaining() / DETACHED_BYTES_MIN) as u64 {
        return Err(error);
    }
    let mut detached = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let keyspace = KeyspaceId(reader.varint("keyspace")?);
        let error = reader.error("root level");
        let level = reader.u8("root level")?;
        if level > LEVEL_MAX {
            return Err(error);
        }
        detached.push(Detached { keyspace, root: Root { level, child: ChildEntry::take(reader)? } });
    }
    Ok(detached)
}

fn take_trees(reader: &mut Reader<'_>) -> Result<Vec<TreeEntry>, CodecError> {
    let error = reader.error("number of trees");
    let count = reader.varint("number of trees")?;
    if count > KEYSPACES_MAX as u64 || count > reader.remaining() as u64 / 2 {
        return Err(error);
    }
    let mut trees: Vec<TreeEntry> = Vec::new();
    for _ in 0..count {
        let error = reader.error("keyspace");
        let keyspace = KeyspaceId(reader.varint("keyspace")?);
        if trees.last().is_some_and(|last| last.keyspace >= keyspace) {
            return Err(error);
        }
        let error = reader.error("root level");
        let root = match reader.u8("root level")? {
            0 => None,
            level if level <= LEVEL_MAX + 1 => {
                Some(Root { level: level - 1, child: ChildEntry::take(reader)? })
            }
            _ => return Err(error),
        };
        trees.push(TreeEntry { keyspace, root });
    }
    Ok(trees)
}

fn take_segments(reader: &mut Reader<'_>) -> Result<Vec<SegmentEntry>, CodecError> {
    let error = reader.error("number of segments");
    let count = reader.varint("number of segments")?;
    if count > (reader.remaining() / SEGMENT_ENTRY_BYTES_MIN) as u64 {
        return Err(error);
    }
    let mut segments = Vec::with_capacity(count as usize);
    let mut before = 0u64;
    for _ in 0..count {
        let error = reader.error("segment");
        let step = reader.varint("segment number")?;
        let number = before.checked_add(step).filter(|_| step > 0).ok_or(error)?;
        let blocks = reader.varint("segment length")?;
        let live_bytes = reader.varint("live bytes")?;
        // A segment may pass its target by its last page and its index.
        let bytes = blocks.checked_mul(BLOCK_BYTES as u64).ok_or(error)?;
        if bytes > 2 * u64::from(PAGE_SEGMENT_BYTES_MAX) || live_bytes == 0 || live_bytes >= bytes {
            return Err(error);
        }
        let stream = Stream::from_byte(reader.u8("stream")?).ok_or(error)?;
        let hash = reader.array("content hash")?;
        let (bytes, live_bytes) = (bytes as u32, live_bytes as u32);
        segments.push(SegmentEntry { number: SegmentNo(number), bytes, live_bytes, stream, hash });
        before = number;
    }
    Ok(segments)
}
