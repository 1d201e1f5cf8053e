//! The command line: what there is, what it is called, and what it says about itself.
//!
//! The names and meanings here are a contract that scripts use. Parsing only reads words; what they mean for a
//! database is the commands' business. Wrong usage ends the program with 64, asking for help or the version with 0.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use logwood_base::limits::KEYSPACE_NAME_BYTES_MAX;

use crate::escape;
use crate::exit::Failure;

mod archives;
mod records;
mod upkeep;

pub use archives::{Access, Archive, ArchiveStatus, Archived, At, Restore, Retention, Source};
pub use records::{
    Changes, Count, Delete, DeleteRange, DurabilityName, FormatName, Get, Keyspaces, Load, Put, Scan, Sizes,
};
pub use upkeep::{Backup, Bench, Compact, Demo, Log, Workload};

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

Keys, values and names of keyspaces are printed with bytes outside printable ASCII, and the
backslash, as \\xNN, and are read in the same form.

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

A bad line is named by its number and ends the load with 65; everything before it is kept, with
--transaction nothing.")]
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
    Compact(Compact),
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
Reads the snapshots, for each the log object that it ends with, and of all others the head, in one
request of a kilobyte: what is missing, cut short, swapped or older is found; of page segments, what
is missing. --verify reads all of the archive that any point needs, log and page segments, and finds
rot as well.

Prints, between TABs:
  lineage   id, database, when it began, parent and fork
  interval  first LSN, last LSN, times of both: every point between can be restored
  hole      first LSN, last LSN, object, what is wrong
  snapshot  LSN, time, bytes of pages, what is wrong; `ahead of the log`: the log ends before it, as
            while a gap is being left, and it may be of another history
Damage ends with 2; a gap that was left on purpose, what retention let go of, and a snapshot that is
ahead of the log, is none.")]
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

/// Who follows the changes of a database that is opened, and comes back later.
#[derive(Args, Debug, Default)]
pub struct Followers {
    /// Keep in the log what a follower of the changes may need who comes back later: its name in `Options::follower`. Once for
    /// each of them.
    #[arg(long = "follower", value_name = "NAME")]
    pub names: Vec<String>,
}

impl Followers {
    /// Nobody follows an archive.
    ///
    /// # Errors
    /// [`Failure::Usage`] where one is named.
    pub fn refuse_beside_archive(&self) -> Result<(), Failure> {
        if self.names.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(
            "--follower is about a database: name its DIR in the place of --archive".to_owned(),
        ))
    }
}

/// A database alone.
#[derive(Args, Debug)]
pub struct Directory {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// A name that a keyspace may have, read as keys are: what cannot be one is refused before a database is made for it.
fn keyspace_name(word: &str) -> Result<String, String> {
    let name = String::from_utf8(escape::unescape(word.as_bytes()).into_owned());
    let name = name.map_err(|_| "the name of a keyspace is UTF-8".to_owned())?;
    match name.len() {
        0 => Err("a keyspace needs a name".to_owned()),
        length if length > KEYSPACE_NAME_BYTES_MAX => {
            Err(format!("a name has at most {KEYSPACE_NAME_BYTES_MAX} bytes, not {length}"))
        }
        _ => Ok(name),
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
    /// Who follows it.
    #[command(flatten)]
    pub followers: Followers,
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
    fn names_of_keyspaces_are_read_as_they_are_printed() {
        for name in ["plain", "caf\u{e9}", "a\tb\\", "\\x41", "\u{1f980}"] {
            assert_eq!(keyspace_name(&escape::escape(name.as_bytes())).as_deref(), Ok(name));
        }
        assert_eq!(keyspace_name("caf\u{e9}").as_deref(), Ok("caf\u{e9}"));
        assert_eq!(
            keyspace_name(&"\\x61".repeat(KEYSPACE_NAME_BYTES_MAX)).unwrap().len(),
            KEYSPACE_NAME_BYTES_MAX
        );
        assert!(keyspace_name("\\xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn words_that_are_not_text_are_keys_too() {
        let word = OsStr::from_bytes(b"\xff\\x00");
        assert_eq!(bytes(word).as_ref(), b"\xff\0");
    }
}
