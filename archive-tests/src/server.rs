//! A real S3 server on a temporary directory.
//!
//! It speaks plain HTTP, or TLS with a certificate that an authority of its own has signed: what a server of one's own has.
//! Signatures are checked: a client without the right keys is refused. The server looks whether an object exists
//! before it creates one, and does both in two steps; S3 does it in one. So puts are let through one at a time.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

use crate::background::Background;

/// The key that clients sign with.
pub const ACCESS_KEY: &str = "LOGWOODTESTKEY";
/// Its secret. Tests search all output for it.
pub const SECRET_KEY: &str = "planted-secret-that-nobody-may-print";
/// A bucket that exists.
pub const BUCKET: &str = "archive";

/// An S3 server with one bucket. Dropping it ends it and removes what it stored.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    /// The certificate of the authority that signed the server's, in PEM form; `None`: plain HTTP.
    authority: Option<String>,
    _background: Background,
    root: TempDir,
}

impl S3Server {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Errors
    /// When the system refuses a port, a thread or a temporary directory.
    pub fn start() -> io::Result<Self> {
        Self::begin(None)
    }

    /// As [`S3Server::start`], behind TLS.
    ///
    /// # Errors
    /// As [`S3Server::start`]; when no certificate can be made.
    pub fn start_tls() -> io::Result<Self> {
        let identity = Identity::new().map_err(|error| io::Error::other(error.to_string()))?;
        Self::begin(Some(identity))
    }

    fn begin(identity: Option<Identity>) -> io::Result<Self> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join(BUCKET))?;
        let files = FileSystem::new(root.path()).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let putting = Arc::new(Mutex::new(()));
        let (acceptor, authority) = identity.map(|identity| (identity.acceptor, identity.authority)).unzip();
        let (address, background) = Background::listen("s3-server", move |stream| {
            let (service, putting) = (service.clone(), Arc::clone(&putting));
            let acceptor: Option<TlsAcceptor> = acceptor.clone();
            async move {
                match acceptor {
                    None => serve(stream, service, putting).await,
                    // A client that does not trust the server goes away.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, service, putting).await;
                        }
                    }
                }
            }
        })?;
        Ok(Self { address, authority, _background: background, root })
    }

    /// The certificate to trust, in PEM form; empty for a server without TLS.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or_default()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint that a client is given.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.authority {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    /// Where the bytes of an object stand, to damage them at rest.
    #[must_use]
    pub fn object_path(&self, key: &str) -> PathBuf {
        self.bucket_path().join(key)
    }

    /// Where all objects stand.
    #[must_use]
    pub fn bucket_path(&self) -> PathBuf {
        Path::join(self.root.path(), BUCKET)
    }
}

/// Answers the requests of one connection.
async fn serve<S>(stream: S, service: S3Service, putting: Arc<Mutex<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (service, putting) = (service.clone(), Arc::clone(&putting));
        async move {
            let alone = match *request.method() {
                Method::PUT => Some(putting.lock_owned().await),
                _ => None,
            };
            let response = Service::call(&service, request).await;
            drop(alone);
            response
        }
    });
    // A client that goes away is its own business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// What a server shows itself by.
struct Identity {
    acceptor: TlsAcceptor,
    authority: String,
}

impl Identity {
    /// An authority, and a certificate for this machine that it has signed.
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authority })
    }
}
