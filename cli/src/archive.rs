//! `archive`, `archive-status`, `retention`, `restore`, and archives in the place of a database's directory.

use std::path::{Path, PathBuf};

use logwood::archive::{
    Archive, ArchiveOptions, ArchiveStatus, ArchivedDatabase, Archiver, Client, LineageListing, Point,
    RestoreOptions, RestoreStep, RetentionOptions, RetentionReport, StoreOptions,
    retention as delete_unneeded, store,
};
use logwood::{Database, Keyspace, LineageId, Options, Snapshot};
use logwood_base::environment::SystemRandom;
use logwood_base::{Environment, Error, Lsn, Random};
use serde_json::json;

use crate::arguments::{self, Access, Archived, At, Followers, Restore};
use crate::escape::escape;
use crate::exit::{ArchiveDamageLine, Exit, Failure};
use crate::open;
use crate::output::{Output, counted};
use crate::progress::{Steps, Waiting};
use crate::read::hex;
use crate::time;

/// How the store of a command is reached.
///
/// # Errors
/// Wrong options; a file of certificates that cannot be read.
pub fn store_options(url: &str, access: &Access) -> Result<StoreOptions, Failure> {
    let mut options = StoreOptions::new();
    if let Some(endpoint) = &access.endpoint {
        options = options.endpoint(endpoint);
    }
    // What other programs' S3 is reached with is nothing to an archive in a directory.
    let is_s3 = url.starts_with("s3://");
    let from_environment = || std::env::var_os("AWS_CA_BUNDLE").filter(|_| is_s3).map(PathBuf::from);
    if let Some(path) = access.ca_file.clone().or_else(from_environment) {
        options = options.root_certificates(certificates(&path)?);
    }
    if let Some(text) = &access.timeout {
        let timeout = time::duration(text)
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| Failure::Usage(format!("--timeout {text} is no duration; 30s and 2m are")))?;
        options = options.request_timeout(timeout);
    }
    Ok(options)
}

#[expect(clippy::disallowed_methods, reason = "a file of the user's, no part of a database")]
fn certificates(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("--ca-file {}: {error}", path.display())))
}

/// Looks, before a database is opened or made, whether a store can be reached as it is asked for, and lies outside of the
/// database. Asks nothing of a server, and makes nothing.
///
/// # Errors
/// [`Failure::Usage`], wrong options; what the engine answers.
pub fn check_store(directory: &Path, url: &str, access: &Access) -> Result<(), Failure> {
    if let Some(path) = url.strip_prefix("file://")
        && resolved(Path::new(path)).starts_with(resolved(directory))
    {
        let directory = directory.display();
        return Err(Failure::Usage(format!(
            "the archive lies within {directory}, and would be lost with it: name another place"
        )));
    }
    let options = store_options(url, access)?.existing(true);
    match store::open(url, &options, &Environment::system()?) {
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Where a path leads, as far as what it names is there.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|there| Some((there, std::fs::canonicalize(there).ok()?)));
    match there {
        Some((there, resolved)) => resolved.join(path.strip_prefix(there).unwrap_or(Path::new(""))),
        None => path,
    }
}

/// Opens an archive for reading.
fn open_archive(url: &str, access: &Access) -> Result<Archive, Failure> {
    Ok(Archive::open(url, &store_options(url, access)?, &Environment::system()?)?)
}

/// The point that a command names, and its history.
fn point(at: &At) -> Result<(Point, Option<LineageId>), Failure> {
    let point = match (at.lsn, &at.time) {
        (Some(lsn), _) => Point::Lsn(Lsn(lsn)),
        (None, Some(text)) => Point::TimeMs(time::parse(text).ok_or_else(|| {
            let what = "is no time from 1970 on; 2026-01-31T23:59:59Z is one";
            Failure::Usage(format!("--time {text} {what}"))
        })?),
        (None, None) => Point::Latest,
    };
    let lineage = at.lineage.as_deref().map(|text| {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(LineageId).ok_or_else(|| {
            Failure::Usage(format!("--lineage {text} is no identity of 32 hexadecimal digits"))
        })
    });
    Ok((point, lineage.transpose()?))
}

