//! What no promised point needs, as a run goes about it.

use std::collections::BTreeMap;

use logwood_base::{LineageId, Lsn};

use super::lineage::LineageFacts;
use crate::archive::chain::{self, Content};
use crate::archive::layout::{Sha256, log_key, page_key, snapshot_key, start_key};
use crate::archive::object::{Link, Owner};

/// An object that can go: far shorter than its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Object {
    Snapshot(LineageId, Lsn),
    Log(LineageId, Lsn),
    Start(LineageId),
    Page(Sha256),
}

/// What no point needs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Objects with their bytes, in the order in which they go.
    pub(super) deletions: Vec<(Object, u64)>,
    /// What no point needs either, and is needed by somebody else for now.
    pub(super) held: Vec<(Object, u64)>,
    /// The lineages that go as a whole, which are closed first, and of these the children before their parents.
    pub(super) ends: Vec<End>,
    /// The lineages that were looked at, and what they forked from.
    pub(super) parents: Parents,
}

/// Where a lineage is closed before it is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    /// The entry that would come next.
    pub(super) next: Lsn,
    pub(super) previous: Link,
    /// What closes it stands there already.
    pub(super) is_closed: bool,
}

/// What each lineage forked from.
#[derive(Debug, Default)]
pub(super) struct Parents(BTreeMap<LineageId, Option<LineageId>>);

impl Object {
    pub(super) fn key(&self) -> String {
        match self {
            Self::Snapshot(lineage, lsn) => snapshot_key(*lineage, *lsn),
            Self::Log(lineage, first) => log_key(*lineage, *first),
            Self::Start(lineage) => start_key(*lineage),
            Self::Page(hash) => page_key(hash),
        }
    }

    /// The lineage that it is of; a page segment is of none.
    pub(super) fn lineage(&self) -> Option<LineageId> {
        match self {
            Self::Snapshot(lineage, _) | Self::Log(lineage, _) | Self::Start(lineage) => Some(*lineage),
            Self::Page(_) => None,
        }
    }
}

impl End {
    /// The end behind the newest object of a chain.
    pub(super) fn behind(self, newest: &chain::Place) -> Self {
        match &newest.content {
            Content::Gap(gap) if gap.is_end() => {
                Self { next: newest.next(), previous: gap.previous, is_closed: true, ..self }
            }
            _ => Self { next: newest.next(), previous: newest.link, ..self },
        }
    }
}

impl Parents {
    pub(super) fn of(lineages: &BTreeMap<LineageId, LineageFacts>) -> Self {
        let parent = |facts: &LineageFacts| Some(facts.start.as_ref()?.parent?.lineage);
        Self(lineages.iter().map(|(id, facts)| (*id, parent(facts))).collect())
    }

    /// Whether a lineage was there.
    pub(super) fn knows(&self, id: LineageId) -> bool {
        self.0.contains_key(&id)
    }

    /// A lineage and all that it came from.
    pub(super) fn line(&self, id: LineageId) -> Vec<LineageId> {
        let mut line = vec![id];
        while let Some(parent) = line.last().and_then(|id| self.0.get(id).copied().flatten())
            && !line.contains(&parent)
        {
            line.push(parent);
        }
        line
    }
}
