//! A scripted run beside a model of what was promised, and the check of what an opening brings back.
//!
//! The oracle: per group, the sequence of changes in the order they were submitted, and how many of them were
//! acknowledged. What is found after a crash must be the result of a prefix of the submitted changes that includes
//! every acknowledged one. Votes may be ahead of that prefix, never behind an answered one.

use std::collections::BTreeMap;

use fastrand::Rng;
use logwood_base::{GroupId, Lsn, NodeId, Result, Term};

use super::world::{World, append_at, contents};
use crate::{BaseState, Durability, Expect, Group, Log, LogOptions, Recovered};

pub(crate) const BYTES: usize = 300;

/// A change to a group.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Begin,
    /// One entry; an append of several may be cut between two batches.
    Append {
        lsn: u64,
        term: u64,
    },
    Base {
        lsn: u64,
    },
}

/// What the model knows of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupModel {
    /// Submitted, in order.
    pub(crate) changes: Vec<Change>,
    /// How many of them were acknowledged as durable.
    pub(crate) durable: usize,
    /// How many of them were acknowledged at all.
    pub(crate) acknowledged: usize,
    pub(crate) vote_asked: (u64, u64),
    pub(crate) vote_answered: (u64, u64),
    pub(crate) committed: u64,
    pub(crate) term: u64,
}

impl GroupModel {
    /// (base, entries above it) after the first `count` changes.
    pub(crate) fn after(&self, count: usize) -> (u64, BTreeMap<u64, u64>) {
        let (mut base, mut entries) = (0, BTreeMap::new());
        for change in &self.changes[..count] {
            match change {
                Change::Begin => {}
                Change::Append { lsn, term } => {
                    entries.retain(|other, _| other < lsn);
                    entries.insert(*lsn, *term);
                }
                Change::Base { lsn } => {
                    base = *lsn;
                    entries.retain(|lsn, _| *lsn > base);
                }
            }
        }
        (base, entries)
    }

    fn last(&self) -> u64 {
        let (base, entries) = self.after(self.changes.len());
        entries.keys().next_back().copied().unwrap_or(base)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, GroupModel>,
}

impl Model {
    /// Checks a log that was opened after a power cut (`power`) or a kill, and goes on from what was found.
    pub(crate) fn check(&mut self, log: &Log, power: bool, context: &str) {
        let found_groups = log.groups();
        for (id, model) in &mut self.groups {
            let must = if power { model.durable } else { model.acknowledged };
            let Some(group) = log.group(*id) else {
                assert_eq!(must, 0, "{context}: {id} is gone");
                *model = GroupModel::default();
                continue;
            };
            let found: BTreeMap<u64, u64> =
                contents(&group, BYTES).into_iter().map(|(lsn, term)| (lsn.0, term.0)).collect();
            let base = group.base().0.0;
            // The log may let entries up to its own base go later than asked, never earlier: bases are asked for.
            let fits = (must..=model.changes.len()).rev().find(|count| {
                let (expected_base, expected) = model.after(*count);
                expected_base == base && expected == found
            });
            let Some(count) = fits else {
                panic!(
                    "{context}: group {id}: found base {base}, {found:?}; acknowledged {:?}, submitted {:?}",
                    model.after(must),
                    model.after(model.changes.len())
                );
            };
            let vote = group.vote();
            let vote = (vote.0.0, vote.1.0);
            assert!(
                vote == model.vote_answered || (vote == model.vote_asked && vote > model.vote_answered),
                "{context}: vote {vote:?}, answered {:?}, asked {:?}",
                model.vote_answered,
                model.vote_asked
            );
            model.changes.truncate(count);
            model.durable = count;
            model.acknowledged = count;
            model.vote_asked = vote;
            model.vote_answered = vote;
            model.committed = model.committed.min(model.last()).max(base);
            model.term = group.last().1.0.max(model.term).max(1);
        }
        self.groups.retain(|id, _| found_groups.contains(id));
    }
}

/// Steps of a run, drawn from a seed. Stops at the first failing call.
pub(crate) fn run(world: &World, log: &Log, model: &mut Model, rng: &mut Rng, steps: usize) -> Result<()> {
    for _ in 0..steps {
        let id = GroupId(if rng.u8(..4) == 0 { 2 } else { 1 });
        let Some(group) = log.group(id) else {
            let entry = model.groups.entry(id).or_default();
            entry.changes = vec![Change::Begin];
            entry.term = 1;
            log.create_group(id, BaseState::default())?;
            entry.durable = 1;
            entry.acknowledged = 1;
            continue;
        };
        step(world, log, &group, model, rng)?;
    }
    Ok(())
}

fn step(world: &World, log: &Log, group: &Group, model: &mut Model, rng: &mut Rng) -> Result<()> {
    let id = group.id();
    let entry = model.groups.get_mut(&id).unwrap();
    match rng.u8(..20) {
        0..=13 => append_some(group, entry, rng),
        14 => {
            entry.committed = entry.committed.max(rng.u64(..=entry.last()));
            group.set_committed(Lsn(entry.committed));
            Ok(())
        }
        15 => {
            let vote = (entry.vote_asked.0 + 1, rng.u64(1..4));
            entry.vote_asked = vote;
            group.set_vote(Term(vote.0), NodeId(vote.1))?;
            entry.vote_answered = vote;
            // Durable on return, and so is all that was queued before it.
            Ok(())
        }
        16 => {
            let (base, _) = entry.after(entry.changes.len());
            let lsn = rng.u64(base..=entry.committed.max(base));
            if lsn == base {
                return Ok(());
            }
            entry.changes.push(Change::Base { lsn });
            let term = group.term_of(Lsn(lsn))?;
            group.set_base(Lsn(lsn), term, b"")?;
            entry.durable = entry.changes.len();
            entry.acknowledged = entry.changes.len();
            Ok(())
        }
        17 => log.maintain(),
        18 => {
            // Which syncs before it gives anything back.
            if rng.bool() { log.compact() } else { log.sync() }?;
            for entry in model.groups.values_mut() {
                entry.durable = entry.acknowledged.max(entry.durable);
            }
            Ok(())
        }
        _ => {
            world.rest();
            log.shared.lock().map(drop)
        }
    }
}

fn append_some(group: &Group, entry: &mut GroupModel, rng: &mut Rng) -> Result<()> {
    let last = entry.last();
    let overriding = rng.u8(..6) == 0 && last > entry.committed;
    let first = if overriding { rng.u64(entry.committed + 1..=last) } else { last + 1 };
    if overriding || rng.u8(..10) == 0 {
        entry.term += 1;
    }
    let count = rng.u64(1..4);
    let durability = if rng.u8(..4) == 0 { Durability::Buffered } else { Durability::Durable };
    let term = entry.term;
    entry.changes.extend((first..first + count).map(|lsn| Change::Append { lsn, term }));
    let ticket = append_at(group, Lsn(first), Term(entry.term), count as usize, BYTES, durability)?;
    if rng.u8(..8) == 0 {
        return Ok(());
    }
    ticket.wait()?;
    entry.acknowledged = entry.changes.len();
    if durability == Durability::Durable {
        entry.durable = entry.changes.len();
    }
    Ok(())
}

pub(crate) fn reopen(world: &World, options: LogOptions) -> Result<(Log, Recovered)> {
    Log::open(&world.env, &world.dir, Expect::default(), options, &mut |_| {})
}
