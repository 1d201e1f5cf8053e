//! The write-ahead log of logwood, useful alone as the durable log of replicated systems.
