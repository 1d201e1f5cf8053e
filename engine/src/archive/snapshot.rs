//! Uploading a checkpoint: a hold, its page segments, its manifest; one piece a step.
//!
//! The steps and what a crash between them leaves stand in `docs/format/archive.md`, "Snapshot at C". The checkpoint's
//! files stay because its manifest is held here; the objects stay because the hold names them before anything is
//! skipped as being there already.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::digest::Digest;
use logwood_base::{Access, ArchiveDamage, Corruption, Error, Lsn, Result};
use logwood_btree::store::{Manifest, SegmentEntry, Store as PageStore, TreeEntry};
use sha2::{Digest as _, Sha256};

use super::hold::PlacedHold;
use super::layout::{Sha256 as Hash, hex, page_key, start_key};
use super::object::{Hold, KeyspaceDigest, Kind, Owner, SnapshotObject};
use super::read::plan::owned_snapshot;
use super::source::Source;
use super::status::Shared;
use super::store::Client;
use super::uploader::{Uploader, ended};
use crate::directory::Layout;
use crate::planted::{Bug, planted};
use crate::state::EngineState;

/// The first pause after a snapshot failed, at most, and the longest.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The page segments in the archive that this archiver has read whole.
pub(super) type Proven = BTreeSet<Hash>;

/// The upload of one checkpoint.
#[derive(Debug)]
pub(super) struct SnapshotJob {
    pages: PageStore,
    /// Held, so that its files stay.
    manifest: Arc<Manifest>,
    object: SnapshotObject,
    hold: Option<PlacedHold>,
    next_page: usize,
    /// Pages that were found damaged, deleted and put again: a deletion may take effect late.
    mended: Vec<SegmentEntry>,
    /// Pieces that were done: it gets on.
    pieces: u64,
    /// Steps that failed since one got on.
    failures: u32,
    /// The snapshot itself was put, or may have been.
    is_put: bool,
    finished: bool,
    /// Bytes of entries that it stands for in [`Uploader::since_snapshot`].
    counted: u64,
}

impl SnapshotJob {
    pub(super) fn new(
        owner: Owner,
        source: &Source,
        pages: PageStore,
        manifest: Arc<Manifest>,
    ) -> Result<Self> {
        let layout = Layout::new(&source.root);
        let state = EngineState::decode(&manifest.engine_state, &layout.manifest())?;
        let (base, lsn) = (manifest.replay_from.previous(), manifest.checkpoint_lsn);
        let (since, membership) = source.group.membership();
        let term = |lsn: Lsn| match lsn {
            Lsn::ZERO => Ok(logwood_base::Term::NONE),
            lsn => source.group.term_of(lsn),
        };
        let object = SnapshotObject {
            owner,
            base_term: term(base)?,
            term: term(lsn)?,
            time_ms: state.time_ms,
            membership: if since <= base { membership } else { Vec::new() },
            entry: source.entry(lsn)?.map(|entry| Sha256::digest(&entry.payload).into()),
            digests: manifest.trees.iter().map(digest_of).collect(),
            trees: (*manifest).clone(),
        };
        Ok(Self {
            pages,
            manifest,
            object,
            hold: None,
            next_page: 0,
            mended: Vec::new(),
            pieces: 0,
            failures: 0,
            is_put: false,
            finished: false,
            counted: 0,
        })
    }

    /// From where entries are needed behind this snapshot, and its LSN.
    pub(super) fn base(&self) -> (Lsn, Lsn) {
        (self.manifest.replay_from, self.manifest.checkpoint_lsn)
    }

    /// Whether its page segments are all in the archive: what comes next is the snapshot itself.
    pub(super) fn has_sent_pages(&self) -> bool {
        self.hold.is_some() && self.next_page == self.object.pages().len() && !self.finished
    }

