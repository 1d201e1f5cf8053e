//! Errors, sorted by what the reader must do about them.
//!
//! | variant | what to do |
//! |---|---|
//! | [`Error::InvalidArgument`], [`Error::LimitExceeded`] | mend the call; nothing was changed |
//! | [`Error::Source`] | mend what the value is read from; nothing was changed |
//! | [`Error::AlreadyOpen`] | close the other user of the directory |
//! | [`Error::WrongKind`] | open the directory as what it is, or ask a replica that holds what was asked for |
//! | [`Error::NotFound`], [`Error::AlreadyExists`] | the named thing is not, or is already, there |
//! | [`Error::Conflict`] | run the transaction again; the conflict names what it read and another one changed |
//! | [`Error::Replaced`] | what was handed out does not stand any more: read it anew |
//! | [`Error::TooOld`] | what was asked for has been let go; start from the named place |
//! | [`Error::DiskFull`] | free space; writes resume by themselves |
//! | [`Error::Io`] | the device or file system failed; see its source |
//! | [`Error::Poisoned`] | a write or sync failed earlier; reopen |
//! | [`Error::Closed`] | the handle was closed |
//! | [`Error::Corruption`] | damage: restore or heal what the evidence names |
//! | [`Error::UnsupportedFormat`] | written by a newer version: upgrade |
//! | [`Error::ArchiveUnavailable`] | the object store did not answer as it should: see the cause; work resumes by itself |
//! | [`Error::ArchiveCorrupt`] | damage in the archive: what it names cannot be restored from there |
//! | [`Error::ArchiveBehind`] | the archive is too far behind to take more writes; they resume when it catches up |
//! | [`Error::Fenced`] | somebody else archives another history under this name: find out who, then begin a new lineage |
//! | [`Error::Internal`] | a bug in logwood: report it |
//!
//! Errors are cheap to clone, because one failed sync answers many waiting writers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::numbering::{FormatVersion, Lsn};

mod conflict;

