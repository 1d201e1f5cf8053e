//! What the commands take that read and write records and keyspaces.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Access, Archived, Followers, Place, Range, Source, keyspace_name};

/// The formats that `load` reads.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "a comment here would be printed as help; the command explains the formats")]
pub enum FormatName {
    Tsv,
    Csv,
    Jsonl,
}

/// When a batch is acknowledged.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurabilityName {
    /// When it survives a power cut
    Durable,
    /// When it survives the end of the process
    Buffered,
}

/// `load`
#[derive(Args, Debug)]
pub struct Load {
    /// Where to load to.
    #[command(flatten)]
    pub place: Place,
    /// The file, or `-` for stdin.
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// What the file holds.
    #[arg(long, value_enum, default_value_t = FormatName::Tsv)]
    pub format: FormatName,
    /// The column or field that holds the key (csv and jsonl).
    #[arg(long, value_name = "FIELD")]
    pub key: Option<String>,
    /// Records in a batch, 1000 unless it is said; a batch is all there or not at all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch: Option<u64>,
    /// When a batch is acknowledged.
    #[arg(long, value_enum, default_value_t = DurabilityName::Durable)]
    pub durability: DurabilityName,
    /// Print `LSN TAB last key of the batch` as each batch is acknowledged.
    #[arg(long)]
    pub acks: bool,
    /// Count bad lines and go on.
    #[arg(long)]
    pub skip_bad: bool,
    /// Take a key that does not come behind the one before it for a bad line. Without --batch, 64 MiB at a time go straight
    /// to leaves.
    #[arg(long)]
    pub sorted: bool,
    /// Take every byte of a tsv file as it is.
    #[arg(long)]
    pub raw: bool,
    /// Load everything in one transaction: all of it is there in the end, or nothing. Any size in the order of the keys, else
    /// at most 16 GiB.
    #[arg(long, conflicts_with = "batch")]
    pub transaction: bool,
    /// Archive while loading, to file:///path or s3://bucket/prefix; it ends when all is archived.
    #[arg(long, value_name = "URL")]
    pub archive: Option<String>,
    /// How the archive is reached.
    #[command(flatten)]
    pub access: Access,
}

/// `get`
#[derive(Args, Debug)]
pub struct Get {
    /// The database's directory, unless there is --archive, and the key.
    #[arg(value_names = ["DIR", "KEY"], num_args = 1..=2, required = true)]
    pub words: Vec<OsString>,
    /// The keyspace.
    #[arg(long, value_name = "K", default_value = "default", value_parser = keyspace_name)]
    pub keyspace: String,
    /// Or an archive.
    #[command(flatten)]
    pub archived: Archived,
    /// Print the value's bytes as they are, without a line end.
    #[arg(long)]
    pub raw: bool,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `put`
#[derive(Args, Debug)]
pub struct Put {
    /// Where to write.
    #[command(flatten)]
    pub place: Place,
    /// The key.
    pub key: OsString,
    /// The value.
    #[arg(allow_hyphen_values = true)]
    pub value: OsString,
}

/// `delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// Where to write.
    #[command(flatten)]
    pub place: Place,
    /// The key.
    pub key: OsString,
}

/// `scan`
#[derive(Args, Debug)]
pub struct Scan {
    /// Where to read.
    #[command(flatten)]
    pub source: Source,
    /// Which keys.
    #[command(flatten)]
    pub range: Range,
    /// From the last key to the first.
    #[arg(long)]
    pub reverse: bool,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print the keys alone.
    #[arg(long)]
    pub keys: bool,
}

/// `count` and `digest`
#[derive(Args, Debug)]
pub struct Count {
    /// Where to read.
    #[command(flatten)]
    pub source: Source,
    /// Which keys.
    #[command(flatten)]
    pub range: Range,
}

/// `keyspaces`
#[derive(Args, Debug)]
pub struct Keyspaces {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Create a keyspace, unless it is there.
    #[arg(long, value_name = "K", conflicts_with = "drop", value_parser = keyspace_name)]
    pub create: Option<String>,
    /// Drop a keyspace and everything in it, if it is there.
    #[arg(long, value_name = "K", value_parser = keyspace_name)]
    pub drop: Option<String>,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `changes`
#[derive(Args, Debug)]
pub struct Changes {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only commits from this one on; the oldest that the log has by default.
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// At most so many commits.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `delete-range`
#[derive(Args, Debug)]
pub struct DeleteRange {
    /// Where to write.
    #[command(flatten)]
    pub place: Place,
    /// Which keys; at least one bound.
    #[command(flatten)]
    pub range: Range,
    /// Delete everything, when no bound is given.
    #[arg(long, conflicts_with_all = ["from", "to", "prefix"])]
    pub all: bool,
}

/// `sizes`
#[derive(Args, Debug)]
pub struct Sizes {
    /// Where to read.
    #[command(flatten)]
    pub place: Place,
    /// Which keys.
    #[command(flatten)]
    pub range: Range,
    /// Into how many parts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub parts: u64,
}
