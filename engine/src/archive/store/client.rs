//! A store with bounded retries, which believes nothing before it is proven.
//!
//! What fails is tried again after a pause that doubles, drawn between half of it and all of it, so that many clients do
//! not come back together. A body that does not prove itself is fetched again like one that did not come: a store that
//! serves an old or a damaged body once is not a damaged archive. After the last attempt the last failure is the answer.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::sync::atomic::{AtomicBool, Ordering};
use logwood_base::{ArchiveDamage, Environment, Error, Random, Result};
use sha2::{Digest as _, Sha256};

use super::{Head, Listed, Pause, Put, Store, ThreadPause, is_key};
use crate::archive::layout::{Sha256 as Hash, hex, page_key};
use crate::archive::object::Kind;
use crate::planted::{Bug, planted};

/// How often a store must say that an object is gone before that is believed.
const GONE_ANSWERS: u32 = 3;

/// How often and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Attempts in all, at least one. Default: 6.
    pub attempts: u32,
    /// The first pause, at most. Default: 100 ms.
    pub first_pause: Duration,
    /// The longest pause. Default: 5 s.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 6, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(5) }
    }
}

/// A store with retries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    store: Arc<dyn Store>,
    random: Arc<dyn Random>,
    pause: Arc<dyn Pause>,
    retry: Retry,
    /// Nothing more is begun, by clones neither, unless they finish what they are at.
    stopped: Arc<AtomicBool>,
    finishes: bool,
}

