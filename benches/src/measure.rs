//! Rounds, medians, ratios: how every figure in BENCHMARKS.md is made.
//!
//! The machine is shared and noisy, so nothing is compared with yesterday. The contestants of a row run in turn, round
//! after round, in one process; each round gives one figure a contestant; the row shows the medians and their ratio.

use std::time::{Duration, Instant};

/// One contestant's figure in every round.
pub struct Series {
    pub name: String,
    pub figures: Vec<f64>,
}

impl Series {
    pub fn median(&self) -> f64 {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Runs the contestants in turn, `rounds` times.
pub fn interleave(rounds: usize, contestants: &mut [(&str, &mut dyn FnMut() -> f64)]) -> Vec<Series> {
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|(name, _)| Series { name: (*name).to_owned(), figures: Vec::new() })
        .collect();
    for _ in 0..rounds {
        for (index, (_, run)) in contestants.iter_mut().enumerate() {
            series[index].figures.push(run());
        }
    }
    series
}

/// Prints a row: the first series is ours, the second what it is compared with.
pub fn report(row: &str, unit: &str, reach: &str, series: &[Series]) {
    let ratio = series[0].median() / series[1].median();
    println!("{row}: {ratio:.3} (reach {reach})");
    for one in series {
        let rounds: Vec<String> = one.figures.iter().map(|figure| format!("{figure:.2}")).collect();
        println!("    {:<28} median {:>10.2} {unit}   rounds {}", one.name, one.median(), rounds.join(" "));
    }
}

/// The median of how long each of `times` calls takes, in microseconds.
pub fn median_us(times: usize, mut call: impl FnMut(usize)) -> f64 {
    let mut durations: Vec<Duration> = (0..times)
        .map(|index| {
            let start = Instant::now();
            call(index);
            start.elapsed()
        })
        .collect();
    durations.sort();
    durations[times / 2].as_secs_f64() * 1e6
}

/// How long `work` takes, in seconds.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// A small fast generator (SplitMix64; Steele, Lea, Flood 2014), so that drawing keys costs next to nothing.
#[derive(Clone)]
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

/// The key of record `n`: 24 random-looking bytes, as in redb's benchmark.
pub fn key(n: u64) -> [u8; 24] {
    let mut key = [0u8; 24];
    generator(n).fill(&mut key);
    key
}

/// Record `n`: its key, and 150 random-looking bytes.
pub fn record(n: u64) -> ([u8; 24], [u8; 150]) {
    let mut draw = generator(n);
    let (mut key, mut value) = ([0u8; 24], [0u8; 150]);
    draw.fill(&mut key);
    draw.fill(&mut value);
    (key, value)
}

fn generator(n: u64) -> Draw {
    Draw(n.wrapping_mul(0x2545_f491_4f6c_dd1d))
}
