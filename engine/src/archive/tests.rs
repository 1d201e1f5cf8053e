//! Tests of the archive.

mod attaching;
mod away;
mod basics;
mod bulk;
mod busy;
mod clocks;
mod copies;
mod crashes;
mod failing;
mod faulty;
mod gaps;
mod histories;
mod keeping;
mod late;
mod latest;
mod lost;
pub(in crate::archive) mod model;
pub(in crate::archive) mod mutants;
mod pages;
mod passed;
mod races;
mod retention;
mod rig;
mod sound;
mod stores;
mod superseded;
