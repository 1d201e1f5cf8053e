//! The rules of the log, as a model that can be read and searched.
//!
//! The log must know after any crash which of its bytes were promised to somebody. It must not take a crash for damage,
//! nor damage for a crash. The rules that do it are few, and each of them was once missing in a log that lost data. Here
//! they are written down without bytes, threads or files, small enough that *every* state within given bounds can be
//! visited: breadth first, so that the first counter-example is the shortest. The model knows nothing of the
//! implementation.
//!
//! | file | what it says |
//! |---|---|
//! | [`bytes`] | blocks, batches, headers: what can stand on a disk, and when it is valid |
//! | [`disk`] | what a disk may do: tear, reorder, lie about a sync, land late, lose a name |
//! | [`writing`] | how a process appends, votes, rolls, lets go |
//! | [`group`] | what a group's log is: append, copy, base, and doubt behind a hole |
//! | [`end_rule`] | where the log ends, and when it is damaged |
//! | [`opening`] | what an open does, step by step; healing |
//! | [`promise`] | the observer outside: what no crash may take back |
//! | [`mutation`] | each rule left out, and what breaks |
//! | [`bounds`] | the explorations, and which one shows which mutation |
//! | [`state`], [`step`], [`world`], [`search`] | the machinery: states, steps, breadth-first search |
//!
//! # What is promised
//! 1. What recovery finds is the log after some prefix of what was submitted, across all groups, and the prefix reaches
//!    what was acknowledged. So nothing acknowledged is lost or changed, nothing dropped or overridden returns, and no
//!    group disturbs another.
//! 2. A vote that was answered is never forgotten, except that a file vanished with it, and that is reported.
//! 3. Damage is reported only when the disk did something wrong: no crash is a false alarm.
//! 4. Damage is reported whenever anything durable was submitted after what it hit was acknowledged. Only behind that
//!    can one rotten or lost write hide up to W acknowledged batches, one misdirected write W + 1.
//! 5. After healing from a good copy each group holds everything acknowledged, and a good copy is always enough.
//!
//! # What is not in it
//! More than one fault at a time; manifests and their `durable_end`; membership (it is kept as votes are); reading where
//! the page cache cannot be passed; rewriting a directory that a power cut has not kept as it was seen.
//!
//! # Reading a counter-example
//! `cargo run --release -p logwood-sim --example log_model -- --without NoFreshBlock` prints one. Positions are
//! `segment+unit`; a block has two units, the header is block 0; `2(t1)` is LSN 2 of term 1.

pub mod bounds;
pub mod bytes;
pub mod disk;
pub mod end_rule;
pub mod group;
pub mod mutation;
pub mod opening;
pub mod promise;
pub mod search;
pub mod state;
pub mod step;
pub mod world;
pub mod writing;
