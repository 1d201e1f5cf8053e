//! A child word: one atomic pointer to a leaf, an inner node, or the address of a page that is not in memory.
//!
//! ```text
//! pointer, its low bits: 0–1 kind (1 leaf, 2 inner, 3 cold), 2 frozen
//! ```
//!
//! Rules:
//! 1. A slot owns one counted reference to its child, unless it is frozen: then the reference moved to another slot,
//!    and the word stays only for readers that still stand on the old inner node.
//! 2. Only the holder of the writer's lock replaces or freezes. Anybody may *install* a loaded page in the place of
//!    its cold word; that fails once the word changed or is frozen.
//! 3. What leaves a slot is dropped only after a grace period, because readers may stand on it.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{AtomicPtr, Ordering};

use super::Cold;
use super::inner::Inner;
use super::leaf::Leaf;
use super::prefetch::prefetch;

const LEAF: usize = 1;
const INNER: usize = 2;
const COLD: usize = 3;
const KIND: usize = 3;
const FROZEN: usize = 4;

const _: () = {
    assert!(
        align_of::<Inner>() > FROZEN,
        "the low three bits of an address are free; leaves are aligned to 64"
    );
    assert!(align_of::<Cold>() > FROZEN);
};

/// A child with the reference that keeps it alive.
pub(crate) enum Node {
    /// In memory.
    Leaf(Leaf),
    /// In memory.
    Inner(Arc<Inner>),
    /// On disk.
    Cold(Arc<Cold>),
}

impl Node {
    /// The tagged word that owns the reference.
    fn into_word(self) -> *mut () {
        let (pointer, kind): (*mut (), usize) = match self {
            Self::Leaf(leaf) => (leaf.into_raw(), LEAF),
            Self::Inner(inner) => (Arc::into_raw(inner).cast_mut().cast(), INNER),
            Self::Cold(cold) => (Arc::into_raw(cold).cast_mut().cast(), COLD),
        };
        debug_assert!(pointer.addr() & (KIND | FROZEN) == 0, "nodes are aligned to eight bytes");
        pointer.map_addr(|address| address | kind)
    }

    /// The reference that [`Node::into_word`] gave away.
    ///
    /// # Safety
    /// `word` came from `into_word`, frozen or not, its reference has not been taken back, and is taken back once.
    unsafe fn from_word(word: *mut ()) -> Self {
        let pointer = word.map_addr(|address| address & !(KIND | FROZEN));
        match word.addr() & KIND {
            // SAFETY: the tag says that `into_word` made the word of a leaf's pointer; the caller owns the reference.
            LEAF => Self::Leaf(unsafe { Leaf::from_raw(pointer) }),
            // SAFETY: as above, of an inner node's pointer.
            INNER => Self::Inner(unsafe { Arc::from_raw(pointer.cast_const().cast()) }),
            // SAFETY: as above, of a cold entry's pointer.
            _ => Self::Cold(unsafe { Arc::from_raw(pointer.cast_const().cast()) }),
        }
    }

    /// Drops the reference when no reader that is pinned now is left.
    pub(crate) fn retire(self, guard: &Guard) {
        if let Self::Inner(inner) = &self {
            inner.retire();
        }
        guard.defer(move || drop(self));
    }
}

/// A child that cannot go away while the guard lives. Reading through it touches no count.
pub(crate) struct Seen<'g> {
    node: ManuallyDrop<Node>,
    word: *mut (),
    guard: PhantomData<&'g Guard>,
}

impl Deref for Seen<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl<'g> Seen<'g> {
    /// The inner node, if it is one, for as long as the guard lives.
    pub(crate) fn inner(&self) -> Option<&'g Inner> {
        match &*self.node {
            // SAFETY: the node stays alive while the guard of 'g lives, whatever becomes of this view of it.
            Node::Inner(inner) => Some(unsafe { &*Arc::as_ptr(inner) }),
            _ => None,
        }
    }

    /// The leaf, if it is one in memory.
    pub(crate) fn leaf(&self) -> Option<&Leaf> {
        match &*self.node {
            Node::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }
}

impl Seen<'_> {
    /// Asks for the memory in which a search of the node begins.
    pub(crate) fn prefetch(&self) {
        match &*self.node {
            Node::Leaf(leaf) => leaf.prefetch(),
            Node::Inner(inner) => prefetch(Arc::as_ptr(inner).addr(), size_of::<Inner>()),
            Node::Cold(_) => {}
        }
    }
}

/// One child word.
pub(crate) struct Slot(AtomicPtr<()>);

impl Slot {
    /// A slot that owns `node`.
    pub(crate) fn new(node: Node) -> Self {
        Self(AtomicPtr::new(node.into_word()))
    }

    /// The child now.
    pub(crate) fn load<'g>(&self, _guard: &'g Guard) -> Seen<'g> {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the slot, or after freezing another one, owns a reference to the child, and gives it up only
        // through `Node::retire`, which waits for `_guard`. `ManuallyDrop` never drops this second view of it.
        let node = ManuallyDrop::new(unsafe { Node::from_word(word) });
        Seen { node, word, guard: PhantomData }
    }

    /// Puts another child in. Only the holder of the writer's lock; nobody freezes the slot meanwhile.
    pub(crate) fn replace(&self, node: Node, guard: &Guard) {
        let old = self.0.swap(node.into_word(), Ordering::AcqRel);
        assert!(old.addr() & FROZEN == 0, "a frozen slot is never written again");
        // SAFETY: the swap moved the slot's own reference out, once; readers of it are waited for.
        unsafe { Node::from_word(old) }.retire(guard);
    }

    /// Puts a loaded node in the place of the cold word that it was loaded from. Answers false, and drops `node`,
    /// when the word is another by now.
    pub(crate) fn install(&self, cold: &Seen<'_>, node: Node, guard: &Guard) -> bool {
        debug_assert!(matches!(**cold, Node::Cold(_)), "only cold words are loaded");
        let word = node.into_word();
        let expected = cold.word.map_addr(|address| address & !FROZEN);
        match self.0.compare_exchange(expected, word, Ordering::AcqRel, Ordering::Acquire) {
            Ok(old) => {
                // SAFETY: the exchange moved the slot's own reference out, once.
                unsafe { Node::from_word(old) }.retire(guard);
                true
            }
            Err(_) => {
                // SAFETY: `word` was made above and nobody else has seen it.
                drop(unsafe { Node::from_word(word) });
                false
            }
        }
    }

    /// Takes the child for another slot. The word stays readable and is never written again.
    pub(crate) fn freeze(&self) -> Node {
        // `fetch_or` does not exist for pointers that keep their provenance.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            assert!(word.addr() & FROZEN == 0, "a slot is frozen once");
            let frozen = word.map_addr(|address| address | FROZEN);
            match self.0.compare_exchange_weak(word, frozen, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: from here on the frozen bit says that the slot does not own the reference.
                Ok(_) => return unsafe { Node::from_word(word) },
                Err(now) => word = now,
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let word = self.0.load(Ordering::Relaxed);
        if word.addr() & FROZEN == 0 {
            // SAFETY: an unfrozen slot owns its child, and `&mut self` shows that nobody looks at it any more.
            drop(unsafe { Node::from_word(word) });
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.0.load(Ordering::Relaxed).addr()).finish()
    }
}
