//! S3 and what speaks its protocol, through the `object_store` crate.
//!
//! Requests run on a thread of this store's own, in a runtime of one thread; callers wait for the answer. So they may
//! come from any thread, those of another runtime included. Nothing is retried here, and a request that has no answer in
//! time is given up: it may still take effect.
//!
//! Puts are single ones, conditional (`If-None-Match: *`), with a SHA-256 that the server checks.

use std::ffi::OsString;
use std::future::Future;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures_util::StreamExt as _;
use logwood_base::{ArchiveDamage, Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, Checksum};
use object_store::path::Path as ObjectPath;
use object_store::{
    Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    RetryConfig, StaticCredentialProvider,
};

use super::url::StoreOptions;
use super::{Head, Listed, Put, Store, check_size};

/// Most objects that are taken from one page of a listing at once. Servers send at most as many.
const PAGE_OBJECTS_MAX: usize = 1000;

/// How much longer than a request may take a caller waits for its end.
const SLACK: Duration = Duration::from_secs(5);

/// What the usual environment variables say. One that is empty says nothing, as other programs have it.
fn from_environment() -> AmazonS3Builder {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let said = std::env::vars_os().filter_map(text).filter(|(_, value)| !value.is_empty());
    said.filter(|(name, _)| name.starts_with("AWS_")).fold(
        AmazonS3Builder::new(),
        |builder, (name, value)| match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        },
    )
}

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
        let endpoint = options.endpoint_asked()?;
        // Plain connections only to an endpoint that asks for one.
        let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut client = ClientOptions::new()
            .with_timeout(options.request_timeout)
            .with_connect_timeout(options.request_timeout.min(Duration::from_secs(10)))
            .with_allow_http(is_plain);
        let unusable = |what: &str, error: &object_store::Error| {
            Error::InvalidArgument(format!("{what}: {}", told(error)))
        };
        let roots = Certificate::from_pem_bundle(&options.root_certificates)
            .map_err(|error| unusable("the root certificates", &error))?;
        if roots.is_empty() && !options.root_certificates.is_empty() {
            return Err(Error::InvalidArgument(
                "the root certificates: there is none in PEM form".to_owned(),
            ));
        }
        for root in roots {
            client = client.with_root_certificate(root);
        }
        let mut builder = from_environment()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_checksum_algorithm(Checksum::SHA256);
        if let Some(endpoint) = endpoint {
            // As the one of S3 alone, which goes before all others: the environment may name another one.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if options.credentials.is_none() && options.session_token.is_some() {
            let what = "the S3 options: a session token without the credentials that it belongs to";
            return Err(Error::InvalidArgument(what.to_owned()));
        }
        if let Some((id, secret)) = &options.credentials {
            // All of them at once: a token of the environment belongs to other ones.
            let (key_id, secret_key) = (id.clone(), secret.reveal().to_owned());
            let token = options.session_token.as_ref().map(|token| token.reveal().to_owned());
            let credential = AwsCredential { key_id, secret_key, token };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        let store = builder.build().map_err(|error| unusable("the S3 options", &error))?;
        Self::over(Arc::new(store), prefix, options.request_timeout)
    }

    /// Any store of the crate.
    ///
    /// # Errors
    /// `Io` when the system refuses a thread.
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread of a runtime of its own, which no simulator steps"
    )]
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

    /// Runs a request on the store's thread and waits for its end. The timeout is for this one.
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
        match answered.recv_timeout(timeout + SLACK) {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(Failure::of(operation, key, &error)),
            Ok(Err(_)) | Err(_) => {
                let cause = format!("no answer within {timeout:?}");
                Err(Failure::Other(Error::ArchiveUnavailable { operation, key: key.to_owned(), cause }))
            }
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
    fn of(operation: &'static str, key: &str, error: &object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Absent,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                Self::Exists
            }
            error => {
                let cause = told(error);
                Self::Other(Error::ArchiveUnavailable { operation, key: key.to_owned(), cause })
            }
        }
    }

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

    fn head(&self, key: &str) -> Result<Option<Head>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        match self.run("head", key, async move { store.head(&path).await }) {
            Ok(meta) => {
                let put_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
                Ok(Some(Head { bytes: meta.size, put_ms }))
            }
            Err(failure) => failure.or_absent(),
        }
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        let path = self.path(prefix);
        let listing = match after {
            "" => self.store.list(Some(&path)),
            after => self.store.list_with_offset(Some(&path), &self.path(after)),
        };
        // What is ready together came together: one page of the server, for which one request was made.
        let pages = Arc::new(tokio::sync::Mutex::new(listing.ready_chunks(PAGE_OBJECTS_MAX)));
        let behind = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        loop {
            let pages = Arc::clone(&pages);
            let page = self.run("list", prefix, async move { Ok(pages.lock().await.next().await) });
            let Some(page) = page.or_else(Failure::or_absent)? else { return Ok(()) };
            for found in page {
                let found = match found.map_err(|error| Failure::of("list", prefix, &error)) {
                    Ok(meta) => meta,
                    Err(failure) => return failure.or_absent::<()>().map(drop),
                };
                let Some(key) = found.location.as_ref().get(behind..) else { continue };
                if each(Listed { key: key.to_owned(), bytes: found.size }).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        match self.run("delete", key, async move { store.delete(&path).await }) {
            Ok(()) => Ok(()),
            Err(failure) => failure.or_absent::<()>().map(drop),
        }
    }
}
