//! Tests of the archive.

mod stores;
