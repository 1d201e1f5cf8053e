//! A database on a simulated disk, an archive in memory that can be made to fail, and what must hold between them.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::sync::Mutex;
use logwood_base::{Clock, Environment, Error, LineageId, Lsn, Result};

use crate::archive::chain::{self, Chain, Item};
use crate::archive::layout::{page_key, parse_lsn, snapshot_prefix};
use crate::archive::object::{Kind, SnapshotObject};
use crate::archive::store::{Client, Head, Listed, ManualPause, Memory, Put, Retry, Store};
use crate::archive::{ArchiveOptions, Archiver};
use crate::{Database, Durability, Keyspace, Options};

pub(super) const DIR: &str = "db";

/// What happens at a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It fails.
    Fail,
    /// It takes effect, and fails.
    FailAfter,
    /// What is read has a changed byte.
    Flip,
    /// What is read is cut short.
    Cut,
    /// What is read is not there yet.
    Stale,
    /// A put is refused although nothing stands there.
    Refuse,
    /// It and all later ones fail: the process lost the network, or its life.
    Dead,
}

/// Keys and bytes.
type Objects = Vec<(String, Vec<u8>)>;

/// Runs once, in the middle of a request.
type Hook = Box<dyn FnOnce() + Send>;

/// A store in memory whose n-th request goes wrong, or is the moment at which something else happens.
#[derive(Clone, Default)]
pub(super) struct Faulty {
    pub(super) inner: Memory,
    requests: Arc<AtomicU64>,
    plan: Arc<Mutex<Option<(u64, Fault)>>>,
    hook: Arc<Mutex<Option<(u64, Hook)>>>,
    pub(super) puts: Arc<Mutex<Vec<String>>>,
    /// How many objects listings have told of.
    pub(super) listed: Arc<AtomicU64>,
    /// Keys of objects that were read whole.
    pub(super) gets: Arc<Mutex<Vec<String>>>,
    /// Keys of deletions that were not answered.
    pub(super) unanswered: Arc<Mutex<Vec<String>>>,
    refuses_snapshots: Arc<AtomicBool>,
    /// Puts of log objects that failed, and have not taken effect yet; `None` when they do not fail.
    late: Arc<Mutex<Option<Objects>>>,
    /// Where each deletion fails once before it is done.
    deletions_fail: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(super) fn over(inner: &Memory) -> Self {
        Self { inner: inner.clone(), ..Self::default() }
    }

    /// Lets the n-th request from now (1 is the next) go wrong.
    pub(super) fn set(&self, n: u64, fault: Fault) {
        *self.plan.lock() = Some((self.requests() + n, fault));
    }

    /// Runs `hook` just before the n-th request from now.
    pub(super) fn at(&self, n: u64, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock() = Some((self.requests() + n, Box::new(hook)));
    }

    /// Forgets a hook that was not run. Answers whether there was one.
    pub(super) fn no_hook(&self) -> bool {
        self.hook.lock().take().is_some()
    }

    /// Whether puts of snapshots fail.
    pub(super) fn refuse_snapshots(&self, refuse: bool) {
        self.refuses_snapshots.store(refuse, Ordering::SeqCst);
    }

    /// Lets puts of log objects fail until [`Faulty::take_effect`].
    pub(super) fn delay_log(&self) {
        *self.late.lock() = Some(Vec::new());
    }

    /// The puts that failed take effect, the first of each key. Answers how many there were.
    pub(super) fn take_effect(&self) -> usize {
        let late = self.late.lock().take().unwrap_or_default();
        for (key, bytes) in &late {
            self.inner.put_new(key, bytes).unwrap();
        }
        late.len()
    }

    /// Lets the first deletion of every object below a prefix fail.
    pub(super) fn fail_deletions_once(&self, prefix: &str) {
        *self.deletions_fail.lock() = Some(prefix.to_owned());
    }

