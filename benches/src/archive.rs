//! What archiving costs those who commit, how small the archive is, and how far it lags.
//!
//! Durable commits of one JSON record each, by eight threads, for a few seconds a round: with an archiver that writes to
//! a directory of the same disk, and without, in turn. The archived bytes are those of the log objects; the log's are
//! those of the entries, without the log's own headers and padding, so that the figure is the unfavourable one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logwood::archive::{ArchiveOptions, Archiver};
use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, Series, interleave, report};

const THREADS: u64 = 8;
const ROUND: Duration = Duration::from_secs(6);
/// The archiver's default.
const INTERVAL: Duration = Duration::from_secs(5);

/// A JSON record of about 300 bytes: field names and few-valued fields repeat, identities and numbers do not.
fn json(n: u64) -> (String, String) {
    let mut draw = Draw(n);
    let mut pick = |from: &[&'static str]| from[(draw.next() % from.len() as u64) as usize];
    let (first, last) = (
        pick(&["Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken", "Leslie", "Niklaus"]),
        pick(&["Dijkstra", "Hopper", "Lamport", "Liskov", "Lovelace", "Thompson", "Turing", "Wirth"]),
    );
    let (city, state) =
        (pick(&["Berlin", "Lisbon", "Lyon", "Oslo", "Turin"]), pick(&["paid", "open", "sent"]));
    let (a, b, c) = (draw.next(), draw.next(), draw.next());
    let key = format!("order-{:016x}", a);
    let value = format!(
        "{{\"id\":\"{key}\",\"customer\":{{\"name\":\"{first} {last}\",\"email\":\"{}.{}{}@example.com\",\"city\":\"{city}\"}},\
         \"state\":\"{state}\",\"total\":{}.{:02},\"currency\":\"EUR\",\"created\":\"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z\",\
         \"items\":[{{\"sku\":\"{:08x}\",\"quantity\":{}}}],\"note\":null}}",
        first.to_lowercase(),
        last.to_lowercase(),
        b % 1000,
        b % 900,
        b % 100,
        1 + c % 12,
        1 + c % 28,
        c % 24,
        b % 60,
        c % 60,
        c as u32,
        1 + b % 9,
    );
    (key, value)
}

/// What one round came to.
struct Round {
    commits_per_second: f64,
    p99_us: f64,
    /// Archived bytes per byte of entries, and the longest lag in seconds.
    archived: Option<(f64, f64)>,
}

fn round(setting: &Setting, archives: bool, seed: u64) -> Round {
    let folder = tempfile::tempdir_in(&setting.dir).expect("a directory");
    let db = Database::open(folder.path().join("db"), Options::new()).expect("a database");
    let keyspace = db.ensure_keyspace("orders").expect("a keyspace");
    let url = format!("file://{}", folder.path().join("archive").display());
    let archiver: Option<Archiver> =
        archives.then(|| db.archive(ArchiveOptions::to(url)).expect("an archiver"));
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(seed << 32));
    let started = Instant::now();
    let mut lag = Duration::ZERO;
    let mut latencies: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut latencies = Vec::with_capacity(1 << 17);
                    while !stop.load(Ordering::Relaxed) {
                        let (key, value) = json(next.fetch_add(1, Ordering::Relaxed));
                        let mut batch = db.batch();
                        batch.put(&keyspace, key.as_bytes(), value.as_bytes()).expect("a put");
                        let begun = Instant::now();
                        db.commit(batch, Durability::Durable).expect("a commit");
                        latencies.push(begun.elapsed().as_nanos() as u64);
                    }
                    latencies
                })
            })
            .collect();
        while started.elapsed() < ROUND {
            std::thread::sleep(Duration::from_millis(50));
            if let Some(archiver) = &archiver {
                lag = lag.max(archiver.status().lag_time);
            }
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let archived = archiver.map(|archiver| {
        archiver.flush().expect("a flush");
        let status = archiver.status();
        (status.object_bytes as f64 / status.entries_bytes as f64, lag.as_secs_f64())
    });
    Round {
        commits_per_second: latencies.len() as f64 / elapsed,
        p99_us: latencies[latencies.len() * 99 / 100] as f64 / 1e3,
        archived,
    }
}

