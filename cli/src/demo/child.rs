//! The demo's child processes: this program again, told to load, verify or show.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, BufWriter};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use super::records;

/// What a loading child has acknowledged.
pub(super) struct Acknowledged {
    /// How many records, from the first of those it was given.
    pub(super) records: u64,
    pub(super) batches: u64,
    pub(super) lsn: u64,
    /// Records and LSN of a batch in the middle.
    pub(super) middle: (u64, u64),
}

/// A child that loads records, with a thread that feeds it.
pub(super) struct Loader {
    child: Child,
    feeder: std::thread::JoinHandle<Option<ChildStdin>>,
    numbers: Range<u64>,
    batch: u64,
}

impl Loader {
    /// Starts `load DATABASE - --acks`, with an archive beside it, and feeds it the records `numbers`, of which those
    /// from `held` on are held back.
    pub(super) fn start(
        (database, archive): (&Path, &str),
        numbers: Range<u64>,
        held: u64,
        batch: u64,
    ) -> Result<Self, String> {
        let mut command = program()?;
        command.arg("load").arg(database).arg("-").arg("--acks").arg("--batch").arg(batch.to_string());
        command.arg("--archive").arg(archive);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("the program could not be started: {error}"))?;
        let stdin = child.stdin.take().ok_or("the child has no stdin")?;
        let fed = numbers.start..held.min(numbers.end);
        #[expect(clippy::disallowed_methods, reason = "it feeds a pipe, which no simulator steps")]
        let feeder = std::thread::spawn(move || {
            let mut pipe = BufWriter::with_capacity(1 << 16, stdin);
            // A child that is killed closes the pipe, which is what this demo is about.
            records::write(fed, &mut pipe).ok()?;
            pipe.into_inner().ok()
        });
        Ok(Self { child, feeder, numbers, batch })
    }

    /// Reads acknowledgements; once `kill_at` records are acknowledged, kills the child with SIGKILL and reads what
    /// it had still said. Answers what was acknowledged, how the child ended and what it complained of.
    pub(super) fn follow(
        mut self,
        kill_at: Option<u64>,
    ) -> Result<(Acknowledged, ExitStatus, String), String> {
        let mut acknowledged = Acknowledged { records: 0, batches: 0, lsn: 0, middle: (0, 0) };
        let stdout = self.child.stdout.take().ok_or("the child has no stdout")?;
        // Without a kill, the input ends when the feeder lets go of the pipe.
        let mut feeder = Some(self.feeder);
        if kill_at.is_none() {
            feeder = None;
        }
        let mut killed = false;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| format!("reading acknowledgements failed: {error}"))?;
            let text = String::from_utf8_lossy(&line);
            let (lsn, key) =
                text.split_once('\t').ok_or_else(|| format!("not an acknowledgement: {text}"))?;
            let total = self.numbers.end - self.numbers.start;
            acknowledged.records = (acknowledged.records + self.batch).min(total);
            acknowledged.batches += 1;
            acknowledged.lsn = lsn.parse().map_err(|_| format!("not an LSN: {lsn}"))?;
            if acknowledged.records <= total / 2 {
                acknowledged.middle = (acknowledged.records, acknowledged.lsn);
            }
            let last = records::record(self.numbers.start + acknowledged.records - 1);
            if key.as_bytes() != last.key {
                return Err(format!("batch {} was acknowledged with the key {key}", acknowledged.batches));
            }
            if !killed && kill_at.is_some_and(|at| acknowledged.records >= at) {
                self.child.kill().map_err(|error| format!("the child could not be killed: {error}"))?;
                killed = true;
            }
        }
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Only told for a failure, and then whatever of it could be read.
            let _ = std::io::Read::read_to_string(&mut stderr, &mut complaint);
        }
        let status = self.child.wait().map_err(|error| format!("waiting for the child failed: {error}"))?;
        // The pipe's end must live until the child is gone, or the child would see the end of its input.
        drop(feeder.map(std::thread::JoinHandle::join));
        Ok((acknowledged, status, complaint.trim().to_owned()))
    }
}

/// What a command printed, and its exit code.
pub(super) struct Printed {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a command of this program to its end.
pub(super) fn run(words: &[&OsStr]) -> Result<Printed, String> {
    let name = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let output = program()?
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} could not be started: {error}"))?;
    let code = output.status.code().ok_or_else(|| format!("{name} was killed by a signal"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Printed { code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Whether a process ended by SIGKILL.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

fn program() -> Result<Command, String> {
    let path =
        std::env::current_exe().map_err(|error| format!("this program is not to be found: {error}"))?;
    Ok(Command::new(path))
}
