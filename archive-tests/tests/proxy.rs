//! The server and the proxy keep their own promises: seen by a client that speaks plain HTTP.
#![allow(clippy::disallowed_methods)] // A real server, real sockets, a real clock.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logwood_archive_tests::server::BUCKET;
use logwood_archive_tests::{Fault, Proxy, Rule, S3Server};

/// Sends one request, and answers the status and everything behind the head.
fn ask(endpoint: &str, request: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{request}\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, answer[end + 4..].to_vec()))
}

/// A server of one body, without S3: what the proxy does to it is seen byte by byte.
struct Plain {
    address: std::net::SocketAddr,
    served: Arc<std::sync::atomic::AtomicU32>,
}

fn plain(body: &'static [u8]) -> Plain {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0u8; 4096];
            let _ = stream.read(&mut head).unwrap();
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
            let _ = stream.write_all(body);
        }
    });
    Plain { address, served }
}

#[test]
fn a_request_without_a_signature_is_refused() {
    let server = S3Server::start().unwrap();
    std::fs::write(server.object_path("key"), b"value").unwrap();
    let (status, body) =
        ask(&server.endpoint(), &format!("GET /{BUCKET}/key HTTP/1.1\r\nconnection: close")).unwrap();
    assert_eq!(status, 403, "{}", String::from_utf8_lossy(&body));
}

#[test]
fn what_no_rule_names_goes_through_and_is_written_down() {
    let server = plain(b"0123456789");
    let proxy = Proxy::before(server.address).unwrap();
    assert_eq!(ask(&proxy.endpoint(), "GET /key HTTP/1.1").unwrap(), (200, b"0123456789".to_vec()));
    let requests = proxy.take_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].path.as_str(), requests[0].spoiled), ("/key", false));
    assert!(proxy.take_requests().is_empty());
}

#[test]
fn each_fault_does_what_it_says_and_only_to_what_its_rule_names() {
    let server = plain(b"0123456789");
    let proxy = Proxy::before(server.address).unwrap();
    let endpoint = proxy.endpoint();
    let served = || server.served.swap(0, std::sync::atomic::Ordering::SeqCst);

    proxy.add(Rule::new(Fault::Status(503)).method("GET").path("/a").skip(1).times(1));
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().0, 200);
    assert_eq!(ask(&endpoint, "GET /b HTTP/1.1").unwrap().0, 200);
    assert_eq!(served(), 2);
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().0, 503);
    assert_eq!(served(), 0, "a status does not reach the server");
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().0, 200);
    proxy.clear();

    proxy.add(Rule::new(Fault::FlipBit).times(1));
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().1, b"0123446789");
    proxy.add(Rule::new(Fault::CutBody).times(1));
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().1, b"01234");
    proxy.add(Rule::new(Fault::Replace(Arc::from(&b"older"[..]))).times(2));
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1").unwrap().1, b"older");
    assert_eq!(ask(&endpoint, "GET /a HTTP/1.1\r\nrange: bytes=1-2").unwrap().1, b"ld");
    served();

    proxy.add(Rule::new(Fault::Reset).times(1));
    assert!(ask(&endpoint, "GET /a HTTP/1.1").is_err());
    assert_eq!(served(), 0);

    proxy.add(Rule::new(Fault::Late(Duration::from_millis(1))).times(1));
    assert_eq!(ask(&endpoint, "DELETE /a HTTP/1.1").unwrap().0, 503);
    while served() == 0 {
        std::thread::yield_now();
    }

    let pause = Duration::from_millis(300);
    for (fault, reaches) in [(Fault::Stall(pause), 0), (Fault::LoseAnswer(pause), 1)] {
        proxy.add(Rule::new(fault).times(1));
        let began = Instant::now();
        assert!(ask(&endpoint, "GET /a HTTP/1.1").is_err());
        assert!(began.elapsed() >= pause);
        assert_eq!(served(), reaches);
    }
}
