//! Models and deterministic simulation of logwood.
//!
//! [`log_model`] is the clearest statement of the log's rules in the project: a bounded model of them, searched whole.

pub mod log_model;
pub mod simulation;
