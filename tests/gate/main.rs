//! The real program, from configuration file to bound sockets, against an in-process registry.

#[path = "../support/mod.rs"]
mod support;

mod blobs;
mod harness;
mod pull;
mod routes;
mod rules;
