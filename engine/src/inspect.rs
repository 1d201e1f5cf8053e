//! Looking at a directory without opening it: what it holds, whether it is sound, what its log says.
//!
//! Nothing is changed, not even an unfinished write at the log's end is cut off, and no lock is taken: a live database
//! may be open in this or another process. What is seen then is the state of some moment while the call ran; files
//! that go away under the reader (segments that were let go, manifests that were replaced) make it look again.
//!
//! ```
//! use std::ops::ControlFlow;
//! use logwood::{Database, Lsn, Options, inspect};
//!
//! # let directory = tempfile::tempdir()?;
//! let db = Database::open(directory.path(), Options::new())?;
//! db.ensure_keyspace("default")?.put(b"k", b"v")?;
//! db.close()?;
//!
//! assert_eq!(inspect::stat(directory.path())?.last_lsn, Lsn(2));
//! let report = inspect::verify(directory.path(), &mut |damage| panic!("{damage:?}"), &mut |_| {})?;
//! assert_eq!((report.damages, report.entries), (0, 2));
//! inspect::log_entries(directory.path(), Lsn(1), 10, &mut |entry| {
//!     println!("{} {}", entry.lsn, entry.entry.unwrap().body.name());
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use logwood_base::sync::Arc;
use logwood_base::{
    Corruption, DatabaseId, Environment, Error, Generation, KeyspaceId, LogId, Lsn, Result, Term,
};
use logwood_btree::store::{Manifest, Store, StoreOptions};
use logwood_btree::verify_directory;
use logwood_wal::{Inspection, Log};

pub use crate::verification::{VerifyProgress, VerifyReport};
pub use logwood_btree::verify::Damage;

use crate::commit::GROUP;
use crate::directory::{Kind, Layout};
use crate::entry::{DecodeError, Entry};
use crate::options::Options;
use crate::recovery::{check_reach, foreign_log, is_unfinished, missed_log, newest_manifest};
use crate::seed::settle::origin_path;
use crate::seed::{self, Origin};
use crate::state::EngineState;

/// How often a call looks again when files go away under it.
const LOOKS_MAX: usize = 8;

/// What a directory holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// The directory.
    pub path: PathBuf,
    /// Whether it is a log without trees. The fields about trees are then empty.
    pub is_log_only: bool,
    /// The database.
    pub database: DatabaseId,
    /// The log of this directory.
    pub log_id: LogId,
    /// What it is a copy of, when it is a backup or a restore that nobody has opened for writing.
    pub origin: Option<Origin>,
    /// Of the newest manifest.
    pub generation: Generation,
    /// The state that the newest manifest holds.
    pub checkpoint_lsn: Lsn,
    /// From where opening replays.
    pub replay_from: Lsn,
    /// The first entry in the log.
    pub first_lsn: Lsn,
    /// The last entry in the log.
    pub last_lsn: Lsn,
    /// Its time, in milliseconds since 1970; 0 when the log holds no entry.
    pub last_time_ms: u64,
    /// The keyspaces at the checkpoint.
    pub keyspaces: Vec<KeyspaceStat>,
    /// Segment files of the log.
    pub log_segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Page segments.
    pub page_segments: u64,
    /// Their bytes.
    pub page_bytes: u64,
    /// Batches behind the log's end, of writes that were never acknowledged.
    pub dropped_batches: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A keyspace at a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeyspaceStat {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Its records.
    pub records: u64,
}

/// One entry of a log.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogEntry<'a> {
    /// Its place.
    pub lsn: Lsn,
    /// The term in which a leader made it.
    pub term: Term,
    /// Its bytes.
    pub payload: &'a [u8],
    /// What they say.
    pub entry: Result<Entry<'a>, DecodeError>,
}

/// What a directory holds.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// let stat = logwood::inspect::stat(directory.path())?;
/// println!("{stat:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `NotFound` when it holds neither a database nor a log; `Corruption` when what would be told is damaged; `Io`.
pub fn stat(path: impl AsRef<Path>) -> Result<Stat> {
    stat_in(&Options::new().environment_or_system()?, path.as_ref())
}

