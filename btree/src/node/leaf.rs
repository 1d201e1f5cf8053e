//! The memory form of a leaf.
//!
//! One allocation holds a header and an immutable *base*: records sorted by key.
//!
//! ```text
//! header | common prefix | heads, 4 bytes each | offsets, 4 bytes each, one more than records | records
//! ```
//!
//! - All keys share the prefix; records keep only what follows it.
//! - When all keys are of one length and all values too (*fixed*), there are no offsets, and a record is key suffix
//!   and value, found by multiplication. Otherwise a record begins with the length of its suffix (2 bytes).
//! - A long value that is on disk takes no bytes here: the header says which records have one, and where it stands.
//! - The delta area stands in the header; its entries hang beside the base, made at the first change.
//!
//! Invariants:
//! 1. The base never changes. Its newest change is `base_lsn`; changes in the delta area are not older.
//! 2. A reader at V uses this version if `base_lsn` ≤ V, else the older version that `prev` names for its key.
//! 3. The image, when there is one, is the disk form of this leaf as it was before its first change above the image's
//!    LSN; *clean* means that there was none.
//! 4. Of the leaves in memory, the one that serves the newest state has all overflow pages that its image and the long values
//!    of that state stand in, and no other leaf has them: see `docs/format/pages.md`.

use std::cmp::Ordering;
use std::sync::Arc;

use logwood_base::Lsn;
use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::Image;
use super::arena;
use super::block::{BODY_BYTES, Block};
use super::content::{Content, record_cost};
use super::delta::DeltaArea;
use super::overflow::{OverflowValue, RecordValue};
use super::plan::Plan;
use super::prefetch::prefetch;
use super::search::{self, Head};
use super::view::ViewRecord;
use crate::account::{Account, Class, Share};
use crate::format::child::ChildEntry;
use crate::store::PageRef;
use crate::version::Previous;
use crate::version::cell::EpochCell;

/// What [`Leaf::prefetch`] asks for: the header up to its delta area, and about as many heads as a leaf of short records
/// has; of a long value no more than its beginning.
const SEARCHED_HEADER_BYTES: usize = 128;
const SEARCHED_TAIL_BYTES: usize = 256;
const RECORD_BYTES: usize = 256;

/// A counted reference to a leaf. References that readers can follow are dropped only after a grace period.
#[derive(Clone)]
#[repr(transparent)]
pub(crate) struct Leaf(Block);

/// Everything about a leaf but its base. What every read touches stands first.
#[repr(C)]
pub(crate) struct Header {
    base_lsn: Lsn,
    records: u32,
    prefix_bytes: u32,
    shape: Shape,
    delta: DeltaArea,
    /// Records whose values stand elsewhere, in order.
    overflow: Box<[(u32, Arc<OverflowValue>)]>,
    /// Set by readers when clear, cleared by the eviction's clock.
    referenced: AtomicBool,
    /// Whether `image` is the whole truth about this leaf.
    clean: AtomicBool,
    /// Older versions, for readers below `base_lsn`.
    pub(crate) prev: EpochCell<Previous>,
    /// From which LSN on another version serves; `u64::MAX` while this one does.
    superseded_at: AtomicU64,
    pub(crate) share: Share,
    on_disk: Mutex<Option<Box<OnDisk>>>,
}

/// What of the disk belongs to a leaf.
#[derive(Default)]
struct OnDisk {
    /// Its image, with delta blocks.
    entry: Option<ChildEntry>,
    /// The pages of long values: all that the image reaches, and those that the leaf took over from the one before it.
    overflow: Vec<PageRef>,
}

impl OnDisk {
    fn pages(&self) -> impl Iterator<Item = &PageRef> {
        self.entry.iter().flat_map(ChildEntry::pages).chain(&self.overflow)
    }
}

/// How records are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// Every record is so many bytes of key suffix and so many of value.
    Fixed { suffix: u32, value: u32 },
    /// Records are found by offsets.
    Variable,
}

/// Key, or suffix of a key, and value.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);

