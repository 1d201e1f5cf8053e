//! Random work with random misfortune against a model, and work from several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::sync::Mutex;

use super::harness::{Forest, body, create, label, open, scale};
use crate::store::{Pin, Store, Stream};

/// Writes what abandoned segments held once more, and forgets them. Gives up at the first failure.
fn mend(store: &Store, forest: &mut Forest) -> bool {
    for abandoned in store.abandoned() {
        for page in &abandoned.pages {
            let keyspace = page.keyspace.get();
            let is_reached = forest.pages.get(&keyspace).is_some_and(|(_, reached)| *reached == page.page);
            if is_reached && forest.write(store, Stream::Cold, keyspace).is_err() {
                return false;
            }
        }
        store.forget(abandoned.number);
    }
    true
}

struct World {
    disk: SimulatedDisk,
    store: Store,
    forest: Forest,
    /// What must be found after a power cut, and what may be found instead.
    acknowledged: BTreeMap<u64, u64>,
    attempted: Vec<BTreeMap<u64, u64>>,
    /// Readers of older states.
    pinned: Vec<(Pin, Forest)>,
}

impl World {
    fn step(&mut self, rng: &mut Rng) {
        match rng.u32(..100) {
            0..=59 => {
                let stream = Stream::ALL[rng.usize(..Stream::ALL.len())];
                let _ = self.forest.write(&self.store, stream, rng.u64(1..24));
            }
            60..=64 => {
                let keyspace = rng.u64(1..24);
                if let Some((_, page)) = self.forest.pages.remove(&keyspace) {
                    self.store.retire(&page);
                }
            }
            65..=79 => {
                if mend(&self.store, &mut self.forest) && self.store.seal_all().is_ok() {
                    self.attempted.push(self.forest.versions());
                    if self.forest.commit(&self.store).is_ok() {
                        self.acknowledged = self.forest.versions();
                        self.attempted.clear();
                    }
                }
            }
            80..=84 if self.pinned.len() < 3 => self.pinned.push((self.store.pin(), self.forest.clone())),
            85..=88 => {
                if !self.pinned.is_empty() {
                    self.pinned.swap_remove(rng.usize(..self.pinned.len()));
                    self.store.collect();
                }
            }
            89..=92 => {
                let outcome = if rng.bool() { Outcome::DiskFull } else { Outcome::Io };
                let operations = [Operation::Create, Operation::Write, Operation::Sync, Operation::SyncDir];
                let operations =
                    if matches!(outcome, Outcome::DiskFull) { &operations[..2] } else { &operations };
                self.disk.set_fault(Fault::new(operations, outcome).nth(rng.u64(1..6)));
            }
            93..=96 => self.crash(rng),
            _ => {
                self.forest.check(&self.store).unwrap();
                // A pin keeps sealed pages; those of an abandoned segment go when it is forgotten.
                for (_, forest) in &self.pinned {
                    for (keyspace, (version, page)) in &forest.pages {
                        if let Ok(read) = self.store.read(page) {
                            assert_eq!(read.body(), body(*keyspace, *version));
                        }
                    }
                }
            }
        }
    }

    fn crash(&mut self, rng: &mut Rng) {
        self.disk.clear_faults();
        self.pinned.clear();
        if rng.bool() {
            self.disk.crash(rng);
        } else {
            self.disk.kill_process();
        }
        let (store, opened) = open(&self.disk).unwrap();
        let forest = Forest::of(&opened.manifest);
        let found = forest.versions();
        assert!(
            found == self.acknowledged || self.attempted.contains(&found),
            "found {found:?}, acknowledged {:?}, attempted {:?}",
            self.acknowledged,
            self.attempted
        );
        forest.check(&store).unwrap();
        assert_eq!(store.statistics().live_bytes, forest.live_bytes());
        let report = store.verify_files(&mut |damage| panic!("{damage:?}"), &mut |_| ()).unwrap();
        assert_eq!(report.damages, 0);
        (self.store, self.forest) = (store, forest);
        self.acknowledged = found;
        self.attempted.clear();
    }
}

#[test]
fn random_work_with_faults_and_crashes_keeps_what_was_acknowledged() {
    for seed in 0..60 * scale() {
        let disk = SimulatedDisk::new(seed);
        let store = create(&disk).unwrap();
        let mut world = World {
            disk,
            store,
            forest: Forest::default(),
            acknowledged: BTreeMap::new(),
            attempted: Vec::new(),
            pinned: Vec::new(),
        };
        let mut rng = Rng::with_seed(seed);
        for _ in 0..250 {
            world.step(&mut rng);
        }
        world.crash(&mut rng);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn readers_and_writers_of_all_streams_work_at_the_same_time() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let written = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..3u64 {
            let (store, written) = (&store, &written);
            scope.spawn(move || {
                for version in 1..80 {
                    let label = label(n, b"");
                    let stream = Stream::ALL[(version % 2) as usize];
                    let page = store.append(stream, &label, &body(n, version)).unwrap();
                    written.lock().push((n, version, page));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let known: Vec<_> = written.lock().clone();
                for (n, version, page) in known.iter().rev().take(20) {
                    assert_eq!(store.read(page).unwrap().body(), body(*n, *version));
                }
                assert!(store.statistics().generation > 0);
            }
        });
        scope.spawn(|| {
            for _ in 0..20 {
                store.seal_all().unwrap();
            }
            while written.lock().len() < 3 * 79 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    store.seal_all().unwrap();
    for (n, version, page) in written.lock().iter() {
        assert_eq!(store.read(page).unwrap().body(), body(*n, *version));
    }
}
