//! What every [`Disk`] must do, as one suite: run over the plain disk, the io_uring disk and the simulated disk here,
//! and by embedders over their own.
//!
//! It checks what a running process can see. What a power cut leaves cannot be tried on a real disk; the simulated
//! disk's own tests hold that.
//!
//! ```
//! use logwood_base::disk::{SimulatedDisk, conformance};
//! conformance::check(&SimulatedDisk::new(1), std::path::Path::new("/"));
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Access, DirEntry, Disk, File, ReadRequest, create_dir_all};
use crate::limits::BLOCK_BYTES;
use crate::{AlignedBuffer, Error, Result};

/// Runs every check in directories of its own below `root`, which must exist; they are left behind.
///
/// ```
/// use logwood_base::disk::{PlainDisk, conformance};
/// let directory = tempfile::tempdir()?;
/// conformance::check(&PlainDisk::new(), directory.path());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// At the first rule that the disk breaks, naming it.
pub fn check(disk: &dyn Disk, root: &Path) {
    type Check = fn(&dyn Disk, &Path);
    let checks: [(&str, Check); 10] = [
        ("names", names),
        ("directories", directories),
        ("renames", renames),
        ("links", links),
        ("access", access),
        ("edges", edges),
        ("sizes", sizes),
        ("open files outlive their names", open_files_outlive_their_names),
        ("locks", locks),
        ("many writes", many_writes),
    ];
    for (name, check) in checks {
        let dir = root.join(name.replace(' ', "-"));
        create_dir_all(disk, &dir).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(disk, &dir);
    }
    assert!(!disk.describe().backend.is_empty(), "a disk has a name");
}

fn ok<T>(rule: &str, answer: Result<T>) -> T {
    answer.unwrap_or_else(|error| panic!("{rule}: {error}"))
}

fn refused<T>(rule: &str, answer: Result<T>, kind: fn(&Error) -> bool) {
    match answer {
        Ok(_) => panic!("{rule}: it was done"),
        Err(error) => assert!(kind(&error), "{rule}: {error:?}"),
    }
}

fn not_found(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. })
}

fn already_exists(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. })
}

fn io(error: &Error) -> bool {
    matches!(error, Error::Io { .. })
}

fn ended(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof)
}

fn whole(file: &dyn File) -> Vec<u8> {
    let size = ok("a file has a size", file.size());
    let mut bytes = vec![0; usize::try_from(size).expect("a small file")];
    ok("a file is read whole", file.read_at(0, &mut bytes));
    bytes
}

fn names(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("b");
    refused("an absent file is not opened", disk.open(&path, Access::ReadWrite), not_found);
    refused("an absent file is not removed", disk.remove(&path), not_found);
    let file = ok("a file is created", disk.create(&path));
    assert_eq!(file.path(), path, "a file tells its path");
    assert_eq!(ok("a new file has a size", file.size()), 0, "a new file is empty");
    refused("a file is not created twice", disk.create(&path), already_exists);
    refused("a file needs a directory", disk.create(&dir.join("no/b")), not_found);
    ok("a file is written", file.write_at(0, b"12345"));
    ok("a second is created", disk.create(&dir.join("a")));
    ok("a directory beside", disk.create_dir(&dir.join("c")));
    let entry = |name: &str, is_dir, bytes| DirEntry { name: name.to_owned(), is_dir, bytes };
    let expected = [entry("a", false, 0), entry("b", false, 5), entry("c", true, 0)];
    assert_eq!(ok("a directory is listed", disk.list(dir)), expected, "sorted, with sizes");
    ok("a directory is synced", disk.sync_dir(dir));
    refused("an absent file has no time", disk.modified_ms(&dir.join("no")), not_found);
    let written = ok("a file has a time", disk.modified_ms(&path));
    let later = ok("a later one too", disk.modified_ms(&dir.join("a")));
    assert!(written <= later, "the times of files go with the order in which they were written");
    ok("a file is removed", disk.remove(&path));
    refused("a removed file is gone", disk.open(&path, Access::Read), not_found);
    refused("it is not removed twice", disk.remove(&path), not_found);
}

