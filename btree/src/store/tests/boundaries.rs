//! Numbers at the ends of their ranges: 2^31, 2^32, 2^62, 2^63 and their neighbours, for segments, generations, offsets,
//! lengths, counts and LSNs, found in names and in files whose checksums are right. Overflow panics in release builds
//! too, so that each sum over what a file says must be safe.

use std::path::Path;

use logwood_base::disk::SimulatedDisk;
use logwood_base::{Error, Generation, Lsn, SegmentNo};

use super::harness::{DIR, Forest, one_generation, open};
use crate::format::child::ChildEntry;
use crate::format::manifest::Manifest;
use crate::manifest::{copy_path, copy_paths};
use crate::store::{Stream, manifest_dir, pages_dir, segment_path};
use crate::verify::verify_files;

const EDGES: [u64; 10] =
    [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX];

/// A store with one generation of some segments, its process gone.
fn sample() -> (SimulatedDisk, Forest) {
    let (disk, store, forest) = one_generation();
    drop(store);
    disk.kill_process();
    (disk, forest)
}

/// Writes another state and finds it again after reopening.
fn goes_on(disk: &SimulatedDisk, mut forest: Forest) {
    let (store, _) = open(disk).unwrap();
    forest.check(&store).unwrap();
    for keyspace in 1..20 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    drop(store);
    disk.kill_process();
    let (store, opened) = open(disk).unwrap();
    assert_eq!(Forest::of(&opened.manifest).versions(), forest.versions());
    forest.check(&store).unwrap();
}

/// The newest manifest, changed, its checksums right, under its own generation or another one.
fn rewrite(disk: &SimulatedDisk, change: impl FnOnce(&mut Manifest)) {
    let manifests = manifest_dir(Path::new(DIR));
    let (store, opened) = open(disk).unwrap();
    let mut manifest = (*opened.manifest).clone();
    drop((store, opened));
    disk.kill_process();
    change(&mut manifest);
    for path in copy_paths(&manifests, manifest.generation) {
        disk.write_file(&path, &manifest.encode());
    }
}

/// Opens, reads every root, writes and verifies. Whatever is answered, it is answered. Tells whether all went well.
fn answers(disk: &SimulatedDisk) -> Result<(), Error> {
    let _ = verify_files(disk, Path::new(DIR), &mut |_| (), &mut |_| ());
    let (store, opened) = open(disk)?;
    let mut forest = Forest::of(&opened.manifest);
    let checked = forest.pages.values().try_for_each(|(_, page)| {
        let _ = store.read_many(&[*page]);
        let _ = store.read_from_device(page);
        store.read(page).map(drop)
    });
    forest.lsn = forest.lsn.min(1 << 40);
    let _ = forest.write(&store, Stream::Base, 99);
    let _ = forest.checkpoint(&store);
    let _ = store.verify_files(&mut |_| (), &mut |_| ());
    drop(store);
    disk.kill_process();
    open(disk)?;
    checked
}

#[test]
fn numbers_go_on_above_every_name_near_and_names_far_ahead_are_refused() {
    for stray in [1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32] {
        let (disk, forest) = sample();
        let path = segment_path(&pages_dir(Path::new(DIR)), SegmentNo(stray));
        disk.write_file(&path, b"left behind");
        goes_on(&disk, forest);
        assert!(!disk.paths().contains(&path), "what no manifest names goes");
        let (store, opened) = open(&disk).unwrap();
        assert!(opened.manifest.segments.iter().any(|segment| segment.number.get() > stray), "{stray}");
        drop(store);
    }
    for stray in [1 << 33, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX] {
        let (disk, forest) = sample();
        let segment = segment_path(&pages_dir(Path::new(DIR)), SegmentNo(stray));
        let manifests = manifest_dir(Path::new(DIR));
        let copy = copy_path(&manifests, Generation(stray), 'a');
        let unfinished = copy.with_extension("a.new");
        for path in [segment, copy, unfinished] {
            disk.write_file(&path, b"not ours");
            let before = disk.paths();
            let Err(Error::Corruption(named)) = open(&disk) else { panic!("{}", path.display()) };
            let number = format!("{stray:020}");
            assert!(named.to_string().contains(&number), "{named}");
            assert_eq!(disk.paths(), before, "nothing was thrown away");
            disk.remove_file(&path);
        }
        goes_on(&disk, forest);
    }
}

#[test]
fn segments_on_both_sides_of_a_power_of_two_are_written_and_found() {
    for power in [16, 31, 32, 48, 61] {
        let (disk, forest) = sample();
        rewrite(&disk, |manifest| manifest.next_segment = SegmentNo((1 << power) - 1));
        goes_on(&disk, forest);
        let (_store, opened) = open(&disk).unwrap();
        let numbers = opened.manifest.segments.iter().map(|segment| segment.number.get());
        let (below, above): (Vec<u64>, Vec<u64>) = numbers.partition(|number| *number < 1 << power);
        assert!(!below.is_empty() && !above.is_empty(), "2^{power}: {below:?} {above:?}");
    }
}

#[test]
fn a_manifest_with_any_number_at_an_edge_and_right_checksums_is_answered() {
    type Change = fn(&mut Manifest, u64);
    let changes: [(&str, Change); 12] = [
        ("generation", |manifest, edge| manifest.generation = Generation(edge)),
        ("next segment", |manifest, edge| manifest.next_segment = SegmentNo(edge)),
        ("checkpoint", |manifest, edge| manifest.checkpoint_lsn = Lsn(edge)),
        ("replay from", |manifest, edge| manifest.replay_from = Lsn(edge)),
        ("log segment", |manifest, edge| manifest.log_durable_end.segment = SegmentNo(edge)),
        ("log offset", |manifest, edge| manifest.log_durable_end.offset = edge as u32),
        ("root segment", |manifest, edge| child(manifest).page.addr.segment = SegmentNo(edge)),
        ("root offset", |manifest, edge| child(manifest).page.addr.offset = edge as u32),
        ("root bytes", |manifest, edge| child(manifest).page.bytes = edge as u32),
        ("root LSN", |manifest, edge| child(manifest).lsn = Lsn(edge)),
        ("root count", |manifest, edge| child(manifest).digest.count = edge),
        ("live bytes", |manifest, edge| {
            let segment = &mut manifest.segments[0];
            segment.live_bytes = (edge as u32).max(1);
        }),
    ];
    let (sample, _) = sample();
    let (mut right, mut refused) = (0, 0);
    for (what, change) in changes {
        for edge in EDGES {
            let disk = sample.snapshot();
            rewrite(&disk, |manifest| change(manifest, edge));
            match answers(&disk) {
                Ok(()) => right += 1,
                Err(Error::Corruption(_)) => refused += 1,
                Err(other) => panic!("{what} {edge}: {other}"),
            }
        }
    }
    // What does not even decode is a damaged manifest, for which the generation before stands in.
    assert!(right > 30 && refused > 15, "{right} right, {refused} refused");
}

fn child(manifest: &mut Manifest) -> &mut ChildEntry {
    &mut manifest.trees[3].root.as_mut().expect("these trees have roots").child
}