    /// How many pieces were done.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces
    }

    fn got_on(&mut self) {
        self.pieces += 1;
        self.failures = 0;
    }

    /// Notes that a step failed. Answers how many have, since one got on.
    pub(super) fn failed(&mut self) -> u32 {
        self.failures += 1;
        self.failures
    }

    /// Does one piece. The snapshot itself is put when the chain has passed it: `reached` says how far the chain is;
    /// `None`: the chain waits for the snapshot. Answers whether it is finished.
    pub(super) fn step(
        &mut self,
        client: &Client,
        source: &Source,
        shared: &Shared,
        proven: &mut Option<Proven>,
        reached: Option<Lsn>,
    ) -> Result<bool> {
        if self.finished {
            return Ok(true);
        }
        if !self.is_held(client, source)? {
            self.got_on();
            return Ok(false);
        }
        if let Some(segment) = self.object.pages().get(self.next_page)
            && !planted(Bug::SnapshotBeforePages)
        {
            if self.send_page(client, source, shared, proven, segment)? {
                self.mended.push(segment.clone());
            }
            self.next_page += 1;
            self.got_on();
            return Ok(false);
        }
        if reached.is_some_and(|reached| reached < self.object.lsn()) {
            return Ok(false);
        }
        if !self.mended_stand(client, proven)? {
            self.begin_anew();
            return Ok(false);
        }
        let (key, encoded) = (self.object.key(), self.object.encode());
        self.is_put = true;
        client.put_new(&key, &encoded.bytes)?;
        client.require(&key, Kind::Snapshot, |key, bytes| self.check_found(key, bytes))?;
        // A process that stood still for a week holds nothing any more, and what it skipped may be gone.
        let stands = self.hold.as_ref().map_or(Ok(false), |hold| hold.stands(client))?;
        if !stands {
            self.begin_anew();
            return Ok(false);
        }
        let lsn = self.object.lsn();
        shared.update(|figures| {
            figures.status.snapshots += 1;
            figures.status.newest_snapshot = figures.status.newest_snapshot.max(Some(lsn));
        });
        tracing::info!(%lsn, pages = self.object.pages().len(), "a snapshot is in the archive");
        self.finished = true;
        if let Some(hold) = self.hold.take() {
            // It is ignored after a week: the snapshot itself holds its pages from here on.
            if let Err(error) = hold.remove(client) {
                tracing::warn!(%error, "a hold stays in the archive for a while");
            }
        }
        Ok(true)
    }

    /// Refuses a snapshot that stands at this one's key and is of another history.
    fn check_found(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let found = owned_snapshot(self.object.owner, key, bytes)?;
        let known = self.object.entry.and(found.entry).is_some();
        let entry = |object: &SnapshotObject| {
            let entry = object.entry.filter(|_| known).map(|entry| hex(&entry));
            format!("term {}, time {}, {entry:?}", object.term, object.time_ms)
        };
        if entry(&found) == entry(&self.object) {
            return Ok(());
        }
        Err(ArchiveDamage::new(key, "snapshot of this history", entry(&self.object), entry(&found)).into())
    }

    /// Places the hold, or renews it when it is old. Answers false when it has only now been placed, and the lineage was seen to
    /// be there since.
    fn is_held(&mut self, client: &Client, source: &Source) -> Result<bool> {
        if let Some(hold) = &mut self.hold {
            if hold.renew(client, &source.environment)? {
                return Ok(true);
            }
            self.begin_anew();
        }
        let hold = Hold {
            lineage: self.object.owner.lineage,
            placed_ms: 0,
            log: None,
            snapshot: Some(self.object.lsn()).filter(|lsn| *lsn > Lsn::ZERO),
            pages: self.object.pages().iter().map(|segment| segment.hash).collect(),
        };
        let hold = PlacedHold::place(client, &source.environment, hold)?;
        match self.check_start(client) {
            Ok(()) => {
                self.hold = Some(hold);
                Ok(false)
            }
            Err(error) => {
                let _ = hold.remove(client);
                Err(error)
            }
        }
    }

    /// Refuses to put a snapshot into a lineage that retention has taken away while this process stood still: without its start
    /// it would be the ruin of a lineage, and in the way of every restore. From here on the hold spares the start.
    fn check_start(&self, client: &Client) -> Result<()> {
        let key = start_key(self.object.owner.lineage);
        if !client.is_gone(&key)? {
            return Ok(());
        }
        if self.is_put {
            // It stood still with the hold, for a week, and put the snapshot then.
            client.delete(&self.object.key())?;
        }
        Err(ended(key))
    }

    /// What was found in the archive was not held: every page is looked for again, under a new hold.
    fn begin_anew(&mut self) {
        (self.hold, self.next_page) = (None, 0);
    }

    /// Whether what was mended is still right.
    fn mended_stand(&mut self, client: &Client, proven: &mut Option<Proven>) -> Result<bool> {
        while let Some(segment) = self.mended.last() {
            if damage_at_rest(client, segment)?.is_some() {
                proven.as_mut().map(|proven| proven.remove(&segment.hash));
                return Ok(false);
            }
            self.mended.pop();
        }
        Ok(true)
    }

    /// Sees to it that a page is in the archive. Answers whether it was mended.
    fn send_page(
        &self,
        client: &Client,
        source: &Source,
        shared: &Shared,
        proven: &mut Option<Proven>,
        segment: &SegmentEntry,
    ) -> Result<bool> {
        let key = page_key(&segment.hash);
        let is_there = client.head(&key)?.is_some_and(|found| found.bytes == u64::from(segment.bytes));
        let is_suspect = self.mended.iter().any(|mended| mended.hash == segment.hash);
        let is_known = !is_suspect && proven.as_ref().is_none_or(|proven| proven.contains(&segment.hash));
        if is_there && (is_known || damage_at_rest(client, segment)?.is_none()) {
            proven.as_mut().map(|proven| proven.insert(segment.hash));
            return Ok(false);
        }
        let path = self.pages.segment_path(segment.number);
        let file = source.environment.disk.open(&path, Access::Read)?;
        let mut bytes = vec![0u8; segment.bytes as usize];
        file.read_at(0, &mut bytes)?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found != segment.hash {
            let (expected, found) = (hex(&segment.hash), hex(&found));
            return Err(Corruption::new(&path, 0, "content hash", expected, found).into());
        }
        client.put_new(&key, &bytes)?;
        // Read back whole: whoever skips it later has nothing but its length to go by.
        let damage = damage_at_rest(client, segment)?;
        if let Some(damage) = &damage {
            tracing::warn!(%damage, "a page segment in the archive is put anew");
            client.delete(&key)?;
            client.put_new(&key, &bytes)?;
            client.page(&segment.hash, segment.bytes)?;
            shared.update(|figures| figures.status.mended += 1);
        }
        proven.as_mut().map(|proven| proven.insert(segment.hash));
        shared.update(|figures| {
            figures.status.pages.0 += 1;
            figures.status.pages.1 += u64::from(segment.bytes);
        });
        Ok(damage.is_some())
    }
}

