//! A proxy that spoils what an S3 server answers, by a script.
//!
//! A [`Rule`] names requests by method and a part of their path, lets some pass, and spoils the next ones. The first
//! rule that fits decides; a request that no rule fits goes through untouched. Every request is written down.
//!
//! One connection carries one request: the proxy answers and closes. Bodies of at most 256 MiB are held in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::background::Background;
use crate::message::Message;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status and does not reach the server.
    Status(u16),
    /// Nothing is answered for this long, then the connection is closed. It does not reach the server.
    Stall(Duration),
    /// It goes through untouched, after this long.
    Delay(Duration),
    /// The connection is reset. It does not reach the server.
    Reset,
    /// The head of the answer tells the whole length, and half of the body follows.
    CutBody,
    /// One bit in the middle of the answer's body is flipped.
    FlipBit,
    /// These bytes stand in for the body: an older version, or another object. A range asked for is cut from them.
    Replace(Arc<[u8]>),
    /// The server does it, and nobody hears of it: nothing is answered for this long, then the connection is closed.
    LoseAnswer(Duration),
    /// It is answered with a 503 at once, and the server does it after this long.
    Late(Duration),
}

/// Which requests are spoiled, and how.
#[derive(Clone, Debug)]
pub struct Rule {
    method: Option<String>,
    path_part: String,
    skip: u64,
    times: u64,
    fault: Fault,
}

impl Rule {
    /// Spoils every request.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { method: None, path_part: String::new(), skip: 0, times: u64::MAX, fault }
    }

    /// Only requests of this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests whose path and query contain this.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path_part);
        self
    }

    /// Lets so many pass first.
    #[must_use]
    pub const fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Spoils so many, then no more.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }
}

/// A request that came by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// `GET`, `PUT`, `DELETE`, `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The names of its headers, in lowercase.
    pub headers: Vec<String>,
    /// Whether a rule spoiled it.
    pub spoiled: bool,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    requests: Vec<Request>,
}

impl Script {
    /// Writes the request down and answers what is to happen to it.
    fn judge(&mut self, method: &str, path: &str, headers: Vec<String>) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.times > 0
                && rule.method.as_ref().is_none_or(|wanted| wanted == method)
                && path.contains(&rule.path_part)
        });
        let fault = rule.and_then(|rule| {
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.times -= 1;
            Some(rule.fault.clone())
        });
        let spoiled = fault.is_some();
        self.requests.push(Request { method: method.to_owned(), path: path.to_owned(), headers, spoiled });
        fault
    }
}

/// A proxy before a server. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _background: Background,
}

impl Proxy {
    /// Starts a proxy on a free port of the loopback, without any rule.
    ///
    /// # Errors
    /// When the system refuses a port or a thread.
    pub fn before(server: SocketAddr) -> io::Result<Self> {
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        let (address, background) = Background::listen("s3-proxy", move |stream| {
            let script = Arc::clone(&shared);
            // A client or server that goes away in the middle is what tests are about.
            async move { drop(forward(stream, server, &script).await) }
        })?;
        Ok(Self { address, script, _background: background })
    }

    /// The endpoint that a client is given.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Every request since the last call, in order of arrival.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the one request of a connection.
async fn forward(mut client: TcpStream, server: SocketAddr, script: &Mutex<Script>) -> io::Result<()> {
    let Some(mut request) = Message::read(&mut client, false).await? else { return Ok(()) };
    let mut words = request.start.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = request.headers.iter().map(|(name, _)| name.clone()).collect();
    let fault = script.lock().unwrap_or_else(PoisonError::into_inner).judge(&method, &path, headers);
    match fault {
        Some(Fault::Status(status)) => {
            client.write_all(&refusal(status)).await?;
            return client.shutdown().await;
        }
        Some(Fault::Stall(time)) => {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Late(time)) => {
            client.write_all(&refusal(503)).await?;
            client.shutdown().await?;
            tokio::time::sleep(time).await;
        }
        Some(Fault::Reset) => return client.set_zero_linger(),
        _ => {}
    }
    let range = request.header("range").map(str::to_owned);
    request.set("connection", "close".to_owned());
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(&request.encode()).await?;
    // The answer to a HEAD tells the length of a body that does not follow.
    let Some(mut answer) = Message::read(&mut upstream, true).await? else { return Ok(()) };
    answer.set("connection", "close".to_owned());
    match fault {
        Some(Fault::LoseAnswer(time)) => {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        Some(Fault::Late(_)) => return Ok(()),
        Some(Fault::CutBody) => answer.body.truncate(answer.body.len() / 2),
        Some(Fault::FlipBit) => {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Some(Fault::Replace(bytes)) if answer.start.contains(" 20") => {
            replace(&mut answer, &bytes, range.as_deref())
        }
        _ => {}
    }
    client.write_all(&answer.encode()).await?;
    client.shutdown().await
}

fn refusal(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Spoiled\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Puts other bytes in the place of a body, as a server would that holds them: the range that was asked for.
fn replace(answer: &mut Message, bytes: &[u8], range: Option<&str>) {
    let length = bytes.len();
    answer.headers.retain(|(name, _)| name != "transfer-encoding");
    let asked = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let bytes = match asked {
        Some((from, to)) => {
            let from = from.parse::<usize>().unwrap_or(0).min(length);
            let to = to.parse::<usize>().map_or(length, |to| to.saturating_add(1).min(length)).max(from);
            answer.set("content-range", format!("bytes {from}-{}/{length}", to.saturating_sub(1)));
            &bytes[from..to]
        }
        None => bytes,
    };
    answer.body = bytes.to_vec();
    answer.set("content-length", bytes.len().to_string());
}
