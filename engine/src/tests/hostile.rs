//! Every file, with bytes changed anywhere: right data or a named error, never a panic, never a wrong answer.

use std::path::{Path, PathBuf};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_wal::Log;

use super::world::{Step, World, scale};
use crate::{Corruption, Error};

fn sample() -> World {
    let mut world = World::new(11);
    world.open(0).unwrap();
    for keyspace in 0..2 {
        world.step(&Step::Create { keyspace }).unwrap();
    }
    for key in 0..80u8 {
        world.step(&Step::Put { keyspace: key, key, bytes: u16::from(key) % 60 + 5, durable: true }).unwrap();
    }
    world.step(&Step::Put { keyspace: 0, key: 1, bytes: 64, durable: true }).unwrap();
    world.step(&Step::Checkpoint).unwrap();
    for key in 0..20u8 {
        world.step(&Step::Put { keyspace: 0, key, bytes: 9, durable: true }).unwrap();
    }
    world.step(&Step::Checkpoint).unwrap();
    for key in 40..60u8 {
        world.step(&Step::Put { keyspace: 1, key, bytes: 9, durable: true }).unwrap();
    }
    // Closed, so that the log is sealed: every acknowledged byte is proven.
    world.db().close().unwrap();
    world.drop_all();
    world
}

/// All files that say something: a segment of the log that is prepared ahead holds zeros.
fn files(world: &World) -> Vec<PathBuf> {
    world
        .disk
        .paths()
        .into_iter()
        .filter(|path| world.disk.read_file(path).is_some_and(|file| file.iter().any(|byte| *byte != 0)))
        .collect()
}

#[test]
fn an_open_that_the_log_refuses_leaves_damaged_manifests_and_their_segments_as_evidence() {
    let world = sample();
    let fork = world.fork();
    let of_kind = |world: &World, kind: &str| -> Vec<PathBuf> {
        let found = files(world).into_iter();
        found.filter(|path| path.parent().is_some_and(|parent| parent.ends_with(kind))).collect()
    };
    let newest: Vec<_> = of_kind(&fork, "manifest").into_iter().rev().take(2).collect();
    newest.iter().for_each(|copy| fork.disk.flip_bit(copy, 100, 1));
    let log = of_kind(&fork, "log").pop().unwrap();
    let whole = fork.disk.read_file(&log).unwrap();
    fork.disk.truncate(&log, 8192);
    let before = files(&fork);
    let open = |world: &World| crate::Database::open(super::world::DIR, world.options.clone());
    assert!(matches!(open(&fork), Err(Error::Corruption(_))));
    fork.disk.kill_process();
    assert_eq!(files(&fork), before, "nothing was thrown away");
    fork.disk.write_file(&log, &whole);
    drop(open(&fork).unwrap());
    let after = files(&fork);
    assert!(
        newest.iter().all(|copy| !after.contains(copy)),
        "what cannot be opened goes when all was accepted"
    );
}

/// Bytes to change: those near both ends of a file, of the others that say something every eleventh, of the zeros one in
/// 997. Both are prime, so that no field of a page or a batch is always passed over.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let stride = move |by: u64| (by / scale()).max(1) as usize;
    (0..bytes.len()).filter(move |at| match bytes[*at] {
        0 => at % stride(997) == 0,
        _ => *at < 80 || at + 80 > bytes.len() || at % stride(11) == 0,
    })
}