/// [`stat`] on the disk of an environment.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// # use logwood::Environment;
/// let environment = Environment::system()?; // or one with a disk of your own
/// let stat = logwood::inspect::stat_in(&environment, directory.path())?;
/// assert_eq!((stat.is_log_only, stat.last_lsn), (false, db.visible_lsn()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`stat`].
pub fn stat_in(environment: &Environment, path: &Path) -> Result<Stat> {
    patiently(|| stat_once(environment, path)).map_err(|error| match (error, look(environment, path)) {
        // What a crash left of a directory's creation is no damage: opening makes it anew.
        (Error::Corruption(_) | Error::NotFound { .. }, Ok((layout, Kind::Database)))
            if matches!(is_unfinished(environment, &layout), Ok(true)) =>
        {
            no_database(path)
        }
        (error, _) => error,
    })
}

/// Reads every byte of every file and derives again what can be derived, as
/// [`Database::verify`](crate::Database::verify) does. Damage is handed to `on_damage`, and the rest is verified.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// let mut damages = Vec::new();
/// logwood::inspect::verify(directory.path(), &mut |damage| damages.push(damage), &mut |_progress| {})?;
/// assert!(damages.is_empty(), "{damages:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `NotFound` when it holds neither a database nor a log; `UnsupportedFormat`; `Io`, behind the damage that was found in what
/// can be read: a log that cannot be read does not keep the trees from being verified. Damage is not an error here, nor is a
/// page segment that the device does not give back: that is damage.
pub fn verify(
    path: impl AsRef<Path>,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    verify_in(&Options::new().environment_or_system()?, path.as_ref(), on_damage, progress)
}

/// [`verify`] on the disk of an environment.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// # use logwood::Environment;
/// let (environment, path) = (Environment::system()?, directory.path());
/// let mut on_damage = |damage: logwood::Damage| eprintln!("{}", damage.corruption);
/// let report = logwood::inspect::verify_in(&environment, path, &mut on_damage, &mut |_progress| {})?;
/// assert_eq!(report.damages, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify`].
pub fn verify_in(
    environment: &Environment,
    path: &Path,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let mut before = Vec::new();
    let mut looks = 0;
    loop {
        looks += 1;
        let (layout, kind) = look(environment, path)?;
        let mut found = Vec::new();
        let outcome = verify_once(environment, &layout, kind, &mut |damage| found.push(damage), progress);
        // A live database replaces manifests and lets files go. What is really missing is missing twice.
        let moved = matches!(&outcome, Err(Error::NotFound { .. }))
            || found.iter().any(|damage| {
                !before.contains(damage) && is_of_the_moment(environment, &layout, &damage.corruption)
            });
        if !moved || looks == LOOKS_MAX {
            // What a crash left of a directory's creation is no damage: opening makes it anew.
            let unfinished = || matches!(is_unfinished(environment, &layout), Ok(true));
            if outcome.is_ok() && !found.is_empty() && kind == Kind::Database && unfinished() {
                return Err(no_database(path));
            }
            // Also before an error: what was found is no less damage for what could not be read.
            found.into_iter().for_each(on_damage);
            return outcome;
        }
        before = found;
    }
}

