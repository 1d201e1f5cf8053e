//! Tests of the archive.

mod basics;
mod crashes;
mod mutants;
mod races;
mod retention;
mod rig;
mod stores;