    pub(super) fn heal(&self) {
        *self.plan.lock() = None;
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn is_first_deletion(&self, key: &str) -> bool {
        let fails = self.deletions_fail.lock().as_ref().is_some_and(|prefix| key.starts_with(prefix));
        let mut unanswered = self.unanswered.lock();
        let is_first = fails && !unanswered.iter().any(|known| known == key);
        if is_first {
            unanswered.push(key.to_owned());
        }
        is_first
    }

    fn next(&self, key: &str) -> (Option<Fault>, Error) {
        let n = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let due = self.hook.lock().take_if(|(at, _)| *at <= n);
        if let Some((_, hook)) = due {
            hook();
        }
        let error =
            Error::ArchiveUnavailable { operation: "test", key: key.to_owned(), cause: "fault".to_owned() };
        let mut plan = self.plan.lock();
        match *plan {
            Some((at, Fault::Dead)) if n >= at => (Some(Fault::Dead), error),
            Some((at, fault)) if n == at => {
                *plan = None;
                (Some(fault), error)
            }
            _ => (None, error),
        }
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(Option<Fault>) -> Result<T>) -> Result<T> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::FailAfter | Fault::Dead), error) => Err(error),
            (fault, _) => read(fault),
        }
    }
}

impl Store for Faulty {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::Dead), error) => Err(error),
            (Some(Fault::FailAfter), error) => {
                self.inner.put_new(key, bytes)?;
                Err(error)
            }
            (Some(Fault::Refuse), _) => Ok(Put::Exists),
            (None, error) if key.contains("/snapshot/") && self.refuses_snapshots.load(Ordering::SeqCst) => {
                Err(error)
            }
            (None, error) if key.contains("/log/") && self.late.lock().is_some() => {
                self.late.lock().iter_mut().for_each(|late| late.push((key.to_owned(), bytes.to_owned())));
                Err(error)
            }
            _ => {
                self.puts.lock().push(key.to_owned());
                self.inner.put_new(key, bytes)
            }
        }
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.read(key, |fault| {
            self.gets.lock().push(key.to_owned());
            let mut body = self.inner.get(key, bytes_max)?;
            if let Some(body) = &mut body {
                match fault {
                    Some(Fault::Flip) => body[bytes_max as usize % 7] ^= 4,
                    Some(Fault::Cut) => body.truncate(body.len() / 2),
                    _ => {}
                }
            }
            Ok(body.filter(|_| fault != Some(Fault::Stale)))
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        self.read(key, |_| self.inner.get_range(key, range))
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.read(key, |fault| Ok(self.inner.head(key)?.filter(|_| fault != Some(Fault::Stale))))
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        self.read(prefix, |_| {
            self.inner.list_behind(prefix, after, &mut |found| {
                self.listed.fetch_add(1, Ordering::SeqCst);
                each(found)
            })
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::Dead), error) => Err(error),
            (Some(Fault::FailAfter), error) => {
                self.unanswered.lock().push(key.to_owned());
                self.inner.delete(key)?;
                Err(error)
            }
            (None, error) if self.is_first_deletion(key) => Err(error),
            _ => self.inner.delete(key),
        }
    }
}

/// A machine.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) disk: SimulatedDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) spawner: ManualSpawner,
    pub(super) store: Faulty,
    pub(super) environment: Environment,
}

impl Rig {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        Self::with_clock(seed, &Memory::with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    /// A machine whose archive has a clock of its own, which stands still until it is moved.
    pub(super) fn with_store_clock(seed: u64, store_clock: &Arc<ManualClock>) -> Self {
        let archive = Memory::with_clock(Arc::clone(store_clock) as Arc<dyn Clock>);
        Self::with_clock(seed, &archive, Arc::new(ManualClock::new(1_000_000)))
    }

    /// Another machine, with a disk and a clock of its own and the same archive.
    pub(super) fn beside(seed: u64, disk: SimulatedDisk, archive: &Memory) -> Self {
        Self::on(seed, disk, archive, Arc::new(ManualClock::new(1_000_000)))
    }

    /// Another machine with what this one's disk holds, and with a clock of its own. Its process has ended.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::beside(self.environment.random.u64(), self.disk.snapshot(), &self.store.inner);
        copy.disk.kill_process();
        copy
    }

