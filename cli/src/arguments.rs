//! The command line: what there is, what it is called, and what it says about itself.
//!
//! The names and meanings here are a contract that scripts use. Parsing only reads words; what they mean for a
//! database is the commands' business. Wrong usage ends the program with 64, asking for help or the version with 0.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use logwood_base::limits::KEYSPACE_NAME_BYTES_MAX;

use crate::escape;

const EXAMPLES: &str = "\
Examples:
  logwood demo                                   see everything below happen, with a crash in the middle
  logwood put db greeting 'hello'                create the database `db` and store a record, durably
  logwood get db greeting
  printf 'a\\t1\\nb\\t2\\n' | logwood load db         load tab-separated records from a pipe
  logwood load db people.jsonl --format jsonl --key email
  logwood scan db --prefix a --limit 10
  logwood verify db                              read every byte of every file
  logwood backup db /backups/db                  copy it while nobody else has it open

Keys and values are printed with bytes outside printable ASCII, and the backslash, as \\xNN,
and are read in the same form.

Exit codes: 0 done, 1 not found, 2 damage found, 3 unavailable (locked, disk full, I/O error,
unsupported format), 64 wrong usage, 65 bad input.";

/// Load, read, verify and demonstrate logwood databases.
///
/// A database is a directory. Commands that write create it when it is not there; one process at a time can have it
/// open, except for `stat`, `verify` and `log`, which change nothing.
#[derive(Parser, Debug)]
#[command(name = "logwood", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    /// Print one JSON object a line instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Load records from a file or stdin.
    #[command(after_help = "\
Formats:
  tsv    key TAB value; \\xNN stands for a byte, other backslashes for themselves
  csv    with a header; the column named by --key is the key, the whole record the value
  jsonl  one object a line; the field named by --key is the key, the whole line the value

Examples:
  logwood load db records.tsv
  logwood load db packages.jsonl --format jsonl --key Package
  logwood scan db | logwood load copy -

A bad line is named by its number and ends the load with 65; everything before it is kept.")]
    Load(Load),
    /// Print a record's value.
    Get(Get),
    /// Store a record, durably.
    #[command(after_help = "Example:\n  logwood put db 'caf\\xc3\\xa9' 'open'")]
    Put(Put),
    /// Delete a record, durably. Deleting what is absent is done already.
    Delete(Delete),
    /// Print records in the order of their keys, as `key TAB value`.
    #[command(after_help = "\
Examples:
  logwood scan db --from a --to b
  logwood scan db --prefix user/ --keys --reverse --limit 1")]
    Scan(Scan),
    /// Count records, without reading them.
    Count(Count),
    /// Print `LSN TAB digest`: the same for the same records, wherever they are.
    Digest(Count),
    /// List, create or drop keyspaces.
    Keyspaces(Keyspaces),
    /// Show what a database holds and what it takes on disk. Changes nothing.
    Stat(Directory),
    /// Read every byte of every file and name what is damaged. Changes nothing.
    #[command(after_help = "\
Damage is printed one line each, `file TAB offset TAB what TAB key range`, and ends with 2.
A torn tail, which a crash leaves and no acknowledged write is in, is reported and ends with 0.")]
    Verify(Directory),
    /// Print the entries of the log, one a line. Changes nothing.
    Log(Log),
    /// Rewrite the pages densely and give the space back.
    Compact(Directory),
    /// Copy a database into a directory that opens by itself, and read the copy back.
    #[command(after_help = "\
TO is a new or empty directory, or an earlier backup of the same database that was never opened: then
only what is new is added, and whatever happens it is the earlier backup or this one.
`stat` looks at a backup without opening it; any command that opens it makes it a database of its own.

Examples:
  logwood backup db /backups/db
  logwood backup db /backups/db --copy           share no bytes with the database, not even on one disk")]
    Backup(Backup),
    /// Print what every commit changed, in order, one change a line.
    #[command(after_help = "\