impl Leaf {
    /// Builds a leaf.
    pub(crate) fn build(
        content: &Content<'_>,
        base_lsn: Lsn,
        prev: Option<Previous>,
        account: &Arc<Account>,
    ) -> Self {
        let plan = Plan::of(content);
        let taken_over: Vec<PageRef> =
            plan.overflow.iter().flat_map(|(_, value)| value.place().extents.clone()).collect();
        let on_disk =
            (!taken_over.is_empty()).then(|| Box::new(OnDisk { entry: None, overflow: taken_over }));
        let beside: usize = plan.overflow.iter().map(|(_, value)| value.memory_bytes()).sum();
        let header = Header {
            base_lsn,
            records: plan.records as u32,
            prefix_bytes: plan.prefix.len() as u32,
            shape: plan.shape,
            delta: DeltaArea::new(),
            referenced: AtomicBool::new(true),
            clean: AtomicBool::new(false),
            prev: EpochCell::new(prev),
            superseded_at: AtomicU64::new(u64::MAX),
            on_disk: Mutex::new(on_disk),
            share: Share::new(account, arena::rounded(BODY_BYTES + plan.bytes()) + beside),
            overflow: plan.overflow.clone().into_boxed_slice(),
        };
        Self(Block::new(header, plan.bytes(), |tail| plan.write(content, tail)))
    }

    /// The pointer for a child word; gives the reference away. [`Leaf::from_raw`]'s inverse.
    pub(super) fn into_raw(self) -> *mut () {
        self.0.into_raw()
    }

    /// Takes a reference back.
    ///
    /// # Safety
    /// `pointer` came from [`Leaf::into_raw`], and its reference is taken back once.
    #[allow(unsafe_code, reason = "a child word holds the bare pointer")]
    pub(super) unsafe fn from_raw(pointer: *mut ()) -> Self {
        // SAFETY: as the caller promises.
        Self(unsafe { Block::from_raw(pointer) })
    }

    pub(crate) fn header(&self) -> &Header {
        self.0.header()
    }

    fn tail(&self) -> &[u8] {
        self.0.tail()
    }

    /// Whether both are the same version of the same leaf.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }

    /// Where it stands in memory: tells leaves that live apart.
    pub(crate) fn address(&self) -> usize {
        self.0.address()
    }

    pub(crate) fn base_lsn(&self) -> Lsn {
        self.header().base_lsn
    }

    /// Records in the base.
    pub(crate) fn len(&self) -> usize {
        self.header().records as usize
    }

