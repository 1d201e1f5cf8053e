//! Running the program and looking at its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a run of the program answered.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that the run succeeded, and answers what it printed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Asserts an exit code, and that the reason stands on one line that holds `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("logwood: "), "{self:?}");
        assert!(self.stderr.contains(words), "{self:?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("the program ends by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program, to be given words.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_logwood"))
}

/// Runs the program with nothing on its stdin.
pub(crate) fn run<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Ran {
    program().args(words).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs the program with `input` on its stdin.
pub(crate) fn run_with<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>, input: &[u8]) -> Ran {
    let mut child = program()
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that refuses its input does not read it to the end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output.into()
}

/// A database's directory in a temporary place of its own.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    /// The database, not yet there.
    pub(crate) db: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = directory.path().join("db").to_str().unwrap().to_owned();
        Self { directory, db }
    }

    /// A place with a database that holds `tsv`.
    pub(crate) fn with(tsv: &str) -> Self {
        let place = Self::new();
        run_with(["load", &place.db], tsv.as_bytes()).done();
        place
    }

    /// A path beside the database.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file beside the database.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `command` on the database.
    pub(crate) fn run(&self, command: &str, more: &[&str]) -> Ran {
        run([command, &self.db].iter().chain(more))
    }
}

/// Everything that can be told about the files of a directory: names, sizes, times, content.
pub(crate) fn fingerprint(directory: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in walk(directory) {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, (about.len(), about.mtime(), about.mtime_nsec(), about.mode(), content));
    }
    found
}

/// Every file and directory in `directory`, itself included.
pub(crate) fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How many rounds a random test makes, of which `default` are made when nothing else is asked for.
pub(crate) fn rounds(default: u32) -> u32 {
    let scale: f64 =
        std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1.0);
    (f64::from(default) * scale).ceil() as u32
}

/// `count` records of text, in the order of their keys.
pub(crate) fn records(count: u32) -> String {
    (0..count).map(|number| format!("key-{number:06}\tvalue {number} {}\n", "x".repeat(100))).collect()
}
