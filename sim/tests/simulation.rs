//! The shipped engine through simulated lives. A failure prints the command that replays it.
//!
//! `LOGWOOD_SIM_SEEDS` says how many seeds (48 unless set), `LOGWOOD_SIM_FROM` where they begin (0 unless set).

use logwood_sim::simulation::{STEPS, simulate, simulate_lying_disk};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn every_seed_keeps_every_promise() {
    let (from, seeds) = (number("LOGWOOD_SIM_FROM", 0), number("LOGWOOD_SIM_SEEDS", 48));
    let mut happened = std::collections::BTreeMap::new();
    for seed in from..from + seeds {
        match simulate(seed, STEPS) {
            Ok(summary) => {
                summary
                    .counts
                    .into_iter()
                    .for_each(|(what, times)| *happened.entry(what).or_insert(0) += times);
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    // What never happens is not tested.
    let wanted = [
        "power cuts",
        "kills",
        "crashes in recovery",
        "a sync will fail",
        "full disks",
        "checkpoints",
        "compactions",
        "large commits",
        "bulk writes",
        "bulk writes given up",
        "bits flipped",
        "flips named",
        "snapshots read",
        "transactions",
        "conflicts",
        "conditional puts",
        "commits followed up to",
        "backups",
        "backups cut off",
        "backups opened",
        "keyspaces dropped",
        "reopened after a failure",
    ];
    for what in wanted.into_iter().filter(|_| seeds >= 40) {
        assert!(
            happened.get(what).is_some_and(|times| *times > 0),
            "{what}: never happened in {seeds} seeds"
        );
    }
}

#[test]
fn a_disk_that_lies_about_durable_writes_is_found_out() {
    let found = (0..10).filter(|seed| simulate_lying_disk(*seed, STEPS).is_err()).count();
    assert!(found >= 8, "only {found} of 10 seeds noticed that nothing durable was stored");
}
