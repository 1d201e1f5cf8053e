//! Where the log ends: recovery's reading, from the disk alone.
//!
//! - Rule **chain**: the newest valid header names its predecessor and where that one ended, and so on down. What
//!   the chain does not name is not log; files above with valid batches are evidence.
//! - Rule **end**: p is the first invalid position. E is the greatest `durable_end` in any valid batch, sought at
//!   every block start and from each valid batch on, or in any header of the chain. p < E is corruption; otherwise
//!   the log ends at p.
//! - Rule **previous checksum**: a batch follows another at its exact end or at the next block start, and only if it
//!   names its checksum.
//! - Rule **missing file**: corruption if the seal at the end of the newest segment names one that is not there, or one
//!   without a valid header that is known to have been durable. Below the chain: if an entry above a base is missing.
//! - Rule **headless**: a directory in which no header is valid is damaged, unless it holds nothing but a first
//!   segment without a batch: a creation that never ended.
//! - Rule **votes**: the newest vote of any valid batch or header, also behind the end.

use std::rc::Rc;

use super::bytes::{BLOCK_UNITS, Batch, FIRST, Header, Kind, Position, Unit, round_up};
use super::disk::Disk;
use super::group::Group;
use super::mutation::Mutation;

/// Why recovery says that the log is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Damage {
    /// Invalid bytes before what was durable.
    Hole(Position),
    /// A segment that a seal names is not there.
    MissingFile(u8),
    /// A batch or header contradicts what is current.
    Contradiction(Position),
    /// An entry above a group's base is missing or doubtful.
    Missing(u8),
}

/// What recovery found.
pub struct Recovered {
    /// The groups, composed.
    pub groups: Vec<Group>,
    /// Where the log ends.
    pub end: Position,
    /// Checksum of the last batch of its segment.
    pub previous: u64,
    /// The segments of the log, ascending.
    pub chain: Vec<u8>,
    /// The number of the next segment: above every number in any name, and above what seals and batches name.
    pub number: u8,
    /// What a new segment's header will name: an empty last segment is skipped.
    pub predecessor: Option<Position>,
    /// The first damage found.
    pub damage: Option<Damage>,
    /// Segments below the newest header that its chain does not name.
    pub unnamed: Vec<u8>,
    /// Files above it that hold nothing, except the highest-numbered and the one that a seal names.
    pub hollow: Vec<u8>,
}

struct Link {
    number: u8,
    header: Option<Rc<Header>>,
    bound: Option<u8>,
}

/// Reads one disk, as a process sees it.
pub struct Reader<'a> {
    disk: &'a Disk,
    mutation: Mutation,
}

impl<'a> Reader<'a> {
    /// A reader of this disk.
    pub fn new(disk: &'a Disk, mutation: Mutation) -> Self {
        Self { disk, mutation }
    }

    fn without(&self, rule: Mutation) -> bool {
        self.mutation == rule
    }

