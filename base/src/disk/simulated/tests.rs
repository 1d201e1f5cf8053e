use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::disk::create_dir_all;
use crate::environment::{Clock, ManualClock};

const ROUNDS: u64 = 1_000;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with a durable file `a` of `size` bytes of 1.
fn with_file(size: usize) -> (SimulatedDisk, Arc<dyn File>) {
    let disk = SimulatedDisk::new(1);
    disk.write_file(path("a"), &vec![1; size]);
    let file = disk.open(path("a"), Access::ReadWrite).unwrap();
    (disk, file)
}

/// What `look` sees after many power cuts of copies of one disk.
fn after_crashes<T: Ord>(disk: &SimulatedDisk, look: impl Fn(&SimulatedDisk) -> T) -> BTreeSet<T> {
    let crashed = |seed| {
        let disk = disk.snapshot();
        disk.crash(&mut Rng::with_seed(seed));
        assert!(disk.is_settled());
        look(&disk)
    };
    (0..ROUNDS).map(crashed).collect()
}

fn content(disk: &SimulatedDisk) -> Option<Vec<u8>> {
    disk.read_file(path("a"))
}

#[test]
fn a_synced_write_survives_every_crash() {
    let (disk, file) = with_file(10_000);
    file.write_at(100, &[2; 9_000]).unwrap();
    file.sync().unwrap();
    let mut expected = vec![1; 10_000];
    expected[100..9_100].fill(2);
    assert_eq!(after_crashes(&disk, content), BTreeSet::from([Some(expected)]));
}

