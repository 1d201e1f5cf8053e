//! Explores the model of the log's rules (`logwood_sim::log_model`) and prints what it saw.
//!
//! ```text
//! cargo run --release -p logwood-sim --example log_model                      every exploration
//! cargo run --release -p logwood-sim --example log_model -- votes             one of them
//! cargo run --release -p logwood-sim --example log_model -- --without NoEvidence    a rule left out: its timeline
//! LOGWOOD_TEST_SCALE=2 cargo run --release -p logwood-sim --example log_model       larger bounds
//! ```

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that prints and measures itself"
)]

use std::process::ExitCode;
use std::time::Instant;

use logwood_sim::log_model::bounds::{ALL, run, scale, shows};
use logwood_sim::log_model::mutation::Mutation;

/// Memory ends an exploration before patience does: a state of the frontier takes a few kilobytes.
const STATES_MAX: usize = 6_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--without"
    {
        return leave_out(name);
    }
    let chosen = arguments.join(" ");
    let (mut total, mut broken) = (0, false);
    println!("{:<16} {:>10} {:>6} {:>8}  about", "exploration", "states", "steps", "seconds");
    for bounds in ALL.into_iter().filter(|bounds| chosen.is_empty() || bounds.name == chosen) {
        let bounds = bounds.enlarged(scale() - 1);
        let begun = Instant::now();
        let found = run(&bounds, Mutation::None, STATES_MAX);
        let seconds = begun.elapsed().as_secs_f64();
        let cut = if found.cut_short { " (cut short)" } else { "" };
        println!(
            "{:<16} {:>10} {:>6} {seconds:>8.1}  {}{cut}",
            bounds.name, found.states, found.depth, bounds.about
        );
        total += found.states;
        if let Some(timeline) = found.counter_example {
            broken = true;
            println!("{timeline}");
        }
    }
    println!("{:<16} {total:>10}", "together");
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn leave_out(name: &str) -> ExitCode {
    let Some(mutation) = Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name) else {
        println!("no such rule; there are {:?}", &Mutation::ALL[1..]);
        return ExitCode::FAILURE;
    };
    let Some(bounds) = shows(mutation) else { return ExitCode::FAILURE };
    let found = run(&bounds, mutation, STATES_MAX);
    println!("without {mutation:?}, in \"{}\", after {} states:", bounds.name, found.states);
    match found.counter_example {
        Some(timeline) => println!("{timeline}"),
        None => println!("no counter-example"),
    }
    ExitCode::SUCCESS
}
