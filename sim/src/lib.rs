//! Models and deterministic simulation of logwood.
//!
//! | module | what it is | run it |
//! |---|---|---|
//! | [`log_model`] | the log's rules, written down and searched whole: the clearest statement of them in the project | `--example log_model` |
//! | [`serializability`] | whether histories of transactions are serializable, and clients that make such histories with the engine | `--test serializability` |
//! | [`simulation`] | the shipped engine through whole lives drawn from one seed, with power cuts, kills, faults and rot | `--example simulate` |

pub mod log_model;
pub mod serializability;
pub mod simulation;
