//! Looking at directories, closed, live and torn, and what snapshots hold back.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::checks::read_all;
use super::world::{DIR, Step, World};
use crate::{Durability, Error, Lsn, inspect};

fn lsns(world: &World, from: u64, limit: u64) -> crate::Result<Vec<u64>> {
    let mut lsns = Vec::new();
    inspect::log_entries_in(&world.environment(), Path::new(DIR), Lsn(from), limit, &mut |entry| {
        assert!(entry.entry.is_ok());
        lsns.push(entry.lsn.get());
        ControlFlow::Continue(())
    })?;
    Ok(lsns)
}

#[test]
fn stat_tells_what_a_directory_holds_also_while_it_is_open() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("words").unwrap();
    for n in 0..50u8 {
        ks.put(&[n], &[n; 300]).unwrap();
    }
    world.db().checkpoint().unwrap();
    ks.put(b"later", b"1").unwrap();
    for closed in [false, true] {
        if closed {
            world.db().close().unwrap();
        }
        let before = world.disk.operations();
        let stat = inspect::stat_in(&world.environment(), Path::new(DIR)).unwrap();
        assert_eq!(world.disk.operations(), before, "looking changes nothing");
        assert_eq!((stat.checkpoint_lsn, stat.last_lsn, stat.replay_from), (Lsn(51), Lsn(52), Lsn(52)));
        assert_eq!((stat.keyspaces.len(), stat.keyspaces[0].records), (1, 50));
        assert_eq!((stat.keyspaces[0].name.as_str(), stat.is_log_only), ("words", false));
        assert_eq!((stat.database, stat.last_time_ms), (world.db().id(), 1_000_000));
        assert_eq!(lsns(&world, 1, u64::MAX).unwrap(), (1..=52).collect::<Vec<_>>());
        assert_eq!(lsns(&world, 10, 3).unwrap(), [10, 11, 12]);
        assert_eq!(lsns(&world, 60, 3).unwrap(), [0; 0]);
        let report = inspect::verify_in(
            &world.environment(),
            Path::new(DIR),
            &mut |damage| panic!("{damage:?}"),
            &mut |_| {},
        );
        let report = report.unwrap();
        assert_eq!((report.entries, report.records, report.damages), (52, 50, 0));
    }
}