Prints `LSN TAB time TAB keyspace TAB kind TAB key TAB value`; the kinds are put, delete, delete-range,
create-keyspace and drop-keyspace. A large transaction stands at the LSN of its commit.
Ends with 1 when the log let go of what --from asks for, and names the oldest LSN that it has.")]
    Changes(Changes),
    /// Delete all records of a range, durably, at once.
    #[command(after_help = "Example:\n  logwood delete-range db --prefix session/")]
    DeleteRange(DeleteRange),
    /// Print about how large a range is, and where to cut it into parts of the same size.
    #[command(after_help = "\
Prints one part a line, `first key TAB records TAB bytes`, about: it looks at a few pages, and reads no record.
The first part begins where the range does; `-` is the beginning of everything.

Examples:
  logwood sizes db
  logwood sizes db --prefix user/ --parts 8")]
    Sizes(Sizes),
    /// Measure a workload in a keyspace of its own.
    #[command(after_help = "\
Workloads:
  fill      buffered batches of 1,000 records
  read      one record by a random key
  scan      100 records from a random key on
  mixed     nine reads, then one buffered write
  durable   one record, durable when it is acknowledged

Prints operations, operations a second, and the latencies in microseconds: p50, p99, p99.9, max.
All but fill, which adds records, and durable, which overwrites them, fill the keyspace first if it
holds fewer than --records.")]
    Bench(Bench),
    /// Bring the archive of a database up to date.
    #[command(after_help = "\
Examples:
  logwood archive db --to file:///backup/db
  logwood archive db --to file:///backup/db --verify
  logwood archive db --to s3://bucket/db --endpoint http://localhost:9000")]
    Archive(Archive),
    /// Print every interval of an archive that can be restored, and every hole. Changes nothing.
    #[command(after_help = "\
Reads the snapshots, and of each log object the head, in one request of a kilobyte: what is missing,
cut short, swapped or older is found; of page segments, what is missing. --verify reads all of the
archive that any point needs, log and page segments, and finds rot as well.

Prints, between TABs:
  lineage   id, database, when it began, parent and fork
  interval  first LSN, last LSN, times of both: every point between can be restored
  hole      first LSN, last LSN, object, what is wrong
  snapshot  LSN, time, bytes of pages, what is wrong
Damage ends with 2; a gap that was left on purpose, and what retention let go of, is none.")]
    ArchiveStatus(ArchiveStatus),
    /// Delete from an archive what no point needs that is to stay restorable.
    #[command(after_help = "\
Example:
  logwood retention s3://bucket/db --keep 35d --dry-run

Prints the keys of all objects that it deletes, or would delete. An object that cannot be read is named
on stderr and does not stop the rest; it ends with 2.")]
    Retention(Retention),
    /// Restore a database from an archive into a new directory.
    #[command(after_help = "\
Examples:
  logwood restore --from file:///backup/db db                     the last archived entry
  logwood restore --from s3://bucket/db db --lsn 4711
  logwood restore --from s3://bucket/db db --time 2026-01-31T12:00:00Z
  logwood restore --from s3://bucket/db part --keyspace orders --from-key 2026-01 --to-key 2026-02

The same command goes on with a restore that was interrupted. What is not finished never opens.")]
    Restore(Restore),
    /// Load, crash, recover, damage and verify a database, and print what happened.
    #[command(after_help = "\
A child process loads generated records and is killed half way; the database is opened again and
every acknowledged record is checked; the rest is loaded; a byte is flipped in a copy, and verify
names it; the log is shown, and the digest is compared with one computed from the records alone;
the database is removed, and restored from the archive that both loads wrote, to its end and to an
earlier LSN.
Nothing is simulated. Ends with 1 if any step fails.")]
    Demo(Demo),
}

