//! `bench`: one workload, measured operation by operation, in a keyspace of its own.
//!
//! Keys are drawn before an operation's time begins. Each thread has a histogram of its own; they are added at the end. It
//! measures this machine, this directory and the default options, and compares nothing with anything.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;
use logwood::{Database, Durability, Keyspace};
use logwood_base::environment::{SeededRandom, SystemClock};
use logwood_base::{Clock, Random};
use serde_json::json;

use crate::arguments::{Bench, Workload};
use crate::exit::Failure;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;

/// Records in a batch of `fill`, and operations between two looks at the progress.
const BATCH: u64 = 1000;
/// Records of one `scan`.
const SCAN: usize = 100;
/// Durable writes that are measured when nothing else is said: each takes a write of the disk.
const DURABLE_OPERATIONS: u64 = 10_000;

/// What was measured.
struct Measured {
    operations: u64,
    took: Duration,
    /// Nanoseconds.
    latencies: Histogram<u64>,
}

/// Runs the command.
///
/// # Errors
/// What the engine answers.
pub fn run(arguments: &Bench, output: &mut Output) -> Result<(), Failure> {
    let database = open::or_create(&arguments.directory, &arguments.followers)?;
    let keyspace = database.ensure_keyspace(&arguments.keyspace)?;
    let bench = Worker { database: &database, keyspace: &keyspace, arguments };
    if !matches!(arguments.workload, Workload::Fill | Workload::Durable) {
        let there = keyspace.count_all()?;
        if there < arguments.records {
            bench.fill()?;
        }
    }
    let measured = bench.measure()?;
    open::close(&database)?;
    report(arguments, &measured, output)
}

fn report(arguments: &Bench, measured: &Measured, output: &mut Output) -> Result<(), Failure> {
    let Measured { operations, took, latencies } = measured;
    let rate = *operations as f64 / took.as_secs_f64().max(1e-9);
    let name = format!("{:?}", arguments.workload).to_lowercase();
    let us = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let (p50, p99, p999, max) = (us(0.5), us(0.99), us(0.999), latencies.max() as f64 / 1000.0);
    let unit = match arguments.workload {
        Workload::Fill => "batches of 1,000 records",
        Workload::Scan => "scans of 100 records",
        _ => "operations",
    };
    output.line(
        &format!(
            "{name}: {operations} {unit} in {:.2} s, {rate:.0}/s; latency in us: p50 {p50:.1}, p99 {p99:.1}, p99.9 \
             {p999:.1}, max {max:.1}",
            took.as_secs_f64()
        ),
        &json!({
            "workload": name, "unit": unit, "operations": operations, "seconds": took.as_secs_f64(),
            "per_second": rate, "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": max,
            "threads": arguments.threads, "records": arguments.records, "value_bytes": arguments.value_bytes,
        }),
    )
}

/// Does the operations.
struct Worker<'a> {
    database: &'a Database,
    keyspace: &'a Keyspace,
    arguments: &'a Bench,
}

impl Worker<'_> {
    #[expect(clippy::disallowed_methods, reason = "a measurement needs real threads")]
    fn measure(&self) -> Result<Measured, Failure> {
        let operations = match (self.arguments.operations, self.arguments.workload) {
            (Some(operations), _) => operations,
            (None, Workload::Durable) => DURABLE_OPERATIONS,
            (None, Workload::Fill) => self.arguments.records.div_ceil(BATCH),
            (None, Workload::Scan) => self.arguments.records.div_ceil(SCAN as u64),
            (None, _) => self.arguments.records,
        };
        let threads = self.arguments.threads.min(operations);
        let progress = Mutex::new((Progress::new("operations", Some(operations)), 0));
        let clock = SystemClock::new();
        let outcome = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let share = operations * thread / threads..operations * (thread + 1) / threads;
                    let progress = &progress;
                    scope.spawn(move || self.work(thread, share, progress))
                })
                .collect();
            let mut all = histogram();
            for worker in workers {
                let latencies = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.add(latencies).map_err(|error| Failure::Usage(error.to_string()))?;
            }
            Ok(all)
        });
        let took = clock.monotonic();
        outcome.map(|latencies| Measured { operations, took, latencies })
    }

    /// A thread's share.
    fn work(
        &self,
        thread: u64,
        share: std::ops::Range<u64>,
        progress: &Mutex<(Progress, u64)>,
    ) -> Result<Histogram<u64>, Failure> {
        let (clock, random) = (SystemClock::new(), SeededRandom::new(thread + 1));
        let mut latencies = histogram();
        let value = vec![b'v'; self.arguments.value_bytes as usize];
        for operation in share {
            let drawn = key(random.u64() % self.arguments.records);
            let started = clock.monotonic();
            match self.arguments.workload {
                Workload::Fill => {
                    self.batch(operation * BATCH..((operation + 1) * BATCH))?;
                }
                Workload::Read => drop(self.keyspace.get(&drawn)?),
                Workload::Scan => {
                    for record in self.keyspace.range(&drawn[..]..)?.take(SCAN) {
                        record?;
                    }
                }
                Workload::Mixed if operation % 10 == 9 => {
                    self.keyspace.put_with(&drawn, &value, Durability::Buffered)?;
                }
                Workload::Mixed => drop(self.keyspace.get(&drawn)?),
                Workload::Durable => {
                    self.keyspace.put_with(&drawn, &value, Durability::Durable)?;
                }
            }
            let nanoseconds = clock.monotonic().saturating_sub(started).as_nanos() as u64;
            latencies.saturating_record(nanoseconds.max(1));
            if let Ok(mut progress) = progress.try_lock() {
                progress.1 = progress.1.max(operation);
                let done = progress.1;
                progress.0.at(done);
            }
        }
        Ok(latencies)
    }

    /// All records.
    fn fill(&self) -> Result<(), Failure> {
        let records = self.arguments.records;
        let mut progress = Progress::new("records", Some(records));
        let mut firsts = (0..records).step_by(BATCH as usize);
        firsts.try_for_each(|first| {
            progress.at(first);
            self.batch(first..(first + BATCH).min(records))
        })
    }

    /// One buffered batch.
    fn batch(&self, records: std::ops::Range<u64>) -> Result<(), Failure> {
        let mut value = vec![b'v'; self.arguments.value_bytes as usize];
        let mut batch = self.database.batch();
        for record in records {
            value[..8].copy_from_slice(&record.to_le_bytes());
            batch.put(self.keyspace, &key(record), &value)?;
        }
        self.database.commit(batch, Durability::Buffered)?;
        Ok(())
    }
}

/// The key of a record: 24 bytes, in no order of their numbers.
fn key(record: u64) -> [u8; 24] {
    let mixed = record.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let text = format!("{mixed:016x}{:08x}", record as u32);
    let mut key = [0; 24];
    key.copy_from_slice(text.as_bytes());
    key
}

/// From a nanosecond to more than an hour, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 42, 3).expect("the bounds are constants that it accepts")
}
