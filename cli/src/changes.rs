//! `changes`: what every commit changed, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use logwood::{Change, ChangeSet, Database};
use logwood_base::{KeyspaceId, Lsn};
use serde_json::json;

use crate::arguments::Changes;
use crate::escape::escape;
use crate::exit::Failure;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use crate::time;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] when there is no database, or the log let go of what was asked for; what the engine answers,
/// behind the changes before it.
pub fn run(arguments: &Changes, output: &mut Output) -> Result<(), Failure> {
    let database = open::existing(&arguments.directory, &arguments.followers)?;
    let from = match arguments.from {
        Some(from) => Lsn(from),
        None => database.oldest_change_lsn()?,
    };
    let mut names = Names::of(&database);
    let mut changes = database.changes(from)?;
    let mut progress = Progress::new("commits", arguments.limit);
    for printed in 0..arguments.limit.unwrap_or(u64::MAX) {
        let Some(mut set) = changes.next(Duration::ZERO)? else { break };
        print(&mut set, &mut names, output)?;
        progress.at(printed);
    }
    Ok(())
}

fn print(set: &mut ChangeSet<'_>, names: &mut Names, output: &mut Output) -> Result<(), Failure> {
    let (lsn, time_ms) = (set.lsn(), set.time_ms());
    loop {
        let change = match set.next() {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(()),
            Err(error) => {
                output.flush()?;
                return Err(error.into());
            }
        };
        let (kind, keyspace, key, value) = names.take(&change);
        let (key, value) = (key.map(escape), value.map(escape));
        let text = format!(
            "{lsn}\t{}\t{keyspace}\t{kind}\t{}\t{}",
            time::utc(time_ms),
            key.as_deref().unwrap_or("-"),
            value.as_deref().unwrap_or("-")
        );
        let end = if kind == "delete-range" { "to" } else { "value" };
        output.line(
            &text,
            &json!({
                "lsn": lsn.get(), "time_ms": time_ms, "keyspace": keyspace, "kind": kind, "key": key, end: value,
            }),
        )?;
    }
}

/// The names of the keyspaces: those that are there, and those that came and went meanwhile. One that came before the
/// first change and is gone by now has its number alone.
struct Names(BTreeMap<KeyspaceId, String>);

/// Kind, keyspace, key and value, or the end of a range, as they are printed.
type Columns<'a> = (&'static str, String, Option<&'a [u8]>, Option<&'a [u8]>);

impl Names {
    fn of(database: &Database) -> Self {
        let handles = database.keyspaces().into_iter().filter_map(|name| database.keyspace(&name).ok());
        Self(handles.map(|keyspace| (keyspace.id(), escape(keyspace.name().as_bytes()))).collect())
    }

    fn take<'a>(&mut self, change: &Change<'a>) -> Columns<'a> {
        match *change {
            Change::Put { keyspace, key, value } => ("put", self.name(keyspace), Some(key), Some(value)),
            Change::Delete { keyspace, key } => ("delete", self.name(keyspace), Some(key), None),
            Change::DeleteRange { keyspace, from, to } => {
                ("delete-range", self.name(keyspace), Some(from), to)
            }
            Change::CreateKeyspace { keyspace, name } => {
                self.0.insert(keyspace, escape(name.as_bytes()));
                ("create-keyspace", self.name(keyspace), None, None)
            }
            Change::DropKeyspace { keyspace } => ("drop-keyspace", self.name(keyspace), None, None),
            _ => ("other", "-".to_owned(), None, None),
        }
    }

    fn name(&self, keyspace: KeyspaceId) -> String {
        self.0.get(&keyspace).cloned().unwrap_or_else(|| format!("#{keyspace}"))
    }
}
