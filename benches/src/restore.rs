//! Restoring from a local directory, beside writing as many bytes one behind the other.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use logwood::archive::{Archive, ArchiveOptions, RestoreOptions, RestoreStep, StoreOptions};
use logwood::{Database, Durability, Environment, Options};

use crate::Setting;
use crate::measure::{Draw, interleave, record, report, seconds};

/// A snapshot of nine tenths of the records, and the log of the last tenth behind it, in batches of 100.
pub fn restore(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let url = format!("file://{}", dir.path().join("archive").display());
    archive(setting, &dir.path().join("db"), &url);

    let environment = Environment::system().expect("an environment");
    let archive = Archive::open(&url, &StoreOptions::new(), &environment).expect("opens the archive");
    let to = dir.path().join("restored");
    let bytes = std::cell::Cell::new(0);
    let restored = |options: RestoreOptions| {
        let _ = std::fs::remove_dir_all(&to);
        let took = seconds(|| {
            let report = archive.restore(&to, &options).expect("restores");
            assert!(report.snapshot.is_some() && report.entries > 0);
        });
        bytes.set(size_of(&to));
        bytes.get() as f64 / took / 1e6
    };
    // When each step of the last restore began.
    let steps: Arc<Mutex<Vec<(RestoreStep, Instant)>>> = Arc::default();
    let mut verified = || {
        steps.lock().expect("not poisoned").clear();
        let noted = Arc::clone(&steps);
        let rate = restored(RestoreOptions::new().progress(move |now| {
            let mut steps = noted.lock().expect("not poisoned");
            if steps.last().is_none_or(|(step, _)| *step != now.step) {
                steps.push((now.step, Instant::now()));
            }
        }));
        let steps = steps.lock().expect("not poisoned");
        let ends = steps.iter().skip(1).map(|(_, began)| *began).chain([Instant::now()]);
        let took = steps
            .iter()
            .zip(ends)
            .map(|((step, began), end)| format!("{step:?} {:.2} s", (end - *began).as_secs_f64()));
        println!("    {}", took.collect::<Vec<_>>().join(", "));
        rate
    };
    let mut hashed = || restored(RestoreOptions::new().verify(false));
    let mut raw = || {
        let path = dir.path().join("raw");
        let mut block = vec![0; 1 << 20];
        Draw(1).fill(&mut block);
        let took = seconds(|| {
            let mut file = std::fs::File::create(&path).expect("creates");
            for _ in 0..bytes.get().div_ceil(1 << 20) {
                file.write_all(&block).expect("writes");
            }
            file.sync_data().expect("syncs");
        });
        std::fs::remove_file(&path).expect("removes");
        bytes.get() as f64 / took / 1e6
    };
    let series = interleave(
        setting.rounds.min(3),
        &mut [
            ("restore, proven by hashes", &mut hashed),
            ("sequential write and a sync", &mut raw),
            ("restore, read back as well", &mut verified),
        ],
    );
    report("restore", "MB/s", ">= 0.5", &series);
    println!("    {} MB in the restored directory", bytes.get() / 1_000_000);
    println!("    read back as well: {:.3}", series[2].median() / series[1].median());
}

fn archive(setting: &Setting, path: &Path, url: &str) {
    let options = Options::default().cache_bytes(2 << 30).durability(Durability::Buffered);
    let db = Database::open(path, options).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let load = |numbers: std::ops::Range<u64>, batch: u64| {
        for first in numbers.clone().step_by(batch as usize) {
            let mut all = db.batch();
            for number in first..(first + batch).min(numbers.end) {
                let (key, value) = record(number);
                all.put(&keyspace, &key, &value).expect("fits");
            }
            db.commit(all, Durability::Buffered).expect("commits");
        }
    };
    let behind = setting.records / 10 * 9;
    load(0..behind, 1_000);
    db.checkpoint().expect("writes a checkpoint");
    // The first archiver begins with a snapshot, or with one as soon as anything is archived.
    let to = |snapshot_log_bytes| {
        let options = ArchiveOptions::to(url).background(false).snapshot_log_bytes(snapshot_log_bytes);
        db.archive(options).expect("archives")
    };
    let archiver = to(1);
    archiver.flush().expect("archives");
    archiver.stop().expect("stops");
    let archiver = to(0);
    load(behind..setting.records, 100);
    archiver.flush().expect("archives");
    archiver.stop().expect("stops");
    drop(keyspace);
    db.close().expect("closes");
    std::fs::remove_dir_all(path).expect("removes");
}

/// Bytes of all files.
fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("lists");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { size_of(&path) } else { path.metadata().expect("a length").len() }
        })
        .sum()
}
