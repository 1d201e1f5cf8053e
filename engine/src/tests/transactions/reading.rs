//! What a transaction sees: its snapshot, and its own writes over it.

use std::collections::BTreeMap;
use std::ops::Bound;

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use proptest::prelude::*;

use super::one;
use crate::tests::world::World;
use crate::{Durability, Error};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// One thing done in a transaction.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    /// Walk a range; each `bool` says from which end the next record is taken.
    Walk(u8, u8, Vec<bool>),
    Count(u8, u8),
    GetMany(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..40;
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), key.clone()).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        3 => (key.clone(), key.clone(), prop::collection::vec(any::<bool>(), 0..50))
            .prop_map(|(from, to, ends)| Step::Walk(from, to, ends)),
        2 => (key.clone(), key.clone()).prop_map(|(from, to)| Step::Count(from, to)),
        1 => prop::collection::vec(key, 0..6).prop_map(Step::GetMany),
    ]
}

/// Half-open, and never upside down, which the model's map would not take.
fn range(from: u8, to: u8) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(vec![from.min(to)]), Bound::Excluded(vec![from.max(to)]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_transaction_sees_its_snapshot_and_its_own_writes_over_it(
        base in prop::collection::btree_map(0u8..40, any::<u8>(), 0..40),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (world, ks) = one();
        let db = world.db();
        let mut model: Model = base.iter().map(|(key, value)| (vec![*key], vec![*value])).collect();
        for (key, value) in &model {
            ks.put_with(key, value, Durability::Buffered).unwrap();
        }
        let mut transaction = db.transaction();
        for step in &steps {
            match step {
                Step::Put(key, value) => {
                    model.insert(vec![*key], vec![*value]);
                    transaction.put(&ks, &[*key], &[*value]).unwrap();
                }
                Step::Delete(key) => {
                    model.remove(&vec![*key]);
                    transaction.delete(&ks, &[*key]).unwrap();
                }
                Step::DeleteRange(from, to) => {
                    model.retain(|key, _| !(from.min(to)..from.max(to)).contains(&&key[0]));
                    transaction.delete_range(&ks, range(*from, *to)).unwrap();
                }
                Step::Walk(from, to, ends) => {
                    let mut walk = transaction.range(&ks, range(*from, *to)).unwrap();
                    let mut expected = model.range(range(*from, *to));
                    for front in ends {
                        let (found, expected) = match front {
                            true => (walk.next(), expected.next()),
                            false => (walk.next_back(), expected.next_back()),
                        };
                        let found = found.transpose().unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
                        prop_assert_eq!(found, expected.map(|(key, value)| (key.clone(), value.clone())));
                    }
                }
                Step::Count(from, to) => {
                    let count = transaction.count(&ks, range(*from, *to)).unwrap();
                    prop_assert_eq!(count, model.range(range(*from, *to)).count() as u64);
                }
                Step::GetMany(keys) => {
                    let keys: Vec<[u8; 1]> = keys.iter().map(|key| [*key]).collect();
                    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                    let found = transaction.get_many(&ks, &keys).unwrap();
                    let expected: Vec<_> = keys.iter().map(|key| model.get(*key).map(|value| value.as_slice())).collect();
                    prop_assert_eq!(found.iter().map(|value| value.as_deref()).collect::<Vec<_>>(), expected);
                }
            }
        }
        let all: Model = transaction.iter(&ks).unwrap().map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&all, &model);
        transaction.commit(Durability::Durable).unwrap();
        let all: Model = ks.iter().unwrap().map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&all, &model);
    }
}

#[test]
fn several_values_are_of_one_moment() {
    let (world, ks) = one();
    ks.put(b"a", b"1").unwrap();
    let snapshot = world.db().snapshot();
    ks.put(b"a", b"2").unwrap();
    ks.put(b"b", b"2").unwrap();
    let two = |value: &[u8]| Some(crate::Value::from(value));
    assert_eq!(ks.get_many(&[b"a", b"x", b"b"]).unwrap(), [two(b"2"), None, two(b"2")]);
    assert_eq!(snapshot.get_many(&ks, &[b"b", b"a"]).unwrap(), [None, two(b"1")]);
}

/// Fails the k-th read for every k, below iterators of all kinds and from both ends, over an own record too.
#[test]
pub(in crate::tests) fn an_iterator_that_failed_stays_failed_and_what_it_walked_stays_protected() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    for key in 0..1500u32 {
        ks.put_with(&key.to_be_bytes(), &[7; 500], Durability::Buffered).unwrap();
    }
    world.db().checkpoint().unwrap();
    drop(ks);
    let (mut failures, mut conflicts) = (0, 0);
    for k in 1..60 {
        world.db().close().unwrap();
        world.drop_all();
        let db = crate::Database::open(super::super::world::DIR, world.options.clone()).unwrap();
        let ks = db.keyspace("k").unwrap();
        let mut transaction = db.transaction();
        transaction.put(&ks, b"own", b"record").unwrap();
        world.disk.set_fault(Fault::new(&[Operation::Read], Outcome::Io).nth(k).on("pages"));
        let (forwards, is_outside) = (k % 2 == 0, k % 4 > 1);
        let (mut walked, mut theirs) = (0, None);
        {
            let mut walks: [Box<dyn DoubleEndedIterator<Item = crate::Result<_>>>; 2] =
                [Box::new(transaction.iter(&ks).unwrap()), Box::new(ks.iter().unwrap())];
            let walk = &mut walks[usize::from(is_outside)];
            let mut next = || if forwards { walk.next() } else { walk.next_back() };
            let failed = loop {
                match next() {
                    Some(Ok((key, _))) => {
                        walked += 1;
                        theirs = Some(key).filter(|key| &**key != b"own").or(theirs);
                    }
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            world.disk.clear_faults();
            if let Some(error) = failed {
                failures += 1;
                assert!(matches!(error, Error::Io { .. }), "{error}");
                assert!(next().is_none() && next().is_none(), "it stays failed though the disk reads again");
                assert!(walk.next().is_none() && walk.next_back().is_none(), "at both ends");
            }
        }
        assert!(walked <= 1501);
        assert_eq!(ks.count_all().unwrap(), 1500, "others read on");
        match theirs.filter(|_| !is_outside) {
            Some(key) => {
                conflicts += 1;
                ks.put_with(&key, b"meddled with", Durability::Buffered).unwrap();
                let refused = transaction.commit(Durability::Buffered);
                assert!(matches!(refused, Err(Error::Conflict(_))), "{k}: {refused:?}");
            }
            None => transaction.rollback(),
        }
        drop(ks);
        world.db = Some(db);
    }
    assert!(failures > 20 && conflicts > 10, "{failures} failures, {conflicts} conflicts");
}
