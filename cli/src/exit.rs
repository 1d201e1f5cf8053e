//! The exit codes, which scripts depend on, and the one place where errors become them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; also: deleting what is absent, a closed pipe, a torn tail |
//! | 1 | not found: the key, keyspace, database or file that was asked for; a step of the demo failed |
//! | 2 | damage found |
//! | 3 | unavailable: locked, disk full, I/O error, unsupported format |
//! | 64 | wrong usage |
//! | 65 | bad input |
//!
//! A command answers a [`Failure`]; [`Failure::report`] prints it as one line on stderr and [`Failure::exit`] gives
//! its code.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use logwood_base::{ArchiveDamage, Corruption, Error};

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// What was asked for is not there.
    NotFound = 1,
    /// Bytes at rest are not what was written.
    Damage = 2,
    /// The database cannot be used now, or not by this program.
    Unavailable = 3,
    /// The command line makes no sense.
    Usage = 64,
    /// The input makes no sense.
    BadInput = 65,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was told to.
#[derive(Debug)]
pub enum Failure {
    /// The engine refused or failed.
    Engine(Error),
    /// What was asked for is not there.
    NotFound(String),
    /// The command line makes no sense.
    Usage(String),
    /// The input makes no sense.
    BadInput(String),
    /// A file or stream that is no part of a database failed.
    Stream {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody reads stdout any more, which ends the program in peace.
    ClosedPipe,
    /// What there is to say has been printed already.
    Reported(Exit),
}

impl Failure {
    /// A failure of a stream other than stdout.
    #[must_use]
    pub fn stream(name: impl Into<String>, source: io::Error) -> Self {
        Self::Stream { name: name.into(), source }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Engine(error) => exit_of(error),
            Self::NotFound(_) => Exit::NotFound,
            Self::Usage(_) => Exit::Usage,
            Self::BadInput(_) => Exit::BadInput,
            Self::Stream { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Self::Stream { .. } => Exit::Unavailable,
            Self::ClosedPipe => Exit::Done,
            Self::Reported(exit) => *exit,
        }
    }

    /// What happened and what to do about it, on one line.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Engine(error) => match error.corruption() {
                Some(corruption) => format!("damage: {}", DamageLine(corruption)),
                None => match error {
                    Error::ArchiveCorrupt(damage) => format!("damage: {}", ArchiveDamageLine(damage)),
                    other => format!("{other}{}", advice(other)),
                },
            },
            Self::NotFound(what) | Self::Usage(what) | Self::BadInput(what) => what.clone(),
            Self::Stream { name, source } => format!("{name}: {source}"),
            Self::ClosedPipe => "nobody reads stdout any more".to_owned(),
            Self::Reported(exit) => format!("ended with {}", *exit as u8),
        }
    }

    /// Prints the message on stderr, unless there is nothing more to say.
    pub fn report(&self) {
        if !matches!(self, Self::ClosedPipe | Self::Reported(_)) {
            complain(&self.message());
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Prints a line on stderr. That nobody may be reading it is no reason to fail.
pub fn complain(line: &str) {
    // Line ends inside a message (a file name may hold one) must not make two lines of it.
    let _ = writeln!(io::stderr(), "logwood: {}", line.replace(['\n', '\r'], " "));
}

/// The exit code of an error of the engine.
fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Corruption(_) | Error::ArchiveCorrupt(_) => Exit::Damage,
        Error::Poisoned { cause } => exit_of(cause),
        Error::NotFound { .. } | Error::TooOld { .. } => Exit::NotFound,
        Error::InvalidArgument(_) | Error::AlreadyExists { .. } => Exit::Usage,
        Error::LimitExceeded { .. } | Error::Source { .. } => Exit::BadInput,
        // Locked, disk full, I/O error, unsupported format; and whatever a later engine adds.
        _ => Exit::Unavailable,
    }
}

