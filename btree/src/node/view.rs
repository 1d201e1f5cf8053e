//! A leaf as of one LSN: base and visible changes as one sorted run of records.

use std::cell::OnceCell;
use std::cmp::Ordering;

use logwood_base::Lsn;

use super::delta::DELTA_SLOTS;
use super::entries::DeltaEntry;
use super::leaf::Leaf;

/// The records of a leaf at an LSN, in key order.
pub(crate) struct View<'l> {
    leaf: &'l Leaf,
    /// The newest visible change of each key, sorted, with its place in the base.
    changes: [Option<Change<'l>>; DELTA_SLOTS],
    count: usize,
}

#[derive(Clone)]
struct Change<'l> {
    entry: &'l DeltaEntry,
    /// Where the key stands, or would stand, in the base. Sought when it is first needed: short ranges need few.
    place: OnceCell<Result<usize, usize>>,
}

impl Change<'_> {
    fn place(&self, leaf: &Leaf) -> Result<usize, usize> {
        *self.place.get_or_init(|| leaf.find(self.entry.key()))
    }
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
    pub(crate) value: &'l [u8],
}

impl<'l> ViewRecord<'l> {
    /// A record whose key comes in one part.
    pub(crate) const fn whole(key: &'l [u8], value: &'l [u8]) -> Self {
        Self { prefix: &[], suffix: key, value }
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
        let mut view = Self { leaf, changes: [const { None }; DELTA_SLOTS], count: 0 };
        let Some(area) = leaf.delta() else { return view };
        for entry in area.visible(at) {
            let sorted = &view.changes[..view.count];
            let found = sorted.binary_search_by(|change| {
                change.as_ref().map_or(Ordering::Greater, |change| change.entry.order(entry))
            });
            match found {
                Ok(same) => {
                    if let Some(change) = &mut view.changes[same] {
                        change.entry = entry;
                    }
                }
                Err(between) => {
                    view.changes[between..=view.count].rotate_right(1);
                    view.changes[between] = Some(Change { entry, place: OnceCell::new() });
                    view.count += 1;
                }
            }
        }
        view
    }

    /// Before the first record.
    pub(crate) const fn start() -> Place {
        Place { base: 0, change: 0 }
    }

    /// Behind the last record.
    pub(crate) fn end(&self) -> Place {
        Place { base: self.leaf.len(), change: self.count }
    }

    /// Before the first record whose key is not below `key`.
    pub(crate) fn place_of(&self, key: &[u8]) -> Place {
        let (Ok(base) | Err(base)) = self.leaf.find(key);
        let change = self.changes[..self.count]
            .partition_point(|change| change.as_ref().is_some_and(|change| change.entry.key() < key));
        Place { base, change }
    }

    fn change_at(&self, at: usize) -> Option<&Change<'l>> {
        self.changes[..self.count].get(at)?.as_ref()
    }

    fn base_record(&self, at: usize) -> ViewRecord<'l> {
        let (suffix, value) = self.leaf.record(at);
        ViewRecord { prefix: self.leaf.prefix(), suffix, value }
    }

    /// The record behind `place`, if there is one before `end`; moves the place behind it.
    pub(crate) fn next(&self, place: &mut Place, end: Place) -> Option<ViewRecord<'l>> {
        loop {
            let change = self.change_at(place.change).filter(|_| place.change < end.change);
            let Some(change) = change else {
                if place.base >= end.base {
                    return None;
                }
                place.base += 1;
                return Some(self.base_record(place.base - 1));
            };
            let stands_at = change.place(self.leaf);
            let (Ok(stands) | Err(stands)) = stands_at;
            if place.base < stands {
                place.base += 1;
                return Some(self.base_record(place.base - 1));
            }
            place.change += 1;
            if stands_at.is_ok() {
                place.base = stands + 1;
            }
            if let Some(value) = change.entry.value() {
                return Some(ViewRecord::whole(change.entry.key(), value));
            }
        }
    }

    /// The record before `place`, if there is one behind `start`; moves the place before it.
    pub(crate) fn next_back(&self, start: Place, place: &mut Place) -> Option<ViewRecord<'l>> {
        loop {
            let change = (place.change > start.change).then(|| self.change_at(place.change - 1)).flatten();
            let Some(change) = change else {
                if place.base <= start.base {
                    return None;
                }
                place.base -= 1;
                return Some(self.base_record(place.base));
            };
            let stands_at = change.place(self.leaf);
            let behind = match stands_at {
                Ok(stands) => stands + 1,
                Err(stands) => stands,
            };
            if place.base > behind {
                place.base -= 1;
                return Some(self.base_record(place.base));
            }
            place.change -= 1;
            if let Ok(stands) = stands_at {
                place.base = stands;
            }
            if let Some(value) = change.entry.value() {
                return Some(ViewRecord::whole(change.entry.key(), value));
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

    #[test]
    fn a_view_is_the_base_with_its_changes_in_both_directions_and_any_range() {
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..2000 {
            let key = |rng: &mut fastrand::Rng| vec![b'k', rng.u8(0..12), rng.u8(0..2)];
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for _ in 0..rng.usize(0..12) {
                model.insert(key(&mut rng), vec![rng.u8(..)]);
            }
            let records: Vec<_> = model.iter().map(|(k, v)| ViewRecord::whole(k, v)).collect();
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
            let found: Vec<_> = view.records(start, end).map(|r| (r.key(), r.value.to_vec())).collect();
            assert!(found.iter().map(|(k, v)| (k, v)).eq(expected.iter().copied()));
            let mut place = end;
            let mut back = Vec::new();
            while let Some(record) = view.next_back(start, &mut place) {
                back.push((record.key(), record.value.to_vec()));
            }
            back.reverse();
            assert_eq!(back, found);
        }
    }
}
