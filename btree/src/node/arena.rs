//! Memory for leaves, out of regions of huge pages.
//!
//! A leaf is rebuilt for every few changes and is of any length, so its memory is taken and given back all the time.
//! General allocators keep such objects apart by size: when the sizes in use change, as they do while a tree grows,
//! most of what they hold lies idle. Here a gap joins the gaps around it, and the smallest gap that fits is taken:
//! best fit with coalescing by boundary tags (Knuth, The Art of Computer Programming, volume 1, section 2.5; gaps in
//! lists by size with a bitmap over them as in Masmano et al., TLSF, ECRTS 2004).
//!
//! ```text
//! region: 2 MiB, aligned, one huge page where the system has them; 8,192 granules of 256 bytes
//!   number of the region | object or gap | object or gap | …
//! tags, one a granule, beside the region: how long the object or gap is that begins (a gap: or ends) there
//! ```
//!
//! - What is larger than 512 KiB comes from the system's allocator.
//! - A region without objects goes back to the system, if another one is as good as empty.
//! - The first region does not ask for huge pages: a small database takes only what it touches.
//!
//! Invariants:
//! 1. The first granule of a region holds its number, and is part of no object.
//! 2. Behind it, objects and gaps lie without a space between them, and never two gaps beside each other.
//! 3. The tag of an object's or a gap's first granule is its length; a gap's has the bit `GAP` and stands at its last
//!    granule too. The tag of an object's last granule, when it is another one, is 0.
//! 4. A gap stands in the list of its length, once.
//!
//! `--cfg logwood_plain_memory` takes every object from the system's allocator, so that the address sanitizer sees
//! each of them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
// Not the explored lock: no thread waits for another one inside it, so no interleaving of it is worth exploring.
use std::sync::{Mutex, MutexGuard, PoisonError};

use logwood_base::memory::Region;

const GRANULE_BYTES: usize = 256;
const GRANULES: usize = Region::BYTES / GRANULE_BYTES;
const OBJECT_GRANULES_MAX: usize = GRANULES / 4;
/// Gaps up to so many granules have a list for each length; longer ones share lists, [`STEPS`] a doubling.
const EXACT: usize = 64;
const STEPS: usize = 8;
const LISTS: usize = EXACT + STEPS * (GRANULES / EXACT).ilog2() as usize;
const GAP: u16 = 1 << 15;
/// Bytes to whose multiple every object is aligned.
pub(super) const ALIGNMENT: usize = 64;
/// The end of a list.
const NONE: Place = Place(u32::MAX);

const _: () =
    assert!(LISTS <= u128::BITS as usize && GRANULES <= 1 << 13 && align_of::<Links>() <= GRANULE_BYTES);

/// Memory for the leaves of one forest.
pub(crate) struct Arena(Mutex<State>);

struct State {
    regions: Vec<Option<Tagged>>,
    /// Numbers of regions that went back.
    unused: Vec<usize>,
    /// The first gap of each list.
    lists: [Place; LISTS],
    /// Which lists are not empty.
    filled: u128,
    held_bytes: usize,
    taken_bytes: usize,
}

/// A region with its tags.
struct Tagged {
    region: Region,
    tags: Box<[u16]>,
}

/// A granule: number of the region, and of the granule in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(u32);

/// What stands in the memory of a gap: its neighbours in their list.
#[derive(Clone, Copy)]
struct Links {
    before: Place,
    next: Place,
}

impl Place {
    fn new(region: usize, granule: usize) -> Self {
        Self((region * GRANULES + granule) as u32)
    }

    const fn region(self) -> usize {
        self.0 as usize / GRANULES
    }

    const fn granule(self) -> usize {
        self.0 as usize % GRANULES
    }
}

/// The list of gaps of a length.
const fn list_of(granules: usize) -> usize {
    if granules <= EXACT {
        return granules - 1;
    }
    let doubling = (granules - 1).ilog2() as usize;
    EXACT + (doubling - EXACT.ilog2() as usize) * STEPS + ((granules - 1 - (1 << doubling)) >> (doubling - 3))
}

/// The granules of an object, if it is not for the system.
fn granules_of(bytes: usize) -> Option<usize> {
    let granules = bytes.div_ceil(GRANULE_BYTES).max(1);
    (granules <= OBJECT_GRANULES_MAX && !cfg!(logwood_plain_memory)).then_some(granules)
}

/// What an object of so many bytes takes.
pub(crate) const fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(GRANULE_BYTES)
}

fn system_layout(bytes: usize) -> Layout {
    let bytes = bytes.max(1);
    Layout::from_size_align(bytes, ALIGNMENT).expect("no node is larger than half of the address space")
}

impl Arena {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for an object of `bytes` bytes, aligned to 64, with anything in it. It goes back by
    /// [`Arena::give_back`], before the arena is dropped.
    pub(crate) fn take(&self, bytes: usize) -> NonNull<u8> {
        if let Some(granules) = granules_of(bytes) {
            return self.state().take(granules);
        }
        let layout = system_layout(bytes);
        // SAFETY: the layout has a size.
        let object = unsafe { alloc(layout) };
        let object = NonNull::new(object).unwrap_or_else(|| handle_alloc_error(layout));
        let mut state = self.state();
        state.held_bytes += layout.size();
        state.taken_bytes += layout.size();
        object
    }

