//! The write-ahead log of logwood, useful alone as the durable log of replicated systems.
//!
//! One directory holds one physical log; any number of *groups* (a database, a raft group) share it and its syncs.
//! Each group has its own entries, numbered densely from 1, its vote, its membership, its base. What you get:
//!
//! - **One sync per batch of all groups.** The threads that wait lead the group commit: no hop to another thread, no
//!   timer, several writes in flight, acknowledged in order.
//! - **A proven end.** After a crash a torn tail is dropped, and damage below what was acknowledged is a named error,
//!   never a shorter log. [`Log::heal`] mends it with entries from a peer or an archive.
//! - **Votes that are safe to answer**: written twice, in two places, read back from the device.
//! - **Overriding appends, snapshots, holders**: what a consensus library asks of its log.
//!
//! Everything is synchronous; disk, clock, randomness and background work are arguments ([`logwood_base::Environment`]),
//! so that a simulator can step all of it.
//!
//! # A log for a replicated system
//! Answer a vote after [`Group::set_vote`] has returned; acknowledge entries to the leader after their [`Ticket`] is
//! done; pass what the leader says about the entry before as [`Append::previous`]; tell what is committed with
//! [`Group::set_committed`], which also guards it from being replaced; after installing a snapshot at S call
//! [`Group::set_base`]; let go with [`Group::release`]. An append of several entries may be cut between two of them by
//! a crash. `examples/raft_log.rs` is a runnable whole.
//!
//! ```
//! use logwood_base::disk::SimulatedDisk;
//! use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
//! use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
//! use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
//! use std::{path::Path, sync::Arc};
//!
//! # let env = Environment {
//! #     disk: Arc::new(SimulatedDisk::new(1)),
//! #     clock: Arc::new(ManualClock::new(0)),
//! #     random: Arc::new(SeededRandom::new(1)),
//! #     spawner: Arc::new(ManualSpawner::new()),
//! # };
//! // Outside of an example: let env = Environment::system()?;
//! let dir = Path::new("log");
//! let log = Log::create(&env, dir, DatabaseId(42), LogOptions::default())?;
//! let group = log.create_group(GroupId(1), BaseState::default())?;
//! group.set_vote(Term(1), NodeId(2))?;
//! let entries: [(Term, &[u8]); 2] = [(Term(1), b"set x 1"), (Term(1), b"set y 2")];
//! let ticket = group.append(Append {
//!     term: Term(1),
//!     previous: Some((Lsn::ZERO, Term::NONE)),
//!     first_lsn: Lsn::FIRST,
//!     entries: &entries,
//!     durability: Durability::Durable,
//! })?;
//! ticket.wait()?;
//! log.close()?;
//!
//! let (log, recovered) = Log::open(&env, dir, Expect::default(), LogOptions::default(), &mut |_| {})?;
//! let group = log.group(GroupId(1)).expect("it was created");
//! assert_eq!(group.vote(), (Term(1), NodeId(2)));
//! assert_eq!(group.read(Lsn(2), Lsn::MAX, 1 << 20)?[0].payload[..], *b"set y 2");
//! assert_eq!(recovered.dropped_batches, 0);
//! # Ok::<(), logwood_base::Error>(())
//! ```
//!
//! # Map of the crate
//! | module | what it does |
//! |---|---|
//! | `log`, `group`, `ticket`, `tail`, `options` | the public face |
//! | `format` | BYTES of headers and batches |
//! | `append`, `image`, `commit`, `crowd`, `calls`, `disk_call` | into the queue, and group commit |
//! | `roll`, `segment` | the next segment; files prepared ahead |
//! | `shared`, `group_state`, `index` | what is in memory |
//! | `scan`, `walk`, `replay`, `end_rule` | reading a log from disk; where it ends |
//! | `recovery`, `heal`, `inspect` | opening, mending, looking |
//! | `reader`, `map`, `retention`, `tasks` | reading entries; letting go; background work |
//!
//! The bytes and the crash stories: `docs/format/log.md`.

mod append;
mod calls;
mod commit;
mod crowd;
mod disk_call;
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

pub use calls::Woken;
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
