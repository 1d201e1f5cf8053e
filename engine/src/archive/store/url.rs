//! A store by its URL: `file:///path`, or `s3://bucket/prefix`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::{Environment, Error, Result};

use super::{Directory, Remote, Store};

/// Something that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a store is reached. What is not set comes from the usual environment variables of S3.
///
/// ```
/// use logwood::archive::StoreOptions;
/// let options = StoreOptions::new().endpoint("https://s3.example").region("eu-central-1");
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) credentials: Option<(String, Secret)>,
    pub(super) request_timeout: Duration,
    pub(super) existing: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let request_timeout = Duration::from_secs(30);
        Self { endpoint: None, region: None, credentials: None, request_timeout, existing: false }
    }
}

impl StoreOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the server is: `https://host`, or `http://host:port` without encryption. Default: `AWS_ENDPOINT_URL`, else
    /// Amazon's.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The region. Default: `AWS_REGION`, else `us-east-1`.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Key id and secret key. Default: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, else the machine's role. The
    /// secret is never printed.
    #[must_use]
    pub fn credentials(mut self, key_id: impl Into<String>, secret: Secret) -> Self {
        self.credentials = Some((key_id.into(), secret));
        self
    }

    /// How long one request may take. It may take effect later all the same. Default: 30 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Whether the directory of a `file` URL must exist, and is not touched by opening. Default: false.
    #[must_use]
    pub fn existing(mut self, existing: bool) -> Self {
        self.existing = existing;
        self
    }

    /// Whether plain connections are allowed: only to an endpoint that asks for one.
    pub(super) fn allows_http(&self) -> bool {
        let from_environment = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                .iter()
                .find_map(|name| std::env::var(name).ok())
        };
        let endpoint = self.endpoint.clone().or_else(from_environment);
        endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

/// What a URL names.
#[derive(PartialEq, Eq, Debug)]
enum Place<'a> {
    Directory(&'a Path),
    S3 { bucket: &'a str, prefix: &'a str },
}

/// Opens the store that a URL names: `file:///path`, or `s3://bucket/prefix`.
///
/// ```
/// use logwood::archive::{StoreOptions, store};
/// # let directory = tempfile::tempdir()?;
/// let url = format!("file://{}", directory.path().display());
/// let store = store::open(&url, &StoreOptions::new(), &logwood::Environment::system()?)?;
/// assert!(store.list("")?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `InvalidArgument` for other URLs and options that contradict each other; `NotFound`, `Io`.
pub fn open(url: &str, options: &StoreOptions, environment: &Environment) -> Result<Arc<dyn Store>> {
    match parse(url)? {
        Place::Directory(path) if options.existing => {
            Ok(Arc::new(Directory::open_existing(environment, path)?))
        }
        Place::Directory(path) => Ok(Arc::new(Directory::open(environment, path)?)),
        Place::S3 { bucket, prefix } => Ok(Arc::new(Remote::s3(bucket, prefix, options)?)),
    }
}

fn parse(url: &str) -> Result<Place<'_>> {
    // The URL itself is not printed: somebody may have put a password into it.
    let invalid = |what: &str| Err(Error::InvalidArgument(format!("archive URL: {what}")));
    if let Some(path) = url.strip_prefix("file://") {
        if !path.starts_with('/') {
            return invalid("file:// is followed by an absolute path");
        }
        return Ok(Place::Directory(Path::new(path)));
    }
    let Some(rest) = url.strip_prefix("s3://") else {
        return invalid("it begins with file:// or s3://");
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if bucket.len() < 3 || bucket.len() > 63 || !bucket.bytes().all(plain) {
        return invalid("the bucket's name has 3 to 63 lowercase letters, digits, dots and hyphens");
    }
    let prefix = prefix.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let parts = || prefix.split('/');
    if !prefix.is_empty()
        && !parts()
            .all(|part| !part.is_empty() && part.bytes().all(plain) && !part.trim_matches('.').is_empty())
    {
        return invalid("the prefix has letters, digits, and -._ between single slashes");
    }
    Ok(Place::S3 { bucket, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_directory_or_a_bucket() {
        assert_eq!(parse("file:///a/b").unwrap(), Place::Directory(Path::new("/a/b")));
        assert_eq!(parse("s3://bucket").unwrap(), Place::S3 { bucket: "bucket", prefix: "" });
        let found = parse("s3://bucket/a/b/").unwrap();
        assert_eq!(found, Place::S3 { bucket: "bucket", prefix: "a/b" });
        for wrong in
            ["", "/a", "file://a", "http://x", "s3://", "s3://Bad", "s3://bucket/a//b", "s3://bucket/../x"]
        {
            assert!(matches!(parse(wrong), Err(Error::InvalidArgument(_))), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let options = StoreOptions::new().credentials("id", Secret::new("hunter2"));
        let printed = format!("{options:?}");
        assert!(printed.contains("id") && !printed.contains("hunter2"), "{printed}");
        let error = parse("https://user:hunter2@host").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
