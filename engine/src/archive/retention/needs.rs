//! What holds, lineages that live after all or were begun meanwhile, and snapshots need of what is condemned.
//!
//! Looked at twice. *Ahead*, so that a run condemns nothing in vain, and a dry run tells what a run would do: nothing is
//! changed then. And with the run's flag *raised*, which is the look that counts (step 2 of the table in
//! `docs/format/archive.md`, "Retention"): holds first, because a hold is taken back only after its snapshot, or its start,
//! stands; snapshots last, those that were spared too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use super::HOLD_AGE_MAX;
use super::facts::{Facts, Numbers};
use super::flag::Flag;
use super::plan::{End, Object, Plan};
use crate::archive::chain::{self, Item, readable};
use crate::archive::layout::{HOLDS_PREFIX, parse_lsn, snapshot_prefix};
use crate::archive::object::{Gap, Hold, Kind};
use crate::archive::read::history;
use crate::archive::store::Client;
use crate::planted::{Bug, planted};

/// Who looks.
#[derive(Clone, Copy)]
pub(super) enum Look<'a> {
    /// The run's flag does not stand yet. An object was put then, by the store's clock: it is that late at least.
    Ahead { put_ms: u64 },
    /// The run's flag stands; it began then, by its clock.
    Raised { flag: &'a Flag, begun_ms: u64 },
}

impl Look<'_> {
    /// When it is at least, by the store's clock.
    fn now_ms(self) -> u64 {
        match self {
            Self::Ahead { put_ms } => put_ms,
            Self::Raised { flag, .. } => flag.put_ms,
        }
    }

    /// Sees to it that nobody writes to a lineage any more. Answers false when somebody has meanwhile: it lives.
    fn closes(self, client: &Client, end: &End) -> Result<bool> {
        let Self::Raised { begun_ms, .. } = self else { return Ok(true) };
        let gap = Gap::end(end.owner, end.next, begun_ms, end.previous);
        let put = client.put_new(&gap.key(), &gap.encode().bytes);
        match chain::fetch(client, &gap.key())? {
            Some(Item::Gap(found, _)) => Ok(found.is_end()),
            Some(Item::Log(_)) => Ok(false),
            None => put.and_then(|_| Err(crate::archive::store::missing(&gap.key()))),
        }
    }
}

