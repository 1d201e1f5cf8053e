//! A store in memory, for tests and examples.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use logwood_base::sync::Mutex;
use logwood_base::{ArchiveDamage, Clock, Result};

use super::{Head, Listed, Put, Store, check_size};

/// A store in memory. Clones share their objects.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Object>>>,
    /// Without one, no time passes.
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    put_ms: u64,
}

impl Memory {
    /// A store without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store whose own clock is `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..Self::default() }
    }

    fn object(&self, bytes: &[u8]) -> Object {
        let put_ms = self.clock.as_ref().map_or(0, |clock| clock.wall_ms());
        Object { bytes: Arc::from(bytes), put_ms }
    }

    /// The keys of all objects, ascending.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }

    /// An object as it stands, for tests that look.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<Arc<[u8]>> {
        self.objects.lock().get(key).map(|object| Arc::clone(&object.bytes))
    }

    /// Sets an object, or takes it away, as no archiver would: for tests that damage.
    pub fn tamper(&self, key: &str, bytes: Option<&[u8]>) {
        let mut objects = self.objects.lock();
        match bytes {
            Some(bytes) => objects.insert(key.to_owned(), self.object(bytes)),
            None => objects.remove(key),
        };
    }
}

impl Store for Memory {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Ok(Put::Exists);
        }
        objects.insert(key.to_owned(), self.object(bytes));
        Ok(Put::Created)
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let Some(object) = self.peek(key) else { return Ok(None) };
        check_size(key, object.len() as u64, bytes_max)?;
        Ok(Some(object.to_vec()))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        let Some(object) = self.peek(key) else { return Ok(None) };
        let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match bytes.and_then(|(start, end)| object.get(start..end)) {
            Some(part) => Ok(Some(part.to_vec())),
            None => Err(ArchiveDamage::new(key, "object length", format!("{range:?}"), object.len()).into()),
        }
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        let objects = self.objects.lock();
        let found = objects.get(key);
        Ok(found.map(|object| Head { bytes: object.bytes.len() as u64, put_ms: object.put_ms }))
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        let listed: Vec<Listed> = {
            let objects = self.objects.lock();
            let from = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            let behind = from.filter(|(key, _)| key.as_str() > after);
            behind
                .map(|(key, object)| Listed { key: key.clone(), bytes: object.bytes.len() as u64 })
                .collect()
        };
        let _ = listed.into_iter().try_for_each(each);
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.objects.lock().remove(key);
        Ok(())
    }
}
