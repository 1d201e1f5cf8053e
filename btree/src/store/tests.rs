//! Tests of the store on the simulated disk.

mod basics;
mod harness;
