//! The log's tests over the simulated disk. They live inside the crate because the planted bugs do.

mod basic;
mod boundaries;
mod crashes;
mod damage;
mod files;
mod golden;
mod holes;
mod homecoming;
mod hooked;
mod larger;
mod model;
mod mutants;
mod records;
mod upkeep;
mod waiting;
mod world;
