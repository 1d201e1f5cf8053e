//! One small sample of everything that the trees keep on disk: the seeds of the corpora.

use logwood_base::digest::Digest;
use logwood_base::{AlignedBuffer, DatabaseId, KeyspaceId, LogId, LogPosition, Lsn, PageAddr, SegmentNo};
use logwood_btree::format::child::{ChildEntry, DeltaRef};
use logwood_btree::format::delta::DeltaBuilder;
use logwood_btree::format::inner::InnerBuilder;
use logwood_btree::format::leaf::{LeafBuilder, LeafValue};
use logwood_btree::format::manifest::{Detached, Manifest, Root, SegmentEntry, TreeEntry};
use logwood_btree::format::overflow::OverflowRef;
use logwood_btree::format::page::{Compression, PageKind, PageRef, checksum_at, seal};
use logwood_btree::format::segment::{IndexBuilder, Label, SegmentHeader, Stream};

use crate::{manifest, page_segment};

/// A reference to a page that is nowhere.
#[must_use]
pub fn page(segment: u64, offset: u32, bytes: u32) -> PageRef {
    PageRef { addr: PageAddr { segment: SegmentNo(segment), offset }, bytes, crc: 0x1357_9bdf }
}

/// A value in so many pieces.
#[must_use]
pub fn overflow(pieces: u32) -> OverflowRef {
    let extents = (0..pieces).map(|n| page(9, 64 + n * 262_146, 262_146)).collect();
    OverflowRef {
        total_bytes: u64::from(pieces) << 18,
        record_hash: 0x55aa << 64 | u128::from(pieces),
        extents,
    }
}

/// A child with so many delta blocks.
#[must_use]
pub fn child(deltas: u64) -> ChildEntry {
    let delta = |n| DeltaRef {
        page: page(20 + n, 640, 200),
        first_lsn: Lsn(101 + 10 * n),
        last_lsn: Lsn(110 + 10 * n),
    };
    let digest = Digest { count: 1000 + deltas, sum: u128::MAX / 3 };
    let entry = ChildEntry::of_image(page(3, 8192, 5000), Lsn(100), digest);
    ChildEntry {
        deltas: (0..deltas).map(delta).collect(),
        resolved: deltas as u8 / 2,
        unresolved: deltas > 1,
        ..entry
    }
}

/// Records of one length.
#[must_use]
pub fn dense_leaf(records: u16, value: usize) -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for n in 0..records {
        let mut key = b"account".to_vec();
        key.extend((n * 7).to_be_bytes());
        builder.push(&key, &LeafValue::Inline(&vec![n as u8; value]));
    }
    builder.finish()
}

/// Records of many lengths, some with long values.
#[must_use]
pub fn variable_leaf(records: usize) -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for n in 0..records {
        let key = format!("city/{:04}/street{}", n / 4, "-".repeat(n % 4));
        match n % 9 {
            5 => builder.push(key.as_bytes(), &LeafValue::Overflow(overflow(n as u32 % 3 + 1))),
            _ => builder.push(key.as_bytes(), &LeafValue::Inline(&vec![n as u8; n % 30])),
        }
    }
    builder.finish()
}

/// Changes of one leaf.
#[must_use]
pub fn delta(changes: usize) -> Vec<u8> {
    let mut builder = DeltaBuilder::default();
    for n in 0..changes {
        let key = format!("city/{n:04}");
        let value = match n % 4 {
            0 => None,
            1 => Some(LeafValue::Overflow(overflow(1))),
            _ => Some(LeafValue::Inline(&b"changed value"[..n % 13])),
        };
        builder.push(key.as_bytes(), value.as_ref());
    }
    builder.finish(Lsn(300), Lsn(300 + changes as u64))
}

/// Children of one node.
#[must_use]
pub fn inner(level: u8, children: u64) -> Vec<u8> {
    let mut builder = InnerBuilder::new(level);
    for n in 0..children {
        let separator = if n == 0 { String::new() } else { format!("city/{:05}", n * n) };
        builder.push(separator.as_bytes(), child(n % 4));
    }
    builder.finish()
}

/// A whole page segment.
#[must_use]
pub fn segment(compression: Compression, pages: &[(PageKind, u8, &[u8], Vec<u8>)]) -> Vec<u8> {
    let number = page_segment::NUMBER;
    let header = SegmentHeader { number, database: DatabaseId(0xdb), stream: Stream::Base };
    let mut image = AlignedBuffer::default();
    image.extend_from_slice(&header.encode());
    let mut index = IndexBuilder::default();
    for (kind, level, low_key, body) in pages {
        let start = image.len();
        let addr = PageAddr { segment: number, offset: start as u32 };
        let bytes = seal(*kind, body, compression, &mut image);
        let page = PageRef { addr, bytes, crc: checksum_at(addr, &image[start..]) };
        index.push(&page, &Label { kind: *kind, level: *level, keyspace: KeyspaceId(4), low_key });
    }
    index.finish(number, &mut image);
    image.to_vec()
}

/// A manifest of so many trees and segments.
#[must_use]
pub fn manifest(trees: u64, segments: u64) -> Manifest {
    let tree = |n| TreeEntry {
        keyspace: KeyspaceId(1 + n * 100),
        root: (n % 3 != 2)
            .then(|| Root { level: n as u8 % 5, child: child(if n % 5 == 0 { n % 4 } else { 0 }) }),
    };
    let detached =
        |n| Detached { keyspace: KeyspaceId(n), root: Root { level: n as u8 % 4, child: child(n % 4) } };
    let segment = |n| SegmentEntry {
        number: SegmentNo(3 + n * 130),
        bytes: 4096 * (1 + n as u32),
        live_bytes: 100 + n as u32,
        stream: Stream::ALL[n as usize % 5],
        hash: [n as u8; 32],
    };
    Manifest {
        generation: manifest::GENERATION,
        database: DatabaseId(0xdb),
        log: LogId(0x1057),
        checkpoint_lsn: Lsn(4000),
        replay_from: Lsn(3990),
        log_durable_end: LogPosition::new(SegmentNo(6), 12_345),
        next_segment: SegmentNo(1 << 20),
        engine_state: b"names of keyspaces".to_vec(),
        trees: (0..trees).map(tree).collect(),
        detached: (0..trees / 8).map(detached).collect(),
        segments: (0..segments).map(segment).collect(),
    }
}
