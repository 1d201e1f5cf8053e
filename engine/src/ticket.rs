//! The promise of a commit that is on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use logwood_base::sync::Arc;
use logwood_base::{Conflict, Lsn, Result};

use crate::core::Handle;
use crate::publish::PendingWrite;

/// A commit that has its place in the log. It is answered when it has reached the durability that was asked for and
/// is visible, together with everything before it.
///
/// Wait for it, or `.await` it in any executor: no runtime of a certain kind is needed. Its waker is called by background
/// work, or by who closes the database, with no lock held: it may run the future at once, call the database, and drop or
/// close it, but not while another thread closes it: each would wait for the other. A ticket that is dropped does not take the commit back.
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
    awaited: Awaited,
}

/// What a ticket waits for.
#[derive(Debug)]
enum Awaited {
    /// The write of its commit.
    Write(LogWrite),
    /// That the commit is visible because of which its own was refused.
    Conflict(Conflict),
    /// That somebody else's commit is visible.
    Visible,
    /// Nothing: nothing was written.
    Nothing,
}

impl Ticket {
    pub(crate) const fn new(core: Arc<Handle>, lsn: Lsn, write: LogWrite) -> Self {
        Self { core, lsn, awaited: Awaited::Write(write) }
    }

    /// Of a transaction that read at `lsn` and changes nothing.
    pub(crate) const fn nothing(core: Arc<Handle>, lsn: Lsn) -> Self {
        Self { core, lsn, awaited: Awaited::Nothing }
    }

    /// Of a transaction that is refused.
    pub(crate) const fn refused(core: Arc<Handle>, conflict: Conflict) -> Self {
        Self { core, lsn: conflict.lsn, awaited: Awaited::Conflict(conflict) }
    }

    /// Of somebody else's commit.
    pub(crate) const fn visible(core: Arc<Handle>, lsn: Lsn) -> Self {
        Self { core, lsn, awaited: Awaited::Visible }
    }

    /// The commit's place in the log. Nothing is promised about it yet. Of a transaction that wrote nothing, where it
    /// read; of one that conflicts, the commit that it conflicts with.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// let ticket = db.commit_async(batch, Durability::Durable)?;
    /// let lsn = ticket.lsn(); // to be told to a follower, say, who knows it by then
    /// assert_eq!(ticket.wait()?, lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether waiting would return at once.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// let ticket = db.commit_async(batch, Durability::Durable)?;
    /// if !ticket.is_done() {
    ///     println!("something else in the meantime");
    /// }
    /// ticket.wait()?;
    /// assert!(ticket.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.core.publisher.visible() >= self.lsn || self.core.poison.check().is_err()
    }

    /// Waits until the commit is as durable as was asked for, and visible. Waiting again is allowed.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// let ticket = db.commit_async(batch, Durability::Durable)?;
    /// assert_eq!(ticket.wait()?, ticket.lsn());
    /// assert!(ticket.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` when the write, or one before it, failed: the commit may be there after reopening, or not.
    /// `DiskFull` when the log could not go on: the commit keeps its place and is written when there is room.
    /// `Conflict` for a transaction that cannot be committed: nothing was written.
    pub fn wait(&self) -> Result<Lsn> {
        let visible = match &self.awaited {
            Awaited::Write(write) => self.core.publisher.wait(self.lsn, write),
            Awaited::Conflict(_) | Awaited::Visible => self.core.publisher.wait_visible(self.lsn),
            Awaited::Nothing => Ok(()),
        };
        self.answer(visible)
    }

    fn answer(&self, visible: Result<()>) -> Result<Lsn> {
        visible.map_err(|error| self.core.write_failed(error))?;
        match &self.awaited {
            Awaited::Conflict(conflict) => Err(conflict.clone().into()),
            Awaited::Write(_) | Awaited::Visible | Awaited::Nothing => Ok(self.lsn),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let visible = match &self.awaited {
            Awaited::Write(write) => self.core.publisher.poll(self.lsn, write, context),
            Awaited::Conflict(_) | Awaited::Visible => self.core.publisher.poll_visible(self.lsn, context),
            Awaited::Nothing => Poll::Ready(Ok(())),
        };
        visible.map(|visible| self.answer(visible))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if matches!(self.awaited, Awaited::Write(_)) && !self.is_done() {
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
