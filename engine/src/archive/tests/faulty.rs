//! A store in memory whose requests go wrong as a test wants it.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use logwood_base::sync::Mutex;
use logwood_base::{Error, Result};

use crate::archive::store::{Head, Listed, Memory, Put, Store};

/// What happens at a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It fails.
    Fail,
    /// It takes effect, and fails.
    FailAfter,
    /// What is read has a changed byte.
    Flip,
    /// What is read is cut short.
    Cut,
    /// What is read is not there yet.
    Stale,
    /// A put is refused although nothing stands there.
    Refuse,
    /// It and all later ones fail: the process lost the network, or its life.
    Dead,
}

/// Keys and bytes.
type Objects = Vec<(String, Vec<u8>)>;

/// Runs once, in the middle of a request.
type Hook = Box<dyn FnOnce() + Send>;

/// A store in memory whose n-th request goes wrong, or is the moment at which something else happens.
#[derive(Clone, Default)]
pub(super) struct Faulty {
    pub(super) inner: Memory,
    requests: Arc<AtomicU64>,
    plan: Arc<Mutex<Option<(u64, Fault)>>>,
    hook: Arc<Mutex<Option<(u64, Hook)>>>,
    pub(super) puts: Arc<Mutex<Vec<String>>>,
    /// How many objects listings have told of.
    pub(super) listed: Arc<AtomicU64>,
    /// Keys of objects that were read whole.
    pub(super) gets: Arc<Mutex<Vec<String>>>,
    /// Keys of deletions that were not answered.
    pub(super) unanswered: Arc<Mutex<Vec<String>>>,
    refuses_snapshots: Arc<AtomicBool>,
    pretends: Arc<AtomicBool>,
    /// Puts of log objects that failed, and have not taken effect yet; `None` when they do not fail.
    late: Arc<Mutex<Option<Objects>>>,
    /// Where each deletion fails once before it is done.
    deletions_fail: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(super) fn over(inner: &Memory) -> Self {
        Self { inner: inner.clone(), ..Self::default() }
    }

    /// Lets the n-th request from now (1 is the next) go wrong.
    pub(super) fn set(&self, n: u64, fault: Fault) {
        *self.plan.lock() = Some((self.requests() + n, fault));
    }

    /// Runs `hook` just before the n-th request from now.
    pub(super) fn at(&self, n: u64, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock() = Some((self.requests() + n, Box::new(hook)));
    }

    /// Forgets a hook that was not run. Answers whether there was one.
    pub(super) fn no_hook(&self) -> bool {
        self.hook.lock().take().is_some()
    }

    /// Whether puts of snapshots fail.
    pub(super) fn refuse_snapshots(&self, refuse: bool) {
        self.refuses_snapshots.store(refuse, Ordering::SeqCst);
    }

    /// Whether it says of everything that is put that it is there, and has nothing of it.
    pub(super) fn pretend(&self, pretends: bool) {
        self.pretends.store(pretends, Ordering::SeqCst);
    }

    /// Lets puts of log objects fail until [`Faulty::take_effect`].
    pub(super) fn delay_log(&self) {
        *self.late.lock() = Some(Vec::new());
    }

    /// The puts that failed take effect, the first of each key. Answers how many there were.
    pub(super) fn take_effect(&self) -> usize {
        let late = self.late.lock().take().unwrap_or_default();
        for (key, bytes) in &late {
            self.inner.put_new(key, bytes).unwrap();
        }
        late.len()
    }

    /// Lets the first deletion of every object below a prefix fail.
    pub(super) fn fail_deletions_once(&self, prefix: &str) {
        *self.deletions_fail.lock() = Some(prefix.to_owned());
    }

    pub(super) fn heal(&self) {
        *self.plan.lock() = None;
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn is_first_deletion(&self, key: &str) -> bool {
        let fails = self.deletions_fail.lock().as_ref().is_some_and(|prefix| key.starts_with(prefix));
        let mut unanswered = self.unanswered.lock();
        let is_first = fails && !unanswered.iter().any(|known| known == key);
        if is_first {
            unanswered.push(key.to_owned());
        }
        is_first
    }

    fn next(&self, key: &str) -> (Option<Fault>, Error) {
        let n = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let due = self.hook.lock().take_if(|(at, _)| *at <= n);
        if let Some((_, hook)) = due {
            hook();
        }
        let error =
            Error::ArchiveUnavailable { operation: "test", key: key.to_owned(), cause: "fault".to_owned() };
        let mut plan = self.plan.lock();
        match *plan {
            Some((at, Fault::Dead)) if n >= at => (Some(Fault::Dead), error),
            Some((at, fault)) if n == at => {
                *plan = None;
                (Some(fault), error)
            }
            _ => (None, error),
        }
    }

    fn read<T>(&self, key: &str, read: impl FnOnce(Option<Fault>) -> Result<T>) -> Result<T> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::FailAfter | Fault::Dead), error) => Err(error),
            (fault, _) => read(fault),
        }
    }
}

impl Store for Faulty {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::Dead), error) => Err(error),
            (Some(Fault::FailAfter), error) => {
                self.inner.put_new(key, bytes)?;
                Err(error)
            }
            (Some(Fault::Refuse), _) => Ok(Put::Exists),
            (None, _) if self.pretends.load(Ordering::SeqCst) => Ok(Put::Exists),
            (None, error) if key.contains("/snapshot/") && self.refuses_snapshots.load(Ordering::SeqCst) => {
                Err(error)
            }
            (None, error) if key.contains("/log/") && self.late.lock().is_some() => {
                self.late.lock().iter_mut().for_each(|late| late.push((key.to_owned(), bytes.to_owned())));
                Err(error)
            }
            _ => {
                self.puts.lock().push(key.to_owned());
                self.inner.put_new(key, bytes)
            }
        }
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.read(key, |fault| {
            self.gets.lock().push(key.to_owned());
            let mut body = self.inner.get(key, bytes_max)?;
            if let Some(body) = &mut body {
                match fault {
                    Some(Fault::Flip) => body[bytes_max as usize % 7] ^= 4,
                    Some(Fault::Cut) => body.truncate(body.len() / 2),
                    _ => {}
                }
            }
            Ok(body.filter(|_| fault != Some(Fault::Stale)))
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        self.read(key, |_| self.inner.get_range(key, range))
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.read(key, |fault| Ok(self.inner.head(key)?.filter(|_| fault != Some(Fault::Stale))))
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        self.read(prefix, |_| {
            self.inner.list_behind(prefix, after, &mut |found| {
                self.listed.fetch_add(1, Ordering::SeqCst);
                each(found)
            })
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        match self.next(key) {
            (Some(Fault::Fail | Fault::Dead), error) => Err(error),
            (Some(Fault::FailAfter), error) => {
                self.unanswered.lock().push(key.to_owned());
                self.inner.delete(key)?;
                Err(error)
            }
            (None, error) if self.is_first_deletion(key) => Err(error),
            _ => self.inner.delete(key),
        }
    }
}
