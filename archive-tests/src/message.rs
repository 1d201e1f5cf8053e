//! As much of HTTP/1.1 as a proxy needs: a head, and a body whose length the head tells.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes of a head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a body.
pub(crate) const BODY_BYTES_MAX: u64 = 256 << 20;

/// A request or a response, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `GET /bucket/key HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Reads a message; `None` when the stream ends before one begins. A body without a length ends with the stream
    /// when `until_end`, and is refused otherwise.
    pub(crate) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        until_end: bool,
    ) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a head that is too long"));
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let mut body = bytes.split_off(end + 4);
        let head =
            std::str::from_utf8(&bytes[..end]).map_err(|_| io::Error::other("a head of other bytes"))?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut message = Self { start, headers, body: Vec::new() };
        let wanted = match message.header("content-length") {
            Some(length) => length.parse::<u64>().map_err(|_| io::Error::other("a length that is none"))?,
            None if until_end => BODY_BYTES_MAX,
            None if message.header("transfer-encoding").is_some() => {
                return Err(io::Error::other("a request in chunks"));
            }
            None => 0,
        };
        if wanted > BODY_BYTES_MAX {
            return Err(io::Error::other("a body that is too long"));
        }
        let missing = wanted.saturating_sub(body.len() as u64);
        stream.take(missing).read_to_end(&mut body).await?;
        message.body = body;
        Ok(Some(message))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Replaces a header, or adds it.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.headers.retain(|(found, _)| found != name);
        self.headers.push((name.to_owned(), value));
    }

    /// The bytes, with the headers as they are.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.start.clone().into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("\r\n{name}: {value}").as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}
