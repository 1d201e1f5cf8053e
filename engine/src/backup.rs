//! Backups of a database in use.
//!
//! A backup is a directory that opens by itself: see `docs/format/seed.md` for what stands in it, and for what a crash at
//! any moment leaves.
//!
//! 1. A checkpoint of this moment is written. It is the state that the backup holds: everything that was visible when the
//!    call began, and perhaps a little more.
//! 2. Its manifest is held, so that cleaning and later checkpoints leave its page segments alone, and so is the log from
//!    its `replay_from` on.
//! 3. The directory is filled ([`crate::seed`]). Writers, readers, checkpoints and cleaning go on meanwhile.
//! 4. What was written is read back, and count and digest of each keyspace, computed from the records in the backup, are
//!    compared with those of a live snapshot of the same LSN.

use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::digest::Digest;
use logwood_base::{Corruption, Error, KeyspaceId, LogId, Lsn, Result};
use logwood_btree::store::Manifest;
use logwood_btree::{Snapshot, Tree};
use logwood_wal::Hold;

use crate::core::Core;
use crate::directory::Layout;
use crate::entry::Entry;
use crate::planted::{Bug, planted};
use crate::seed::log::UpTo;
use crate::seed::{Added, Origin, OriginKind, Seed, refuse_inside};
use crate::state::EngineState;

/// How far a backup has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Bytes of page segments that are there; in the last step, bytes read back.
    pub bytes_done: u64,
    /// Bytes that there are to be, or to read back.
    pub bytes_total: u64,
}

/// Told about a backup while it runs.
type Callback = Arc<dyn Fn(BackupProgress) + Send + Sync>;

/// How a backup is made. Built by its setters, which can be chained.
///
/// ```
/// # use logwood::{BackupOptions, Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path().join("db"), Options::new())?;
/// // Copied, so that a file that rots does so in one of them only.
/// let options = BackupOptions::new()
///     .link(false)
///     .progress(|progress| println!("{} of {} bytes", progress.bytes_done, progress.bytes_total));
/// let report = db.backup_with(directory.path().join("backup"), &options)?;
/// assert_eq!(report.lsn, db.visible_lsn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BackupOptions {
    link: bool,
    verify: bool,
    replace_newer: bool,
    progress: Option<Callback>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { link: true, verify: true, replace_newer: false, progress: None }
    }
}

impl BackupOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether page segments are hard-linked where the file system can. Default: true. A link takes no space and no time,
    /// and shares the bytes: what rots in the database rots in the backup. With false, or to another file system, they are
    /// copied.
    #[must_use]
    pub fn link(mut self, link: bool) -> Self {
        self.link = link;
        self
    }

    /// Whether all of the backup is read back, and its counts and digests compared with the database's. Default: true. It
    /// reads every byte of the backup once. Without, copied segments and entries are compared with their hashes, and
    /// linked ones are believed.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Whether a backup of a later state of the database may be replaced, or one that holds commits which this database has
    /// never had. Default: false, and then it is `AlreadyExists`: a database that was brought back to an earlier state would
    /// replace what may be the only copy of the rest. Whose commits they are is told by the entry at which the backup ends, and,
    /// where the log has let go of that, by whether the backup was made from this directory's log.
    #[must_use]
    pub fn replace_newer(mut self, replace: bool) -> Self {
        self.replace_newer = replace;
        self
    }

    /// Told how far it has come. Default: nobody.
    #[must_use]
    pub fn progress(mut self, callback: impl Fn(BackupProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions")
            .field("link", &self.link)
            .field("verify", &self.verify)
            .field("replace_newer", &self.replace_newer)
            .finish_non_exhaustive()
    }
}

/// What a backup holds, and what it took.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The state that it holds.
    pub lsn: Lsn,
    /// The log of the backup's directory.
    pub log_id: LogId,
    /// Page segments that were there already, from an earlier backup or an attempt that was not finished.
    pub segments_kept: u64,
    /// Page segments that were linked.
    pub segments_linked: u64,
    /// Page segments that were copied.
    pub segments_copied: u64,
    /// Bytes of page segments that were copied.
    pub bytes_copied: u64,
    /// Bytes of all its page segments.
    pub bytes: u64,
    /// Entries in its log.
    pub entries: u64,
    /// Count and digest of each keyspace, computed from the records in the backup; empty when it was not verified.
    pub keyspaces: Vec<(String, Digest)>,
    /// How long it took.
    pub took: Duration,
}

/// The state that is copied, held until it is.
struct Source {
    manifest: Arc<Manifest>,
    snapshot: Snapshot,
    state: EngineState,
    /// Trees that could still be found, by keyspace.
    trees: Vec<(KeyspaceId, Tree)>,
}