#[test]
fn the_small_files_beside_the_folders_are_verified_too() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    world.db().create_keyspace("words").unwrap().put(b"k", b"v").unwrap();
    world.db().backup("backup").unwrap();
    // Every file ends with the checksum of what is before it; a lineage's rot has no other witness.
    let origin = world.disk.read_file(Path::new("backup/ORIGIN")).unwrap();
    let mut lineage = [&b"lwlineag\x01\0\x01\0"[..], &[7; 112]].concat();
    let crc = logwood_base::checksum::checksum(logwood_base::checksum::Seed::new(), &lineage);
    lineage.extend_from_slice(&crc.to_le_bytes());
    for (root, name, whole) in [("backup", "ORIGIN", origin), (DIR, "LINEAGE", lineage)] {
        let path = Path::new(root).join(name);
        for at in 0..=whole.len() {
            let mut bytes = whole.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            world.disk.write_file(&path, &bytes);
            let mut found = Vec::new();
            let environment = world.environment();
            let mut on_damage = |damage: crate::Damage| found.push(damage.corruption);
            crate::inspect::verify_in(&environment, Path::new(root), &mut on_damage, &mut |_| {}).unwrap();
            if root == DIR {
                world.db().verify(&mut on_damage, &mut |_| {}).unwrap();
            }
            let expected = if at == whole.len() {
                0
            } else if root == DIR {
                2
            } else {
                1
            };
            assert_eq!(found.len(), expected, "{name}, byte {at}: {found:?}");
            assert!(found.iter().all(|found| found.path == path), "{found:?}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found_and_what_was_let_go_is_too_old() {
    let mut world = World::new(1);
    let missing = inspect::stat_in(&world.environment(), Path::new("nowhere")).unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    world.open(0).unwrap();
    world.step(&Step::Create { keyspace: 0 }).unwrap();
    for round in 0..4 {
        for key in 0..90 {
            world.step(&Step::Put { keyspace: 0, key, bytes: 60 + round, durable: true }).unwrap();
        }
        world.step(&Step::Checkpoint).unwrap();
        world.step(&Step::Background { steps: 100 }).unwrap();
    }
    let stat = inspect::stat_in(&world.environment(), Path::new(DIR)).unwrap();
    assert!(stat.first_lsn > Lsn(1), "the log lets entries go");
    assert!(stat.first_lsn <= stat.replay_from);
    assert!(matches!(lsns(&world, 1, 5), Err(Error::TooOld { .. })));
    assert_eq!(lsns(&world, stat.first_lsn.get(), 1).unwrap(), [stat.first_lsn.get()]);
}

#[test]
fn a_torn_tail_is_no_damage_and_stays() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.open(0).unwrap();
        let ks = world.db().create_keyspace("k").unwrap();
        for n in 0..30u8 {
            ks.put_with(&[n], &[n; 900], Durability::Buffered).unwrap();
        }
        world.disk.crash(&mut fastrand::Rng::with_seed(seed));
        drop(ks);
        world.drop_all();
        let before =
            world.disk.paths().into_iter().map(|path| world.disk.read_file(&path)).collect::<Vec<_>>();
        for _ in 0..2 {
            let verified = inspect::verify_in(
                &world.environment(),
                Path::new(DIR),
                &mut |damage| panic!("{damage:?}"),
                &mut |_| {},
            );
            verified.unwrap();
        }
        let after =
            world.disk.paths().into_iter().map(|path| world.disk.read_file(&path)).collect::<Vec<_>>();
        assert!(before == after, "not even the tail is cut off");
    }
}

#[test]
fn a_held_snapshot_costs_one_version_of_each_leaf_and_gives_it_back() {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(4 << 20);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    let write = |round: u32| {
        for key in 0..400u32 {
            let value = [round as u8; 200];
            ks.put_with(&key.to_be_bytes(), &value, Durability::Buffered).unwrap();
        }
        let now = logwood_base::Clock::monotonic(&*world.clock);
        world.spawner.run_until_idle(now, 200);
    };
    write(0);
    let snapshot = world.db().snapshot();
    let mut most = 0;
    for round in 1..40 {
        write(round);
        most = most.max(world.db().statistics().trees.version_bytes);
        assert_eq!(snapshot.get(&ks, &7u32.to_be_bytes()).unwrap().as_deref(), Some(&[0u8; 200][..]));
    }
    let statistics = world.db().statistics();
    assert_eq!((statistics.trees.snapshots, statistics.trees.oldest_snapshot), (1, Some(snapshot.lsn())));
    assert!(most < 1 << 20, "{most} bytes for 80 KB of records: bounded whatever is written");
    assert!(statistics.replay_bytes <= 256 << 10, "the log is let go beside it");
    drop(snapshot);
    write(41);
    let after = world.db().statistics().trees;
    assert!(after.version_bytes < most && after.snapshots == 0, "{after:?}");
}