#[test]
fn a_durable_write_survives_every_crash_and_makes_nothing_else_durable() {
    let (disk, file) = with_file(4_096);
    file.write_at(0, &[2; 512]).unwrap();
    file.write_durable(1_024, &[3; 512]).unwrap();
    let seen = after_crashes(&disk, |disk| {
        let bytes = content(disk).unwrap();
        assert_eq!(bytes[1_024..1_536], [3; 512]);
        bytes[0]
    });
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn each_unsynced_sector_is_old_or_any_version_written_since_and_all_combinations_come() {
    let (disk, file) = with_file(3 * 512);
    file.write_at(0, &[2; 3 * 512]).unwrap();
    file.write_at(512, &[3; 512]).unwrap();
    let seen = after_crashes(&disk, |disk| {
        let bytes = content(disk).unwrap();
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        (bytes[0], bytes[512], bytes[1_024])
    });
    let all = [1, 2].into_iter().flat_map(|a| [1, 2, 3].map(|b| (a, b)));
    let all: BTreeSet<_> = all.flat_map(|(a, b)| [1, 2].map(|c| (a, b, c))).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_file_s_size_is_lost_or_kept_apart_from_its_bytes() {
    let (disk, file) = with_file(512);
    file.write_at(512, &[2; 512]).unwrap();
    let seen = after_crashes(&disk, |disk| {
        let bytes = content(disk).unwrap();
        (bytes.len(), bytes.get(512).copied())
    });
    assert_eq!(seen, BTreeSet::from([(512, None), (1_024, Some(0)), (1_024, Some(2))]));
    file.sync().unwrap();
    assert_eq!(after_crashes(&disk, |disk| content(disk).unwrap().len()), BTreeSet::from([1_024]));
}

#[test]
fn bytes_behind_a_lost_size_never_come_back_when_the_file_grows_again() {
    for seed in 0..ROUNDS {
        let (disk, file) = with_file(100);
        file.write_at(100, &[2; 5_000]).unwrap();
        disk.crash(&mut Rng::with_seed(seed));
        let size = content(&disk).unwrap().len();
        let file = disk.open(path("a"), Access::ReadWrite).unwrap();
        file.set_size(6_000).unwrap();
        assert!(content(&disk).unwrap()[size..].iter().all(|byte| *byte == 0), "seed {seed}");
    }
}

#[test]
fn a_cut_and_regrown_file_reads_zeros_and_the_cut_is_durable_after_a_sync() {
    let (disk, file) = with_file(5_000);
    file.set_size(700).unwrap();
    file.allocate(6_000).unwrap();
    let mut expected = vec![0; 6_000];
    expected[..700].fill(1);
    assert_eq!(content(&disk), Some(expected.clone()));
    file.sync().unwrap();
    assert_eq!(after_crashes(&disk, content), BTreeSet::from([Some(expected.clone())]));
    // Something unsynced elsewhere makes the cut go back to what the device holds.
    file.write_at(5_990, b"x").unwrap();
    let seen = after_crashes(&disk, |disk| content(disk).unwrap()[..5_900].to_vec());
    assert_eq!(seen, BTreeSet::from([expected[..5_900].to_vec()]));
}

#[test]
fn whatever_was_done_before_a_sync_the_device_holds_what_the_cache_shows() {
    for seed in 0..200 {
        let (disk, file) = with_file(3_000);
        let mut rng = Rng::with_seed(seed);
        for _ in 0..rng.usize(1..12) {
            let (offset, bytes) = (rng.u64(..12_000), vec![rng.u8(..); rng.usize(..6_000)]);
            match rng.u8(..6) {
                0 | 1 => file.write_at(offset, &bytes).unwrap(),
                2 => file.write_durable(offset, &bytes).unwrap(),
                3 => file.set_size(offset).unwrap(),
                4 => file.allocate(offset).unwrap(),
                _ => file.sync().unwrap(),
            }
        }
        file.sync().unwrap();
        let expected = content(&disk).unwrap();
        file.write_at(expected.len() as u64, &[9]).unwrap();
        let last_sector = expected.len() / 512 * 512;
        for crash in 0..4 {
            let disk = disk.snapshot();
            disk.crash(&mut Rng::with_seed(crash));
            let bytes = content(&disk).unwrap();
            assert!(bytes.len() >= expected.len(), "seed {seed}");
            assert!(bytes[..last_sector] == expected[..last_sector], "seed {seed}");
        }
    }
}

#[test]
fn names_without_a_directory_sync_come_and_go() {
    let (disk, _file) = with_file(1);
    create_dir_all(&disk, path("d")).unwrap();
    disk.create(path("d/new")).unwrap();
    disk.remove(path("a")).unwrap();
    let names = |disk: &SimulatedDisk| (disk.read_file(path("d/new")).is_some(), content(disk).is_some());
    let all = BTreeSet::from([(false, false), (false, true), (true, false), (true, true)]);
    assert_eq!(after_crashes(&disk, names), all);
    disk.sync_dir(path("d")).unwrap();
    assert_eq!(after_crashes(&disk, names), BTreeSet::from([(true, false), (true, true)]));
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(after_crashes(&disk, names), BTreeSet::from([(true, false)]));
}

#[test]
fn a_synced_file_without_a_synced_name_is_lost_at_times() {
    let disk = SimulatedDisk::new(1);
    disk.create(path("a")).unwrap().write_durable(0, b"x").unwrap();
    assert_eq!(after_crashes(&disk, content), BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_rename_leaves_the_old_or_the_new_state_and_never_neither() {
    let (disk, _file) = with_file(1);
    disk.write_file(path("b"), b"old b");
    disk.rename(path("a"), path("b")).unwrap();
    let both = |disk: &SimulatedDisk| (content(disk), disk.read_file(path("b")));
    let old = (Some(vec![1]), Some(b"old b".to_vec()));
    let new = (None, Some(vec![1]));
    assert_eq!(after_crashes(&disk, both), BTreeSet::from([old, new.clone()]));
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(after_crashes(&disk, both), BTreeSet::from([new]));
}

#[test]
fn a_directory_that_was_not_synced_goes_with_all_it_holds() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(path("d")).unwrap();
    disk.create(path("d/a")).unwrap().write_durable(0, b"x").unwrap();
    disk.sync_dir(path("d")).unwrap();
    let seen =
        after_crashes(&disk, |disk| (disk.list(path("d")).is_ok(), disk.paths().len(), disk.used_bytes()));
    assert_eq!(seen, BTreeSet::from([(false, 0, 0), (true, 1, 4_096)]));
}

#[test]
fn after_a_failed_sync_the_cache_lies_a_later_sync_says_ok_and_bytes_are_lost() {
    let mut lost = 0;
    for seed in 0..ROUNDS {
        let disk = SimulatedDisk::new(seed);
        disk.write_file(path("a"), &[1; 1_024]);
        let file = disk.open(path("a"), Access::ReadWrite).unwrap();
        file.write_at(0, &[2; 1_024]).unwrap();
        disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io));
        assert!(matches!(file.sync(), Err(Error::Io { .. })));
        file.sync().unwrap();
        assert_eq!(content(&disk).unwrap(), [2; 1_024], "the cache shows the new bytes");
        let truth = file.read_past_cache(0, 1_024).unwrap().0;
        disk.crash(&mut Rng::with_seed(seed));
        assert_eq!(content(&disk).unwrap(), *truth, "past the cache was the truth");
        lost += u32::from(truth.contains(&1));
    }
    assert!((300..=900).contains(&lost), "{lost}");
}

#[test]
fn a_failed_durable_write_is_on_the_device_in_part_and_in_the_cache_whole() {
    let mut parts = BTreeSet::new();
    for seed in 0..ROUNDS {
        let disk = SimulatedDisk::new(seed);
        disk.write_file(path("a"), &[1; 1_024]);
        let file = disk.open(path("a"), Access::ReadWrite).unwrap();
        disk.set_fault(Fault::new(Operation::WRITES, Outcome::Io));
        file.write_durable(0, &[2; 1_024]).unwrap_err();
        assert_eq!(content(&disk).unwrap(), [2; 1_024]);
        disk.crash(&mut Rng::with_seed(seed));
        let bytes = content(&disk).unwrap();
        parts.insert((bytes[0], bytes[512]));
    }
    assert_eq!(parts, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn a_read_past_the_cache_shows_what_is_only_pending_as_the_kernel_writes_it_out_first() {
    let (_disk, file) = with_file(1_024);
    file.write_at(100, &[2; 600]).unwrap();
    let (bytes, _) = file.read_past_cache(50, 900).unwrap();
    assert_eq!((bytes[0], bytes[50], bytes[649], bytes[650]), (1, 2, 2, 1));
}

#[test]
fn a_killed_process_loses_handles_and_locks_but_no_bytes() {
    let (disk, file) = with_file(10);
    let lock = disk.lock(path("/")).unwrap();
    assert!(matches!(disk.lock(path(".")), Err(Error::AlreadyOpen { .. })));
    file.write_at(0, &[2; 10]).unwrap();
    disk.kill_process();
    file.read_at(0, &mut [0; 10]).unwrap_err();
    file.sync().unwrap_err();
    assert_eq!(content(&disk), Some(vec![2; 10]));
    let second = disk.lock(path("/")).unwrap();
    drop(lock);
    disk.lock(path("/")).expect_err("the dead process's guard frees nothing");
    drop(second);
    disk.lock(path("/")).unwrap();
}

#[test]
fn every_changing_call_can_be_the_last_and_nothing_works_after_it() {
    let work = |disk: &SimulatedDisk| -> Result<()> {
        disk.create_dir(path("d"))?;
        disk.sync_dir(path("."))?;
        let file = disk.create(path("d/f"))?;
        file.allocate(1_024)?;
        file.write_at(0, b"x")?;
        file.sync()?;
        file.write_durable(0, b"y")?;
        file.set_size(512)?;
        disk.rename(path("d/f"), path("d/g"))?;
        disk.link(path("d/g"), path("d/h"))?;
        disk.remove(path("d/g"))?;
        disk.sync_dir(path("d"))
    };
    let disk = SimulatedDisk::new(1);
    work(&disk).unwrap();
    assert_eq!(disk.operations(), 12);
    for kill in [false, true] {
        for n in 1..=12 {
            let disk = SimulatedDisk::new(n);
            if kill {
                disk.kill_at(n)
            } else {
                disk.crash_at(n)
            }
            work(&disk).unwrap_err();
            assert!(disk.is_stopped());
            assert!(disk.list(path("/")).is_err() && disk.create(path("z")).is_err());
            assert!(disk.lock(path("/")).is_err());
            disk.restart();
            assert!(!disk.is_stopped() && disk.list(path("/")).is_ok());
        }
    }
}

#[test]
fn the_write_that_a_power_cut_meets_is_kept_or_lost_sector_by_sector() {
    let (disk, file) = with_file(1_024);
    disk.crash_at(1);
    file.write_durable(0, &[2; 1_024]).unwrap_err();
    let seen = after_crashes(&disk, |disk| {
        let bytes = content(disk).unwrap();
        (bytes[0], bytes[512])
    });
    assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn writes_of_a_killed_process_land_late_and_stay() {
    let mut parts = BTreeSet::new();
    for seed in 0..ROUNDS {
        let (disk, file) = with_file(1_024);
        disk.kill_at(1);
        file.write_durable(0, &[2; 512]).unwrap_err();
        file.write_durable(512, &[3; 512]).unwrap_err();
        disk.kill_process();
        assert_eq!(content(&disk).unwrap(), [1; 1_024], "not yet");
        assert_eq!(disk.late_bytes(), 1_024);
        disk.land_late_writes(&mut Rng::with_seed(seed));
        assert_eq!(disk.late_bytes(), 0);
        let landed = content(&disk);
        disk.crash(&mut Rng::with_seed(seed));
        assert_eq!(content(&disk), landed);
        let bytes = landed.unwrap();
        parts.insert((bytes[0], bytes[512]));
    }
    assert_eq!(parts, BTreeSet::from([(1, 1), (1, 3), (2, 1), (2, 3)]));
}

#[test]
fn faults_strike_the_call_they_name_and_no_other() {
    let (disk, file) = with_file(1_024);
    disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io).nth(2).on("a"));
    disk.set_fault(Fault::new(&[Operation::Create], Outcome::DiskFull).for_ever());
    disk.set_fault(Fault::new(Operation::READS, Outcome::Io).times(2));
    file.sync().unwrap();
    assert!(matches!(file.sync(), Err(Error::Io { .. })));
    file.sync().unwrap();
    for _ in 0..3 {
        assert!(matches!(disk.create(path("b")), Err(Error::DiskFull { .. })));
    }
    file.read_at(0, &mut [0]).unwrap_err();
    file.read_past_cache(0, 1).unwrap_err();
    file.read_at(0, &mut [0]).unwrap();
    disk.clear_faults();
    disk.create(path("b")).unwrap();
}

#[test]
fn lost_misdirected_and_flipped_writes_are_acknowledged() {
    for durable in [false, true] {
        let write = |file: &Arc<dyn File>| {
            if durable { file.write_durable(512, &[2; 512]) } else { file.write_at(512, &[2; 512]) }
        };
        let settled = |outcome| {
            let (disk, file) = with_file(2_048);
            disk.set_fault(Fault::new(Operation::WRITES, outcome));
            write(&file).unwrap();
            file.sync().unwrap();
            disk.crash(&mut Rng::with_seed(1));
            content(&disk).unwrap()
        };
        assert_eq!(settled(Outcome::Lost), [1; 2_048]);
        let misdirected = settled(Outcome::Misdirected(512));
        assert_eq!((misdirected[512], misdirected[1_024], misdirected[1_536]), (1, 2, 1));
        assert_eq!(settled(Outcome::Misdirected(-1_024)), [1; 2_048]);
        let flipped = settled(Outcome::FlippedBit);
        let wrong: u32 = flipped[512..1_024].iter().map(|byte| (byte ^ 2).count_ones()).sum();
        assert_eq!(wrong, 1);
    }
}

#[test]
fn a_full_disk_refuses_growth_and_takes_it_again_when_room_is_made() {
    let (disk, file) = with_file(4_096);
    disk.set_capacity(Some(3 * 4_096));
    let other = disk.create(path("b")).unwrap();
    other.allocate(2 * 4_096).unwrap();
    for answer in [file.write_at(4_096, b"x"), file.write_durable(4_096, b"x"), file.allocate(4_097)] {
        assert!(matches!(answer, Err(Error::DiskFull { .. })));
    }
    file.write_at(0, &[3; 4_096]).unwrap();
    disk.remove(path("b")).unwrap();
    file.write_at(4_096, b"x").expect_err("an open file keeps its room");
    drop(other);
    file.write_at(4_096, b"x").unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4_096);
}

#[test]
fn slow_calls_let_the_clock_go_on() {
    let (disk, file) = with_file(1);
    let clock = Arc::new(ManualClock::new(0));
    let slow = Outcome::Slow(Arc::clone(&clock), Duration::from_millis(3));
    disk.set_fault(Fault::new(Operation::WRITES, slow).times(2));
    for _ in 0..3 {
        file.write_durable(0, b"x").unwrap();
    }
    assert_eq!(clock.monotonic(), Duration::from_millis(6));
}

#[test]
fn the_tester_s_own_hands_are_durable() {
    let disk = SimulatedDisk::new(1);
    disk.write_file(path("/x/y/a"), b"hello");
    disk.flip_bit(path("x/y/a"), 1, 0x80);
    disk.truncate(path("x/y/a"), 3);
    disk.write_file(path("gone"), b"");
    assert!(disk.remove_file(path("gone")) && !disk.remove_file(path("gone")));
    assert!(disk.is_settled());
    disk.crash(&mut Rng::with_seed(1));
    assert_eq!(disk.read_file(path("/x/y/a")), Some(vec![b'h', b'e' ^ 0x80, b'l']));
    assert_eq!(disk.paths(), [PathBuf::from("/x/y/a")]);
}

#[test]
fn a_snapshot_goes_its_own_way() {
    let (disk, file) = with_file(1_024);
    file.write_at(0, &[2; 512]).unwrap();
    let copy = disk.snapshot();
    file.write_at(512, &[3; 512]).unwrap();
    copy.write_file(path("only here"), b"");
    assert_eq!(content(&copy).unwrap()[512], 1);
    assert_eq!(disk.paths().len(), 1);
    drop(disk.lock(path("/")).unwrap());
}

#[test]
fn the_same_seed_and_the_same_calls_give_the_same_bytes() {
    let run = |seed: u64| {
        let disk = SimulatedDisk::new(seed);
        let mut rng = Rng::with_seed(seed);
        let mut trace = crc32fast::Hasher::new();
        for round in 0..300u64 {
            let name = PathBuf::from(format!("f{}", rng.u8(..4)));
            let file = match disk.open(&name, Access::ReadWrite) {
                Ok(file) => file,
                Err(_) => disk.create(&name).unwrap(),
            };
            file.write_at(rng.u64(..9_000), &vec![rng.u8(..); rng.usize(..5_000)]).unwrap();
            match rng.u8(..8) {
                0 => file.sync().unwrap(),
                1 => disk.sync_dir(path("/")).unwrap(),
                2 => disk.remove(&name).unwrap(),
                3 => disk.crash_at(rng.u64(1..5)),
                4 => disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io)),
                _ => {}
            }
            disk.cancel_stop();
            if round % 10 == 0 {
                disk.crash(&mut rng);
            }
            for path in disk.paths() {
                trace.update(path.to_str().unwrap().as_bytes());
                trace.update(&disk.read_file(&path).unwrap());
            }
            disk.clear_faults();
        }
        trace.finalize()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn many_threads_may_write_one_file() {
    let (disk, file) = with_file(0);
    let workers = (0..4u8).map(|worker| {
        let file = Arc::clone(&file);
        move || {
            for block in 0..50u64 {
                let offset = (block * 4 + u64::from(worker)) * 4_096;
                file.write_durable(offset, &[worker + 1; 4_096]).unwrap();
            }
        }
    });
    let mut workers: Vec<_> = workers.collect();
    std::thread::scope(|scope| workers.iter_mut().for_each(|worker| drop(scope.spawn(worker))));
    disk.crash(&mut Rng::with_seed(3));
    let bytes = content(&disk).unwrap();
    assert_eq!(bytes.len(), 200 * 4_096);
    assert!(bytes.chunks(4_096).zip((1..=4).cycle()).all(|(block, worker)| block == [worker; 4_096]));
}

#[test]
fn a_lost_sync_is_acknowledged_and_makes_nothing_durable() {
    let (disk, file) = with_file(512);
    file.write_at(0, &[2; 512]).unwrap();
    disk.create(path("b")).unwrap();
    disk.set_fault(Fault::new(&[Operation::Sync, Operation::SyncDir], Outcome::Lost).times(2));
    file.sync().unwrap();
    disk.sync_dir(path("/")).unwrap();
    let seen = after_crashes(&disk, |disk| (content(disk).unwrap()[0], disk.paths().len()));
    assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn a_failed_directory_sync_promises_nothing() {
    let (disk, _file) = with_file(1);
    disk.remove(path("a")).unwrap();
    disk.set_fault(Fault::new(&[Operation::SyncDir], Outcome::Io));
    disk.sync_dir(path("/")).unwrap_err();
    assert_eq!(after_crashes(&disk, |disk| content(disk).is_some()), BTreeSet::from([false, true]));
}

#[test]
fn a_directory_that_was_there_already_has_a_durable_name_afterwards() {
    for wanted in ["d", "d/e", "d/e/f"] {
        let disk = SimulatedDisk::new(1);
        // Somebody made it and never synced its name.
        disk.create_dir(path("d")).unwrap();
        create_dir_all(&disk, path(wanted)).unwrap();
        let there = |disk: &SimulatedDisk| disk.list(path(wanted)).is_ok();
        assert_eq!(after_crashes(&disk, there), BTreeSet::from([true]), "{wanted}");
    }
}

#[test]
fn a_file_tells_when_it_was_written_to_last_by_the_clock_of_the_disk() {
    let disk = SimulatedDisk::new(1);
    let path = Path::new("a");
    assert!(matches!(disk.modified_ms(path), Err(Error::NotFound { .. })));
    disk.set_time_ms(5);
    let file = disk.create(path).unwrap();
    assert_eq!(disk.modified_ms(path).unwrap(), 5);
    disk.set_time_ms(7);
    assert_eq!(disk.modified_ms(path).unwrap(), 5);
    file.write_at(0, b"x").unwrap();
    disk.set_time_ms(9);
    disk.rename(path, Path::new("b")).unwrap();
    assert_eq!(disk.modified_ms(Path::new("b")).unwrap(), 7);
}
