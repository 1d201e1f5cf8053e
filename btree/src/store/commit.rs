//! The next generation of the manifest, then the files that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logwood_base::limits::{self, KEYSPACES_MAX};
use logwood_base::{Error, Generation, LogPosition, Lsn, Result, SegmentNo};

#[cfg(test)]
use super::planted::{Bug, planted};
use super::{Detached, Manifest, OlderGeneration, PageRef, SegmentEntry, State, Store, TreeEntry};
use crate::format::manifest::ENGINE_STATE_BYTES_MAX;
use crate::manifest;

/// What a checkpoint hands over: the state of all trees at one LSN.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// C: the trees are exactly the state at this LSN.
    pub checkpoint_lsn: Lsn,
    /// min(C + 1, oldest fragment open at C): the log must keep the entries from here on.
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
    /// Opaque to the trees.
    pub engine_state: &'a [u8],
    /// Ascending by keyspace.
    pub trees: Vec<TreeEntry>,
    /// What no tree reaches any more and was not given back yet.
    pub detached: Vec<Detached>,
    /// Pages that were appended and not retired, but that these trees do not reach: written by eviction after C.
    pub unreached: &'a [PageRef],
    /// Pages that were retired, but that these trees still reach: replaced by changes after C.
    pub still_reached: &'a [PageRef],
}

impl Store {
    /// Makes a checkpoint durable, and then gives back the files that nobody needs any more.
    ///
    /// Every page that the trees reach must be in a sealed segment: call [`Store::seal_all`] first.
    ///
    /// # Errors
    /// The cause, while abandoned segments are not forgotten; `LimitExceeded`; `DiskFull`, `Io`: the generation may
    /// or may not be found after a crash; what it and the ones before need is kept, and the next commit settles it.
    /// `Internal` when a root is in no sealed segment. Failing to remove a file is no error: it is tried again.
    pub fn commit(&self, commit: Commit<'_>) -> Result<Generation> {
        self.check_writable()?;
        limits::check("engine state bytes", commit.engine_state.len(), ENGINE_STATE_BYTES_MAX)?;
        limits::check("keyspaces", commit.trees.len(), KEYSPACES_MAX)?;
        let _one_at_a_time = self.inner.committing.lock();
        let manifest = {
            let mut state = self.inner.state.lock();
            if let Some(abandoned) = state.abandoned.values().next() {
                return Err(abandoned.cause.clone());
            }
            let manifest = Arc::new(state.compose(self, commit)?);
            state.last_generation = manifest.generation;
            // Until it is durable it is one of those that may or may not be on disk.
            state.older.push(OlderGeneration { manifest: Arc::clone(&manifest), durable: false });
            manifest
        };
        #[cfg(test)]
        if planted(Bug::UnlinkBeforeNextGeneration) {
            self.unlink_early(&manifest);
        }
        manifest::write(&*self.inner.disk, &self.inner.manifest_dir, &manifest)?;
        let generation = manifest.generation;
        let going: Vec<Generation> = {
            let mut state = self.inner.state.lock();
            let before = std::mem::replace(&mut state.current, manifest);
            state.older.retain(|older| older.manifest.generation != generation);
            state.older.push(OlderGeneration { manifest: before, durable: true });
            state.going()
        };
        if self.remove_generations(&going).is_ok() {
            self.unlink_dead();
        }
        Ok(generation)
    }

    /// Removes the files of segments that nobody needs any more, and answers how many bytes came back. Called by
    /// [`Store::commit`]; useful again when pins or held manifests have been dropped.
    pub fn collect(&self) -> u64 {
        let _one_at_a_time = self.inner.committing.lock();
        if self.check_writable().is_err() { 0 } else { self.unlink_dead() }
    }

