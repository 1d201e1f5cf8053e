//! A leaf's one object in memory: counted references to a header with bytes behind it.
//!
//! ```text
//! bytes behind (4) | references (4) | header | bytes
//! ```
//!
//! The bytes never change once a reference was handed out.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use logwood_base::sync::atomic::{AtomicU32, Ordering, fence};

use super::arena;
use super::leaf::Header;

#[repr(C)]
struct Body {
    tail_bytes: u32,
    references: AtomicU32,
    header: Header,
}

const _: () = {
    const fn is_shared_and_sent<T: Send + Sync>() {}
    is_shared_and_sent::<Header>();
    assert!(align_of::<Body>() <= arena::ALIGNMENT, "objects of the arena are aligned for a body");
};

/// Bytes in front of those behind the header.
pub(super) const BODY_BYTES: usize = size_of::<Body>();

/// A counted reference.
#[repr(transparent)]
pub(super) struct Block(NonNull<Body>);

// SAFETY: what is behind the pointer is a header, which may be shared and sent (asserted above), and bytes that do not
// change.
unsafe impl Send for Block {}
// SAFETY: sharing a reference shares the same two things.
unsafe impl Sync for Block {}

impl Block {
    /// A header with `tail_bytes` bytes behind it, zeros at first, that `fill` may write.
    pub(super) fn new(header: Header, tail_bytes: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let length = u32::try_from(tail_bytes).expect("a batch, and so a leaf, is smaller than 4 GiB");
        let object = header.share.account().arena.take(BODY_BYTES + tail_bytes);
        let body = object.cast::<Body>();
        // SAFETY: the object is long enough, aligned to 64, and nobody else's.
        unsafe { body.write(Body { tail_bytes: length, references: AtomicU32::new(1), header }) };
        // SAFETY: so many bytes belong to the object behind the body.
        let tail = unsafe { object.add(BODY_BYTES) };
        // SAFETY: as above.
        unsafe { tail.write_bytes(0, tail_bytes) };
        let block = Self(body);
        // SAFETY: the bytes were just written, and no other reference to them exists before `new` returns.
        fill(unsafe { std::slice::from_raw_parts_mut(tail.as_ptr(), tail_bytes) });
        block
    }

    fn body(&self) -> &Body {
        // SAFETY: the reference is counted, so the body is there.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn header(&self) -> &Header {
        &self.body().header
    }

    /// The bytes behind the header.
    pub(super) fn tail(&self) -> &[u8] {
        // SAFETY: inside the object, or right behind it when there are no bytes.
        let tail = unsafe { self.0.cast::<u8>().add(BODY_BYTES) };
        // SAFETY: `new` wrote so many bytes there, and nobody writes them again.
        unsafe { std::slice::from_raw_parts(tail.as_ptr(), self.body().tail_bytes as usize) }
    }

    /// The address, which tells blocks apart and is aligned to 64. Gives the reference away.
    pub(super) fn into_raw(self) -> *mut () {
        let pointer = self.0.as_ptr().cast();
        std::mem::forget(self);
        pointer
    }

    /// The reference that [`Block::into_raw`] gave away.
    ///
    /// # Safety
    /// `pointer` came from `into_raw`, and its reference is taken back once.
    pub(super) unsafe fn from_raw(pointer: *mut ()) -> Self {
        // SAFETY: `into_raw` made it of a pointer that is not null.
        Self(unsafe { NonNull::new_unchecked(pointer.cast()) })
    }

    /// Whether both are references to one block.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Where it stands in memory.
    pub(super) fn address(&self) -> usize {
        self.0.addr().get()
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        let before = self.body().references.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "a leaf is referred to by few");
        Self(self.0)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.body().references.fetch_sub(1, Ordering::Release) > 1 {
            return;
        }
        // What others did with the block happened before it goes.
        fence(Ordering::Acquire);
        let account = Arc::clone(self.header().share.account());
        let bytes = BODY_BYTES + self.body().tail_bytes as usize;
        // SAFETY: this was the last reference.
        unsafe { self.0.drop_in_place() };
        // SAFETY: `new` took it with this length.
        unsafe { account.arena.give_back(self.0.cast(), bytes) };
    }
}
