//! The public face of an archiver, and its task.

use std::time::Duration;

use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Error, LineageId, Lsn, Result, Step, Task, TaskHandle};

use super::attach::attach;
use super::options::ArchiveOptions;
use super::retention::Retainer;
use super::source::{Source, Trees};
use super::status::{ArchiveStatus, Shared};
use super::store::Client;
use super::uploader::Uploader;
use crate::directory::Layout;
use crate::{Database, LogOnly};

/// The longest and the shortest time between two looks at the log.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));
/// The longest pause after failures.
const FAILING_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Archives one database or log, for as long as it lives. Made by [`Database::archive`] and [`LogOnly::archive`].
///
/// ```
/// use logwood::archive::ArchiveOptions;
/// use logwood::{Database, Options};
///
/// # let directory = tempfile::tempdir()?;
/// # let (path, archive) = (directory.path().join("db"), directory.path().join("archive"));
/// let db = Database::open(&path, Options::new())?;
/// let archiver = db.archive(ArchiveOptions::to(format!("file://{}", archive.display())))?;
/// db.ensure_keyspace("default")?.put(b"key", b"value")?;
/// let reached = archiver.flush()?; // what was committed before is in the archive now
/// assert_eq!(reached, db.visible_lsn());
/// assert_eq!(archiver.status().lag_entries, 0);
/// archiver.stop()?;
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Archiver {
    uploader: Arc<Mutex<Uploader>>,
    shared: Arc<Shared>,
    client: Client,
    decided: Watch,
    task: Option<TaskHandle>,
    /// Retention, when it is wanted: by itself, or within a flush.
    retention: Option<Retention>,
}

/// What runs retention.
#[derive(Debug)]
enum Retention {
    Task { _handle: TaskHandle },
    Flush(Box<Mutex<Retainer>>),
}

/// What a status needs of the log without waiting for a step.
#[derive(Debug)]
struct Watch {
    source: Source,
}

impl Database {
    /// Starts to archive this database: every commit that is durable, within [`ArchiveOptions::interval`], and a snapshot
    /// now and then. Commits do not wait for it. It finds out first where its chain stands in the archive, which takes a
    /// few requests, more after a long absence.
    ///
    /// ```
    /// # use logwood::archive::ArchiveOptions;
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// let url = format!("file://{}", directory.path().join("archive").display()); // or s3://bucket/prefix
    /// let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// db.ensure_keyspace("default")?.put(b"key", b"value")?; // soon it is in the archive, too
    /// assert!(db.archive(ArchiveOptions::to(&url)).is_err(), "one archiver for a database");
    /// archiver.stop()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - `InvalidArgument`: the URL, also of a directory inside of a database or an archive, the options, or a store that does not honour create-only puts.
    /// - `AlreadyExists`: an archiver is attached already.
    /// - `Fenced`: the chain holds other entries than this database; see [`Error`].
    /// - `Corruption`: the archive holds entries that this log has lost. Restore from the archive.
    /// - `ArchiveCorrupt`, `ArchiveUnavailable`; `DiskFull`, `Io` of the directory.
    pub fn archive(&self, options: ArchiveOptions) -> Result<Archiver> {
        let core = &self.core().0;
        // A copy sends nothing before its log can be told from that of its source.
        core.part_from_origin(&mut core.sequencer.lock())?;
        core.publisher.tell();
        let source = || Source {
            root: core.path.clone(),
            environment: core.environment.clone(),
            log: core.log.clone(),
            group: core.group.clone(),
            trees: Trees::Database(Arc::downgrade(core)),
            folder: Layout::new(&core.path).log(),
        };
        Archiver::start(source, options)
    }
}

impl LogOnly {
    /// Starts to archive this log, beside other replicas or alone: every entry that is committed and durable here.
    ///
    /// ```
    /// # use logwood::archive::ArchiveOptions;
    /// # use logwood::entry::{Body, Entry};
    /// # use logwood::{Append, Durability, LogOnly, Lsn, NodeId, Options, Term};
    /// # let directory = tempfile::tempdir()?;
    /// # let log = LogOnly::open(directory.path().join("replica"), Options::new())?;
    /// # let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// # let entries = [(Term(1), &payload[..]), (Term(1), &payload[..])];
    /// # let (term, first_lsn, durability) = (Term(1), Lsn(1), Durability::Durable);
    /// let url = format!("file://{}", directory.path().join("archive").display());
    /// let archiver = log.archive(ArchiveOptions::to(&url))?;
    /// # log.append(Append { term, previous: None, first_lsn, entries: &entries, durability })?.wait()?;
    /// log.set_committed(Lsn(1));
    /// assert_eq!(archiver.flush()?, Lsn(1), "only what is decided");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::archive`]; `InvalidArgument` for a log that does not begin at entry 1 and no
    /// [`ArchiveOptions::lineage`]; `TooOld` when the log does not reach back to the chain's end.
    pub fn archive(&self, options: ArchiveOptions) -> Result<Archiver> {
        let source = || Source {
            root: self.root().to_owned(),
            environment: self.environment().clone(),
            log: self.log().clone(),
            group: self.group().clone(),
            trees: Trees::None(Arc::clone(self.gate())),
            folder: Layout::new(self.root()).log(),
        };
        Archiver::start(source, options)
    }
}

