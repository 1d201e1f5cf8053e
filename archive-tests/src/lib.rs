//! A real S3 server in this process, and a proxy before it that spoils what it answers.
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | `s3s-fs` over a temporary directory, with signatures checked, on a port of the loopback |
//! | [`proxy`] | forwards requests one by one and follows a script: errors, stalls, resets, |
//! | | short, foreign and flipped bodies, lost answers |
//!
//! It is for tests alone and is never published. The tests themselves stand in `tests/`; they reach the archive as a
//! user does, by a URL and an endpoint.
#![allow(clippy::disallowed_methods)] // A real server has real threads; nothing here is linked into the engine.

mod background;
mod message;
pub mod proxy;
pub mod server;

pub use proxy::{Fault, Proxy, Request, Rule};
pub use server::S3Server;
