//! SIGKILL of a loading program at random moments: everything it acknowledged is there, and nothing else is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Place, program, records, rounds};

/// Records in which keys come back, so that a lost update shows.
fn stream(seed: u64, count: usize) -> Vec<(String, String)> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|number| {
            (format!("key-{}", random.u32(0..500)), format!("{number} {}", "v".repeat(random.usize(0..300))))
        })
        .collect()
}

fn state_after(records: &[(String, String)]) -> String {
    let last: BTreeMap<_, _> = records.iter().map(|(key, value)| (key, value)).collect();
    last.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect()
}

#[test]
fn a_killed_load_keeps_every_acknowledged_batch_whole_and_in_order() {
    const BATCH: usize = 25;
    for round in 0..rounds(12) {
        let mut random = fastrand::Rng::with_seed(u64::from(round));
        let place = Place::new();
        // Several lives of one directory: each recovers what the one before left.
        let mut known: Vec<(String, String)> = Vec::new();
        for life in 0..3 {
            let records = stream(random.u64(..), 20_000);
            let text: String = records.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
            let file = place.file("records.tsv", text.as_bytes());
            let durability = if random.bool() { "durable" } else { "buffered" };
            let batch = BATCH.to_string();
            let mut load = program()
                .args(["load", &place.db, &file, "--acks", "--batch", &batch, "--durability", durability])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let acknowledgements = BufReader::new(load.stdout.take().unwrap());
            let pause = Duration::from_micros(random.u64(0..60_000));
            let killer = std::thread::spawn(move || {
                std::thread::sleep(pause);
                load.kill().unwrap();
                load.wait().unwrap();
            });
            let mut acknowledged = 0;
            let mut last_lsn = 0;
            for line in acknowledgements.lines() {
                let line = line.unwrap();
                let (lsn, key) = line.split_once('\t').unwrap();
                let lsn: u64 = lsn.parse().unwrap();
                assert!(lsn > last_lsn);
                last_lsn = lsn;
                acknowledged = (acknowledged + BATCH).min(records.len());
                assert_eq!(key, records[acknowledged - 1].0);
            }
            killer.join().unwrap();

            let found = match place.run("scan", &[]) {
                ran if ran.code == 1 && acknowledged == 0 && known.is_empty() => String::new(),
                ran => ran.done(),
            };
            let prefix = (acknowledged..=records.len()).step_by(BATCH).find(|&length| {
                let all: Vec<_> = known.iter().chain(&records[..length]).cloned().collect();
                state_after(&all) == found
            });
            let Some(prefix) = prefix else {
                panic!(
                    "round {round}, life {life}: {acknowledged} acknowledged, and no whole batches after that"
                );
            };
            known.extend_from_slice(&records[..prefix]);
            if !known.is_empty() {
                place.run("verify", &[]).done();
            }
        }
    }
}

#[test]
fn a_killed_load_in_one_transaction_leaves_all_or_nothing() {
    const RECORDS: u32 = 60_000;
    let text = records(RECORDS);
    // How long it takes here and now, so that kills fall into all of it.
    let whole = {
        let place = Place::with("before\t1\n");
        let file = place.file("records.tsv", text.as_bytes());
        let begun = Instant::now();
        place.run("load", &[&file, "--transaction", "--durability", "buffered"]).done();
        begun.elapsed().as_micros() as u64
    };
    let (mut none, mut all) = (0, 0);
    let rounds = rounds(8);
    for round in 0..rounds {
        let mut random = fastrand::Rng::with_seed(u64::from(round));
        let place = Place::with("before\t1\n");
        let file = place.file("records.tsv", text.as_bytes());
        let mut load = program()
            .args(["load", &place.db, &file, "--transaction", "--durability", "buffered"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From before anything is written, the first time certainly, to after all of it is.
        let wait = random.u64(0..=whole / u64::from(rounds)) + whole * u64::from(round) / u64::from(rounds);
        std::thread::sleep(Duration::from_micros(if round == 0 { 0 } else { wait }));
        load.kill().unwrap();
        load.wait().unwrap();
        match place.run("count", &[]).done().trim().parse::<u32>().unwrap() {
            1 => none += 1,
            count => {
                assert_eq!(count, RECORDS + 1, "round {round}");
                all += 1;
            }
        }
        place.run("verify", &[]).done();
    }
    assert!(none > 0, "{none} kills came early, {all} late");
}