/// Opens the damaged fork and reads everything. Answers whether the damage was named.
fn is_named(fork: &mut World, what: &str) -> bool {
    let least = fork.durable;
    let db = match crate::Database::open(super::world::DIR, fork.options.clone()) {
        Ok(db) => db,
        Err(Error::Corruption(_) | Error::UnsupportedFormat { .. }) => return true,
        Err(error) => panic!("{what}: {error}"),
    };
    let expected = &fork.history[least];
    let mut named = false;
    for (name, records) in expected {
        let ks = match db.keyspace(name) {
            Ok(ks) => ks,
            Err(error) => panic!("{what}: {name}: {error}"),
        };
        for (key, value) in records {
            match ks.get(key) {
                Ok(found) => assert_eq!(found.as_deref(), Some(value.as_slice()), "{what}: a wrong answer"),
                Err(Error::Corruption(_) | Error::UnsupportedFormat { .. }) => named = true,
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    named
}

#[test]
fn changed_bytes_give_right_data_or_a_named_error() {
    let world = sample();
    let (mut judged, mut named) = (0, 0);
    let mut masks = [0xff, 0x01, 0x80].into_iter().cycle();
    for path in files(&world) {
        let bytes = world.disk.read_file(&path).unwrap();
        for at in places(&bytes) {
            let mut fork = world.fork();
            let mask = masks.next().unwrap();
            fork.disk.flip_bit(&path, at as u64, mask);
            let what = format!("{} at {at} ^ {mask}", path.display());
            named += usize::from(is_named(&mut fork, &what));
            judged += 1;
        }
    }
    // The rest are in copies of manifests, of which one is enough, in pages that were written anew, and padding.
    assert!(named > 2_500 && named < judged, "{named} of {judged}");
}

#[test]
fn shortened_and_swapped_files_give_right_data_or_a_named_error() {
    let world = sample();
    let paths = files(&world);
    // The log's newest segment is its own only witness: what it loses looks like a crash.
    let newest = paths.iter().filter(|path| path.to_string_lossy().contains("log/")).max();
    for path in paths.iter().filter(|path| Some(*path) != newest) {
        let bytes = world.disk.read_file(path).unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let mut fork = world.fork();
            fork.disk.truncate(path, length as u64);
            is_named(&mut fork, &format!("{} cut to {length}", path.display()));
        }
        for other in paths.iter().filter(|other| *other != path && other.parent() == path.parent()) {
            let mut fork = world.fork();
            fork.disk.write_file(path, &world.disk.read_file(other).unwrap());
            is_named(&mut fork, &format!("{} holds {}", path.display(), other.display()));
        }
    }
}

#[test]
fn damage_to_a_page_takes_its_keys_and_no_others_and_verify_names_it() {
    let world = sample();
    let pages: Vec<_> =
        files(&world).into_iter().filter(|path| path.to_string_lossy().contains("pages/")).collect();
    assert!(!pages.is_empty());
    let (mut named, mut others_readable) = (0, 0);
    for path in pages {
        let bytes = world.disk.read_file(&path).unwrap();
        for place in (64..bytes.len()).step_by(bytes.len() / 12).filter(|&place| bytes[place] != 0) {
            let mut fork = world.fork();
            fork.disk.flip_bit(&path, place as u64, 0x10);
            let found = fork.verify_damage();
            assert!(
                found.iter().any(|damage| damage.corruption.path.ends_with(path.file_name().unwrap())),
                "{found:?}"
            );
            if is_named(&mut fork, &path.display().to_string()) {
                named += 1;
                others_readable += usize::from(fork.readable_keys() > 0);
            }
        }
    }
    assert!(named > 0 && others_readable > 0, "{named} damaged files, {others_readable} times others go on");
}

#[test]
fn what_cannot_be_read_is_named_beside_what_is_damaged_and_hides_nothing() {
    let world = sample();
    let of = |folder: &str| -> Vec<PathBuf> {
        files(&world).into_iter().filter(|path| path.to_string_lossy().contains(folder)).collect()
    };
    let pages = of("pages/");
    assert!(pages.len() > 1, "{pages:?}");
    let flip = |fork: &World, path: &Path| {
        let bytes = world.disk.read_file(path).unwrap();
        fork.disk.flip_bit(path, (64..bytes.len()).find(|&place| bytes[place] != 0).unwrap() as u64, 0x10);
    };
    let unread = || Fault::new(Operation::READS, Outcome::Io).for_ever();
    let mut with_keys = 0;
    for (n, unreadable) in pages.iter().enumerate() {
        let damaged = &pages[(n + 1) % pages.len()];
        let fork = world.fork();
        flip(&fork, damaged);
        fork.disk.set_fault(unread().on(&unreadable.file_name().unwrap().to_string_lossy()));
        let found = fork.verify_damage();
        for path in [damaged, unreadable] {
            let is_its = |damage: &crate::Damage| damage.corruption.path.ends_with(path.file_name().unwrap());
            assert!(found.iter().any(is_its), "{}: {found:?}", path.display());
        }
        let is_page = |damage: &&crate::Damage| {
            damage.corruption.check == Corruption::UNREADABLE && damage.range.is_some()
        };
        with_keys += found.iter().filter(is_page).count();
    }
    assert!(with_keys > 0, "pages that cannot be read name their keys");

    // A log that cannot be read does not keep the trees from being verified.
    let fork = world.fork();
    flip(&fork, &pages[0]);
    fork.disk.set_fault(unread().on("log/"));
    let mut found = Vec::new();
    let (environment, dir) = (fork.environment(), Path::new(super::world::DIR));
    let outcome = crate::inspect::verify_in(&environment, dir, &mut |damage| found.push(damage), &mut |_| {});
    assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    assert!(!found.is_empty());
}

#[test]
fn verify_finds_every_flipped_byte_that_is_not_padding() {
    let world = sample();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut missed = Vec::new();
    let log = Path::new(super::world::DIR).join("log");
    let segments = Log::inspect(&world.environment(), &log, &mut |_| {}).unwrap().segments;
    for path in &files(&world) {
        let mut bytes = world.disk.read_file(path).unwrap();
        let segment = segments.iter().position(|segment| path.ends_with(&segment.path));
        if segment == Some(segments.len() - 1) {
            // The seal at the very end proves what is before it; without it nothing acknowledged is missing.
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            bytes.truncate(end / 4096 * 4096);
        } else if let Some(segment) = segment {
            // What stands behind the end is no part of the log: a seal that would tell that a later segment is missing.
            bytes.truncate(segments[segment].end as usize);
        }
        for _ in 0..8 * scale() {
            let Some(place) = (0..1000).map(|_| rng.usize(0..bytes.len())).find(|&place| bytes[place] != 0)
            else {
                continue;
            };
            let fork = world.fork();
            fork.disk.flip_bit(path, place as u64, 0x04);
            if fork.verify_damage().is_empty() {
                missed.push(format!("{} at {place}", path.display()));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
