//! A log-structured storage engine to embed in other databases: one write-ahead log, one B-tree per keyspace, continuous verification.

pub mod entry;
