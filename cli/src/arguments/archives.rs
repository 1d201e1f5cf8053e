//! What the commands take that archive, restore, and read from an archive.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Followers, keyspace_name};

/// An archive, and how its store is reached.
#[derive(Args, Debug)]
pub struct Access {
    /// The S3 server, when it is not Amazon's. Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Trust the authorities whose certificates this file holds, in PEM form, besides the system's: for a server of your
    /// own. Default: AWS_CA_BUNDLE.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How long one request may take before it is tried again: a number and s, m or h. Default: 30s.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

impl Access {
    /// The first option that is given and means nothing without an archive.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--endpoint", self.endpoint.is_some()),
            ("--ca-file", self.ca_file.is_some()),
            ("--timeout", self.timeout.is_some()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }
}

/// A point in the history of an archived database.
#[derive(Args, Debug)]
pub struct At {
    /// Everything up to this entry.
    #[arg(long, value_name = "N", conflicts_with = "time")]
    pub lsn: Option<u64>,
    /// Everything committed up to this time: 2026-01-31T23:59:59Z.
    #[arg(long, value_name = "RFC3339")]
    pub time: Option<String>,
    /// The history, when it is not the latest; `archive-status` lists them.
    #[arg(long, value_name = "ID")]
    pub lineage: Option<String>,
}

/// What is read in the place of a database's directory.
#[derive(Args, Debug)]
pub struct Archived {
    /// Read from an archive, file:///path or s3://bucket/prefix, in the place of DIR.
    #[arg(long, value_name = "URL")]
    pub archive: Option<String>,
    /// Which point of it.
    #[command(flatten)]
    pub at: At,
    /// How it is reached.
    #[command(flatten)]
    pub access: Access,
    /// Keep what is fetched here, at most 4 GiB, for later commands; by default it is thrown away.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

impl Archived {
    /// The first option that is given and means nothing without an archive. Asked by hand, for `clap` requires no argument of
    /// which it knows a conflict with another one that is there, as DIR is.
    #[must_use]
    pub fn of_archive_alone(&self) -> Option<&'static str> {
        let given = [
            ("--lsn", self.at.lsn.is_some()),
            ("--time", self.at.time.is_some()),
            ("--lineage", self.at.lineage.is_some()),
            ("--cache", self.cache.is_some()),
        ];
        let given = given.into_iter().find_map(|(option, is_given)| is_given.then_some(option));
        given.or_else(|| self.access.given())
    }
}

/// A database or an archive, and a keyspace in it.
#[derive(Args, Debug)]
pub struct Source {
    /// The database's directory.
    #[arg(value_name = "DIR", required_unless_present = "archive", conflicts_with = "archive")]
    pub directory: Option<PathBuf>,
    /// The keyspace.
    #[arg(long, value_name = "K", default_value = "default", value_parser = keyspace_name)]
    pub keyspace: String,
    /// Or an archive.
    #[command(flatten)]
    pub archived: Archived,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `archive`
#[derive(Args, Debug)]
pub struct Archive {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The archive: file:///path or s3://bucket/prefix.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Take a snapshot, read every page segment of it that is in the archive already, and put anew what is damaged there.
    #[arg(long)]
    pub verify: bool,
    /// How it is reached.
    #[command(flatten)]
    pub access: Access,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `archive-status`
#[derive(Args, Debug)]
pub struct ArchiveStatus {
    /// The archive: file:///path or s3://bucket/prefix.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Read and prove every byte that any point needs: the whole archived log, and every page segment.
    #[arg(long)]
    pub verify: bool,
    /// How it is reached.
    #[command(flatten)]
    pub access: Access,
}

/// `retention`
#[derive(Args, Debug)]
pub struct Retention {
    /// The archive: file:///path or s3://bucket/prefix.
    #[arg(value_name = "URL")]
    pub url: String,
    /// How far back every point stays restorable: a number and s, m, h or d.
    #[arg(long, value_name = "DURATION")]
    pub keep: String,
    /// Only print what would be deleted.
    #[arg(long)]
    pub dry_run: bool,
    /// How the archive is reached.
    #[command(flatten)]
    pub access: Access,
}

/// `restore`
#[derive(Args, Debug)]
pub struct Restore {
    /// The archive: file:///path or s3://bucket/prefix.
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Where to: a directory that is empty or does not exist.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Which point.
    #[command(flatten)]
    pub at: At,
    /// This keyspace alone, as a new database.
    #[arg(long, value_name = "K", value_parser = keyspace_name)]
    pub keyspace: Option<String>,
    /// Only keys from here on; needs --keyspace.
    #[arg(long, value_name = "A", requires = "keyspace", allow_hyphen_values = true)]
    pub from_key: Option<OsString>,
    /// Only keys before this one; needs --keyspace.
    #[arg(long, value_name = "B", requires = "keyspace", allow_hyphen_values = true)]
    pub to_key: Option<OsString>,
    /// How the archive is reached.
    #[command(flatten)]
    pub access: Access,
    /// Believe the hashes: neither read back what was written, nor sum up its records.
    #[arg(long)]
    pub no_verify: bool,
}
