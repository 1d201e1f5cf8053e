//! Healing gives back what damage took, and can be cut off anywhere.

use fastrand::Rng;
use logwood_base::{Access, Disk, Error, GroupId, Lsn, NodeId, Term};

use super::damage::{closed_log, log_files, right_or_named};
use super::model::reopen;
use super::world::{GROUP, World, commit, contents, payload, small, vote};
use crate::{Append, BaseState, Durability, Entry, Expect, Group, Hole, Log};

/// Gives back what these tests wrote.
fn give(hole: &Hole, expected: &[(Lsn, Term)]) -> Vec<Entry> {
    let last = hole.last.map_or(Lsn::MAX, |(lsn, _)| lsn);
    let wanted = expected.iter().filter(|(lsn, _)| *lsn >= hole.first && *lsn <= last);
    wanted
        .map(|(lsn, term)| Entry { lsn: *lsn, term: *term, payload: payload(*lsn, *term, 300).into() })
        .collect()
}

#[test]
fn a_hole_anywhere_heals_and_stays_healed() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    let mut healed = 0;
    for path in log_files(&world) {
        let blocks = world.disk.read_file(&path).unwrap().len() / 4096;
        for block in 1..blocks {
            let damaged = World::over(world.disk.snapshot(), block as u64);
            damaged.disk.flip_bit(&path, block as u64 * 4096 + 70, 1);
            if reopen(&World::over(damaged.disk.snapshot(), 1), small()).is_ok() {
                continue;
            }
            healed += 1;
            let opened =
                Log::heal(&damaged.env, &damaged.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
                    Ok(give(hole, if hole.group == GROUP { &expected } else { &second }))
                });
            let (log, recovered) =
                opened.unwrap_or_else(|error| panic!("{} block {block}: {error}", path.display()));
            assert!(!recovered.healed.is_empty());
            assert_eq!(
                contents(&log.group(GROUP).unwrap(), 300),
                expected,
                "{} block {block}",
                path.display()
            );
            assert_eq!(
                contents(&log.group(GroupId(2)).unwrap(), 300),
                second,
                "{} block {block}",
                path.display()
            );
            commit(&log.group(GROUP).unwrap(), 9, 300).unwrap();
            drop(log);
            damaged.spawner.kill_all();
            damaged.disk.crash(&mut Rng::with_seed(block as u64));
            let again = World::over(damaged.disk.clone(), 1);
            let (log, _) = reopen(&again, small()).unwrap();
            assert_eq!(log.group(GROUP).unwrap().last(), (Lsn(151), Term(9)));
        }
    }
    assert!(healed > 100, "{healed}");
}

#[test]
fn a_crash_anywhere_in_healing_leaves_it_to_be_done_again() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    world.disk.flip_bit(&log_files(&world)[1], 5 * 4096 + 70, 1);
    let heal = |world: &World| {
        Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
            Ok(give(hole, if hole.group == GROUP { &expected } else { &second }))
        })
    };
    for n in 1..60 {
        for future in 0..3 {
            let damaged = World::over(world.disk.snapshot(), n);
            damaged.disk.crash_at(n);
            drop(heal(&damaged));
            damaged.spawner.kill_all();
            let stopped = damaged.disk.is_stopped();
            damaged.disk.cancel_stop();
            damaged.disk.crash(&mut Rng::with_seed(n * 10 + future));
            let again = World::over(damaged.disk.clone(), 1);
            let (log, _) = heal(&again).unwrap_or_else(|error| panic!("call {n}: {error}"));
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected, "call {n}");
            assert!(stopped || n > 20);
        }
    }
}

#[test]
fn entries_that_do_not_fit_a_hole_are_refused_and_nothing_changes() {
    let (world, expected) = closed_log(60);
    world.disk.flip_bit(&log_files(&world)[1], 3 * 4096 + 70, 1);
    let before: Vec<_> = world.disk.paths();
    for wrong in 0..3 {
        let healed =
            Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
                let mut entries = give(hole, &expected);
                match wrong {
                    0 => entries.truncate(entries.len().saturating_sub(1)),
                    1 => entries.iter_mut().for_each(|entry| entry.term = Term(77)),
                    _ => return Err(Error::Closed),
                }
                Ok(entries)
            });
        assert!(healed.is_err());
        assert_eq!(world.disk.paths(), before);
        assert!(world.disk.open(&before[0], Access::Read).is_ok());
    }
}

#[test]
fn a_vanished_segment_stays_damage_while_healing_crashes() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    // The newest segment with entries, which a seal names, and the prepared ones above it are gone.
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    for path in log_files(&world).into_iter().skip(report.segments.len() - 1) {
        assert!(world.disk.remove_file(&path));
    }
    for n in 1..50 {
        let damaged = World::over(world.disk.snapshot(), n);
        damaged.disk.crash_at(n);
        let give_back =
            &mut |hole: &Hole| Ok(give(hole, if hole.group == GROUP { &expected } else { &second }));
        drop(Log::heal(&damaged.env, &damaged.dir, Expect::default(), small(), &mut |_| {}, give_back));
        damaged.spawner.kill_all();
        damaged.disk.cancel_stop();
        damaged.disk.crash(&mut Rng::with_seed(n));
        right_or_named(&damaged, &expected, &format!("call {n}"));
    }
}

