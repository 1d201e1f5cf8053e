//! What the pass over the files remembers of leaves: it spares the walk from reading them, and changes nothing of what is
//! found.

use logwood_base::disk::SimulatedDisk;
use logwood_base::{Lsn, SegmentNo};

use super::damaged_blocks::{leaves, world};
use super::deltas::World;
use super::world::{KEYSPACE, checkpoint, commit, create, dir, environment, small};
use crate::format::child::ChildEntry;
use crate::store::SegmentEntry;
use crate::verify::{Damage, Derived, DerivedSegment, KeyRange};
use crate::{Forest, VerifyReport, verify_directory_with};

fn filled(disk: &SimulatedDisk, records: u32) -> Forest {
    let forest = create(disk, small());
    forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    for n in 0..records {
        let (key, value) = (format!("key {:04}", n * 37 % 1009), vec![n as u8; 20 + (n as usize * 7) % 60]);
        commit(&forest, 2 + u64::from(n), &[(key.as_bytes(), Some(&value))]);
        if n % 150 == 149 {
            checkpoint(&forest).unwrap();
        }
    }
    checkpoint(&forest).unwrap();
    forest
}

pub(super) fn verify(disk: &SimulatedDisk, derived: Derived) -> (VerifyReport, Vec<Damage>) {
    let mut damages = Vec::new();
    let disk = environment(disk).disk;
    let on_damage = &mut |damage| damages.push(damage);
    let report = verify_directory_with(&disk, dir(), derived, on_damage, &mut |_| {}).unwrap();
    (report, damages)
}

#[test]
fn with_memory_for_leaves_and_without_the_same_damage_is_found_in_the_same_words() {
    let disk = SimulatedDisk::new(1);
    drop(filled(&disk, 500));
    let compare = |disk: &SimulatedDisk| {
        let (with, found) = verify(disk, Derived::default());
        let (without, expected) = verify(disk, Derived::new(0));
        assert_eq!(found, expected);
        assert_eq!((with.trees, with.pages, with.damages), (without.trees, without.pages, without.damages));
        assert_eq!((with.space_errors, with.files.bytes), (without.space_errors, without.files.bytes));
        found.len()
    };
    assert_eq!(compare(&disk), 0);
    let paths: Vec<_> =
        disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("/pages/")).collect();
    assert!(paths.len() > 2);
    for path in &paths {
        let bytes = disk.read_file(path).unwrap().len() as u64;
        for offset in (0..bytes).step_by(331) {
            let damaged = disk.snapshot();
            damaged.flip_bit(path, offset, 16);
            assert!(compare(&damaged) > 0, "byte {offset} of {}", path.display());
        }
        let damaged = disk.snapshot();
        damaged.remove_file(path);
        assert!(compare(&damaged) > 0);
    }
}

/// A tree of one leaf: its parent's entry, its segment, and what the segment's bytes say.
fn one_leaf(disk: &SimulatedDisk) -> (ChildEntry, SegmentEntry, Vec<u8>) {
    let forest = filled(disk, 5);
    let manifest = forest.shared.store.manifest();
    let root = manifest.trees[0].root.clone().unwrap();
    assert_eq!(root.level, 0);
    let number = root.child.page.addr.segment;
    let segment = manifest.segment(number).unwrap().clone();
    let bytes = disk.read_file(&forest.shared.store.segment_path(number)).unwrap();
    (root.child, segment, bytes)
}

