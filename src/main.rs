//! argv, exit codes; all else is the library's.
fn main() {}
