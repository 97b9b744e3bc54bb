//! Failures of the upstream, the disk and the clients, over real sockets. Every test ends the same way: no wrong
//! content was served or cached, and the next pull succeeds with correct content.

#[path = "../gate/harness.rs"]
mod harness;
#[path = "../support/kept.rs"]
mod kept;
#[path = "../support/mod.rs"]
mod support;

mod bed;
mod body;
mod clients;
mod clock;
mod disk;
mod shared;
mod upstream;