#[test]
fn a_log_that_is_gone_while_a_manifest_needs_it_is_damage_and_no_empty_directory() {
    for with_pages in [false, true] {
        let mut world = World::new(4);
        world.open(0).unwrap();
        world.step(&Step::Create { keyspace: 0 }).unwrap();
        world.step(&Step::Put { keyspace: 0, key: 1, bytes: 9, durable: true }).unwrap();
        if with_pages {
            world.step(&Step::Checkpoint).unwrap();
        }
        world.db().close().unwrap();
        world.drop_all();
        for cut in [false, true] {
            let fork = world.fork();
            for path in fork.disk.paths() {
                if path.to_string_lossy().ends_with(".log") {
                    match cut {
                        true => fork.disk.truncate(&path, 0),
                        false => assert!(fork.disk.remove_file(&path)),
                    }
                }
            }
            let before = fork.disk.paths();
            let (environment, dir) = (fork.environment(), Path::new(DIR));
            let opened = crate::Database::open(DIR, fork.options.clone()).map(drop);
            let stat = inspect::stat_in(&environment, dir).map(drop);
            for error in [opened.unwrap_err(), stat.unwrap_err(), lsns(&fork, 1, 9).unwrap_err()] {
                assert!(error.corruption().is_some(), "pages {with_pages}, cut {cut}: {error}");
            }
            let mut damages = Vec::new();
            let report =
                inspect::verify_in(&environment, dir, &mut |damage| damages.push(damage), &mut |_| {});
            assert!(report.unwrap().damages > 0 && !damages.is_empty());
            assert_eq!(fork.disk.paths(), before, "nothing was made anew");
        }
    }
}

/// The files of the directory by folder, as they stand when it is closed.
fn folders_of(world: &mut World) -> [Vec<(PathBuf, Vec<u8>)>; 3] {
    world.db.take().unwrap().close().unwrap();
    let files = world.disk.paths().into_iter().filter(|path| !path.ends_with("LOCK"));
    let files: Vec<_> = files.map(|path| (path.clone(), world.disk.read_file(&path).unwrap())).collect();
    ["log", "manifest", "pages"].map(|folder| {
        let folder = Path::new("/").join(DIR).join(folder);
        files.iter().filter(|(path, _)| path.starts_with(&folder)).cloned().collect()
    })
}

#[test]
fn what_is_called_whole_opens_however_states_and_databases_were_mixed() {
    let mut states = Vec::new();
    for seed in 1..=2 {
        let mut world = World::new(seed);
        world.open(0).unwrap();
        let options = world.options.clone();
        world.db().create_keyspace("words").unwrap();
        for step in 0..4u8 {
            let words = world.db().keyspace("words").unwrap();
            for n in 0..200u8 {
                words.put(&[n], &[step; 300]).unwrap();
            }
            drop(words);
            if step % 2 == 1 {
                world.db().compact().unwrap();
            }
            states.push(folders_of(&mut world));
            world.db = Some(crate::Database::open(DIR, options.clone()).unwrap());
        }
    }
    let (mut opened, mut refused) = (0, 0);
    for mix in 0..states.len().pow(3) {
        let of = |place: u32| &states[mix / states.len().pow(place) % states.len()][place as usize];
        let world = World::new(9);
        for folder in ["log", "manifest", "pages"] {
            logwood_base::disk::create_dir_all(&world.disk, &Path::new(DIR).join(folder)).unwrap();
        }
        for (path, bytes) in (0..3).flat_map(of) {
            world.disk.write_file(path, bytes);
        }
        let environment = world.environment();
        let mut damages = Vec::new();
        let mut on_damage = |damage: crate::Damage| damages.push(damage.corruption.to_string());
        let verified = inspect::verify_in(&environment, Path::new(DIR), &mut on_damage, &mut |_| {});
        let stat = inspect::stat_in(&environment, Path::new(DIR));
        let entries = lsns(&world, stat.as_ref().map_or(1, |stat| stat.first_lsn.get()), 5);
        match crate::Database::open(DIR, world.options.clone()) {
            Ok(db) => {
                opened += 1;
                assert!(stat.is_ok() && entries.is_ok(), "mix {mix}: {stat:?} {entries:?}");
                assert!(!damages.is_empty() || read_all(&db).is_ok(), "mix {mix}: it was called whole");
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, Error::Corruption(_)), "mix {mix}: {error}");
                assert!(stat.is_err(), "mix {mix}: {error}, yet {stat:?}");
                assert!(verified.is_ok() && !damages.is_empty(), "mix {mix}: {error}, yet {verified:?}");
            }
        }
    }
    assert!(opened >= states.len() && refused > 100, "{opened} opened, {refused} refused");
}
