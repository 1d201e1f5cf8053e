//! The conformance suite over the stores that need no server, and the client's retries.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use logwood_base::disk::{SimulatedDisk, create_dir_all};
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Environment, Error, Result};

use crate::archive::ArchiveOptions;
use crate::archive::store::{
    Client, Directory, Head, Listed, ManualPause, Memory, Put, Remote, Retry, Store, conformance, probe,
};
use crate::{Database, Options};

fn simulated() -> (Environment, SimulatedDisk, Arc<ManualClock>) {
    let (disk, clock) = (SimulatedDisk::new(1), Arc::new(ManualClock::new(1_000_000)));
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(&clock) as Arc<_>,
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    };
    (environment, disk, clock)
}

#[test]
fn memory_conforms() {
    conformance::run(&(Arc::new(Memory::new()) as Arc<dyn Store>));
}

#[test]
fn a_real_directory_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::system().unwrap();
    let store = Directory::open(&environment, &folder.path().join("archive")).unwrap();
    conformance::run(&(Arc::new(store) as Arc<dyn Store>));
}

#[test]
fn a_directory_that_went_as_a_whole_says_nothing_of_its_objects() {
    let folder = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (folder.path().join("archive"), folder.path().join("unmounted"));
    let environment = Environment::system().unwrap();
    let store = Directory::open(&environment, &root).unwrap();
    assert_eq!(store.put_new("a/one", b"1").unwrap(), Put::Created);
    assert!(store.head("a/two").unwrap().is_none());
    environment.disk.rename(&root, &elsewhere).unwrap();
    let mut each = |_: Listed| ControlFlow::Continue(());
    let answers = [
        store.head("a/one").map(drop),
        store.get("a/one", 10).map(drop),
        store.get_range("a/one", 0..1).map(drop),
        store.list_behind("a/", "", &mut each),
        store.delete("a/one"),
        store.put_new("a/two", b"2").map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Error::ArchiveUnavailable { .. })), "{answer:?}");
    }
    environment.disk.rename(&elsewhere, &root).unwrap();
    assert_eq!(store.get("a/one", 10).unwrap().unwrap(), b"1");
}

#[test]
fn opening_removes_what_crashed_puts_left_and_nothing_else() {
    let (environment, ..) = simulated();
    let incoming = Path::new("archive/incoming");
    create_dir_all(&*environment.disk, &incoming.join("folder")).unwrap();
    for name in ["mine", "0123456789abcdef", "0123456789abcdef0123456789abcdef"] {
        environment.disk.create(&incoming.join(name)).unwrap();
    }
    Directory::open(&environment, Path::new("archive")).unwrap();
    let mut names: Vec<_> =
        environment.disk.list(incoming).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, ["0123456789abcdef", "folder", "mine"]);
}

#[test]
fn a_database_is_no_place_for_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open(folder.path().join("db"), Options::new()).unwrap();
    let disk = Environment::system().unwrap().disk;
    let before = disk.list(&folder.path().join("db")).unwrap();
    for inside in ["db", "db/archive", "db/pages/deeper/still"] {
        let url = format!("file://{}", folder.path().join(inside).display());
        let refused = db.archive(ArchiveOptions::to(&url)).map(drop);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{inside}: {refused:?}");
    }
    assert_eq!(disk.list(&folder.path().join("db")).unwrap(), before);
}

#[test]
fn a_simulated_directory_conforms() {
    let (environment, ..) = simulated();
    let store = Directory::open(&environment, Path::new("archive")).unwrap();
    conformance::run(&(Arc::new(store) as Arc<dyn Store>));
}

#[test]
fn what_the_object_store_crate_brings_conforms() {
    let inner = Arc::new(object_store::memory::InMemory::new());
    for prefix in ["", "some/prefix"] {
        let store = Remote::over(Arc::clone(&inner) as Arc<_>, prefix, Duration::from_secs(5)).unwrap();
        conformance::run(&(Arc::new(store) as Arc<dyn Store>));
    }
}

