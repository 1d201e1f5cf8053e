//! Walking a chain to its end when an archiver is attached, and comparing it with the log here on the way.
//!
//! Where the walk ends the archiver goes on: so the end must be known as this history's. It is where its last entry was
//! compared with the log ([`compare`]), or where `LINEAGE` names the object, which this directory has read back before.
//! Where it is neither, for the log has let go of what stands there, nobody can tell whether this log or a copy of it put
//! that: nothing is put behind it then.

use std::collections::BTreeMap;

use logwood_base::{ArchiveDamage, Corruption, Lsn, Result, Term};

use super::chain::{self, Chain, Item, Position, readable};
use super::compare;
use super::layout::log_key;
use super::object::{Link, Start};
use super::source::Source;
use super::store::{Client, missing};
use crate::planted::{Bug, planted};

/// Where a walk ended.
pub(super) struct Walked {
    pub(super) chain: Chain,
    pub(super) confirmed: Option<(Lsn, Link)>,
    /// An object that goes on beyond what is decided here.
    pub(super) other: Option<Item>,
    /// The lineage was superseded, and is closed.
    pub(super) ended: bool,
    /// Whether the end of the chain is known to be of this log's history.
    pub(super) is_known: bool,
}

/// Walks from the object that was noted, else from the one that a listing puts at the log's beginning, to the end.
///
/// # Errors
/// `Fenced` where other entries stand; `Corruption` where the chain reaches further than the log of a database;
/// `ArchiveCorrupt`, also of a hole; what log and store answer.
pub(super) fn walk(
    client: &Client,
    source: &Source,
    start: &Start,
    link: Link,
    noted: Option<(Lsn, Link)>,
    listed: &BTreeMap<Lsn, u64>,
) -> Result<Walked> {
    let mut walked = follow(client, source, begin(client, source, start, link, noted, listed)?, noted)?;
    if let Some(item) = &walked.other {
        refuse_lost_end(source, item)?;
    }
    let position = walked.chain.position();
    if !walked.ended
        && walked.other.is_none()
        && let Some((behind, _)) = listed.range(position.next..).next()
    {
        // Listed before the walk: it was not put meanwhile.
        return Err(chain::hole(start.owner.lineage, position.next, *behind).into());
    }
    if position.term == Term::NONE && position.next > Lsn::FIRST {
        let term = source.term_before(position.next);
        walked.chain = Chain::from_position(client, start.owner, Position { term, ..position });
    }
    Ok(walked)
}

/// Goes on from a place in a chain to its end.
///
/// # Errors
/// As [`walk`], but for holes.
pub(super) fn follow(
    client: &Client,
    source: &Source,
    mut chain: Chain,
    noted: Option<(Lsn, Link)>,
) -> Result<Walked> {
    let (mut confirmed, mut other) = (None, None);
    let mut is_known = true;
    loop {
        let before = chain.clone();
        let Some(item) = chain.next_item()? else { break };
        if matches!(&item, Item::Gap(gap, _) if gap.is_end()) {
            return Ok(Walked { chain: before, confirmed, other: None, ended: true, is_known });
        }
        let (decided, reaches) = (source.decided(), item.reaches());
        let is_compared = match &item {
            Item::Log(object) => {
                compare::entries(source, object, object.manifest.first_lsn, reaches.min(decided))?
            }
            Item::Gap(gap, _) if reaches <= decided => {
                readable(compare::gap(client, source, gap), &mut Vec::new())?.unwrap_or(false)
            }
            Item::Gap(..) => false,
        };
        if reaches > decided {
            // It is compared further before anything is put behind it.
            is_known = true;
            chain = before;
            other = Some(item);
            break;
        }
        let place = (item.first_lsn(), item.link());
        is_known = is_compared || noted == Some(place);
        confirmed = Some(place);
    }
    Ok(Walked { chain, confirmed, other, ended: false, is_known })
}

/// The place where a walk begins.
fn begin(
    client: &Client,
    source: &Source,
    start: &Start,
    link: Link,
    noted: Option<(Lsn, Link)>,
    listed: &BTreeMap<Lsn, u64>,
) -> Result<Chain> {
    let lineage = start.owner.lineage;
    match noted {
        Some((first, link)) if listed.contains_key(&first) => {
            let mut chain = Chain::from_lsn(client, start.owner, first);
            let item = chain.next_item()?.ok_or_else(|| missing(&log_key(lineage, first)))?;
            if item.link() != link {
                let found = item.link();
                let damage = ArchiveDamage::new(&log_key(lineage, first), "chain", link, found);
                return Err(damage.taking(item.first_lsn(), item.last_lsn()).into());
            }
            // Walked again, so that it is compared like every other.
            Ok(Chain::from_lsn(client, start.owner, first))
        }
        // Retention may have taken what was confirmed long ago, and the beginning of the chain.
        _ => match listed.range(..=source.group.first_lsn()).next_back().or_else(|| listed.iter().next()) {
            Some((first, _)) if *first > start.first_lsn => Ok(Chain::from_lsn(client, start.owner, *first)),
            _ => Ok(Chain::from_start(client, start, link)),
        },
    }
}

/// Refuses an object that tells of entries which a log that decides alone does not have: it has lost its end.
fn refuse_lost_end(source: &Source, item: &Item) -> Result<()> {
    let (here, reaches) = (source.group.appended_lsn(), item.reaches());
    if !source.decides_alone() || reaches <= here || planted(Bug::ForkWhenAhead) {
        return Ok(());
    }
    let key = log_key(item.owner().lineage, item.first_lsn());
    let expected = format!("entries to lsn {reaches} at least, which stand in the archive at {key}");
    let damage = Corruption::new(&source.folder, 0, "end of the log", expected, format!("to {here}"));
    Err(damage.affecting(format!("lsn {} to {reaches}", here.next())).into())
}
