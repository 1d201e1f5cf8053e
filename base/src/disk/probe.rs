//! Which disk this machine gets, and how fast each way of writing durably is here.
#![allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Disk, File, PlainDisk};
use crate::limits::BLOCK_BYTES;
use crate::{AlignedBuffer, Error, Result};

/// The environment variable that chooses the backend.
pub const DISK_VARIABLE: &str = "LOGWOOD_DISK";

/// Blocks of the file that is measured on; each is written before, and again and again.
const BLOCKS: u64 = 256;

/// The real disk: the backend named by `LOGWOOD_DISK` (`plain` or `uring`), else the best that the machine allows.
///
/// ```
/// use logwood_base::disk::{File, probe::system_disk};
/// let disk = system_disk()?;
/// let directory = tempfile::tempdir()?;
/// disk.create(&directory.path().join("file"))?.write_durable(0, b"kept")?;
/// disk.sync_dir(directory.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `InvalidArgument` when the variable names an unknown backend or one that this machine forbids.
pub fn system_disk() -> Result<Arc<dyn Disk>> {
    let chosen = env::var_os(DISK_VARIABLE).unwrap_or_default();
    match chosen.to_str() {
        Some(name) => disk_named(name),
        None => Err(unknown(&chosen.to_string_lossy())),
    }
}

/// The backend of that name; the best that the machine allows for the empty name.
///
/// ```
/// use logwood_base::disk::probe::disk_named;
/// assert_eq!(disk_named("plain")?.describe().backend, "plain");
/// assert!(disk_named("floppy").is_err());
/// # Ok::<(), logwood_base::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` when there is no such backend or the machine forbids it.
pub fn disk_named(name: &str) -> Result<Arc<dyn Disk>> {
    match name {
        "plain" => Ok(Arc::new(PlainDisk::new())),
        "" => Ok(uring().unwrap_or_else(|_| Arc::new(PlainDisk::new()))),
        "uring" => uring().map_err(|cause| {
            Error::InvalidArgument(format!("{DISK_VARIABLE}=uring: not on this machine: {cause}; use plain"))
        }),
        other => Err(unknown(other)),
    }
}

fn unknown(name: &str) -> Error {
    Error::InvalidArgument(format!("{DISK_VARIABLE}={name}: no such disk; there are plain and uring"))
}

#[cfg(all(target_os = "linux", not(logwood_portable)))]
fn uring() -> Result<Arc<dyn Disk>> {
    Ok(Arc::new(super::UringDisk::new()?))
}

#[cfg(any(not(target_os = "linux"), logwood_portable))]
fn uring() -> Result<Arc<dyn Disk>> {
    Err(Error::InvalidArgument("io_uring is of Linux".to_owned()))
}

/// How fast one way of writing a block durably is.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// As [`DiskDescription::durable_write`](super::DiskDescription::durable_write) names it.
    pub method: &'static str,
    /// How many threads wrote at the same time.
    pub in_flight: usize,
    /// Half of the writes took no longer.
    pub p50: Duration,
    /// 99 of 100 writes took no longer.
    pub p99: Duration,
    /// Writes of all threads together, each second.
    pub per_second: f64,
}

/// Measures durable writes of one block of 4 KiB into a file whose blocks were all written before, by every method
/// that the file system of `directory` has: `rounds` lone writes of each, the methods in turn; then as many by each of
/// 2, 4 and 8 threads at the same time.
///
/// # Errors
/// As the disk's; `InvalidArgument` when `rounds` is 0.
pub fn measure(directory: &Path, rounds: usize) -> Result<Vec<Measured>> {
    if rounds == 0 {
        return Err(Error::InvalidArgument("nothing is measured in no rounds".to_owned()));
    }
    let plain = PlainDisk::new();
    let path = directory.join(format!("probe-{}.tmp", std::process::id()));
    let file = plain.create(&path)?;
    let answer = prepare(&*file).and_then(|()| measure_methods(&path, rounds));
    drop(file);
    plain.remove(&path)?;
    answer
}

/// Writes every block once, so that no write that is measured allocates.
fn prepare(file: &dyn File) -> Result<()> {
    for block in 0..BLOCKS {
        file.write_at(block * BLOCK_BYTES as u64, &[1; BLOCK_BYTES])?;
    }
    file.sync()
}

