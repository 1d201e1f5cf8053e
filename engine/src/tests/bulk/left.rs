//! What a bulk write leaves to others: its log when it was given up, and their pages when its own are damaged.

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::{LITTLE, begun, fill, key, reopen, under_way};
use crate::fragments::Collected;
use crate::tests::world::{DIR, World};
use crate::{Durability, Error};

#[test]
fn whoever_asks_for_room_gets_the_log_of_a_bulk_write_that_was_dropped_although_nobody_writes() {
    let mut world = begun();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 6000, &[b'v'; 100]);
    let kept = world.db().statistics().log.log_bytes;
    drop(bulk);
    world.db().checkpoint().unwrap();
    let core = world.db().core();
    assert!(core.sequencer.lock().applier.fragments.oldest().is_none(), "a checkpoint ends it");

    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 6000, &[b'v'; 100]);
    drop(bulk);
    world.db().compact().unwrap();
    let left = world.db().statistics().log.log_bytes;
    assert!(left < kept / 3, "{left} of {kept} bytes of log");
    reopen(&mut world, 1);
    assert_eq!(world.db().keyspace("a").unwrap().count_all().unwrap(), 0);
    world.verify_clean();
}

#[test]
fn a_damaged_page_in_any_run_of_a_small_bulk_write_is_an_answer_to_it_alone() {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(1 << 20).background(false);
    world.open(0).unwrap();
    world.db().create_keyspace("a").unwrap();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..4000).for_each(|n| bulk.put(&a, &key(n), &[n as u8; 100]).unwrap());
    bulk.commit(Durability::Durable).unwrap();
    world.db().checkpoint().unwrap();
    drop((a, bulk));
    reopen(&mut world, 1);

    let a = world.db().keyspace("a").unwrap();
    // What the first run changes is in memory; what the second one changes is not.
    assert!(a.contains(&key(3999)).unwrap());
    let pages = world.disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("/pages/"));
    for page in pages {
        let bytes = world.disk.read_file(&page).unwrap().len() as u64;
        (0..bytes).step_by(256).for_each(|at| world.disk.flip_bit(&page, at, 1));
    }
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    bulk.put(&a, &key(3999), b"in the last leaf").unwrap();
    bulk.write_out().unwrap();
    bulk.put(&a, &key(1), b"in the first leaf").unwrap();
    bulk.write_out().unwrap();
    let (_, collected) = under_way(world.db().core());
    assert!(matches!(collected, Some(Collected::Joined(_))), "{collected:?}");
    let refused = bulk.commit(Durability::Durable).unwrap_err();
    assert!(matches!(refused, Error::Corruption(_)), "{refused}");
    drop(bulk);
    a.put(&key(3999), b"the database goes on").unwrap();
}

#[test]
fn the_end_of_a_bulk_write_behind_a_close_touches_no_page_file_of_whoever_opened_the_directory() {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(1 << 20).background(false);
    world.open(0).unwrap();
    let a = world.db().create_keyspace("a").unwrap();
    let mut first = world.db().bulk_write(LITTLE).unwrap();
    (0..4000).for_each(|n| first.put(&a, &key(n), &[n as u8; 100]).unwrap());
    first.commit(Durability::Durable).unwrap();
    world.db().checkpoint().unwrap();
    // Little, which stays in memory; but more leaves than a quarter of the cache, for which room is looked for.
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..400).for_each(|n| bulk.put(&a, &key(n * 10), b"late").unwrap());
    bulk.write_out().unwrap();
    let (_, collected) = under_way(world.db().core());
    assert!(matches!(collected, Some(Collected::Joined(_))), "{collected:?}");
    world.db().close().unwrap();
    let held = world.db.take();
    world.db = Some(crate::Database::open(DIR, world.options.clone()).unwrap());
    world.disk.set_fault(Fault::new(&[Operation::Create], Outcome::Io).on("pages/").nth(1));
    let late = bulk.commit(Durability::Durable);
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    world.disk.clear_faults();
    assert!(world.disk.struck().is_empty(), "a page file was to be made");
    drop((held, bulk, first));
    assert_eq!(world.db().keyspace("a").unwrap().get(&key(10)).unwrap().as_deref(), Some(&[10; 100][..]));
    world.verify_clean();
}
