//! Live bytes, pins and holds, and which segments the cleaner should empty.
//!
//! Space accounting is stored in the manifest and carried on from there: it is never rebuilt by a walk. A segment's
//! live bytes are the stored bytes of its pages that a tree reaches. [`Store::append`] adds, [`Store::retire`]
//! takes away, and [`Commit`](super::Commit) carries the difference between what the trees reach in memory and what
//! the committed trees reach.
//!
//! Victims are the emptiest first: they give back the most space for the least writing. In a simulation of random
//! updates, taking the oldest first moved about four times as many bytes.

use logwood_base::SegmentNo;
use smallvec::SmallVec;

use super::{DeadSegment, PageRef, SegmentState, State, Store, Stream};

/// Keeps the files of segments that were alive when it was taken, for a reader of an older state of the trees.
///
/// Taking and dropping one costs a lock: cold reads and snapshots take them, cached reads do not need any.
#[derive(Debug)]
pub struct Pin {
    store: Store,
    tick: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.store.inner.state.lock();
        let count = state.pins.get_mut(&self.tick).expect("a pin is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            state.pins.remove(&self.tick);
        }
    }
}

/// Keeps the files of the segments that some pages stand in, for whoever refers to those pages: a long value in memory
/// keeps the place where it stands on disk.
///
/// Unlike a [`Pin`] it keeps nothing else, so it may live for as long as it likes. It is taken while the pages cannot go:
/// under a pin, or while a tree reaches them and the writer's lock is held.
#[derive(Debug)]
pub struct Hold {
    store: Store,
    segments: SmallVec<[SegmentNo; 2]>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.store.inner.state.lock();
        for number in &self.segments {
            let count = state.holds.get_mut(number).expect("a hold is counted until it is dropped");
            *count -= 1;
            if *count == 0 {
                state.holds.remove(number);
            }
        }
    }
}

/// How much of a segment may be alive, in percent, for it to be worth emptying. It differs by stream because emptying
/// does: an image costs about its own length, a delta block the image of its leaf, which is many times as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivePercent {
    /// Of segments with images and long values.
    pub images: u32,
    /// Of segments with delta blocks.
    pub deltas: u32,
}

/// What the store holds, in bytes and numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreStatistics {
    /// Segments that hold pages of a tree, sealed ones only.
    pub segments: u64,
    /// Length of their files.
    pub total_bytes: u64,
    /// Stored bytes of the pages that trees reach, in sealed and open segments.
    pub live_bytes: u64,
    /// Bytes of open segments and abandoned ones, in memory.
    pub open_bytes: u64,
    /// Segments whose writing failed and whose pages wait to be written again.
    pub abandoned_segments: u64,
    /// Files that hold no page of a tree and wait for older generations, pins or holders to go.
    pub waiting_segments: u64,
    /// Length of those files.
    pub waiting_bytes: u64,
    /// The newest durable generation.
    pub generation: u64,
}

impl State {
    /// Takes the bytes of a page off its segment. A segment without live bytes dies, once it is sealed.
    ///
    /// # Panics
    /// When pages are retired twice: going on would end in removing a file that a tree still needs.
    fn retire(&mut self, page: &PageRef) {
        let number = page.addr.segment;
        if self.forgotten.contains(&number) {
            return;
        }
        let segment = self.segments.get_mut(&number);
        let segment = segment.unwrap_or_else(|| panic!("page {} is retired from a dead segment", page.addr));
        let live = segment.live_bytes.checked_sub(u64::from(page.bytes));
        segment.live_bytes = live.unwrap_or_else(|| panic!("page {} is retired twice", page.addr));
        if segment.live_bytes == 0 && segment.sealed.is_some() {
            self.bury(number);
        }
    }

