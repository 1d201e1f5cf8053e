//! Snapshots: LSNs that somebody reads at.

use std::fmt;
use std::sync::Arc;

use logwood_base::Lsn;

use crate::shared::Shared;

/// The state of all trees at one LSN, for as long as the handle or a clone of it lives.
///
/// Taking one costs a lock and a map entry. While it lives, versions of leaves that later writes supersede are kept
/// for it: one per leaf, however often the leaf changes.
///
/// ```
/// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
/// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
/// # use std::ops::Bound;
/// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
/// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
/// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
/// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
/// # let put = |key: &'static str, value: &'static str| {
/// #     let (key, value) = (key.as_bytes(), value.as_bytes());
/// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
/// # };
/// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
/// let snapshot = forest.snapshot();
/// forest.replay(Lsn(3), &[put("ada", "1852")])?;
/// assert_eq!((snapshot.lsn(), forest.statistics().oldest_snapshot), (Lsn(2), Some(Lsn(2))));
/// assert_eq!(tree.get(b"ada", At::Snapshot(&snapshot))?.as_deref(), Some(&b"1815"[..]));
/// drop(snapshot);
/// assert_eq!(forest.statistics().snapshots, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Snapshot(Arc<Registered>);

struct Registered {
    shared: Arc<Shared>,
    lsn: Lsn,
}

impl Snapshot {
    /// Wraps an LSN that is registered already.
    pub(crate) fn registered(shared: &Arc<Shared>, lsn: Lsn) -> Self {
        Self(Arc::new(Registered { shared: Arc::clone(shared), lsn }))
    }

    /// The state that is read.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.registry.release(self.lsn);
        self.shared.tidy_if_idle();
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.lsn()).finish()
    }
}

/// Which state a read sees.
#[derive(Clone, Copy, Debug)]
pub enum At<'s> {
    /// The newest visible one.
    Latest,
    /// The newest applied one, visible or not. Only for whoever orders the writes, while nobody applies any: what
    /// it sees may never become visible, and is an answer only when it has.
    Applied,
    /// That of a snapshot.
    Snapshot(&'s Snapshot),
}
