//! Tests of the store on the simulated disk.

mod basics;
mod boundaries;
mod crash;
mod damage;
mod faults;
mod harness;
mod soak;
mod space;
mod together;
