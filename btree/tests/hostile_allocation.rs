//! No bytes make a decoder allocate without bound: at most twice the input and one MiB.

#![allow(unsafe_code)] // A counting allocator cannot be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use logwood_base::codec::{Reader, Writer};
use logwood_base::{Generation, Lsn, SegmentNo};
use logwood_btree::format::child::ChildEntry;
use logwood_btree::format::delta::{DeltaBuilder, DeltaReader};
use logwood_btree::format::inner::InnerReader;
use logwood_btree::format::leaf::{LeafBuilder, LeafReader, LeafValue};
use logwood_btree::format::manifest::Manifest;
use logwood_btree::format::overflow::OverflowRef;
use logwood_btree::format::page;
use logwood_btree::format::segment::{SegmentHeader, Trailer, read_index};

/// Counts what this thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that is going away has no counter any more: then nobody asks.
    let _ = HELD.try_with(|held| {
        let now = held.get().0 + bytes;
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `alloc` above, that is, from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at once beyond what was held before.
fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.get().0;
    HELD.set((before, before));
    work();
    (HELD.get().1 - before) as usize
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
