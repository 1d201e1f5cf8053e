//! Opening a database: creating it, or bringing it back to the last entry of its log.
//!
//! 1. Take the directory's lock. Finish the backup or restore that filled it, if a crash came between
//!    ([`crate::seed`]).
//! 2. Open the trees at the newest manifest that is whole. No tree is walked.
//! 3. Open the log; the manifest's `durable_end` bounds from below where it may end.
//! 4. Check that the log reaches back to the manifest's `replay_from` and on to its checkpoint.
//! 5. Apply the entries behind the checkpoint ([`replay`]).
//! 6. Publish the last entry. A copy that nobody has written to becomes a database in its own right
//!    ([`Core::part_from_origin`]), and transactions whose end never came are aborted. Where the disk is full, the first
//!    write that finds room does both, before anything else.
//!
//! # Creation
//! Folders first, then the log, then the first manifest, each durable before the next. A directory in which a crash
//! stopped this holds no manifest that can be read, no page and a log without entries, so that nobody was ever
//! promised anything about it: it is made anew. Anything else without a readable manifest is damage, and refused.

use std::path::Path;

use logwood_base::disk::create_dir_all;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Corruption, DatabaseId, Environment, Error, LogId, LogPosition, Lsn, Result, Term};
use logwood_btree::store::{Manifest, Store, StoreOptions};
use logwood_btree::{Beginning, Forest, Identity, Opened};
use logwood_wal::{BaseState, Expect, Log, LogOptions};

mod gather;
mod replay;
mod sort;

use self::replay::Replay;
use crate::Options;
use crate::apply::Applier;
#[cfg(feature = "archive")]
use crate::archive::gate;
use crate::catalog::Catalog;
use crate::changes::{Followers, News, Oldest};
use crate::checkpointing::Checkpointer;
use crate::cleaning::Cleaner;
use crate::commit::GROUP;
use crate::core::{Core, Handle, Sequencer};
use crate::directory::{Kind, LOCK_NAME, Layout};
use crate::entry::Body;
use crate::options::{RecoveryProgress, RecoveryStep};
use crate::planted::{Bug, planted};
use crate::poison::Poison;
use crate::publish::Publisher;
use crate::seed;
use crate::state::EngineState;
use crate::statistics::{Counters, RecoveryReport};
use crate::transaction::Transactions;

