//! Opening on a disk that is full.

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::World;
use crate::{Database, Durability, Error};

const DIRTY_BYTES_MAX: usize = 256 << 10;

/// A database that could write no page for so long that it refuses writes, killed.
fn filled(seed: u64) -> (World, u32) {
    let mut world = World::new(seed);
    world.options =
        world.options.clone().background(false).cache_bytes(2 << 20).recovery_log_bytes_max(8 << 20);
    world.options = world.options.clone().dirty_bytes_max(DIRTY_BYTES_MAX);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks0").unwrap();
    ks.put(&0u32.to_be_bytes(), &[0; 500]).unwrap();
    world.db().checkpoint().unwrap();
    world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).on("pages/").for_ever());
    let mut count = 1;
    loop {
        match ks.put_with(&u32::to_be_bytes(count), &[count as u8; 500], Durability::Buffered) {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(matches!(error, Error::DiskFull { .. }), "{error}");
                break;
            }
        }
    }
    drop(ks);
    world.disk.kill_process();
    world.drop_all();
    (world, count)
}

#[test]
fn a_database_opens_on_the_full_disk_that_it_has_met_however_much_it_must_replay() {
    for by_capacity in [false, true] {
        let (mut world, count) = filled(u64::from(by_capacity));
        if by_capacity {
            // Room for a segment of the log, and nothing else.
            world.disk.clear_faults();
            world.disk.set_capacity(Some(world.disk.used_bytes() + (68 << 10)));
        }
        // More than once: each opening begins a segment of its own, in the room that the one before has left.
        for _ in 0..2 {
            let db = Database::open(super::world::DIR, world.options.clone()).unwrap();
            let ks = db.keyspace("ks0").unwrap();
            assert_eq!(ks.count_all().unwrap(), u64::from(count));
            assert_eq!(ks.get(&1u32.to_be_bytes()).unwrap().as_deref(), Some(&[1; 500][..]));
            let dirty = db.statistics().trees.dirty_bytes;
            assert!(dirty < 3 * DIRTY_BYTES_MAX, "{dirty}");
            if !by_capacity {
                assert!(dirty > DIRTY_BYTES_MAX / 2, "nothing of it got to a page: {dirty}");
                assert!(matches!(db.checkpoint(), Err(Error::DiskFull { .. })));
            }
            drop((ks, db));
            world.spawner.kill_all();
        }
        let db = Database::open(super::world::DIR, world.options.clone()).unwrap();
        world.disk.clear_faults();
        world.disk.set_capacity(None);
        db.checkpoint().unwrap();
        assert_eq!(db.statistics().trees.dirty_bytes, 0);
        let ks = db.keyspace("ks0").unwrap();
        ks.put(b"more", b"there is room again").unwrap();
        assert_eq!(ks.count_all().unwrap(), u64::from(count) + 1);
        drop(ks);
        world.db = Some(db);
        world.verify_clean();
        world.drop_all();
    }
}
