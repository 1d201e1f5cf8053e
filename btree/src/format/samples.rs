//! One sample of everything that stands on disk, for the tests of the formats.

use logwood_base::digest::Digest;
use logwood_base::{
    AlignedBuffer, DatabaseId, Generation, KeyspaceId, LogId, LogPosition, Lsn, PageAddr, SegmentNo,
};

use super::child::{ChildEntry, DeltaRef};
use super::delta::DeltaBuilder;
use super::inner::InnerBuilder;
use super::leaf::{LeafBuilder, LeafValue};
use super::manifest::{Detached, Manifest, Root, SegmentEntry, TreeEntry};
use super::overflow::OverflowRef;
use super::page::{Compression, PageKind, PageRef, checksum_at, seal};
use super::segment::{IndexBuilder, Label, SegmentHeader, Stream};

pub(super) fn page(segment: u64, offset: u32, bytes: u32) -> PageRef {
    PageRef { addr: PageAddr { segment: SegmentNo(segment), offset }, bytes, crc: 0x0102_0304 }
}

pub(super) fn overflow() -> OverflowRef {
    let extents = vec![page(5, 64, 262_146), page(5, 262_210, 40_000)];
    OverflowRef { total_bytes: 302_142, record_hash: 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00, extents }
}

pub(super) fn child(deltas: u64) -> ChildEntry {
    let deltas: Vec<DeltaRef> = (0..deltas)
        .map(|n| DeltaRef {
            page: page(8 + n, 100, 300),
            first_lsn: Lsn(21 + 10 * n),
            last_lsn: Lsn(30 + 10 * n),
        })
        .collect();
    let digest = Digest { count: 47, sum: 0xfeed_f00d_0000_0000_0000_0000_0000_0001 };
    let resolved = deltas.len().min(1) as u8;
    ChildEntry {
        page: page(3, 4096, 8000),
        lsn: Lsn(20),
        unresolved: deltas.len() > 1,
        deltas,
        digest,
        resolved,
    }
}

pub(super) fn dense_leaf() -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for n in 0..4u8 {
        builder.push(&[b'k', b'e', b'y', n * 3, 255 - n], &LeafValue::Inline(&[n; 6]));
    }
    builder.finish()
}

pub(super) fn variable_leaf() -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for n in 0..20u8 {
        let key = format!("user/{:03}/name{}", n / 3, "x".repeat(usize::from(n % 3)));
        if n == 7 {
            builder.push(key.as_bytes(), &LeafValue::Overflow(overflow()));
        } else {
            builder.push(key.as_bytes(), &LeafValue::Inline(&vec![n; usize::from(n)]));
        }
    }
    builder.finish()
}

pub(super) fn delta() -> Vec<u8> {
    let mut builder = DeltaBuilder::default();
    builder.push(b"ant", Some(&LeafValue::Inline(b"six legs")));
    builder.push(b"antelope", None);
    builder.push(b"anvil", Some(&LeafValue::Overflow(overflow())));
    builder.finish(Lsn(300), Lsn(450))
}

pub(super) fn inner() -> Vec<u8> {
    let mut builder = InnerBuilder::new(2);
    builder.push(b"", child(0));
    builder.push(b"orders/b", child(1));
    builder.push(b"orders/bq", child(2));
    builder.push(b"orders/d", child(3));
    builder.finish()
}

/// A whole segment of four pages.
pub(super) fn segment() -> Vec<u8> {
    let number = SegmentNo(12);
    let header = SegmentHeader { number, database: DatabaseId(0xdb), stream: Stream::Cold };
    let mut image = AlignedBuffer::default();
    image.extend_from_slice(&header.encode());
    let mut index = IndexBuilder::default();
    let bodies = [
        (PageKind::Leaf, 0, &b"key"[..], dense_leaf()),
        (PageKind::Leaf, 0, &b"user/"[..], variable_leaf()),
        (PageKind::Inner, 2, &b""[..], inner()),
        (PageKind::Overflow, 0, &b"user/002/namex"[..], b"a long value, ".repeat(20)),
    ];
    for (kind, level, low_key, body) in bodies {
        let addr = PageAddr { segment: number, offset: image.len() as u32 };
        let start = image.len();
        let bytes = seal(kind, &body, Compression::Off, &mut image);
        let page = PageRef { addr, bytes, crc: checksum_at(addr, &image[start..]) };
        index.push(&page, &Label { kind, level, keyspace: KeyspaceId(4), low_key });
    }
    index.finish(number, &mut image);
    image.to_vec()
}

/// With what version 2 has added.
pub(super) fn manifest_with_detached() -> Manifest {
    let detached = |keyspace, level, deltas| Detached {
        keyspace: KeyspaceId(keyspace),
        root: Root { level, child: child(deltas) },
    };
    Manifest { detached: vec![detached(4, 1, 0), detached(300, 0, 2)], ..manifest() }
}

pub(super) fn manifest() -> Manifest {
    let segment = |number: u64, stream| SegmentEntry {
        number: SegmentNo(number),
        bytes: 8192 * number as u32,
        live_bytes: 7000 + number as u32,
        stream,
        hash: [number as u8; 32],
    };
    Manifest {
        generation: Generation(77),
        database: DatabaseId(0xdb),
        log: LogId(0x1057),
        checkpoint_lsn: Lsn(4000),
        replay_from: Lsn(3990),
        log_durable_end: LogPosition::new(SegmentNo(6), 12_345),
        next_segment: SegmentNo(300),
        engine_state: b"keyspaces and such".to_vec(),
        trees: vec![
            TreeEntry { keyspace: KeyspaceId(1), root: None },
            TreeEntry { keyspace: KeyspaceId(4), root: Some(Root { level: 2, child: child(0) }) },
            TreeEntry { keyspace: KeyspaceId(200), root: Some(Root { level: 0, child: child(3) }) },
        ],
        detached: Vec::new(),
        segments: vec![segment(3, Stream::Base), segment(8, Stream::Delta), segment(299, Stream::Overflow)],
    }
}
