//! The program from outside: the real binary, real files, real signals.
//!
//! | module | what it holds |
//! |---|---|
//! | [`commands`] | every command and what it prints |
//! | [`archives`] | loading with an archive, losing the database, getting it back |
//! | [`remotes`] | the same with an S3 server |
//! | [`codes`] | every exit code |
//! | [`inputs`] | files that are not what they should be |
//! | [`copies`] | backups, changes, range deletes, sorted loads, measurements |
//! | [`unchanged`] | `stat`, `verify` and `log` change nothing |
//! | [`damage`] | flipped bytes are named, and never read as something else |
//! | [`kills`] | SIGKILL at random moments |
//! | [`demonstration`] | the demo |
//!
//! `LOGWOOD_TEST_SCALE` multiplies the number of random rounds.
#![allow(clippy::disallowed_methods, reason = "tests lay hands on files and processes")]

mod archives;
mod codes;
mod commands;
mod copies;
mod damage;
mod demonstration;
mod inputs;
mod kills;
mod remotes;
mod support;
mod unchanged;