impl Archiver {
    fn start(source: impl Fn() -> Source, options: ArchiveOptions) -> Result<Self> {
        let uploader = attach(source(), options)?;
        let (shared, client) = (Arc::clone(&uploader.shared), uploader.client.clone());
        let (options, watch) = (uploader.options.clone(), Watch { source: source() });
        let stops = !(options.leave_gaps && watch.source.decides_alone());
        watch
            .source
            .with_gate(|gate, committed| {
                Some(gate.attach(&shared, committed, options.backlog_bytes_max, stops))
            })
            .unwrap_or(Err(Error::Closed))?;
        let retainer = options.keep.map(|keep| {
            let environment = watch.source.environment.clone();
            Retainer::new(client.clone(), environment, keep, Arc::clone(&shared))
        });
        let uploader = Arc::new(Mutex::new(uploader));
        let mut archiver = Self { uploader, shared, client, decided: watch, task: None, retention: None };
        if options.background {
            let interval = options.interval / 10;
            let worker = Worker {
                uploader: Arc::clone(&archiver.uploader),
                look: interval.clamp(LOOK.0, LOOK.1),
                failures: 0,
            };
            let spawner = &archiver.decided.source.environment.spawner;
            // Commits go first.
            archiver.task = Some(spawner.spawn_patient("logwood-archiver", Box::new(worker))?);
            if let Some(retainer) = retainer {
                let handle = spawner.spawn_patient("logwood-retention", Box::new(retainer))?;
                archiver.retention = Some(Retention::Task { _handle: handle });
            }
        } else {
            archiver.retention = retainer.map(|retainer| Retention::Flush(Box::new(Mutex::new(retainer))));
        }
        Ok(archiver)
    }

    /// The history that it writes. Replicas that archive beside it are given this.
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// # archiver.flush()?;
    /// # let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
    /// assert_eq!(archive.newest_lineage()?, archiver.lineage());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lineage(&self) -> LineageId {
        self.shared.lineage
    }

    /// Archives everything that was committed before this call, without waiting for the interval, and answers up to
    /// where the archive reaches. Where the chain needs a snapshot to begin with, that is uploaded, too. An archiver that does
    /// not work by itself takes its snapshots here, and runs retention, when they are due; a run that fails is told by
    /// [`Archiver::status`].
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// let lsn = ks.put(b"key", b"must not be lost with this machine")?;
    /// assert!(archiver.flush()? >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ArchiveUnavailable` after all attempts, and a later call may succeed; `Fenced`, `ArchiveCorrupt`; what the log
    /// answers.
    pub fn flush(&self) -> Result<Lsn> {
        let reached = self.uploader.lock().flush()?;
        if let Some(Retention::Flush(retainer)) = &self.retention {
            while retainer.lock().step() == Step::Again {}
        }
        Ok(reached)
    }

    /// How it is doing. Also hands the numbers to the `metrics` facade.
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// archiver.flush()?;
    /// let status = archiver.status();
    /// assert_eq!((status.archived, status.lag_entries), (db.visible_lsn(), 0));
    /// assert_eq!((status.failing, status.stopped), (None, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> ArchiveStatus {
        let source = &self.decided.source;
        let backlog = source.with_gate(|gate, committed| gate.backlog(committed));
        self.shared.status(&source.group, source.decided(), backlog, &*source.environment.clock)
    }

    /// Ends it: no request is begun any more, but for those by which a retention run, or a snapshot, takes back what it has put in
    /// others' way; the one at work is waited for. What is not archived stays in the log, for
    /// the next archiver, up to [`Options::unarchived_log_bytes_max`](crate::Options::unarchived_log_bytes_max).
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// archiver.flush()?; // or the last commits may wait for the next archiver
    /// archiver.stop()?;
    /// let archiver = db.archive(ArchiveOptions::to(&url))?; // goes on where that one was
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// None today.
    pub fn stop(mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        self.client.stop();
        self.task = None;
        self.retention = None;
        let mut uploader = self.uploader.lock();
        uploader.give_up_snapshot();
        uploader.note(true);
        let kept = uploader.keep();
        drop(uploader);
        self.decided.source.with_gate(|gate, _| gate.detach(kept));
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.end();
    }
}

/// The work behind an archiver, for tests that step it by hand.
#[cfg(test)]
pub(super) fn uploader_of(archiver: &Archiver) -> logwood_base::sync::MutexGuard<'_, Uploader> {
    archiver.uploader.lock()
}

/// Steps an archiver.
struct Worker {
    uploader: Arc<Mutex<Uploader>>,
    look: Duration,
    /// Steps that failed one after the other.
    failures: u32,
}

impl Task for Worker {
    fn step(&mut self) -> Step {
        // A flush is at work.
        let Some(mut uploader) = self.uploader.try_lock() else { return Step::Wait(Some(self.look)) };
        match uploader.step(false) {
            Ok(did) => {
                self.failures = 0;
                if did { Step::Again } else { Step::Wait(Some(self.look)) }
            }
            Err(Error::Closed | Error::Fenced { .. }) => Step::Done,
            Err(error) => {
                tracing::warn!(%error, "archiving failed and is tried again");
                uploader.shared.update(|figures| {
                    figures.status.failures += 1;
                    figures.status.failing = Some(error.to_string());
                });
                self.failures = (self.failures + 1).min(16);
                let longest =
                    (uploader.options.retry.first_pause * (1 << self.failures)).min(FAILING_PAUSE_MAX);
                Step::Wait(Some(uploader.client.jittered(longest)))
            }
        }
    }
}
