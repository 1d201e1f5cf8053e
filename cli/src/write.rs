//! `put`, `delete`, `delete-range`, `keyspaces`, `compact`: changes by hand. Each is durable when the command ends.

use logwood::Durability;
use logwood_base::Error;
use serde_json::json;

use crate::arguments::{self, Compact, Delete, DeleteRange, Keyspaces, Put, Range};
use crate::escape::escape;
use crate::exit::Failure;
use crate::open;
use crate::output::{Output, counted};
use crate::progress::Waiting;
use crate::read::KeyRange;

/// `put`: one record. Creates the database and the keyspace when they are not there.
///
/// # Errors
/// What the engine answers.
pub fn put(arguments: &Put, output: &mut Output) -> Result<(), Failure> {
    let database = open::or_create(&arguments.place.directory, &arguments.place.followers)?;
    let keyspace = database.ensure_keyspace(&arguments.place.keyspace)?;
    let mut batch = database.batch();
    batch.put(&keyspace, &arguments::bytes(&arguments.key), &arguments::bytes(&arguments.value))?;
    let lsn = database.commit(batch, Durability::Durable)?;
    open::close(&database)?;
    if output.is_json() { output.object(&json!({ "lsn": lsn.get() })) } else { Ok(()) }
}

/// `delete`: one record. That it is absent is no error, and writes nothing.
///
/// # Errors
/// What the engine answers.
pub fn delete(arguments: &Delete, output: &mut Output) -> Result<(), Failure> {
    let database = open::existing(&arguments.place.directory, &arguments.place.followers)?;
    let key = arguments::bytes(&arguments.key);
    let mut lsn = None;
    if let Some(keyspace) = open::keyspace_if_there(&database, &arguments.place.keyspace)?
        && keyspace.get(&key)?.is_some()
    {
        let mut batch = database.batch();
        batch.delete(&keyspace, &key)?;
        lsn = Some(database.commit(batch, Durability::Durable)?.get());
    }
    open::close(&database)?;
    if output.is_json() { output.object(&json!({ "deleted": lsn.is_some(), "lsn": lsn })) } else { Ok(()) }
}

/// `delete-range`: all records of a range, in one commit. That there are none is no error, and writes nothing.
///
/// # Errors
/// [`Failure::Usage`] when no bound was given: everything goes only when that was said. What the engine answers.
pub fn delete_range(arguments: &DeleteRange, output: &mut Output) -> Result<(), Failure> {
    let Range { from, to, prefix } = &arguments.range;
    if !arguments.all && from.is_none() && to.is_none() && prefix.is_none() {
        return Err(Failure::Usage("delete-range needs --from, --to or --prefix, or --all".to_owned()));
    }
    let database = open::existing(&arguments.place.directory, &arguments.place.followers)?;
    let bounds = KeyRange::new(&arguments.range).bounds();
    let keyspace = open::keyspace_if_there(&database, &arguments.place.keyspace)?;
    // Nobody else has the database open: what is counted is what goes.
    let count = keyspace.as_ref().map_or(Ok(0), |keyspace| keyspace.count(bounds.clone()))?;
    let mut lsn = None;
    if let Some(keyspace) = keyspace
        && count > 0
    {
        let mut batch = database.batch();
        batch.delete_range(&keyspace, bounds)?;
        lsn = Some(database.commit(batch, Durability::Durable)?.get());
    }
    open::close(&database)?;
    output.line(&format!("{} deleted", counted(count, "record")), &json!({ "deleted": count, "lsn": lsn }))
}

/// `keyspaces`: lists, creates or drops them. Creating what is there, and dropping what is absent, is done already.
///
/// # Errors
/// What the engine answers.
pub fn keyspaces(arguments: &Keyspaces, output: &mut Output) -> Result<(), Failure> {
    if let Some(name) = &arguments.create {
        let database = open::or_create(&arguments.directory, &arguments.followers)?;
        let is_there = database.keyspaces().contains(name);
        database.ensure_keyspace(name)?;
        open::close(&database)?;
        return change(name, "created", !is_there, output);
    }
    let database = open::existing(&arguments.directory, &arguments.followers)?;
    if let Some(name) = &arguments.drop {
        let dropped = match database.drop_keyspace(name) {
            Ok(_) => true,
            Err(Error::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        open::close(&database)?;
        return change(name, "dropped", dropped, output);
    }
    for name in database.keyspaces() {
        let name = escape(name.as_bytes());
        output.line(&name, &json!({ "keyspace": name }))?;
    }
    Ok(())
}

/// Says what became of a keyspace, to machines; people see that nothing is wrong.
fn change(name: &str, what: &str, done: bool, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.object(&json!({ "keyspace": escape(name.as_bytes()), what: done }))
    } else {
        Ok(())
    }
}

/// `compact`: packs the pages and gives the space back.
///
/// # Errors
/// What the engine answers.
pub fn compact(arguments: &Compact, output: &mut Output) -> Result<(), Failure> {
    let database = open::existing(&arguments.directory, &arguments.followers)?;
    let waiting = Waiting::new("compacting");
    database.compact()?;
    drop(waiting);
    database.close()?;
    if output.is_json() { output.object(&json!({ "compacted": true })) } else { Ok(()) }
}