/// What to do, for the errors about which the user can do something.
fn advice(error: &Error) -> &'static str {
    match error {
        Error::AlreadyOpen { .. } => ": another process uses it; wait for it to end, or stop it",
        Error::DiskFull { .. } => "; free some space and run this again",
        Error::UnsupportedFormat { .. } => "; use a newer logwood",
        Error::Internal(_) => "; this is a bug in logwood, please report it",
        _ => "",
    }
}

/// Damage as one line: file, offset, what, key range, between TABs.
pub struct DamageLine<'a>(pub &'a Corruption);

impl fmt::Display for DamageLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { path, offset, check, expected, found, affects } = self.0;
        let affects = affects.as_deref().unwrap_or("-");
        write!(f, "{}\t{offset}\t{check}: expected {expected}, found {found}\t{affects}", path.display())
    }
}

/// Damage in an archive as one line: object, offset, what, entries, between TABs.
pub struct ArchiveDamageLine<'a>(pub &'a ArchiveDamage);

impl fmt::Display for ArchiveDamageLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArchiveDamage { key, check, expected, found, lsns } = self.0;
        write!(f, "{key}\t0\t{check}: expected {expected}, found {found}\t")?;
        match lsns {
            Some((first, last)) => write!(f, "lsn {first} to {last}"),
            None => f.write_str("-"),
        }
    }
}

/// The failure of a directory that holds no database.
#[must_use]
pub fn no_database(directory: &std::path::Path) -> Failure {
    let directory: PathBuf = directory.to_owned();
    Failure::NotFound(format!(
        "{} holds no logwood database; `load` or `put` creates one",
        directory.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use logwood_base::{FormatVersion, Lsn};

    use super::*;

    #[test]
    fn every_error_has_the_code_that_scripts_expect() {
        let io = |kind: io::ErrorKind| Error::io("write", Path::new("f"), kind.into());
        let damage = Error::from(Corruption::new(Path::new("f"), 1, "c", 1, 2));
        let newer = Error::UnsupportedFormat {
            path: "f".into(),
            needed: FormatVersion(9),
            supported: FormatVersion(1),
        };
        let cases = [
            (damage.clone(), 2),
            (damage.poison(), 2),
            (Error::AlreadyOpen { path: "d".into() }, 3),
            (io(io::ErrorKind::StorageFull), 3),
            (io(io::ErrorKind::PermissionDenied), 3),
            (io(io::ErrorKind::StorageFull).poison(), 3),
            (newer, 3),
            (Error::Closed, 3),
            (Error::Internal("bug".into()), 3),
            (Error::Replaced("entries".into()), 3),
            (io(io::ErrorKind::NotFound), 1),
            (Error::NotFound { what: "keyspace", name: "k".into() }, 1),
            (Error::TooOld { what: "entry", asked: Lsn(1), oldest: Lsn(2) }, 1),
            (Error::InvalidArgument("name".into()), 64),
            (Error::LimitExceeded { what: "key bytes", found: 2, limit: 1 }, 65),
            (
                Error::Source { read: 1, expected: 2, source: Arc::new(io::ErrorKind::UnexpectedEof.into()) },
                65,
            ),
        ];
        for (error, code) in cases {
            let text = error.to_string();
            assert_eq!(Failure::from(error).exit() as u8, code, "{text}");
        }
        assert_eq!(Failure::ClosedPipe.exit(), Exit::Done);
        assert_eq!(Failure::stream("f", io::ErrorKind::NotFound.into()).exit(), Exit::NotFound);
        assert_eq!(Failure::stream("f", io::ErrorKind::IsADirectory.into()).exit(), Exit::Unavailable);
    }

    #[test]
    fn damage_is_one_line_of_four_columns() {
        let damage = Corruption::new(Path::new("d/log/1"), 4096, "batch checksum", 1, 2);
        let line = DamageLine(&damage).to_string();
        assert_eq!(line, "d/log/1\t4096\tbatch checksum: expected 1, found 2\t-");
    }
}
