//! Damage at rest: right data or a named error, never silence, never something new in its place.

use std::path::{Path, PathBuf};

use logwood_base::disk::SimulatedDisk;
use logwood_base::{Error, SegmentNo};

use super::harness::{DIR, Forest, create, one_generation, open, options, scale};
use crate::store::planted::{self, Bug};
use crate::store::{Store, Stream, parse_segment_name};
use crate::verify::{Damage, verify_files};

/// Two generations, several segments, some dead pages.
fn two_generations() -> (SimulatedDisk, Forest) {
    let (disk, store, mut forest) = one_generation();
    for keyspace in 5..9 {
        forest.write(&store, Stream::Hot, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    drop(store);
    disk.kill_process();
    (disk, forest)
}

fn verify(disk: &SimulatedDisk) -> Result<Vec<Damage>, Error> {
    let mut damages = Vec::new();
    verify_files(disk, Path::new(DIR), &mut |damage| damages.push(damage), &mut |_| ())?;
    Ok(damages)
}

fn files(disk: &SimulatedDisk, extension: &str) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn whole_files_verify() {
    let (disk, _) = two_generations();
    assert_eq!(verify(&disk).unwrap(), []);
    let (store, _) = open(&disk).unwrap();
    let mut bytes = 0;
    let report =
        store.verify_files(&mut |damage| panic!("{damage:?}"), &mut |p| bytes = p.bytes_done).unwrap();
    assert_eq!(bytes, store.statistics().total_bytes);
    assert!(report.pages >= 23, "{report:?}");
}

#[test]
fn every_byte_of_every_file_is_covered_by_verification() {
    let (disk, _) = two_generations();
    // One change of each byte, in turn; all three when asked to look further.
    let changes = if scale() > 1 { 3 } else { 1 };
    let (mut judged, mut bytes) = (0, 0);
    for path in disk.paths() {
        let whole = disk.read_file(&path).unwrap();
        bytes += whole.len();
        for (at, found) in whole.iter().enumerate() {
            let masks = [0x01, *found, found ^ 0xff].into_iter().cycle().skip(at).filter(|mask| *mask != 0);
            for mask in masks.take(changes) {
                let copy = disk.snapshot();
                copy.flip_bit(&path, at as u64, mask);
                let damages = verify(&copy).unwrap();
                assert!(!damages.is_empty(), "{} byte {at} ^ {mask:02x}", path.display());
                let named = damages.iter().all(|damage| path.ends_with(&damage.corruption.path));
                assert!(named, "{} byte {at}: {damages:?}", path.display());
                judged += 1;
            }
        }
    }
    assert!(judged >= bytes && bytes > 10_000, "{judged} changes of {bytes} bytes");
}

#[test]
fn damage_to_a_page_names_keyspace_and_keys_and_spares_the_others() {
    let (disk, forest) = two_generations();
    let (store, _) = open(&disk).unwrap();
    for (&keyspace, (_, page)) in &forest.pages {
        let path = store.segment_path(page.addr.segment);
        let at = page.addr.offset + page.bytes / 2;
        disk.flip_bit(&path, u64::from(at), 0x10);
        let [damage] = &verify(&disk).unwrap()[..] else { panic!("one damage") };
        assert_eq!(damage.keyspace.unwrap().get(), keyspace);
        assert_eq!(damage.range.as_ref().unwrap().low, format!("{keyspace:04}/").into_bytes());
        assert_eq!(damage.corruption.offset, u64::from(page.addr.offset));
        let error = store.read(page).unwrap_err();
        assert_eq!(error.corruption().unwrap().check, "page checksum");
        for (other, (_, page)) in &forest.pages {
            assert_eq!(store.read(page).is_ok(), *other != keyspace);
            assert_eq!(store.read_from_device(page).is_ok(), *other != keyspace);
        }
        disk.flip_bit(&path, u64::from(at), 0x10);
    }
}

#[test]
fn opening_damaged_files_gives_right_data_or_a_named_error() {
    let (disk, forest) = two_generations();
    for path in disk.paths() {
        let bytes = disk.read_file(&path).unwrap();
        for at in 0..bytes.len() {
            let copy = disk.snapshot();
            copy.flip_bit(&path, at as u64, 0x81);
            match open(&copy) {
                Ok((store, opened)) => {
                    let found = Forest::of(&opened.manifest);
                    assert_eq!(found.versions(), forest.versions(), "the other copy serves");
                    for (_, page) in found.pages.values() {
                        if let Err(error) = store.read(page) {
                            assert!(error.corruption().is_some(), "{error}");
                        }
                    }
                }
                Err(error) => panic!("one flipped byte refuses everything: {error}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_is_named_and_nothing_is_created() {
    let (disk, forest) = two_generations();
    let (_, opened) = open(&disk.snapshot()).unwrap();
    for segment in &opened.manifest.segments {
        for shorten in [false, true] {
            let copy = disk.snapshot();
            let path = Path::new(DIR).join(format!("pages/{:020}.pages", segment.number.get()));
            if shorten {
                copy.truncate(&path, 4096);
                if segment.bytes == 4096 {
                    continue;
                }
            } else {
                assert!(copy.remove_file(&path));
            }
            let before = copy.paths();
            let error = open(&copy).unwrap_err();
            assert_eq!(error.corruption().unwrap().path, path, "{error}");
            assert!(error.to_string().contains("page segment"));
            assert_eq!(copy.paths(), before, "nothing was created or thrown away");
            assert!(verify(&copy).unwrap().iter().any(|damage| damage.corruption.path == path));
        }
    }
    assert!(forest.pages.len() > 10);
}

#[test]
fn an_older_generation_does_not_stand_in_for_a_missing_file() {
    // The newest generation has a segment of its own, without which the one before could open.
    let missing = |disk: &SimulatedDisk| {
        let newest = files(disk, "pages").pop().unwrap();
        assert!(disk.remove_file(&newest));
        open(disk).map(|_| ())
    };
    let (disk, _) = two_generations();
    assert!(missing(&disk).unwrap_err().corruption().is_some());
    let (disk, _) = two_generations();
    let with_bug = planted::with(Some(Bug::FallbackPastMissingFile), || missing(&disk));
    assert!(with_bug.is_ok(), "the planted bug shows");
}

#[test]
fn one_copy_of_a_manifest_is_enough_and_none_is_damage() {
    let (disk, forest) = two_generations();
    let newest = open(&disk.snapshot()).unwrap().1.manifest.generation;
    for lost in ["a", "b"] {
        let copy = disk.snapshot();
        assert!(copy.remove_file(&Path::new(DIR).join(format!("manifest/{:020}.{lost}", newest.get()))));
        let (_, opened) = open(&copy).unwrap();
        assert_eq!(Forest::of(&opened.manifest).versions(), forest.versions());
        assert!(opened.notes.iter().any(|note| note.contains("one copy only")), "{:?}", opened.notes);
        assert_eq!(verify(&copy).unwrap(), [], "a crash between two renames looks like this");
    }
    let copy = disk.snapshot();
    let manifests = Path::new(DIR).join("manifest");
    for path in copy.paths().iter().filter(|path| path.to_string_lossy().contains("manifest")) {
        copy.remove_file(path);
    }
    let before = copy.paths();
    let error = open(&copy).unwrap_err();
    assert_eq!(error.corruption().unwrap().path, manifests);
    assert_eq!(copy.paths(), before);
    assert_eq!(verify(&copy).unwrap().len(), 1);
}

#[test]
fn a_newer_format_is_refused_without_touching_anything() {
    let (disk, _) = two_generations();
    let newest = open(&disk.snapshot()).unwrap().1.manifest.generation;
    for path in crate::manifest::copy_paths(&Path::new(DIR).join("manifest"), newest) {
        let mut bytes = disk.read_file(&path).unwrap();
        bytes[8] = 3;
        let seed = logwood_base::checksum::Seed::new();
        let crc = logwood_base::checksum::checksum(seed, &bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        disk.write_file(&path, &bytes);
    }
    let before = disk.paths();
    assert!(matches!(open(&disk), Err(Error::UnsupportedFormat { .. })));
    assert!(matches!(verify(&disk), Err(Error::UnsupportedFormat { .. })));
    assert_eq!(disk.paths(), before);
}

#[test]
fn swapped_segments_are_found() {
    let (disk, _) = two_generations();
    let segments = files(&disk, "pages");
    let (first, second) = (&segments[0], &segments[1]);
    let (a, b) = (disk.read_file(first).unwrap(), disk.read_file(second).unwrap());
    disk.write_file(first, &b);
    disk.write_file(second, &a);
    let damages = verify(&disk).unwrap();
    assert!(damages.iter().any(|damage| damage.corruption.check == "segment header"), "{damages:?}");
    if let Ok((store, opened)) = open(&disk) {
        let forest = Forest::of(&opened.manifest);
        let moved = [parse(first), parse(second)];
        for (_, page) in forest.pages.values().filter(|(_, page)| moved.contains(&page.addr.segment)) {
            assert!(store.read(page).is_err());
        }
    }
}

#[test]
fn a_segment_from_another_life_under_the_same_number_is_found_by_its_hash() {
    let (disk, forest) = two_generations();
    let twin = SimulatedDisk::new(2);
    let store = create(&twin).unwrap();
    let mut other = Forest::default();
    // The same pages in the same places, but for the version of the last.
    for keyspace in 1..20 {
        other.write(&store, Stream::Base, keyspace).unwrap();
    }
    for keyspace in [5, 6, 7, 8] {
        other.pages.get_mut(&keyspace).unwrap().0 += 1;
    }
    other.checkpoint(&store).unwrap();
    for keyspace in [5, 6, 7, 8] {
        other.write(&store, Stream::Hot, keyspace).unwrap();
    }
    other.checkpoint(&store).unwrap();
    let path = files(&disk, "pages").pop().unwrap();
    let (ours, theirs) = (disk.read_file(&path).unwrap(), twin.read_file(&path).unwrap());
    assert!(ours.len() == theirs.len() && ours != theirs);
    disk.write_file(&path, &theirs);
    let damages = verify(&disk).unwrap();
    assert_eq!(damages.iter().map(|damage| damage.corruption.check).collect::<Vec<_>>(), ["content hash"]);
    // Every page in it verifies by its own index, and none by its parent.
    let (store, _) = open(&disk).unwrap();
    let moved = forest.pages.values().filter(|(_, page)| page.addr.segment == parse(&path));
    assert_eq!(moved.filter(|(_, page)| store.read(page).is_err()).count(), 4);
}

#[test]
fn two_valid_copies_that_differ_are_damage() {
    let (disk, _) = two_generations();
    let newest = open(&disk.snapshot()).unwrap().1.manifest;
    let mut other = (*newest).clone();
    other.replay_from = logwood_base::Lsn(1);
    let path = Path::new(DIR).join(format!("manifest/{:020}.b", newest.generation.get()));
    disk.write_file(&path, &other.encode());
    assert_eq!(open(&disk).unwrap_err().corruption().unwrap().check, "manifest copies");
    assert!(!verify(&disk).unwrap().is_empty());
}

/// Both copies of the newest generation read as damaged, until the disk comes to its senses; in between the store is
/// opened from the generation before, and the power may go at any call.
#[test]
fn a_generation_that_was_given_up_does_not_come_back() {
    for n in 0..14 {
        for seed in 0..10 {
            let (disk, _) = two_generations();
            let newest = open(&disk.snapshot()).unwrap().1.manifest.generation;
            let copies: Vec<_> =
                crate::manifest::copy_paths(&Path::new(DIR).join("manifest"), newest).collect();
            let flip = || {
                for path in copies.iter().filter(|path| disk.read_file(path).is_some()) {
                    disk.flip_bit(path, 50, 1);
                }
            };
            flip();
            if n > 0 {
                disk.crash_at(n);
            }
            let _ = open(&disk);
            disk.crash(&mut fastrand::Rng::with_seed(seed));
            flip();
            let (store, opened) = open(&disk).unwrap();
            Forest::of(&opened.manifest).check(&store).unwrap();
        }
    }
}

fn parse(path: &Path) -> SegmentNo {
    parse_segment_name(path.file_name().unwrap().to_str().unwrap()).unwrap()
}

/// Whether a number that a left-over had was given out again.
fn a_number_is_used_twice() -> bool {
    let (disk, _) = two_generations();
    let (store, opened) = open(&disk).unwrap();
    let mut forest = Forest::of(&opened.manifest);
    forest.write(&store, Stream::Base, 1).unwrap();
    store.seal_all().unwrap();
    drop(store);
    disk.kill_process();
    let left_over = files(&disk, "pages").last().map(|path| parse(path)).unwrap();

    let (store, opened) = open(&disk).unwrap();
    assert!(!files(&disk, "pages").iter().any(|path| parse(path) == left_over), "left-overs are thrown away");
    let mut forest = Forest::of(&opened.manifest);
    forest.write(&store, Stream::Base, 2).unwrap();
    forest.pages[&2].1.addr.segment <= left_over
}

#[test]
fn a_number_is_given_out_once() {
    assert!(!a_number_is_used_twice());
    assert!(planted::with(Some(Bug::NumberReused), a_number_is_used_twice), "the planted bug shows");
}

#[test]
fn inspection_changes_nothing() {
    let (disk, forest) = two_generations();
    disk.write_file(&Path::new(DIR).join("pages/00000000000000000099.pages"), b"left over");
    disk.write_file(&Path::new(DIR).join("manifest/00000000000000000099.a.new"), b"unfinished");
    let before = disk.operations();
    let arc = std::sync::Arc::new(disk.clone());
    let (store, opened) = Store::open_read_only(arc, Path::new(DIR), options(), &|_| Ok(())).unwrap();
    Forest::of(&opened.manifest).check(&store).unwrap();
    assert_eq!(verify(&disk).unwrap(), []);
    assert!(forest.commit(&store).is_err());
    assert_eq!(disk.operations(), before);
}