/// A log whose member votes in term 6; then something is written behind that, and these copies of the vote rot. Answers
/// what healing asks for.
fn holes_behind_a_lost_vote(copies: &[usize], behind: impl Fn(&Log, &Group)) -> Vec<Hole> {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    log.create_group(GroupId(2), BaseState::default()).unwrap();
    commit(&group, 5, 300).unwrap();
    let places = vote(&log, Term(6), NodeId(3));
    behind(&log, &group);
    drop((log, group));
    world.spawner.kill_all();
    world.disk.kill_process();
    for copy in copies {
        world.disk.flip_bit(&log_files(&world)[0], u64::from(places[*copy].offset) + 80, 1);
    }
    let mut holes = Vec::new();
    let fetch = &mut |hole: &Hole| {
        holes.push(hole.clone());
        Ok(give(hole, &[(Lsn(1), Term(5)), (Lsn(2), Term(5))]))
    };
    let (log, recovered) =
        Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, fetch).unwrap();
    assert_eq!(recovered.healed.is_empty(), copies.is_empty());
    let kept = log.group(GROUP).unwrap().vote() == (Term(6), NodeId(3));
    let doubtful = holes.iter().any(|hole| hole.group == GROUP && hole.votes_doubtful);
    assert!(kept != doubtful, "copies {copies:?}: a vote is kept, or said to be in doubt: {holes:?}");
    holes
}

/// What the leader of term 6 sends: an entry of the term before.
fn older_entry(group: &Group) {
    let (lsn, old) = (group.last().0.next(), Term(5));
    let bytes = payload(lsn, old, 300);
    let append = Append {
        term: Term(6),
        previous: None,
        first_lsn: lsn,
        entries: &[(old, &bytes)],
        durability: Durability::Durable,
    };
    group.append(append).unwrap().wait().unwrap();
}

#[test]
fn a_vote_of_which_both_copies_rotted_is_in_doubt_whatever_stands_behind() {
    // Each settles where the group's entries end, and none tells the vote.
    for settle in [
        |_: &Log, group: &Group| older_entry(group),
        |_: &Log, group: &Group| group.set_base(Lsn(9), Term(5), b"members").unwrap(),
    ] {
        let behind = |log: &Log, group: &Group| {
            settle(log, group);
            older_entry(group);
        };
        let holes = holes_behind_a_lost_vote(&[0, 1], behind);
        let of = |id| holes.iter().filter(move |hole| hole.group == id).collect::<Vec<_>>();
        let ([hole], [other]) = (&of(GROUP)[..], &of(GroupId(2))[..]) else { panic!("{holes:?}") };
        assert!(hole.votes_doubtful && other.votes_doubtful, "the hole may have held either's");
        let (last, _) = hole.last.unwrap();
        assert!(last < hole.first, "no entry is missing: {hole:?}");
        for copies in [&[][..], &[0], &[1]] {
            let holes = holes_behind_a_lost_vote(copies, behind);
            assert!(holes.iter().all(|hole| !hole.votes_doubtful), "copies {copies:?}: {holes:?}");
        }
    }
}

#[test]
fn an_older_vote_between_two_holes_is_no_word_about_the_one_that_the_second_took() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    commit(&group, 5, 300).unwrap();
    let rotten = u64::from(log.shared.state.lock().tail);
    commit(&group, 5, 300).unwrap();
    vote(&log, Term(5), NodeId(2));
    let lost = vote(&log, Term(6), NodeId(3));
    older_entry(&group);
    drop((log, group));
    world.spawner.kill_all();
    world.disk.kill_process();
    let path = &log_files(&world)[0];
    for at in lost.iter().map(|place| u64::from(place.offset)).chain([rotten]) {
        world.disk.flip_bit(path, at + 80, 1);
    }
    let mut doubts = Vec::new();
    let fetch = &mut |hole: &Hole| {
        doubts.push(hole.votes_doubtful);
        Ok(give(hole, &[(Lsn(1), Term(5)), (Lsn(2), Term(5)), (Lsn(3), Term(5))]))
    };
    let (log, _) = Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, fetch).unwrap();
    assert_eq!(log.group(GROUP).unwrap().vote(), (Term(5), NodeId(2)));
    assert_eq!(doubts, [true]);
}

#[test]
fn a_later_state_of_the_group_tells_its_vote_and_leaves_the_others_in_doubt() {
    let holes = holes_behind_a_lost_vote(&[0, 1], |_, group| {
        group.set_membership(Lsn(0), b"members").unwrap();
        older_entry(group);
    });
    let doubtful: Vec<_> = holes.iter().filter(|hole| hole.votes_doubtful).map(|hole| hole.group).collect();
    assert_eq!(doubtful, [GroupId(2)]);
}