/// Begins to archive a database that is open.
///
/// # Errors
/// What the engine answers.
pub fn attach(database: &Database, url: &str, access: &Access) -> Result<Archiver, Failure> {
    Ok(database.archive(ArchiveOptions::to(url).store_options(store_options(url, access)?))?)
}

/// `archive`: brings an archive up to date.
///
/// # Errors
/// [`Failure::NotFound`] when there is no database; what the engine answers.
pub fn archive(arguments: &arguments::Archive, output: &mut Output) -> Result<(), Failure> {
    check_store(&arguments.directory, &arguments.to, &arguments.access)?;
    let database = open::existing(&arguments.directory, &arguments.followers)?;
    let store = store_options(&arguments.to, &arguments.access)?;
    let options = ArchiveOptions::to(&arguments.to).store_options(store);
    let archiver = database.archive(options.background(false).verify_pages(arguments.verify))?;
    let waiting = Waiting::new("archiving");
    let flushed = archiver.flush();
    drop(waiting);
    let status = archiver.status();
    tell_gap(&status);
    let lsn = flushed?;
    let (lineage, mended) = (archiver.lineage(), status.mended);
    archiver.stop()?;
    database.close()?;
    let points = |(first, last): (Lsn, Lsn)| [first.get(), last.get()];
    let (gap, lost) = (status.newest_gap.map(points), status.lost.map(points));
    let object = json!({
        "lsn": lsn.get(), "lineage": lineage.to_string(), "mended_pages": mended, "gaps": status.gaps, "newest_gap": gap,
        "lost": lost,
    });
    output.line(&format!("archived up to LSN {lsn}, in lineage {lineage}"), &object)?;
    if mended > 0 && !output.is_json() {
        let (segments, were) = (counted(mended, "page segment"), if mended == 1 { "was" } else { "were" });
        output.text(&format!("{segments} in the archive {were} damaged, and {were} put anew"))?;
    }
    Ok(())
}

/// Says on stderr which points an archiver could not archive any more.
pub fn tell_gap(status: &ArchiveStatus) {
    if let Some((first, last)) = status.lost {
        crate::exit::complain(&format!(
            "the archive has lost what it had from lsn {first} on, or is another one, and the log had let go of it: lsn {first} to {last} cannot be restored from it"
        ));
    }
    if let Some((first, last)) = status.newest_gap.filter(|gap| Some(*gap) != status.lost) {
        crate::exit::complain(&format!(
            "lsn {first} to {last} were never archived, for the log had let go of them: these points cannot be restored"
        ));
    }
}

/// `retention`: deletes what no promised point needs.
///
/// # Errors
/// Wrong options; [`Failure::Reported`] with 2 when there is damage, with 1 when the latest lineage has no snapshot yet that it
/// begins with; [`Failure::Engine`] with 1 when there is no archive; what the
/// engine answers.
pub fn retention(arguments: &arguments::Retention, output: &mut Output) -> Result<(), Failure> {
    let keep = time::duration(&arguments.keep).ok_or_else(|| {
        Failure::Usage(format!("--keep {} is no duration; 35d, 12h, 30m and 90s are", arguments.keep))
    })?;
    let environment = Environment::system()?;
    let options = store_options(&arguments.url, &arguments.access)?.existing(true);
    let client = Client::new(
        store::open(&arguments.url, &options, &environment)?,
        &environment,
        store::Retry::default(),
    );
    let options = RetentionOptions { keep, dry_run: arguments.dry_run, deletions_max: usize::MAX };
    let waiting = Waiting::new("looking through the archive");
    let report = delete_unneeded(&client, &environment, &options)?;
    if report.oldest_ms.is_none()
        && report.condemned.is_empty()
        && let Err(error @ Error::NotFound { .. }) =
            Archive::with_client(client, &environment).newest_lineage()
    {
        return Err(error.into());
    }
    drop(waiting);
    for damage in &report.damage {
        crate::exit::complain(&format!("damage: {}", ArchiveDamageLine(damage)));
    }
    print_retention(arguments.dry_run, &report, output)?;
    match (report.damage.is_empty(), report.is_newest_lost) {
        (true, false) => Ok(()),
        // Its first snapshot is to come.
        (true, true) => Err(Failure::Reported(Exit::NotFound)),
        (false, _) => Err(Failure::Reported(Exit::Damage)),
    }
}

