//! The database as a whole, on simulated disks and real ones.

mod basics;
mod lock;
mod log_only;
mod world;