    fn unit(&self, segment: u8, offset: u8) -> &'a Unit {
        self.disk.unit(Position { segment, offset }, self.mutation == Mutation::CachedTail)
    }

    /// The header of a segment, if it is valid.
    pub fn header(&self, number: u8) -> Option<Rc<Header>> {
        match self.unit(number, 0) {
            Unit::Head(header) if header.segment == number => Some(Rc::clone(header)),
            _ => None,
        }
    }

    /// The valid batch that begins at this place.
    pub fn batch(&self, segment: u8, offset: u8) -> Option<Rc<Batch>> {
        let Unit::Part(batch, 0) = self.unit(segment, offset) else { return None };
        let whole = (1..batch.units).all(
            |part| matches!(self.unit(segment, offset + part), Unit::Part(other, at) if *at == part && other == batch),
        );
        let seeded =
            self.mutation == Mutation::UnseededChecksum || batch.place == Position { segment, offset };
        (whole && seeded).then(|| Rc::clone(batch))
    }

    fn capacity(&self, number: u8) -> u8 {
        self.disk.file(number).map_or(0, |file| file.blocks.len() as u8 * BLOCK_UNITS)
    }

    /// All valid batches of a segment: at every block start, and from each valid batch found on, batch by batch.
    pub fn batches(&self, number: u8) -> Vec<Rc<Batch>> {
        let mut found: Vec<Rc<Batch>> = Vec::new();
        for start in (FIRST..self.capacity(number)).step_by(usize::from(BLOCK_UNITS)) {
            let mut at = start;
            while let Some(batch) = self.batch(number, at) {
                at += batch.units;
                if !found.contains(&batch) {
                    found.push(batch);
                }
            }
        }
        found
    }

    fn chain(&self) -> Vec<Link> {
        let numbers = self.disk.numbers();
        let mut links = Vec::new();
        let mut above: Vec<Link> = Vec::new();
        let mut at = None;
        for &number in numbers.iter().rev() {
            if self.header(number).is_some() {
                at = Some(number);
                break;
            }
            if !self.batches(number).is_empty() {
                above.push(Link { number, header: None, bound: None });
            }
        }
        let mut bound = None;
        while let Some(number) = at {
            let header = self.header(number);
            let predecessor = header.as_ref().and_then(|header| header.predecessor);
            let damaged = header.is_none();
            links.push(Link { number, header, bound });
            (at, bound) = match predecessor {
                Some(end) if numbers.contains(&end.segment) => (Some(end.segment), Some(end.offset)),
                // A rotten header names nothing: the next lower segment is taken, its end is not known.
                None if damaged => (numbers.iter().rev().find(|lower| **lower < number).copied(), None),
                _ => (None, None),
            };
        }
        links.reverse();
        above.reverse();
        links.extend(above);
        links
    }

    /// Every `durable_end` there is: the greatest is E of the end rule.
    fn evidence(&self, links: &[Link]) -> Vec<Position> {
        let mut evidence = vec![Position::default()];
        if self.without(Mutation::NoEvidence) {
            return evidence;
        }
        for link in links {
            if let Some(end) = link.header.as_ref().and_then(|header| header.predecessor) {
                evidence.push(end);
            }
            for batch in self.batches(link.number) {
                let proof = match self.mutation {
                    Mutation::AnyLaterBatchProves => batch.place,
                    _ => batch.durable_end,
                };
                evidence.push(proof);
            }
        }
        evidence
    }

    /// Reads everything.
    pub fn recover(&self, groups: u8) -> Recovered {
        let links = self.chain();
        let evidence = self.evidence(&links);
        let greatest = evidence.iter().copied().max().unwrap_or_default();
        let mut walk = Walk {
            reader: self,
            groups: vec![Group::default(); usize::from(groups)],
            damage: None,
            last_seal: None,
            begun: false,
        };
        let (end, previous) = walk.run(&links, &evidence, greatest);
        let Walk { mut groups, mut damage, last_seal, .. } = walk;
        let numbers = self.disk.numbers();
        if let Some(next) = last_seal
            && !numbers.contains(&next)
            && !(self.without(Mutation::LaterFileStandsIn) && numbers.last().is_some_and(|last| *last > next))
        {
            // What it held is unknown: a hole like any other.
            damage = damage.or(Some(Damage::MissingFile(next)));
            groups.iter_mut().for_each(Group::hole);
        }
        if let Some(next) = last_seal
            && numbers.contains(&next)
            && self.header(next).is_none()
            && greatest > end
        {
            damage = damage.or(Some(Damage::Hole(Position { segment: next, offset: 0 })));
            groups.iter_mut().for_each(Group::hole);
        }
        if let Some(group) = groups.iter().position(|group| !group.complete()) {
            damage = damage.or(Some(Damage::Missing(group as u8)));
        }
        let headless = numbers.iter().all(|number| self.header(*number).is_none());
        if let (true, Some(&last), false) =
            (headless, numbers.last(), self.without(Mutation::HeadlessIsEmpty))
        {
            let unfinished = last == 1 && links.is_empty();
            if !unfinished {
                damage = damage.or(Some(Damage::Hole(Position { segment: last, offset: 0 })));
                if links.is_empty() {
                    groups.iter_mut().for_each(Group::hole);
                }
            }
        }
        if !self.without(Mutation::VotesBeforeTheEnd) {
            self.find_votes(&numbers, &mut groups);
        }
        let newest = links.iter().rev().find_map(|link| link.header.clone());
        let empty = newest.as_ref().is_some_and(|header| {
            end == Position { segment: header.segment, offset: FIRST } && header.predecessor.is_some()
        });
        let end = if end == Position::default() {
            // Nothing was readable: what heals it still names what it found.
            Position { segment: numbers.last().copied().unwrap_or(0), offset: 0 }
        } else {
            end
        };
        let predecessor =
            if empty { newest.as_ref().and_then(|header| header.predecessor) } else { Some(end) };
        let chain: Vec<u8> = links.iter().map(|link| link.number).collect();
        let (unnamed, hollow) = if damage.is_none() {
            self.removable(&chain, newest.as_ref(), last_seal)
        } else {
            Default::default()
        };
        let named = last_seal.unwrap_or(0).max(greatest.segment);
        let number = numbers.last().copied().unwrap_or(0).max(named) + 1;
        Recovered { number, groups, end, previous, chain, predecessor, damage, unnamed, hollow }
    }

    fn find_votes(&self, numbers: &[u8], groups: &mut [Group]) {
        for &number in numbers {
            if let Some(header) = self.header(number) {
                for (group, row) in groups.iter_mut().zip(&header.table) {
                    group.vote = group.vote.max(row.vote);
                }
            }
            for batch in self.batches(number) {
                if let Kind::Vote(vote) = batch.kind {
                    let group = &mut groups[usize::from(batch.group)];
                    group.vote = group.vote.max(vote);
                }
            }
        }
    }

    /// Checksum of the batch that ends at a place; of none, behind the header.
    pub fn checksum_before(&self, end: Position) -> u64 {
        let before = self.batches(end.segment).into_iter().find(|batch| batch.end() == end);
        before.map_or(0, |batch| batch.crc)
    }

    /// In how many places in these segments a group's vote stands. A header counts as one.
    pub fn vote_places(&self, segments: &[u8], group: u8, vote: u8) -> usize {
        let mut places = 0;
        for &number in segments {
            let row = self.header(number).map(|header| header.table[usize::from(group)]);
            places += usize::from(row.is_some_and(|row| row.vote >= vote));
            let holds =
                |batch: &Rc<Batch>| matches!(batch.kind, Kind::Vote(v) if v >= vote) && batch.group == group;
            places += self.batches(number).iter().filter(|batch| holds(batch)).count();
        }
        places
    }

    /// Rule **cleaning**: an open deletes what the newest valid header's chain does not name below it, and above it
    /// every file without a valid header or batch except the highest-numbered, whose number must not come again, and
    /// the one that a closing seal names, which would be missed.
    fn removable(
        &self,
        chain: &[u8],
        newest: Option<&Rc<Header>>,
        last_seal: Option<u8>,
    ) -> (Vec<u8>, Vec<u8>) {
        let Some(newest) = newest else { return Default::default() };
        let numbers = self.disk.numbers();
        let outside = numbers.iter().copied().filter(|number| !chain.contains(number));
        let (unnamed, above): (Vec<u8>, Vec<u8>) = outside.partition(|number| *number < newest.segment);
        let sealed = last_seal.filter(|_| !self.without(Mutation::NamedFileGoes));
        let stays = |number: &u8| Some(number) == numbers.last() || Some(*number) == sealed;
        (unnamed, above.into_iter().filter(|number| !stays(number)).collect())
    }
}

