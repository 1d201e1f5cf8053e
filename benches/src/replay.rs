//! Opening after a crash: entries replayed a second, tree applied.

use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{record, seconds};

/// Single puts of 150 bytes, no checkpoint, the handle forgotten as a killed process would, opened again.
pub fn replay(setting: &Setting) {
    let entries = (setting.records / 5).max(1_000);
    for round in 0..setting.rounds.min(3) {
        let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
        let path = dir.path().join("db");
        let options = || Options::default().recovery_log_bytes_max(4 << 30).cache_bytes(2 << 30);
        let db = Database::open(&path, options()).expect("opens");
        let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
        for number in 0..entries {
            let (key, value) = record(number);
            keyspace.put_with(&key, &value, Durability::Buffered).expect("commits");
        }
        // Dropping does not checkpoint: what is left is a log to replay.
        drop(keyspace);
        drop(db);
        let mut opened = None;
        let elapsed = seconds(|| opened = Some(Database::open(&path, options()).expect("opens")));
        let db = opened.expect("was opened");
        let keyspace = db.keyspace("default").expect("is there");
        assert_eq!(keyspace.count_all().expect("counts"), entries);
        println!(
            "replay, round {round}: {:.2} M entries/s ({entries} entries in {elapsed:.2} s; reach >= 1 M/s)",
            entries as f64 / elapsed / 1e6
        );
    }
}