/// Tells databases of this process apart.
static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// Opens or creates the database in `root`.
pub(crate) fn open(root: &Path, options: Options) -> Result<Handle> {
    options.check()?;
    let environment = options.environment_or_system()?;
    let disk = Arc::clone(&environment.disk);
    let started = environment.clock.monotonic();
    let layout = Layout::new(root);
    if options.create {
        create_dir_all(&*disk, root)?;
    }
    let exists = match layout.kind(&*disk) {
        Ok(kind) => kind != Kind::Empty,
        Err(Error::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    if !options.create && !exists {
        return Err(Error::NotFound { what: "database", name: root.display().to_string() });
    }
    let lock = disk.lock(root)?;
    seed::settle::settle(&*disk, &layout)?;
    let is_copy = seed::is_copy(&*disk, &layout)?;
    layout.check(layout.kind(&*disk)?, Kind::Database)?;

    let (forest, opened) = open_or_create_trees(&environment, &layout, &options)?;
    let identity = forest.store().identity();
    if let Some(wanted) = options.database_id
        && wanted != identity.database
    {
        let found = identity.database;
        return Err(Error::InvalidArgument(format!("the directory belongs to database {found}")));
    }
    let expect = Expect {
        database: Some(identity.database),
        log: Some(identity.log),
        durable_end: opened.log_durable_end,
    };
    let recent_bytes_max = options.log_recent_bytes_max.min(options.cache_bytes / 16);
    let log_options = LogOptions { recent_bytes_max, ..options.log_options() };
    let (log, recovered) = Log::open(&environment, &layout.log(), expect, log_options, &mut |scan| {
        report(&options, RecoveryStep::ScanLog, scan.bytes_done, scan.bytes_total, Lsn::ZERO);
    })
    .map_err(|error| match error {
        // The options were checked; what was expected, the manifest says.
        Error::InvalidArgument(found) => {
            foreign_log(&layout, (identity.database, identity.log), found).into()
        }
        error => missed_log(&environment, &layout, error),
    })?;
    let group = log
        .group(GROUP)
        .ok_or_else(|| Corruption::new(&layout.log(), 0, "groups of the log", "group 1", "none"))?;
    let (first, last) = (group.first_lsn(), group.last().0);
    check_reach(&layout, (first, last), opened.replay_from, opened.checkpoint_lsn)?;
    // Before anything, replay's checkpoints included, lets go of the log.
    let followers = Followers::expect(&group, &options)?;
    #[cfg(feature = "archive")]
    let unarchived = gate::keep(&*disk, root, &log, &group, options.unarchived_log_bytes_max);

    let catalog = Arc::new(Catalog::default());
    let state = EngineState::decode(&opened.engine_state, &layout.manifest())?;
    let applier = Applier::new(
        forest.clone(),
        Arc::clone(&catalog),
        &state,
        opened.checkpoint_lsn,
        opened.replay_from.previous(),
        options.batch_bytes_max,
        group.clone(),
        &layout.log(),
    )?;
    let mut replay = Replay {
        environment: &environment,
        options: &options,
        forest: &forest,
        log: &log,
        applier,
        opened,
        bytes: 0,
    };
    let entries = replay.run(&group, &layout.log())?;
    // Trees, log and entries fit: what is left of damaged manifests is no evidence any more.
    forest.store().clear_leftovers()?;
    let Replay { applier, opened, bytes, .. } = replay;

    let visible = applier.applied();
    let publishing = forest.clone();
    publishing.publish(visible);
    let news = Arc::new(News::new(visible));
    let telling = Arc::clone(&news);
    let report = RecoveryReport {
        entries_replayed: entries,
        bytes_replayed: bytes,
        bytes_dropped: recovered.dropped_bytes,
        took: environment.clock.monotonic().saturating_sub(started),
    };
    tracing::info!(
        path = %root.display(), lsn = %visible, replayed = entries, dropped_bytes = recovered.dropped_bytes,
        took = ?report.took, "database is open"
    );
    let last_term = group.last().1.max(Term::FIRST);
    let term = if is_copy && !planted(Bug::CopyKeepsTerm) { last_term.next() } else { last_term };
    let sequencer = Sequencer::new(applier, term, is_copy);
    let core = Arc::new(Core {
        instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
        path: root.to_owned(),
        database: identity.database,
        bulk: Arc::clone(&sequencer.bulk),
        sequencer: Mutex::new(sequencer),
        publisher: Publisher::new(
            visible,
            Box::new(move |lsn| publishing.publish(lsn)),
            Box::new(move |lsn| telling.published(lsn)),
        ),
        news,
        followers,
        transactions: Transactions::new(visible, options.transaction_history_bytes_max),
        poison: Poison::new(),
        checkpointer: Checkpointer::new(opened.checkpoint_lsn, bytes),
        cleaner: Cleaner::default(),
        oldest: Oldest::default(),
        counters: Counters::new(report),
        #[cfg(feature = "archive")]
        archive: gate::Gate::new(unarchived),
        closing: Mutex::new(None),
        lock: Mutex::new(Some(lock)),
        options,
        environment,
        log,
        group,
        forest,
        catalog,
    });
    match core.settle_beginning(&mut core.sequencer.lock()) {
        // The next writer that finds room does it.
        Ok(()) | Err(Error::DiskFull { .. }) => {}
        Err(error) => return Err(error),
    }
    // If a task cannot be started, the other one ends with the handle, and the directory is free when this is told.
    let handle = Handle(core);
    handle.0.start_checkpoints()?;
    handle.0.start_cleaning()?;
    Ok(handle)
}

impl Core {
    /// What must be done before a database is written to: by the opening, or, when the disk was full then, by each write
    /// until there is room. No commit is acknowledged before it.
    pub(crate) fn settle_beginning(&self, sequencer: &mut Sequencer) -> Result<()> {
        self.part_from_origin(sequencer)?;
        self.abort_orphans(sequencer)
    }

    /// Makes a copy a database in its own right: an entry in a term of its own, then `ORIGIN` goes. So no entry that it
    /// writes is taken for one of the source's, and nothing that it acknowledged is overwritten by a later backup. Found
    /// after a crash between the two: a copy still, one term further.
    pub(crate) fn part_from_origin(&self, sequencer: &mut Sequencer) -> Result<()> {
        if !sequencer.unparted {
            return Ok(());
        }
        if planted(Bug::WriteToCopy) {
            sequencer.unparted = false;
        }
        self.append_and_apply(sequencer, Body::NoOp)?;
        seed::forget_origin(&*self.environment.disk, &Layout::new(&self.path))
            .map_err(|error| self.write_failed(error))?;
        sequencer.unparted = false;
        Ok(())
    }
}

/// The trees of the directory; new ones, and a new log beside them, when creation was never finished.
fn open_or_create_trees(
    environment: &Environment,
    layout: &Layout,
    options: &Options,
) -> Result<(Forest, Opened)> {
    let disk = &*environment.disk;
    let has_manifests = Layout::has_files(disk, &layout.manifest())?;
    if has_manifests {
        match Forest::open(environment, &layout.root, options.forest_options(), &|_| Ok(())) {
            Ok(found) => return Ok(found),
            Err(error @ (Error::Corruption(_) | Error::NotFound { .. })) => {
                if !is_unfinished(environment, layout)? {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    } else if !is_unfinished(environment, layout)? {
        return Err(Corruption::new(&layout.manifest(), 0, "manifests", "at least one", "none").into());
    }
    if !options.create {
        return Err(Error::NotFound { what: "database", name: layout.root.display().to_string() });
    }
    create(environment, layout, options)?;
    Forest::open(environment, &layout.root, options.forest_options(), &|_| Ok(()))
}

/// Whether nothing was ever promised about this directory.
pub(crate) fn is_unfinished(environment: &Environment, layout: &Layout) -> Result<bool> {
    let disk = &*environment.disk;
    if Layout::has_files(disk, &layout.pages())? {
        return Ok(false);
    }
    if !Layout::has_files(disk, &layout.log())? {
        // Manifests follow the log: where there is none, it was lost.
        return Ok(!Layout::has_files(disk, &layout.manifest())?);
    }
    let inspection = match Log::inspect(environment, &layout.log(), &mut |_| {}) {
        // Files without a header: the log's own creation did not end, unless there is what follows it.
        Err(Error::NotFound { .. }) => return Ok(newest_manifest(environment, layout).is_err()),
        found => found?,
    };
    let empty = inspection.groups.get(&GROUP).is_none_or(|group| group.last.0 == Lsn::ZERO);
    Ok(inspection.damage.is_empty() && empty)
}

/// The newest manifest that can be opened, without changing anything.
pub(crate) fn newest_manifest(environment: &Environment, layout: &Layout) -> Result<Arc<Manifest>> {
    let disk = Arc::clone(&environment.disk);
    let options = StoreOptions::default();
    Store::open_read_only(disk, &layout.root, options, &|_| Ok(())).map(|(store, _)| store.manifest())
}

/// Says of a log that is not there that it is missed, when a manifest needs it. The log is made before the first
/// manifest, so that no crash leaves one without the other.
pub(crate) fn missed_log(environment: &Environment, layout: &Layout, error: Error) -> Error {
    match (&error, newest_manifest(environment, layout)) {
        (Error::NotFound { .. }, Ok(manifest)) => {
            let (from, generation) = (manifest.replay_from, manifest.generation);
            let expected = format!("entries from lsn {from}, as manifest {generation} needs them");
            Corruption::new(&layout.log(), 0, "log segments", expected, "none").into()
        }
        _ => error,
    }
}

fn create(environment: &Environment, layout: &Layout, options: &Options) -> Result<()> {
    let disk = &*environment.disk;
    for folder in [layout.manifest(), layout.pages(), layout.log()] {
        disk.create_dir(&folder)?;
        for left in disk.list(&folder)?.into_iter().filter(|left| left.name != LOCK_NAME) {
            disk.remove(&folder.join(left.name))?;
        }
        disk.sync_dir(&folder)?;
        disk.sync_dir(&layout.root)?;
    }
    let database = options.database_id.unwrap_or_else(|| DatabaseId::random(&*environment.random));
    let log = Log::create(environment, &layout.log(), database, options.log_options())?;
    log.create_group(GROUP, BaseState::default())?;
    let identity = Identity { database, log: log.id() };
    log.close()?;
    let state = EngineState::new().encode();
    let beginning = Beginning {
        checkpoint_lsn: Lsn::ZERO,
        replay_from: Lsn::FIRST,
        log_durable_end: LogPosition::ZERO,
        engine_state: &state,
    };
    Forest::create_with(environment, &layout.root, identity, options.forest_options(), beginning)?;
    Ok(())
}

/// Refuses a log that does not hold what a manifest needs of it.
pub(crate) fn check_reach(
    layout: &Layout,
    (first, last): (Lsn, Lsn),
    replay_from: Lsn,
    checkpoint: Lsn,
) -> Result<(), Corruption> {
    let damage = |expected: String, found: String| {
        Err(Corruption::new(&layout.log(), 0, "reach of the log", expected, found))
    };
    if first > replay_from {
        return damage(format!("entries from lsn {replay_from}"), format!("from {first}"));
    }
    if last < checkpoint {
        return damage(format!("entries to lsn {checkpoint}"), format!("to {last}"));
    }
    Ok(())
}

/// Says of a log that it is not the one that the manifest names.
pub(crate) fn foreign_log(
    layout: &Layout,
    (database, log): (DatabaseId, LogId),
    found: impl std::fmt::Display,
) -> Corruption {
    let expected = format!("log {log} of database {database}, as the manifest says");
    Corruption::new(&layout.log(), 0, "identity of the log", expected, found)
}

fn report(options: &Options, step: RecoveryStep, done: u64, total: u64, lsn: Lsn) {
    if let Some(progress) = &options.progress {
        progress(RecoveryProgress { step, done, total, lsn });
    }
}
