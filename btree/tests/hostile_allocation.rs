//! No bytes make a decoder allocate without bound: at most twice the input and one MiB. Verification of files holds
//! little, however long they are.

use logwood_base::codec::{Reader, Writer};
use logwood_base::{DatabaseId, Generation, KeyspaceId, LogId, LogPosition, Lsn, SegmentNo};
use logwood_btree::format::child::ChildEntry;
use logwood_btree::format::delta::{DeltaBuilder, DeltaReader};
use logwood_btree::format::inner::InnerReader;
use logwood_btree::format::leaf::{LeafBuilder, LeafReader, LeafValue};
use logwood_btree::format::manifest::Manifest;
use logwood_btree::format::overflow::OverflowRef;
use logwood_btree::format::page;
use logwood_btree::format::segment::{SegmentHeader, Trailer, read_index};
use logwood_btree::store::{
    Beginning, Commit, Identity, Label, PageKind, Root, Store, StoreOptions, Stream, TreeEntry,
};

#[path = "../../fuzz/src/allocation.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz targets, whose module it is, use all of it")]
mod allocation;

/// The most bytes that `work` held at once beyond what was held before.
fn most_held(work: impl FnOnce()) -> usize {
    allocation::peak(work).1
}

/// Everything that decodes, walked as far as it goes.
fn decode_everything(bytes: &[u8]) {
    if let Ok(leaf) = LeafReader::new(bytes) {
        let _ = leaf.check();
        let _ = leaf.get(b"some key");
    }
    if let Ok(delta) = DeltaReader::new(bytes) {
        let _ = delta.check();
    }
    if let Ok(inner) = InnerReader::new(bytes) {
        let _ = inner.check();
    }
    let _ = ChildEntry::take(&mut Reader::new(bytes));
    let _ = OverflowRef::take(&mut Reader::new(bytes));
    let _ = Manifest::decode(bytes, Generation(1));
    let _ = SegmentHeader::decode(bytes);
    let _ = Trailer::decode(bytes, SegmentNo(1), bytes.len() as u64);
    let _ = read_index(SegmentNo(1), bytes, 1 << 20, |_, _| ());
    let _ = page::open_unproven(bytes.to_vec());
}

fn assert_bounded(bytes: &[u8]) {
    let held = most_held(|| decode_everything(bytes));
    assert!(held <= 2 * bytes.len() + (1 << 20), "{held} bytes held for {} bytes of input", bytes.len());
}

#[test]
fn lengths_that_lie_make_no_room() {
    let lies = [u64::MAX, u64::from(u32::MAX), 1 << 31, 1 << 30, 64 << 20, 1 << 20, 65_535, 4096];
    for lie in lies {
        for at in 0..12 {
            for tail in [0usize, 40, 4000, 300_000] {
                let mut bytes = vec![1; at];
                bytes.put_varint(lie);
                bytes.resize(bytes.len() + tail, 1);
                assert_bounded(&bytes);
                bytes[0] = 0;
                assert_bounded(&bytes);
            }
        }
    }
    // The compressed envelope that promises most.
    let mut bytes = vec![1, 1];
    bytes.put_u32(1 << 20);
    bytes.resize(5000, 0xff);
    assert_bounded(&bytes);
}

#[test]
fn damaged_pages_make_no_room() {
    let mut leaf = LeafBuilder::default();
    let mut delta = DeltaBuilder::default();
    for n in 0..60u32 {
        let key = format!("key {n:05}{}", "y".repeat(n as usize % 5));
        leaf.push(key.as_bytes(), &LeafValue::Inline(&n.to_le_bytes()));
        delta.push(key.as_bytes(), (n % 3 > 0).then_some(&LeafValue::Inline(&n.to_le_bytes())));
    }
    for body in [leaf.finish(), delta.finish(Lsn(1), Lsn(2))] {
        for at in 0..body.len() {
            for value in [0x00, 0x7f, 0x80, 0xff, body[at] ^ 1] {
                let mut damaged = body.clone();
                damaged[at] = value;
                assert_bounded(&damaged);
            }
        }
    }
}

#[test]
fn verification_of_large_segments_holds_little() {
    let folder = tempfile::tempdir().unwrap();
    let disk = logwood_base::disk::probe::disk_named("plain").unwrap();
    let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    let beginning = Beginning {
        checkpoint_lsn: Lsn::ZERO,
        replay_from: Lsn::FIRST,
        log_durable_end: LogPosition::ZERO,
        engine_state: b"",
    };
    let store = Store::create(disk, folder.path(), identity, StoreOptions::default(), beginning).unwrap();
    let mut leaf = LeafBuilder::default();
    for n in 0..80u32 {
        let value: Vec<u8> = (0..100u32).map(|i| (i * i + n * 7) as u8).collect();
        leaf.push(&n.to_be_bytes(), &LeafValue::Inline(&value));
    }
    let body = leaf.finish();
    let label = Label { kind: PageKind::Leaf, level: 0, keyspace: KeyspaceId(1), low_key: b"" };
    let pages: Vec<_> = (0..2500).map(|_| store.append(Stream::Base, &label, &body).unwrap()).collect();
    store.seal_all().unwrap();
    let child = ChildEntry::of_image(pages[0], Lsn(1), logwood_base::digest::Digest::EMPTY);
    let tree = TreeEntry { keyspace: KeyspaceId(1), root: Some(Root { level: 0, child }) };
    let commit = Commit {
        checkpoint_lsn: Lsn(1),
        replay_from: Lsn(2),
        log_durable_end: LogPosition::ZERO,
        engine_state: b"",
        trees: vec![tree],
        detached: Vec::new(),
        unreached: &[],
        still_reached: &[],
    };
    store.commit(commit).unwrap();
    let mut verified = 0;
    let held = most_held(|| {
        let report = store.verify_files(&mut |damage| panic!("{damage:?}"), &mut |_| ()).unwrap();
        verified = report.bytes;
    });
    assert!(verified > 16 << 20, "{verified} bytes in two segments");
    assert!(held < 6 << 20, "{held} bytes held");
}
