//! What a database takes over a long time: on disk, in memory, and at the next opening.
//!
//! Time is simulated: an hour passes in steps of a tenth of a second, and background work is done as it comes due.
//! `cargo test -p logwood --lib space -- --nocapture` shows the figures.

use std::path::Path;
use std::time::Duration;

use logwood_base::{Clock, Disk};

use super::world::World;
use crate::{Durability, Keyspace, Snapshot};

const TICK: Duration = Duration::from_millis(100);
const TICKS_AN_HOUR: u64 = 36_000;
/// Different keys, and bytes of each value: four times the cache.
const KEYS: u64 = 8_000;
const VALUE_BYTES: usize = 120;
const CACHE_BYTES: usize = 256 << 10;
const SEGMENT: u64 = 64 << 10;

struct Hour {
    world: World,
    busy: Keyspace,
    rng: fastrand::Rng,
    pages_most: u64,
    log_most: u64,
    memory_most: usize,
}

impl Hour {
    fn new(cache_bytes: usize) -> Self {
        Self::with_segments(cache_bytes, SEGMENT as u32)
    }

    fn with_segments(cache_bytes: usize, page_segment_bytes: u32) -> Self {
        let mut world = World::new(1);
        world.options = world.options.clone().cache_bytes(cache_bytes).page_segment_bytes(page_segment_bytes);
        world.open(0).unwrap();
        let busy = world.db().create_keyspace("busy").unwrap();
        let mut hour = Self {
            world,
            busy,
            rng: fastrand::Rng::with_seed(1),
            pages_most: 0,
            log_most: 0,
            memory_most: 0,
        };
        for first in (0..KEYS).step_by(500) {
            hour.overwrite(first..first + 500);
        }
        hour.world.db().checkpoint().unwrap();
        hour
    }

    fn overwrite(&mut self, keys: impl Iterator<Item = u64>) {
        let mut batch = self.world.db().batch();
        for key in keys {
            let mut value = [0; VALUE_BYTES];
            self.rng.fill(&mut value);
            batch.put(&self.busy, &key.to_be_bytes(), &value).unwrap();
        }
        self.world.db().commit(batch, Durability::Buffered).unwrap();
    }

    /// Random overwrites for so many ticks.
    fn pass(&mut self, ticks: u64) {
        for tick in 0..ticks {
            let keys: Vec<u64> = (0..8).map(|_| self.rng.u64(..KEYS)).collect();
            self.overwrite(keys.into_iter());
            self.world.clock.advance(TICK);
            self.world.spawner.run_until_idle(self.world.clock.monotonic(), 50);
            if tick % 50 == 0 {
                self.note();
            }
        }
    }

    fn note(&mut self) {
        let statistics = self.world.db().statistics();
        self.pages_most = self.pages_most.max(statistics.trees.store.total_bytes);
        self.log_most = self.log_most.max(statistics.log.log_bytes);
        self.memory_most = self.memory_most.max(statistics.trees.resident_bytes);
    }

    fn live(&self) -> u64 {
        self.world.db().statistics().trees.store.live_bytes
    }

    /// Bytes of the files in a folder of the database.
    fn bytes_in(&self, folder: &str) -> u64 {
        let folder = Path::new(super::world::DIR).join(folder);
        let files = self.world.disk.list(&folder).unwrap();
        files.iter().map(|file| file.bytes).sum()
    }

    fn report(&self, what: &str) {
        let live = self.live();
        println!(
            "{what}: {live} bytes of live pages; most of page segments {}, of log {}, of memory {}",
            self.pages_most, self.log_most, self.memory_most
        );
    }
}

