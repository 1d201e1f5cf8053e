//! What a directory holds, and who may open it.
//!
//! ```text
//! DIR/LOCK        held by the one process that has the directory open for writing
//! DIR/log/        the log's segments
//! DIR/REPLICA     empty; a log replica was made here, and its log and group were durable before this name was
//! DIR/manifest/   manifests of the trees  ┐ a database; a log replica has neither
//! DIR/pages/      page segments           ┘
//! DIR/seed/       a database in the making, by a backup or a restore ([`crate::seed`])
//! DIR/ORIGIN      what the directory is a copy of, until it is opened for writing
//! DIR/LINEAGE     which history the directory writes to its archive, once it has one
//! ```
//!
//! `manifest/` is created, durably, before `log/`: so a crash at any moment leaves a directory whose kind is known.
//!
//! # A log replica that lost its log
//! An empty `log/` is what a creation leaves that was cut off, and what somebody leaves who deleted the segments: to begin
//! anew is right in the one case, and forgets votes in the other. `REPLICA` tells them apart. Creation, in order: `log/`,
//! the log, its group, each durable; then `REPLICA`, and only then is anything answered. *Found without it: nothing was
//! promised, and creation goes on where it stopped. Found with it, and no log: corruption.* Directories of before have
//! no such file: where the log has its group, the next opening makes it.

use std::path::{Path, PathBuf};

use logwood_base::{Corruption, Disk, Error, Result};

use crate::seed::settle::{COMMIT_NAME, SEED_NAME};

/// The file that a directory's lock is taken on.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// The file that says that a log replica was made here.
pub(crate) const REPLICA_NAME: &str = "REPLICA";

/// The file that says which history the directory writes to its archive.
pub(crate) const LINEAGE_NAME: &str = "LINEAGE";

/// What it begins with.
pub(crate) const LINEAGE_MAGIC: &[u8; 8] = b"lwlineag";

/// Its name while it is written.
pub(crate) const LINEAGE_NEW_NAME: &str = "LINEAGE.new";

/// Digits of a number that files of segments are called by.
const DIGITS: usize = 20;

/// The folders of a directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

/// What a directory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing of ours yet.
    Empty,
    /// Log and trees.
    Database,
    /// A log without trees.
    LogOnly,
    /// A copy that was not finished, or one that the next writable open finishes.
    Unfinished,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join("manifest")
    }

    pub(crate) fn pages(&self) -> PathBuf {
        self.root.join("pages")
    }

    pub(crate) fn seed(&self) -> PathBuf {
        self.root.join(SEED_NAME)
    }

    /// Looks at the names in the directory.
    pub(crate) fn kind(&self, disk: &dyn Disk) -> Result<Kind> {
        let names = disk.list(&self.root)?;
        let has = |name: &str| names.iter().any(|entry| entry.is_dir && entry.name == name);
        if has(SEED_NAME) {
            let seed = disk.list(&self.seed())?;
            let is_committed = seed.iter().any(|entry| entry.name == COMMIT_NAME);
            if is_committed || !Self::has_files(disk, &self.manifest())? {
                return Ok(Kind::Unfinished);
            }
        }
        let is_replica = names.iter().any(|entry| entry.name == REPLICA_NAME);
        let has_ours = |name: &str| Ok::<_, Error>(has(name) && Self::is_ours(disk, &self.root.join(name))?);
        Ok(match (has("manifest") || has_ours("pages")?, is_replica || has_ours("log")?) {
            (true, _) => Kind::Database,
            (false, true) => Kind::LogOnly,
            (false, false) => Kind::Empty,
        })
    }

    /// Whether a folder is empty but for a lock, or has a file with a number for its name in it: folders of others are
    /// called `log` and `pages`, too.
    fn is_ours(disk: &dyn Disk, folder: &Path) -> Result<bool> {
        let names = disk.list(folder)?;
        let is_numbered =
            |name: &str| name.len() > DIGITS && name.bytes().take(DIGITS).all(|byte| byte.is_ascii_digit());
        let mut others = names.iter().filter(|entry| entry.name != LOCK_NAME).peekable();
        Ok(others.peek().is_none() || others.any(|entry| is_numbered(&entry.name)))
    }

    /// Whether a folder exists and holds a file of ours. A lock is none.
    pub(crate) fn has_files(disk: &dyn Disk, folder: &Path) -> Result<bool> {
        match disk.list(folder) {
            Ok(names) => Ok(names.iter().any(|entry| entry.name != LOCK_NAME)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a log replica was ever made here.
    pub(crate) fn is_replica(&self, disk: &dyn Disk) -> Result<bool> {
        Ok(disk.list(&self.root)?.iter().any(|entry| entry.name == REPLICA_NAME))
    }

    /// Says so, durably. The log and its group are durable.
    pub(crate) fn mark_replica(&self, disk: &dyn Disk) -> Result<()> {
        disk.create(&self.root.join(REPLICA_NAME))?.sync()?;
        disk.sync_dir(&self.root)
    }

    /// Names the log that a replica had: `error` is what looking for it answered.
    pub(crate) fn missed_replica(&self, disk: &dyn Disk, error: Error) -> Error {
        match (&error, self.is_replica(disk)) {
            (Error::NotFound { .. }, Ok(true)) => {
                Corruption::new(&self.log(), 0, "log segments", "at least one", "none").into()
            }
            _ => error,
        }
    }

    /// Refuses a directory that holds something else than `wanted`.
    pub(crate) fn check(&self, found: Kind, wanted: Kind) -> Result<()> {
        if found == wanted || found == Kind::Empty {
            return Ok(());
        }
        Err(Error::WrongKind { path: self.root.clone(), holds: found.words(), wanted: wanted.words() })
    }
}

impl Kind {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Database => "a database",
            Self::LogOnly => "a log without trees",
            Self::Unfinished => "a backup or restore that was not finished",
        }
    }
}
