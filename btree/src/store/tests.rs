//! Tests of the store on the simulated disk.

mod basics;
mod crash;
mod damage;
mod faults;
mod harness;
mod soak;
mod space;
