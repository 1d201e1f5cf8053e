//! One lineage, as far as retention cares.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use super::plan::End;
use crate::archive::chain::{Chain, Item, readable};
use crate::archive::layout::{lineage_prefix, log_prefix, parse_lsn, snapshot_prefix, start_key};
use crate::archive::object::{Owner, Start};
use crate::archive::store::Client;

/// One snapshot.
pub(super) struct SnapshotFacts {
    pub(super) lsn: Lsn,
    pub(super) bytes: u64,
    /// `None` when it cannot be read.
    pub(super) read: Option<ReadSnapshot>,
}

#[derive(Clone, Copy)]
pub(super) struct ReadSnapshot {
    pub(super) time_ms: u64,
    pub(super) replay_from: Lsn,
    /// Whether all its pages are listed, with their lengths; and, of those that were looked at, whether the log bears it out.
    pub(super) is_base: bool,
}

/// A snapshot to begin with.
#[derive(Clone, Copy)]
pub(super) struct Base {
    pub(super) lsn: Lsn,
    pub(super) replay_from: Lsn,
}

/// One lineage.
pub(super) struct LineageFacts {
    /// `None` when it cannot be read.
    pub(super) start: Option<Start>,
    pub(super) start_bytes: u64,
    /// Ascending.
    pub(super) snapshots: Vec<SnapshotFacts>,
    /// Where each object begins, and its bytes.
    pub(super) log: BTreeMap<Lsn, u64>,
    /// The time of the newest entry that can be read; 0 without one.
    pub(super) entries_ms: u64,
    /// Where the chain ends; `None` when its newest object cannot be read.
    pub(super) end: Option<End>,
    /// The entry that comes next, or an earlier one where the newest object cannot be read.
    pub(super) next: Option<Lsn>,
    /// When its newest object was put, by the store's clock; `None` when it has gone meanwhile.
    pub(super) put_ms: Option<u64>,
}

/// What a listing has of one lineage: where each object begins, and its bytes.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) start: Option<u64>,
    pub(super) snapshots: BTreeMap<Lsn, u64>,
    pub(super) log: BTreeMap<Lsn, u64>,
}

impl Listed {
    pub(super) fn take(client: &Client, id: LineageId) -> Result<Self> {
        let (mut listed, start) = (Self::default(), start_key(id));
        let (snapshots, log) = (snapshot_prefix(id), log_prefix(id));
        client.list_behind(&lineage_prefix(id), "", |object| {
            if object.key == start {
                listed.start = Some(object.bytes);
            } else if let Some(lsn) = parse_lsn(&object.key) {
                let is_of = |prefix: &str| object.key.starts_with(prefix);
                let into = match (is_of(&snapshots), is_of(&log)) {
                    (true, _) => &mut listed.snapshots,
                    (_, true) => &mut listed.log,
                    _ => return ControlFlow::Continue(()),
                };
                into.insert(lsn, object.bytes);
            }
            if client.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        client.goes_on()?;
        Ok(listed)
    }
}

impl LineageFacts {
    pub(super) fn owner(&self) -> Option<Owner> {
        self.start.as_ref().map(|start| start.owner)
    }

    /// When it was written to last: its newest entry, or its beginning.
    pub(super) fn newest_ms(&self) -> u64 {
        self.entries_ms.max(self.start.as_ref().map_or(0, |start| start.created_ms))
    }

    /// The time of the oldest snapshot up to an entry that can be begun with.
    pub(super) fn oldest_base_ms(&self, last: Lsn) -> Option<u64> {
        let known = self.snapshots.iter().filter(|snapshot| snapshot.lsn <= last);
        let read = known.filter_map(|snapshot| snapshot.read.as_ref());
        read.filter(|read| read.is_base).map(|read| read.time_ms).min()
    }

    /// The newest snapshot that suits and can be begun with.
    pub(super) fn newest(&self, suits: impl Fn(Lsn, u64) -> bool) -> Option<Base> {
        self.snapshots.iter().rev().find_map(|snapshot| {
            let read = snapshot.read.as_ref().filter(|read| read.is_base)?;
            let (lsn, replay_from) = (snapshot.lsn, read.replay_from);
            suits(lsn, read.time_ms).then_some(Base { lsn, replay_from })
        })
    }

    /// Whether what follows a base is where a listing says: it was not believed for anything that is deleted.
    pub(super) fn reaches_from(
        &self,
        client: &Client,
        base: Base,
        damage: &mut Vec<ArchiveDamage>,
    ) -> Result<bool> {
        let (Some(owner), Some((first, _))) = (self.owner(), self.log.range(..=base.replay_from).next_back())
        else {
            // The chain begins behind the base, or is empty: nothing goes.
            return Ok(false);
        };
        let found = readable(Chain::from_lsn(client, owner, *first).next_item(), damage)?.flatten();
        let next = self.log.range(first.next()..).next().map(|(next, _)| *next);
        // A snapshot that the chain does not reach yet was put for a gap that never came.
        Ok(found.is_some_and(|item| {
            let behind = item.last_lsn().next();
            // Where the base needs entries up to itself, a gap has none of them.
            let needs_entries = base.replay_from <= base.lsn;
            !(needs_entries && matches!(item, Item::Gap(..)))
                && next.map_or(behind >= base.replay_from, |next| behind == next)
        }))
    }
}
