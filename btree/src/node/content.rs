//! What a new leaf is made of: runs of old leaves, and new records between them.
//!
//! A leaf is rebuilt when its delta area is full: most of its records stay what they are. They are never looked at one
//! by one where the new leaf keeps them as they lie in the old one, but copied run by run.

use logwood_base::Lsn;

use super::leaf::Leaf;
use super::view::ViewRecord;

/// Records in key order, some of them as they stand in an old leaf.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'v> {
    /// The records `from..to` of a leaf's base; at least one.
    Run { leaf: &'v Leaf, from: usize, to: usize },
    /// One record.
    Record(ViewRecord<'v>),
}

/// A put or a delete to be folded in.
#[derive(Clone, Copy)]
pub(crate) struct Edit<'v> {
    pub(crate) key: &'v [u8],
    /// `None` deletes.
    pub(crate) value: Option<&'v [u8]>,
}

/// The records of a leaf to be, in key order.
#[derive(Clone, Default)]
pub(crate) struct Content<'v> {
    pub(crate) pieces: Vec<Piece<'v>>,
    /// What they will take in memory, about; long values count whole, wherever they are: so where leaves are cut does not
    /// depend on what was read.
    pub(crate) cost: usize,
    /// Whether the last record is a new one behind all that the old leaf held.
    pub(crate) appended: bool,
}

/// Memory that a base takes for one record, about: what decides where leaves are split.
pub(crate) fn record_cost(key_bytes: usize, value_bytes: usize) -> usize {
    4 + 4 + key_bytes + value_bytes
}

impl<'v> Piece<'v> {
    /// How many records.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Run { from, to, .. } => to - from,
            Self::Record(_) => 1,
        }
    }

    /// The record numbered `at`.
    pub(crate) fn record(&self, at: usize) -> ViewRecord<'v> {
        match self {
            Self::Run { leaf, from, .. } => leaf.view_record(from + at),
            Self::Record(record) => *record,
        }
    }

    /// What the records will take in memory, about.
    fn cost(&self) -> usize {
        match self {
            Self::Run { leaf, from, to } => leaf.cost(*from, *to),
            Self::Record(record) => record_cost(record.key_bytes(), record.value.len()),
        }
    }

    /// The records from the one numbered `at` on.
    fn behind(&self, at: usize) -> Self {
        match self {
            Self::Run { leaf, from, to } => Self::Run { leaf, from: from + at, to: *to },
            Self::Record(_) => *self,
        }
    }

    /// The records in front of the one numbered `at`.
    fn before(&self, at: usize) -> Self {
        match self {
            Self::Run { leaf, from, .. } => Self::Run { leaf, from: *from, to: from + at },
            Self::Record(_) => *self,
        }
    }
}

