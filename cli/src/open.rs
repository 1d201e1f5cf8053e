//! Opening a database for a command.
//!
//! Commands that only read refuse a directory that holds no database: a mistyped name must not leave an empty
//! database behind. Commands that write create it, and the keyspace too. Recovery shows its progress when it takes
//! long. Who follows the database's changes, and is named on the command line, finds what it needs in the log afterwards.

use std::path::Path;

use logwood::{Database, Keyspace, Options, RecoveryStep};
use logwood_base::{Environment, Error};

use crate::arguments::Followers;
use crate::escape::escape;
use crate::exit::{Failure, no_database};
use crate::progress::{Steps, Waiting};

/// From so many bytes of log to replay on, a command that writes leaves a checkpoint behind.
const REPLAY_BYTES: u64 = 4 << 20;

/// Opens a database that exists.
///
/// # Errors
/// [`Failure::NotFound`] when there is none; what the engine answers.
pub fn existing(directory: &Path, followers: &Followers) -> Result<Database, Failure> {
    match Database::open(directory, options(false, followers)) {
        Err(Error::NotFound { .. }) => Err(no_database(directory)),
        opened => Ok(opened?),
    }
}

/// Opens a database, and creates it when the directory is absent or empty.
///
/// # Errors
/// [`Failure::Usage`] when the directory holds other things: a database is not spread out between somebody's files.
/// What the engine answers.
pub fn or_create(directory: &Path, followers: &Followers) -> Result<Database, Failure> {
    if holds_other_things(directory)? {
        return Err(Failure::Usage(format!(
            "{} is not empty and holds no logwood database; name an empty directory, or one that does not exist",
            directory.display()
        )));
    }
    Ok(Database::open(directory, options(true, followers))?)
}

/// Whether a directory has names in it, none of which is one that a database has. Folders of others are called `log` and
/// `pages`, too: they count where they are empty, or a file in them has a name as ours. A lock says nothing of what it
/// stands beside.
fn holds_other_things(directory: &Path) -> Result<bool, Failure> {
    let disk = Environment::system()?.disk;
    let list = |directory: &Path| match disk.list(directory) {
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        listed => listed,
    };
    let names = list(directory)?;
    for entry in &names {
        let is_ours = match entry.name.as_str() {
            "LINEAGE" | "ORIGIN" | "REPLICA" | "manifest" | "seed" => true,
            folder @ ("log" | "pages") if entry.is_dir => {
                let files = list(&directory.join(folder))?;
                let is_numbered =
                    |name: &str| name.len() > 20 && name.bytes().take(20).all(|byte| byte.is_ascii_digit());
                files.is_empty() || files.iter().any(|file| is_numbered(&file.name))
            }
            _ => false,
        };
        if is_ours {
            return Ok(false);
        }
    }
    Ok(names.iter().any(|entry| entry.name != "LOCK"))
}

/// A keyspace that exists.
///
/// # Errors
/// [`Failure::NotFound`] when there is none; what the engine answers.
pub fn keyspace(database: &Database, name: &str) -> Result<Keyspace, Failure> {
    keyspace_if_there(database, name)?.ok_or_else(|| {
        let name = escape(name.as_bytes());
        Failure::NotFound(format!("there is no keyspace '{name}'; `logwood keyspaces DIR` lists them"))
    })
}

/// A keyspace, if it exists: deleting what is absent is no failure.
///
/// # Errors
/// What the engine answers.
pub fn keyspace_if_there(database: &Database, name: &str) -> Result<Option<Keyspace>, Failure> {
    match database.keyspace(name) {
        Err(Error::NotFound { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// Closes a database that was written to.
///
/// When opening would have much of the log to replay, a checkpoint is written first, so that the commands that follow
/// a load start at once. It is a convenience: everything acknowledged is in the log, and a disk that is too full for
/// it is no failure of the command.
///
/// # Errors
/// What the engine answers.
pub fn close(database: &Database) -> Result<(), Failure> {
    if database.statistics().replay_bytes >= REPLAY_BYTES {
        let _waiting = Waiting::new("writing a checkpoint");
        match database.checkpoint() {
            Ok(_) | Err(Error::DiskFull { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(database.close()?)
}

fn options(create: bool, followers: &Followers) -> Options {
    let shown = Steps::default();
    // Transactions of any size that the format allows may stand in the log: `load --transaction` writes them.
    let options = Options::new().create(create).batch_bytes_max(1 << 30).progress(move |at| {
        let unit = if at.step == RecoveryStep::ScanLog { "bytes of log checked" } else { "entries replayed" };
        shown.at(at.step, unit, at.done, at.total);
    });
    // Where the follower's own bound is not known, the command takes nothing from it.
    followers.names.iter().fold(options, |options, name| options.follower(name, 0))
}
