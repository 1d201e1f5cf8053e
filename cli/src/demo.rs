//! `demo`: a database is loaded, crashes, recovers, is damaged and verified, for anybody to see.
//!
//! 1. A child process, this program with `load --acks --archive`, loads generated records. When it has acknowledged half
//!    of them it is killed with SIGKILL, in the middle of its work.
//! 2. The directory is opened again: recovery.
//! 3. Every acknowledged record is read and compared. What else is there must be whole batches that were on their way.
//! 4. Another child loads the rest.
//! 5. `verify` reads every byte of every file and finds nothing.
//! 6. A byte of a page is flipped in a copy of the directory, and `verify` must name that file.
//! 7. `log` shows the newest entries.
//! 8. `digest` must be the digest of the generated records, which is computed without any database.
//! 9. The database's directory is removed, and `restore` brings it back from the archive: all that was acknowledged.
//! 10. `restore --lsn` brings back what it was in the middle of the second load.
//!
//! Nothing is simulated: the processes, the signal, the files and the damage are real. A step that fails ends the
//! demo with 1, and the files stay to be looked at.

use std::ffi::OsStr;
use std::path::Path;

use logwood::Database;

use crate::arguments::{Demo, Followers};
use crate::exit::{Exit, Failure};
use crate::open;
use crate::output::Output;
use crate::read::hex;

mod child;
mod files;
mod records;
mod report;

use files::Workplace;
use records::Record;
use report::{Report, Told, grouped};

/// Runs the command.
///
/// # Errors
/// [`Failure::Reported`] with 1 when a step fails; wrong usage; stdout.
pub fn run(arguments: &Demo, output: &mut Output) -> Result<(), Failure> {
    let workplace = Workplace::new(arguments.dir.as_deref()).map_err(|error| {
        let place = arguments.dir.as_deref().unwrap_or(Path::new("a temporary directory")).display();
        if error.kind() == std::io::ErrorKind::DirectoryNotEmpty {
            Failure::Usage(format!("--dir {place} is not empty; name a directory that does not exist"))
        } else {
            Failure::stream(place.to_string(), error)
        }
    })?;
    let place = workplace.path().to_owned();
    let mut report = Report::new(output);
    let all_done = steps(arguments.records, &place, &mut report)?.is_some();
    let keep = arguments.keep || !all_done;
    let files = if keep {
        format!("To look: cd {}", place.display())
    } else {
        match workplace.remove() {
            Ok(()) => "The files are removed; --keep leaves them to be looked at.".to_owned(),
            Err(error) => format!("The files in {} could not be removed: {error}.", place.display()),
        }
    };
    if report.end(&files)? { Ok(()) } else { Err(Failure::Reported(Exit::NotFound)) }
}

/// Runs the steps until one fails: each builds on those before it.
fn steps(count: u64, place: &Path, report: &mut Report<'_>) -> Result<Option<()>, Failure> {
    let (directory, copy) = (place.join("db"), place.join("damaged"));
    let archive = format!("file://{}", place.join("archive").display());
    let loaded_to = (directory.as_path(), archive.as_str());
    // Small enough that there is a middle to be killed in, and the default when there are records enough.
    let batch = (count / 50).clamp(1, 1000);

    let Some(acknowledged) = report.step("load, kill -9", || load_and_kill(loaded_to, count, batch))? else {
        return Ok(None);
    };
    let Some(database) = report.step("open again", || reopen(&directory))? else { return Ok(None) };
    let Some(found) =
        report.step("check every acknowledged record", || check(database, acknowledged, batch))?
    else {
        return Ok(None);
    };
    let rest = report.step("load the rest", || load_rest(loaded_to, found..count, batch))?;
    let Some(rest) = rest else { return Ok(None) };
    if report.step("verify", || verify(&directory))?.is_none() {
        return Ok(None);
    }
    if report.step("flip a byte in a copy", || damage(&directory, &copy))?.is_none() {
        return Ok(None);
    }
    if report.step("show the log", || show_log(&directory))?.is_none() {
        return Ok(None);
    }
    if report.step("compare the digest", || compare_digest(&directory, count))?.is_none() {
        return Ok(None);
    }
    let lose = || lose_and_restore(&directory, &archive, count, rest.lsn);
    if report.step("lose it, restore it", lose)?.is_none() {
        return Ok(None);
    }
    let (records, lsn) = rest.middle;
    let earlier = place.join("earlier");
    report.step("restore an earlier point", || restore_earlier(&earlier, &archive, found + records, lsn))
}

