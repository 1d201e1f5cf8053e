//! Typed keyspaces over everything that reads and writes.

use super::world::World;
use crate::{Condition, Durability, Error};

#[test]
fn typed_keyspaces_read_and_write_through_batches_transactions_and_snapshots() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let db = world.db();
    let bytes = db.create_keyspace("k").unwrap();
    let typed = bytes.typed::<(String, i32), String>();
    let mut batch = db.batch();
    for (name, number) in [("b", 5), ("a", -1), ("a", 300), ("a", 2), ("a\0", 0)] {
        typed.put_in(&mut batch, (name, number), &format!("{name}{number}")).unwrap();
    }
    db.commit(batch, Durability::Durable).unwrap();
    let keys =
        |records: Vec<((String, i32), String)>| records.into_iter().map(|(key, _)| key.1).collect::<Vec<_>>();
    let all = typed.iter().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(all[0], (("a".to_owned(), -1), "a-1".to_owned()));
    assert_eq!(keys(all), [-1, 2, 300, 0, 5]);
    let of_a = typed.prefix::<(String,)>(("a",)).unwrap().rev().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(keys(of_a), [300, 2, -1]);
    let snapshot = db.snapshot();
    let mut transaction = db.transaction();
    typed.delete_in(&mut transaction, ("a", 2)).unwrap();
    typed.put_in(&mut transaction, ("a", 7), "seven").unwrap();
    assert_eq!(typed.get_in(&transaction, ("a", 7)).unwrap().as_deref(), Some("seven"));
    let seen =
        typed.range_in(&transaction, ("a", 0)..("a", 100)).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(keys(seen), [7]);
    assert_eq!(typed.count_in(&transaction, ("a", 0)..).unwrap(), 4);
    transaction.commit(Durability::Durable).unwrap();
    assert_eq!(typed.get_in(&snapshot, ("a", 2)).unwrap().as_deref(), Some("a2"));
    let before = typed.prefix_in::<(String,), _>(&snapshot, ("a",)).unwrap();
    assert_eq!(keys(before.collect::<Result<Vec<_>, _>>().unwrap()), [-1, 2, 300]);
    assert_eq!((typed.count(("a", 0)..("b", 0)).unwrap(), typed.count_all().unwrap()), (3, 5));
    assert!(typed.contains(("b", 5)).unwrap() && typed.get(("b", 6)).unwrap().is_none());
    assert!(!typed.put_if(("b", 5), "x", Condition::Absent).unwrap().is_done());
    typed.delete(("b", 5)).unwrap();
    assert!(!typed.contains(("b", 5)).unwrap());
}

#[test]
fn bytes_of_other_types_are_an_error_and_end_an_iteration() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    ks.put(b"\0\0\0\x01", b"\x01\0").unwrap();
    ks.put(b"\0\0\0\x02", b"no number").unwrap();
    ks.put(b"\0\0\0\x03", b"\x03\0").unwrap();
    let typed = ks.typed::<u32, u16>();
    assert_eq!(typed.get(1).unwrap(), Some(1));
    assert!(matches!(typed.get(2), Err(Error::InvalidArgument(_))));
    let mut walk = typed.range(1..).unwrap();
    assert!(matches!(walk.next(), Some(Ok((1, 1)))));
    assert!(walk.next().unwrap().is_err());
    assert!(walk.next().is_none() && walk.next_back().is_none());
    assert!(ks.typed::<u64, u16>().iter().unwrap().next().unwrap().is_err());
}

#[test]
fn typed_range_deletes_conditions_and_lookups_are_those_of_the_bytes() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let db = world.db();
    let typed = db.create_keyspace("k").unwrap().typed::<(Option<u8>, std::cmp::Reverse<u32>), f64>();
    let key = |part: Option<u8>, n: u32| (part, std::cmp::Reverse(n));
    for n in 0..10 {
        typed.put_with(key(Some(1), n), f64::from(n), Durability::Buffered).unwrap();
        typed.put(key(None, n), -f64::from(n)).unwrap();
    }
    assert_eq!(typed.first().unwrap(), Some((key(None, 9), -9.0)));
    assert_eq!(typed.last().unwrap(), Some((key(Some(1), 0), 0.0)));
    let found = typed.get_many([key(Some(1), 3), key(Some(2), 3), key(None, 3)]).unwrap();
    assert_eq!(found, [Some(3.0), None, Some(-3.0)]);
    let (snapshot, before) = (db.snapshot(), typed.digest_all().unwrap());
    typed.delete_range(..key(Some(0), u32::MAX)).unwrap();
    assert_eq!(typed.count_all().unwrap(), 10);
    assert_ne!(typed.digest_all().unwrap(), before);
    assert!(typed.contains_in(&snapshot, key(None, 4)).unwrap() && !typed.contains(key(None, 4)).unwrap());
    let mut transaction = db.transaction();
    typed.delete_range_in(&mut transaction, key(Some(1), 7)..=key(Some(1), 5)).unwrap();
    assert!(!typed.contains_in(&transaction, key(Some(1), 6)).unwrap());
    transaction.commit(Durability::Durable).unwrap();
    let left: Vec<_> = typed.iter().unwrap().map(|record| record.unwrap().1).collect();
    assert_eq!(left, [9.0, 8.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    assert!(!typed.delete_if(key(Some(1), 6), Condition::Present).unwrap().is_done());
    assert!(typed.delete_if(key(Some(1), 8), Condition::Present).unwrap().is_done());
    typed.delete_with(key(Some(1), 9), Durability::Buffered).unwrap();
    assert_eq!(typed.digest(key(Some(1), 4)..).unwrap(), typed.digest_all().unwrap());
}