    /// What all keys of the base begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.tail()[..self.header().prefix_bytes as usize]
    }

    pub(super) fn heads(&self) -> &[Head] {
        let from = self.header().prefix_bytes as usize;
        self.tail()[from..from + 4 * self.len()].as_chunks().0
    }

    /// Key suffix of the record at `at`, and its value, which is empty when it stands elsewhere.
    pub(crate) fn record(&self, at: usize) -> Record<'_> {
        let header = self.header();
        let from = header.prefix_bytes as usize + 4 * self.len();
        let tail = &self.tail()[from..];
        match header.shape {
            Shape::Fixed { suffix, value } => {
                let bytes = (suffix + value) as usize;
                tail[at * bytes..(at + 1) * bytes].split_at(suffix as usize)
            }
            Shape::Variable => {
                let (offsets, records) = tail.split_at(4 * (self.len() + 1));
                let offset = |at: usize| u32::from_ne_bytes(offsets.as_chunks().0[at]) as usize;
                let record = &records[offset(at)..offset(at + 1)];
                let (length, rest) = record.split_at(2);
                rest.split_at(usize::from(u16::from_ne_bytes([length[0], length[1]])))
            }
        }
    }

    /// The record at `at`.
    pub(crate) fn view_record(&self, at: usize) -> ViewRecord<'_> {
        let (suffix, value) = self.record(at);
        ViewRecord { prefix: self.prefix(), suffix, value: self.value_of(at, value) }
    }

    /// The value of the record at `at`, of which `inline` stands here.
    fn value_of<'l>(&'l self, at: usize, inline: &'l [u8]) -> RecordValue<'l> {
        let overflow = &self.header().overflow;
        if overflow.is_empty() {
            return RecordValue::Inline(inline);
        }
        let found = overflow.binary_search_by_key(&(at as u32), |(record, _)| *record);
        found.map_or(RecordValue::Inline(inline), |number| RecordValue::Overflow(&overflow[number].1))
    }

    /// Those of the records `from..to` whose values stand elsewhere.
    pub(super) fn overflow(&self, from: usize, to: usize) -> &[(u32, Arc<OverflowValue>)] {
        let overflow = &self.header().overflow;
        let number = |at: usize| overflow.partition_point(|(record, _)| (*record as usize) < at);
        if overflow.is_empty() { overflow } else { &overflow[number(from)..number(to)] }
    }

    /// All values of the base that stand elsewhere.
    pub(crate) fn overflow_values(&self) -> impl Iterator<Item = &Arc<OverflowValue>> {
        self.header().overflow.iter().map(|(_, value)| value)
    }

    /// The records `from..to` as they lie in the base, and where each begins: `None` when all have one length.
    pub(super) fn run(&self, from: usize, to: usize) -> (&[u8], Option<&[[u8; 4]]>) {
        let header = self.header();
        let behind_heads = header.prefix_bytes as usize + 4 * self.len();
        let tail = &self.tail()[behind_heads..];
        match header.shape {
            Shape::Fixed { suffix, value } => {
                let bytes = (suffix + value) as usize;
                (&tail[from * bytes..to * bytes], None)
            }
            Shape::Variable => {
                let (offsets, records) = tail.split_at(4 * (self.len() + 1));
                let offsets: &[[u8; 4]] = offsets.as_chunks().0;
                let offset = |at: usize| u32::from_ne_bytes(offsets[at]) as usize;
                (&records[offset(from)..offset(to)], Some(&offsets[from..to]))
            }
        }
    }

    /// What the records `from..to` take in memory, about: the sum of their [`record_cost`]s.
    pub(crate) fn cost(&self, from: usize, to: usize) -> usize {
        let (bytes, offsets) = self.run(from, to);
        // A record of variable length begins with two bytes that are not its own.
        let own = bytes.len() - offsets.map_or(0, |offsets| 2 * offsets.len());
        let elsewhere = self.overflow(from, to).iter().map(|(_, value)| value.bytes).sum::<usize>();
        own + elsewhere + (to - from) * record_cost(self.prefix().len(), 0)
    }

    /// Where `key` stands in the base.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        match search::strip(key, self.prefix()) {
            Ok(suffix) => search::find(self.heads(), suffix, |at| self.record(at).0.cmp(suffix)),
            Err(Ordering::Less) => Err(0),
            Err(_) => Err(self.len()),
        }
    }

    /// Whether every record has a key and a value of these lengths, as the layout says.
    pub(super) fn is_fixed(&self, key_bytes: usize, value_bytes: usize) -> bool {
        match self.header().shape {
            Shape::Fixed { suffix, value } => {
                self.prefix().len() + suffix as usize == key_bytes && value as usize == value_bytes
            }
            Shape::Variable => false,
        }
    }

    pub(super) fn is_variable(&self) -> bool {
        self.header().shape == Shape::Variable
    }

    /// The value of `key` at `at`, which must not be below `base_lsn`.
    pub(crate) fn get(&self, key: &[u8], at: Lsn) -> Option<RecordValue<'_>> {
        if let Some(entry) = self.header().delta.find(key, at) {
            return entry.value().map(RecordValue::Inline);
        }
        self.find(key).ok().map(|at| self.value_of(at, self.record(at).1))
    }

    /// Where in the base the value of `key` stands at `at`, when it does not stand among the changes.
    pub(crate) fn base_place(&self, key: &[u8], at: Lsn) -> Option<usize> {
        if self.header().delta.find(key, at).is_some() { None } else { self.find(key).ok() }
    }

    /// Whether the base, of this cost, may have a record that is longer than `budget`, or one whose value stands elsewhere.
    pub(crate) fn has_long(&self, cost: usize, budget: usize) -> bool {
        cost > budget || !self.header().overflow.is_empty()
    }

    /// Whether the base has such a record for `key`.
    pub(crate) fn is_long(&self, key: &[u8], budget: usize) -> bool {
        self.find(key).is_ok_and(|at| {
            let value = self.view_record(at).value;
            value.overflow().is_some() || key.len() + value.len() > budget
        })
    }

    /// The newest changes, if there were any.
    pub(crate) fn delta(&self) -> Option<&DeltaArea> {
        Some(&self.header().delta).filter(|area| area.len() > 0)
    }

    /// Its changes, also when there are none.
    pub(crate) fn delta_area(&self) -> &DeltaArea {
        &self.header().delta
    }

    /// Appends a change. Only the holder of the writer's lock, when there is room.
    pub(crate) fn push(&self, lsn: Lsn, key: &[u8], value: Option<&[u8]>) {
        let header = self.header();
        let grown = header.delta.push(lsn, key, value, header.share.account());
        if grown > 0 {
            header.share.grow(grown);
        }
    }

    /// Looks at all of the base and of its changes, for nothing but to have their memory near: all at once, where a
    /// search would wait for one part after the other.
    pub(crate) fn warm(&self) {
        let near = |bytes: &[u8]| bytes.iter().step_by(64).fold(0, |sum, byte| sum ^ byte);
        let base = near(self.tail());
        let changes = self.header().delta.visible(Lsn::MAX).fold(0, |sum, entry| sum ^ near(entry.all()));
        std::hint::black_box(base ^ changes);
    }

    /// Asks for what a search reads first: the beginning of the header, and prefix and heads behind it.
    pub(crate) fn prefetch(&self) {
        prefetch(self.address(), SEARCHED_HEADER_BYTES);
        prefetch(self.address() + BODY_BYTES, SEARCHED_TAIL_BYTES);
    }

    /// Asks for the record that `key` would be.
    pub(crate) fn prefetch_record(&self, key: &[u8]) {
        if let Ok(suffix) = search::strip(key, self.prefix()) {
            let at = search::earliest(self.heads(), suffix);
            if at < self.len() {
                let (suffix, value) = self.record(at);
                prefetch(suffix.as_ptr().addr(), suffix.len() + value.len().min(RECORD_BYTES));
            }
        }
    }

    /// The LSN of the newest change.
    pub(crate) fn newest_lsn(&self) -> Lsn {
        self.delta().and_then(DeltaArea::newest).unwrap_or(self.base_lsn())
    }

    /// From which LSN on another version serves.
    pub(crate) fn superseded_at(&self) -> Lsn {
        Lsn(self.header().superseded_at.load(Relaxed))
    }

    /// Notes that another version serves from `lsn` on.
    pub(crate) fn supersede(&self, lsn: Lsn) {
        self.header().superseded_at.store(lsn.0, Relaxed);
    }

    /// Notes a use, for the eviction. Writes shared memory only when there is something to say.
    pub(crate) fn touch(&self) {
        let header = self.header();
        if !header.referenced.load(Relaxed) {
            header.referenced.store(true, Relaxed);
            #[cfg(test)]
            header.share.account().shared_stores.fetch_add(1, Relaxed);
        }
    }

    /// Whether it was used since the last call.
    pub(crate) fn take_referenced(&self) -> bool {
        self.header().referenced.swap(false, Relaxed)
    }

    /// Whether nothing changed since its image.
    pub(crate) fn is_clean(&self) -> bool {
        self.header().clean.load(Relaxed)
    }

    /// The disk form as of the image's LSN, if there is one.
    pub(crate) fn image(&self) -> Option<Image> {
        let on_disk = self.header().on_disk.lock();
        let OnDisk { entry, overflow } = on_disk.as_deref()?;
        Some(Image { entry: entry.clone()?, overflow: overflow.clone() })
    }

    /// Every page that belongs to the leaf.
    pub(crate) fn pages(&self) -> Vec<PageRef> {
        self.header().on_disk.lock().iter().flat_map(|on_disk| on_disk.pages()).copied().collect()
    }

    /// Attaches a disk form; `clean` when nothing changed since. Answers the pages that belong to the leaf no more.
    pub(crate) fn set_image(&self, image: Image, clean: bool) -> Vec<PageRef> {
        let Image { entry, overflow } = image;
        let now = OnDisk { entry: Some(entry), overflow };
        let mut gone = self.pages();
        gone.retain(|page| now.pages().all(|other| other.addr != page.addr));
        *self.header().on_disk.lock() = Some(Box::new(now));
        self.header().clean.store(clean, Relaxed);
        if clean {
            self.header().share.move_to(Class::Clean);
        }
        gone
    }

    /// Notes that a long value stands elsewhere from here on.
    pub(crate) fn move_overflow(&self, from: &[PageRef], to: &[PageRef]) {
        if let Some(on_disk) = self.header().on_disk.lock().as_deref_mut() {
            on_disk.overflow.retain(|page| from.iter().all(|other| other.addr != page.addr));
            on_disk.overflow.extend(to);
        }
    }

    /// Takes the image away: nobody may add to it, and the next checkpoint writes all of the leaf. The pages of its long
    /// values stay the leaf's. Answers those that do not.
    pub(crate) fn take_image(&self) -> Vec<PageRef> {
        let entry = self.header().on_disk.lock().as_mut().and_then(|on_disk| on_disk.entry.take());
        entry.iter().flat_map(ChildEntry::pages).copied().collect()
    }

    /// Takes everything away that belongs to the leaf.
    pub(crate) fn take_pages(&self) -> Vec<PageRef> {
        let on_disk = self.header().on_disk.lock().take();
        on_disk.iter().flat_map(|on_disk| on_disk.pages()).copied().collect()
    }

    /// A change ends its being clean. The disk form stays: the next checkpoint may add to it.
    pub(crate) fn make_dirty(&self) {
        if self.is_clean() {
            self.header().clean.store(false, Relaxed);
            self.header().share.move_to(Class::Dirty);
        }
    }

    /// The LSN of the first change above `lsn`.
    pub(crate) fn first_change_above(&self, lsn: Lsn) -> Option<Lsn> {
        if self.base_lsn() > lsn {
            return Some(self.base_lsn());
        }
        self.delta()?.visible(Lsn::MAX).map(|entry| entry.lsn).find(|changed| *changed > lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(records: &[(Vec<u8>, Vec<u8>)]) -> Leaf {
        let records = records.iter().map(|(key, value)| ViewRecord::whole(key, value));
        Leaf::build(&Content::of_records(records), Lsn(1), None, &Arc::default())
    }

    fn value_at<'l>(leaf: &'l Leaf, key: &[u8], at: u64) -> Option<&'l [u8]> {
        leaf.get(key, Lsn(at)).map(|value| value.inline())
    }

    #[test]
    fn a_base_finds_its_records_and_the_places_between_them() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..600 {
            let fixed = round % 2 == 0;
            let mut keys: Vec<Vec<u8>> = (0..rng.usize(0..50))
                .map(|_| {
                    let length = if fixed { 6 } else { rng.usize(0..9) };
                    let mut key = vec![b'p'; round % 5];
                    key.extend((0..length).map(|_| rng.u8(0..4)));
                    key
                })
                .collect();
            keys.sort();
            keys.dedup();
            let records: Vec<(Vec<u8>, Vec<u8>)> = keys
                .iter()
                .map(|key| (key.clone(), vec![b'v'; if fixed { 7 } else { rng.usize(0..9) }]))
                .collect();
            let leaf = build(&records);
            for (at, (key, value)) in records.iter().enumerate() {
                assert_eq!(leaf.find(key), Ok(at));
                assert_eq!(value_at(&leaf, key, 1), Some(value.as_slice()));
                assert_eq!([leaf.prefix(), leaf.record(at).0].concat(), *key);
            }
            let sought: Vec<u8> = (0..rng.usize(0..9)).map(|_| rng.u8(b'o'..b'r')).collect();
            assert_eq!(leaf.find(&sought), keys.binary_search(&sought));
        }
    }

    #[test]
    fn a_change_hides_the_base_from_its_lsn_on() {
        let leaf = build(&[(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        leaf.push(Lsn(5), b"a", None);
        leaf.push(Lsn(7), b"c", Some(b"3"));
        assert_eq!((value_at(&leaf, b"a", 4), value_at(&leaf, b"a", 5)), (Some(&b"1"[..]), None));
        assert_eq!((value_at(&leaf, b"c", 6), value_at(&leaf, b"c", 7)), (None, Some(&b"3"[..])));
        assert_eq!((leaf.newest_lsn(), leaf.first_change_above(Lsn(5))), (Lsn(7), Some(Lsn(7))));
    }
}
