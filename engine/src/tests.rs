//! The database as a whole, on simulated disks and real ones.

mod backup;
mod basics;
mod bulk;
mod changes;
pub(crate) mod checks;
mod concurrent;
mod crash;
mod faults;
mod full_disk;
mod hostile;
mod inspection;
mod lock;
mod log_only;
mod long_values;
mod model;
mod mutants;
mod replay;
mod space;
mod transactions;
mod typed;
pub(crate) mod world;
