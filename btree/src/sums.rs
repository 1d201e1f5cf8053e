//! Count and digest of a key range at an LSN.
//!
//! Whole clean subtrees are answered by the sums that stand beside their address; everything else is looked into,
//! down to the records of leaves that changed since the last checkpoint.

use crossbeam_epoch::Guard;
use logwood_base::digest::{Digest, RecordHasher, record_hash};
use logwood_base::{Error, Lsn, Result};

use crate::cursor::KeyRange;
use crate::descent::TreeCore;
use crate::format::child::ChildEntry;
use crate::node::inner::Inner;
use crate::node::overflow::RecordValue;
use crate::node::slot::{Node, Slot};
use crate::node::view::{View, ViewRecord};
use crate::shared::Shared;
use crate::version::{Found, Seek, stand_at};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// The count alone; the sum of hashes is meaningless.
    Count,
    /// Both.
    Digest,
}

/// The hash of a record whose key comes in two parts.
pub(crate) fn hash_of(record: &ViewRecord<'_>) -> u128 {
    let value = match record.value {
        RecordValue::Inline(value) => value,
        RecordValue::Overflow(value) => return value.record_hash,
    };
    if record.prefix.is_empty() {
        return record_hash(record.suffix, value);
    }
    if record.key_bytes() <= 128 {
        let mut key = [0u8; 128];
        key[..record.prefix.len()].copy_from_slice(record.prefix);
        key[record.prefix.len()..record.key_bytes()].copy_from_slice(record.suffix);
        return record_hash(&key[..record.key_bytes()], value);
    }
    let mut hasher = RecordHasher::new(&record.key());
    hasher.update(value);
    hasher.finish()
}

#[derive(Clone, Copy)]
struct Summing<'s> {
    shared: &'s Shared,
    core: &'s TreeCore,
    range: &'s KeyRange,
    at: Lsn,
    want: Want,
    guard: &'s Guard,
}

/// The sums of a range.
pub(crate) fn sum(shared: &Shared, core: &TreeCore, range: &KeyRange, at: Lsn, want: Want) -> Result<Digest> {
    if range.is_empty() {
        return Ok(Digest::EMPTY);
    }
    let guard = crossbeam_epoch::pin();
    Summing { shared, core, range, at, want, guard: &guard }.tree()
}

impl Summing<'_> {
    /// The sums of all that stands in the range.
    fn tree(&self) -> Result<Digest> {
        let KeyRange { low, high } = &self.core.range;
        loop {
            if let Some(digest) = self.child(&self.core.root, low, high.as_deref())? {
                return Ok(digest);
            }
        }
    }

    /// The sums of what stands below `slot` and inside the range. `None`: the slot moved on while its page was read.
    fn child(&self, slot: &Slot, low: &[u8], high: Option<&[u8]>) -> Result<Option<Digest>> {
        let whole = *self.range.low <= *low
            && match (&self.range.high, high) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(end), Some(high)) => *high <= **end,
            };
        let mut seen = slot.load(self.guard);
        if let Node::Cold(cold) = &*seen {
            if whole && self.holds(&cold.entry) {
                return Ok(Some(cold.entry.digest));
            }
            if cold.is_newer_than(self.at) {
                return self.leaf(&seen, low, high).map(Some);
            }
            let Some(loaded) = self.shared.load_child(self.core, slot, low, self.guard)? else {
                return Ok(None);
            };
            seen = loaded;
        }
        if let Some(inner) = seen.inner() {
            let image = inner.exact_image().filter(|_| whole);
            return match image {
                Some(image) if self.holds(&image.entry) => Ok(Some(image.entry.digest)),
                _ => self.children(inner, low, high),
            };
        }
        let leaf = seen.leaf().ok_or_else(|| Error::Internal("neither leaf nor inner node".into()))?;
        if whole
            && leaf.is_clean()
            && let Some(image) = leaf.image()
            && self.holds(&image.entry)
        {
            return Ok(Some(image.entry.digest));
        }
        self.leaf(&seen, low, high).map(Some)
    }

    /// Whether the sums beside an address are those of the LSN that is asked for.
    fn holds(&self, entry: &ChildEntry) -> bool {
        let resolved = usize::from(entry.resolved) == entry.deltas.len();
        entry.newest_lsn() <= self.at && !entry.unresolved && resolved
    }

    fn children(&self, inner: &Inner, low: &[u8], high: Option<&[u8]>) -> Result<Option<Digest>> {
        let mut total = Digest::EMPTY;
        let slots = inner.slots();
        let first = inner.child_of(&self.range.low);
        let mut from = if first == 0 { low.to_vec() } else { inner.separator(first - 1) };
        for (at, slot) in slots.iter().enumerate().skip(first) {
            if self.range.high.as_ref().is_some_and(|end| from >= *end) && at > first {
                break;
            }
            let to = if at + 1 < slots.len() { Some(inner.separator(at)) } else { None };
            let end = to.as_deref().or(high);
            match self.child(slot, &from, end)? {
                Some(digest) => total = total.plus(digest),
                None => return Ok(None),
            }
            from = to.unwrap_or_default();
        }
        Ok(Some(total))
    }

    /// The records of a leaf at the LSN, from as many versions as its range takes.
    fn leaf(&self, node: &Node, low: &[u8], high: Option<&[u8]>) -> Result<Digest> {
        let mut total = Digest::EMPTY;
        let mut from = low.max(&*self.range.low).to_vec();
        let end = match (&self.range.high, high) {
            (Some(a), Some(b)) => Some((&**a).min(b)),
            (Some(a), None) => Some(&**a),
            (None, b) => b,
        };
        while end.is_none_or(|end| *from < *end) {
            let stand = stand_at(node, self.at, Seek::From(&from), self.guard)
                .ok_or_else(|| Error::Internal("no version serves a registered snapshot".into()))?;
            let to = match (stand.high.as_deref(), end) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            match stand.found {
                Found::Leaf(leaf) => {
                    let view = View::new(&leaf, self.at);
                    let until = to.map_or_else(|| view.end(), |to| view.place_of(to));
                    for record in view.records(view.place_of(&from), until) {
                        match self.want {
                            Want::Count => total.count += 1,
                            Want::Digest => total.add_hash(hash_of(&record)),
                        }
                    }
                }
                Found::Tree(core) => {
                    let range = KeyRange { low: from.clone(), high: to.map(<[u8]>::to_vec) };
                    total = total.plus(Summing { core: &core, range: &range, ..*self }.tree()?);
                }
            }
            match stand.high {
                Some(high) if end.is_none_or(|end| *high < *end) => from = high,
                _ => break,
            }
        }
        Ok(total)
    }
}
