//! pullgate: a caching OCI registry proxy that enforces image policy at the moment of the pull.
pub mod cli;
pub mod oci;
pub mod policy;
pub mod runtime;
pub mod server;