/// Reads a page segment in the archive. Answers what is wrong with it, when it was found twice: a body that comes
/// damaged in one way and then in another is damaged on its way, and that is an error.
fn damage_at_rest(client: &Client, segment: &SegmentEntry) -> Result<Option<Box<ArchiveDamage>>> {
    let damage = match client.page(&segment.hash, segment.bytes) {
        Ok(_) => return Ok(None),
        Err(Error::ArchiveCorrupt(damage)) => damage,
        Err(error) => return Err(error),
    };
    match client.page(&segment.hash, segment.bytes) {
        Ok(_) => Ok(None),
        Err(Error::ArchiveCorrupt(again)) if again == damage => Ok(Some(damage)),
        Err(error) => Err(error),
    }
}

/// Count and digest of a tree, when they stand beside its root.
fn digest_of(tree: &TreeEntry) -> KeyspaceDigest {
    let digest = match &tree.root {
        None => Some(Digest::EMPTY),
        Some(root) => {
            let child = &root.child;
            let whole = !child.unresolved && usize::from(child.resolved) == child.deltas.len();
            whole.then_some(child.digest)
        }
    };
    KeyspaceDigest { keyspace: tree.keyspace, digest }
}

impl Uploader {
    /// One piece of a snapshot, when one is due. Answers whether there was something to do.
    /// One that failed is put off for longer and longer, and keeps no entries from being archived meanwhile; `now`: it is not
    /// put off, and a failure is the answer.
    pub(super) fn step_snapshot(&mut self, now: bool) -> Result<bool> {
        let (failures, until) = self.put_off;
        if self.parted || (!now && self.now() < until) {
            return Ok(false);
        }
        let stepped = self.try_snapshot();
        let Err(error) = &stepped else { return stepped };
        if matches!(error, Error::Closed | Error::Fenced { .. }) {
            return stepped;
        }
        tracing::warn!(%error, failures, "a snapshot failed and is tried again");
        let longest = (PUT_OFF.0 * (1 << failures.min(16))).min(PUT_OFF.1);
        self.put_off = (failures + 1, self.now() + self.client.jittered(longest));
        self.shared.update(|figures| {
            figures.status.failures += 1;
            figures.status.snapshot_failing = Some(error.to_string());
        });
        if now { stepped } else { Ok(false) }
    }