#[test]
fn an_answered_put_into_a_directory_survives_a_power_cut_at_every_later_moment() {
    for seed in 0..40 {
        let (environment, disk, _) = simulated();
        let store = Directory::open(&environment, Path::new("archive")).unwrap();
        for n in 0..4 {
            let bytes = vec![n as u8; 5000];
            assert_eq!(store.put_new(&format!("pages/{n}"), &bytes).unwrap(), Put::Created);
        }
        disk.crash(&mut fastrand::Rng::with_seed(seed));
        disk.restart();
        let store = Directory::open(&environment, Path::new("archive")).unwrap();
        for n in 0..4 {
            let found = store.get(&format!("pages/{n}"), 5000).unwrap();
            assert_eq!(found, Some(vec![n as u8; 5000]), "seed {seed}");
        }
    }
}

#[test]
fn keys_that_are_none_never_become_paths() {
    let (environment, disk, _) = simulated();
    let store = Directory::open(&environment, Path::new("archive")).unwrap();
    for key in ["../x", "a/../x", "", "/x", "a//b", "a/.", "A", "x\0"] {
        assert!(matches!(store.put_new(key, b"x"), Err(Error::InvalidArgument(_))), "{key:?}");
        assert!(store.get(key, 1).is_err());
    }
    assert!(disk.paths().is_empty());
}

/// Fails the first `failures` calls, or serves the first bodies damaged.
#[derive(Debug)]
struct Flaky {
    inner: Memory,
    failures: AtomicUsize,
    damages: bool,
}

impl Flaky {
    fn fails(&self) -> bool {
        self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn check(&self) -> Result<()> {
        if !self.damages && self.fails() {
            let (key, cause) = ("k".to_owned(), "503".to_owned());
            return Err(Error::ArchiveUnavailable { operation: "get", key, cause });
        }
        Ok(())
    }
}

impl Store for Flaky {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        let put = self.inner.put_new(key, bytes);
        self.check().and(put)
    }
    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.check()?;
        let mut body = self.inner.get(key, bytes_max)?;
        if self.damages && self.fails() {
            body.as_mut().unwrap()[3] ^= 1;
        }
        Ok(body)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Option<Vec<u8>>> {
        self.check()?;
        self.inner.get_range(key, range)
    }
    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.check()?;
        self.inner.head(key)
    }
    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        // What fails has told of two objects before.
        let mut left = if !self.damages && self.fails() { Some(2) } else { None };
        self.inner.list_behind(prefix, after, &mut |found| match &mut left {
            Some(0) => ControlFlow::Break(()),
            Some(left) => {
                *left -= 1;
                each(found)
            }
            None => each(found),
        })?;
        match left {
            Some(_) => Err(Error::ArchiveUnavailable {
                operation: "list",
                key: prefix.to_owned(),
                cause: "503".to_owned(),
            }),
            None => Ok(()),
        }
    }
    fn delete(&self, key: &str) -> Result<()> {
        self.check()?;
        self.inner.delete(key)
    }
}

fn client(failures: usize, damages: bool) -> (Client, Arc<ManualClock>, Memory) {
    let (environment, _, clock) = simulated();
    let inner = Memory::new();
    let store = Arc::new(Flaky { inner: inner.clone(), failures: AtomicUsize::new(failures), damages });
    let pause = Arc::new(ManualPause::new(Arc::clone(&clock)));
    (Client::with_pause(store, &environment, Retry::default(), pause), clock, inner)
}

#[test]
fn failures_are_tried_again_with_growing_pauses_and_then_told() {
    use logwood_base::Clock as _;
    let (patient, clock, _) = client(5, false);
    assert!(patient.list("").unwrap().is_empty());
    let waited = clock.monotonic();
    // Five pauses of 100, 200, 400, 800 and 1600 ms, each between a half and the whole.
    assert!((Duration::from_millis(1550)..=Duration::from_millis(3100)).contains(&waited), "{waited:?}");
    let (patient, ..) = client(6, false);
    assert!(matches!(patient.list(""), Err(Error::ArchiveUnavailable { .. })));
    let (stopped, clock, inner) = client(0, false);
    stopped.clone().stop();
    assert!(matches!(stopped.put_new("pages/a", b"x"), Err(Error::Closed)));
    assert!(inner.keys().is_empty() && clock.monotonic() == Duration::ZERO, "no request is begun");
}