    /// Gives an object back.
    ///
    /// # Safety
    /// `object` came from [`Arena::take`] of this arena with the same `bytes`, and is used no more.
    pub(crate) unsafe fn give_back(&self, object: NonNull<u8>, bytes: usize) {
        if let Some(granules) = granules_of(bytes) {
            #[cfg(debug_assertions)]
            // SAFETY: the caller says that the object is used no more, and it has this size.
            unsafe {
                object.write_bytes(0xdd, granules * GRANULE_BYTES);
            }
            let start = object.as_ptr().map_addr(|address| address & !(Region::BYTES - 1));
            // SAFETY: the object's region begins there, with its number, which is never written again.
            let region = unsafe { start.cast::<u32>().read() } as usize;
            let granule = (object.addr().get() - start.addr()) / GRANULE_BYTES;
            self.state().give_back(Place::new(region, granule), granules);
            return;
        }
        let layout = system_layout(bytes);
        // SAFETY: `take` allocated it with this layout.
        unsafe { dealloc(object.as_ptr(), layout) };
        let mut state = self.state();
        state.held_bytes -= layout.size();
        state.taken_bytes -= layout.size();
    }

    /// Bytes that the arena holds from the system.
    pub(crate) fn held_bytes(&self) -> usize {
        self.state().held_bytes
    }
}

impl State {
    fn tagged(&mut self, place: Place) -> &mut Tagged {
        self.regions[place.region()].as_mut().expect("a region with objects or gaps is there")
    }

    fn tag(&mut self, place: Place) -> &mut u16 {
        &mut self.tagged(place).tags[place.granule()]
    }

    fn address(&mut self, place: Place) -> NonNull<u8> {
        let start = self.tagged(place).region.start();
        // SAFETY: the granule is one of the region's.
        unsafe { start.add(place.granule() * GRANULE_BYTES) }
    }

    /// The links of a gap. Only of one that stands in a list, or is about to.
    fn links(&mut self, gap: Place) -> &mut Links {
        // SAFETY: nobody but this state uses the memory of a gap, and `add_gap` writes the links first of all.
        unsafe { self.address(gap).cast().as_mut() }
    }

    fn take(&mut self, granules: usize) -> NonNull<u8> {
        self.taken_bytes += granules * GRANULE_BYTES;
        let exact = list_of(granules);
        // In lists that lengths share, only those behind are sure to fit.
        let from = if granules <= EXACT { exact } else { exact + 1 };
        if self.filled >> from == 0 {
            self.add_region();
        }
        let list = from + (self.filled >> from).trailing_zeros() as usize;
        let place = self.lists[list];
        let length = usize::from(*self.tag(place) & !GAP);
        self.remove_gap(place, length);
        *self.tag(place) = granules as u16;
        if granules > 1 {
            *self.tag(Place(place.0 + granules as u32 - 1)) = 0;
        }
        if length > granules {
            self.add_gap(Place(place.0 + granules as u32), length - granules);
        }
        self.address(place)
    }

    fn give_back(&mut self, object: Place, granules: usize) {
        self.taken_bytes -= granules * GRANULE_BYTES;
        assert_eq!(usize::from(*self.tag(object)), granules, "an object goes back as it was taken");
        let (mut start, mut length) = (object, granules);
        let behind = object.granule() + granules;
        if behind < GRANULES {
            let next = Place(object.0 + granules as u32);
            let tag = *self.tag(next);
            if tag & GAP != 0 {
                self.remove_gap(next, usize::from(tag & !GAP));
                length += usize::from(tag & !GAP);
            }
        }
        let tag = *self.tag(Place(object.0 - 1));
        if tag & GAP != 0 {
            start = Place(object.0 - u32::from(tag & !GAP));
            self.remove_gap(start, usize::from(tag & !GAP));
            length += usize::from(tag & !GAP);
        }
        if length == GRANULES - 1 && self.lists[list_of(length)] != NONE {
            self.remove_region(start.region());
        } else {
            self.add_gap(start, length);
        }
    }

    fn add_gap(&mut self, gap: Place, length: usize) {
        *self.tag(gap) = GAP | length as u16;
        *self.tag(Place(gap.0 + length as u32 - 1)) = GAP | length as u16;
        let list = list_of(length);
        let next = self.lists[list];
        let links = self.address(gap).cast();
        // SAFETY: the granule is nobody's, long enough for links and aligned.
        unsafe { links.write(Links { before: NONE, next }) };
        if next != NONE {
            self.links(next).before = gap;
        }
        self.lists[list] = gap;
        self.filled |= 1 << list;
    }

    fn remove_gap(&mut self, gap: Place, length: usize) {
        let list = list_of(length);
        let Links { before, next } = *self.links(gap);
        if next != NONE {
            self.links(next).before = before;
        }
        if before != NONE {
            self.links(before).next = next;
        } else {
            self.lists[list] = next;
            if next == NONE {
                self.filled &= !(1 << list);
            }
        }
    }