    /// Moves a sealed segment that nothing reaches to the dead.
    pub(super) fn bury(&mut self, number: SegmentNo) {
        if let Some(SegmentState { stream, sealed: Some(sealed), .. }) = self.segments.remove(&number) {
            self.dead.insert(number, DeadSegment { stream, sealed, tick: self.tick });
            self.tick += 1;
        }
    }

    /// Whether somebody may still follow an old address into a segment that died at `tick`.
    pub(super) fn is_kept(&self, number: SegmentNo, tick: u64) -> bool {
        self.holds.contains_key(&number)
            || self.pins.first_key_value().is_some_and(|(oldest, _)| *oldest <= tick)
    }
}

impl Store {
    /// Says that no tree reaches the page any more: what was read from it in memory has replaced it, or it was
    /// deleted. Takes effect with the next manifest. Readers that may still follow the address hold a [`Pin`].
    ///
    /// # Panics
    /// When it shows that pages were retired twice, a bug that would end in removing a file that is needed.
    pub fn retire(&self, page: &PageRef) {
        self.inner.state.lock().retire(page);
    }

    /// Keeps every file that a tree reaches now, or reached when an older pin was taken, until it is dropped.
    #[must_use]
    pub fn pin(&self) -> Pin {
        let mut state = self.inner.state.lock();
        let tick = state.tick;
        *state.pins.entry(tick).or_default() += 1;
        Pin { store: self.clone(), tick }
    }

    /// Keeps the files that these pages stand in until the answer is dropped.
    #[must_use]
    pub fn hold(&self, pages: &[PageRef]) -> Hold {
        let mut segments: SmallVec<[SegmentNo; 2]> = pages.iter().map(|page| page.addr.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        let mut state = self.inner.state.lock();
        for number in &segments {
            *state.holds.entry(*number).or_default() += 1;
        }
        Hold { store: self.clone(), segments }
    }

    /// Sealed segments that are worth emptying: the emptiest first, at most `count`, none with more of its bytes alive
    /// than `most` says for its stream, in percent.
    #[must_use]
    pub fn victims(&self, count: usize, most: LivePercent) -> Vec<SegmentNo> {
        let state = self.inner.state.lock();
        let mut candidates: Vec<(u64, SegmentNo)> = state
            .segments
            .iter()
            .filter_map(|(number, segment)| {
                let bytes = u64::from(segment.sealed?.bytes);
                let most = if segment.stream == Stream::Delta { most.deltas } else { most.images };
                let fits = segment.live_bytes * 100 <= bytes * u64::from(most);
                // Live parts per million: integers, so that the order is the same everywhere.
                fits.then(|| (segment.live_bytes * 1_000_000 / bytes, *number))
            })
            .collect();
        candidates.sort_unstable();
        candidates.into_iter().take(count).map(|(_, number)| number).collect()
    }

    /// Live bytes per segment as the store counts them, for a verification that has counted them by a walk.
    #[must_use]
    pub fn live_bytes(&self) -> Vec<(SegmentNo, u64)> {
        let state = self.inner.state.lock();
        state.segments.iter().map(|(number, segment)| (*number, segment.live_bytes)).collect()
    }

    /// What the store holds.
    #[must_use]
    pub fn statistics(&self) -> StoreStatistics {
        let open_bytes: u64 = {
            let images = self.inner.images.read();
            images.values().map(|image| image.bytes.read().len() as u64).sum()
        };
        let state = self.inner.state.lock();
        let sealed = state.segments.values().filter_map(|segment| segment.sealed);
        StoreStatistics {
            segments: sealed.clone().count() as u64,
            total_bytes: sealed.map(|sealed| u64::from(sealed.bytes)).sum(),
            live_bytes: state.segments.values().map(|segment| segment.live_bytes).sum(),
            open_bytes,
            abandoned_segments: state.abandoned.len() as u64,
            waiting_segments: state.dead.len() as u64,
            waiting_bytes: state.dead.values().map(|dead| u64::from(dead.sealed.bytes)).sum(),
            generation: state.current.generation.get(),
        }
    }
}
