//! What the logwood storage engine stands on.
//!
//! | module | what it holds |
//! |---|---|
//! | [`numbering`] | one type per numbering: LSN, term, segment, keyspace, … |
//! | [`error`] | errors by what the reader must do; damage with its evidence |
//! | [`escaped`] | bytes as text, wherever a key is shown |
//! | [`limits`] | every limit of the formats |
//! | [`codec`], [`checksum`], [`digest`] | bytes in and out, and what proves them |
//! | [`disk`] | the [`Disk`] and [`File`] traits, the real disk, the simulated disk |
//! | [`environment`] | the [`Clock`], [`Random`] and [`Spawner`] traits, real and manual |
//! | [`memory`] | large pieces of memory, straight from the system |
//! | [`sync`] | locks and atomics, replaceable to explore interleavings |
//!
//! Nothing here knows of logs or trees. The crate is synchronous.

pub mod buffer;
pub mod checksum;
pub mod codec;
pub mod digest;
pub mod disk;
pub mod environment;
pub mod error;
pub mod escaped;
pub mod limits;
pub mod memory;
pub mod numbering;
pub mod sync;

pub use buffer::AlignedBuffer;
pub use disk::{Access, Disk, File};
pub use environment::{Clock, Environment, Random, Spawner, Step, Task, TaskHandle};
pub use error::{ArchiveDamage, Changed, Conflict, Corruption, Error, Result};
pub use escaped::Escaped;
pub use numbering::{
    DatabaseId, FormatVersion, Generation, GroupId, KeyspaceId, LineageId, LogId, LogPosition, Lsn, NodeId,
    PageAddr, SegmentNo, Term,
};
