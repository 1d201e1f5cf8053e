//! Tests of the archive.

mod basics;
mod crashes;
mod histories;
pub(in crate::archive) mod model;
pub(in crate::archive) mod mutants;
mod races;
mod retention;
mod rig;
mod stores;
