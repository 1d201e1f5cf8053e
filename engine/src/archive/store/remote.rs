//! S3 and what speaks its protocol, through the `object_store` crate.
//!
//! Requests run on a thread of this store's own, in a runtime of one thread; callers wait for the answer. So they may
//! come from any thread, those of another runtime included. Nothing is retried here, and a request that has no answer in
//! time is given up: it may still take effect.
//!
//! Puts are single ones, conditional (`If-None-Match: *`), with a SHA-256 that the server checks.

use std::future::Future;
use std::ops::Range;
use std::sync::mpsc;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use logwood_base::{ArchiveDamage, Error, Result};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};

use super::url::StoreOptions;
use super::{Listed, Put, Store, check_size};

/// How much longer than a request may take a caller waits for its end.
const SLACK: Duration = Duration::from_secs(5);

/// A store behind `object_store`.
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    timeout: Duration,
    runtime: tokio::runtime::Handle,
    /// Dropped to end the thread.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Remote {
    /// A bucket of S3, by the options and, where they say nothing, by the usual environment variables (`AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …) or the machine's role.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot work; `Io` when the system refuses a thread.
    pub fn s3(bucket: &str, prefix: &str, options: &StoreOptions) -> Result<Self> {
        // TLS without a C library; a provider that the program has installed before stays.
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = ClientOptions::new()
            .with_timeout(options.request_timeout)
            .with_connect_timeout(options.request_timeout.min(Duration::from_secs(10)))
            .with_allow_http(options.allows_http());
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_checksum_algorithm(Checksum::SHA256);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &options.credentials {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.reveal());
        }
        let store = builder
            .build()
            .map_err(|error| Error::InvalidArgument(format!("the S3 options: {}", told(&error))))?;
        Self::over(Arc::new(store), prefix, options.request_timeout)
    }

    /// Any store of the crate.
    ///
    /// # Errors
    /// `Io` when the system refuses a thread.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, timeout: Duration) -> Result<Self> {
        let name = "logwood-object-store";
        let failed = |source| Error::io("start of a runtime", std::path::Path::new(name), source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { store, prefix, timeout, runtime: handle, _alive: alive })
    }

    fn path(&self, key: &str) -> ObjectPath {
        ObjectPath::from(format!("{}/{key}", self.prefix))
    }

    /// Runs a request on the store's thread and waits for its end.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = mpsc::sync_channel(1);
        let timeout = self.timeout;
        self.runtime.spawn(async move {
            let outcome = tokio::time::timeout(timeout, request).await;
            // A caller that gave up is not there any more.
            let _ = answer.send(outcome);
        });
        let unavailable = |cause: String| {
            Failure::Other(Error::ArchiveUnavailable { operation, key: key.to_owned(), cause })
        };
        match answered.recv_timeout(timeout + SLACK) {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(object_store::Error::NotFound { .. }))) => Err(Failure::Absent),
            Ok(Ok(Err(
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
            ))) => Err(Failure::Exists),
            Ok(Ok(Err(error))) => Err(unavailable(told(&error))),
            Ok(Err(_)) | Err(_) => Err(unavailable(format!("no answer within {timeout:?}"))),
        }
    }
}

/// How a request failed.
enum Failure {
    Absent,
    Exists,
    Other(Error),
}

impl Failure {
    fn or_absent<T>(self) -> Result<Option<T>> {
        match self {
            Self::Absent => Ok(None),
            Self::Other(error) => Err(error),
            Self::Exists => Err(Error::Internal("a precondition failed that nobody set".to_owned())),
        }
    }
}

/// An error with its causes, on one line. `object_store` keeps credentials out of its messages; query strings, which may
/// carry a signature, are cut off here.
fn told(error: &object_store::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        cause = inner.source();
    }
    let one_line: Vec<&str> = words.split_whitespace().collect();
    let kept = one_line.iter().map(|word| word.split_once('?').map_or(*word, |(path, _)| path));
    kept.collect::<Vec<_>>().join(" ")
}

impl Store for Remote {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        let (store, path, payload) = (Arc::clone(&self.store), self.path(key), bytes.to_vec());
        let request = async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path, payload.into(), options).await
        };
        match self.run("put", key, request) {
            Ok(_) => Ok(Put::Created),
            Err(Failure::Exists) => Ok(Put::Exists),
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Absent) => Err(Error::ArchiveUnavailable {
                operation: "put",
                key: key.to_owned(),
                cause: "there is no such bucket".to_owned(),
            }),
        }
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let (store, path, name) = (Arc::clone(&self.store), self.path(key), key.to_owned());
        let request = async move {
            let found = store.get(&path).await?;
            match check_size(&name, found.meta.size, bytes_max) {
                Ok(()) => found.bytes().await.map(|bytes| Ok(bytes.to_vec())),
                Err(error) => Ok(Err(error)),
            }
        };
        match self.run("get", key, request) {
            Ok(body) => body.map(Some),
            Err(failure) => failure.or_absent(),
        }
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        let (store, path, wanted) = (Arc::clone(&self.store), self.path(key), range.clone());
        let request = async move {
            let options = GetOptions { range: Some(GetRange::Bounded(wanted)), ..GetOptions::default() };
            store.get_opts(&path, options).await?.bytes().await
        };
        match self.run("get", key, request) {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(Some(bytes.to_vec())),
            Ok(bytes) => {
                let expected = range.end - range.start;
                Err(ArchiveDamage::new(key, "length of a part", expected, bytes.len()).into())
            }
            Err(failure) => failure.or_absent(),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        match self.run("head", key, async move { store.head(&path).await }) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(failure) => failure.or_absent(),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let (store, path) = (Arc::clone(&self.store), self.path(prefix));
        let request = async move { store.list(Some(&path)).try_collect::<Vec<_>>().await };
        let found = match self.run("list", prefix, request) {
            Ok(found) => found,
            Err(failure) => failure.or_absent()?.unwrap_or_default(),
        };
        let behind = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let mut listed: Vec<Listed> = found
            .into_iter()
            .filter_map(|meta| {
                let key = meta.location.as_ref().get(behind..)?.to_owned();
                Some(Listed { key, bytes: meta.size })
            })
            .collect();
        listed.sort();
        Ok(listed)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        match self.run("delete", key, async move { store.delete(&path).await }) {
            Ok(()) => Ok(()),
            Err(failure) => failure.or_absent::<()>().map(drop),
        }
    }
}
