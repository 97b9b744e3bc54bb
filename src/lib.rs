//! pullgate: a caching OCI registry proxy that enforces image policy at the moment of the pull.
pub mod audit;
pub mod cache;
pub mod oci;
pub mod policy;
pub mod resolve;
pub mod runtime;
pub mod sample;
pub mod server;
pub mod store;
pub mod upstream;
pub mod trust;
pub mod va;
