//! One process has a directory open, and a directory is what it was made as.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use logwood_base::environment::TaskControl;
use logwood_base::{Environment, Spawner, Task, TaskHandle};

use crate::{Database, Durability, Error, LogOnly, Options};

fn is_already_open(result: Result<Database, Error>) -> bool {
    matches!(result, Err(Error::AlreadyOpen { .. }))
}

#[test]
fn a_second_open_is_refused_in_this_process_and_through_a_link() {
    let home = tempfile::tempdir().unwrap();
    let (directory, link) = (home.path().join("db"), home.path().join("link"));
    let db = Database::open(&directory, Options::new()).unwrap();
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    assert!(is_already_open(Database::open(&directory, Options::new())));
    assert!(is_already_open(Database::open(&link, Options::new())));
    db.close().unwrap();
    let again = Database::open(&link, Options::new()).unwrap();
    assert!(is_already_open(Database::open(&directory, Options::new())));
    drop(again);
    Database::open(&directory, Options::new()).unwrap();
}

#[test]
fn handles_keep_the_directory_until_the_last_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    ks.put(b"a", b"1").unwrap();
    drop(db);
    assert!(is_already_open(Database::open(home.path(), Options::new())));
    drop(ks);
    let db = Database::open(home.path(), Options::new()).unwrap();
    assert_eq!(db.keyspace("k").unwrap().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_closed_database_refuses_writes_and_goes_on_reading() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    ks.put(b"a", b"1").unwrap();
    db.close().unwrap();
    db.close().unwrap();
    assert!(matches!(ks.put(b"a", b"2"), Err(Error::Closed)));
    assert!(matches!(db.create_keyspace("x"), Err(Error::Closed)));
    assert!(matches!(db.checkpoint(), Err(Error::Closed)));
    assert!(matches!(db.bulk_write(crate::BulkOptions::new()), Err(Error::Closed)));
    assert_eq!(ks.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn verifying_a_database_that_was_closed_does_not_take_what_others_do_there_for_damage() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let fill = |db: &Database, value: &[u8]| {
        let ks = db.ensure_keyspace("k").unwrap();
        let mut batch = db.batch();
        (0..5_000u32).for_each(|n| batch.put(&ks, &n.to_be_bytes(), value).unwrap());
        db.commit(batch, Durability::Durable).unwrap();
    };
    fill(&db, &[1; 100]);
    db.checkpoint().unwrap();
    assert_eq!(db.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap().records, 5_000);
    // Closed in the midst of it, and taken over.
    let mut next = None;
    let verified = db.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {
        if next.is_none() {
            db.close().unwrap();
            let other = Database::open(home.path(), Options::new()).unwrap();
            fill(&other, &[2; 100]);
            other.compact().unwrap();
            next = Some(other);
        }
    });
    assert!(matches!(verified, Err(Error::Closed)), "{verified:?}");
    let verified = db.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {});
    assert!(matches!(verified, Err(Error::Closed)), "{verified:?}");
    next.unwrap().verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
}

#[test]
fn what_lies_inside_of_a_database_is_told_by_where_a_path_leads() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path().join("db"), Options::new()).unwrap();
    let environment = Environment::system().unwrap();
    let disk = &*environment.disk;
    // An application's own folders of these names make no database.
    let app = home.path().join("app");
    for folder in ["log", "incoming"] {
        logwood_base::disk::create_dir_all(disk, &app.join(folder)).unwrap();
    }
    disk.create(&app.join("LOCK")).unwrap();
    let found = |path: &str| crate::seed::refuse_inside(disk, &home.path().join(path));
    for outside in ["copy", "db", "db/../copy", "db/./pages/../../copy", "app/copy", "app/log/copy"] {
        found(outside).unwrap();
    }
    for inside in ["db/copy", "db/pages/copy", "copy/../db/copy", "db/./copy"] {
        assert!(matches!(found(inside), Err(Error::InvalidArgument(_))), "{inside}");
    }
    db.close().unwrap();
}

#[test]
fn options_at_their_extremes_stop_nobody() {
    for bytes in [usize::MAX, usize::MAX / 2 + 1, 1] {
        let home = tempfile::tempdir().unwrap();
        let db = Database::open(home.path(), Options::new().dirty_bytes_max(bytes)).unwrap();
        let ks = db.ensure_keyspace("k").unwrap();
        ks.put(b"a", b"1").unwrap();
        db.checkpoint().unwrap();
        db.close().unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a look at what the call left")]
fn databases_and_logs_without_trees_refuse_each_others_directories() {
    let home = tempfile::tempdir().unwrap();
    let (database, log) = (home.path().join("database"), home.path().join("log"));
    Database::open(&database, Options::new()).unwrap().close().unwrap();
    LogOnly::open(&log, Options::new()).unwrap().close().unwrap();
    let refused = LogOnly::open(&database, Options::new()).unwrap_err();
    assert!(matches!(refused, Error::WrongKind { .. }), "{refused}");
    let refused = Database::open(&log, Options::new()).unwrap_err();
    assert!(matches!(refused, Error::WrongKind { .. }), "{refused}");
    let none = home.path().join("none");
    assert!(matches!(Database::open(&none, Options::new().create(false)), Err(Error::NotFound { .. })));
    assert!(matches!(LogOnly::open(&none, Options::new().create(false)), Err(Error::NotFound { .. })));
    assert!(!none.exists(), "a refusal leaves nothing behind");
}

/// Steps no task, and holds who stops one while that is asked for.
#[derive(Clone, Debug, Default)]
struct Holding {
    reached: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Spawner for Holding {
    fn spawn(&self, _: &str, _: Box<dyn Task>) -> Result<TaskHandle, Error> {
        Ok(TaskHandle::new(Box::new(self.clone())))
    }
}

impl TaskControl for Holding {
    fn wake(&self) {}

    fn stop(&mut self) {
        self.reached.store(true, Ordering::SeqCst);
        while self.asked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn whoever_closes_while_another_does_waits_for_it_and_finds_the_directory_free() {
    let home = tempfile::tempdir().unwrap();
    let spawner = Holding::default();
    let environment = Environment { spawner: Arc::new(spawner.clone()), ..Environment::system().unwrap() };
    let db = Database::open(home.path(), Options::new().environment(environment)).unwrap();
    // Creation, too, has stopped tasks.
    spawner.reached.store(false, Ordering::SeqCst);
    spawner.asked.store(true, Ordering::SeqCst);
    let close = |db: &Database| {
        let (db, (told, outcome)) = (db.clone(), mpsc::channel());
        std::thread::spawn(move || told.send(db.close()).unwrap());
        outcome
    };
    let first = close(&db);
    while !spawner.reached.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let second = close(&db);
    assert!(second.recv_timeout(Duration::from_millis(200)).is_err(), "the first one is not at its end");
    assert!(is_already_open(Database::open(home.path(), Options::new())));
    spawner.asked.store(false, Ordering::SeqCst);
    second.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    Database::open(home.path(), Options::new()).unwrap();
    first.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
}
