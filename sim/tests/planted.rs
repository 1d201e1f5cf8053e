//! The simulator finds bugs that are planted in the engine that it runs.
//!
//! Not all that the engine's own tests plant: what shows only when a manifest is lost, when cleaning runs in the middle of
//! a backup, or in a bulk write of several runs, has its scripted test there (`engine/src/tests/mutants.rs`).
//!
//! `RUSTFLAGS="--cfg logwood_planted" cargo test --release --target-dir target/planted -p logwood-sim --test planted`
#![cfg(logwood_planted)]

use logwood::planted::{Bug, with};
use logwood_sim::serializability::check;
use logwood_sim::serializability::clients::{Discipline, interleaved};
use logwood_sim::simulation::{STEPS, simulate};

/// Seeds that a bug has to show itself in.
const SEEDS: u64 = 1000;

/// The first seed that fails, and why.
fn found(bug: Bug) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        let failure = with(bug, || simulate(seed, STEPS)).err()?;
        Some((seed, failure.message))
    })
}

#[test]
fn every_bug_planted_in_the_engine_is_found_by_the_simulator() {
    let bugs = [
        Bug::CheckpointBeforeSync,
        Bug::ForgetOpenFragments,
        Bug::ForgetFailure,
        Bug::CatalogBeforeLog,
        Bug::SkipValidation,
        Bug::ValidateVisible,
        Bug::ForgetRanges,
        Bug::ChangesBeforeVisible,
        Bug::ForgetFollowers,
    ];
    let mut missed = Vec::new();
    for bug in bugs {
        match found(bug) {
            Some((seed, message)) => {
                // By a broken promise, and not because the simulator stumbled over itself.
                assert!(
                    !message.contains("index out of bounds") && !message.contains("unwrap"),
                    "{seed}: {message}"
                );
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn walks_beside_own_writes_that_are_not_noted_make_cycles_in_histories() {
    let run = |seed| with(Bug::ForgetWalksOverOwn, || interleaved(seed, 5, 400, Discipline::Honest));
    assert!((0..100).any(|seed| check(&run(seed).unwrap()).is_err()));
}