fn load_and_kill(place: (&Path, &str), count: u64, batch: u64) -> Result<(u64, Told), String> {
    let half = count / 2;
    // A quarter is held back, so that the child cannot be done before the signal arrives.
    let loader = child::Loader::start(place, 0..count, count - count / 4, batch)?;
    let (acknowledged, status, complaint) = loader.follow(Some(half))?;
    if !child::was_killed(status) {
        return Err(format!("the loading child ended by itself with {status}: {complaint}"));
    }
    let what = format!(
        "{} of {} records acknowledged in {} durable batches, then SIGKILL",
        grouped(acknowledged.records),
        grouped(count),
        grouped(acknowledged.batches)
    );
    Ok((acknowledged.records, Told { what, look: "logwood stat db".to_owned() }))
}

fn reopen(directory: &Path) -> Result<(Database, Told), String> {
    let database = open::existing(directory, &Followers::default()).map_err(|failure| failure.message())?;
    let what = format!("recovered up to LSN {}", database.visible_lsn());
    Ok((database, Told { what, look: "db/log, db/pages".to_owned() }))
}

/// Answers how many records are there.
fn check(database: Database, acknowledged: u64, batch: u64) -> Result<(u64, Told), String> {
    let text = |error: logwood_base::Error| error.to_string();
    let keyspace = database.keyspace("default").map_err(text)?;
    let snapshot = database.snapshot();
    let found = snapshot.count::<Vec<u8>>(&keyspace, ..).map_err(text)?;
    if found < acknowledged {
        return Err(format!(
            "{} records were acknowledged, {} are there",
            grouped(acknowledged),
            grouped(found)
        ));
    }
    for number in 0..found {
        let Record { key, value } = records::record(number);
        let is_there =
            snapshot.get_with(&keyspace, &key, |stored| stored == Some(&value[..])).map_err(text)?;
        if !is_there {
            return Err(format!("record {number} is lost or wrong, of {acknowledged} acknowledged"));
        }
    }
    if !found.is_multiple_of(batch) {
        return Err(format!("{found} records are there, which are no whole batches of {batch}"));
    }
    drop((snapshot, keyspace));
    database.close().map_err(text)?;
    let what = format!(
        "all {} are there and right, and {} more that were on their way",
        grouped(acknowledged),
        grouped(found - acknowledged)
    );
    Ok((found, Told { what, look: "logwood scan db --limit 10".to_owned() }))
}

fn load_rest(
    place: (&Path, &str),
    numbers: std::ops::Range<u64>,
    batch: u64,
) -> Result<(child::Acknowledged, Told), String> {
    let count = numbers.end - numbers.start;
    let loader = child::Loader::start(place, numbers, u64::MAX, batch)?;
    let (acknowledged, status, complaint) = loader.follow(None)?;
    if !status.success() || acknowledged.records != count {
        return Err(format!("the loading child ended with {status}: {complaint}"));
    }
    let what =
        format!("{} records acknowledged, LSN {}, all of it archived", grouped(count), acknowledged.lsn);
    Ok((acknowledged, Told { what, look: "logwood count db".to_owned() }))
}

fn verify(directory: &Path) -> Result<((), Told), String> {
    let printed = child::run(&["verify".as_ref(), directory.as_os_str()])?;
    if printed.code != 0 {
        return Err(format!("verify ended with {}: {} {}", printed.code, printed.stdout, printed.stderr));
    }
    let what = printed.stdout.lines().last().unwrap_or_default().to_owned();
    Ok(((), Told { what, look: "logwood verify db".to_owned() }))
}