impl<'v> Content<'v> {
    /// Every record of a leaf as it is now, with `edits` folded in: sorted by key, each key once.
    pub(crate) fn of(leaf: &'v Leaf, edits: &[Edit<'v>]) -> Self {
        let newest = leaf.delta_area().newest_of_each(Lsn::MAX);
        let mut content =
            Self { pieces: Vec::with_capacity(2 * (newest.len() + edits.len()) + 1), ..Self::default() };
        let mut old = newest.iter().map(|entry| Edit { key: entry.key(), value: entry.value() }).peekable();
        let mut new = edits.iter().copied().peekable();
        let mut base = 0;
        loop {
            // Of both lists the smaller key; of equal ones the newer change.
            let edit = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) if a.key < b.key => old.next(),
                (Some(a), Some(b)) if a.key == b.key => {
                    old.next();
                    new.next()
                }
                (_, Some(_)) => new.next(),
                (_, None) => old.next(),
            };
            let Some(edit) = edit else { break };
            let (at, behind) = match leaf.find(edit.key) {
                Ok(at) => (at, at + 1),
                Err(at) => (at, at),
            };
            content.push_run(leaf, base, at);
            base = behind;
            if let Some(value) = edit.value {
                content.push(Piece::Record(ViewRecord::whole(edit.key, value)));
                content.appended = leaf.len() > 0 && at == leaf.len();
            }
        }
        content.push_run(leaf, base, leaf.len());
        content
    }

    /// Records that are given one by one, sorted by key.
    pub(crate) fn of_records(records: impl IntoIterator<Item = ViewRecord<'v>>) -> Self {
        let records = records.into_iter();
        let mut content =
            Self { pieces: Vec::with_capacity(records.size_hint().1.unwrap_or_default()), ..Self::default() };
        records.for_each(|record| content.push(Piece::Record(record)));
        content
    }

    fn push_run(&mut self, leaf: &'v Leaf, from: usize, to: usize) {
        if from < to {
            self.push(Piece::Run { leaf, from, to });
            self.appended = false;
        }
    }

    fn push(&mut self, piece: Piece<'v>) {
        self.cost += piece.cost();
        self.pieces.push(piece);
    }

    /// With the records of another one behind, whose keys are all greater.
    pub(crate) fn with<'w>(self, other: Content<'w>) -> Content<'w>
    where
        'v: 'w,
    {
        let mut both: Content<'w> = self;
        other.pieces.into_iter().for_each(|piece| both.push(piece));
        both
    }

    /// Where to cut the records into leaves of at most about `budget`.
    ///
    /// Keys that arrive in order leave full leaves behind; others are cut evenly, so that each half has room.
    pub(crate) fn cut(self, budget: usize) -> Vec<Self> {
        let records: usize = self.pieces.iter().map(Piece::len).sum();
        if self.cost <= budget || records < 2 {
            return vec![self];
        }
        let at_end = self.appended;
        let target = if at_end {
            budget
        } else {
            let parts = if self.cost <= 2 * budget { 2 } else { (self.cost * 4).div_ceil(budget * 3) };
            self.cost.div_ceil(parts)
        };
        let mut parts = Vec::new();
        let mut part = Self::default();
        for piece in self.pieces {
            let mut begun = 0;
            for at in 0..piece.len() {
                let record = piece.record(at);
                let cost = record_cost(record.key_bytes(), record.value.len());
                let size = part.cost + piece.cost_of(begun, at);
                let nearer_without = size > 0 && size + cost > target && (at_end || size + cost / 2 > target);
                if nearer_without {
                    if begun < at {
                        part.push(piece.behind(begun).before(at - begun));
                    }
                    parts.push(std::mem::take(&mut part));
                    begun = at;
                }
            }
            part.push(piece.behind(begun));
        }
        parts.push(part);
        parts
    }

    /// The first record, if there is any.
    pub(crate) fn first(&self) -> Option<ViewRecord<'v>> {
        Some(self.pieces.first()?.record(0))
    }

    /// The last record, if there is any.
    pub(crate) fn last(&self) -> Option<ViewRecord<'v>> {
        let piece = self.pieces.last()?;
        Some(piece.record(piece.len() - 1))
    }

    /// How many records.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// The records, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = ViewRecord<'v>> + '_ {
        self.pieces.iter().flat_map(|piece| (0..piece.len()).map(|at| piece.record(at)))
    }
}

