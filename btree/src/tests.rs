//! Tests of the whole: against a model, beside other threads, over a disk that fails.

mod bugs;
mod concurrency;
mod damaged_blocks;
mod deltas;
mod detach;
mod faults;
#[cfg(logwood_shuttle)]
mod interleavings;
mod long_values;
mod model;
mod on_disk;
mod remembered;
mod replay;
mod scattered;
mod sizes;
mod sorted;
mod versions;
mod world;
