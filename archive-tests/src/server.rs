//! A real S3 server on a temporary directory.
//!
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
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::Mutex;

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
    _background: Background,
    root: TempDir,
}

impl S3Server {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Errors
    /// When the system refuses a port, a thread or a temporary directory.
    pub fn start() -> io::Result<Self> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join(BUCKET))?;
        let files = FileSystem::new(root.path()).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let putting = Arc::new(Mutex::new(()));
        let (address, background) = Background::listen("s3-server", move |stream| {
            let (service, putting) = (service.clone(), Arc::clone(&putting));
            async move {
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
        })?;
        Ok(Self { address, _background: background, root })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint that a client is given.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
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
