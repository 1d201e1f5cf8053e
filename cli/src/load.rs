//! `load`: records from a file or stdin, in batches.
//!
//! 1. The input is opened, its header read, and the archive's URL checked, before the database, so that a mistyped name leaves
//!    nothing behind.
//! 2. A batch is committed once it holds `--batch` records, or 8 MiB, so that memory stays bounded whatever
//!    the records are. It is there whole or not at all.
//! 3. With `--acks`, a line says so as soon as a batch is acknowledged, before the next one begins. What was
//!    acknowledged is there after any crash. When nobody reads the acknowledgements any more the load goes on
//!    without them: ending early with 0 would say that everything is loaded.
//! 4. With `--transaction` there is one bulk write, which takes effect at the end of the input. A bad line ends
//!    the load with nothing written.
//!    With `--sorted` and no `--batch` there is one for each 64 MiB: input in order goes straight to leaves.
//! 5. A bad line otherwise commits what came before it, is named by its number and ends the load; `--skip-bad` counts it.
//! 6. With `--archive`, an archiver works beside it, and the load ends when everything is in the archive.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use logwood::archive::Archiver;
use logwood::{Batch, BulkOptions, BulkWrite, Database, Durability, Keyspace};
use logwood_base::Lsn;
use serde_json::json;

use crate::archive;
use crate::arguments::{DurabilityName, FormatName, Load};
use crate::escape::escape;
use crate::exit::{Failure, complain};
use crate::input::{Format, InputError, Records};
use crate::open;
use crate::output::{Output, counted};
use crate::progress::{Progress, Waiting};

/// Records of a batch, unless it is said.
const BATCH_RECORDS: u64 = 1000;

/// Bytes of sorted input that are committed at once: many leaves, and little to wait for.
const SORTED_BYTES: u64 = 64 << 20;

/// A batch of at least so many bytes is committed, however few records it holds.
const BATCH_BYTES: usize = 8 << 20;

/// Runs the command.
///
/// # Errors
/// Wrong options, a bad line, an input that cannot be read; what the engine answers.
pub fn run(arguments: &Load, output: &mut Output) -> Result<(), Failure> {
    let format = format(arguments)?;
    if let (None, Some(option)) = (&arguments.archive, arguments.access.given()) {
        return Err(Failure::Usage(format!("{option} is about an archive: name it with --archive URL")));
    }
    let (source, total) = open_source(&arguments.file)?;
    let read = Rc::new(Cell::new(0));
    let source = BufReader::with_capacity(1 << 18, Counted { source, read: Rc::clone(&read) });
    let records = Records::new(source, format);
    let records = if arguments.sorted { records.map(Records::ascending) } else { records };
    let records = records.map_err(|error| input_failure(arguments, &error))?;

    if let Some(url) = &arguments.archive {
        archive::check_store(&arguments.place.directory, url, &arguments.access)?;
    }
    let database = open::or_create(&arguments.place.directory, &arguments.place.followers)?;
    let archiver = match &arguments.archive {
        Some(url) => Some(archive::attach(&database, url, &arguments.access)?),
        None => None,
    };
    let keyspace = database.ensure_keyspace(&arguments.place.keyspace)?;
    let mut loader = Loader {
        gathered: Gathered::new(&database, arguments)?,
        database,
        keyspace,
        arguments,
        last_key: Vec::new(),
        acks: arguments.acks,
        loaded: Loaded::default(),
        output,
    };
    let mut progress = Progress::new("bytes", total);
    let outcome = loader.load(records, || progress.at(read.get()));
    drop(progress);
    let outcome = outcome.and_then(|()| {
        let _waiting = Waiting::new("committing");
        loader.commit()
    });
    // Before the log may let go of anything.
    let archived = archiver.map_or(Ok(()), finish);
    let closed = open::close(&loader.database);
    let loaded = loader.loaded;
    match outcome.and(archived).and(closed) {
        Err(failure) if loaded.records > 0 => {
            // What was acknowledged stands before why it ends, and that before what is kept.
            let _ = output.flush();
            failure.report();
            let records = counted(loaded.records, "record");
            let were = if loaded.records == 1 { "was" } else { "were" };
            complain(&format!("{records} {were} loaded before this"));
            Err(Failure::Reported(failure.exit()))
        }
        ended => ended.and_then(|()| loaded.report(arguments, output)),
    }
}

