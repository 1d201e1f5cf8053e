//! Puts the next object of a chain, and finds out what stands there then: see the table in `uploader.rs`.
//!
//! Whoever stood still looks whether its place is one, before the put and after it: retention may have passed it while another
//! archiver went on, or taken the lineage. What must be there when stands in `docs/format/archive.md`, "A stale archiver
//! resumes".

use std::ops::ControlFlow;
use std::time::Duration;

use logwood_base::{Error, Lsn, Result};

use super::chain::Item;
use super::layout::{log_key, log_prefix, start_key};
use super::object::{Encoded, Kind};
use super::store::{Put, missing};
use super::uploader::{Uploader, ended};
use crate::planted::{Bug, planted};

/// How often a put is refused without an object behind it before that is a failure.
const STRAY_REFUSALS_MAX: u32 = 3;

/// Of so many attempts at one place it is known that they were this archiver's own.
const TRIED_MAX: usize = 1000;

/// After so long without an object of young entries the place in the chain is looked at before the next one, and the
/// lineage behind it.
const STANDSTILL: Duration = Duration::from_secs(3600);

/// What stands at a key after a put.
pub(super) enum Found {
    Ours,
    Other(Box<Item>),
}

impl Uploader {
    /// Puts the next object of the chain, up to `last`, and looks before and afterwards whether its place is still one.
    pub(super) fn put_next(&mut self, key: &str, encoded: &Encoded, last: Lsn) -> Result<Found> {
        if self.tried.last() != Some(&encoded.link) {
            if self.tried.len() == TRIED_MAX {
                self.tried.remove(0);
            }
            self.tried.push(encoded.link);
        }
        if !self.is_certain() {
            self.check_place()?;
        }
        let found = self.put(key, encoded)?;
        // One that is never at rest looks now and then, too: whoever emptied the store did not wait for it to be.
        if self.now().saturating_sub(self.start_seen) >= STANDSTILL {
            self.check_start()?;
        }
        // Looked at again: the request, or this process, may have stood still for long.
        if !self.is_certain() {
            self.check_start()?;
            // The object before may go once this one stands behind it; not while others stand behind this one.
            if matches!(found, Found::Ours) && self.is_followed(last)? {
                self.check_place()?;
                self.check_next(last)?;
            }
        }
        Ok(found)
    }

    /// Whether young entries were put within the last hour, by both clocks: then this place cannot have gone.
    fn is_certain(&self) -> bool {
        let (monotonic, wall) = self.certain_at;
        let clock = &self.source.environment.clock;
        let long = STANDSTILL.as_millis() as u64;
        clock.monotonic().saturating_sub(monotonic) < STANDSTILL && clock.wall_ms().abs_diff(wall) < long
    }

    /// Refuses to go on at a place that retention has passed while this archiver stood still and another one wrote: the key
    /// would be free again, and what is put there would stand beside the chain.
    fn check_place(&self) -> Result<()> {
        let Some((first, _)) = self.shared.figures().confirmed else { return Ok(()) };
        self.check_stands(log_key(self.shared.lineage, first))
    }

    /// Refuses to count what was put when it is the first object that this archiver knows of, others stand behind it, and none
    /// where it ends: retention passed this place before, and it stands beside the chain.
    fn check_next(&self, last: Lsn) -> Result<()> {
        if self.shared.figures().confirmed.is_some() {
            return Ok(());
        }
        self.check_stands(log_key(self.shared.lineage, last.next()))
    }

    fn check_stands(&self, key: String) -> Result<()> {
        if !self.client.is_gone(&key)? {
            return Ok(());
        }
        let reason = "retention has passed this archiver's place: attach another one".to_owned();
        Err(Error::Fenced { key, reason })
    }

    /// Whether objects of the chain stand behind an entry.
    fn is_followed(&self, last: Lsn) -> Result<bool> {
        let lineage = self.shared.lineage;
        let mut found = false;
        let prefix = log_prefix(lineage);
        self.client.list_behind(&prefix, &log_key(lineage, last), |_| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Refuses to go on in a lineage whose start is gone, after an object was put: retention closes a lineage before it
    /// takes it away, and takes what closes it last, behind the start.
    fn check_start(&mut self) -> Result<()> {
        let key = start_key(self.shared.lineage);
        if self.client.is_gone(&key)? {
            return Err(ended(key));
        }
        self.start_seen = self.now();
        Ok(())
    }

    /// Puts an object of the chain at its key; see the table of the module.
    fn put(&self, key: &str, encoded: &Encoded) -> Result<Found> {
        for _ in 0..=STRAY_REFUSALS_MAX {
            let put = self.client.put_new(key, &encoded.bytes);
            if planted(Bug::TrustPut) && put.is_ok() {
                return Ok(Found::Ours);
            }
            let found = self.client.fetch(key, Kind::Log, |key, bytes| {
                if bytes == encoded.bytes {
                    return Ok(Found::Ours);
                }
                self.chain.decode(key, bytes).map(|item| Found::Other(Box::new(item)))
            });
            match (found?, put) {
                (Some(found), _) => return Ok(found),
                (None, Err(error)) => return Err(error),
                (None, Ok(Put::Created)) => return Err(missing(key)),
                (None, Ok(Put::Exists)) => {}
            }
        }
        let cause = "refused, although nothing stands there".to_owned();
        Err(Error::ArchiveUnavailable { operation: "put", key: key.to_owned(), cause })
    }
}