/// One walk over the chain, composing.
struct Walk<'a> {
    reader: &'a Reader<'a>,
    groups: Vec<Group>,
    damage: Option<Damage>,
    last_seal: Option<u8>,
    begun: bool,
}

impl Walk<'_> {
    fn run(&mut self, links: &[Link], all: &[Position], evidence: Position) -> (Position, u64) {
        let mut end = Position::default();
        let mut last = 0;
        for link in links {
            let start = Position { segment: link.number, offset: FIRST };
            match &link.header {
                Some(header) => self.meet_header(header),
                // An open has passed it over, and named the segment that it began.
                None if self.last_seal.is_some_and(|named| link.number < named) => continue,
                None if link.bound.is_some() || Position { offset: 0, ..start } < evidence => {
                    self.hole(Position { offset: 0, ..start })
                }
                None => return (end, last),
            }
            // After a hole the checksum of the batch before is not known.
            let mut previous = link.header.is_some().then_some(0);
            let mut at = start;
            loop {
                end = at;
                last = previous.unwrap_or(0);
                if link.bound == Some(at.offset) {
                    break;
                }
                if let Some((offset, batch)) = self.follow(at, previous, link.bound) {
                    self.compose(&batch);
                    previous = Some(batch.crc);
                    at.offset = offset + batch.units;
                    continue;
                }
                let bounded = link.bound.is_some() && self.reader.mutation != Mutation::NoEvidence;
                if at >= evidence && !bounded {
                    return (at, last);
                }
                // The end of a segment is not known when the next one's header is rotten. Then a valid batch behind
                // everything known to be durable here is perhaps one that an open has dropped.
                let here = all.iter().filter(|end| end.segment == at.segment).max();
                let until = link.bound.or(here.map(|end| end.offset)).unwrap_or(0);
                let until = match self.reader.mutation {
                    Mutation::DroppedBatchesCount
                        if link.bound.is_none() && evidence.segment != at.segment =>
                    {
                        self.reader.capacity(at.segment)
                    }
                    _ => until,
                };
                if at.offset >= until {
                    break;
                }
                self.hole(at);
                previous = None;
                match self.seek(at, until) {
                    Some(next) => at.offset = next,
                    None => break,
                }
            }
        }
        (end, last)
    }

    /// The batch that goes on at `at`: there, or at the next block start.
    fn follow(&self, at: Position, previous: Option<u64>, bound: Option<u8>) -> Option<(u8, Rc<Batch>)> {
        let fits = |batch: &Rc<Batch>, offset: u8| {
            let chained = self.reader.mutation == Mutation::NoPreviousChecksum
                || previous.is_none_or(|previous| previous == batch.previous);
            chained && bound.is_none_or(|bound| offset + batch.units <= bound)
        };
        [at.offset, round_up(at.offset)].into_iter().find_map(|offset| {
            let batch = self.reader.batch(at.segment, offset)?;
            fits(&batch, offset).then_some((offset, batch))
        })
    }

    /// Where reading goes on behind a hole at `at`: at the next valid batch, or at the end of what is known.
    fn seek(&self, at: Position, until: u8) -> Option<u8> {
        let mut starts = (round_up(at.offset + 1)..until).step_by(usize::from(BLOCK_UNITS));
        let found = starts.find(|start| self.reader.batch(at.segment, *start).is_some());
        found.or((until > at.offset).then_some(until))
    }

    fn meet_header(&mut self, header: &Header) {
        if self.begun {
            for (group, row) in self.groups.iter_mut().zip(&header.table) {
                if group.meet_table(row, self.reader.mutation).is_err() {
                    let at = Position { segment: header.segment, offset: 0 };
                    self.damage = self.damage.or(Some(Damage::Contradiction(at)));
                }
            }
        } else {
            self.groups = header.table.iter().map(Group::from_row).collect();
        }
        self.begun = true;
        self.last_seal = None;
    }

    fn hole(&mut self, at: Position) {
        self.damage = self.damage.or(Some(Damage::Hole(at)));
        self.begun = true;
        if self.reader.mutation != Mutation::NothingIsDoubtful {
            self.groups.iter_mut().for_each(Group::hole);
        }
    }

    fn compose(&mut self, batch: &Batch) {
        self.last_seal = match batch.kind {
            Kind::Seal(next) => next,
            _ => None,
        };
        let group = if self.reader.mutation == Mutation::GroupsMixed { 0 } else { usize::from(batch.group) };
        if self.groups[group].apply(batch, self.reader.mutation).is_err() {
            self.damage = self.damage.or(Some(Damage::Contradiction(batch.place)));
        }
    }
}