#[test]
fn a_listing_that_fails_again_and_again_goes_on_where_it_was_cut_off() {
    let (patient, _, inner) = client(33, false);
    let keys: Vec<String> = (0..60).map(|n| format!("pages/{n:03}")).collect();
    keys.iter().for_each(|key| assert_eq!(inner.put_new(key, b"x").unwrap(), Put::Created));
    // Far more failures than attempts: each one before told of something.
    let listed: Vec<String> = patient.list("pages/").unwrap().into_iter().map(|found| found.key).collect();
    assert_eq!(listed, keys);
    // Without anything to tell, the attempts are counted as ever.
    let (impatient, ..) = client(6, false);
    assert!(matches!(impatient.list("pages/"), Err(Error::ArchiveUnavailable { .. })));
}

#[test]
fn a_put_that_failed_and_took_effect_exists_at_the_next_attempt() {
    let (client, _, inner) = client(1, false);
    assert_eq!(client.put_new("pages/a", b"x").unwrap(), Put::Exists);
    assert_eq!(inner.peek("pages/a").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_page_is_fetched_until_it_is_what_its_name_says() {
    use sha2::{Digest as _, Sha256};
    let page = vec![7u8; 4096];
    let hash: [u8; 32] = Sha256::digest(&page).into();
    for (damaged, found) in [(5, true), (6, false)] {
        let (client, _, inner) = client(damaged, true);
        inner.put_new(&crate::archive::layout::page_key(&hash), &page).unwrap();
        match client.page(&hash, 4096) {
            Ok(body) => assert!(found && body == page),
            Err(error) => assert!(!found && matches!(error, Error::ArchiveCorrupt(_)), "{error}"),
        }
        assert!(matches!(client.page(&hash, 4095), Err(Error::ArchiveCorrupt(_))));
    }
    let (client, ..) = client(0, true);
    let Err(Error::ArchiveCorrupt(damage)) = client.page(&hash, 4096) else { panic!("nothing is there") };
    assert_eq!(damage.expected, "to be there");
}

/// A store that takes every put as new.
#[derive(Debug)]
struct Forgetful(Memory);

impl Store for Forgetful {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.0.tamper(key, Some(bytes));
        Ok(Put::Created)
    }
    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.0.get(key, bytes_max)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Option<Vec<u8>>> {
        self.0.get_range(key, range)
    }
    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.0.head(key)
    }
    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        self.0.list_behind(prefix, after, each)
    }
    fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key)
    }
}

#[test]
fn a_store_without_create_only_puts_is_refused() {
    let (environment, ..) = simulated();
    let error = probe(&Forgetful(Memory::new()), &environment).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let memory = Memory::new();
    probe(&memory, &environment).unwrap();
    assert!(memory.keys().is_empty(), "the probe leaves nothing");

    // Nothing is archived there, and no directory remembers that it was tried.
    let db = Database::open("db", Options::new().environment(environment)).unwrap();
    let forgetful = Forgetful(Memory::new());
    let objects = forgetful.0.clone();
    let options = ArchiveOptions::to_store(Arc::new(forgetful)).background(false);
    assert!(matches!(db.archive(options).map(drop), Err(Error::InvalidArgument(_))));
    assert!(objects.keys().is_empty(), "{:?}", objects.keys());
    db.archive(ArchiveOptions::to_store(Arc::new(memory)).background(false)).unwrap().flush().unwrap();
}

#[test]
fn a_session_token_without_credentials_is_refused() {
    use crate::archive::store::{Secret, StoreOptions};
    let options = StoreOptions::new().session_token(Secret::new("token")).region("eu-central-1");
    let refused = Remote::s3("bucket", "db", &options).unwrap_err();
    assert!(matches!(&refused, Error::InvalidArgument(what) if what.contains("session token")), "{refused}");
    let options = options.credentials("id", Secret::new("secret"));
    Remote::s3("bucket", "db", &options).unwrap();
}
