use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::AlignedBuffer;
use crate::disk::ReadSource;
use crate::limits::BLOCK_BYTES;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_and_directories_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::new();
    disk.create_dir(&dir.path().join("d")).unwrap();
    disk.create(&dir.path().join("d/f")).unwrap();
    let _lock = disk.lock(&dir.path().join("d")).unwrap();
    assert_eq!(mode(&dir.path().join("d")), 0o700);
    assert_eq!(mode(&dir.path().join("d/f")), 0o600);
    assert_eq!(mode(&dir.path().join("d/LOCK")), 0o600);
}

#[test]
fn a_link_a_directory_or_a_pipe_in_place_of_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::new();
    disk.create(&dir.path().join("file")).unwrap();
    symlink(dir.path().join("file"), dir.path().join("link")).unwrap();
    std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    for access in [Access::Read, Access::ReadWrite] {
        for name in ["link", "pipe", "."] {
            let answer = disk.open(&dir.path().join(name), access);
            assert!(matches!(answer, Err(Error::Io { .. })), "{name}: {answer:?}");
        }
    }
}

#[test]
fn a_directory_is_locked_through_every_path_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::new();
    disk.create_dir(&dir.path().join("d")).unwrap();
    symlink(dir.path().join("d"), dir.path().join("other")).unwrap();
    let lock = disk.lock(&dir.path().join("d")).unwrap();
    for _ in 0..2 {
        for path in ["d", "other"] {
            let answer = PlainDisk::new().lock(&dir.path().join(path));
            assert!(matches!(answer, Err(Error::AlreadyOpen { .. })), "{answer:?}");
        }
    }
    drop(lock);
    disk.lock(&dir.path().join("other")).unwrap();
}

#[test]
fn a_lock_held_by_another_process_is_seen_and_ends_with_that_process() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::new();
    drop(disk.lock(dir.path()).unwrap());
    let mut other = match std::process::Command::new("flock")
        .arg(dir.path().join("LOCK"))
        .args(["sh", "-c", "echo held; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
    {
        Ok(other) => other,
        Err(error) => {
            println!("SKIPPED: no program flock: {error}");
            return;
        }
    };
    let mut said = [0u8; 5];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(matches!(disk.lock(dir.path()), Err(Error::AlreadyOpen { .. })));
    let held = std::fs::read_to_string(format!("/proc/{}/task/{0}/children", other.id())).unwrap_or_default();
    for child in held.split_whitespace() {
        std::process::Command::new("kill").args(["-9", child]).status().unwrap();
    }
    other.kill().unwrap();
    other.wait().unwrap();
    let freed = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        disk.lock(dir.path()).is_ok()
    });
    assert!(freed);
}

#[test]
fn direct_and_cached_writes_of_one_range_stay_coherent() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PlainDisk::new();
    let file = disk.create(&dir.path().join("f")).unwrap();
    let mut model = vec![0u8; 8 * BLOCK_BYTES];
    file.write_at(0, &model).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..300u32 {
        let value = u8::try_from(round % 251).unwrap();
        let (from, length) = if rng.bool() {
            let from = rng.usize(..8);
            (from * BLOCK_BYTES, rng.usize(1..=8 - from) * BLOCK_BYTES)
        } else {
            let from = rng.usize(..model.len());
            (from, rng.usize(..model.len() - from))
        };
        model[from..from + length].fill(value);
        let mut bytes = AlignedBuffer::zeroed(length);
        bytes.fill(value);
        if rng.bool() {
            file.write_durable(from as u64, &bytes).unwrap();
        } else {
            file.write_at(from as u64, &bytes).unwrap();
        }
        let mut cached = vec![0u8; model.len()];
        file.read_at(0, &mut cached).unwrap();
        assert!(cached == model, "cached, round {round}");
        let (device, source) = file.read_past_cache(0, model.len()).unwrap();
        assert!(*device == *model, "device, round {round}, {source:?}");
    }
}

#[test]
fn a_file_system_without_direct_access_or_flags_is_served_by_what_it_has() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: no /dev/shm");
        return;
    };
    for (direct_refused, dsync_refused) in [(false, false), (true, false), (true, true)] {
        let disk = PlainDisk::without(direct_refused, dsync_refused);
        let path = dir.path().join("f");
        let file = disk.create(&path).unwrap();
        let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
        block.fill(7);
        file.write_durable(0, &block).unwrap();
        file.write_durable(10, b"unaligned").unwrap();
        block[10..19].copy_from_slice(b"unaligned");
        let (read, source) = file.read_past_cache(0, BLOCK_BYTES).unwrap();
        assert_eq!(*read, *block);
        if direct_refused {
            assert_eq!(source, ReadSource::PerhapsCache);
        }
        if dsync_refused {
            assert_eq!(disk.describe().durable_write, "fdatasync");
        }
        disk.remove(&path).unwrap();
    }
}

#[test]
fn a_length_beyond_the_file_is_refused_before_memory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = PlainDisk::new().create(&dir.path().join("f")).unwrap();
    file.write_at(0, b"short").unwrap();
    for (offset, length) in [(0, 6), (5, 1), (u64::MAX, 1), (0, usize::MAX), (1 << 62, 1 << 40)] {
        let answer = file.read_past_cache(offset, length);
        let Err(Error::Io { source, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
    }
}
