//! Sets of keys that are ranges: disjoint, none empty, none touching its neighbour.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A set of half-open ranges of keys; an end of `None` is behind all keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intervals {
    by_start: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Of all keys in `by_start`.
    key_bytes: usize,
}

/// Whether an end lies behind a key.
pub(crate) fn reaches(end: Option<&[u8]>, key: &[u8]) -> bool {
    end.is_none_or(|end| end > key)
}

fn range_bytes(from: &[u8], to: Option<&[u8]>) -> usize {
    from.len() + to.map_or(0, <[u8]>::len)
}

impl Intervals {
    /// Adds the keys from `from` up to, and without, `to`.
    pub(crate) fn add(&mut self, mut from: Vec<u8>, mut to: Option<Vec<u8>>) {
        if !reaches(to.as_deref(), &from) {
            return;
        }
        while let Some(start) = self.last_touching(&from, to.as_deref()) {
            let joined = self.by_start.remove(&start).flatten();
            self.key_bytes -= range_bytes(&start, joined.as_deref());
            to = to.and_then(|to| joined.map(|end| to.max(end)));
            from = from.min(start);
        }
        self.key_bytes += range_bytes(&from, to.as_deref());
        self.by_start.insert(from, to);
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Bytes of the keys at which they begin and end.
    pub(crate) const fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// The start of the last range that overlaps this one, or ends or begins where it begins or ends.
    fn last_touching(&self, from: &[u8], to: Option<&[u8]>) -> Option<Vec<u8>> {
        let up_to = to.map_or(Bound::Unbounded, Bound::Included);
        let (start, end) = self.by_start.range::<[u8], _>((Bound::Unbounded, up_to)).next_back()?;
        end.as_ref().is_none_or(|end| **end >= *from).then(|| start.clone())
    }

    /// Whether a key is in the set.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let before = self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| reaches(end.as_deref(), key))
    }

    /// Whether a key of the range is in the set.
    pub(crate) fn overlaps(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        let below = to.map_or(Bound::Unbounded, Bound::Excluded);
        let last = self.by_start.range::<[u8], _>((Bound::Unbounded, below)).next_back();
        reaches(to, from) && last.is_some_and(|(_, end)| reaches(end.as_deref(), from))
    }

    /// The parts of the set that lie in a range, in order.
    pub(crate) fn within<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let first = self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(from))).next_back();
        let later = self.by_start.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        first.into_iter().chain(later).take_while(move |(start, _)| reaches(to, start)).filter_map(
            move |(start, end)| {
                let start = from.max(start);
                let end = match (end.as_deref(), to) {
                    (Some(end), Some(to)) => Some(end.min(to)),
                    (end, to) => end.or(to),
                };
                reaches(end, start).then_some((start, end))
            },
        )
    }

    /// All ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.by_start.iter().map(|(start, end)| (&start[..], end.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The keys of one byte that are in the set.
    fn keys(set: &Intervals) -> Vec<u8> {
        (0..=30).filter(|key| set.contains(&[*key])).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_set_of_ranges_holds_what_was_added_and_nothing_else(
            added in prop::collection::vec((0u8..30, prop::option::weighted(0.95, 0u8..31)), 0..12),
            (from, to) in (0u8..30, prop::option::of(0u8..31)),
        ) {
            let mut set = Intervals::default();
            for (from, to) in &added {
                set.add(vec![*from], to.map(|to| vec![to]));
            }
            let has = |key: u8| added.iter().any(|(from, to)| *from <= key && to.is_none_or(|to| key < to));
            prop_assert_eq!(keys(&set), (0..=30).filter(|key| has(*key)).collect::<Vec<_>>());
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1.is_some_and(|end| end < pair[1].0)), "{:?}", ranges);
            let (low, high) = ([from], to.map(|to| [to]));
            let high = high.as_ref().map(|to| &to[..]);
            let inside = |key: u8| from <= key && to.is_none_or(|to| key < to);
            let overlap = to.is_none() && added.iter().any(|(_, to)| to.is_none())
                || (0..=30).any(|key| inside(key) && has(key));
            prop_assert_eq!(set.overlaps(&low, high), overlap);
            let mut parts = Intervals::default();
            set.within(&low, high).for_each(|(from, to)| parts.add(from.to_vec(), to.map(<[u8]>::to_vec)));
            let bytes: usize = ranges.iter().map(|(from, to)| range_bytes(from, *to)).sum();
            prop_assert_eq!((set.key_bytes(), set.len()), (bytes, ranges.len()));
            prop_assert_eq!(keys(&parts), (0..=30).filter(|key| inside(*key) && has(*key)).collect::<Vec<_>>());
        }
    }
}