pub use conflict::{Changed, Conflict};

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the reader must do. See the [module](self) for the table.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is outside what the call documents. Nothing was changed.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),

    /// A documented limit would be passed. Nothing was changed.
    #[error("{what} is {found}, more than the limit of {limit}")]
    LimitExceeded {
        /// What is limited, in words: `key bytes`, `keyspaces`.
        what: &'static str,
        /// The size that was asked for.
        found: u64,
        /// The greatest size allowed.
        limit: u64,
    },

    /// What a value was to be read from failed, or ended before the value did. Nothing was changed.
    #[error("a value of {expected} bytes could be read up to byte {read}: {source}")]
    Source {
        /// Bytes that came.
        read: u64,
        /// Length of the value.
        expected: u64,
        /// What the source answered; [`io::ErrorKind::UnexpectedEof`] when it ended.
        source: Arc<io::Error>,
    },

    /// Another handle, in this process or another one, has the directory open for writing.
    #[error("{} is already open", path.display())]
    AlreadyOpen {
        /// The directory.
        path: PathBuf,
    },

    /// The directory holds something else than what was asked for: a log without trees has no data to read.
    #[error("{} holds {holds}, not {wanted}", path.display())]
    WrongKind {
        /// The directory.
        path: PathBuf,
        /// What it holds, in words.
        holds: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },

    /// The named thing does not exist.
    #[error("{what} {name} does not exist")]
    NotFound {
        /// What kind of thing: `file`, `keyspace`, `group`.
        what: &'static str,
        /// Its name.
        name: String,
    },

    /// The named thing exists already.
    #[error("{what} {name} exists already")]
    AlreadyExists {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },

    /// A transaction read what a commit has changed since. Nothing of it was written. Run it again.
    #[error("{0}")]
    Conflict(Box<Conflict>),

    /// Entries that were handed out do not stand any more: others have their LSNs, or will have.
    #[error("replaced: {0}")]
    Replaced(String),

    /// What was asked for has been let go.
    #[error("{what} {asked} has been let go; the oldest kept is {oldest}")]
    TooOld {
        /// What kind of thing: `entry`, `snapshot`.
        what: &'static str,
        /// What was asked for.
        asked: Lsn,
        /// The oldest one still kept.
        oldest: Lsn,
    },

    /// The disk has no room. Reads go on; writes resume once space is free.
    #[error("no space left: {operation} of {}", path.display())]
    DiskFull {
        /// What was being done: `write`, `allocate`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
    },

    /// The operating system answered with an error.
    #[error("{operation} of {} failed: {source}", path.display())]
    Io {
        /// What was being done: `write`, `sync`, `open`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },

    /// An earlier write or sync failed, so nothing more is promised. Every write answers this until reopening.
    #[error("stopped after an earlier failure: {cause}")]
    Poisoned {
        /// The failure that stopped it.
        cause: Arc<Error>,
    },

    /// The handle was closed.
    #[error("closed")]
    Closed,

    /// Bytes at rest are not what was written.
    #[error("{0}")]
    Corruption(Box<Corruption>),

    /// A file was written by a version that this one cannot read. It is not damaged.
    #[error("{} needs format version {needed}; this program reads up to {supported}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The version needed to read it.
        needed: FormatVersion,
        /// The greatest version that this program reads.
        supported: FormatVersion,
    },

    /// The object store could not be reached, or refused, after all attempts. Nothing is known to be lost.
    #[error("archive: {operation} of {key} failed: {cause}")]
    ArchiveUnavailable {
        /// What was being done: `put`, `get`, `list`, `delete`.
        operation: &'static str,
        /// The object, or the prefix that was listed.
        key: String,
        /// What the store or the network answered, without anything secret.
        cause: String,
    },

    /// An object in the archive is missing, or is not what was put there.
    #[error("{0}")]
    ArchiveCorrupt(Box<ArchiveDamage>),

    /// More of the log waits to be archived than the option allows. Nothing was changed; writes resume when the archive
    /// has caught up.
    #[error("{backlog} bytes of log wait to be archived, more than the bound of {limit}")]
    ArchiveBehind {
        /// Bytes of entries that are not archived yet.
        backlog: u64,
        /// The bound.
        limit: u64,
    },

    /// The chain in the archive holds other entries than the log here: somebody else writes another history under the
    /// same name. This archiver writes nothing more.
    #[error("another history stands in the archive at {key}: {reason}")]
    Fenced {
        /// The object that shows it.
        key: String,
        /// What differs.
        reason: String,
    },

    /// An invariant of logwood does not hold. This is a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Sorts an operating system's answer into [`Error::DiskFull`], [`Error::NotFound`],
    /// [`Error::AlreadyExists`] or [`Error::Io`].
    #[must_use]
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { operation, path: path.to_owned() }
            }
            io::ErrorKind::NotFound => Self::NotFound { what: "file", name: path.display().to_string() },
            io::ErrorKind::AlreadyExists => {
                Self::AlreadyExists { what: "file", name: path.display().to_string() }
            }
            _ => Self::Io { operation, path: path.to_owned(), source: Arc::new(source) },
        }
    }

    /// The error of every call after `self` stopped the log or the database. Poison is not wrapped in poison.
    #[must_use]
    pub fn poison(&self) -> Self {
        match self {
            Self::Poisoned { .. } => self.clone(),
            cause => Self::Poisoned { cause: Arc::new(cause.clone()) },
        }
    }

    /// What a device that does not give its bytes back (EIO) is to whoever verifies, and something that is no file in the
    /// place of one: damage at this place. `None` for every other error.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use logwood_base::Error;
    ///
    /// let failed = Error::io("read", Path::new("pages/1"), std::io::Error::from_raw_os_error(5));
    /// assert_eq!(failed.unreadable(4096).map(|damage| damage.offset), Some(4096));
    /// let refused = Error::io("open", Path::new("pages/1"), std::io::Error::from_raw_os_error(13));
    /// assert!(refused.unreadable(0).is_none());
    /// ```
    #[must_use]
    pub fn unreadable(&self, offset: u64) -> Option<Corruption> {
        const EIO: i32 = 5;
        // A directory or a pipe in the place of a file.
        let is_no_file = |source: &io::Error| match source.kind() {
            io::ErrorKind::IsADirectory => true,
            // The disk's own word, and no system call's.
            io::ErrorKind::InvalidInput => source.raw_os_error().is_none(),
            _ => false,
        };
        match self {
            Self::Io { path, source, .. } if source.raw_os_error() == Some(EIO) || is_no_file(source) => {
                Some(Corruption::new(path, offset, Corruption::UNREADABLE, "what was written", source))
            }
            _ => None,
        }
    }

    /// The evidence, when this is damage; also when damage was what stopped the database.
    #[must_use]
    pub fn corruption(&self) -> Option<&Corruption> {
        match self {
            Self::Corruption(corruption) => Some(corruption),
            Self::Poisoned { cause } => cause.corruption(),
            _ => None,
        }
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Self::Corruption(Box::new(corruption))
    }
}