fn print_retention(dry_run: bool, report: &RetentionReport, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        let damage: Vec<&String> = report.damage.iter().map(|damage| &damage.key).collect();
        return output.object(&json!({
            "from_ms": report.oldest_ms.filter(|_| !report.is_newest_lost).map(|_| report.from_ms), "objects": report.condemned, "bytes": report.bytes, "spared": report.spared,
            "left": report.left, "damage": damage, "dry_run": dry_run,
        }));
    }
    report.condemned.iter().try_for_each(|key| output.text(key))?;
    let objects = counted(report.condemned.len() as u64, "object");
    let bytes = counted(report.bytes, "byte");
    let promise = match report.oldest_ms {
        _ if report.is_newest_lost && report.damage.is_empty() => {
            "the newest state cannot be restored yet, for the first snapshot of its lineage is not there"
                .to_owned()
        }
        _ if report.is_newest_lost => {
            "the newest state cannot be restored: archive-status tells what can".to_owned()
        }
        Some(_) => format!("every point from {} on stays restorable", time::utc(report.from_ms)),
        None => "there is no point that can be restored".to_owned(),
    };
    let done = if dry_run { "would be deleted" } else { "deleted" };
    output.text(&format!("{objects} of {bytes} {done}; {promise}"))?;
    if !report.spared.is_empty() {
        let (spared, stay, them) = match report.spared.len() as u64 {
            1 => (counted(1, "object"), "stays", "it"),
            many => (counted(many, "object"), "stay", "them"),
        };
        output.text(&format!("{spared} {stay} for now: an upload or a restore needs {them}"))?;
    }
    if report.left > 0 {
        let (left, are) =
            (counted(report.left as u64, "object"), if report.left == 1 { "is" } else { "are" });
        output.text(&format!("{left} more {are} not needed: run it again"))?;
    }
    Ok(())
}

/// `archive-status`: what can be restored.
///
/// # Errors
/// [`Failure::Reported`] with 2 when there is damage; [`Failure::NotFound`] when there is no archive, or a lineage of which nothing
/// can be restored; what the engine answers.
pub fn status(arguments: &arguments::ArchiveStatus, output: &mut Output) -> Result<(), Failure> {
    let archive = open_archive(&arguments.url, &arguments.access)?;
    let listing = if arguments.verify { archive.verify()? } else { archive.list()? };
    for damage in &listing.damage {
        let object = json!({ "damage": damage.key, "why": damage.to_string() });
        output.line(&format!("damage\t{}", ArchiveDamageLine(damage)), &object)?;
    }
    for lineage in &listing.lineages {
        print_lineage(lineage, output)?;
    }
    if !listing.is_sound() {
        return Err(Failure::Reported(Exit::Damage));
    }
    if listing.lineages.is_empty() {
        return Err(Error::NotFound { what: "archive", name: "with a lineage".to_owned() }.into());
    }
    // One that is closed goes as a whole, and is missed by nobody as long as another stands.
    let none_stands = listing.lineages.iter().all(|lineage| lineage.superseded);
    let is_missed =
        |lineage: &&LineageListing| lineage.intervals.is_empty() && (none_stands || !lineage.superseded);
    match listing.lineages.iter().find(is_missed) {
        Some(lineage) => {
            Err(Failure::NotFound(format!("lineage {} holds nothing that can be restored", lineage.lineage)))
        }
        None => Ok(()),
    }
}