    /// Manifests go before the segments that they name, and their going is synced.
    fn remove_generations(&self, going: &[Generation]) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        for generation in going {
            manifest::remove(&*self.inner.disk, &self.inner.manifest_dir, *generation)?;
        }
        self.inner.disk.sync_dir(&self.inner.manifest_dir)?;
        let mut state = self.inner.state.lock();
        state.older.retain(|older| !going.contains(&older.manifest.generation));
        Ok(())
    }

    fn unlink_dead(&self) -> u64 {
        let unneeded = self.inner.state.lock().unneeded();
        let mut freed = 0;
        for (number, bytes) in &unneeded {
            self.inner.files.remove(*number);
            match self.inner.disk.remove(&self.segment_path(*number)) {
                Ok(()) => freed += u64::from(*bytes),
                Err(Error::NotFound { .. }) => {}
                Err(_) => continue,
            }
            self.inner.state.lock().dead.remove(number);
        }
        if !unneeded.is_empty() {
            // A removal that a power cut takes back leaves a file that no manifest names: thrown away at open.
            let _ = self.inner.disk.sync_dir(&self.inner.pages_dir);
        }
        freed
    }

    #[cfg(test)]
    fn unlink_early(&self, next: &Manifest) {
        let dead: Vec<SegmentNo> = self.inner.state.lock().dead.keys().copied().collect();
        for number in dead.into_iter().filter(|number| next.segment(*number).is_none()) {
            let _ = self.inner.disk.remove(&self.segment_path(number));
        }
    }
}

impl State {
    /// The manifest of the next generation: what is sealed, with the live bytes that its trees reach.
    fn compose(&self, store: &Store, commit: Commit<'_>) -> Result<Manifest> {
        let mut live: BTreeMap<SegmentNo, u64> =
            self.segments.iter().map(|(number, segment)| (*number, segment.live_bytes)).collect();
        for page in commit.still_reached {
            *live.entry(page.addr.segment).or_default() += u64::from(page.bytes);
        }
        for page in commit.unreached {
            let bytes = live.entry(page.addr.segment).or_default();
            *bytes = bytes
                .checked_sub(u64::from(page.bytes))
                .ok_or_else(|| Error::Internal(format!("page {} is not live and not reached", page.addr)))?;
        }
        let mut segments = Vec::new();
        for (number, live_bytes) in live.into_iter().filter(|(_, bytes)| *bytes > 0) {
            let alive = self.segments.get(&number).map(|segment| (segment.stream, segment.sealed));
            let dead = self.dead.get(&number).map(|dead| (dead.stream, Some(dead.sealed)));
            let Some((stream, Some(sealed))) = alive.or(dead) else {
                return Err(Error::Internal(format!("page segment {number} is named and not sealed")));
            };
            let live_bytes =
                u32::try_from(live_bytes).ok().filter(|live| *live < sealed.bytes).ok_or_else(|| {
                    Error::Internal(format!("page segment {number} has more live bytes than bytes"))
                })?;
            segments.push(SegmentEntry {
                number,
                bytes: sealed.bytes,
                live_bytes,
                stream,
                hash: sealed.hash,
            });
        }
        let manifest = Manifest {
            generation: self.last_generation.next(),
            database: store.inner.identity.database,
            log: store.inner.identity.log,
            checkpoint_lsn: commit.checkpoint_lsn,
            replay_from: commit.replay_from,
            log_durable_end: commit.log_durable_end,
            next_segment: self.next_segment,
            engine_state: commit.engine_state.to_vec(),
            trees: commit.trees,
            detached: commit.detached,
            segments,
        };
        let astray = manifest.root_pages().find(|addr| manifest.segment(addr.segment).is_none());
        match astray {
            None => Ok(manifest),
            Some(addr) => Err(Error::Internal(format!("root page {addr} is in no segment that is named"))),
        }
    }

    /// Generations whose files go now: all but the current one and the newest durable one before it.
    fn going(&self) -> Vec<Generation> {
        let older = self.older.iter();
        let before = older.clone().filter(|older| older.durable).map(|older| older.manifest.generation).max();
        older
            .map(|older| older.manifest.generation)
            .filter(|generation| Some(*generation) != before)
            .collect()
    }

    /// Dead segments that no manifest on disk names, no reader may be in, and nobody holds.
    fn unneeded(&mut self) -> Vec<(SegmentNo, u32)> {
        self.held.retain(|held| held.strong_count() > 0);
        let held: Vec<Arc<Manifest>> = self.held.iter().filter_map(std::sync::Weak::upgrade).collect();
        let older = self.older.iter().map(|older| &older.manifest);
        let manifests = std::iter::once(&self.current).chain(older).chain(&held);
        let named: BTreeSet<SegmentNo> =
            manifests.flat_map(|m| m.segments.iter().map(|s| s.number)).collect();
        let dead = self.dead.iter();
        dead.filter(|(number, dead)| !named.contains(number) && !self.is_kept(**number, dead.tick))
            .map(|(number, dead)| (*number, dead.sealed.bytes))
            .collect()
    }
}