/// What is needed of what a plan condemns.
pub(super) fn needed(
    client: &Client,
    look: Look<'_>,
    plan: &Plan,
    facts: &mut Facts,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<BTreeSet<Object>> {
    let mut needed = BTreeSet::new();
    if planted(Bug::IgnoreHolds) {
        return Ok(needed);
    }
    by_holds(client, look, plan, &mut needed)?;
    by_lineages(client, look, plan, &mut needed, damage)?;
    by_what_precedes(plan, facts, &mut needed);
    by_snapshots(client, plan, &mut needed, facts, damage)?;
    Ok(needed)
}

fn by_holds(client: &Client, look: Look<'_>, plan: &Plan, needed: &mut BTreeSet<Object>) -> Result<()> {
    for listed in client.list(HOLDS_PREFIX)? {
        // By its age alone, also when it cannot be read.
        let Some(found) = client.head(&listed.key)? else { continue };
        if Duration::from_millis(look.now_ms().saturating_sub(found.put_ms)) > HOLD_AGE_MAX {
            if let Look::Raised { .. } = look {
                client.delete(&listed.key)?;
            }
            continue;
        }
        let Some(hold) = client.fetch(&listed.key, Kind::Hold, Hold::decode)? else { continue };
        needed.extend(hold.pages.iter().map(|page| Object::Page(*page)));
        needed.extend(hold.snapshot.map(|lsn| Object::Snapshot(hold.lineage, lsn)));
        if hold.snapshot.is_some() || hold.log.is_some() {
            needed.insert(Object::Start(hold.lineage));
        }
        if let Some((first, last)) = hold.log {
            let log = plan.deletions.iter().chain(&plan.held).filter_map(|(object, _)| match object {
                Object::Log(lineage, lsn) if *lineage == hold.lineage && *lsn <= last => Some(*lsn),
                _ => None,
            });
            let log: BTreeSet<Lsn> = log.collect();
            // The object that holds the first entry begins at it or before it.
            let from = log.range(..=first).next_back().copied().unwrap_or(first);
            needed.extend(log.range(from..).map(|lsn| Object::Log(hold.lineage, *lsn)));
        }
    }
    Ok(())
}

fn by_lineages(
    client: &Client,
    look: Look<'_>,
    plan: &Plan,
    needed: &mut BTreeSet<Object>,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<()> {
    let of_line = |line: Vec<LineageId>| {
        let objects = plan.deletions.iter().map(|(object, _)| *object);
        objects.filter(move |object| object.lineage().is_some_and(|lineage| line.contains(&lineage)))
    };
    // Begun since they were looked at: their lines of descent stay as they are.
    for lineage in history::lineages(client)?.into_iter().filter(|lineage| !plan.parents.knows(*lineage)) {
        match readable(chain::start_of(client, lineage), damage)? {
            Some(start) => {
                let parent = start.and_then(|(start, _)| start.parent).map(|parent| parent.lineage);
                let line = parent.map_or(Vec::new(), |parent| plan.parents.line(parent));
                needed.extend(of_line(line));
            }
            // Nobody knows what it needs.
            None => {
                let objects = plan.deletions.iter().map(|(object, _)| *object);
                needed.extend(objects.filter(|object| object.lineage().is_some()));
            }
        }
    }
    let mut living = BTreeSet::new();
    for end in &plan.ends {
        let id = end.owner.lineage;
        let line = plan.parents.line(id);
        // A child is closed before its parent loses anything, also where this run takes nothing of the child itself.
        if of_line(line.clone()).next().is_none() {
            continue;
        }
        let lives = living.contains(&id) || needed.contains(&Object::Start(id));
        if lives || !look.closes(client, end)? {
            needed.extend(of_line(line.clone()));
            living.extend(line);
        }
    }
    Ok(())
}

/// Of each log only the beginning goes: what stands behind a snapshot that is spared, or behind log that is, stays as well. A hole
/// between the two and what is kept anyway would look as if something was lost.
fn by_what_precedes(plan: &Plan, facts: &Facts, needed: &mut BTreeSet<Object>) {
    let objects = || plan.deletions.iter().chain(&plan.held).map(|(object, _)| *object);
    let mut log: BTreeMap<LineageId, BTreeSet<Lsn>> = BTreeMap::new();
    for object in objects() {
        if let Object::Log(lineage, first) = object {
            log.entry(lineage).or_default().insert(first);
        }
    }
    let mut spared: BTreeMap<LineageId, Lsn> = BTreeMap::new();
    for object in objects().filter(|object| needed.contains(object)) {
        let (lineage, from) = match object {
            Object::Log(lineage, first) => (lineage, first),
            Object::Snapshot(lineage, lsn) => {
                let read = facts.snapshot(lineage, lsn);
                (lineage, read.map_or(lsn, |read| read.replay_from))
            }
            Object::Start(_) | Object::Page(_) => continue,
        };
        let least = spared.entry(lineage).or_insert(from);
        *least = from.min(*least);
    }
    for (lineage, from) in spared {
        let Some(log) = log.get_mut(&lineage) else { continue };
        // The object that holds the first entry begins at it or before it.
        let from = log.range(..=from).next_back().copied().unwrap_or(from);
        needed.extend(log.split_off(&from).into_iter().map(|first| Object::Log(lineage, first)));
    }
}

fn by_snapshots(
    client: &Client,
    plan: &Plan,
    needed: &mut BTreeSet<Object>,
    facts: &mut Facts,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<()> {
    let is_page = |object: &Object| matches!(object, Object::Page(_));
    let pages = || plan.deletions.iter().map(|(object, _)| *object).filter(is_page);
    if pages().next().is_none() {
        return Ok(());
    }
    let objects = plan.deletions.iter().map(|(object, _)| *object);
    let go: BTreeSet<Object> = objects.filter(|object| matches!(object, Object::Snapshot(..))).collect();
    let mut named = Numbers::default();
    for lineage in history::lineages(client)? {
        for listed in client.list(&snapshot_prefix(lineage))? {
            let Some(lsn) = parse_lsn(&listed.key) else { continue };
            let object = Object::Snapshot(lineage, lsn);
            let stays = !go.contains(&object) || needed.contains(&object);
            if stays
                && facts.read(client, (lineage, lsn, listed.bytes), damage)?
                && let Some(read) = facts.snapshot(lineage, lsn)
            {
                named.add(&read.pages);
            }
        }
    }
    let is_named = |object: &Object| match object {
        Object::Page(hash) => facts.number(hash).is_some_and(|number| named.contains(number)),
        _ => false,
    };
    needed.extend(pages().filter(is_named));
    Ok(())
}