fn directories(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("d");
    refused("an absent directory is not listed", disk.list(&path), not_found);
    refused("an absent directory is not synced", disk.sync_dir(&path), not_found);
    refused("an absent directory is not locked", disk.lock(&path), not_found);
    refused("an absent directory is not removed", disk.remove_dir(&path), not_found);
    refused("a directory needs its parent", disk.create_dir(&path.join("e")), not_found);
    ok("a directory is made", disk.create_dir(&path));
    ok("a directory that exists is left as it is", disk.create_dir(&path));
    ok("a file inside", disk.create(&path.join("f")));
    refused("a directory that holds something is not removed", disk.remove_dir(&path), io);
    refused("a directory is not opened as a file", disk.open(&path, Access::ReadWrite), io);
    refused("nor for reading", disk.open(&path, Access::Read), io);
    refused("a directory is not removed as a file", disk.remove(&path), io);
    refused("no directory over a file", disk.create_dir(&path.join("f")), io);
    refused("a file is not listed", disk.list(&path.join("f")), io);
    refused("a file is not synced as a directory", disk.sync_dir(&path.join("f")), io);
    ok("it is emptied", disk.remove(&path.join("f")));
    ok("an empty directory is removed", disk.remove_dir(&path));
    refused("it is gone", disk.list(&path), not_found);
}

fn renames(disk: &dyn Disk, dir: &Path) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    refused("an absent file is not renamed", disk.rename(&a, &b), not_found);
    let file = ok("created", disk.create(&a));
    ok("written", file.write_at(0, b"a"));
    ok("written", ok("created", disk.create(&b)).write_at(0, b"bb"));
    ok("a rename replaces", disk.rename(&a, &b));
    refused("the old name is gone", disk.open(&a, Access::Read), not_found);
    assert_eq!(whole(&*ok("opened", disk.open(&b, Access::Read))), b"a", "the new name has the bytes");
    ok("an open file is written after its rename", file.write_at(0, b"A"));
    assert_eq!(whole(&*ok("opened", disk.open(&b, Access::Read))), b"A", "and it is the same file");
    refused("not into an absent directory", disk.rename(&b, &dir.join("no/a")), not_found);
    ok("a directory", disk.create_dir(&dir.join("d")));
    ok("a rename into another directory", disk.rename(&b, &dir.join("d/b")));
    refused("no file over a directory", disk.rename(&dir.join("d/b"), &dir.join("d")), io);
}

fn links(disk: &dyn Disk, dir: &Path) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    refused("an absent file is not linked", disk.link(&a, &b), not_found);
    let file = ok("created", disk.create(&a));
    match disk.link(&a, &b) {
        Ok(()) => {}
        // A file system may have no links.
        Err(Error::Io { .. }) => return,
        Err(error) => panic!("a link fails only for want of links: {error:?}"),
    }
    refused("a link replaces nothing", disk.link(&a, &b), already_exists);
    ok("written", file.write_at(0, b"both"));
    ok("one name goes", disk.remove(&a));
    assert_eq!(whole(&*ok("opened", disk.open(&b, Access::Read))), b"both", "the other stays");
}

fn access(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("f");
    let writer = ok("created", disk.create(&path));
    ok("written", writer.write_at(0, b"bytes"));
    let reader = ok("opened", disk.open(&path, Access::Read));
    assert_eq!(whole(&*reader), b"bytes", "one handle reads what another wrote");
    refused("a reader does not write", reader.write_at(0, b"x"), io);
    refused("nor durably", reader.write_durable(0, b"x"), io);
    assert_eq!(whole(&*writer), b"bytes", "a refused write changes nothing");
}

