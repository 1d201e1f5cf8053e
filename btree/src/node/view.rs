//! A leaf as of one LSN: base and visible changes as one sorted run of records.

use std::cell::Cell;

use logwood_base::Lsn;

use super::delta::{DELTA_SLOTS, Newest};
use super::entries::DeltaEntry;
use super::leaf::Leaf;
use super::overflow::RecordValue;

/// The records of a leaf at an LSN, in key order.
pub(crate) struct View<'l> {
    leaf: &'l Leaf,
    changes: Newest<'l>,
    /// Where each changed key stands, or would stand, in the base. Sought when it is first needed: short ranges need
    /// few.
    places: [Cell<Option<Stands>>; DELTA_SLOTS],
}

/// Where a key stands in a base, or would stand.
#[derive(Clone, Copy)]
struct Stands {
    at: u32,
    there: bool,
}

/// Where a cursor stands in a view: so many of the base and so many of the changes lie before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    base: usize,
    change: usize,
}

/// A record of a view: prefix and suffix of its key, and its value.
#[derive(Clone, Copy)]
pub(crate) struct ViewRecord<'l> {
    pub(crate) prefix: &'l [u8],
    pub(crate) suffix: &'l [u8],
    pub(crate) value: RecordValue<'l>,
}

impl<'l> ViewRecord<'l> {
    /// A record whose key comes in one part.
    pub(crate) const fn whole(key: &'l [u8], value: &'l [u8]) -> Self {
        Self { prefix: &[], suffix: key, value: RecordValue::Inline(value) }
    }

    /// What of the key follows its first `cut` bytes, in two parts.
    pub(crate) fn behind(&self, cut: usize) -> (&'l [u8], &'l [u8]) {
        match cut.checked_sub(self.prefix.len()) {
            Some(cut) => (&[], &self.suffix[cut..]),
            None => (&self.prefix[cut..], self.suffix),
        }
    }

    /// Bytes of the key.
    pub(crate) fn key_bytes(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// The whole key.
    pub(crate) fn key(&self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }
}

impl<'l> View<'l> {
    /// The leaf as of `at`, which must not be below its base.
    pub(crate) fn new(leaf: &'l Leaf, at: Lsn) -> Self {
        debug_assert!(leaf.base_lsn() <= at, "an older version serves below the base");
        let changes = leaf.delta_area().newest_of_each(at);
        Self { leaf, changes, places: [const { Cell::new(None) }; DELTA_SLOTS] }
    }

    /// Before the first record.
    pub(crate) const fn start() -> Place {
        Place { base: 0, change: 0 }
    }

    /// Behind the last record.
    pub(crate) fn end(&self) -> Place {
        Place { base: self.leaf.len(), change: self.changes.len() }
    }

    /// Before the first record whose key is not below `key`.
    pub(crate) fn place_of(&self, key: &[u8]) -> Place {
        let (Ok(base) | Err(base)) = self.leaf.find(key);
        Place { base, change: self.changes.place_of(key) }
    }

    /// Where the change numbered `at` stands in the base.
    fn stands(&self, at: usize, entry: &DeltaEntry) -> Stands {
        if let Some(stands) = self.places[at].get() {
            return stands;
        }
        let stands = match self.leaf.find(entry.key()) {
            Ok(at) => Stands { at: at as u32, there: true },
            Err(at) => Stands { at: at as u32, there: false },
        };
        self.places[at].set(Some(stands));
        stands
    }

    /// The record behind `place`, if there is one before `end`; moves the place behind it.
    pub(crate) fn next(&self, place: &mut Place, end: Place) -> Option<ViewRecord<'l>> {
        loop {
            let change = self.changes.get(place.change).filter(|_| place.change < end.change);
            let Some(entry) = change else {
                if place.base >= end.base {
                    return None;
                }
                place.base += 1;
                return Some(self.leaf.view_record(place.base - 1));
            };
            let stands = self.stands(place.change, entry);
            if place.base < stands.at as usize {
                place.base += 1;
                return Some(self.leaf.view_record(place.base - 1));
            }
            place.change += 1;
            if stands.there {
                place.base = stands.at as usize + 1;
            }
            if let Some(value) = entry.value() {
                return Some(ViewRecord::whole(entry.key(), value));
            }
        }
    }

    /// The record before `place`, if there is one behind `start`; moves the place before it.
    pub(crate) fn next_back(&self, start: Place, place: &mut Place) -> Option<ViewRecord<'l>> {
        loop {
            let change = (place.change > start.change).then(|| self.changes.get(place.change - 1)).flatten();
            let Some(entry) = change else {
                if place.base <= start.base {
                    return None;
                }
                place.base -= 1;
                return Some(self.leaf.view_record(place.base));
            };
            let stands = self.stands(place.change - 1, entry);
            if place.base > stands.at as usize + usize::from(stands.there) {
                place.base -= 1;
                return Some(self.leaf.view_record(place.base));
            }
            place.change -= 1;
            if stands.there {
                place.base = stands.at as usize;
            }
            if let Some(value) = entry.value() {
                return Some(ViewRecord::whole(entry.key(), value));
            }
        }
    }

    /// Every record between two places, in key order.
    pub(crate) fn records(&self, start: Place, end: Place) -> impl Iterator<Item = ViewRecord<'l>> {
        let mut place = start;
        std::iter::from_fn(move || self.next(&mut place, end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::node::content::Content;

    #[test]
    fn a_view_is_the_base_with_its_changes_in_both_directions_and_any_range() {
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..2000 {
            let key = |rng: &mut fastrand::Rng| vec![b'k', rng.u8(0..12), rng.u8(0..2)];
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for _ in 0..rng.usize(0..12) {
                model.insert(key(&mut rng), vec![rng.u8(..)]);
            }
            let records = Content::of_records(model.iter().map(|(k, v)| ViewRecord::whole(k, v)));
            let leaf = Leaf::build(&records, Lsn(1), None, &Arc::default());
            let at = rng.u64(1..20);
            for lsn in 2..2 + rng.u64(0..=16) {
                let key = key(&mut rng);
                let value = rng.bool().then(|| vec![rng.u8(..); 2]);
                leaf.push(Lsn(lsn), &key, value.as_deref());
                if lsn <= at {
                    match value {
                        Some(value) => drop(model.insert(key, value)),
                        None => drop(model.remove(&key)),
                    }
                }
            }
            let (low, high) = (key(&mut rng), key(&mut rng));
            let (low, high) = if low <= high { (low, high) } else { (high, low) };
            let expected: Vec<_> = model.range(low.clone()..high.clone()).collect();
            let view = View::new(&leaf, Lsn(at));
            let (start, end) = (view.place_of(&low), view.place_of(&high));
            let found: Vec<_> =
                view.records(start, end).map(|r| (r.key(), r.value.inline().to_vec())).collect();
            assert!(found.iter().map(|(k, v)| (k, v)).eq(expected.iter().copied()));
            let mut place = end;
            let mut back = Vec::new();
            while let Some(record) = view.next_back(start, &mut place) {
                back.push((record.key(), record.value.inline().to_vec()));
            }
            back.reverse();
            assert_eq!(back, found);
        }
    }
}