    fn with_clock(seed: u64, archive: &Memory, clock: Arc<ManualClock>) -> Self {
        Self::on(seed, SimulatedDisk::new(seed), archive, clock)
    }

    fn on(seed: u64, disk: SimulatedDisk, archive: &Memory, clock: Arc<ManualClock>) -> Self {
        let spawner = ManualSpawner::new();
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(seed)),
            spawner: Arc::new(spawner.clone()),
        };
        Self { disk, clock, spawner, store: Faulty::over(archive), environment }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .log_segment_bytes(64 << 10)
            .page_segment_bytes(64 << 10)
            .cache_bytes(512 << 10)
            .recovery_log_bytes_max(1 << 20)
            .log_recent_bytes_max(16 << 10)
            .log_pool_segments(1)
            .environment(self.environment.clone())
    }

    pub(super) fn open(&self) -> (Database, Keyspace) {
        let db = Database::open(DIR, self.options()).unwrap();
        let keyspace = db.ensure_keyspace("k").unwrap();
        (db, keyspace)
    }

    pub(super) fn archive(&self) -> ArchiveOptions {
        let pause = Arc::new(ManualPause::new(Arc::clone(&self.clock)));
        ArchiveOptions::to_store(Arc::new(self.store.clone()))
            .background(false)
            .snapshot_log_bytes(0)
            .object_bytes(8 << 10)
            .retry(Retry { attempts: 3, ..Retry::default() })
            .pause(pause)
    }

    /// A client that no fault reaches.
    pub(super) fn client(&self) -> Client {
        self.client_of(Arc::new(self.store.inner.clone()))
    }

    pub(super) fn client_of(&self, store: Arc<dyn Store>) -> Client {
        let pause = Arc::new(ManualPause::new(Arc::clone(&self.clock)));
        Client::with_pause(store, &self.environment, Retry { attempts: 1, ..Retry::default() }, pause)
    }

    pub(super) fn has_page(&self, hash: &[u8; 32]) -> bool {
        self.store.inner.peek(&page_key(hash)).is_some()
    }

    /// Lets time pass, and background work with it.
    pub(super) fn pass(&self, time: Duration) {
        let until = self.clock.monotonic() + time;
        loop {
            assert!(
                self.spawner.run_until_idle(self.clock.monotonic(), 100_000),
                "background work never rests"
            );
            let now = self.clock.monotonic();
            if now >= until {
                return;
            }
            let due = self.spawner.next_due().unwrap_or(until).clamp(now, until);
            self.clock.advance((due - now).max(Duration::from_millis(1)));
        }
    }

    /// Ends the process: what was cached survives when there is no power cut.
    pub(super) fn kill(&self, power_cut: Option<u64>) {
        self.spawner.kill_all();
        match power_cut {
            Some(seed) => self.disk.crash(&mut fastrand::Rng::with_seed(seed)),
            None => self.disk.kill_process(),
        }
    }
}

/// Commits `count` records of `bytes` bytes, compressible in part.
pub(super) fn fill(
    db: &Database,
    keyspace: &Keyspace,
    range: Range<u32>,
    bytes: usize,
    durability: Durability,
) {
    for n in range {
        let mut batch = db.batch();
        let value: Vec<u8> = format!("value of {n} ").into_bytes().into_iter().cycle().take(bytes).collect();
        batch.put(keyspace, format!("key {:05}", n % 300).as_bytes(), &value).unwrap();
        db.commit(batch, durability).unwrap();
    }
}

