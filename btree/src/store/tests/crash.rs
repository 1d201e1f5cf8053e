//! A power cut, or a kill, at every changing call of a script: the old generation or the new one, always whole.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;
use logwood_base::Error;
use logwood_base::disk::{Disk as _, SimulatedDisk};

use super::harness::{DIR, Forest, create, open, scale};
use crate::store::planted::{self, Bug};
use crate::store::{Store, Stream};
use crate::verify::verify_files;

/// What a crashed script leaves to be judged: states by what was promised about them.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// The state of the newest commit that was acknowledged; `None` before creation was.
    acknowledged: Option<BTreeMap<u64, u64>>,
    /// The state of the commit under way.
    attempted: Option<BTreeMap<u64, u64>>,
}

/// Rounds of writing: new trees, rewritten trees, dropped trees, segments that die; one commit a round.
fn rounds(store: &Store, forest: &mut Forest, promised: &mut Promised, rounds: u64) -> Result<(), Error> {
    for round in 0..rounds {
        let base = forest.lsn;
        for n in 0..6 {
            let keyspace = 1 + (base * 7 + n * (round + 1)) % 17;
            let stream = Stream::ALL[(n % 3) as usize];
            forest.write(store, stream, keyspace)?;
        }
        if round % 3 == 2
            && let Some((_, (_, page))) = forest.pages.pop_first()
        {
            store.retire(&page);
        }
        promised.attempted = Some(forest.versions());
        forest.checkpoint(store)?;
        promised.acknowledged = promised.attempted.take();
    }
    Ok(())
}

fn script(disk: &SimulatedDisk, promised: &mut Promised) -> Result<(), Error> {
    promised.attempted = Some(BTreeMap::new());
    let store = create(disk)?;
    promised.acknowledged = promised.attempted.take();
    rounds(&store, &mut Forest::default(), promised, 6)
}

/// Opens what a crash left, judges it, and goes on writing; `Err` when the power went again.
fn recover(disk: &SimulatedDisk, promised: &mut Promised) -> Result<(), Error> {
    if promised.acknowledged.is_some() && !disk.is_stopped() {
        let mut damages = Vec::new();
        verify_files(disk, Path::new(DIR), &mut |damage| damages.push(damage), &mut |_| ())?;
        assert!(damages.is_empty(), "a crash is no damage: {damages:?}");
    }
    let (store, opened) = match open(disk) {
        Ok(opened) => opened,
        Err(Error::Io { .. }) if disk.is_stopped() => return Err(Error::Closed),
        Err(error) => {
            assert!(promised.acknowledged.is_none(), "what was acknowledged does not open: {error}");
            let store = create(disk)?;
            let manifest = store.manifest();
            *promised = Promised { acknowledged: Some(BTreeMap::new()), attempted: None };
            (store, crate::store::Opened { manifest, notes: Vec::new() })
        }
    };
    let mut forest = Forest::of(&opened.manifest);
    let found = Some(forest.versions());
    assert!(
        found == promised.acknowledged || found == promised.attempted,
        "found {found:?}, promised {promised:?}"
    );
    match forest.check(&store) {
        Ok(()) => {}
        Err(_) if disk.is_stopped() => return Err(Error::Closed),
        Err(error) => panic!("a page of generation {} is not whole: {error}", opened.manifest.generation),
    }
    assert_eq!(store.statistics().live_bytes, forest.live_bytes(), "space accounting is carried on exactly");
    // What was found is from here on what must be found: it is in force.
    *promised = Promised { acknowledged: found, attempted: None };
    rounds(&store, &mut forest, promised, 2)
}

/// How many changing calls the script makes when nothing stops it.
fn length_of_script() -> u64 {
    let disk = SimulatedDisk::new(1);
    script(&disk, &mut Promised::default()).unwrap();
    disk.operations()
}