/// The evidence of damage: which bytes, which check, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The check that failed: `batch checksum`, `segment chain`, `page checksum`.
    pub check: &'static str,
    /// What the check expected.
    pub expected: String,
    /// What it found.
    pub found: String,
    /// What the damage takes away, when known: LSNs, or a keyspace and key range.
    pub affects: Option<String>,
}

impl Corruption {
    /// The check that failed where the device did not give its bytes back: see [`Error::unreadable`].
    pub const UNREADABLE: &'static str = "bytes can be read";

    /// Evidence that `check` failed at `offset` of `path`.
    #[must_use]
    pub fn new(
        path: &Path,
        offset: u64,
        check: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            check,
            expected: expected.to_string(),
            found: found.to_string(),
            affects: None,
        }
    }

    /// Adds what the damage takes away.
    #[must_use]
    pub fn affecting(mut self, affects: impl fmt::Display) -> Self {
        self.affects = Some(affects.to_string());
        self
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "damage in {} at offset {}: {}: expected {}, found {}",
            self.path.display(),
            self.offset,
            self.check,
            self.expected,
            self.found
        )?;
        match &self.affects {
            Some(affects) => write!(f, "; affects {affects}"),
            None => Ok(()),
        }
    }
}

/// The evidence of damage in an archive: which object, which check, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveDamage {
    /// The object's key, behind the archive's prefix.
    pub key: String,
    /// The check that failed: `object hash`, `chain`, `entries hash`.
    pub check: &'static str,
    /// What the check expected.
    pub expected: String,
    /// What it found.
    pub found: String,
    /// The first and the last entry that it takes away, when known.
    pub lsns: Option<(Lsn, Lsn)>,
}

impl ArchiveDamage {
    /// Evidence that `check` failed for the object at `key`.
    #[must_use]
    pub fn new(
        key: &str,
        check: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self { key: key.to_owned(), check, expected, found, lsns: None }
    }

    /// Adds the entries that it takes away.
    #[must_use]
    pub fn taking(mut self, first: Lsn, last: Lsn) -> Self {
        self.lsns = Some((first, last));
        self
    }
}

impl From<ArchiveDamage> for Error {
    fn from(damage: ArchiveDamage) -> Self {
        Self::ArchiveCorrupt(Box::new(damage))
    }
}

impl fmt::Display for ArchiveDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, check, expected, found, lsns } = self;
        write!(f, "damage in archive object {key}: {check}: expected {expected}, found {found}")?;
        match lsns {
            Some((first, last)) => write!(f, "; affects lsn {first} to {last}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_its_kind_and_not_by_words() {
        let full = io::Error::from_raw_os_error(28);
        assert!(matches!(Error::io("write", Path::new("x"), full), Error::DiskFull { .. }));
    }

    #[test]
    fn poison_is_wrapped_once() {
        let poisoned = Error::Closed.poison();
        assert_eq!(poisoned.poison().to_string(), poisoned.to_string());
    }

    #[test]
    fn evidence_stands_on_one_line() {
        let evidence =
            Corruption::new(Path::new("log/1"), 4096, "batch checksum", "12", "13").affecting("lsn 7");
        let line = Error::from(evidence).to_string();
        assert_eq!(
            line,
            "damage in log/1 at offset 4096: batch checksum: expected 12, found 13; affects lsn 7"
        );
    }
}
