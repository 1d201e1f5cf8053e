//! A seed gives the same trace again. Alone in its process: memory that nobody needs is freed when no thread stands on it,
//! other tests' threads too, and how much is held steers when checkpoints run.

use logwood_sim::simulation::{STEPS, Summary, simulate};

fn run(seed: u64) -> Summary {
    simulate(seed, STEPS).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn the_same_seed_gives_the_same_trace_whatever_ran_before() {
    let seeds = [3, 11, 4, 1_000_003];
    let once = seeds.map(run);
    for (seed, once) in seeds.into_iter().zip(&once).rev() {
        assert_eq!(*once, run(seed), "seed {seed} does not repeat itself");
    }
    assert_ne!(once[0].trace_hash, once[2].trace_hash);
    (20..50).for_each(|seed| drop(run(seed)));
    for (seed, once) in seeds.into_iter().zip(&once) {
        assert_eq!(*once, run(seed), "seed {seed} does not repeat itself after others");
    }
}