    fn add_region(&mut self) {
        let region = Region::new(self.regions.iter().any(Option::is_some));
        let number = self.unused.pop().unwrap_or(self.regions.len());
        assert!(number < (u32::MAX as usize) / GRANULES, "no forest has a tebibyte of memory");
        // SAFETY: the region was just made, and is aligned.
        unsafe { region.start().cast::<u32>().write(number as u32) };
        // The first granule counts as an object of its own, which never goes back.
        let tagged = Tagged { region, tags: vec![1; GRANULES].into_boxed_slice() };
        match self.regions.get_mut(number) {
            Some(unused) => *unused = Some(tagged),
            None => self.regions.push(Some(tagged)),
        }
        self.held_bytes += Region::BYTES;
        self.add_gap(Place::new(number, 1), GRANULES - 1);
    }

    /// Gives a region back, of which nothing is taken and no gap stands in a list.
    fn remove_region(&mut self, number: usize) {
        self.regions[number] = None;
        self.unused.push(number);
        self.held_bytes -= Region::BYTES;
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self(Mutex::new(State {
            regions: Vec::new(),
            unused: Vec::new(),
            lists: [NONE; LISTS],
            filled: 0,
            held_bytes: 0,
            taken_bytes: 0,
        }))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        debug_assert_eq!(self.state().taken_bytes, 0, "every object goes back before its arena goes");
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Arena")
            .field("held_bytes", &state.held_bytes)
            .field("taken_bytes", &state.taken_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_the_lengths_that_stand_in_them() {
        let mut before = 0;
        for granules in 1..GRANULES {
            let list = list_of(granules);
            assert!(list == before || list == before + 1, "{granules} granules: {list} behind {before}");
            before = list;
        }
        assert_eq!(before + 1, LISTS);
    }

    /// Invariants 2 to 4.
    fn check(state: &mut State) {
        let mut gaps = 0;
        for number in 0..state.regions.len() {
            let Some(tagged) = &state.regions[number] else { continue };
            let (mut at, mut behind_gap) = (1, false);
            while at < GRANULES {
                let tag = tagged.tags[at];
                let length = usize::from(tag & !GAP);
                let is_gap = tag & GAP != 0;
                let last = tagged.tags[at + length - 1];
                assert!(!(is_gap && behind_gap), "two gaps beside each other");
                assert!(if is_gap { last == tag } else { length == 1 || last == 0 });
                gaps += usize::from(is_gap);
                behind_gap = is_gap;
                at += length;
            }
            assert_eq!(at, GRANULES);
        }
        let mut listed = 0;
        for list in 0..LISTS {
            let (mut gap, mut before) = (state.lists[list], NONE);
            assert_eq!(gap != NONE, state.filled & (1 << list) != 0);
            while gap != NONE {
                assert_eq!(list_of(usize::from(*state.tag(gap) & !GAP)), list);
                let links = *state.links(gap);
                assert_eq!(links.before, before);
                (before, gap) = (gap, links.next);
                listed += 1;
            }
        }
        assert_eq!(listed, gaps);
    }

    #[test]
    fn objects_keep_what_is_written_into_them_and_memory_comes_back() {
        let arena = Arena::default();
        let mut rng = fastrand::Rng::with_seed(8);
        let mut taken: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
        let mut most = 0;
        for round in 0..60_000 {
            let growing = (round / 10_000) % 2 == 0;
            if growing == (rng.u8(0..4) > 0) {
                let bytes = match rng.u16(0..200) {
                    0 => rng.usize(1..2_000_000),
                    1..20 => rng.usize(1..100_000),
                    20..100 => rng.usize(1..600),
                    _ => rng.usize(4_000..9_000),
                };
                let mark = rng.u8(..);
                let object = arena.take(bytes);
                assert_eq!(object.addr().get() % ALIGNMENT, 0);
                // SAFETY: the object is so long and belongs to this test.
                unsafe { object.write_bytes(mark, bytes) };
                taken.push((object, bytes, mark));
            } else if !taken.is_empty() {
                let (object, bytes, mark) = taken.swap_remove(rng.usize(0..taken.len()));
                // SAFETY: it was written whole, and nobody else has it.
                let content = unsafe { std::slice::from_raw_parts(object.as_ptr(), bytes) };
                assert!(content.iter().all(|byte| *byte == mark), "another object was written over this one");
                // SAFETY: taken with this size, and forgotten here.
                unsafe { arena.give_back(object, bytes) };
            }
            most = most.max(arena.held_bytes());
            if round % 5_000 == 0 {
                check(&mut arena.state());
            }
        }
        for (object, bytes, _) in taken {
            // SAFETY: as above.
            unsafe { arena.give_back(object, bytes) };
        }
        check(&mut arena.state());
        assert!(most > 8 * Region::BYTES || cfg!(logwood_plain_memory), "the test filled regions: {most}");
        assert!(arena.held_bytes() <= Region::BYTES, "{} bytes stayed", arena.held_bytes());
    }
}
