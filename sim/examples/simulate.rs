//! Runs the shipped engine through simulated lives; see `logwood_sim::simulation`.
//!
//! ```text
//! cargo run --release -p logwood-sim --example simulate -- --seed 42            one seed, and its trace's hash
//! cargo run --release -p logwood-sim --example simulate -- --seeds 1000         seeds 0 to 999
//! cargo run --release -p logwood-sim --example simulate -- --seeds 1000 --from 5000 --steps 400
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use logwood_sim::simulation::{STEPS, simulate};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let steps = number("--steps").map_or(STEPS, |steps| steps as u32);
    let (from, count) = match number("--seed") {
        Some(seed) => (seed, 1),
        None => (number("--from").unwrap_or(0), number("--seeds").unwrap_or(100)),
    };
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failures = 0;
    for seed in from..from + count {
        if number("--tell").is_some() {
            println!("seed {seed}");
        }
        match simulate(seed, steps) {
            Ok(summary) => {
                if count == 1 {
                    println!("seed {seed}: trace {:016x}", summary.trace_hash);
                }
                *totals.entry("disk calls").or_default() += summary.disk_operations;
                summary.counts.iter().for_each(|(what, times)| *totals.entry(what).or_default() += times);
            }
            Err(failure) => {
                failures += 1;
                println!("{failure}\n");
            }
        }
    }
    println!("{count} seeds of {steps} steps, {failures} failed");
    totals.iter().for_each(|(what, times)| println!("{times:>12} {what}"));
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
