//! A page segment beside a sound manifest, as it is and with its checksums mended.
//!
//! The manifest names the file by its length and its true SHA-256, so that everything behind that hash is reached.
//! Held:
//! 1. Verifying answers: it panics on nothing, fails on nothing but a newer format, and changes nothing.
//! 2. It makes no more room than the input deserves, beyond its own window.
//! 3. When it finds no damage, the store reads every page that the index names, each is what its label says, and the
//!    page's body holds together.
//! 4. A flipped bit anywhere (where the input's first bytes say) is found: the segment was hashed before.

use std::path::Path;
use std::sync::Arc;

use logwood_base::digest::Digest;
use logwood_base::disk::SimulatedDisk;
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{DatabaseId, Error, KeyspaceId, LogId, LogPosition, Lsn, SegmentNo};
use logwood_btree::format::child::ChildEntry;
use logwood_btree::format::manifest::{Manifest, Root, SegmentEntry, TreeEntry};
use logwood_btree::format::page::PageRef;
use logwood_btree::format::segment::{SegmentHeader, Stream, TRAILER_BYTES, Trailer, read_index};
use logwood_btree::store::{Store, StoreOptions};
use logwood_btree::verify::verify_files;
use sha2::Digest as _;

use crate::manifest::GENERATION;
use crate::{allocation, mend};

/// The number that the segment's file is named after.
pub const NUMBER: SegmentNo = SegmentNo(12);

const SEGMENT: &str = "db/pages/00000000000000000012.pages";
const MANIFEST: &str = "db/manifest/00000000000000000077.a";

/// Verifying reads through a window of this size, and holds a page beside it: in its stored form, and opened.
const WINDOW_BYTES: usize = 2 << 20;

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let mut whole = bytes.to_vec();
    whole.resize(whole.len().max(1).next_multiple_of(BLOCK_BYTES), 0);
    judge(&whole);
    judge(&mend::page_segment(bytes, NUMBER.get()));
}

fn judge(bytes: &[u8]) {
    let disk = SimulatedDisk::new(1);
    disk.write_file(Path::new(SEGMENT), bytes);
    disk.write_file(Path::new(MANIFEST), &manifest_naming(bytes).encode());
    let damages = damages(&disk, bytes.len());
    if damages == Some(0) {
        read_all(&disk, bytes);
    }
    if damages.is_some() {
        let at = mend::u32_at(bytes, 64).unwrap_or(0) as usize % bytes.len();
        disk.flip_bit(Path::new(SEGMENT), at as u64, 1 << (bytes.len() / BLOCK_BYTES % 8));
        if let Some(found) = self::damages(&disk, bytes.len()) {
            assert!(found > 0, "a flipped bit at {at} was not found");
        }
    }
}

/// How many damages verifying finds; `None` for a newer format.
fn damages(disk: &SimulatedDisk, bytes: usize) -> Option<u64> {
    let before = disk.read_file(Path::new(SEGMENT));
    let mut told = 0;
    let report = allocation::bounded("verifying a segment", bytes + WINDOW_BYTES / 2, || {
        verify_files(disk, Path::new("db"), &mut |_| told += 1, &mut |_| ())
    });
    assert_eq!(disk.read_file(Path::new(SEGMENT)), before, "verifying changed the file");
    match report {
        Ok(report) => {
            assert_eq!(report.damages, told, "damages counted and damages told");
            Some(told)
        }
        Err(Error::UnsupportedFormat { .. }) => None,
        Err(error) => panic!("verifying failed: {error}"),
    }
}

/// Reads every page through the store.
fn read_all(disk: &SimulatedDisk, bytes: &[u8]) {
    let at = bytes.len() - TRAILER_BYTES;
    SegmentHeader::decode(bytes).expect("verified");
    let trailer = Trailer::decode(&bytes[at..], NUMBER, bytes.len() as u64).expect("verified");
    let index = &bytes[trailer.index_offset as usize..][..trailer.index_bytes as usize];
    trailer.check_index(NUMBER, index).expect("verified");
    let (store, _) =
        Store::open_read_only(Arc::new(disk.clone()), Path::new("db"), StoreOptions::default(), &|_| Ok(()))
            .expect("manifest and length are sound");
    let mut pages: Vec<(PageRef, _)> = Vec::new();
    read_index(NUMBER, index, trailer.index_offset, |page, label| pages.push((*page, label.kind)))
        .expect("verified");
    assert_eq!(pages.len(), trailer.count as usize);
    for (page, kind) in pages {
        let read = store.read(&page).unwrap_or_else(|error| panic!("verified and not readable: {error}"));
        assert_eq!(read.kind(), kind);
    }
}

/// A manifest that names the segment by what it is.
fn manifest_naming(bytes: &[u8]) -> Manifest {
    let segment = SegmentEntry {
        number: NUMBER,
        bytes: bytes.len() as u32,
        live_bytes: 100,
        stream: Stream::Base,
        hash: sha2::Sha256::digest(bytes).into(),
    };
    let page = crate::samples::page(NUMBER.get(), 64, 100);
    let child = ChildEntry::of_image(page, Lsn(3), Digest { count: 1, sum: 1 });
    Manifest {
        generation: GENERATION,
        database: DatabaseId(0xdb),
        log: LogId(0x1057),
        checkpoint_lsn: Lsn(10),
        replay_from: Lsn(11),
        log_durable_end: LogPosition::ZERO,
        next_segment: NUMBER.next(),
        engine_state: Vec::new(),
        trees: vec![TreeEntry { keyspace: KeyspaceId(4), root: Some(Root { level: 0, child }) }],
        detached: Vec::new(),
        segments: vec![segment],
    }
}