/// The script, stopped at its n-th changing call; then the futures that `seeds` choose, each judged.
fn stopped_at(n: u64, seeds: u64, kill: bool) {
    for seed in 0..seeds {
        let mut rng = Rng::with_seed(n << 8 | seed);
        let disk = SimulatedDisk::new(n);
        if kill {
            disk.kill_at(n);
        } else {
            disk.crash_at(n);
        }
        let mut promised = Promised::default();
        let _ = script(&disk, &mut promised);
        if kill {
            disk.kill_process();
            disk.land_late_writes(&mut rng);
        } else {
            disk.crash(&mut rng);
        }
        // Half of the futures are cut off again on the way back, up to three times.
        for _ in 0..3 {
            if rng.bool() {
                disk.crash_at(rng.u64(1..40));
            }
            let result = recover(&disk, &mut promised);
            if result.is_ok() {
                disk.cancel_stop();
                break;
            }
            assert!(disk.is_stopped(), "{result:?}");
            disk.crash(&mut rng);
        }
        if disk.is_stopped() {
            disk.crash(&mut rng);
        }
        disk.cancel_stop();
        recover(&disk, &mut promised).unwrap();
    }
}

fn crash_everywhere(seeds: u64) {
    for n in 1..=length_of_script() {
        stopped_at(n, seeds, false);
    }
}

#[test]
fn a_power_cut_at_any_call_leaves_the_old_generation_or_the_new_one() {
    crash_everywhere(6 * scale());
}

#[test]
fn a_kill_at_any_call_leaves_the_old_generation_or_the_new_one() {
    for n in 1..=length_of_script() {
        stopped_at(n, 2 * scale(), true);
    }
}

/// Whether the power-cut test finds a planted bug.
fn finds(bug: Bug) -> bool {
    catch_unwind(AssertUnwindSafe(|| planted::with(Some(bug), || crash_everywhere(6)))).is_err()
}

#[test]
fn a_manifest_written_before_its_segments_are_synced_is_found() {
    assert!(finds(Bug::ManifestBeforeSegmentSync));
}

#[test]
fn a_missing_sync_of_the_directory_of_pages_is_found() {
    assert!(finds(Bug::NoPagesDirectorySync));
}

#[test]
fn a_missing_sync_of_the_directory_of_manifests_is_found() {
    assert!(finds(Bug::NoManifestDirectorySync));
}

#[test]
fn files_unlinked_before_the_next_generation_is_durable_are_missed() {
    assert!(finds(Bug::UnlinkBeforeNextGeneration));
}

#[test]
fn the_generation_before_stays_openable_at_every_moment() {
    let disk = SimulatedDisk::new(5);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    let mut before = forest.versions();
    for _ in 0..8 {
        rounds(&store, &mut forest, &mut Promised::default(), 1).unwrap();
        let copy = disk.snapshot();
        let newest = store.manifest().generation;
        for path in crate::manifest::copy_paths(&Path::new(DIR).join("manifest"), newest) {
            copy.flip_bit(&path, 40, 4);
        }
        let (older, opened) = open(&copy).unwrap();
        let found = Forest::of(&opened.manifest);
        found.check(&older).unwrap();
        assert_eq!(found.versions(), before);
        assert!(opened.manifest.generation < newest);
        // What was tried is not used again while a name of it was there.
        let next = found.checkpoint(&older).unwrap();
        assert!(next > newest, "generation {next} after {newest}");
        before = forest.versions();
    }
}

#[test]
fn a_crash_loop_leaves_no_more_than_one_checkpoint_behind() {
    let disk = SimulatedDisk::new(6);
    drop(create(&disk).unwrap());
    let mut most = 0;
    for _ in 0..20 {
        let (store, opened) = open(&disk).unwrap();
        let mut forest = Forest::of(&opened.manifest);
        for keyspace in 1..40 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        store.seal_all().unwrap();
        drop(store);
        disk.kill_process();
        most = most.max(disk.list(&Path::new(DIR).join("pages")).unwrap().len());
    }
    assert!(most <= 5, "{most} files");
}