/// A database alone.
#[derive(Args, Debug)]
pub struct Directory {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// A name that a keyspace may have: it is refused before a database is made for it.
fn keyspace_name(name: &str) -> Result<String, String> {
    match name.len() {
        0 => Err("a keyspace needs a name".to_owned()),
        length if length > KEYSPACE_NAME_BYTES_MAX => {
            Err(format!("a name has at most {KEYSPACE_NAME_BYTES_MAX} bytes, not {length}"))
        }
        _ => Ok(name.to_owned()),
    }
}

/// A database and a keyspace in it.
#[derive(Args, Debug)]
pub struct Place {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The keyspace.
    #[arg(long, value_name = "K", default_value = "default", value_parser = keyspace_name)]
    pub keyspace: String,
}

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
    /// Load everything in one transaction of any size: all of it is there in the end, or nothing.
    #[arg(long, conflicts_with = "batch")]
    pub transaction: bool,
    /// Archive while loading, to file:///path or s3://bucket/prefix; it ends when all is archived.
    #[arg(long, value_name = "URL")]
    pub archive: Option<String>,
    /// How the archive is reached.
    #[command(flatten)]
    pub access: Access,
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
    #[arg(long, value_name = "DIR", requires = "archive")]
    pub cache: Option<PathBuf>,
}

/// A database or an archive, and a keyspace in it.
#[derive(Args, Debug)]
pub struct Source {
    /// The database's directory.
    #[arg(value_name = "DIR", required_unless_present = "archive", conflicts_with = "archive")]
    pub directory: Option<PathBuf>,
    /// The keyspace.
    #[arg(long, value_name = "K", default_value = "default")]
    pub keyspace: String,
    /// Or an archive.
    #[command(flatten)]
    pub archived: Archived,
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
    #[arg(long, value_name = "K")]
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

/// `get`
#[derive(Args, Debug)]
pub struct Get {
    /// The database's directory, unless there is --archive, and the key.
    #[arg(value_names = ["DIR", "KEY"], num_args = 1..=2, required = true)]
    pub words: Vec<OsString>,
    /// The keyspace.
    #[arg(long, value_name = "K", default_value = "default")]
    pub keyspace: String,
    /// Or an archive.
    #[command(flatten)]
    pub archived: Archived,
    /// Print the value's bytes as they are, without a line end.
    #[arg(long)]
    pub raw: bool,
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

/// A range of keys.
#[derive(Args, Debug)]
pub struct Range {
    /// Only keys from here on.
    #[arg(long, value_name = "A", allow_hyphen_values = true)]
    pub from: Option<OsString>,
    /// Only keys before this one.
    #[arg(long, value_name = "B", allow_hyphen_values = true)]
    pub to: Option<OsString>,
    /// Only keys that begin so.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub prefix: Option<OsString>,
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
    #[arg(long, value_name = "K", conflicts_with = "drop")]
    pub create: Option<String>,
    /// Drop a keyspace and everything in it, if it is there.
    #[arg(long, value_name = "K")]
    pub drop: Option<String>,
}

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
    #[arg(long, value_name = "K", default_value = "bench")]
    pub keyspace: String,
    /// How many records the keyspace holds.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// How many operations are measured; as many as there are records by default, 10,000 for durable.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub operations: Option<u64>,
    /// Threads that work at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: u64,
    /// Length of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 150, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub value_bytes: u64,
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

/// The bytes that a word of the command line stands for: `\xNN` is decoded, as it is printed.
#[must_use]
pub fn bytes(word: &OsStr) -> Cow<'_, [u8]> {
    escape::unescape(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_is_taken_before_and_behind_the_command() {
        for words in [["logwood", "--json", "stat", "d"], ["logwood", "stat", "d", "--json"]] {
            assert!(Arguments::try_parse_from(words).unwrap().json);
        }
    }

    #[test]
    fn a_load_without_options_is_durable_tsv_from_stdin_by_the_thousand() {
        let arguments = Arguments::try_parse_from(["logwood", "load", "d"]).unwrap();
        let Command::Load(load) = arguments.command else { panic!("not a load") };
        assert_eq!(load.file, PathBuf::from("-"));
        assert_eq!((load.format, load.durability), (FormatName::Tsv, DurabilityName::Durable));
        assert_eq!((load.batch, load.place.keyspace.as_str()), (None, "default"));
    }

    #[test]
    fn words_that_are_not_text_are_keys_too() {
        let word = OsStr::from_bytes(b"\xff\\x00");
        assert_eq!(bytes(word).as_ref(), b"\xff\0");
    }
}