fn print_lineage(lineage: &LineageListing, output: &mut Output) -> Result<(), Failure> {
    let id = lineage.lineage.to_string();
    let parent = lineage.parent.map_or("-".to_owned(), |(parent, fork)| format!("{parent}\t{fork}"));
    let began = time::utc(lineage.created_ms);
    output.line(
        &format!("lineage\t{id}\t{}\t{began}\t{parent}", lineage.database),
        &json!({
            "lineage": id, "database": lineage.database.to_string(), "created_ms": lineage.created_ms,
            "parent": lineage.parent.map(|(parent, _)| parent.to_string()),
            "fork_lsn": lineage.parent.map(|(_, fork)| fork.get()),
            "log_objects": lineage.log_objects, "log_bytes": lineage.log_bytes,
            "superseded": lineage.superseded,
        }),
    )?;
    for interval in &lineage.intervals {
        let (first, last) = (interval.first, interval.last);
        let (first_time, last_time) = (time::utc(interval.first_time_ms), time::utc(interval.last_time_ms));
        output.line(
            &format!("interval\t{first}\t{last}\t{first_time}\t{last_time}"),
            &json!({
                "lineage": id, "first_lsn": first.get(), "last_lsn": last.get(),
                "first_time_ms": interval.first_time_ms, "last_time_ms": interval.last_time_ms,
            }),
        )?;
    }
    for hole in &lineage.holes {
        let (first, last) = (hole.first, hole.last);
        output.line(
            &format!("hole\t{first}\t{last}\t{}\t{}", hole.key, hole.why),
            &json!({
                "lineage": id, "hole": hole.key, "first_lsn": first.get(), "last_lsn": last.get(), "why": hole.why,
                "damage": !hole.is_named_gap,
            }),
        )?;
    }
    lineage.snapshots.iter().try_for_each(|snapshot| {
        let (lsn, bytes) = (snapshot.lsn, snapshot.page_bytes);
        let remark = if snapshot.is_ahead { "ahead of the log" } else { "-" };
        let (made, remark) = (time::utc(snapshot.time_ms), snapshot.damage.as_deref().unwrap_or(remark));
        output.line(
            &format!("snapshot\t{lsn}\t{made}\t{bytes}\t{remark}"),
            &json!({
                "lineage": id, "snapshot_lsn": lsn.get(), "time_ms": snapshot.time_ms, "page_bytes": bytes,
                "damage": snapshot.damage, "ahead": snapshot.is_ahead,
            }),
        )
    })
}

/// `restore`: an archive into a new directory.
///
/// # Errors
/// Wrong options; what the engine answers.
pub fn restore(arguments: &Restore, output: &mut Output) -> Result<(), Failure> {
    let (point, lineage) = point(&arguments.at)?;
    let shown = Steps::default();
    let mut options = RestoreOptions::new().point(point).verify(!arguments.no_verify).progress(move |at| {
        let unit = match at.step {
            RestoreStep::Records => "records",
            RestoreStep::Entries => "entries",
            _ => "bytes",
        };
        shown.at(at.step, unit, at.done, at.total);
    });
    if let Some(lineage) = lineage {
        options = options.lineage(lineage);
    }
    if let Some(keyspace) = &arguments.keyspace {
        let from = arguments.from_key.as_deref().map(arguments::bytes);
        let to = arguments.to_key.as_deref().map(arguments::bytes);
        options = options.keyspace(keyspace).range(from.as_deref(), to.as_deref());
    }
    let report = open_archive(&arguments.from, &arguments.access)?.restore(&arguments.directory, &options)?;
    report.notes.iter().for_each(|note| crate::exit::complain(note));
    let (lsn, when) = (report.lsn, time::utc(report.time_ms));
    if output.is_json() {
        let keyspaces: Vec<_> = report
            .keyspaces
            .iter()
            .map(|(name, digest)| {
                let name = escape(name.as_bytes());
                json!({ "keyspace": name, "records": digest.count, "digest": hex(digest) })
            })
            .collect();
        return output.object(&json!({
            "lsn": lsn.get(), "time_ms": report.time_ms, "database": report.database.to_string(),
            "lineage": report.lineage.to_string(), "snapshot_lsn": report.snapshot.map(|lsn| lsn.get()),
            "entries": report.entries, "page_bytes": report.bytes, "notes": report.notes,
            "verified_keyspaces": keyspaces, "seconds": report.took.as_secs_f64(),
        }));
    }
    let from = report.snapshot.map_or("the log alone".to_owned(), |lsn| format!("the snapshot at LSN {lsn}"));
    let (entries, bytes) = (counted(report.entries, "entry"), counted(report.bytes, "byte"));
    output.text(&format!("restored up to LSN {lsn}, {when}, from {from} ({bytes} of pages) and {entries}"))
}