impl Piece<'_> {
    /// What the records `from..to` will take in memory, about.
    fn cost_of(&self, from: usize, to: usize) -> usize {
        match self {
            Self::Run { leaf, from: first, .. } => leaf.cost(first + from, first + to),
            Self::Record(_) if from < to => self.cost(),
            Self::Record(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn sizes(keys: &[Vec<u8>], value: &[u8], budget: usize, appended: bool) -> Vec<usize> {
        let mut content = Content::of_records(keys.iter().map(|key| ViewRecord::whole(key, value)));
        content.appended = appended;
        content.cut(budget).iter().map(Content::len).collect()
    }

    #[test]
    fn leaves_are_cut_evenly_or_filled_in_order() {
        let keys: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 12]).collect();
        let value = b"12345678901";
        let cost = 100 * record_cost(12, value.len());
        assert_eq!(sizes(&keys, value, cost, false), [100]);
        assert_eq!(sizes(&keys, value, cost - 1, false), [50, 50]);
        assert_eq!(sizes(&keys, value, cost - 1, true), [99, 1]);
        let many = sizes(&keys, value, cost / 5, false);
        assert_eq!((many.len(), many.iter().sum()), (8, 100));
    }

    #[test]
    fn a_record_beyond_the_budget_stands_alone() {
        let large = vec![0; 5000];
        let records = [(b"a", &b"1"[..]), (b"b", &large), (b"c", b"1"), (b"d", &large), (b"e", b"1")];
        let content = Content::of_records(records.map(|(key, value)| ViewRecord::whole(key, value)));
        let parts = content.cut(1000);
        for part in &parts {
            let large = part.pieces.iter().filter(|piece| piece.record(0).value.len() > 1).count();
            assert!(large <= 1, "two large values in one leaf");
        }
        assert_eq!(parts.iter().map(Content::len).sum::<usize>(), 5);
    }

    #[test]
    fn a_rebuilt_leaf_holds_what_the_old_one_and_its_changes_held_however_it_is_cut() {
        let mut rng = fastrand::Rng::with_seed(9);
        let account = Arc::new(crate::account::Account::default());
        for round in 0..2000 {
            let fixed = round % 2 == 0;
            let prefix = vec![b'p'; round % 3];
            let key = |rng: &mut fastrand::Rng| {
                let length = if fixed { 3 } else { rng.usize(0..4) };
                let shared = if rng.u8(0..9) == 0 { &prefix[..prefix.len() / 2] } else { &prefix[..] };
                let mut key = shared.to_vec();
                key.extend((0..length).map(|_| rng.u8(0..5)));
                key
            };
            let value = |rng: &mut fastrand::Rng| vec![rng.u8(..); if fixed { 5 } else { rng.usize(0..9) }];
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for _ in 0..rng.usize(0..60) {
                model.insert(key(&mut rng), value(&mut rng));
            }
            let records = model.iter().map(|(key, value)| ViewRecord::whole(key, value));
            let leaf = Leaf::build(&Content::of_records(records), Lsn(1), None, &account);
            for lsn in 2..2 + rng.u64(0..16) {
                let (key, value) = (key(&mut rng), rng.bool().then(|| value(&mut rng)));
                leaf.push(Lsn(lsn), &key, value.as_deref());
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            let mut last = BTreeMap::new();
            for _ in 0..rng.usize(0..20) {
                last.insert(key(&mut rng), rng.bool().then(|| value(&mut rng)));
            }
            let edits: Vec<Edit<'_>> =
                last.iter().map(|(key, value)| Edit { key, value: value.as_deref() }).collect();
            for (key, value) in &last {
                match value {
                    Some(value) => drop(model.insert(key.clone(), value.clone())),
                    None => drop(model.remove(key)),
                }
            }
            let content = Content::of(&leaf, &edits);
            let cost: usize = model.iter().map(|(key, value)| record_cost(key.len(), value.len())).sum();
            assert_eq!((content.cost, content.len()), (cost, model.len()));
            let greatest = model.keys().next_back();
            let appended = greatest.is_some_and(|key| leaf.len() > 0 && leaf.find(key) == Err(leaf.len()));
            assert_eq!(content.appended, appended);
            let budget = rng.usize(40..1000);
            let mut found = Vec::new();
            for part in content.cut(budget) {
                let leaf = Leaf::build(&part, Lsn(50), None, &account);
                for at in 0..leaf.len() {
                    let record = leaf.view_record(at);
                    assert_eq!(leaf.find(&record.key()), Ok(at));
                    found.push((record.key(), record.value.inline().to_vec()));
                }
            }
            assert!(found.into_iter().eq(model));
        }
    }
}
