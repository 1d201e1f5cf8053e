//! Large pieces of memory, straight from the system.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Two mebibytes of zeroed memory, aligned to their size; given back when dropped.
///
/// Aligned so, the system can serve a region from one huge page: one entry of the processor's translation cache covers
/// what would take 512 small pages. The memory is taken when it is first touched.
///
/// ```
/// use logwood_base::memory::Region;
/// let region = Region::new(true);
/// assert_eq!(region.start().addr().get() % Region::BYTES, 0);
/// ```
pub struct Region(NonNull<u8>);

// SAFETY: a region is memory that belongs to whoever holds it; what its bytes mean is the holder's affair.
unsafe impl Send for Region {}

impl Region {
    /// Length and alignment.
    pub const BYTES: usize = 2 << 20;

    /// A new region. `huge` asks the system for a huge page; it may answer with small ones.
    ///
    /// # Panics
    /// Ends the process when the system has no memory, as the allocator does.
    #[must_use]
    pub fn new(huge: bool) -> Self {
        let whole = 2 * Self::BYTES;
        let fail = |_| handle_alloc_error(Layout::new::<[u8; Self::BYTES]>());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping, placed by the system, overlaps nothing.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, protection, MapFlags::PRIVATE) };
        let mapped = mapped.unwrap_or_else(fail).cast::<u8>();
        let before = mapped.align_offset(Self::BYTES);
        let behind = whole - before - Self::BYTES;
        // SAFETY: the first aligned address is inside the mapping, which is twice as long as the alignment.
        let start = unsafe { mapped.add(before) };
        if before > 0 {
            // SAFETY: the part of the mapping in front of the region; nobody uses it.
            let _ = unsafe { munmap(mapped.cast(), before) };
        }
        if behind > 0 {
            // SAFETY: still inside the mapping: the region is so long.
            let rest = unsafe { start.add(Self::BYTES) };
            // SAFETY: the part of the mapping behind the region; nobody uses it.
            let _ = unsafe { munmap(rest.cast(), behind) };
        }
        #[cfg(all(target_os = "linux", not(logwood_portable)))]
        if huge {
            // A refusal costs speed only.
            // SAFETY: advice about a mapping that this region owns.
            let _ =
                unsafe { rustix::mm::madvise(start.cast(), Self::BYTES, rustix::mm::Advice::LinuxHugepage) };
        }
        let _ = huge;
        Self(NonNull::new(start).expect("the system maps nothing at address 0"))
    }

    /// The first byte.
    #[must_use]
    pub const fn start(&self) -> NonNull<u8> {
        self.0
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `new` mapped so many bytes there; who used them has given them up with the region.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), Self::BYTES) };
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Region").field(&self.0).finish()
    }
}
