//! Giving back the pages of subtrees that no tree reaches any more.
//!
//! A dropped tree and what a range delete has detached stand in the manifest as *detached subtrees*, by the address of their
//! topmost page (`checkpoint/detaching.rs`). This walks them, from the end of the list: a page is read, its children take its
//! place in the list, and the page is garbage. The next checkpoint writes what is left of the list and retires the garbage,
//! both in one manifest. So the walk may stop anywhere:
//!
//! - a crash goes back to the list of the newest manifest, in which nothing that was walked since is retired;
//! - a page that cannot be read is tried again later; one that is damaged is given up with what only it knows of, which then
//!   stays counted as alive.
//!
//! Leaves must be read too: only they know the pages of their long values. Those pages themselves are not read.

use logwood_base::codec::CodecError;
use logwood_base::{Lsn, Result};

use crate::forest::Forest;
use crate::format::delta::DeltaReader;
use crate::format::inner::InnerReader;
use crate::format::leaf::{LeafReader, LeafValue};
use crate::load::undecodable;
use crate::shared::Shared;
use crate::store::{Detached, Page, PageKind, PageRef, Root};

/// Pages that one step reads.
const STEP_PAGES: usize = 16;

impl Forest {
    /// Gives back some pages of what was dropped or detached, up to 16 for each call. Answers whether there was anything to
    /// do. The space is free when two more checkpoints are durable.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// # let keys: Vec<[u8; 4]> = (0..5_000u32).map(u32::to_be_bytes).collect();
    /// # let kinds = keys.iter().map(|key| ChangeKind::Put { key, value: &[7; 100] });
    /// # let changes: Vec<_> = kinds.map(|kind| Change { keyspace: KeyspaceId(1), kind }).collect();
    /// # forest.replay(Lsn(2), &changes)?;
    /// forest.checkpoint(&checkpoint_at(Lsn(2)))?;
    /// forest.drop_tree(Lsn(3), KeyspaceId(1))?;
    /// forest.replay(Lsn(3), &[])?;
    /// forest.checkpoint(&checkpoint_at(Lsn(3)))?;
    /// assert_eq!(forest.statistics().detached, 1);
    /// while forest.give_back_step()? {} // a background task takes its time between them
    /// assert_eq!(forest.statistics().detached, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Io` of a page; it is tried again by the next call.
    pub fn give_back_step(&self) -> Result<bool> {
        let shared = &self.shared;
        let _one_at_a_time = shared.giving_back.lock();
        for read in 0..STEP_PAGES {
            let Some(next) = shared.writer.lock().detached.last().cloned() else { return Ok(read > 0) };
            let (pages, children) = look_at(shared, &next)?;
            let mut writer = shared.writer.lock();
            // A checkpoint may have found more meanwhile: it stands behind.
            if let Some(at) = writer.detached.iter().rposition(|detached| *detached == next) {
                writer.detached.remove(at);
            }
            writer.detached.extend(children);
            writer.discard_pages(pages, Lsn::ZERO);
        }
        Ok(true)
    }
}

/// The pages of one node, and its children.
fn look_at(shared: &Shared, node: &Detached) -> Result<(Vec<PageRef>, Vec<Detached>)> {
    let Detached { keyspace, root: Root { level, child: entry } } = node;
    let mut pages: Vec<PageRef> = entry.pages().copied().collect();
    let mut children = Vec::new();
    let decoding = |page, error| undecodable(&shared.store, page, error);
    // Nobody misses the records: what is lost is the room of the pages below.
    let unless_damaged = |walked: Result<()>| match walked {
        Err(error) if error.corruption().is_none() => Err(error),
        _ => Ok(()),
    };
    unless_damaged(shared.store.read(&entry.page).and_then(|page| {
        if page.kind() == PageKind::Leaf {
            pages.extend(overflow_of_image(&page).map_err(|error| decoding(&entry.page, error))?);
            return Ok(());
        }
        let decoding = |error| decoding(&entry.page, error);
        let mut iter = InnerReader::new(page.body()).map_err(decoding)?.iter();
        while let Some((_, child)) = iter.next().map_err(decoding)? {
            let root = Root { level: level.saturating_sub(1), child };
            children.push(Detached { keyspace: *keyspace, root });
        }
        Ok(())
    }))?;
    for delta in &entry.deltas {
        // Each by itself: damage to one hides no other's.
        unless_damaged(shared.store.read(&delta.page).and_then(|page| {
            pages.extend(overflow_of_delta(&page).map_err(|error| decoding(&delta.page, error))?);
            Ok(())
        }))?;
    }
    Ok((pages, children))
}

/// The pages that the long values of a leaf's image stand in.
fn overflow_of_image(page: &Page) -> Result<Vec<PageRef>, CodecError> {
    let mut pages = Vec::new();
    let mut iter = LeafReader::new(page.body())?.iter();
    while let Some((_, value)) = iter.next()? {
        if let LeafValue::Overflow(reference) = value {
            pages.extend(reference.extents);
        }
    }
    Ok(pages)
}

/// The same of a delta block.
fn overflow_of_delta(page: &Page) -> Result<Vec<PageRef>, CodecError> {
    let mut pages = Vec::new();
    let mut iter = DeltaReader::new(page.body())?.iter();
    while let Some((_, value)) = iter.next()? {
        if let Some(LeafValue::Overflow(reference)) = value {
            pages.extend(reference.extents);
        }
    }
    Ok(pages)
}
