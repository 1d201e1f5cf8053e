//! Starts contestants in turn, each in a process of its own, and compares what they print.

use std::collections::BTreeMap;
use std::process::Command;

use crate::Setting;
use crate::measure::Series;
use crate::stores::NAMES;

/// A figure of a row: its name, its words, its unit, and what ours is to be beside the best peer's.
type Figure = (&'static str, &'static str, &'static str, &'static str);

const RANDOM: &[Figure] = &[
    ("load", "bulk load in one transaction, durable", "s", "<= 0.8"),
    ("load-memory", "anonymous memory of the load, at most", "MiB", "<= cache + 256 MiB"),
    ("settle", "what was left to the background after it", "s", "shown"),
    ("remove", "removal of half in one transaction, durable", "s", "<= 0.5"),
    ("size-before", "space before compaction", "MiB", "shown"),
    ("compact", "compaction", "s", "shown"),
    ("size-after", "space after compaction", "MiB", "<= 1.1"),
];

const SORTED: &[Figure] = &[
    ("load", "sorted load, durable", "s", "<= 1.0"),
    ("load-memory", "anonymous memory of the load, the input included", "MiB", "shown"),
];

/// Random records in one transaction, removal of half, compaction.
pub fn random(setting: &Setting) {
    contest("random", RANDOM, setting);
}

/// Sorted records.
pub fn sorted(setting: &Setting) {
    contest("sorted", SORTED, setting);
}

fn contest(row: &str, figures: &[Figure], setting: &Setting) {
    let chosen =
        |name: &&&str| setting.stores.is_empty() || setting.stores.iter().any(|store| store == **name);
    let contestants: Vec<&str> = NAMES.iter().filter(chosen).copied().collect();
    let mut all: BTreeMap<(String, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..setting.rounds {
        for name in &contestants {
            for (figure, value) in start(row, name, setting) {
                all.entry((figure, name)).or_default().push(value);
            }
        }
    }
    let records = match (setting.records, row) {
        (0, "random") => crate::bulk::RANDOM_RECORDS,
        (0, _) => crate::bulk::SORTED_RECORDS,
        (records, _) => records,
    };
    println!("{row}: {records} records of 24 + 150 bytes, cache {} MiB", setting.cache_bytes >> 20);
    for (figure, words, unit, reach) in figures {
        let mut series: Vec<Series> = Vec::new();
        for name in &contestants {
            let Some(figures) = all.remove(&((*figure).to_owned(), *name)) else { continue };
            series.push(Series { name: (*name).to_owned(), figures });
        }
        show(words, unit, reach, &series);
    }
}

/// Runs one contestant once; answers its figures.
fn start(row: &str, name: &str, setting: &Setting) -> Vec<(String, f64)> {
    let program = std::env::current_exe().expect("knows its own program");
    let output = Command::new(program)
        .args([row, "--contestant", name])
        .args(["--records", &setting.records.to_string()])
        .args(["--cache", &(setting.cache_bytes >> 20).to_string()])
        .arg("--dir")
        .arg(&setting.dir)
        .output()
        .expect("starts itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let figure = |line: &str| {
        let (figure, value) = line.split_once(' ')?;
        Some((figure.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

/// Prints a figure of all contestants, and ours beside the best of the others.
fn show(words: &str, unit: &str, reach: &str, series: &[Series]) {
    let best = series
        .iter()
        .filter(|one| one.name != "logwood")
        .min_by(|one, other| one.median().total_cmp(&other.median()));
    let ours = series.iter().find(|one| one.name == "logwood");
    match (ours, best) {
        (Some(ours), Some(best)) => {
            let ratio = ours.median() / best.median();
            println!("  {words}: {ratio:.3} of {}'s (reach {reach})", best.name);
        }
        _ => println!("  {words}"),
    }
    for one in series {
        let rounds: Vec<String> = one.figures.iter().map(|figure| format!("{figure:.2}")).collect();
        println!("    {:<10} median {:>10.2} {unit}   rounds {}", one.name, one.median(), rounds.join(" "));
    }
}
