//! Telling the processor which memory will be read soon.
//!
//! A hint: it changes nothing that a program can see, so a processor without one, or for which none is written here,
//! does nothing. `btree/src/tree/many.rs` says what it brings.
#![allow(unsafe_code)]

/// Bytes that the processor fetches at a time.
const LINE_BYTES: usize = 64;

/// Asks for `bytes` bytes from `address` on. The address may be anything.
#[inline]
pub(crate) fn prefetch(address: usize, bytes: usize) {
    for line in (0..bytes).step_by(LINE_BYTES) {
        prefetch_line(address.wrapping_add(line));
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn prefetch_line(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads nothing on behalf of the program and never faults, whatever the address is; every
    // x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn prefetch_line(_address: usize) {}
