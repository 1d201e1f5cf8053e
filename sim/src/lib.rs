//! Models and deterministic simulation of logwood.