/// Commits much, and lets the log go of all of it that nobody holds.
pub(super) fn fill_and_let_go(db: &Database, keyspace: &Keyspace, rounds: Range<u32>) {
    for round in rounds {
        fill(db, keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
}

/// What the log holds, from its first entry on.
pub(super) fn log_entries(db: &Database) -> BTreeMap<Lsn, (u64, Vec<u8>)> {
    let group = &db.core().group;
    let mut entries = BTreeMap::new();
    let mut next = group.first_lsn();
    loop {
        let read = group.read(next, Lsn::MAX, 1 << 20).unwrap();
        let Some(last) = read.last() else { return entries };
        next = last.lsn.next();
        entries.extend(read.into_iter().map(|entry| (entry.lsn, (entry.term.get(), entry.payload.to_vec()))));
    }
}

/// A whole chain: its entries and its gaps.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Archived {
    pub(super) entries: BTreeMap<Lsn, (u64, Vec<u8>)>,
    pub(super) gaps: Vec<(Lsn, Lsn)>,
    pub(super) objects: usize,
}

/// Reads a chain from its start and proves it; and that every snapshot of it is whole.
pub(super) fn read_archive(rig: &Rig, lineage: LineageId) -> Archived {
    let client = rig.client();
    let (start, link) = chain::start(&client, lineage).unwrap().expect("a start object");
    let mut walk = Chain::from_start(&client, &start, link);
    let mut archived = Archived::default();
    while let Some(item) = walk.next_item().unwrap() {
        archived.objects += 1;
        match item {
            Item::Gap(gap, _) => {
                let key = crate::archive::layout::snapshot_key(lineage, gap.snapshot_lsn);
                assert!(rig.store.inner.peek(&key).is_some(), "a gap without its snapshot");
                archived.gaps.push((gap.first_lsn, gap.last_lsn));
            }
            Item::Log(object) => {
                let entries = object.entries();
                archived
                    .entries
                    .extend(entries.map(|(lsn, term, payload)| (lsn, (term.get(), payload.to_vec()))));
            }
        }
    }
    assert_eq!(chain::listed(&client, lineage).unwrap().len(), archived.objects, "objects beside the chain");
    let snapshots = snapshots(rig, lineage);
    let base = snapshots.values().any(|snapshot| snapshot.trees.replay_from >= start.first_lsn);
    assert!(!start.needs_snapshot() || base || archived.objects == 0, "a chain without a beginning");
    for snapshot in snapshots.values() {
        for page in snapshot.pages() {
            let found = rig.store.inner.peek(&page_key(&page.hash));
            assert_eq!(found.map(|page| page.len()), Some(page.bytes as usize), "a page of a snapshot");
        }
    }
    archived
}

/// All snapshots of a lineage.
pub(super) fn snapshots(rig: &Rig, lineage: LineageId) -> BTreeMap<Lsn, SnapshotObject> {
    let client = rig.client();
    let listed = client.list(&snapshot_prefix(lineage)).unwrap();
    let read = |key: &str| client.require(key, Kind::Snapshot, SnapshotObject::decode).unwrap().0;
    listed.iter().map(|object| (parse_lsn(&object.key).unwrap(), read(&object.key))).collect()
}

/// What must hold between a database and its chain, whenever everything was flushed.
pub(super) fn check_agreement(rig: &Rig, db: &Database, archiver: &Archiver) -> Archived {
    let archived = read_archive(rig, archiver.lineage());
    let here = log_entries(db);
    for (lsn, entry) in &here {
        let in_gap = archived.gaps.iter().any(|(first, last)| (*first..=*last).contains(lsn));
        let found = archived.entries.get(lsn);
        if archived.entries.keys().next().is_some_and(|first| lsn >= first) && !in_gap {
            assert_eq!(found, Some(entry), "entry {lsn}");
        }
    }
    let last = *here.keys().next_back().unwrap();
    let ends = [archived.entries.keys().next_back().copied(), archived.gaps.last().map(|(_, last)| *last)];
    let snapshots = snapshots(rig, archiver.lineage()).into_keys().next_back();
    assert_eq!(
        ends.into_iter().max().flatten().or(snapshots),
        Some(last),
        "the chain ends where the log does"
    );
    assert_eq!(archiver.status().archived, last);
    archived
}
