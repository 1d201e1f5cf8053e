//! A materialized view: how much each account has paid and was paid, kept up to date by following the ledger's changes.
//!
//! It has a database of its own. Its sums and the LSN up to which they hold are written in one batch, so that after a crash
//! at any moment it goes on with the commit behind the last one that is in the sums: none is counted twice, none is missed.
//!
//! The ledger's log keeps what the view has not stored yet ([`ChangesOptions::hold_until_released`]), also while the view is
//! away and across crashes: the ledger is opened with the view's name ([`Options::follower`]).
//! When the view was away for so long that the log let go of what it needs, it is built anew from a snapshot.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use logwood::{
    Batch, Change, ChangeSet, Changes, ChangesOptions, Database, Durability, Error, Keyspace, Lsn, Options,
};

use crate::{Ledger, LedgerError, Result, Transfer};

const POSITION: &[u8] = b"position";

/// What the view is called where the ledger's log keeps what it needs, from before the ledger is open ([`Options::follower`]).
pub(crate) const NAME: &str = "turnover";

/// Most log that the ledger keeps for the view. A view that is further behind is quicker built anew.
pub(crate) const LOG_BYTES_MAX: u64 = 1 << 30;

/// What an account has paid and was paid.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sums {
    /// Paid, over all transfers.
    pub paid: u64,
    /// Was paid.
    pub received: u64,
}

/// The view.
#[derive(Debug)]
pub struct Turnover {
    db: Database,
    sums: Keyspace,
    place: Keyspace,
    changes: Changes,
    transfers: Keyspace,
}

impl Turnover {
    /// Opens the view of a ledger in a directory of its own.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(path: impl AsRef<Path>, ledger: &Ledger) -> Result<Self> {
        let db = Database::open(path, Options::new())?;
        let sums = db.ensure_keyspace("sums")?;
        let place = db.ensure_keyspace("place")?;
        let from = position(&place)?.map_or(Lsn(1), Lsn::next);
        let options = ChangesOptions::new()
            .name(NAME)
            .hold_until_released(true)
            .durable_only(true)
            .log_bytes_max(LOG_BYTES_MAX);
        let (source, transfers) = (ledger.database(), ledger.transfers().clone());
        let changes = match source.changes_with(from, &options) {
            Err(Error::TooOld { .. } | Error::Replaced(_)) => {
                // Followed from here on, before the snapshot is taken: nothing falls between the two.
                let changes = source.changes_with(source.visible_lsn().next(), &options)?;
                rebuild(&db, &sums, &place, source, &transfers)?;
                changes
            }
            changes => changes?,
        };
        Ok(Self { db, sums, place, changes, transfers })
    }

    /// Takes in what there is, and waits for more until `timeout` has passed without any. Answers how many commits it took.
    ///
    /// # Errors
    /// As [`Changes::next`]: after `TooOld`, open the view again.
    pub fn follow(&mut self, timeout: Duration) -> Result<u64> {
        let stored = position(&self.place)?.unwrap_or(Lsn(0));
        let mut commits = 0;
        while let Some(mut set) = self.changes.next(timeout)? {
            let lsn = set.lsn();
            // A view that was built from a snapshot has these already.
            if lsn > stored {
                take(&self.db, &self.sums, &self.place, &self.transfers, &mut set)?;
                commits += 1;
                if commits % 64 == 0 {
                    self.release()?;
                }
            }
        }
        self.release()?;
        Ok(commits)
    }

    /// Tells the ledger what is not needed any more: what is in the sums, durably.
    fn release(&mut self) -> Result<()> {
        if let Some(stored) = position(&self.place)? {
            self.db.commit(self.db.batch(), Durability::Durable)?;
            self.changes.release(stored);
        }
        Ok(())
    }

    /// The sums of an account.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn of(&self, account: &str) -> Result<Sums> {
        read(&self.sums, account)
    }

    /// Closes the view: its directory can be opened again.
    ///
    /// # Errors
    /// As [`Database::close`].
    pub fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }

    /// The last commit of the ledger that is in the sums.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn lsn(&self) -> Result<Lsn> {
        Ok(position(&self.place)?.unwrap_or(Lsn(0)))
    }
}

/// Adds one commit of the ledger.
fn take(
    db: &Database,
    sums: &Keyspace,
    place: &Keyspace,
    transfers: &Keyspace,
    set: &mut ChangeSet<'_>,
) -> Result<()> {
    let lsn = set.lsn();
    let mut changed = BTreeMap::new();
    while let Some(change) = set.next()? {
        if let Change::Put { keyspace, key, value } = change
            && keyspace == transfers.id()
        {
            add(&mut changed, key, value, |account| read(sums, account))?;
        }
    }
    store(db.batch(), db, sums, place, lsn, &changed)
}

/// Builds the sums from everything there is, in one batch: a crash leaves the old ones or the new ones.
fn rebuild(
    db: &Database,
    sums: &Keyspace,
    place: &Keyspace,
    source: &Database,
    transfers: &Keyspace,
) -> Result<()> {
    let snapshot = source.snapshot();
    let mut changed = BTreeMap::new();
    for record in snapshot.iter(transfers)? {
        let (key, value) = record?;
        add(&mut changed, &key, &value, |_| Ok(Sums::default()))?;
    }
    // What the snapshot shows may be buffered: a power cut must not take from the ledger what the view has stored.
    source.commit(source.batch(), Durability::Durable)?;
    debug_assert!(source.durable_lsn() >= snapshot.lsn());
    let mut batch = db.batch();
    batch.delete_range::<&[u8]>(sums, ..)?;
    store(batch, db, sums, place, snapshot.lsn(), &changed)
}

/// Adds a transfer to the sums of its accounts; `before` tells what they were.
fn add(
    changed: &mut BTreeMap<String, Sums>,
    key: &[u8],
    value: &[u8],
    before: impl Fn(&str) -> Result<Sums>,
) -> Result<()> {
    let transfer = Transfer::decode(key, value)
        .ok_or_else(|| LedgerError::Wrong(format!("transfer {}", key.escape_ascii())))?;
    for account in [&transfer.from, &transfer.to] {
        if !changed.contains_key(account) {
            changed.insert(account.clone(), before(account)?);
        }
    }
    changed.entry(transfer.from).or_default().paid += transfer.amount;
    changed.entry(transfer.to).or_default().received += transfer.amount;
    Ok(())
}

/// Writes sums and position together.
fn store(
    mut batch: Batch,
    db: &Database,
    sums: &Keyspace,
    place: &Keyspace,
    lsn: Lsn,
    changed: &BTreeMap<String, Sums>,
) -> Result<()> {
    for (account, found) in changed {
        let value = [found.paid.to_be_bytes(), found.received.to_be_bytes()].concat();
        batch.put(sums, account.as_bytes(), &value)?;
    }
    batch.put(place, POSITION, &lsn.0.to_be_bytes())?;
    // It may be behind after a power cut, it may not be ahead: both go together.
    db.commit(batch, Durability::Buffered)?;
    Ok(())
}

fn read(sums: &Keyspace, account: &str) -> Result<Sums> {
    let Some(value) = sums.get(account.as_bytes())? else { return Ok(Sums::default()) };
    let number = |at: usize| value.get(at..at + 8).and_then(crate::number);
    match (number(0), number(8)) {
        (Some(paid), Some(received)) => Ok(Sums { paid, received }),
        _ => Err(LedgerError::Wrong(format!("the sums of {account}"))),
    }
}

fn position(place: &Keyspace) -> Result<Option<Lsn>> {
    Ok(place.get(POSITION)?.and_then(|bytes| crate::number(&bytes)).map(Lsn))
}
