//! A hold: what keeps retention away from what an upload or a restore needs. Rows a and b of the table in
//! `docs/format/archive.md`, "Retention".
//!
//! Whether a hold was left behind by a crash is judged by its age, and that by the store's clock alone: by when it was
//! put, beside when the judge's own object was. A holder that works for long puts a new one in its place once a day
//! ([`PlacedHold::renew`]), by its own monotonic clock; the one before stays until the next, so that a listing that goes
//! on meanwhile sees one of the two. Whoever takes a hold for a dead one deletes it before anything else: so a holder
//! that stood still for a week finds out that its hold has held nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use logwood_base::{Environment, Error, LineageId, Result};

use super::layout::{LATE_PREFIX, RUNS_PREFIX, hold_key, lineage_prefix};
use super::object::{Hold, Kind, RetentionRun};
use super::retention::RUN_AGE_MAX;
use super::store::{Client, missing};
use crate::planted::{Bug, planted};

/// After so long a holder puts a new hold in the place of its own: several times within the age at which it would be
/// ignored.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A hold that stands in the archive. It is taken back when its holder says so; one that is left behind by a crash is
/// ignored after a week.
#[derive(Debug)]
pub struct PlacedHold {
    hold: Hold,
    key: String,
    /// The one that this one took the place of.
    before: Option<String>,
    /// When it was put, by the monotonic clock.
    placed: Duration,
}

impl PlacedHold {
    /// Puts a hold and looks whether a retention run condemns what it needs.
    ///
    /// # Errors
    /// `ArchiveUnavailable` when one does: nothing is held then; try again later. What the store answers.
    pub fn place(client: &Client, environment: &Environment, hold: Hold) -> Result<Self> {
        Self::try_place(client, environment, hold)?.map_err(Error::from)
    }

    /// As [`PlacedHold::place`]; the inner error is what condemns it.
    ///
    /// # Errors
    /// What the store answers.
    pub(super) fn try_place(
        client: &Client,
        environment: &Environment,
        hold: Hold,
    ) -> Result<Result<Self, Refusal>> {
        let placed = environment.clock.monotonic();
        let put = put(client, environment, &hold)?;
        Ok(put.map(|key| Self { hold, key, before: None, placed }))
    }

    /// Puts a new hold in the place of this one when it is a day old. Answers false when this one was taken for one that a
    /// crash left behind: what it held may be gone, and nothing is held any more.
    ///
    /// # Errors
    /// As [`PlacedHold::place`]; this one stands as before then.
    pub fn renew(&mut self, client: &Client, environment: &Environment) -> Result<bool> {
        let now = environment.clock.monotonic();
        if now.saturating_sub(self.placed) < RENEWED_AFTER || planted(Bug::KeepHold) {
            return Ok(true);
        }
        let key = put(client, environment, &self.hold)??;
        if !self.stands(client)? {
            client.delete(&key)?;
            return Ok(false);
        }
        let before = self.before.replace(std::mem::replace(&mut self.key, key));
        self.placed = now;
        // One that stays is ignored after a week.
        before.map_or(Ok(()), |before| client.delete(&before)).map(|()| true)
    }

    /// Whether nobody has taken it for one that a crash left behind.
    ///
    /// # Errors
    /// What the store answers.
    pub fn stands(&self, client: &Client) -> Result<bool> {
        client.is_gone(&self.key).map(|is_gone| !is_gone)
    }

    /// Takes the hold back.
    ///
    /// # Errors
    /// What the store answers.
    pub fn remove(self, client: &Client) -> Result<()> {
        self.before.map_or(Ok(()), |before| client.delete(&before))?;
        client.delete(&self.key)
    }
}

/// The run that condemns what a hold needs.
#[derive(Debug)]
pub(super) struct Refusal {
    run: String,
    why: &'static str,
    /// It is at work, and may be about to find out what is needed.
    pub(super) may_pass: bool,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::ArchiveUnavailable { operation: "hold", key: refusal.run, cause: refusal.why.to_owned() }
    }
}

