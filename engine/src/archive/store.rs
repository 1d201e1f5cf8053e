//! The object store as the archive sees it.
//!
//! | type | what it is |
//! |---|---|
//! | [`Store`] | what an object store must do; an argument of everything that uses one |
//! | [`Directory`], [`Memory`], [`Remote`] | a directory of a [`Disk`](logwood_base::Disk), memory, S3 |
//! | [`Client`] | a store with bounded, jittered retries, which believes nothing before it is proven |
//! | [`open`] | a store by its URL |
//!
//! # Rules for implementations, held by [`conformance`]
//! 1. After an answered [`Store::put_new`], everybody's `get` and `list` show the object, whole.
//! 2. Of several `put_new` of one key one at most answers [`Put::Created`], and its bytes stay. Never a part of an object
//!    is seen.
//! 3. Any call may fail, or take effect and fail. Nothing is retried here: that is the [`Client`]'s.
//! 4. The times at which objects were put are those of one clock, which does not go back.
//! 5. Keys consist of lowercase letters, digits and single slashes between them. What has another name is nobody's object: the
//!    [`Client`] passes over it where it is listed, as does whoever lists files.

use std::fmt::Debug;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use logwood_base::{ArchiveDamage, Environment, Error, Result};

pub mod conformance;

mod client;
mod directory;
mod memory;
mod pause;
mod remote;
mod url;

pub use client::{Client, Retry};
pub(crate) use client::{missing, missing_object};
pub use directory::Directory;
pub use memory::Memory;
pub use pause::{ManualPause, Pause, ThreadPause};
pub use remote::Remote;
pub use url::{Secret, StoreOptions, open};

/// What a create-only put came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// The object is there, with these bytes.
    Created,
    /// An object was there before; it stays as it is.
    Exists,
}

/// One object in a listing: a hint, never a proof.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// What a store tells of an object without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its length.
    pub bytes: u64,
    /// When it was put, in milliseconds since 1970, by the store's own clock: the only clock that all who use a store have
    /// in common. It may be rounded to seconds.
    pub put_ms: u64,
}

/// An object store. Calls block, and may run at the same time from several threads.
pub trait Store: Send + Sync + Debug {
    /// Puts an object unless there is one of that key.
    ///
    /// # Errors
    /// `ArchiveUnavailable` and others: the object may be there or not.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put>;

    /// An object's bytes; `None` when there is none.
    ///
    /// # Errors
    /// `ArchiveCorrupt` when it has more than `bytes_max` bytes, none of which are then read; `ArchiveUnavailable`.
    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>>;

    /// A part of an object; `None` when there is none.
    ///
    /// # Errors
    /// `ArchiveCorrupt` when it ends before; `ArchiveUnavailable`.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>>;

    /// An object's length, and when it was put; `None` when there is none.
    ///
    /// # Errors
    /// `ArchiveUnavailable`.
    fn head(&self, key: &str) -> Result<Option<Head>>;

    /// Tells of the objects whose keys begin with `prefix`, which ends in a slash or is empty, and come behind `after`,
    /// which need not exist; ascending, until `each` breaks. A listing may be of any length: none of it need be held.
    ///
    /// # Errors
    /// `ArchiveUnavailable`. What was told before is true: whoever goes on does so behind the last of it.
    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()>;

    /// All objects whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`Store::list_behind`].
    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.list_behind(prefix, "", &mut |found| {
            listed.push(found);
            ControlFlow::Continue(())
        })?;
        Ok(listed)
    }

    /// Deletes an object; that there is none is no error.
    ///
    /// # Errors
    /// `ArchiveUnavailable`.
    fn delete(&self, key: &str) -> Result<()>;
}

/// Whether a name can be a key: of lowercase letters, digits and single slashes between them.
pub(crate) fn is_key(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('/').all(|part| !part.is_empty() && part.bytes().all(plain))
}

/// Refuses to read an object that is longer than any of its kind.
pub(crate) fn check_size(key: &str, bytes: u64, bytes_max: u64) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(ArchiveDamage::new(key, "object length", format!("at most {bytes_max} bytes"), bytes).into())
}

/// Asks a store whether it refuses a second create-only put, and whether it gives back what was put. Everything else
/// rests on that.
///
/// # Errors
/// `InvalidArgument` when it takes both puts. Everything else may pass: `ArchiveCorrupt` when it gives back something else,
/// `ArchiveUnavailable` when it refuses the first; what the store answers.
pub fn probe(store: &dyn Store, environment: &Environment) -> Result<()> {
    let key = super::layout::probe_key(logwood_base::LineageId::random(&*environment.random).0);
    let first = store.put_new(&key, b"first")?;
    let second = store.put_new(&key, b"second")?;
    let found = store.get(&key, 16)?;
    let deleted = store.delete(&key);
    match (first, second, found.as_deref()) {
        (Put::Created, Put::Exists, Some(b"first")) => deleted,
        // What was answered to both, no disturbance on the way makes of a refusal.
        (Put::Created, Put::Created, _) => Err(Error::InvalidArgument(
            "the object store does not refuse a second create-only put".to_owned(),
        )),
        (Put::Created, Put::Exists, found) => {
            let found = found.map_or("none".to_owned(), |bytes| format!("{} bytes, others", bytes.len()));
            Err(ArchiveDamage::new(&key, "what was put a moment ago", "5 bytes", found).into())
        }
        // An attempt before this one may have taken effect and not been answered.
        (Put::Exists, ..) => {
            let cause = "refused, although nothing stood there".to_owned();
            Err(Error::ArchiveUnavailable { operation: "put", key, cause })
        }
    }
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;
