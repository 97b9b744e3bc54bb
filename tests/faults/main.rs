//! What goes wrong between the upstream, the disk and the clients, each over real sockets. Every test ends alike:
//! nothing wrong was served, nothing wrong is kept, and the next pull works and is right.

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
