//! The promise of a commit that is on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use logwood_base::sync::Arc;
use logwood_base::{Lsn, Result};

use crate::core::Handle;
use crate::publish::PendingWrite;

/// A commit that has its place in the log. It is answered when it has reached the durability that was asked for and
/// is visible, together with everything before it.
///
/// Wait for it, or `.await` it in any executor: no runtime of a certain kind is needed. A ticket that is dropped does
/// not take the commit back.
///
/// ```
/// # use logwood::{Database, Durability, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// # let ks = db.ensure_keyspace("k")?;
/// let tickets: Vec<_> = (0..10u8)
///     .map(|n| {
///         let mut batch = db.batch();
///         batch.put(&ks, &[n], b"value")?;
///         db.commit_async(batch, Durability::Durable)
///     })
///     .collect::<Result<_, _>>()?;
/// for ticket in tickets {
///     ticket.wait()?;
/// }
/// assert_eq!(ks.count_all()?, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a commit is promised only when its ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    core: Arc<Handle>,
    lsn: Lsn,
    write: LogWrite,
}

impl Ticket {
    pub(crate) const fn new(core: Arc<Handle>, lsn: Lsn, write: LogWrite) -> Self {
        Self { core, lsn, write }
    }

    /// The commit's place in the log. Nothing is promised about it yet.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether waiting would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.core.publisher.visible() >= self.lsn || self.core.poison.check().is_err()
    }

    /// Waits until the commit is as durable as was asked for, and visible. Waiting again is allowed.
    ///
    /// # Errors
    /// `Poisoned` when the write, or one before it, failed: the commit may be there after reopening, or not.
    /// `DiskFull` when the log could not go on: the commit keeps its place and is written when there is room.
    pub fn wait(&self) -> Result<Lsn> {
        match self.core.publisher.wait(self.lsn, &self.write) {
            Ok(()) => Ok(self.lsn),
            Err(error) => Err(self.core.write_failed(error)),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Lsn>> {
        self.core.publisher.poll(self.lsn, &self.write, context).map(|outcome| match outcome {
            Ok(()) => Ok(self.lsn),
            Err(error) => Err(self.core.write_failed(error)),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_done() {
            self.core.checkpointer.wake();
        }
    }
}

/// The log's ticket, as the publisher sees it.
#[derive(Clone, Debug)]
pub(crate) struct LogWrite(pub(crate) logwood_wal::Ticket);

impl PendingWrite for LogWrite {
    fn is_done(&self) -> bool {
        self.0.is_done()
    }

    fn wait(&self) -> Result<()> {
        self.0.wait()
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0.clone()).poll(context)
    }
}
