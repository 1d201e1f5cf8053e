//! The log's tests over the simulated disk. They live inside the crate because the planted bugs do.

mod basic;
mod boundaries;
mod crashes;
mod damage;
mod failing_disk;
mod files;
mod golden;
mod healing;
mod holes;
mod homecoming;
mod hooked;
mod larger;
mod lost_segments;
mod model;
mod mutants;
mod records;
mod upkeep;
mod waiting;
mod wakers;
mod world;
