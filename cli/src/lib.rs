//! The parts of the `logwood` program.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`exit`] | exit codes, and the one place where errors become them |
//! | [`escape`], [`input`] | bytes as text; records from files (called by fuzzers too) |
//! | [`output`], [`progress`] | stdout as text or JSON lines; a bar on stderr |
pub mod arguments;
pub mod escape;
pub mod exit;
pub mod input;
pub mod output;
pub mod progress;
