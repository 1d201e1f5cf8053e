//! Where commits come from: a database, or a log without trees.

use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{Environment, Error, Lsn, Result};
use logwood_wal::{Group, Log};

use super::news::News;
use crate::core::Handle;

/// What a reader asks of where its commits come from.
pub(crate) trait Feed: Send + Sync {
    /// Told of all that may be handed out.
    fn news(&self) -> &News;

    /// The time now, for waiting.
    fn monotonic(&self) -> Duration;

    /// Up to here commits are decided, and may be handed out.
    fn decided(&self) -> Lsn;

    /// Up to here, of what is decided, a power cut takes nothing.
    ///
    /// # Errors
    /// `Poisoned`, `DiskFull`.
    fn durable(&self) -> Result<Lsn>;

    /// Whether more may come.
    ///
    /// # Errors
    /// `Closed`, `Poisoned`.
    fn check(&self) -> Result<()>;

    /// Decides what waits for nothing but to be decided, where nobody else does.
    ///
    /// # Errors
    /// `Poisoned`, `DiskFull`.
    fn settle(&self) -> Result<()>;
}

impl Feed for Handle {
    fn news(&self) -> &News {
        &self.news
    }

    fn monotonic(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    fn decided(&self) -> Lsn {
        self.visible_lsn()
    }

    fn durable(&self) -> Result<Lsn> {
        let visible = self.visible_lsn();
        if self.group.durable_lsn() < visible {
            self.log.sync().map_err(|error| self.write_failed(error))?;
        }
        Ok(visible.min(self.group.durable_lsn()))
    }

    fn check(&self) -> Result<()> {
        self.check_writable()?;
        if self.news.has_ended() { Err(Error::Closed) } else { Ok(()) }
    }

    fn settle(&self) -> Result<()> {
        if self.options.background {
            return Ok(());
        }
        // Nobody else publishes what nobody waits for.
        self.publisher.settle().map_err(|error| self.write_failed(error))
    }
}

/// The feed of a log without trees: what its owner says is committed.
#[derive(Clone, Debug)]
pub(crate) struct LogFeed {
    pub(crate) environment: Environment,
    pub(crate) log: Log,
    pub(crate) group: Group,
    pub(crate) news: Arc<News>,
}

impl Feed for LogFeed {
    fn news(&self) -> &News {
        &self.news
    }

    fn monotonic(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    fn decided(&self) -> Lsn {
        self.group.committed_lsn()
    }

    fn durable(&self) -> Result<Lsn> {
        let committed = self.group.committed_lsn();
        if self.group.durable_lsn() < committed {
            self.log.sync()?;
        }
        Ok(committed.min(self.group.durable_lsn()))
    }

    fn check(&self) -> Result<()> {
        if self.news.has_ended() { Err(Error::Closed) } else { Ok(()) }
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
