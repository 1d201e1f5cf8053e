//! Which keyspaces there are: names to trees.
//!
//! Changed only by the applier, under the sequencer's lock, and only by entries that are durable already: so a name
//! that can be looked up is never taken back by a crash.

use std::collections::BTreeMap;
use std::fmt;

use logwood_base::limits::{self, KEYSPACE_NAME_BYTES_MAX};
use logwood_base::sync::atomic::{AtomicBool, Ordering};
use logwood_base::sync::{Arc, RwLock};
use logwood_base::{Error, KeyspaceId, Result};
use logwood_btree::Tree;

/// What all handles of one keyspace share.
pub(crate) struct KeyspaceShared {
    pub(crate) id: KeyspaceId,
    pub(crate) name: String,
    pub(crate) tree: Tree,
    /// Read on every call; never set back.
    dropped: AtomicBool,
}

impl KeyspaceShared {
    pub(crate) fn new(id: KeyspaceId, name: &str, tree: Tree) -> Self {
        Self { id, name: name.to_owned(), tree, dropped: AtomicBool::new(false) }
    }

    /// Refuses a keyspace that was dropped.
    #[inline]
    pub(crate) fn check_exists(&self) -> Result<()> {
        if self.dropped.load(Ordering::Acquire) { Err(not_found(&self.name)) } else { Ok(()) }
    }
}

impl fmt::Debug for KeyspaceShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The keyspaces of a database.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_name: BTreeMap<String, Arc<KeyspaceShared>>,
    by_id: BTreeMap<KeyspaceId, Arc<KeyspaceShared>>,
}

impl Catalog {
    pub(crate) fn by_name(&self, name: &str) -> Result<Arc<KeyspaceShared>> {
        self.maps.read().by_name.get(name).cloned().ok_or_else(|| not_found(name))
    }

    pub(crate) fn by_id(&self, id: KeyspaceId) -> Option<Arc<KeyspaceShared>> {
        self.maps.read().by_id.get(&id).cloned()
    }

    /// Names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.maps.read().by_name.keys().cloned().collect()
    }

    /// Numbers and names, ordered by number.
    pub(crate) fn list(&self) -> Vec<(KeyspaceId, String)> {
        self.maps.read().by_id.values().map(|shared| (shared.id, shared.name.clone())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.maps.read().by_id.len()
    }

    pub(crate) fn insert(&self, shared: KeyspaceShared) {
        let shared = Arc::new(shared);
        let mut maps = self.maps.write();
        maps.by_id.insert(shared.id, Arc::clone(&shared));
        maps.by_name.insert(shared.name.clone(), shared);
    }

    /// Takes a keyspace out; its handles answer `NotFound` from here on.
    pub(crate) fn remove(&self, id: KeyspaceId) -> Option<Arc<KeyspaceShared>> {
        let mut maps = self.maps.write();
        let shared = maps.by_id.remove(&id)?;
        maps.by_name.remove(&shared.name);
        shared.dropped.store(true, Ordering::Release);
        Some(shared)
    }
}

/// Refuses names that no keyspace can have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    limits::check("keyspace name bytes", name.len(), KEYSPACE_NAME_BYTES_MAX)?;
    if name.is_empty() {
        return Err(Error::InvalidArgument("a keyspace needs a name".to_owned()));
    }
    Ok(())
}

fn not_found(name: &str) -> Error {
    Error::NotFound { what: "keyspace", name: name.to_owned() }
}
