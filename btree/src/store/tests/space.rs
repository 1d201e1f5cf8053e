//! Live bytes, victims, pins, and when files go.

use logwood_base::disk::SimulatedDisk;
use logwood_base::{KeyspaceId, LogPosition, Lsn, SegmentNo};

use super::harness::{Forest, body, create, label, open};
use crate::format::child::ChildEntry;
use crate::store::{Commit, LivePercent, PageKind, PageRef, Root, Store, Stream, TreeEntry};

fn segment_files(disk: &SimulatedDisk) -> usize {
    disk.paths().iter().filter(|path| path.extension().is_some_and(|found| found == "pages")).count()
}

/// A store whose first segments are dead in the newest generation.
fn rewritten(disk: &SimulatedDisk) -> (Store, Forest) {
    let store = create(disk).unwrap();
    let mut forest = Forest::default();
    for _ in 0..2 {
        for keyspace in 1..20 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        forest.checkpoint(&store).unwrap();
    }
    (store, forest)
}

#[test]
fn dead_segments_go_when_two_newer_generations_are_durable() {
    let disk = SimulatedDisk::new(1);
    let (store, forest) = rewritten(&disk);
    let waiting = store.statistics();
    assert!(waiting.waiting_segments > 0 && segment_files(&disk) > waiting.segments as usize);
    forest.checkpoint(&store).unwrap();
    let after = store.statistics();
    assert_eq!((after.waiting_segments, after.waiting_bytes), (0, 0));
    assert_eq!(segment_files(&disk), after.segments as usize);
    assert_eq!(after.live_bytes, forest.live_bytes());
    forest.check(&store).unwrap();
}

#[test]
fn a_pin_keeps_what_was_alive_when_it_was_taken() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..20 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    let (pin, old) = (store.pin(), forest.clone());
    for _ in 0..4 {
        for keyspace in 1..20 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        forest.checkpoint(&store).unwrap();
        let younger = store.pin();
        old.check(&store).unwrap();
        drop(younger);
    }
    assert_eq!(store.collect(), 0);
    drop(pin);
    assert!(store.collect() > 0);
    assert!(old.check(&store).is_err());
    forest.check(&store).unwrap();
}

#[test]
fn a_manifest_that_someone_holds_keeps_its_files() {
    let disk = SimulatedDisk::new(1);
    let (store, mut forest) = rewritten(&disk);
    let (held, old) = (store.manifest(), forest.clone());
    for _ in 0..3 {
        for keyspace in 1..20 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        forest.checkpoint(&store).unwrap();
    }
    for segment in &held.segments {
        assert!(disk.read_file(&store.segment_path(segment.number)).is_some());
    }
    old.check(&store).unwrap();
    drop(held);
    assert!(store.collect() > 0);
}

const HALF: LivePercent = LivePercent { images: 50, deltas: 50 };

#[test]
fn victims_are_the_emptiest_first() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..60 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    assert_eq!(store.victims(9, HALF), []);
    let of = |forest: &Forest, keyspace: u64| forest.pages[&keyspace].1.addr.segment;
    let (first, last) = (of(&forest, 1), of(&forest, 50));
    assert_ne!(first, last);
    let emptied: Vec<u64> = (1..60).filter(|keyspace| of(&forest, *keyspace) == last).collect();
    for keyspace in &emptied[1..] {
        forest.write(&store, Stream::Hot, *keyspace).unwrap();
    }
    let halved: Vec<u64> = (1..60).filter(|keyspace| of(&forest, *keyspace) == first).collect();
    for keyspace in &halved[..halved.len() * 2 / 3] {
        forest.write(&store, Stream::Hot, *keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    assert_eq!(store.victims(9, HALF), [last, first]);
    assert_eq!(store.victims(1, HALF), [last]);

    let labels = store.pages_of(last).unwrap();
    let alive: Vec<u64> = labels
        .iter()
        .filter(|label| forest.pages[&label.keyspace.get()].1 == label.page)
        .map(|label| label.keyspace.get())
        .collect();
    assert_eq!((labels.len(), &alive[..]), (emptied.len(), &emptied[..1]));
    assert_eq!(labels[0].low_key, format!("{:04}/", emptied[0]).into_bytes());
}

#[test]
fn the_committed_trees_decide_what_is_alive_after_a_crash() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..5 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    let committed = forest.clone();
    // Eviction writes one page of a later state, and retires the one that the checkpoint still reaches.
    let replaced = forest.pages[&2].1;
    forest.write(&store, Stream::Base, 2).unwrap();
    let evicted = forest.pages[&2].1;
    store.seal_all().unwrap();
    commit_as(&store, &committed, &[evicted], &[replaced]);
    assert_eq!(store.statistics().live_bytes, forest.live_bytes());

    disk.crash(&mut fastrand::Rng::with_seed(1));
    let (store, opened) = open(&disk).unwrap();
    let found = Forest::of(&opened.manifest);
    assert_eq!(found.versions(), committed.versions());
    assert_eq!(store.statistics().live_bytes, found.live_bytes());
}