/// Archives the rest.
fn finish(archiver: Archiver) -> Result<(), Failure> {
    let flushed = archiver.flush();
    archive::tell_gap(&archiver.status());
    flushed?;
    Ok(archiver.stop()?)
}

/// What has been loaded.
#[derive(Default)]
struct Loaded {
    records: u64,
    batches: u64,
    lsn: Lsn,
    skipped: u64,
    first_skipped: Option<String>,
}

struct Loader<'a> {
    database: Database,
    keyspace: Keyspace,
    arguments: &'a Load,
    gathered: Gathered,
    last_key: Vec<u8>,
    acks: bool,
    loaded: Loaded,
    output: &'a mut Output,
}

/// What the next commit will hold.
enum Gathered {
    Batch {
        batch: Batch,
        records_max: u64,
    },
    /// All of the input, or so many bytes of sorted input.
    Bulk {
        bulk: Box<BulkWrite>,
        bytes: u64,
        bytes_max: u64,
    },
}

impl Gathered {
    fn new(database: &Database, arguments: &Load) -> Result<Self, Failure> {
        let bytes_max = match (arguments.transaction, arguments.sorted, arguments.batch) {
            (true, _, _) => u64::MAX,
            (false, true, None) => SORTED_BYTES,
            (false, _, records_max) => {
                let records_max = records_max.unwrap_or(BATCH_RECORDS);
                return Ok(Self::Batch { batch: database.batch(), records_max });
            }
        };
        let bulk = Box::new(database.bulk_write(BulkOptions::new())?);
        Ok(Self::Bulk { bulk, bytes: 0, bytes_max })
    }

    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> logwood::Result<()> {
        match self {
            Self::Batch { batch, .. } => batch.put(keyspace, key, value),
            Self::Bulk { bulk, bytes, .. } => {
                *bytes += (key.len() + value.len()) as u64;
                bulk.put(keyspace, key, value)
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Batch { batch, .. } => batch.len() as u64,
            Self::Bulk { bulk, .. } => bulk.len(),
        }
    }

    /// Whether it is to be committed before more is gathered.
    fn is_full(&self) -> bool {
        match self {
            Self::Batch { batch, records_max } => {
                batch.len() as u64 >= *records_max || batch.bytes() >= BATCH_BYTES
            }
            Self::Bulk { bytes, bytes_max, .. } => bytes >= bytes_max,
        }
    }

    fn commit(self, database: &Database, durability: Durability) -> logwood::Result<Lsn> {
        match self {
            Self::Batch { batch, .. } => database.commit(batch, durability),
            Self::Bulk { mut bulk, .. } => bulk.commit(durability),
        }
    }
}

impl Loader<'_> {
    /// Gathers every record and commits what is full, and all of what came before a bad line or a failing source.
    fn load(
        &mut self,
        mut records: Records<impl BufRead>,
        mut progress: impl FnMut(),
    ) -> Result<(), Failure> {
        loop {
            match records.next() {
                Ok(Some(record)) => {
                    self.gathered.put(&self.keyspace, &record.key, &record.value)?;
                    self.last_key.clear();
                    self.last_key.extend_from_slice(&record.key);
                }
                Ok(None) => return Ok(()),
                Err(error @ InputError::Bad { .. }) if self.arguments.skip_bad => {
                    self.loaded.skipped += 1;
                    self.loaded.first_skipped.get_or_insert_with(|| error.to_string());
                }
                Err(error) => {
                    if !self.arguments.transaction {
                        self.commit()?;
                    }
                    return Err(input_failure(self.arguments, &error));
                }
            }
            progress();
            if self.gathered.is_full() {
                self.commit()?;
            }
        }
    }

