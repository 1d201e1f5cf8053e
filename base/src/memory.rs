//! Large pieces of memory, straight from the system.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
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

/// Zeroed memory of any length, on a page boundary. The system has it back the moment it is dropped; an allocator may keep what
/// it is given back for a while, and several such pieces then. The memory is taken when it is first touched.
///
/// ```
/// use logwood_base::memory::Mapping;
/// let mut mapping = Mapping::new(10_000);
/// mapping[9_999] = 7;
/// assert_eq!((mapping.len(), mapping[0]), (10_000, 0));
/// ```
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is memory that belongs to whoever holds it.
unsafe impl Send for Mapping {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `bytes` zeros, at least one.
    ///
    /// # Panics
    /// Ends the process when the system has no memory, as the allocator does; panics for more than half of the address space.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.max(1);
        let layout = Layout::array::<u8>(bytes).expect("less than half of the address space");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping, placed by the system, overlaps nothing.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) };
        let mapped = mapped.unwrap_or_else(|_| handle_alloc_error(layout)).cast::<u8>();
        Self { start: NonNull::new(mapped).expect("the system maps nothing at address 0"), bytes }
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` mapped so many bytes there, zeroed, and nobody writes them while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped so many bytes there; no borrow of them outlives the mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
