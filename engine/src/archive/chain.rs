//! Walking a chain by key, proving each object and each link.
//!
//! The object behind one that ends at L stands at the key of L + 1: so a walk needs no listing, and its end is the first
//! key at which there is nothing. Whether objects stand *behind* that end, which makes it a [`hole`], only a listing
//! tells ([`listed`]).

use std::collections::BTreeMap;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result, Term};

use super::layout::{log_key, log_prefix, parse_lsn, start_key};
use super::object::{self, Gap, Kind, Link, LogManifest, LogObject, Owner, Start};
use super::store::Client;

/// What the next object of a chain must follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The entry that comes next.
    pub next: Lsn,
    /// The object before; `None` when the walk began in the middle, where nothing is known of it.
    pub link: Option<Link>,
    /// Term of the entry before; [`Term::NONE`] when not known.
    pub term: Term,
    /// Time of the entry before; 0 when not known.
    pub time_ms: u64,
}

/// One object of a chain, behind its start.
#[derive(Clone, Debug)]
pub enum Item {
    /// Entries.
    Log(LogObject),
    /// Entries that were never archived.
    Gap(Gap, Link),
}

/// A walk along a chain.
#[derive(Clone, Debug)]
pub struct Chain {
    client: Client,
    owner: Owner,
    position: Position,
}

impl Item {
    /// The first entry.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        match self {
            Self::Log(object) => object.manifest.first_lsn,
            Self::Gap(gap, _) => gap.first_lsn,
        }
    }

    /// The last entry.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        match self {
            Self::Log(object) => object.manifest.last_lsn,
            Self::Gap(gap, _) => gap.last_lsn,
        }
    }

    /// Names it in the chain.
    #[must_use]
    pub fn link(&self) -> Link {
        match self {
            Self::Log(object) => object.link,
            Self::Gap(_, link) => *link,
        }
    }

    fn owner(&self) -> Owner {
        match self {
            Self::Log(object) => object.manifest.owner,
            Self::Gap(gap, _) => gap.owner,
        }
    }

    fn previous(&self) -> Link {
        match self {
            Self::Log(object) => object.manifest.previous,
            Self::Gap(gap, _) => gap.previous,
        }
    }

    /// Reads an object, whichever it is.
    fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        match object::open(key, bytes)?.kind {
            Kind::Gap => Gap::decode(key, bytes).map(|(gap, link)| Self::Gap(gap, link)),
            _ => LogObject::decode(key, bytes).map(Self::Log),
        }
    }
}

/// Fetches where a lineage begins; `None` when there is none.
///
/// # Errors
/// `ArchiveCorrupt`, `UnsupportedFormat`, `ArchiveUnavailable`.
pub fn start(client: &Client, lineage: LineageId) -> Result<Option<(Start, Link)>> {
    client.fetch(&start_key(lineage), Kind::Start, Start::decode)
}

/// Fetches an object of a chain, which proves itself and not yet what it follows.
///
/// # Errors
/// As [`Chain::next_item`].
pub(crate) fn fetch(client: &Client, key: &str) -> Result<Option<Item>> {
    client.fetch(key, Kind::Log, Item::decode)
}

impl Chain {
    /// Walks from the first object behind the start.
    #[must_use]
    pub fn from_start(client: &Client, start: &Start, link: Link) -> Self {
        let position = Position { next: start.first_lsn, link: Some(link), term: Term::NONE, time_ms: 0 };
        Self::from_position(client, start.owner, position)
    }

    /// Walks from the object that begins at an LSN, whose link back is not proven.
    #[must_use]
    pub fn from_lsn(client: &Client, owner: Owner, first: Lsn) -> Self {
        let position = Position { next: first, link: None, term: Term::NONE, time_ms: 0 };
        Self::from_position(client, owner, position)
    }

    /// Goes on from a place that is known.
    #[must_use]
    pub fn from_position(client: &Client, owner: Owner, position: Position) -> Self {
        Self { client: client.clone(), owner, position }
    }

