//! A store by its URL: `file:///path`, or `s3://bucket/prefix`.

use std::fmt;
use std::path::{Component, Path};
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
#[derive(Clone)]
pub struct StoreOptions {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) credentials: Option<(String, Secret)>,
    pub(super) session_token: Option<Secret>,
    pub(super) root_certificates: Vec<u8>,
    pub(super) request_timeout: Duration,
    pub(super) existing: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            credentials: None,
            session_token: None,
            root_certificates: Vec::new(),
            request_timeout: Duration::from_secs(30),
            existing: false,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Somebody may have put a password into the endpoint, where it is refused later.
        let endpoint = self.endpoint.as_deref().map(|endpoint| match endpoint.contains('@') {
            true => "(with credentials)",
            false => endpoint,
        });
        f.debug_struct("StoreOptions")
            .field("endpoint", &endpoint)
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .field("request_timeout", &self.request_timeout)
            .field("existing", &self.existing)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the server is: `https://host`, or `http://host:port` without encryption. Default: `AWS_ENDPOINT_URL`, else
    /// Amazon's. An empty variable is none.
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

    /// Key id and secret key. Default: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else the
    /// machine's role. With these, nothing of the environment's is used, its token included. The secret is never printed.
    #[must_use]
    pub fn credentials(mut self, key_id: impl Into<String>, secret: Secret) -> Self {
        self.credentials = Some((key_id.into(), secret));
        self
    }

    /// The session token that belongs to temporary [`StoreOptions::credentials`], without which it is refused. Default: none. It
    /// is never printed.
    #[must_use]
    pub fn session_token(mut self, token: Secret) -> Self {
        self.session_token = Some(token);
        self
    }

    /// Certificates, in PEM form, of authorities that are trusted besides the system's: for a server of one's own whose
    /// certificate a public authority did not sign. Default: none.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = pem.into();
        self
    }

    /// How long one request may take; of a listing, one page. It may take effect later all the same. Default: 30 s.
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

    /// The endpoint that is asked for, here or in the environment, where an empty one is none.
    ///
    /// # Errors
    /// `InvalidArgument` for one with a password in it, which would come to be printed, and for one that is none.
    pub(super) fn endpoint_asked(&self) -> Result<Option<String>> {
        let from_environment = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|endpoint| !endpoint.is_empty()))
        };
        let endpoint = self.endpoint.clone().or_else(from_environment);
        if endpoint.as_ref().is_some_and(|endpoint| endpoint.contains('@')) {
            let what = "the endpoint holds credentials: give them as options or in the environment";
            return Err(Error::InvalidArgument(what.to_owned()));
        }
        if endpoint.as_ref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
            // Nor is this one printed: a secret may have come into its place.
            let what = "the endpoint of the S3 server is no URL: https://host and http://host:9000 are";
            return Err(Error::InvalidArgument(what.to_owned()));
        }
        Ok(endpoint)
    }
}

/// Whether requests can be sent to an endpoint: a scheme, a host, a port if there is one, and a path if there is one. What
/// sends them asks no more, and panics where it cannot read it.
fn is_endpoint(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://")) else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    // The one who parses reads more than the one who sends: it strips, escapes and completes.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]/".contains(&byte);
    let is_plain = !authority.is_empty() && !authority.ends_with(':') && rest.bytes().all(plain);
    is_plain && reqwest::Url::parse(endpoint).is_ok_and(|url| url.has_host())
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
        if !Path::new(path).components().any(|part| matches!(part, Component::Normal(_))) {
            return invalid("file:// is followed by a directory other than the root");
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
        assert_eq!(parse("file:///a%20b").unwrap(), Place::Directory(Path::new("/a%20b")));
        for wrong in
            ["", "/a", "file://a", "file:///", "file:////", "file:///..", "http://x", "s3://", "s3://Bad"]
                .into_iter()
                .chain(["s3://bucket/a//b", "s3://bucket/../x"])
        {
            assert!(matches!(parse(wrong), Err(Error::InvalidArgument(_))), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_that_no_request_can_be_sent_to_is_refused_before_one_is() {
        for right in [
            "http://localhost:9000",
            "https://s3.example",
            "https://s3.example/",
            "http://10.0.0.1:80/under/a-path",
            "http://[::1]:9000",
            "http://my_host",
        ] {
            let options = StoreOptions::new().endpoint(right);
            assert!(Remote::s3("bucket", "", &options).is_ok(), "{right}");
        }
        for wrong in [
            "",
            " ",
            "localhost:9000",
            "localhost",
            "//host",
            "ftp://host",
            "HTTP:host",
            "http:host",
            "http://",
            "http:///host",
            "http://:9000",
            "http://host:",
            "http://host:99999",
            "http://host:port",
            "http://bad host",
            "http://host\n",
            " http://host",
            "http://[::1",
            "http://[::1]x",
            "http://h%20t",
            "http://h\u{e4}t",
            "http://host?query",
            "http://host#fragment",
            "http://host\\path",
            "hunter2",
        ] {
            let error = Remote::s3("bucket", "", &StoreOptions::new().endpoint(wrong)).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{wrong}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let options = StoreOptions::new().credentials("id", Secret::new("hunter2"));
        let printed = format!("{options:?}");
        assert!(printed.contains("id") && !printed.contains("hunter2"), "{printed}");
        let error = parse("https://user:hunter2@host").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let options = StoreOptions::new().endpoint("https://user:hunter2@host");
        let options = options.credentials("id", Secret::new("hunter2")).session_token(Secret::new("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
        let error = Remote::s3("bucket", "", &options).unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument(_)) && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }
}
