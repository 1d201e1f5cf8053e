//! `stat`, `verify`, `log`: what a directory holds, is worth and says. They take no lock and change nothing, not
//! even a tail that a crash left.

use std::ops::ControlFlow;

use logwood::OriginKind;
use logwood::entry::{Body, Operation, Operations};
use logwood::inspect::{self, Damage, LogEntry, VerifyReport};
use logwood_base::{Corruption, Error, Lsn};
use serde_json::{Value, json};

use crate::arguments::{Directory, Log};
use crate::escape::escape;
use crate::exit::{DamageLine, Exit, Failure, no_database};
use crate::output::{Output, counted};
use crate::progress::Progress;
use crate::time;

/// `stat`: one `name TAB value` a line.
///
/// # Errors
/// [`Failure::NotFound`] when there is no database; what the engine answers.
pub fn stat(arguments: &Directory, output: &mut Output) -> Result<(), Failure> {
    let stat = found(inspect::stat(&arguments.directory), arguments)?;
    let keyspaces: Vec<Value> = stat
        .keyspaces
        .iter()
        .map(|keyspace| json!({ "keyspace": escape(keyspace.name.as_bytes()), "records": keyspace.records }))
        .collect();
    if output.is_json() {
        return output.object(&json!({
            "directory": stat.path.display().to_string(),
            "log_only": stat.is_log_only,
            "database": stat.database.to_string(),
            "log": stat.log_id.to_string(),
            "first_lsn": stat.first_lsn.get(),
            "last_lsn": stat.last_lsn.get(),
            "last_time_ms": stat.last_time_ms,
            "backup_of_lsn": stat.origin.map(|origin| origin.lsn.get()),
            "generation": stat.generation.get(),
            "checkpoint_lsn": stat.checkpoint_lsn.get(),
            "replay_from": stat.replay_from.get(),
            "log_files": stat.log_segments,
            "log_bytes": stat.log_bytes,
            "torn_tail_batches": stat.dropped_batches,
            "page_files": stat.page_segments,
            "page_bytes": stat.page_bytes,
            "keyspaces_at_checkpoint": keyspaces,
            "notes": stat.notes,
        }));
    }
    let kind = if stat.is_log_only { "a log without trees" } else { "a database" };
    let mut lines = vec![
        ("directory", stat.path.display().to_string()),
        ("holds", kind.to_owned()),
        ("database", stat.database.to_string()),
        ("log", stat.log_id.to_string()),
        ("log entries", entries(stat.first_lsn, stat.last_lsn)),
        ("last entry", if stat.last_time_ms == 0 { "-".to_owned() } else { time::utc(stat.last_time_ms) }),
        ("log files", format!("{}, {} bytes", stat.log_segments, stat.log_bytes)),
        ("torn tail", format!("{} unacknowledged batches", stat.dropped_batches)),
    ];
    if let Some(origin) = &stat.origin {
        let kind = if origin.kind == OriginKind::Restore { "a restore" } else { "a backup" };
        lines.push(("copy", format!("{kind} of LSN {}, never opened", origin.lsn)));
    }
    if !stat.is_log_only {
        let checkpoint = format!("LSN {}, generation {}", stat.checkpoint_lsn, stat.generation);
        lines.push(("checkpoint", checkpoint));
        lines.push(("replay from", format!("LSN {}", stat.replay_from)));
        lines.push(("page files", format!("{}, {} bytes", stat.page_segments, stat.page_bytes)));
    }
    for keyspace in &stat.keyspaces {
        let name = escape(keyspace.name.as_bytes());
        lines
            .push(("keyspace", format!("{name}, {} at the checkpoint", counted(keyspace.records, "record"))));
    }
    if !stat.is_log_only && stat.last_lsn > stat.checkpoint_lsn {
        let later = stat.last_lsn.get() - stat.checkpoint_lsn.get();
        lines.push(("since the checkpoint", format!("{}, in the log alone", counted(later, "entry"))));
    }
    lines.extend(stat.notes.iter().map(|note| ("note", note.clone())));
    lines.iter().try_for_each(|(name, value)| output.text(&format!("{name}\t{value}")))
}

/// `verify`: damage as one line each.
///
/// # Errors
/// [`Failure::Reported`] with 2 when there is damage; what the engine answers.
pub fn verify(arguments: &Directory, output: &mut Output) -> Result<(), Failure> {
    let mut progress: Option<Progress> = None;
    let mut printed = Ok(());
    let report = inspect::verify(
        &arguments.directory,
        &mut |damage| {
            if printed.is_ok() {
                printed = print_damage(&damage, output);
            }
        },
        &mut |at| {
            let progress = progress.get_or_insert_with(|| Progress::new("bytes", Some(at.bytes_total)));
            progress.at(at.bytes_done);
        },
    );
    drop(progress);
    let report = found(report, arguments)?;
    let printed = printed.and_then(|()| print_report(&report, output)).and_then(|()| output.flush());
    match printed {
        // That nobody reads what is damaged makes nothing whole.
        Ok(()) | Err(Failure::ClosedPipe) if report.damages > 0 => Err(Failure::Reported(Exit::Damage)),
        printed => printed,
    }
}

fn print_damage(damage: &Damage, output: &mut Output) -> Result<(), Failure> {
    let Corruption { path, offset, check, expected, found, affects } = &damage.corruption;
    let range = damage.range.as_ref();
    output.line(
        &DamageLine(&damage.corruption).to_string(),
        &json!({
            "file": path.display().to_string(), "offset": offset, "check": check, "expected": expected,
            "found": found, "affects": affects, "keyspace_id": damage.keyspace.map(|id| id.get()),
            "from": range.map(|range| escape(&range.low)),
            "to": range.and_then(|range| range.high.as_deref()).map(escape),
        }),
    )
}

