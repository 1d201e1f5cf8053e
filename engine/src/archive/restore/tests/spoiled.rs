//! A store that answers some requests wrongly.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};

use logwood_base::sync::Mutex;

use crate::archive::store::{Head, Listed, Memory};
use crate::archive::{Put, Store};
use crate::{Error, Result};

/// What is done to an answer.
#[derive(Clone, Debug)]
pub(super) enum Spoil {
    /// An error.
    Fail,
    /// One bit is another one.
    Flip,
    /// Half of it.
    Cut,
    /// Another body.
    Replace(Vec<u8>),
    /// As if it was not there.
    Absent,
}

pub(super) type Script = dyn FnMut(usize, &str) -> Option<Spoil> + Send;

/// A store in memory whose requests are counted, and spoiled by a script.
pub(super) struct Spoiled {
    store: Memory,
    requests: AtomicUsize,
    /// The keys of pages that were answered.
    pages: Mutex<Vec<String>>,
    script: Mutex<Box<Script>>,
}

impl std::fmt::Debug for Spoiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spoiled")
    }
}

impl Spoiled {
    /// `script` is told the number of each request, from 1 on, and its key.
    pub(super) fn new(
        store: &Memory,
        script: impl FnMut(usize, &str) -> Option<Spoil> + Send + 'static,
    ) -> Self {
        let (requests, pages) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        Self { store: store.clone(), requests, pages, script: Mutex::new(Box::new(script)) }
    }

    pub(super) fn pages_served(&self) -> Vec<String> {
        self.pages.lock().clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn judge(&self, key: &str) -> Result<Option<Spoil>> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        match (self.script.lock())(number, key) {
            Some(Spoil::Fail) => Err(Error::ArchiveUnavailable {
                operation: "request",
                key: key.to_owned(),
                cause: "by the script".to_owned(),
            }),
            other => Ok(other),
        }
    }
}

fn spoil(spoil: Option<Spoil>, body: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut body = body?;
    match spoil {
        None | Some(Spoil::Fail) => {}
        Some(Spoil::Flip) => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        Some(Spoil::Cut) => body.truncate(body.len() / 2),
        Some(Spoil::Replace(other)) => body = other,
        Some(Spoil::Absent) => return None,
    }
    Some(body)
}

impl Store for Spoiled {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.judge(key)?;
        self.store.put_new(key, bytes)
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let found = self.judge(key)?;
        if key.starts_with("pages/") {
            self.pages.lock().push(key.to_owned());
        }
        Ok(spoil(found, self.store.get(key, bytes_max)?))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        let found = self.judge(key)?;
        Ok(spoil(found, self.store.get_range(key, range)?))
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.judge(key)?;
        self.store.head(key)
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        self.judge(prefix)?;
        self.store.list_behind(prefix, after, each)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.judge(key)?;
        self.store.delete(key)
    }
}