/// Puts a hold, unless what it needs is condemned. Answers its key.
fn put(client: &Client, environment: &Environment, hold: &Hold) -> Result<Result<String, Refusal>> {
    let key = hold_key(LineageId::random(&*environment.random).0);
    let hold = Hold { placed_ms: environment.clock.wall_ms(), ..hold.clone() };
    client.put_new(&key, &hold.encode().bytes)?;
    let looked = || {
        client.require(&key, Kind::Hold, |key, bytes| Hold::decode(key, bytes).map(drop))?;
        if planted(Bug::IgnoreRetention) { Ok(None) } else { refusal(client, &key, &hold) }
    };
    match looked() {
        Ok(None) => Ok(Ok(key)),
        Ok(Some(refusal)) => client.delete(&key).map(|()| Err(refusal)),
        // Nobody goes by it. One that stays is ignored after a week.
        Err(error) => {
            let _ = client.delete(&key);
            Err(error)
        }
    }
}

/// The run that condemns what a hold needs, which stands at `key`: one that is at work, or one that has ended and may yet have
/// it deleted.
fn refusal(client: &Client, key: &str, hold: &Hold) -> Result<Option<Refusal>> {
    for (run, condemned) in condemned(client)? {
        let why = match &condemned {
            Some(condemned) if !hold.needs_any_of(condemned) => continue,
            Some(_) => "a retention run is deleting what is needed, or asked for it within the last day",
            None => "it cannot be read, and may be a retention run that is deleting what is needed",
        };
        if !is_older(client, &run, key, RUN_AGE_MAX)? {
            let may_pass = condemned.is_some() && run.starts_with(RUNS_PREFIX);
            return Ok(Some(Refusal { run, why, may_pass }));
        }
    }
    Ok(None)
}

/// Whether anything of a lineage is condemned, or may yet be deleted: then nobody puts its start again.
pub(super) fn is_lineage_condemned(client: &Client, lineage: LineageId) -> Result<bool> {
    let of_lineage = |key: &String| key.starts_with(&lineage_prefix(lineage));
    let names_it = |condemned: &BTreeSet<String>| condemned.iter().any(of_lineage);
    Ok(condemned(client)?.iter().any(|(_, condemned)| condemned.as_ref().is_none_or(names_it)))
}

/// What runs condemn that are at work, and what those that have ended may yet have deleted; `None` for what cannot be read,
/// which may be anything. A run that ends puts the second before it takes back the first, so that one of the two is met.
fn condemned(client: &Client) -> Result<Vec<(String, Option<BTreeSet<String>>)>> {
    let mut found = Vec::new();
    for prefix in [RUNS_PREFIX, LATE_PREFIX] {
        for run in client.list(prefix)? {
            // What cannot be read is read once more, at once: it is in nobody's way for long, and nobody waits for it.
            // One that is longer than any can be is damaged before it is decoded.
            let read = || match client.fetch(&run.key, Kind::Retention, read_or_damaged) {
                Err(Error::ArchiveCorrupt(_)) => Ok(Some(None)),
                read => read,
            };
            let again = |read_first| if matches!(read_first, Some(None)) { read() } else { Ok(read_first) };
            // Where there is none any more it has ended: what it took is missed by whoever looks for it from here on.
            found.extend(read().and_then(again)?.map(|condemned| (run.key, condemned)));
        }
    }
    Ok(found)
}

/// What a run names; `None` when it cannot be read.
fn read_or_damaged(key: &str, bytes: &[u8]) -> Result<Option<BTreeSet<String>>> {
    match RetentionRun::decode(key, bytes) {
        Ok(run) => Ok(Some(run.condemned)),
        Err(Error::ArchiveCorrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an object, if it is there, was put so much earlier than another one, by the store's clock.
fn is_older(client: &Client, key: &str, than: &str, by: Duration) -> Result<bool> {
    let now = client.head(than)?.ok_or_else(|| missing(than))?;
    let found = client.head(key)?;
    Ok(found.is_none_or(|found| now.put_ms.saturating_sub(found.put_ms) > by.as_millis() as u64))
}