fn damage(directory: &Path, copy: &Path) -> Result<((), Told), String> {
    let text = |error: std::io::Error| error.to_string();
    files::copy(directory, copy).map_err(text)?;
    // Compacted, the copy has all its records in page files, of however few records it is.
    let compacted = child::run(&["compact".as_ref(), copy.as_os_str()])?;
    if compacted.code != 0 {
        return Err(format!("compact ended with {}: {}", compacted.code, compacted.stderr));
    }
    let (path, offset) = files::victim(&copy.join("pages")).map_err(text)?;
    files::flip(&path, offset).map_err(text)?;
    let printed = child::run(&["verify".as_ref(), copy.as_os_str()])?;
    let named = path.display().to_string();
    if printed.code != 2 || !printed.stdout.lines().any(|line| line.starts_with(&named)) {
        return Err(format!(
            "byte {offset} of {named} was flipped, and verify ended with {}: {} {}",
            printed.code, printed.stdout, printed.stderr
        ));
    }
    let name = path.strip_prefix(copy).unwrap_or(&path).display();
    let what = format!("byte {} of {name} flipped; verify names the file and ends with 2", grouped(offset));
    Ok(((), Told { what, look: "logwood verify damaged".to_owned() }))
}

fn show_log(directory: &Path) -> Result<((), Told), String> {
    let printed = child::run(&["log".as_ref(), directory.as_os_str()])?;
    let lines: Vec<&str> = printed.stdout.lines().collect();
    if printed.code != 0 || lines.is_empty() {
        return Err(format!("log ended with {}: {}", printed.code, printed.stderr));
    }
    let newest = lines[lines.len().saturating_sub(3)..].join("\n").replace('\t', "  ");
    let what = format!("{} entries, the newest:\n{newest}", grouped(lines.len() as u64));
    Ok(((), Told { what, look: "logwood log db --limit 10".to_owned() }))
}

fn compare_digest(directory: &Path, count: u64) -> Result<((), Told), String> {
    let computed = check_digest(directory, count)?;
    let what = format!("{computed}, the same as computed from the {} records alone", grouped(count));
    Ok(((), Told { what, look: "logwood digest db".to_owned() }))
}

/// Compares the digest of a database with that of the first `count` records, which it answers.
fn check_digest(directory: &Path, count: u64) -> Result<String, String> {
    let printed = child::run(&["digest".as_ref(), directory.as_os_str()])?;
    let stored = printed.stdout.split_once('\t').map(|(_, digest)| digest).unwrap_or_default();
    let computed = hex(&records::digest(count));
    if printed.code == 0 && stored == computed {
        Ok(computed)
    } else {
        Err(format!("the database says '{}', the records say {computed}", printed.stdout))
    }
}

fn lose_and_restore(directory: &Path, archive: &str, count: u64, lsn: u64) -> Result<((), Told), String> {
    files::remove(directory).map_err(|error| error.to_string())?;
    restore(directory, archive, None)?;
    check_digest(directory, count)?;
    let what = format!(
        "the directory is removed; restored to LSN {lsn}: all {} records, the same digest",
        grouped(count)
    );
    Ok(((), Told { what, look: "logwood archive-status file://$PWD/archive".to_owned() }))
}

fn restore_earlier(directory: &Path, archive: &str, count: u64, lsn: u64) -> Result<((), Told), String> {
    restore(directory, archive, Some(lsn))?;
    check_digest(directory, count)?;
    let what = format!("as of LSN {lsn}: {} records, the digest of exactly those", grouped(count));
    Ok(((), Told { what, look: format!("logwood digest --archive file://$PWD/archive --lsn {lsn}") }))
}

fn restore(directory: &Path, archive: &str, lsn: Option<u64>) -> Result<(), String> {
    let lsn = lsn.map(|lsn| lsn.to_string());
    let mut words: Vec<&OsStr> =
        vec!["restore".as_ref(), "--from".as_ref(), archive.as_ref(), directory.as_os_str()];
    if let Some(lsn) = &lsn {
        words.push("--lsn".as_ref());
        words.push(lsn.as_ref());
    }
    let printed = child::run(&words)?;
    if printed.code == 0 {
        Ok(())
    } else {
        Err(format!("restore ended with {}: {}", printed.code, printed.stderr))
    }
}
