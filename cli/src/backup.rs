//! `backup`: a copy of a database that opens by itself.

use std::sync::Mutex;

use logwood::BackupOptions;
use serde_json::json;

use crate::arguments::Backup;
use crate::escape::escape;
use crate::exit::Failure;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use crate::read::hex;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] when there is no database; [`Failure::Usage`] when TO is no place for its backup; what the engine
/// answers.
pub fn run(arguments: &Backup, output: &mut Output) -> Result<(), Failure> {
    let database = open::existing(&arguments.directory)?;
    let shown: Mutex<Option<(u64, Progress)>> = Mutex::new(None);
    let options = BackupOptions::new()
        .link(!arguments.copy)
        .verify(!arguments.no_verify)
        .replace_newer(arguments.replace_newer)
        .progress(move |at| {
            let Ok(mut shown) = shown.lock() else { return };
            // Reading back is a step of its own, with another total.
            if shown.as_ref().is_none_or(|(total, _)| *total != at.bytes_total) {
                *shown = Some((at.bytes_total, Progress::new("bytes", Some(at.bytes_total))));
            }
            if let Some((_, progress)) = shown.as_mut() {
                progress.at(at.bytes_done);
            }
        });
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
        "LSN {}, {} bytes of pages: {} files kept, {} linked, {} copied ({} bytes)",
        report.lsn,
        report.bytes,
        report.segments_kept,
        report.segments_linked,
        report.segments_copied,
        report.bytes_copied
    ))?;
    report.keyspaces.iter().try_for_each(|(name, digest)| {
        let (name, hex) = (escape(name.as_bytes()), hex(digest));
        output.text(&format!("{name}\t{} records\t{hex}\tread back and compared", digest.count))
    })
}