/// What `get`, `scan`, `count` and `digest` read.
pub enum Source {
    /// A database.
    Directory(Database),
    /// One point of an archive, and the temporary directory that goes when it is closed.
    Archive(Box<ArchivedDatabase>, Option<Fetched>),
}

impl Source {
    /// What the command names.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when there is none; what the engine answers.
    pub fn of(arguments: &arguments::Source) -> Result<Self, Failure> {
        match (&arguments.archived.archive, &arguments.directory) {
            (Some(url), _) => {
                arguments.followers.refuse_beside_archive()?;
                Self::of_archive(url, &arguments.archived)
            }
            (None, Some(directory)) => {
                Self::of_directory(directory, &arguments.followers, &arguments.archived)
            }
            (None, None) => Err(Failure::Usage("name a database's DIR, or an --archive".to_owned())),
        }
    }

    /// A database. It has no other point than now.
    ///
    /// # Errors
    /// As [`Source::of`]; [`Failure::Usage`] where the command names a point, or keeps what is fetched.
    pub fn of_directory(
        directory: &Path,
        followers: &Followers,
        archived: &Archived,
    ) -> Result<Self, Failure> {
        if let Some(option) = archived.of_archive_alone() {
            return Err(Failure::Usage(format!(
                "{option} is about an archive: name it with --archive URL in the place of DIR"
            )));
        }
        open::existing(directory, followers).map(Self::Directory)
    }

    /// One point of an archive.
    ///
    /// # Errors
    /// As [`Source::of`].
    pub fn of_archive(url: &str, archived: &Archived) -> Result<Self, Failure> {
        let (point, lineage) = point(&archived.at)?;
        let fetched = archived.cache.is_none().then(Fetched::new);
        let directory = archived.cache.as_ref().or(fetched.as_ref().map(|fetched| &fetched.0));
        let directory = directory.cloned().unwrap_or_default();
        let view = open_archive(url, &archived.access)?.open_at(directory, point, lineage, Options::new())?;
        view.notes().iter().for_each(|note| crate::exit::complain(note));
        Ok(Self::Archive(Box::new(view), fetched))
    }

    /// A keyspace.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when there is none.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, Failure> {
        match self {
            Self::Directory(database) => open::keyspace(database, name),
            Self::Archive(view, _) => view.keyspace(name).map_err(|_| {
                let name = escape(name.as_bytes());
                Failure::NotFound(format!("there is no keyspace '{name}' in the archive at that point"))
            }),
        }
    }

    /// All of it at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Directory(database) => database.snapshot(),
            Self::Archive(view, _) => view.snapshot(),
        }
    }

    /// Which moment that is.
    #[must_use]
    pub fn lsn(&self, snapshot: &Snapshot) -> Lsn {
        match self {
            Self::Directory(_) => snapshot.lsn(),
            Self::Archive(view, _) => view.lsn(),
        }
    }
}

/// A temporary directory for what is fetched.
pub struct Fetched(PathBuf);

impl Fetched {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("logwood-archive-{:016x}", SystemRandom.u64())))
    }
}

impl Drop for Fetched {
    #[expect(clippy::disallowed_methods, reason = "a temporary directory, no part of a database")]
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
