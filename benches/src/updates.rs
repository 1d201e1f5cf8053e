//! Random overwrites of data that is ten times the cache: how fast, and what each of them makes the process write.

use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, Series, record, seconds};
use crate::reads::load;

const CACHE_BYTES: usize = 32 << 20;
/// Overwrites of a round.
const UPDATES: u64 = 200_000;
const BATCH: u64 = 100;

/// Loads ten times what the cache holds, then overwrites records at random in batches, with the checkpoints and the
/// cleaning that this causes. A round ends with a checkpoint, so that nothing is owed.
pub fn updates(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let path = dir.path().join("db");
    let records = 10 * CACHE_BYTES as u64 / 174;
    let db = Database::open(&path, Options::default().cache_bytes(2 << 30)).expect("opens");
    db.ensure_keyspace("default").expect("makes a keyspace");
    load(&db, records);
    drop(db);

    let db = Database::open(&path, Options::default().cache_bytes(CACHE_BYTES)).expect("opens");
    let keyspace = db.keyspace("default").expect("finds it");
    let mut draw = Draw(9);
    let series = |name: &str| Series { name: name.to_owned(), figures: Vec::new() };
    let (mut rates, mut bytes) = (series("updates a second"), series("bytes written an update"));
    for _ in 0..setting.rounds {
        let before = written_bytes();
        let took = seconds(|| {
            for _ in 0..UPDATES / BATCH {
                let mut batch = db.batch();
                for _ in 0..BATCH {
                    let (key, _) = record(draw.next() % records);
                    let mut value = [0; 150];
                    draw.fill(&mut value);
                    batch.put(&keyspace, &key, &value).expect("fits");
                }
                db.commit(batch, Durability::Buffered).expect("commits");
            }
            db.checkpoint().expect("writes a checkpoint");
        });
        rates.figures.push(UPDATES as f64 / took);
        bytes.figures.push((written_bytes() - before) as f64 / UPDATES as f64);
    }
    println!(
        "updates: {records} records, cache {} MiB, {UPDATES} random overwrites a round",
        CACHE_BYTES >> 20
    );
    for one in [&rates, &bytes] {
        println!("    {}: median {:.0}   rounds {:.0?}", one.name, one.median(), one.figures);
    }
    println!("    {:?}", db.statistics());
}

/// What this process has given to the storage layer so far.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux shows what a process writes");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("has a line for it");
    line.trim().parse().expect("has a number")
}