fn print_report(report: &VerifyReport, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&json!({
            "damages": report.damages, "files": report.files, "bytes": report.bytes, "pages": report.pages,
            "records": report.records, "entries": report.entries, "torn_tail_batches": report.dropped_batches,
            "notes": report.notes,
        }));
    }
    for note in &report.notes {
        output.text(&format!("note: {note}"))?;
    }
    let verdict = match report.damages {
        0 => "no damage".to_owned(),
        damages => counted(damages, "damage"),
    };
    output.text(&format!(
        "{verdict} in {}, {}, {}, {}, {}",
        counted(report.files, "file"),
        counted(report.bytes, "byte"),
        counted(report.pages, "page"),
        counted(report.records, "record"),
        counted(report.entries, "log entry")
    ))
}

/// `log`: `LSN TAB term TAB time TAB kind TAB what`, one entry a line.
///
/// # Errors
/// What the engine answers, behind the entries before it.
pub fn log(arguments: &Log, output: &mut Output) -> Result<(), Failure> {
    let mut printed = Ok(());
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let (mut progress, mut seen) = (Progress::new("entries", arguments.limit), 0);
    let mut show = |from: Lsn| {
        inspect::log_entries(&arguments.directory, from, limit, &mut |entry| {
            seen += 1;
            progress.at(seen);
            match print_entry(entry, output) {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    printed = Err(failure);
                    ControlFlow::Break(())
                }
            }
        })
    };
    let shown = match (arguments.from, show(Lsn(arguments.from.unwrap_or(1)))) {
        // The first entry that is kept, when none was asked for.
        (None, Err(Error::TooOld { oldest, .. })) => show(oldest),
        (_, shown) => shown,
    };
    printed?;
    let directory = Directory { directory: arguments.directory.clone() };
    found(shown, &directory)
}

fn print_entry(entry: &LogEntry<'_>, output: &mut Output) -> Result<(), Failure> {
    let LogEntry { lsn, term, payload, .. } = entry;
    let (time_ms, kind, what) = match &entry.entry {
        Ok(decoded) => (decoded.time_ms, decoded.body.name(), describe(&decoded.body)),
        Err(error) => (0, "unreadable", format!("{error:?}")),
    };
    if output.is_json() {
        return output.object(&json!({
            "lsn": lsn.get(), "term": term.get(), "time_ms": time_ms, "kind": kind, "what": what,
            "bytes": payload.len(),
        }));
    }
    output.text(&format!("{lsn}\t{term}\t{}\t{kind}\t{what}", time::utc(time_ms)))
}

/// What an entry does, on one line.
fn describe(body: &Body<'_>) -> String {
    match body {
        Body::Commit(operations) => describe_operations(operations),
        Body::CreateKeyspace { id, name } => format!("{} as number {id}", escape(name.as_bytes())),
        Body::DropKeyspace { id } => format!("number {id}"),
        Body::Fragment { transaction, sequence, piece } => {
            format!("number {sequence} of transaction {transaction}, {} bytes", piece.len())
        }
        Body::CommitFragments { transaction, count, bytes, .. } => {
            format!("transaction {transaction}, {count} fragments, {bytes} bytes")
        }
        Body::Abort { transaction } => format!("transaction {transaction}"),
        Body::Membership(bytes) => format!("{} bytes", bytes.len()),
        Body::OpenMark { keyspace, .. } => format!("keyspace {keyspace}"),
        Body::Mark { opened, keyspace, digest, .. } => {
            let (records, hex) = (counted(digest.count, "record"), crate::read::hex(digest));
            format!("keyspace {keyspace} at {opened}: {records}, {hex}")
        }
        _ => "-".to_owned(),
    }
}

fn describe_operations(operations: &Operations<'_>) -> String {
    let (mut puts, mut deletes, mut ranges) = (0u64, 0u64, 0u64);
    let mut keys: Option<(&[u8], &[u8])> = None;
    for operation in operations.iter() {
        let key = match operation {
            Ok(Operation::Put { key, .. }) => {
                puts += 1;
                key
            }
            Ok(Operation::Delete { key, .. }) => {
                deletes += 1;
                key
            }
            Ok(Operation::DeleteRange { from, .. }) => {
                ranges += 1;
                from
            }
            Err(_) => return "operations that cannot be read".to_owned(),
        };
        keys = Some((keys.map_or(key, |(first, _)| first), key));
    }
    let counts = [(puts, "put"), (deletes, "delete"), (ranges, "range delete")]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if *count == 1 { "" } else { "s" }))
        .collect::<Vec<_>>()
        .join(", ");
    match keys {
        None => "nothing".to_owned(),
        Some((first, last)) if first == last => format!("{counts}: {}", shortened(first)),
        Some((first, last)) => format!("{counts}: {} ... {}", shortened(first), shortened(last)),
    }
}

/// A key as it is printed, when it is not too long for a line.
fn shortened(key: &[u8]) -> String {
    const SHOWN_BYTES: usize = 64;
    match key.get(..SHOWN_BYTES) {
        Some(front) if key.len() > SHOWN_BYTES => format!("{}... ({} bytes)", escape(front), key.len()),
        _ => escape(key),
    }
}

fn entries(first: Lsn, last: Lsn) -> String {
    if first > last {
        return format!("none; the next is LSN {}", last.next());
    }
    format!("{}, LSN {first} to {last}", last.next().entries_since(first))
}

/// What was looked for, or that there is no database.
fn found<T>(answer: Result<T, Error>, arguments: &Directory) -> Result<T, Failure> {
    answer.map_err(|error| match error {
        Error::NotFound { what: "database", .. } => no_database(&arguments.directory),
        error => error.into(),
    })
}
