//! What the commands take that look after a database, measure it and demonstrate it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Followers, keyspace_name};

/// `log`
#[derive(Args, Debug)]
pub struct Log {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only entries from this one on.
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// At most so many entries.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// `backup`
#[derive(Args, Debug)]
pub struct Backup {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The backup's directory.
    #[arg(value_name = "TO")]
    pub to: PathBuf,
    /// Copy every file, where links would do.
    #[arg(long)]
    pub copy: bool,
    /// Do not read the backup back.
    #[arg(long)]
    pub no_verify: bool,
    /// Replace a backup of a later state, or of another history of the database, too.
    #[arg(long)]
    pub replace_newer: bool,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `compact`
#[derive(Args, Debug)]
pub struct Compact {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// What `bench` does.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[expect(
    missing_docs,
    reason = "a comment here would be printed as help; the command explains the workloads"
)]
pub enum Workload {
    Fill,
    Read,
    Scan,
    Mixed,
    Durable,
}

/// `bench`
#[derive(Args, Debug)]
pub struct Bench {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// What to measure.
    #[arg(value_enum)]
    pub workload: Workload,
    /// The keyspace to work in.
    #[arg(long, value_name = "K", default_value = "bench", value_parser = keyspace_name)]
    pub keyspace: String,
    /// How many records the keyspace holds.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// How many operations are measured. By default: records / 1,000 for fill, which writes so many in a batch; records / 100 for
    /// scan, which reads so many; 10,000 for durable; as many as there are records for the others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: Option<u64>,
    /// Threads that work at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,
    /// Length of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 150, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub value_bytes: u64,
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
}

/// `demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// Where to work, a directory that is empty or does not exist; a temporary one by default.
    #[arg(long, value_name = "D")]
    pub dir: Option<PathBuf>,
    /// How many records.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub records: u64,
    /// Leave the files behind, to look at.
    #[arg(long)]
    pub keep: bool,
}