    /// Commits what was gathered and tells of it.
    fn commit(&mut self) -> Result<(), Failure> {
        if self.gathered.len() == 0 {
            return Ok(());
        }
        let durability = match self.arguments.durability {
            DurabilityName::Durable => Durability::Durable,
            DurabilityName::Buffered => Durability::Buffered,
        };
        let next = Gathered::new(&self.database, self.arguments)?;
        let gathered = std::mem::replace(&mut self.gathered, next);
        let records = gathered.len();
        self.loaded.lsn = gathered.commit(&self.database, durability)?;
        self.loaded.records += records;
        self.loaded.batches += 1;
        if self.acks {
            let (lsn, key) = (self.loaded.lsn, escape(&self.last_key));
            let line = self.output.line(&format!("{lsn}\t{key}"), &json!({ "lsn": lsn.get(), "key": key }));
            match line.and_then(|()| self.output.flush()) {
                Err(Failure::ClosedPipe) => self.acks = false,
                written => written?,
            }
        }
        Ok(())
    }
}

impl Loaded {
    /// Says what was loaded: on stdout, unless acknowledgements stand there, which scripts read line by line.
    fn report(&self, arguments: &Load, output: &mut Output) -> Result<(), Failure> {
        let Self { records, batches, skipped, .. } = self;
        let mut text = format!("{} in {}", counted(*records, "record"), counted(*batches, "batch"));
        if let Some(first) = &self.first_skipped {
            text.push_str(&format!(", {} skipped, the first: {first}", counted(*skipped, "bad line")));
        }
        if output.is_json() {
            output.object(&json!({
                "records": records, "batches": batches, "skipped": skipped, "first_skipped": self.first_skipped,
                "lsn": self.lsn.get(),
            }))
        } else if arguments.acks {
            complain(&text);
            Ok(())
        } else {
            output.text(&text)
        }
    }
}

/// The format, with what it needs and nothing that it has no use for.
fn format(arguments: &Load) -> Result<Format, Failure> {
    let key = || {
        let name = if arguments.format == FormatName::Csv { "csv" } else { "jsonl" };
        arguments.key.clone().ok_or_else(|| {
            Failure::Usage(format!(
                "--format {name} needs --key FIELD, the column or field that holds the key"
            ))
        })
    };
    match arguments.format {
        FormatName::Csv | FormatName::Jsonl if arguments.raw => Err(Failure::Usage(
            "--raw is for tsv; csv and jsonl keep the record as it stands in the file".to_owned(),
        )),
        FormatName::Tsv if arguments.key.is_some() => Err(Failure::Usage(
            "--key is for csv and jsonl; the key of a tsv line is what stands before the first TAB"
                .to_owned(),
        )),
        FormatName::Tsv => Ok(Format::Tsv { raw: arguments.raw }),
        FormatName::Csv => Ok(Format::Csv { key: key()? }),
        FormatName::Jsonl => Ok(Format::Jsonl { key: key()? }),
    }
}

/// Opens the input, with its length when it has one.
#[expect(clippy::disallowed_methods, reason = "the input is the user's file, no part of a database")]
fn open_source(file: &Path) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let failure = |source| Failure::stream(file.display().to_string(), source);
    let opened = std::fs::File::open(file).map_err(failure)?;
    let about = opened.metadata().map_err(failure)?;
    if about.is_dir() {
        return Err(failure(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(opened), about.is_file().then_some(about.len())))
}

/// A failure of the input, with the file's name before the line's number.
fn input_failure(arguments: &Load, error: &InputError) -> Failure {
    let name = if arguments.file == Path::new("-") {
        "stdin".to_owned()
    } else {
        arguments.file.display().to_string()
    };
    match error {
        InputError::Io(source) => {
            Failure::stream(name, io::Error::new(source.kind(), format!("reading failed: {source}")))
        }
        InputError::Bad { .. } => {
            let extension = arguments.file.extension().and_then(|extension| extension.to_str());
            let advice = match (arguments.format, extension) {
                (FormatName::Tsv, Some(other @ ("csv" | "jsonl"))) => format!("; is it --format {other}?"),
                _ => "; --skip-bad goes on behind bad lines".to_owned(),
            };
            Failure::BadInput(format!("{name}: {error}{advice}"))
        }
        InputError::Header { .. } | InputError::Unclosed { .. } => {
            Failure::BadInput(format!("{name}: {error}"))
        }
    }
}

/// Counts the bytes that are read.
struct Counted<R> {
    source: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}
