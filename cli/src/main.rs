//! The `logwood` program.
fn main() {}
