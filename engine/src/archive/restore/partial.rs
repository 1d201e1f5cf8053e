//! Restoring one keyspace, or a range of its keys.
//!
//! What comes of it is another database: it holds other data than the archived one did at any time, so that neither its
//! identity nor its numbering can be the same. It has an identity of its own and entries from 1 on, no parent, and needs
//! no base beside its own log.
//!
//! The records are read from a [view](crate::archive::read::view) of the point, which fetches the pages that the range
//! touches and no others, and are written into `DIR/seed/`, a database directory in the making. A crash leaves that, and
//! the pages that were fetched: the same call begins anew, without fetching them again. So it does by itself, with the next older
//! snapshot and more log, where a page of the newest one turns out to be damaged.

use std::ops::Bound;
use std::path::Path;

use logwood_base::digest::Digest;
use logwood_base::disk::{Disk, create_dir_all};
use logwood_base::{Corruption, DatabaseId, LogId, Result};

use super::{RestoreOptions, RestoreReport, RestoreStep};
use crate::archive::read::Archive;
use crate::archive::read::plan::Plan;
use crate::archive::read::view::{ArchivedDatabase, is_damaged_page};
use crate::seed::settle::remove_tree;
use crate::seed::{Origin, OriginKind, Seed};
use crate::{Database, Durability, Keyspace, Options};

/// Where the view keeps what it fetches.
const VIEW_NAME: &str = "view";

/// Records of one batch take about this much.
const BATCH_BYTES: usize = 256 << 10;

/// Records between two reports of progress.
const PROGRESS_RECORDS: u64 = 10_000;

pub(super) fn restore(
    archive: &Archive,
    to: &Path,
    keyspace: &str,
    options: &RestoreOptions,
) -> Result<RestoreReport> {
    let environment = &archive.environment;
    let disk = &*environment.disk;
    let started = environment.clock.monotonic();
    let database = DatabaseId::random(&*environment.random);
    // What is not there is refused before anything is made.
    Plan::new(archive, options.lineage, options.point)?;
    let seed = Seed::begin(environment, to, OriginKind::Restore, database)?;
    seed.prepare()?;
    let folder = seed.folder().to_owned();
    clear_unfinished(disk, &folder)?;

    let place = folder.join(VIEW_NAME);
    let target = Options { create: true, ..options.database.clone() };
    let target = target.environment(environment.clone()).database_id(database).background(true);
    let mut passed_over = Vec::new();
    let (view, log, digest) = loop {
        create_dir_all(disk, &place)?;
        let view = archive.view((&place, disk.lock(&place)?), options, &mut passed_over)?;
        match (copy(&view, &folder, keyspace, target.clone(), options), view.restored().snapshot) {
            (Ok((log, digest)), _) => break (view, log, digest),
            // An older snapshot, and more log, does as well.
            (Err(error), Some(snapshot)) if is_damaged_page(&error) => {
                passed_over.push((snapshot, error));
                drop(view);
                clear_unfinished(disk, &folder)?;
            }
            (Err(error), _) => return Err(error),
        }
    };
    let mut report = RestoreReport { database, keyspaces: Vec::new(), ..view.restored().clone() };
    report.keyspaces = vec![(keyspace.to_owned(), digest)];
    view.close()?;
    remove_tree(disk, &place)?;

    let mut origin = Origin::new(OriginKind::Restore, database, LogId(0));
    (origin.log, origin.lsn, origin.time_ms) = (log, report.lsn, report.time_ms);
    seed.commit(&origin)?;
    report.took = environment.clock.monotonic().saturating_sub(started);
    Ok(report)
}

/// Throws away the database that an earlier attempt had begun; what it fetched stays.
fn clear_unfinished(disk: &dyn Disk, folder: &Path) -> Result<()> {
    for name in ["log", "manifest", "pages"] {
        let folder = folder.join(name);
        remove_tree(disk, &folder)?;
        disk.create_dir(&folder)?;
    }
    disk.sync_dir(folder)
}

/// Copies the records, and compares count and digest of what was written with the archived one's.
fn copy(
    view: &ArchivedDatabase,
    folder: &Path,
    keyspace: &str,
    target: Options,
    options: &RestoreOptions,
) -> Result<(LogId, Digest)> {
    let source = view.keyspace(keyspace)?;
    let range = (bound(options.from.as_deref(), true), bound(options.to.as_deref(), false));
    let expected = source.digest::<&[u8]>(range)?;
    let database = Database::open(folder, target)?;
    let written = database.ensure_keyspace(keyspace)?;
    write(&database, &source, &written, range, expected.count, options)?;
    database.checkpoint()?;
    let found = written.digest_all()?;
    let log = database.log_id();
    database.close()?;
    if found == expected {
        return Ok((log, found));
    }
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    Err(Corruption::new(folder, 0, "count and digest of the range", expected, found).into())
}

fn write(
    database: &Database,
    source: &Keyspace,
    target: &Keyspace,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    total: u64,
    options: &RestoreOptions,
) -> Result<()> {
    let (mut batch, mut bytes, mut done) = (database.batch(), 0, 0u64);
    for record in source.range::<&[u8]>(range)? {
        let (key, value) = record?;
        batch.put(target, &key, &value)?;
        bytes += key.len() + value.len();
        done += 1;
        if bytes >= BATCH_BYTES {
            database.commit(std::mem::replace(&mut batch, database.batch()), Durability::Buffered)?;
            bytes = 0;
        }
        if done % PROGRESS_RECORDS == 0 {
            options.report(RestoreStep::Records, done, total);
        }
    }
    database.commit(batch, Durability::Durable)?;
    options.report(RestoreStep::Records, done, total);
    Ok(())
}

fn bound(key: Option<&[u8]>, included: bool) -> Bound<&[u8]> {
    match key {
        Some(key) if included => Bound::Included(key),
        Some(key) => Bound::Excluded(key),
        None => Bound::Unbounded,
    }
}
