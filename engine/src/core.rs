//! What all handles of one open database share, and the order of its locks.
//!
//! Locks are taken in this order, and never the other way round:
//!
//! 1. the running checkpoint ([`crate::checkpointing`]);
//! 2. the sequencer: validating, numbering, appending, applying;
//! 3. what a transaction has read; the recent commits; the live transactions;
//! 4. the publisher's queue; the catalog; the bulk writes under way; the locks inside the log and the trees.
//!
//! What a transaction has read is locked before the sequencer when it commits: nobody else has it then.

use logwood_base::disk::DirLock;
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{DatabaseId, Environment, Error, Lsn, Result, Term};
use logwood_btree::Forest;
use logwood_wal::{Group, Log};
use std::ops::Deref;
use std::path::PathBuf;

use crate::Options;
use crate::apply::Applier;
use crate::bulk::Underway;
use crate::catalog::Catalog;
use crate::changes::{Followers, News, Oldest};
use crate::checkpointing::Checkpointer;
use crate::cleaning::Cleaner;
use crate::planted::{Bug, planted};
use crate::poison::Poison;
use crate::publish::Publisher;
use crate::statistics::Counters;
use crate::ticket::LogWrite;
use crate::transaction::Transactions;

/// One open database.
#[derive(Debug)]
pub(crate) struct Core {
    /// Tells databases of this process apart; never used twice.
    pub(crate) instance: u64,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) environment: Environment,
    pub(crate) database: DatabaseId,
    pub(crate) log: Log,
    pub(crate) group: Group,
    pub(crate) forest: Forest,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sequencer: Mutex<Sequencer>,
    /// The sequencer's, for those who ask while it is busy.
    pub(crate) bulk: Arc<Mutex<Underway>>,
    pub(crate) publisher: Publisher<LogWrite>,
    /// Told of everything that is published, for those who follow changes.
    pub(crate) news: Arc<News>,
    /// Who follows changes and is expected back.
    pub(crate) followers: Followers,
    /// From where on changes can be read.
    pub(crate) oldest: Oldest,
    pub(crate) transactions: Transactions,
    pub(crate) poison: Poison,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) cleaner: Cleaner,
    pub(crate) counters: Counters,
    #[cfg(feature = "archive")]
    pub(crate) archive: crate::archive::gate::Gate,
    /// What closing came to; held by who closes.
    pub(crate) closing: Mutex<Option<Result<()>>>,
    /// Released last, when everything above is gone: fields are dropped in the order of their declaration.
    pub(crate) lock: Mutex<Option<Box<dyn DirLock>>>,
}

/// What users' handles share. Background work holds the core alone, so that the last handle ends it and frees the
/// directory before it is gone.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<Core>);

impl Deref for Handle {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // What could not be written is not promised; nobody is left to be told.
        let _ = self.0.close();
    }
}

/// What decides the order of commits.
#[derive(Debug)]
pub(crate) struct Sequencer {
    pub(crate) applier: Applier,
    /// Of every entry that this process appends.
    pub(crate) term: Term,
    /// Of a copy that a full disk has kept from becoming a database in its own right when it was opened.
    pub(crate) unparted: bool,
    pub(crate) closed: bool,
    /// Transactions that are open because somebody goes on writing them.
    pub(crate) bulk: Arc<Mutex<Underway>>,
    /// Of a view of an archive: nothing that was written would be kept.
    pub(crate) read_only: bool,
}

impl Core {
    /// The newest LSN that readers see: no snapshot is ahead of it. A moment later the publisher answers whoever
    /// committed it.
    pub(crate) fn visible_lsn(&self) -> Lsn {
        self.forest.visible_lsn()
    }

    /// Refuses writes after a failure.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.poison.check()
    }

    /// Sorts a failure to make something in the log durable: without room it is tried again by whoever waits next;
    /// everything else stops the database.
    pub(crate) fn write_failed(&self, error: Error) -> Error {
        match error {
            Error::DiskFull { .. } | Error::Closed => self.told(error),
            other => self.stop(&other),
        }
    }

    /// Sorts a failure to take something into the log, before which nothing has changed; when what failed is the device, the
    /// database stops: a failed sync is final, also that of a segment in which nothing stands yet.
    pub(crate) fn append_failed(&self, error: Error) -> Error {
        match error {
            Error::Io { .. } => self.stop(&error),
            other => self.told(other),
        }
    }

    /// Makes what room can be made, before somebody is told that there is none.
    fn told(&self, error: Error) -> Error {
        #[cfg(feature = "archive")]
        if matches!(error, Error::DiskFull { .. }) {
            self.archive.make_room();
        }
        error
    }

    /// Sorts a failure of something that must not fail half way: whatever it was, nothing more is promised.
    pub(crate) fn stop(&self, error: &Error) -> Error {
        let latched = self.poison.latch(error);
        self.news.end();
        latched
    }
}

impl Sequencer {
    pub(crate) fn new(applier: Applier, term: Term, is_copy: bool) -> Self {
        Self { applier, term, unparted: is_copy, closed: false, bulk: Arc::default(), read_only: false }
    }

    /// Whether something must come before the next write: see [`Core::settle_beginning`].
    pub(crate) fn is_unsettled(&self) -> bool {
        self.unparted || self.orphan().is_some()
    }

    /// The oldest transaction that was left open by a full disk or a crash.
    pub(crate) fn orphan(&self) -> Option<Lsn> {
        if planted(Bug::KeepOrphans) {
            return None;
        }
        let mut open = self.applier.fragments.open().peekable();
        open.peek()?;
        let bulk = self.bulk.lock();
        open.find(|open| !bulk.contains_key(open))
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.read_only {
            return Err(Error::InvalidArgument("a view of an archive is for reading only".to_owned()));
        }
        Ok(())
    }
}