    fn try_snapshot(&mut self) -> Result<bool> {
        let Some(job) = &mut self.snapshot else { return self.begin_snapshot() };
        let reached = self.base_missing.is_none().then(|| self.chain.position().next.previous());
        let waits = reached.is_some_and(|reached| reached < job.base().1) && job.has_sent_pages();
        if waits {
            return job.is_held(&self.client, &self.source).map(|is_held| !is_held);
        }
        if job.hold.is_some() {
            // A hold that cannot be renewed stands all the same for days: what was sent is not sent again.
            match job.is_held(&self.client, &self.source) {
                Ok(true) => {}
                other => return other.map(|_| true),
            }
        }
        let stepped = job.step(&self.client, &self.source, &self.shared, &mut self.proven, reached);
        match stepped {
            Ok(false) => Ok(true),
            Ok(true) => {
                self.since_snapshot -= job.counted;
                if let Some(first) = self.lost_from.take() {
                    let (_, lsn) = job.base();
                    self.shared.update(|figures| figures.status.lose(first, lsn.previous()));
                }
                self.snapshot = None;
                self.base_missing = None;
                self.proof_due = false;
                self.put_off = (0, Duration::ZERO);
                self.shared.update(|figures| figures.status.snapshot_failing = None);
                Ok(true)
            }
            Err(error) => {
                // Begun anew later, with a checkpoint of that time.
                self.give_up_snapshot();
                Err(error)
            }
        }
    }

    /// Ends the upload of a snapshot. What was put for it is found by retention, and used by the next one until then.
    pub(super) fn give_up_snapshot(&mut self) {
        self.gap_pieces = 0;
        if let Some(hold) = self.snapshot.take().and_then(|job| job.hold) {
            let _ = hold.remove(&self.client.finishing());
        }
    }

    fn begin_snapshot(&mut self) -> Result<bool> {
        let wanted = self.options.snapshot_log_bytes;
        let due =
            self.base_missing.is_some() || self.proof_due || (wanted > 0 && self.since_snapshot >= wanted);
        if !due || !self.source.decides_alone() {
            return Ok(false);
        }
        // A fresh checkpoint: what follows it is all that a restore to a later point replays.
        let Some((store, manifest)) = self.source.checkpoint(true)? else { return Ok(false) };
        let newest = self.shared.figures().status.newest_snapshot;
        let must = self.base_missing.is_some() || self.proof_due;
        if !must && newest.is_some_and(|newest| manifest.checkpoint_lsn <= newest) {
            // Nothing was committed since the last one.
            self.since_snapshot = 0;
            return Ok(false);
        }
        let job = SnapshotJob::new(self.chain.owner(), &self.source, store, manifest)?;
        self.snapshot = Some(SnapshotJob { counted: self.since_snapshot, ..job });
        Ok(true)
    }
}