fn edges(disk: &dyn Disk, dir: &Path) {
    let file = ok("created", disk.create(&dir.join("f")));
    ok("an empty write is nothing", file.write_at(10, &[]));
    ok("an empty durable write too", file.write_durable(10, &[]));
    ok("an empty read at the end", file.read_at(0, &mut []));
    ok("written", file.write_at(0, &[7; 5_000]));
    ok("the last byte", file.read_at(4_999, &mut [0]));
    refused("no byte behind the end", file.read_at(4_999, &mut [0; 2]), ended);
    refused("nothing far behind the end", file.read_at(1 << 40, &mut [0]), ended);
    for (offset, length) in [(0, 5_000), (4_096, 904), (4_999, 1), (1, 4_998), (5_000, 0)] {
        let (bytes, _) = ok("a read past the cache needs no alignment", file.read_past_cache(offset, length));
        assert_eq!(*bytes, *vec![7; length], "{length} bytes at {offset} past the cache");
    }
    for (offset, length) in [(0, 5_001), (5_000, 1), (8_192, 1), (1 << 40, 1), (u64::MAX, 1), (0, usize::MAX)]
    {
        refused("nothing behind the end past the cache", file.read_past_cache(offset, length), ended);
    }
    let (mut one, mut two, mut none) = ([0; 100], [0; 4_096], [0; 0]);
    let mut requests = [
        ReadRequest { offset: 0, buffer: &mut one },
        ReadRequest { offset: 904, buffer: &mut two },
        ReadRequest { offset: 5_000, buffer: &mut none },
    ];
    ok("several ranges are read", file.read_many(&mut requests));
    assert!(one == [7; 100] && two == [7; 4_096], "each gets its bytes");
    let mut requests =
        [ReadRequest { offset: 0, buffer: &mut one }, ReadRequest { offset: 4_990, buffer: &mut two }];
    refused("one range behind the end fails all", file.read_many(&mut requests), ended);
    ok("no range is nothing", file.read_many(&mut []));
}

fn sizes(disk: &dyn Disk, dir: &Path) {
    let file = ok("created", disk.create(&dir.join("f")));
    ok("a hole", file.write_at(10_000, b"x"));
    assert!(whole(&*file)[..10_000].iter().all(|byte| *byte == 0), "a hole reads as zeros");
    ok("cut", file.set_size(10));
    ok("nothing is allocated", file.allocate(0));
    ok("less than there is", file.allocate(5));
    assert_eq!(ok("size", file.size()), 10, "allocating never shortens");
    ok("allocated", file.allocate(300_000));
    assert_eq!(ok("size", file.size()), 300_000, "allocating lengthens");
    ok("filled", file.write_at(0, &[1; 20]));
    ok("cut", file.set_size(15));
    ok("lengthened", file.set_size(30));
    let expected: Vec<u8> = [1; 15].into_iter().chain([0; 15]).collect();
    assert_eq!(whole(&*file), expected, "what was cut off does not come back");
    let (bytes, _) = ok("read past the cache", file.read_past_cache(0, 30));
    assert_eq!(*bytes, *expected, "nor past the cache");
    ok("synced", file.sync());
}

fn open_files_outlive_their_names(disk: &dyn Disk, dir: &Path) {
    let file = ok("created", disk.create(&dir.join("f")));
    ok("removed", disk.remove(&dir.join("f")));
    ok("synced", disk.sync_dir(dir));
    ok("a removed file is written while it is open", file.write_durable(0, b"still"));
    assert_eq!(whole(&*file), b"still", "and read");
    let second = ok("its name is free", disk.create(&dir.join("f")));
    assert_eq!(ok("size", second.size()), 0, "and leads to another file");
}