fn records(snapshot: &Snapshot, keyspace: &Keyspace) -> Vec<(Vec<u8>, Vec<u8>)> {
    let records = snapshot.iter(keyspace).unwrap();
    records.map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

#[test]
fn an_hour_of_random_overwrites_takes_bounded_space_on_disk() {
    let mut hour = Hour::new(CACHE_BYTES);
    hour.pass(TICKS_AN_HOUR);
    hour.report("an hour of overwrites");
    let live = hour.live();
    assert!(hour.pages_most <= 3 * live + 8 * SEGMENT, "pages: {} for {live}", hour.pages_most);
    let bound = hour.world.options.recovery_log_bytes_max;
    assert!(hour.log_most <= 3 * bound + 8 * SEGMENT, "log: {}", hour.log_most);
    assert_eq!(hour.busy.count_all().unwrap(), KEYS);
    // What is left when everything comes to rest.
    hour.world.db().compact().unwrap();
    let statistics = hour.world.db().statistics();
    let (total, live) = (statistics.trees.store.total_bytes, statistics.trees.store.live_bytes);
    assert!(total <= live + live / 10 + 4 * SEGMENT, "{total} for {live}");
}

#[test]
fn compacting_gives_the_space_of_the_log_back_too_before_it_returns() {
    let mut hour = Hour::new(16 << 20);
    // Nothing is done in the background.
    for _ in 0..40 {
        hour.overwrite(0..500);
    }
    let before = hour.world.db().statistics().log.log_bytes;
    hour.world.db().compact().unwrap();
    let after = hour.world.db().statistics().log.log_bytes;
    assert!(before > 20 * SEGMENT && after <= 4 * SEGMENT, "{before} before, {after} after");
}

#[test]
fn compacting_after_removals_leaves_the_records_that_are_left_and_a_few_segments_of_the_log() {
    // All pages in one segment: before a checkpoint has written the removals, it is alive as a whole, and nothing is worth
    // moving. Of many small ones there is always one that is.
    let hour = Hour::with_segments(16 << 20, 4 << 20);
    hour.world.db().compact().unwrap();
    // Most of what most leaves hold goes, and little of what the others do: those keep their images, beside delta blocks.
    let goes = |key: &u64| match key / 200 % 3 {
        0 => key.is_multiple_of(50),
        _ => !key.is_multiple_of(10),
    };
    for first in (0..KEYS).step_by(500) {
        let mut batch = hour.world.db().batch();
        for key in (first..first + 500).filter(goes) {
            batch.delete(&hour.busy, &key.to_be_bytes()).unwrap();
        }
        hour.world.db().commit(batch, Durability::Buffered).unwrap();
    }
    hour.world.db().compact().unwrap();
    let left = KEYS - (0..KEYS).filter(goes).count() as u64;
    assert_eq!(hour.busy.count_all().unwrap(), left);
    let records = left * (8 + VALUE_BYTES as u64);
    let pages = hour.bytes_in("pages");
    assert!(pages <= records + records / 10 + SEGMENT, "{pages} bytes of pages for {records} of records");
    // The one that is written to, and those that are kept for later.
    let log = hour.bytes_in("log");
    assert!(log <= 3 * SEGMENT, "{log} bytes of log");
}

#[test]
fn a_snapshot_held_for_half_an_hour_costs_a_version_of_each_leaf_and_gives_all_back() {
    let mut hour = Hour::new(CACHE_BYTES);
    hour.pass(600);
    let before = hour.live();
    let snapshot = hour.world.db().snapshot();
    let seen = records(&snapshot, &hour.busy);
    hour.pass(TICKS_AN_HOUR / 2);
    hour.report("half an hour under a snapshot");
    assert_eq!(records(&snapshot, &hour.busy), seen, "a snapshot changes never");
    let held = hour.world.db().statistics().trees;
    // A checkpoint that is under way holds some of its own.
    assert!(held.snapshots >= 1 && held.oldest_snapshot == Some(snapshot.lsn()), "{held:?}");
    let data = KEYS as usize * (VALUE_BYTES + 8);
    assert!(held.version_bytes <= 3 * data, "{} bytes of versions for {data}", held.version_bytes);
    drop(snapshot);
    hour.pass(600);
    let after = hour.world.db().statistics().trees;
    assert!(after.version_bytes <= held.version_bytes / 4, "{} are left", after.version_bytes);
    assert!(
        after.store.live_bytes <= before + before / 4,
        "{} live, {before} before",
        after.store.live_bytes
    );
}

#[test]
fn an_idle_keyspace_beside_a_busy_one_holds_back_neither_log_nor_opening() {
    // All of it in the cache: the length of the log alone asks for checkpoints.
    let mut hour = Hour::new(16 << 20);
    let idle = hour.world.db().create_keyspace("idle").unwrap();
    idle.put(b"the only", b"record").unwrap();
    let digest = idle.digest_all().unwrap();
    hour.pass(6_000);
    hour.report("ten minutes beside an idle keyspace");
    let bound = hour.world.options.recovery_log_bytes_max;
    assert!(hour.log_most <= 3 * bound + 8 * SEGMENT, "log: {}", hour.log_most);
    assert!(hour.world.db().oldest_change_lsn().unwrap() > crate::Lsn(1000), "the log lets entries go");
    // A kill in the middle of two checkpoints, so that opening has something to do.
    while hour.world.db().statistics().replay_bytes < bound / 8 {
        hour.pass(1);
    }
    let Hour { mut world, busy, .. } = hour;
    drop((idle, busy));
    world.disk.kill_process();
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    let recovery = db.statistics().recovery;
    println!("opening replayed {} bytes of {} entries", recovery.bytes_replayed, recovery.entries_replayed);
    assert!((bound / 16..=bound + 4 * SEGMENT).contains(&recovery.bytes_replayed), "{recovery:?}");
    assert_eq!(db.keyspace("idle").unwrap().digest_all().unwrap(), digest);
    assert_eq!(db.keyspace("busy").unwrap().count_all().unwrap(), KEYS);
}
