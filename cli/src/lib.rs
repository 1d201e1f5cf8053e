//! The parts of the `logwood` program.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`archive`] | archives: what is in them, and getting it back |
//! | [`exit`] | exit codes, and the one place where errors become them |
//! | [`escape`], [`input`] | bytes as text; records from files (called by fuzzers too) |
//! | [`open`] | opening a database for a command |
//! | [`demo`] | all of it, with a crash in the middle |
//! | [`load`], [`read`], [`mod@write`], [`inspect`] | the commands, by family |
//! | [`output`], [`progress`], [`time`] | stdout as text or JSON lines; a bar on stderr; times |
//!
//! A command is a function from its arguments and an [`output::Output`] to nothing or an [`exit::Failure`]; [`run`]
//! picks it and turns what it answers into an exit code.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use clap::error::ErrorKind;

pub mod archive;
pub mod arguments;
pub mod backup;
pub mod bench;
pub mod changes;
pub mod demo;
pub mod escape;
pub mod exit;
pub mod input;
pub mod inspect;
pub mod load;
pub mod open;
pub mod output;
pub mod progress;
pub mod read;
pub mod time;
pub mod write;

use arguments::{Arguments, Command};
use exit::{Exit, Failure};
use output::Output;

/// Runs the program with `words`, of which the first is its name.
pub fn run(words: impl Iterator<Item = OsString>) -> Exit {
    survive_file_size_limit();
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let mut output = Output::new(arguments.json);
    let done = dispatch(&arguments.command, &mut output).and_then(|()| output.flush());
    match done {
        Ok(()) => Exit::Done,
        Err(failure) => {
            // What was printed before the failure is right, and stands before its message.
            let _ = output.flush();
            failure.report();
            failure.exit()
        }
    }
}

/// Lets a write beyond the limit of a file's size (`ulimit -f`) fail like any other, in the place of ending the program without a
/// word. That the signal came is of no use: the write answers EFBIG.
fn survive_file_size_limit() {
    let came = Arc::new(AtomicBool::new(false));
    // Where it cannot be, the program ends as it would have.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, came);
}

fn dispatch(command: &Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Load(arguments) => load::run(arguments, output),
        Command::Get(arguments) => read::get(arguments, output),
        Command::Put(arguments) => write::put(arguments, output),
        Command::Delete(arguments) => write::delete(arguments, output),
        Command::Scan(arguments) => read::scan(arguments, output),
        Command::Count(arguments) => read::count(arguments, output),
        Command::Digest(arguments) => read::digest(arguments, output),
        Command::Keyspaces(arguments) => write::keyspaces(arguments, output),
        Command::Compact(arguments) => write::compact(arguments, output),
        Command::Backup(arguments) => backup::run(arguments, output),
        Command::Changes(arguments) => changes::run(arguments, output),
        Command::DeleteRange(arguments) => write::delete_range(arguments, output),
        Command::Sizes(arguments) => read::sizes(arguments, output),
        Command::Bench(arguments) => bench::run(arguments, output),
        Command::Archive(arguments) => archive::archive(arguments, output),
        Command::Retention(arguments) => archive::retention(arguments, output),
        Command::ArchiveStatus(arguments) => archive::status(arguments, output),
        Command::Restore(arguments) => archive::restore(arguments, output),
        Command::Demo(arguments) => demo::run(arguments, output),
        Command::Stat(arguments) => inspect::stat(arguments, output),
        Command::Verify(arguments) => inspect::verify(arguments, output),
        Command::Log(arguments) => inspect::log(arguments, output),
    }
}

/// Prints help to stdout, or what is wrong with the command line to stderr on one line.
fn usage(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let text = error.to_string();
            let message = text.split("\n\nUsage:").next().unwrap_or(&text);
            let message = message.split("\n\nFor more").next().unwrap_or(message);
            let words: Vec<&str> = message.trim_start_matches("error: ").split_whitespace().collect();
            exit::complain(&format!("{}; see `logwood help`", words.join(" ")));
            Exit::Usage
        }
    }
}
