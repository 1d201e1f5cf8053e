//! What a directory holds, and who may open it.
//!
//! ```text
//! DIR/LOCK        held by the one process that has the directory open for writing
//! DIR/log/        the log's segments
//! DIR/manifest/   manifests of the trees  ┐ a database; a log replica has neither
//! DIR/pages/      page segments           ┘
//! DIR/seed/       a database in the making, by a backup or a restore ([`crate::seed`])
//! DIR/ORIGIN      what the directory is a copy of, until it is opened for writing
//! ```
//!
//! `manifest/` is created, durably, before `log/`: so a crash at any moment leaves a directory whose kind is known.

use std::path::{Path, PathBuf};

use logwood_base::{Disk, Error, Result};

use crate::seed::settle::{COMMIT_NAME, SEED_NAME};

/// The file that a directory's lock is taken on.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// The file that says which history the directory writes to its archive.
pub(crate) const LINEAGE_NAME: &str = "LINEAGE";

/// Its name while it is written.
pub(crate) const LINEAGE_NEW_NAME: &str = "LINEAGE.new";

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
        Ok(match (has("manifest") || has("pages"), has("log")) {
            (true, _) => Kind::Database,
            (false, true) => Kind::LogOnly,
            (false, false) => Kind::Empty,
        })
    }

    /// Whether a folder exists and holds a file of ours. A lock is none.
    pub(crate) fn has_files(disk: &dyn Disk, folder: &Path) -> Result<bool> {
        match disk.list(folder) {
            Ok(names) => Ok(names.iter().any(|entry| entry.name != LOCK_NAME)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
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