impl Core {
    pub(crate) fn backup(&self, to: &Path, options: &BackupOptions) -> Result<BackupReport> {
        let started = self.environment.clock.monotonic();
        self.sequencer.lock().check_open()?;
        refuse_inside(&*self.environment.disk, to)?;
        let seed = Seed::begin(&self.environment, to, OriginKind::Backup, self.database)?;
        // Before the checkpoint: later ones may let go of what this one needs.
        let hold = self.hold_log("backup")?;
        let source = self.backup_source()?;
        let manifest = &source.manifest;
        if let Some(origin) = seed.replaced().filter(|_| !options.replace_newer) {
            self.require_earlier(origin, manifest.checkpoint_lsn, to)?;
        }
        seed.prepare()?;
        hold.advance(manifest.replay_from);
        let base = manifest.replay_from.previous();
        let base = (base, self.group.term_of(base)?);

        let mut report = BackupReport {
            lsn: manifest.checkpoint_lsn,
            log_id: LogId(0),
            segments_kept: 0,
            segments_linked: 0,
            segments_copied: 0,
            bytes_copied: 0,
            bytes: 0,
            entries: 0,
            keyspaces: Vec::new(),
            took: Duration::ZERO,
        };
        self.copy_segments(&seed, manifest, options, &mut report)?;
        let mut entries = UpTo::new(&self.group, manifest.replay_from, manifest.checkpoint_lsn);
        let log = seed.write_log(&self.options, self.database, base, &mut entries)?;
        drop(hold);
        if log.last != report.lsn {
            let folder = Layout::new(&self.path).log();
            let (expected, found) = (format!("entries to lsn {}", report.lsn), format!("to {}", log.last));
            return Err(Corruption::new(&folder, 0, "reach of the log", expected, found).into());
        }
        seed.write_manifest(manifest, &log)?;
        (report.log_id, report.entries) = (log.id, log.entries);
        if options.verify {
            report.keyspaces = verify(&seed, &source, options)?;
        }
        let mut origin = Origin::new(OriginKind::Backup, self.database, self.log.id());
        (origin.log, origin.lsn, origin.time_ms) = (log.id, report.lsn, source.state.time_ms);
        seed.commit(&origin)?;
        report.took = self.environment.clock.monotonic().saturating_sub(started);
        tracing::info!(to = %to.display(), lsn = %report.lsn, bytes = report.bytes, "backup is complete");
        Ok(report)
    }

    /// Refuses a backup that is not of an earlier state than `lsn` of this very history. Whether the histories are the same is
    /// told by the entry at which the backup ends, as long as the log has it; then by whose log it was made from.
    fn require_earlier(&self, origin: &Origin, lsn: Lsn, to: &Path) -> Result<()> {
        let at = origin.lsn;
        let what = if at > lsn {
            "backup of a later state"
        } else {
            let entries = match self.group.read(at, at.next(), 1) {
                Err(Error::TooOld { .. }) => Vec::new(),
                entries => entries?,
            };
            let is_ours = match entries.first() {
                None => origin.source == self.log.id(),
                Some(entry) => {
                    let folder = Layout::new(&self.path).log();
                    let entry = Entry::decode(&entry.payload).map_err(|error| error.at(&folder, at))?;
                    entry.time_ms == origin.time_ms
                }
            };
            if is_ours {
                return Ok(());
            }
            "backup of another history"
        };
        Err(Error::AlreadyExists { what, name: format!("{} (at lsn {at})", to.display()) })
    }

    /// Holds everything that is in the log now.
    pub(crate) fn hold_log(&self, name: &str) -> Result<Hold> {
        loop {
            match self.group.hold(name, self.group.first_lsn()) {
                // Let go between the two calls.
                Err(Error::TooOld { .. }) => {}
                held => return held,
            }
        }
    }

    fn backup_source(&self) -> Result<Source> {
        let (mut manifest, snapshot) = self.checkpoint_held()?;
        if planted(Bug::BackupUnpinned) {
            manifest = Arc::new((*manifest).clone());
        }
        let state = EngineState::decode(&manifest.engine_state, &Layout::new(&self.path).manifest())?;
        let keyspaces = manifest.trees.iter().map(|tree| tree.keyspace);
        let trees = keyspaces.filter_map(|id| Some((id, self.forest.tree(id)?))).collect();
        Ok(Source { manifest, snapshot, state, trees })
    }

    fn copy_segments(
        &self,
        seed: &Seed,
        manifest: &Manifest,
        options: &BackupOptions,
        report: &mut BackupReport,
    ) -> Result<()> {
        let bytes_total = manifest.segments.iter().map(|segment| u64::from(segment.bytes)).sum();
        for segment in &manifest.segments {
            let bytes = u64::from(segment.bytes);
            let file = self.forest.store().segment_path(segment.number);
            match seed.add_segment(segment, &file, options.link)? {
                Added::Kept => report.segments_kept += 1,
                Added::Linked => report.segments_linked += 1,
                Added::Copied => {
                    report.segments_copied += 1;
                    report.bytes_copied += bytes;
                }
            }
            report.bytes += bytes;
            if let Some(progress) = &options.progress {
                progress(BackupProgress { bytes_done: report.bytes, bytes_total });
            }
        }
        Ok(())
    }
}

/// Reads the backup back and compares it with the live database.
fn verify(seed: &Seed, source: &Source, options: &BackupOptions) -> Result<Vec<(String, Digest)>> {
    let found = seed.verify(&mut |now| {
        if let Some(progress) = &options.progress {
            progress(BackupProgress { bytes_done: now.bytes_done, bytes_total: now.bytes_total });
        }
    })?;
    for (id, tree) in &source.trees {
        let expected = tree.digest((Bound::Unbounded, Bound::Unbounded), &source.snapshot)?;
        let there = found.iter().find(|(keyspace, _)| keyspace == id).map(|(_, digest)| *digest);
        if there != Some(expected) {
            let (expected, found) = (format!("{expected:?}"), format!("{there:?}"));
            let damage = Corruption::new(seed.folder(), 0, "count and digest of a keyspace", expected, found);
            return Err(damage.affecting(format_args!("keyspace {id}")).into());
        }
    }
    let name = |id: KeyspaceId| source.state.keyspaces.iter().find(|(known, _)| *known == id);
    Ok(found.into_iter().filter_map(|(id, digest)| Some((name(id)?.1.clone(), digest))).collect())
}
