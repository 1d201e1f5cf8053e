//! Counts what a thread allocates, to hold that hostile input makes no more room than it deserves.
//!
//! The one counting allocator of the project: the fuzz targets link it, `hostile_allocation.rs` in `wal` and `btree` takes
//! this file in as a module of its own.
//!
//! The allocator of every binary that links this crate is the system's, with two counters per thread in front: bytes
//! held now, and the most that were held since [`peak`] began. Memory that another thread frees is counted wrongly;
//! the targets run on one thread.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What any input may cost besides twice its own length: 1 MiB.
pub const ALLOWANCE_BYTES: usize = 1 << 20;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every method hands its arguments to the system's allocator and its answer back, unchanged; counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `System` with this layout, since every allocation here does.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`; the caller promises that `size` is one that `layout`'s alignment admits.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work`, and answers besides its result the most bytes that it held at one time.
pub fn peak<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// Runs `work` over an input of so many bytes, and requires that it never held more than twice that and
/// [`ALLOWANCE_BYTES`].
pub fn bounded<R>(what: &str, input_bytes: usize, work: impl FnOnce() -> R) -> R {
    let (result, bytes) = peak(work);
    let bound = 2 * input_bytes + ALLOWANCE_BYTES;
    assert!(bytes <= bound, "{what} held {bytes} bytes over an input of {input_bytes}, more than {bound}");
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_what_is_held_at_one_time() {
        let ((), bytes) = peak(|| {
            drop(vec![1u8; 300_000]);
            drop(vec![1u8; 200_000]);
        });
        assert!((300_000..310_000).contains(&bytes), "{bytes}");
        let ((), bytes) = peak(|| {
            let mut grown: Vec<u8> = Vec::with_capacity(1000);
            grown.reserve_exact(50_000);
        });
        assert!((50_000..60_000).contains(&bytes), "{bytes}");
    }

    #[test]
    #[should_panic(expected = "more than")]
    fn too_much_room_fails() {
        bounded("a test", 10, || drop(vec![0u8; 2 << 20]));
    }
}
