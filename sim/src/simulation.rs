//! The shipped engine, run by one seed on one thread, with everything going wrong that a machine can do to it.
//!
//! One seed draws a workload (puts, deletes, batches large and small, bulk writes, ranges, transactions, conditions, keyspaces,
//! snapshots, a follower of the changes, backups, checkpoints, compaction, verification, reopening), what the machine does meanwhile (power cuts, process kills whose writes land
//! late, failed syncs and reads, full disks, bits that rot at rest), and in which order background work is stepped.
//! Disk, clock, randomness and threads are the simulated ones of `logwood-base`; nothing else differs from what an
//! embedder runs.
//!
//! | file | what it holds |
//! |---|---|
//! | [`oracle`] | every commit outside the disk: what must be there, what may be |
//! | [`trace`] | what happened, as a hash and as the last lines |
//! | [`world`] | the disk, the clock, the tasks, the database, and its lives |
//! | [`lives`] | opening, dying, and what is checked then |
//! | [`workload`] | what the client does |
//! | [`transactions`] | transactions and conditional writes, with somebody who meddles |
//! | [`follower`] | a view of the database, kept elsewhere from its changes |
//! | [`copies`] | backups |
//! | [`weather`] | what the machine does |
//! | [`damage`] | bits that rot at rest, in copies of the disk |
//!
//! # What is held after each life
//! 1. The database equals the state after *one* prefix of the commits, and the prefix reaches what was acknowledged:
//!    durably, for a power cut; at all, for a kill. So nothing acknowledged is lost, nothing deleted returns, commits
//!    keep their order and are whole.
//! 2. While it is open, readers see exactly what `visible_lsn` says; snapshots never change; counts and digests agree.
//! 3. No error without a cause: `Io` and `Poisoned` only after a fault, `DiskFull` only on a full disk, from which it
//!    recovers by itself, damage never, but where a bit was flipped.
//! 4. A transaction is refused when another commit has changed what it read, and only then. A follower of durable commits
//!    gets each of them once and in order over all lives, and none is taken back. A backup is the earlier one or the new one.
//! 5. A bit flipped at rest is named by verification or by opening, or it is harmless: never a wrong answer.
//!
//! The same seed gives the same trace, byte for byte. `cargo run --release -p logwood-sim --example simulate --
//! --seed N` replays one.

pub mod copies;
pub mod damage;
pub mod follower;
pub mod lives;
pub mod oracle;
pub mod trace;
pub mod transactions;
pub mod weather;
pub mod workload;
pub mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// How many steps a seed lives through unless told otherwise.
pub const STEPS: u32 = 150;

/// What a seed came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Hash of everything that happened.
    pub trace_hash: u64,
    /// Changing calls to the disk.
    pub disk_operations: u64,
    /// How often what happened, by name.
    pub counts: Vec<(&'static str, u64)>,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that broke it.
    pub seed: u64,
    /// How many steps were asked for.
    pub steps: u32,
    /// What is wrong.
    pub message: String,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, message, trace } = self;
        trace.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        writeln!(f, "seed {seed}: {message}")?;
        write!(
            f,
            "replay: cargo run --release -p logwood-sim --example simulate -- --seed {seed} --steps {steps}"
        )
    }
}

/// Lives through `steps` steps drawn from one seed.
///
/// # Errors
/// The first broken promise, a panic of the engine included.
pub fn simulate(seed: u64, steps: u32) -> Result<Summary, Box<Failure>> {
    run(World::new(seed), seed, steps)
}

/// As [`simulate`], on a disk that acknowledges durable writes of the log and never stores them. The promises cannot be
/// kept there: a simulator that finds nothing wrong would find nothing at all.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_lying_disk(seed: u64, steps: u32) -> Result<Summary, Box<Failure>> {
    let mut world = World::new(seed);
    world.lying_disk = true;
    run(world, seed, steps)
}

fn run(mut world: World, seed: u64, steps: u32) -> Result<Summary, Box<Failure>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live(steps)));
    let message = match outcome {
        Ok(Ok(())) => {
            let (trace_hash, counts) = (world.trace.hash(), world.trace.counts());
            return Ok(Summary { seed, trace_hash, disk_operations: world.disk.operations(), counts });
        }
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
        }
    };
    let trace = world.trace.tail();
    // What is left of the database must not panic a second time while it is dropped.
    std::mem::forget(world);
    Err(Box::new(Failure { seed, steps, message, trace }))
}