/// Hands the entries of the log from `from` on, at most `limit`, to `each`, until it breaks.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// use std::ops::ControlFlow;
/// use logwood::Lsn;
///
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// let mut kinds = Vec::new();
/// logwood::inspect::log_entries(directory.path(), Lsn(1), 100, &mut |entry| {
///     kinds.extend(entry.entry.as_ref().ok().map(|entry| entry.body.name()));
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(kinds[..2], ["create keyspace", "commit"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `NotFound` when there is no log; `TooOld` when `from` was let go; `Corruption`, after the entries before it; `Io`.
pub fn log_entries(
    path: impl AsRef<Path>,
    from: Lsn,
    limit: u64,
    each: &mut dyn FnMut(&LogEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    log_entries_in(&Options::new().environment_or_system()?, path.as_ref(), from, limit, each)
}

/// [`log_entries`] on the disk of an environment.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # use logwood::{Environment, Lsn};
/// # use std::ops::ControlFlow;
/// # db.ensure_keyspace("k")?.put(b"a", b"1")?;
/// # db.close()?;
/// let (environment, mut lsns) = (Environment::system()?, Vec::new());
/// logwood::inspect::log_entries_in(&environment, directory.path(), Lsn(2), 1, &mut |entry| {
///     lsns.push(entry.lsn);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(lsns, [Lsn(2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`log_entries`].
pub fn log_entries_in(
    environment: &Environment,
    path: &Path,
    from: Lsn,
    limit: u64,
    each: &mut dyn FnMut(&LogEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let (layout, kind) = look(environment, path)?;
    let mut next = from;
    let end = from.checked_add(limit).unwrap_or(Lsn::MAX);
    patiently(|| {
        let inspection = inspect_log(environment, &layout, kind)?;
        if let Some(manifest) = newest_of(environment, &layout, kind) {
            check_identity(&layout, &inspection, &manifest)?;
        }
        let base = inspection.groups.get(&GROUP).map_or(Lsn::ZERO, |group| group.base.0);
        if next <= base {
            return Err(Error::TooOld { what: "entry", asked: next, oldest: base.next() });
        }
        let mut answered = next >= end;
        inspection.entries(GROUP, next, |entry| {
            // Behind a gap nothing is handed out: it would seem to follow.
            if answered || entry.lsn > next {
                return false;
            }
            next = entry.lsn.next();
            let (lsn, term, payload) = (entry.lsn, entry.term, entry.payload);
            let more = each(&LogEntry { lsn, term, payload, entry: Entry::decode(payload) }).is_continue();
            answered = !more || next >= end;
            !answered
        })?;
        // Where there is damage, the end of what was found may not be the log's.
        match inspection.damage.first() {
            Some(damage) if !answered => Err(damage.clone().into()),
            _ => Ok(()),
        }
    })
}

fn stat_once(environment: &Environment, path: &Path) -> Result<Stat> {
    let (layout, kind) = look(environment, path)?;
    let before = newest_of(environment, &layout, kind);
    let inspection = inspect_log(environment, &layout, kind)?;
    if let Some(damage) = inspection.damage.first() {
        return Err(damage.clone().into());
    }
    let group = inspection.groups.get(&GROUP);
    let (first_lsn, last_lsn) =
        group.map_or((Lsn::FIRST, Lsn::ZERO), |group| (group.base.0.next(), group.last.0));
    let mut stat = Stat {
        path: path.to_owned(),
        is_log_only: kind == Kind::LogOnly,
        database: inspection.database,
        log_id: inspection.log,
        origin: seed::origin(&*environment.disk, &layout)?,
        generation: Generation(0),
        checkpoint_lsn: Lsn::ZERO,
        replay_from: Lsn::ZERO,
        first_lsn,
        last_lsn,
        last_time_ms: 0,
        keyspaces: Vec::new(),
        log_segments: inspection.segments.len() as u64,
        log_bytes: inspection.segments.iter().map(|segment| u64::from(segment.bytes)).sum(),
        page_segments: 0,
        page_bytes: 0,
        dropped_batches: inspection.dropped_batches,
        notes: Vec::new(),
    };
    if first_lsn <= last_lsn {
        inspection.entries(GROUP, last_lsn, |entry| {
            stat.last_time_ms = Entry::decode(entry.payload).map_or(0, |entry| entry.time_ms);
            false
        })?;
    }
    if kind == Kind::Database {
        let after = add_trees(environment, &layout, &mut stat)?;
        let before = before.as_deref().unwrap_or(&after);
        check_fit(&layout, &inspection, before, &after)?;
    }
    Ok(stat)
}

/// Reads the log; one that is missed by a manifest is damage.
fn inspect_log(environment: &Environment, layout: &Layout, kind: Kind) -> Result<Inspection> {
    Log::inspect(environment, &layout.log(), &mut |_| {}).map_err(|error| match kind {
        Kind::Database => missed_log(environment, layout, error),
        _ => layout.missed_replica(&*environment.disk, error),
    })
}

/// The newest manifest of a database, where there is one that can be read.
fn newest_of(environment: &Environment, layout: &Layout, kind: Kind) -> Option<Arc<Manifest>> {
    if kind == Kind::Database { newest_manifest(environment, layout).ok() } else { None }
}

/// Adds what the newest manifest says, and answers it.
fn add_trees(environment: &Environment, layout: &Layout, stat: &mut Stat) -> Result<Arc<Manifest>> {
    let disk = Arc::clone(&environment.disk);
    let options = StoreOptions::default();
    let (_store, opened) = Store::open_read_only(disk, &layout.root, options, &|_| Ok(()))?;
    let manifest = &opened.manifest;
    let state = EngineState::decode(&manifest.engine_state, &layout.manifest())?;
    stat.generation = manifest.generation;
    stat.checkpoint_lsn = manifest.checkpoint_lsn;
    stat.replay_from = manifest.replay_from;
    stat.page_segments = manifest.segments.len() as u64;
    stat.page_bytes = manifest.segments.iter().map(|segment| u64::from(segment.bytes)).sum();
    stat.last_time_ms = stat.last_time_ms.max(state.time_ms);
    stat.notes.extend(opened.notes.iter().cloned());
    stat.keyspaces = state
        .keyspaces
        .into_iter()
        .map(|(id, name)| {
            let tree = manifest.trees.iter().find(|tree| tree.keyspace == id);
            let root = tree.and_then(|tree| tree.root.as_ref());
            KeyspaceStat { id, name, records: root.map_or(0, |root| root.child.digest.count) }
        })
        .collect();
    Ok(Arc::clone(manifest))
}

fn verify_once(
    environment: &Environment,
    layout: &Layout,
    kind: Kind,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let mut scanned = |scan: logwood_wal::Progress| {
        progress(VerifyProgress { bytes_done: scan.bytes_done, bytes_total: scan.bytes_total });
    };
    let (mut whole, mut own, mut unread) = (None, None, None);
    // What a manifest says about the log is a witness of where it must reach: one that was there before the log was looked
    // at, which a live database goes on writing.
    let witness = newest_of(environment, layout, kind);
    let inspected = Log::inspect(environment, &layout.log(), &mut scanned);
    match inspected.map_err(|error| layout.missed_replica(&*environment.disk, error)) {
        Ok(inspection) => {
            report.add_log(&inspection, on_damage);
            own = Some((inspection.database, inspection.log));
            // Where the log is damaged, that it does not reach is the same damage.
            whole = Some(inspection).filter(|inspection| inspection.damage.is_empty());
        }
        Err(Error::Corruption(corruption)) => report.add_damage(*corruption, on_damage),
        Err(Error::NotFound { .. }) if kind == Kind::Database => {
            let missing = Corruption::new(&layout.log(), 0, "log segments", "at least one", "none");
            let missed =
                missed_log(environment, layout, Error::NotFound { what: "log", name: String::new() });
            report.add_damage(missed.corruption().cloned().unwrap_or(missing), on_damage);
        }
        // The trees are verified all the same.
        Err(error @ Error::Io { .. }) => unread = Some(error),
        Err(error) => return Err(error),
    }
    if kind == Kind::Database {
        let before = report.bytes;
        let trees = verify_directory(&environment.disk, &layout.root, on_damage, &mut |tree| {
            let (done, total) = (before + tree.bytes_done, before + tree.bytes_total);
            progress(VerifyProgress { bytes_done: done, bytes_total: total });
        })?;
        report.add_trees(&trees);
        if let (Some(inspection), Some(after)) = (whole, trees.files.manifest.as_deref()) {
            let before = witness.as_deref().unwrap_or(after);
            if let Err(damage) = check_fit(layout, &inspection, before, after) {
                report.add_damage(damage, on_damage);
            }
        }
    }
    report.add_records(&*environment.disk, layout, own, on_damage)?;
    unread.map_or(Ok(report), Err)
}

/// Refuses a log of which a manifest needs what is not so, as opening does: that it is the log, begins early enough and ends
/// late enough. A live database writes on while it is looked at: where the log ends was known `before` it was read, and where
/// it begins only `after`.
fn check_fit(
    layout: &Layout,
    inspection: &Inspection,
    before: &Manifest,
    after: &Manifest,
) -> Result<(), Corruption> {
    check_identity(layout, inspection, after)?;
    let damage = |check, expected, found| Err(Corruption::new(&layout.log(), 0, check, expected, found));
    if inspection.end < before.log_durable_end {
        let expected = format!("at or behind {}", before.log_durable_end);
        return damage("end of the log", expected, inspection.end.to_string());
    }
    let Some(group) = inspection.groups.get(&GROUP) else {
        return damage("groups of the log", "group 1".to_owned(), "none".to_owned());
    };
    let held = (group.base.0.next(), group.last.0);
    check_reach(layout, held, after.replay_from, before.checkpoint_lsn)
}

/// Refuses a log that is not the one that a manifest names.
fn check_identity(layout: &Layout, inspection: &Inspection, manifest: &Manifest) -> Result<(), Corruption> {
    let (wanted, found) = ((manifest.database, manifest.log), (inspection.database, inspection.log));
    if found == wanted {
        return Ok(());
    }
    Err(foreign_log(layout, wanted, format!("log {} of database {}", found.1, found.0)))
}

/// Whether damage may be of the moment only: of a file that is not there any more, or of which files the log has.
fn is_of_the_moment(environment: &Environment, layout: &Layout, corruption: &Corruption) -> bool {
    let is_gone = || {
        let opened = environment.disk.open(&corruption.path, logwood_base::Access::Read);
        matches!(opened, Err(Error::NotFound { .. }))
    };
    // A backup that is brought up to date meanwhile has another log and another origin.
    corruption.path == layout.log() || corruption.path == origin_path(layout) || is_gone()
}

fn look(environment: &Environment, path: &Path) -> Result<(Layout, Kind)> {
    let layout = Layout::new(path);
    match layout.kind(&*environment.disk) {
        Ok(Kind::Empty) | Err(Error::NotFound { .. }) => Err(no_database(path)),
        Ok(kind @ Kind::Unfinished) => {
            let (path, holds) = (path.to_owned(), kind.words());
            Err(Error::WrongKind { path, holds, wanted: Kind::Database.words() })
        }
        Ok(kind) => Ok((layout, kind)),
        Err(error) => Err(error),
    }
}

fn no_database(path: &Path) -> Error {
    Error::NotFound { what: "database", name: path.display().to_string() }
}

/// Looks again at what a live database moves: files that were listed go, and a manifest that was read names files that went
/// meanwhile. What two looks in a row answer is so.
pub(crate) fn patiently<T>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut before = String::new();
    for _ in 1..LOOKS_MAX {
        match look() {
            Err(error @ (Error::NotFound { .. } | Error::Corruption(_))) if error.to_string() != before => {
                before = error.to_string();
            }
            outcome => return outcome,
        }
    }
    look()
}

impl VerifyReport {
    pub(crate) fn add_damage(&mut self, corruption: Corruption, on_damage: &mut dyn FnMut(Damage)) {
        self.damages += 1;
        on_damage(Damage::at(corruption));
    }

    /// What a reading of the log came to.
    pub(crate) fn add_log(&mut self, inspection: &Inspection, on_damage: &mut dyn FnMut(Damage)) {
        for corruption in &inspection.damage {
            self.add_damage(corruption.clone(), on_damage);
        }
        self.files += inspection.segments.len() as u64;
        self.bytes += inspection.segments.iter().map(|segment| u64::from(segment.bytes)).sum::<u64>();
        self.dropped_batches = inspection.dropped_batches;
        if let Some(group) = inspection.groups.get(&GROUP) {
            self.entries = group.last.0.entries_since(group.base.0);
        }
        if inspection.dropped_batches > 0 {
            let batches = inspection.dropped_batches;
            self.notes
                .push(format!("{batches} batches that were never acknowledged stand behind the log's end"));
        }
    }
}