impl Client {
    /// A client that waits in the calling thread.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, environment: &Environment, retry: Retry) -> Self {
        Self::with_pause(store, environment, retry, Arc::new(ThreadPause::default()))
    }

    /// A client that waits as it is told.
    #[must_use]
    pub fn with_pause(
        store: Arc<dyn Store>,
        environment: &Environment,
        retry: Retry,
        pause: Arc<dyn Pause>,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        Self { store, random: Arc::clone(&environment.random), pause, retry, stopped, finishes: false }
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Begins no request any more, in clones neither: calls answer `Closed`, but for those whose last attempt is at work.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.pause.stop();
    }

    /// A clone for work of many requests that has something to put in order when it is told to stop: it goes on to try once,
    /// and looks by itself whether it was ([`Client::goes_on`]).
    pub(crate) fn finishing(&self) -> Self {
        Self { finishes: true, ..self.clone() }
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Ends work of many requests when it was told to stop.
    ///
    /// # Errors
    /// `Closed` then.
    pub(crate) fn goes_on(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::Closed) } else { Ok(()) }
    }

    /// As [`Store::put_new`]. After an attempt that failed and took effect, the next one answers [`Put::Exists`]: what
    /// is there is to be fetched and compared.
    ///
    /// # Errors
    /// The last attempt's.
    pub fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.retried(|| self.store.put_new(key, bytes))
    }

    /// Fetches an object and decodes it. `None` when there is none.
    ///
    /// # Errors
    /// `ArchiveCorrupt` when no attempt brought an object that decodes; the last attempt's.
    pub fn fetch<T>(
        &self,
        key: &str,
        kind: Kind,
        decode: impl Fn(&str, &[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        self.retried(|| match self.store.get(key, kind.bytes_max())? {
            Some(bytes) => decode(key, &bytes).map(Some),
            None => Ok(None),
        })
    }

    /// Fetches the first bytes of an object that a listing says is `bytes` long, and decodes them. `None` when it is gone.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub fn fetch_first<T>(
        &self,
        key: &str,
        bytes: u64,
        decode: impl Fn(&str, &[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        self.retried(|| match self.store.get_range(key, 0..bytes)? {
            Some(first) => decode(key, &first).map(Some),
            None => Ok(None),
        })
    }

    /// As [`Client::fetch`], of an object that must be there.
    ///
    /// # Errors
    /// `ArchiveCorrupt` also when no attempt found it.
    pub fn require<T>(&self, key: &str, kind: Kind, decode: impl Fn(&str, &[u8]) -> Result<T>) -> Result<T> {
        self.retried(|| {
            let bytes = self.store.get(key, kind.bytes_max())?.ok_or_else(|| missing(key))?;
            decode(key, &bytes)
        })
    }

    /// Fetches a page segment of a known length, and proves that it is what its name says.
    ///
    /// # Errors
    /// `ArchiveCorrupt`; the last attempt's.
    pub fn page(&self, hash: &Hash, bytes: u32) -> Result<Vec<u8>> {
        let key = page_key(hash);
        self.retried(|| {
            let body = self.store.get(&key, u64::from(bytes))?.ok_or_else(|| missing(&key))?;
            if body.len() != bytes as usize {
                return Err(ArchiveDamage::new(&key, "object length", bytes, body.len()).into());
            }
            let found: Hash = Sha256::digest(&body).into();
            if found == *hash || planted(Bug::SkipPageHash) {
                return Ok(body);
            }
            Err(ArchiveDamage::new(&key, "page segment hash", hex(hash), hex(&found)).into())
        })
    }

    /// As [`Store::head`].
    ///
    /// # Errors
    /// The last attempt's.
    pub fn head(&self, key: &str) -> Result<Option<Head>> {
        self.retried(|| self.store.head(key))
    }

    /// Whether an object is not there that was. Asked more than once, for what follows from it is not taken back.
    pub(crate) fn is_gone(&self, key: &str) -> Result<bool> {
        for _ in 0..GONE_ANSWERS {
            if self.head(key)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Store::list_behind`]. A page that fails is asked for again, from the last object that was told on: so a
    /// listing takes as long as it takes, and only one page that no attempt brought ends it.
    ///
    /// # Errors
    /// The last attempt's; `InvalidArgument` when the store lists in another order.
    pub fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        mut each: impl FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut last, mut goes_back) = (after.to_owned(), false);
        loop {
            let before = last.clone();
            let failed = self.retried(|| {
                let from = last.clone();
                let told = self.store.list_behind(prefix, &from, &mut |found| {
                    if found.key <= last {
                        goes_back = true;
                        return ControlFlow::Break(());
                    }
                    last.clone_from(&found.key);
                    if is_key(&found.key) { each(found) } else { ControlFlow::Continue(()) }
                });
                match told {
                    // The attempts are counted anew: this one brought something.
                    Err(error) if last != before && may_pass(&error) => Ok(Some(error)),
                    told => told.map(|()| None),
                }
            })?;
            if goes_back {
                let what = "the object store does not list keys in ascending order";
                return Err(Error::InvalidArgument(what.to_owned()));
            }
            match failed {
                Some(error) if !self.pause.pause(self.jittered(self.retry.first_pause)) => return Err(error),
                Some(error) => tracing::debug!(%error, last, "a listing goes on where it was cut off"),
                None => return Ok(()),
            }
        }
    }

    /// All objects whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`Client::list_behind`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.list_behind(prefix, "", |found| {
            listed.push(found);
            ControlFlow::Continue(())
        })?;
        Ok(listed)
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// The last attempt's.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.delete_told(key).0
    }

    /// As [`Client::delete`]. Answers besides whether every attempt was answered: one that was not may take effect later.
    pub(crate) fn delete_told(&self, key: &str) -> (Result<()>, bool) {
        let mut is_answered = true;
        let deleted = self.retried(|| {
            let deleted = self.store.delete(key);
            is_answered &= deleted.is_ok();
            deleted
        });
        (deleted, is_answered)
    }

    /// Tries as often as a request.
    pub(crate) fn retried<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut longest = self.retry.first_pause;
        let mut left = self.retry.attempts.max(1);
        loop {
            if self.is_stopped() && !self.finishes {
                return Err(Error::Closed);
            }
            left -= 1;
            match attempt() {
                Err(error) if left > 0 && may_pass(&error) => {
                    tracing::debug!(%error, left, "the archive is asked again");
                    if !self.pause.pause(self.jittered(longest)) {
                        return Err(error);
                    }
                    longest = (2 * longest).min(self.retry.longest_pause);
                }
                outcome => return outcome,
            }
        }
    }

    /// Between half of `longest` and all of it.
    pub(crate) fn jittered(&self, longest: Duration) -> Duration {
        let half = longest / 2;
        let drawn = self.random.u64() % (half.as_nanos() as u64).max(1);
        half + Duration::from_nanos(drawn)
    }
}

/// The damage of an object that should be there.
pub(crate) fn missing_object(key: &str) -> ArchiveDamage {
    ArchiveDamage::new(key, "object", "to be there", "none")
}

/// The error that it is.
pub(crate) fn missing(key: &str) -> Error {
    missing_object(key).into()
}

/// Whether it is worth trying again.
fn may_pass(error: &Error) -> bool {
    !matches!(
        error,
        Error::InvalidArgument(_)
            | Error::LimitExceeded { .. }
            | Error::UnsupportedFormat { .. }
            | Error::Closed
    )
}
