//! The write-ahead log of logwood, useful alone as the durable log of replicated systems.

mod append;
mod commit;
mod end_rule;
mod format;
mod group;
mod group_state;
mod heal;
mod image;
mod index;
mod inspect;
mod log;
mod map;
mod mutants;
mod options;
mod reader;
mod recovery;
mod replay;
mod retention;
mod roll;
mod scan;
mod segment;
mod shared;
mod tail;
mod tasks;
mod ticket;
mod walk;

#[cfg(test)]
mod tests;

pub use group::Group;
pub use inspect::{GroupReport, Inspection, SegmentReport};
pub use log::Log;
pub use options::{
    Append, BaseState, Durability, Entry, Expect, Hole, LogOptions, Progress, Recovered, Statistics,
};
pub use reader::{Cursor, EntryRef};
pub use retention::Hold;
pub use tail::Tail;
pub use ticket::Ticket;