fn commit_as(store: &Store, forest: &Forest, unreached: &[PageRef], still_reached: &[PageRef]) {
    let trees = forest.pages.iter().map(|(keyspace, (version, page))| TreeEntry {
        keyspace: KeyspaceId(*keyspace),
        root: Some(Root {
            level: 0,
            child: ChildEntry::of_image(*page, Lsn(*version), logwood_base::digest::Digest::EMPTY),
        }),
    });
    store
        .commit(Commit {
            checkpoint_lsn: Lsn(forest.lsn),
            replay_from: Lsn(forest.lsn + 1),
            log_durable_end: LogPosition::ZERO,
            engine_state: b"",
            trees: trees.collect(),
            detached: Vec::new(),
            unreached,
            still_reached,
        })
        .unwrap();
}

#[test]
fn a_commit_of_pages_that_are_not_sealed_is_refused() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    forest.write(&store, Stream::Base, 1).unwrap();
    let error = forest.commit(&store).unwrap_err();
    assert!(error.to_string().contains("not sealed"), "{error}");
    forest.checkpoint(&store).unwrap();
}

#[test]
fn the_log_is_kept_for_every_generation_that_may_be_opened() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    let mut before = Lsn::FIRST;
    for keyspace in 1..6 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
        forest.checkpoint(&store).unwrap();
        assert_eq!(store.replay_from(), before);
        before = Lsn(forest.lsn + 1);
    }
    drop(store);
    let (store, _) = open(&disk).unwrap();
    assert_eq!(store.replay_from(), Lsn(before.0 - 1));
}

#[test]
fn pages_of_all_kinds_and_sizes_share_a_segment() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let long: Vec<u8> = (0..700_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let pages: Vec<(PageRef, &[u8])> = crate::format::overflow::pieces(&long)
        .map(|piece| {
            let mut label = label(9, b"the key");
            label.kind = PageKind::Overflow;
            (store.append(Stream::Overflow, &label, piece).unwrap(), piece)
        })
        .collect();
    let leaf = store.append(Stream::Base, &label(9, b""), &body(9, 1)).unwrap();
    store.seal_all().unwrap();
    for (page, piece) in pages {
        assert_eq!(store.read(&page).unwrap().body(), piece);
    }
    assert_eq!(store.read(&leaf).unwrap().body(), body(9, 1));
    assert!(store.pages_of(SegmentNo(77)).is_err());
}

#[test]
fn open_segments_take_no_more_memory_than_they_may() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut most = 0;
    for _ in 0..400 {
        let stream = Stream::ALL[rng.usize(..5)];
        store.append(stream, &label(1, b""), &body(1, 1)).unwrap();
        most = most.max(store.statistics().open_bytes);
    }
    let bound = super::harness::options().open_bytes_max as u64;
    assert!(most > bound / 2 && most < bound + (8 << 10), "{most} of {bound}");
}

#[test]
#[should_panic(expected = "retired")]
fn a_page_that_is_retired_twice_stops_the_store_before_a_file_goes() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let page = store.append(Stream::Base, &label(1, b""), &body(1, 1)).unwrap();
    store.seal_all().unwrap();
    store.retire(&page);
    store.retire(&page);
}

#[test]
fn options_that_cannot_work_are_refused() {
    use crate::store::{Identity, StoreOptions};
    let disk = std::sync::Arc::new(SimulatedDisk::new(1));
    let identity: Identity = super::harness::identity();
    for options in [
        StoreOptions { segment_bytes: u32::MAX, ..StoreOptions::default() },
        StoreOptions { write_bytes: 5000, ..StoreOptions::default() },
    ] {
        let dir = std::path::Path::new("db");
        assert!(Store::create(disk.clone(), dir, identity, options, super::harness::beginning()).is_err());
    }
    assert!(disk.paths().is_empty());
}