fn locks(disk: &dyn Disk, dir: &Path) {
    let other = dir.join("other");
    ok("a directory", disk.create_dir(&other));
    let held = ok("a directory is locked", disk.lock(dir));
    for _ in 0..2 {
        let again = disk.lock(&dir.join("."));
        refused("it is locked once", again, |error| matches!(error, Error::AlreadyOpen { .. }));
    }
    ok("another directory has another lock", disk.lock(&other));
    drop(held);
    ok("a lock is free after its holder", disk.lock(dir));
}

/// Random writes of every kind against a model, from one thread, then from several.
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn many_writes(disk: &dyn Disk, dir: &Path) {
    const BYTES: usize = 64 << 10;
    let file = ok("created", disk.create(&dir.join("f")));
    let mut model = vec![0u8; BYTES];
    ok("allocated", file.allocate(BYTES as u64));
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let (from, length) = if rng.bool() {
            let from = rng.usize(..BYTES / BLOCK_BYTES);
            (from * BLOCK_BYTES, rng.usize(1..=4).min(BYTES / BLOCK_BYTES - from) * BLOCK_BYTES)
        } else {
            let from = rng.usize(..BYTES);
            (from, rng.usize(..=(BYTES - from).min(9_000)))
        };
        let mut bytes = AlignedBuffer::zeroed(length);
        bytes.fill(rng.u8(1..));
        model[from..from + length].copy_from_slice(&bytes);
        if rng.u8(..4) == 0 {
            ok("written durably", file.write_durable(from as u64, &bytes));
        } else {
            ok("written", file.write_at(from as u64, &bytes));
        }
        if rng.u8(..20) == 0 {
            ok("synced", file.sync());
        }
        let (from, length) = (rng.usize(..BYTES / 2), rng.usize(..BYTES / 2));
        let (read, _) = ok("read past the cache", file.read_past_cache(from as u64, length));
        assert!(*read == model[from..from + length], "past the cache in round {round}");
        assert!(whole(&*file) == model, "through the cache in round {round}");
    }
    let mut buffers: BTreeMap<usize, Vec<u8>> =
        (0..100).map(|n| (n * 577, vec![0; (n * 131) % 7_000])).collect();
    let requests = buffers.iter_mut().map(|(offset, buffer)| ReadRequest { offset: *offset as u64, buffer });
    ok("a hundred reads", file.read_many(&mut requests.collect::<Vec<_>>()));
    for (offset, buffer) in &buffers {
        assert!(*buffer == model[*offset..*offset + buffer.len()], "the read at {offset} of a hundred");
    }
    std::thread::scope(|scope| {
        for worker in 0..4u8 {
            let file = &file;
            scope.spawn(move || {
                let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
                block.fill(worker + 1);
                for place in 0..4u64 {
                    let offset = (place * 4 + u64::from(worker)) * BLOCK_BYTES as u64;
                    ok("written durably by several threads", file.write_durable(offset, &block));
                }
            });
        }
    });
    let bytes = whole(&*file);
    let expected = bytes.chunks(BLOCK_BYTES).zip((1..=4u8).cycle());
    assert!(
        expected.clone().all(|(block, worker)| block == [worker; BLOCK_BYTES]),
        "each block its writer's"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn the_simulated_disk_conforms() {
        check(&SimulatedDisk::new(1), Path::new("/"));
    }

    #[cfg(unix)]
    #[test]
    fn the_plain_disk_conforms_with_and_without_direct_access_and_flags() {
        for (direct, dsync) in [(false, false), (true, false), (false, true), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            check(&crate::disk::PlainDisk::without(direct, dsync), dir.path());
        }
    }

    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    #[test]
    fn the_io_uring_disk_conforms() {
        let disk = match crate::disk::UringDisk::new() {
            Ok(disk) => disk,
            Err(error) => {
                println!("SKIPPED: {error}");
                return;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        check(&disk, dir.path());
    }

    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    #[test]
    fn a_file_system_in_memory_conforms() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            println!("SKIPPED: no /dev/shm");
            return;
        };
        check(&crate::disk::PlainDisk::new(), dir.path());
    }
}