    /// Where the walk has come to.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whose chain it is.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The next object; `None` where there is none.
    ///
    /// # Errors
    /// `ArchiveCorrupt` naming the object; `UnsupportedFormat`, `ArchiveUnavailable`. The walk has not moved then.
    pub fn next_item(&mut self) -> Result<Option<Item>> {
        let key = log_key(self.owner.lineage, self.position.next);
        let found = self.client.fetch(&key, Kind::Log, |key, bytes| self.decode(key, bytes))?;
        if let Some(item) = &found {
            self.follow(item);
        }
        Ok(found)
    }

    /// Counts an object that was fetched apart as the next one, if it is.
    ///
    /// # Errors
    /// `ArchiveCorrupt` when it is not. The walk has not moved then.
    pub(crate) fn admit(&mut self, item: &Item) -> Result<()> {
        self.check(&log_key(self.owner.lineage, self.position.next), item)?;
        self.follow(item);
        Ok(())
    }

    /// Counts an object that is known to be right as the next one.
    pub fn follow(&mut self, item: &Item) {
        self.position.next = item.last_lsn().next();
        self.position.link = Some(item.link());
        if let Item::Log(object) = item {
            self.position.term = object.manifest.last_term;
            self.position.time_ms = object.manifest.last_time_ms;
        }
    }

    /// Reads the object that was fetched from `key` and proves that it is the next one.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(&self, key: &str, bytes: &[u8]) -> Result<Item> {
        let item = Item::decode(key, bytes)?;
        self.check(key, &item)?;
        Ok(item)
    }

    /// Counts a log object that was just put as the next one.
    pub(super) fn follow_log(&mut self, manifest: &LogManifest, link: Link) {
        self.position = Position {
            next: manifest.last_lsn.next(),
            link: Some(link),
            term: manifest.last_term,
            time_ms: manifest.last_time_ms,
        };
    }

    /// Counts a gap that was just put as the next object; `term` is that of its last entry.
    pub(super) fn follow_gap(&mut self, gap: &Gap, link: Link, term: Term) {
        let time_ms = self.position.time_ms;
        self.position = Position { next: gap.last_lsn.next(), link: Some(link), term, time_ms };
    }

    fn check(&self, key: &str, item: &Item) -> Result<()> {
        let damage = |expected: String, found: String| {
            let damage = ArchiveDamage::new(key, "chain", expected, found);
            Err(damage.taking(item.first_lsn(), item.last_lsn()).into())
        };
        if item.owner() != self.owner {
            let expected = format!("an object of database {}", self.owner.database);
            return damage(expected, format!("one of {}", item.owner().database));
        }
        if let Some(link) = self.position.link
            && item.previous() != link
        {
            return damage(format!("the object behind {link}"), format!("one behind {}", item.previous()));
        }
        let Item::Log(object) = item else { return Ok(()) };
        let (term, time_ms) = (object.manifest.first_term, object.manifest.first_time_ms);
        if term < self.position.term || time_ms < self.position.time_ms {
            let expected = format!("term {} and time {} or later", self.position.term, self.position.time_ms);
            return damage(expected, format!("term {term}, time {time_ms}"));
        }
        Ok(())
    }
}

/// The LSNs at which objects of a chain begin, with their lengths, as a listing has them: a hint.
///
/// # Errors
/// `ArchiveUnavailable`.
pub fn listed(client: &Client, lineage: LineageId) -> Result<BTreeMap<Lsn, u64>> {
    let objects = client.list(&log_prefix(lineage))?;
    Ok(objects.into_iter().filter_map(|object| Some((parse_lsn(&object.key)?, object.bytes))).collect())
}

/// The damage that a hole is: nothing stands at `next`, and yet the chain goes on behind it.
#[must_use]
pub fn hole(lineage: LineageId, next: Lsn, behind: Lsn) -> ArchiveDamage {
    let found = format!("none, and the chain goes on at {behind}");
    ArchiveDamage::new(&log_key(lineage, next), "chain", "an object", found).taking(next, behind.previous())
}
