//! `backup`: a copy of a database that opens by itself.

use std::path::Path;

use logwood::BackupOptions;
use serde_json::json;

use crate::arguments::Backup;
use crate::escape::escape;
use crate::exit::Failure;
use crate::open;
use crate::output::{Output, counted};
use crate::progress::Steps;
use crate::read::hex;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] when there is no database; [`Failure::Usage`] when TO is no place for its backup; what the engine
/// answers.
pub fn run(arguments: &Backup, output: &mut Output) -> Result<(), Failure> {
    if is_same(&arguments.directory, &arguments.to) {
        let directory = arguments.directory.display();
        return Err(Failure::Usage(format!("{directory} is the database itself; name another directory")));
    }
    let database = open::existing(&arguments.directory, &arguments.followers)?;
    let shown = Steps::default();
    let options = BackupOptions::new()
        .link(!arguments.copy)
        .verify(!arguments.no_verify)
        .replace_newer(arguments.replace_newer)
        // Reading back is a step of its own, with another total.
        .progress(move |at| shown.at(at.bytes_total, "bytes", at.bytes_done, at.bytes_total));
    let report = database.backup_with(&arguments.to, &options)?;
    drop(options);
    database.close()?;
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
            "lsn": report.lsn.get(), "log": report.log_id.to_string(), "bytes": report.bytes,
            "bytes_copied": report.bytes_copied, "page_files_kept": report.segments_kept,
            "page_files_linked": report.segments_linked, "page_files_copied": report.segments_copied,
            "log_entries": report.entries, "verified": !arguments.no_verify, "keyspaces": keyspaces,
        }));
    }
    output.text(&format!(
        "LSN {}, {} of pages: {} kept, {} linked, {} copied ({})",
        report.lsn,
        counted(report.bytes, "byte"),
        counted(report.segments_kept, "file"),
        report.segments_linked,
        report.segments_copied,
        counted(report.bytes_copied, "byte")
    ))?;
    report.keyspaces.iter().try_for_each(|(name, digest)| {
        let (name, records) = (escape(name.as_bytes()), counted(digest.count, "record"));
        output.text(&format!("{name}\t{records}\t{}\tread back and compared", hex(digest)))
    })
}

/// Whether two names are of one directory.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