fn measure_methods(path: &Path, rounds: usize) -> Result<Vec<Measured>> {
    let mut methods: Vec<(&'static str, Arc<dyn File>, Vec<Duration>)> = Vec::new();
    for (direct, dsync) in [(false, false), (true, false), (true, true)] {
        let disk = PlainDisk::without(direct, dsync);
        let file = disk.open(path, super::Access::ReadWrite)?;
        // The first write finds out what is refused.
        file.write_durable(0, &AlignedBuffer::zeroed(BLOCK_BYTES))?;
        let method = disk.describe().durable_write;
        if methods.iter().all(|(known, ..)| *known != method) {
            methods.push((method, file, Vec::with_capacity(rounds)));
        }
    }
    for round in 0..rounds {
        for (_, file, times) in &mut methods {
            times.push(write_one(&**file, round)?);
        }
    }
    let mut measured: Vec<Measured> =
        methods.iter_mut().map(|(method, _, times)| summary(method, 1, times, None)).collect();
    for threads in [2, 4, 8] {
        for (method, file, _) in &methods {
            measured.push(measure_in_flight(method, &**file, threads, rounds)?);
        }
    }
    Ok(measured)
}

/// Each thread writes its own blocks, as committing threads do.
fn measure_in_flight(
    method: &'static str,
    file: &dyn File,
    threads: usize,
    rounds: usize,
) -> Result<Measured> {
    let started = Instant::now();
    let answers: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            move || (0..rounds).map(|round| write_one(file, round * threads + thread)).collect()
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("a writer does not panic")).collect()
    });
    let taken = started.elapsed();
    let mut times = Vec::with_capacity(threads * rounds);
    for answer in answers {
        times.extend(answer?);
    }
    Ok(summary(method, threads, &mut times, Some(taken)))
}

fn write_one(file: &dyn File, round: usize) -> Result<Duration> {
    let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
    block[..8].copy_from_slice(&(round as u64).to_le_bytes());
    let started = Instant::now();
    file.write_durable(round as u64 % BLOCKS * BLOCK_BYTES as u64, &block)?;
    Ok(started.elapsed())
}

fn summary(
    method: &'static str,
    in_flight: usize,
    times: &mut [Duration],
    taken: Option<Duration>,
) -> Measured {
    times.sort_unstable();
    let taken = taken.unwrap_or_else(|| times.iter().sum());
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let per_second = times.len() as f64 / taken.as_secs_f64().max(1e-9);
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    Measured { method, in_flight, p50, p99, per_second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_s_words_choose_the_backend_and_others_are_refused() {
        assert_eq!(disk_named("plain").unwrap().describe().backend, "plain");
        for wrong in ["Plain", "direct", "uring "] {
            assert!(matches!(disk_named(wrong), Err(Error::InvalidArgument(_))), "{wrong}");
        }
        match disk_named("uring") {
            Ok(disk) => {
                assert_eq!(disk.describe().backend, "uring");
                assert_eq!(disk_named("").unwrap().describe().backend, "uring");
            }
            Err(error) => {
                assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
                assert_eq!(disk_named("").unwrap().describe().backend, "plain");
            }
        }
    }

    /// The figures themselves: `LOGWOOD_PROBE_ROUNDS=2000 cargo test --release -p logwood-base probe -- --nocapture`.
    #[test]
    fn every_method_is_measured_and_nothing_is_left_behind() {
        let rounds =
            env::var("LOGWOOD_PROBE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
        let directory = tempfile::tempdir().unwrap();
        let measured = measure(directory.path(), rounds).unwrap();
        for one in &measured {
            println!("{one:?}");
            assert!(one.p50 <= one.p99 && one.per_second > 0.0);
        }
        assert!(
            measured.iter().any(|one| one.method == "fdatasync")
                || cfg!(any(not(target_os = "linux"), logwood_portable))
        );
        assert_eq!(measured.iter().map(|one| one.in_flight).max(), Some(8));
        assert!(PlainDisk::new().list(directory.path()).unwrap().is_empty());
        assert!(matches!(measure(directory.path(), 0), Err(Error::InvalidArgument(_))));
    }
}
