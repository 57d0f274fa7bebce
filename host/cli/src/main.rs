//! The `quern` binary.
fn main() {}