/// The rows `archive`: throughput, p99, size, lag.
pub fn archive(setting: &Setting) {
    let (mut sizes, mut lags, mut with_p99, mut without_p99) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut seed = 0;
    let mut seed_of = || {
        seed += 1;
        seed
    };
    let mut seeds: Vec<u64> = (0..setting.rounds as u64).map(|_| seed_of()).collect();
    let mut others = seeds.clone();
    let series = interleave(
        setting.rounds,
        &mut [
            ("archiving", &mut || {
                let round = round(setting, true, seeds.pop().unwrap_or(1));
                let (size, lag) = round.archived.expect("an archiver was there");
                sizes.push(size);
                lags.push(lag);
                with_p99.push(round.p99_us);
                round.commits_per_second
            }),
            ("without", &mut || {
                let round = round(setting, false, others.pop().unwrap_or(1));
                without_p99.push(round.p99_us);
                round.commits_per_second
            }),
        ],
    );
    report("archive: durable commits, 8 threads", "/s", ">= 0.85", &series);
    let one = |name: &str, figures: &[f64]| Series { name: name.to_owned(), figures: figures.to_vec() };
    let p99 = [one("archiving", &with_p99), one("without", &without_p99)];
    report("archive: p99 of those commits", "us", "<= 1.2", &p99);
    let whole = vec![1.0; sizes.len()];
    let size = [one("archived bytes", &sizes), one("a byte of entries", &whole)];
    report("archive: bytes per log byte of JSON", "", "<= 0.4", &size);
    let bound = vec![7.0; lags.len()];
    report(
        "archive: lag",
        "s",
        "<= 1, of interval + 2 s",
        &[one("longest", &lags), one("interval + 2 s", &bound)],
    );
}

/// The row `archive-lag`: how long a commit waits for the archive under a slow steady load, two hundred a second, with the
/// default interval. Measured from the end of a commit to when the archiver says that it was read back, looked at every
/// ten milliseconds.
pub fn lag(setting: &Setting) {
    let bound = INTERVAL.as_secs_f64() + 2.0;
    let mut lags = Vec::new();
    for seed in 0..setting.rounds.min(3) as u64 {
        let folder = tempfile::tempdir_in(&setting.dir).expect("a directory");
        let db = Database::open(folder.path().join("db"), Options::new()).expect("a database");
        let keyspace = db.ensure_keyspace("orders").expect("a keyspace");
        let url = format!("file://{}", folder.path().join("archive").display());
        let archiver = db.archive(ArchiveOptions::to(url).interval(INTERVAL)).expect("an archiver");
        let (started, mut waiting, mut longest) = (Instant::now(), VecDeque::new(), Duration::ZERO);
        let mut number = seed << 32;
        while started.elapsed() < 5 * INTERVAL {
            for _ in 0..2 {
                let (key, value) = json(number);
                number += 1;
                let mut batch = db.batch();
                batch.put(&keyspace, key.as_bytes(), value.as_bytes()).expect("a put");
                waiting.push_back((db.commit(batch, Durability::Durable).expect("a commit"), Instant::now()));
            }
            std::thread::sleep(Duration::from_millis(10));
            let archived = archiver.status().archived;
            while waiting.front().is_some_and(|(lsn, _)| *lsn <= archived) {
                waiting.pop_front();
            }
            // What still waits has waited at least so long; what is archived by now was in it before.
            longest = longest.max(waiting.front().map_or(Duration::ZERO, |(_, since)| since.elapsed()));
        }
        lags.push(longest.as_secs_f64());
    }
    let series = |name: &str, figures: Vec<f64>| Series { name: name.to_owned(), figures };
    let bounds = vec![bound; lags.len()];
    report(
        "archive: lag under 200 commits/s",
        "s",
        "<= 1, of interval + 2 s",
        &[series("longest", lags), series("interval + 2 s", bounds)],
    );
}