/// What the pass over the files remembers of a forest, and the leaves with the keys between their fences.
fn remembered(forest: &Forest, bytes_max: usize) -> (Derived, Vec<(KeyRange, ChildEntry)>) {
    let store = &forest.shared.store;
    let derived = Some(Derived::new(bytes_max));
    let (_, derived) =
        store.verify_and_derive(derived, &mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    let leaves = leaves(forest);
    let high = leaves.iter().skip(1).map(|(low, _)| Some(low.clone())).chain([None]);
    let ranges = leaves.iter().zip(high).map(|((low, entry), high)| {
        let low = low.clone();
        (KeyRange { low, high }, entry.clone())
    });
    (derived.unwrap(), ranges.collect())
}

#[test]
fn leaves_with_delta_blocks_are_settled_from_memory_where_all_that_their_parent_says_is_right() {
    let world = world();
    let (derived, leaves) = remembered(&world.forest, 1 << 20);
    for (range, entry) in &leaves {
        assert_eq!(derived.agreed(entry, range), Some(entry.digest), "{} blocks", entry.deltas.len());
    }
    let (range, entry) = leaves.iter().find(|(_, entry)| entry.deltas.len() == 2).unwrap();
    let other = |change: &dyn Fn(&mut ChildEntry)| {
        let mut other = entry.clone();
        change(&mut other);
        derived.agreed(&other, range)
    };
    assert_eq!(other(&|_| {}), Some(entry.digest));
    assert_eq!(other(&|other| other.digest.count += 1), None);
    assert_eq!(other(&|other| other.digest.sum ^= 1), None);
    assert_eq!(other(&|other| other.unresolved = true), None);
    assert_eq!(other(&|other| other.resolved = 1), None);
    assert_eq!(other(&|other| other.deltas[1].page.crc ^= 1), None);
    assert_eq!(other(&|other| other.deltas[0].page.bytes += 1), None);
    assert_eq!(other(&|other| other.deltas[0].page.addr.offset += 1), None);
    assert_eq!(other(&|other| other.deltas[0].page.addr.segment = SegmentNo(99)), None);
    assert_eq!(other(&|other| other.deltas[0].page = other.page), None, "an image is no block");
    assert_eq!(other(&|other| other.page = other.deltas[0].page), None, "a block is no image");
    assert_eq!(other(&|other| other.deltas.truncate(1)), None);
    assert_eq!(other(&|other| other.deltas = other.deltas[1..].to_vec()), None);
    // Keys outside the fences, of the image or of a block.
    let (before, behind) = (KeyRange { low: Vec::new(), high: Some(range.low.clone()) }, range.high.clone());
    assert_eq!(derived.agreed(entry, &before), None);
    assert_eq!(derived.agreed(entry, &KeyRange { low: behind.unwrap(), high: None }), None);
}

#[test]
fn the_newest_of_several_changes_of_one_key_counts() {
    let mut world = World::new();
    for value in [Some(&b"first"[..]), Some(b"second"), None] {
        world.write(500, value);
        world.write(505, value);
        assert_eq!(world.checkpoint().deltas, 1);
        let (derived, leaves) = remembered(&world.forest, 1 << 20);
        let (range, entry) = leaves.iter().find(|(_, entry)| !entry.deltas.is_empty()).unwrap();
        assert_eq!(derived.agreed(entry, range), Some(entry.digest));
        let mut swapped = entry.clone();
        swapped.deltas.reverse();
        assert_eq!(derived.agreed(&swapped, range).is_some(), entry.deltas.len() == 1);
    }
}

#[test]
fn hashes_of_records_go_first_when_there_is_no_room_and_damage_is_found_all_the_same() {
    let world = world();
    let settled = |bytes_max| {
        let (derived, leaves) = remembered(&world.forest, bytes_max);
        let settled = leaves.iter().filter(|(range, entry)| derived.agreed(entry, range).is_some());
        let with_blocks = settled.clone().filter(|(_, entry)| !entry.deltas.is_empty()).count();
        (settled.count(), with_blocks)
    };
    let (all, with_blocks) = settled(1 << 20);
    assert!(with_blocks > 5 && all > 2 * with_blocks);
    let mut seen = std::collections::BTreeSet::new();
    for bytes_max in (0..100_000).step_by(500) {
        let found = settled(bytes_max);
        seen.insert(found);
        let (_, damages) = verify(&world.disk, Derived::new(bytes_max));
        assert!(damages.is_empty(), "{damages:?}");
    }
    assert!(
        seen.contains(&(0, 0))
            && seen.contains(&(all - with_blocks, 0))
            && seen.contains(&(all, with_blocks))
    );
}

#[test]
fn what_is_remembered_counts_only_where_it_agrees_with_everything_that_the_parent_says() {
    let disk = SimulatedDisk::new(2);
    let (entry, segment, bytes) = one_leaf(&disk);
    let mut derived = Derived::default();
    derived.add(DerivedSegment::of_proven("pages".as_ref(), &segment, &bytes).unwrap());
    let all = KeyRange { low: Vec::new(), high: None };
    assert_eq!(derived.agreed(&entry, &all), Some(entry.digest));
    let mut others = vec![entry.clone(); 6];
    others[0].page.crc ^= 1;
    others[1].page.bytes += 1;
    others[2].page.addr.offset += 1;
    others[3].page.addr.segment = SegmentNo(99);
    others[4].digest.count += 1;
    others[5].digest.sum ^= 1;
    for (n, other) in others.iter().enumerate() {
        assert_eq!(derived.agreed(other, &all), None, "{n}");
    }
    // Keys outside the fences.
    let ranges = [
        KeyRange { low: b"key 0001".to_vec(), high: None },
        KeyRange { low: Vec::new(), high: Some(b"key 0000".to_vec()) },
        KeyRange { low: Vec::new(), high: Some(b"key 0148".to_vec()) },
    ];
    for range in &ranges {
        assert_eq!(derived.agreed(&entry, range), None, "{range:?}");
    }
    let wide = KeyRange { low: b"key 0000".to_vec(), high: Some(b"key 0149".to_vec()) };
    assert_eq!(derived.agreed(&entry, &wide), Some(entry.digest));
    // Where there is no room nothing is remembered, and the segment counts as read all the same.
    let mut none = Derived::new(0);
    none.add(DerivedSegment::of_proven("pages".as_ref(), &segment, &bytes).unwrap());
    assert_eq!(none.agreed(&entry, &all), None);
}

#[test]
fn a_segment_that_was_read_in_memory_is_not_read_again_and_its_damage_is_told() {
    let disk = SimulatedDisk::new(3);
    let (_, segment, bytes) = one_leaf(&disk);
    let mut derived = Derived::default();
    derived.add(DerivedSegment::of_proven("pages".as_ref(), &segment, &bytes).unwrap());
    assert!(verify(&disk, derived).1.is_empty());
    // Bytes that somebody proved to be the manifest's, and that make no sense: told as if they were read.
    let mut wrong = bytes;
    wrong[crate::format::segment::HEADER_BYTES + 8] ^= 1;
    let mut derived = Derived::default();
    derived.add(DerivedSegment::of_proven("pages".as_ref(), &segment, &wrong).unwrap());
    let (_, damages) = verify(&disk, derived);
    assert!(damages.iter().any(|damage| damage.corruption.check == "page checksum"), "{damages:?}");
}
