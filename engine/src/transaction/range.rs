//! Iteration inside a transaction: the snapshot's records and the transaction's own, as one.

use std::iter::FusedIterator;

use logwood_base::Result;
use logwood_btree::Value;

use super::Transaction;
use super::intervals::Intervals;
use super::reads::WalkId;
use super::writes::OwnRange;
use crate::planted::{Bug, planted};
use crate::range::Range;

/// The records of a range as a [`Transaction`] sees them, in the order of their keys; `.rev()` goes from the end.
///
/// What was walked is protected until the transaction commits: a record that another commit changes, adds or takes
/// away there is a conflict. Where the walk did not come, nothing is protected. After an error it has no more items.
#[derive(Debug)]
pub struct TransactionRange<'t> {
    transaction: &'t Transaction,
    walk: WalkId,
    below: BothEnds<Range>,
    /// Own records and deleted ranges of the keyspace, when there are any.
    own: Option<(BothEnds<OwnRange<'t>>, &'t Intervals)>,
    failed: bool,
}

type Item = Result<(Value, Value)>;

/// An iterator whose next item can be looked at, at either end.
#[derive(Debug)]
struct BothEnds<I: Iterator> {
    items: I,
    front: Option<I::Item>,
    back: Option<I::Item>,
}

impl<I: DoubleEndedIterator> BothEnds<I> {
    const fn new(items: I) -> Self {
        Self { items, front: None, back: None }
    }

    /// The first item that is left.
    fn first(&mut self) -> &mut Option<I::Item> {
        if self.front.is_none() {
            self.front = self.items.next().or_else(|| self.back.take());
        }
        &mut self.front
    }

    /// The last item that is left.
    fn last(&mut self) -> &mut Option<I::Item> {
        if self.back.is_none() {
            self.back = self.items.next_back().or_else(|| self.front.take());
        }
        &mut self.back
    }
}

/// Which end of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl<'t> TransactionRange<'t> {
    pub(super) const fn new(
        transaction: &'t Transaction,
        walk: WalkId,
        below: Range,
        own: Option<(OwnRange<'t>, &'t Intervals)>,
    ) -> Self {
        let own = match own {
            Some((records, deleted)) => Some((BothEnds::new(records), deleted)),
            None => None,
        };
        Self { transaction, walk, below: BothEnds::new(below), own, failed: false }
    }

    fn step(&mut self, end: End) -> Option<Item> {
        if self.failed {
            return None;
        }
        let item = self.record(end);
        let mut reads = self.transaction.reads.lock();
        match (&item, end) {
            (None | Some(Ok(_)), _) if self.own.is_some() && planted(Bug::ForgetWalksOverOwn) => {}
            (None, _) => reads.exhausted(self.walk),
            (Some(Ok((key, _))), End::Front) => reads.advanced(self.walk, key),
            (Some(Ok((key, _))), End::Back) => reads.advanced_back(self.walk, key),
            (Some(Err(_)), _) => self.failed = true,
        }
        item
    }

    /// The outermost record at one end. Own records hide those below with the same key.
    fn record(&mut self, end: End) -> Option<Item> {
        loop {
            let below = match end {
                End::Front => self.below.first(),
                End::Back => self.below.last(),
            };
            let Some((own, deleted)) = &mut self.own else { return below.take() };
            let own = match end {
                End::Front => own.first(),
                End::Back => own.last(),
            };
            let order = match (&below, &own) {
                (None, None) => return None,
                (Some(Err(_)), _) => return below.take(),
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(_), None) => std::cmp::Ordering::Less,
                (Some(Ok((key, _))), Some((written, _))) => match end {
                    End::Front => (**key).cmp(&***written),
                    End::Back => (***written).cmp(&**key),
                },
            };
            if order.is_le() {
                let hidden = order.is_eq() || matches!(below, Some(Ok((key, _))) if deleted.contains(key));
                let record = below.take();
                if hidden {
                    continue;
                }
                return record;
            }
            if let Some((key, Some(value))) = own.take() {
                return Some(Ok((Value::from(&**key), Value::from(&**value))));
            }
        }
    }
}

impl Iterator for TransactionRange<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.step(End::Front)
    }
}

impl DoubleEndedIterator for TransactionRange<'_> {
    fn next_back(&mut self) -> Option<Item> {
        self.step(End::Back)
    }
}

impl FusedIterator for TransactionRange<'_> {}

impl Drop for TransactionRange<'_> {
    fn drop(&mut self) {
        self.transaction.reads.lock().ended(self.walk);
    }
}
