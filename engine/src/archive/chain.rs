//! Walking a chain by key, proving each object and each link.
//!
//! The object behind one that ends at L stands at the key of L + 1: so a walk needs no listing, and its end is the first
//! key at which there is nothing. Whether objects stand *behind* that end, which makes it a [`hole`], only a listing
//! tells ([`listed`]).

use logwood_base::{ArchiveDamage, Error, LineageId, Lsn, Result, Term};

use super::layout::{log_key, start_key};
use super::object::{self, Gap, Kind, Link, LogManifest, LogObject, Owner, Start};
use super::store::Client;

mod listed;

pub use listed::{hole, listed};
pub(crate) use listed::{listed_at, listed_from, tail};

/// How much of an object is fetched to see its head and its manifest, if that is not long.
const FIRST_BYTES: u64 = 1 << 10;

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

    /// The last entry that it tells anything of: of a gap, the one that its snapshot ends with.
    pub(crate) fn reaches(&self) -> Lsn {
        match self {
            Self::Log(object) => object.manifest.last_lsn,
            Self::Gap(gap, _) => gap.snapshot_lsn,
        }
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Owner {
        match self {
            Self::Log(object) => object.manifest.owner,
            Self::Gap(gap, _) => gap.owner,
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

    /// Its place in the chain.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Log(object) => Place::of_log(&object.manifest, object.link),
            Self::Gap(gap, link) => Place::of_gap(gap.clone(), *link),
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

/// What an object says of its place in a chain.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    owner: Owner,
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    pub(crate) previous: Link,
    pub(crate) link: Link,
    pub(crate) content: Content,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Entries: term and time of the first and of the last.
    Entries((Term, u64), (Term, u64)),
    /// A gap.
    Gap(Gap),
}

impl Place {
    /// The entry that comes next in the chain, or would, were it not closed here.
    pub(crate) fn next(&self) -> Lsn {
        if self.is_end() { self.first_lsn } else { self.last_lsn.next() }
    }

    /// Whether the lineage was closed here.
    pub(crate) fn is_end(&self) -> bool {
        matches!(&self.content, Content::Gap(gap) if gap.is_end())
    }

    fn of_log(manifest: &LogManifest, link: Link) -> Self {
        let first = (manifest.first_term, manifest.first_time_ms);
        let last = (manifest.last_term, manifest.last_time_ms);
        Self {
            owner: manifest.owner,
            first_lsn: manifest.first_lsn,
            last_lsn: manifest.last_lsn,
            previous: manifest.previous,
            link,
            content: Content::Entries(first, last),
        }
    }

    fn of_gap(gap: Gap, link: Link) -> Self {
        let Gap { owner, first_lsn, last_lsn, previous, .. } = gap;
        Self { owner, first_lsn, last_lsn, previous, link, content: Content::Gap(gap) }
    }

    /// Reads the first bytes of an object of `total` bytes; how many are needed, when these are too few.
    fn peek(key: &str, first: &[u8], total: u64) -> Result<Result<Self, u64>> {
        let heading = object::peek(key, first, total)?;
        if heading.kind == Kind::Gap && first.len() as u64 == total {
            return Gap::decode(key, first).map(|(gap, link)| Ok(Self::of_gap(gap, link)));
        }
        if heading.kind != Kind::Log {
            let found = heading.kind as u8;
            return Err(ArchiveDamage::new(key, "object kind", Kind::Log as u8, found).into());
        }
        let Some(manifest) = heading.manifest else { return Ok(Err(heading.first_bytes)) };
        LogManifest::peek(key, manifest).map(|manifest| Ok(Self::of_log(&manifest, heading.link)))
    }
}

/// Looks at an object of a chain, which a listing says is `total` bytes long, without reading its entries. So what it
/// says is not proven; that the objects follow each other is.
///
/// # Errors
/// As [`Chain::next_item`].
pub(crate) fn peek(client: &Client, key: &str, total: u64) -> Result<Option<Place>> {
    let mut first = FIRST_BYTES.min(total);
    loop {
        match client.fetch_first(key, first, |key, bytes| Place::peek(key, bytes, total))? {
            None => return Ok(None),
            Some(Ok(place)) => return Ok(Some(place)),
            Some(Err(needed)) => first = needed,
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

/// As [`start`], of a lineage that was there: that its start is gone is asked more than once.
///
/// # Errors
/// As [`start`]; `ArchiveCorrupt` also where the store says that it is there, and does not give it.
pub(crate) fn start_of(client: &Client, lineage: LineageId) -> Result<Option<(Start, Link)>> {
    let key = start_key(lineage);
    match start(client, lineage)? {
        None if client.is_gone(&key)? => Ok(None),
        None => client.require(&key, Kind::Start, Start::decode).map(Some),
        found => Ok(found),
    }
}

/// Answers what was read, and keeps the damage of what cannot be.
pub(crate) fn readable<T>(found: Result<T>, damage: &mut Vec<ArchiveDamage>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::ArchiveCorrupt(evidence)) => {
            if !damage.contains(&evidence) {
                damage.push(*evidence);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
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
    pub(crate) fn admit(&mut self, place: &Place) -> Result<()> {
        self.check(&log_key(self.owner.lineage, self.position.next), place)?;
        self.follow_place(place);
        Ok(())
    }

    /// Counts an object that is known to be right as the next one.
    pub fn follow(&mut self, item: &Item) {
        self.follow_place(&item.place());
    }

    fn follow_place(&mut self, place: &Place) {
        self.position.next = place.last_lsn.next();
        self.position.link = Some(place.link);
        if let Content::Entries(_, (term, time_ms)) = place.content {
            (self.position.term, self.position.time_ms) = (term, time_ms);
        }
    }

    /// Reads the object that was fetched from `key` and proves that it is the next one.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(&self, key: &str, bytes: &[u8]) -> Result<Item> {
        let item = Item::decode(key, bytes)?;
        self.check(key, &item.place())?;
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

    fn check(&self, key: &str, place: &Place) -> Result<()> {
        let damage = |expected: String, found: String| {
            let damage = ArchiveDamage::new(key, "chain", expected, found);
            Err(damage.taking(place.first_lsn, place.last_lsn).into())
        };
        if place.owner != self.owner {
            let expected = format!("an object of database {}", self.owner.database);
            return damage(expected, format!("one of {}", place.owner.database));
        }
        if let Some(link) = self.position.link
            && place.previous != link
        {
            return damage(format!("the object behind {link}"), format!("one behind {}", place.previous));
        }
        let Content::Entries((term, time_ms), _) = place.content else { return Ok(()) };
        if term < self.position.term || time_ms < self.position.time_ms {
            let expected = format!("term {} and time {} or later", self.position.term, self.position.time_ms);
            return damage(expected, format!("term {term}, time {time_ms}"));
        }
        Ok(())
    }
}
