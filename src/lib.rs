//! pullgate: a caching OCI registry proxy that enforces image policy at the moment of the pull.
//!
//! # The life of a request
//!
//! ```text
//! client -> server (TLS, limits) -> identity (scope) -> route (parsed once) -> select (which document and rule)
//!        -> resolve (tag -> digest -> manifest bytes, verified)
//!        -> evidence (trust, then va; single-flight, memoised) -> decide (pure)
//!        -> serve (cache or upstream, streaming; only with a permit) -> audit (one record per decision)
//! ```
//!
//! [`gate::Gate::handle`] is that line, on one screen. The modules, in the order of the flow:
//!
//! * [`server`]: listeners, TLS, who the client is, HTTP in and out; the admin side.
//! * [`gate`]: the pipeline.
//! * [`rulebook`]: where rules come from; [`policy`]: what they mean, and the decision, which alone makes a permit.
//! * [`resolve`]: tags and manifests.
//! * [`trust`] and [`va`]: evidence, with no opinion.
//! * [`cache`]: content, opened only with a permit; [`upstream`]: the registries behind.
//! * [`audit`], [`store`]: what is recorded and what is remembered.
//! * [`markup`]: TOML and YAML as one tree with places.
//! * [`oci`], [`scope`], [`runtime`]: the values and the ground that all of it stands on.
//! * [`prefetch`]: images into the cache before anybody asks, through the gate like any client.
//! * [`config`], [`app`], [`cli`]: put together, and told what to do. [`sample`]: images to try it with.
//!
//! Which module may use which is a table in ARCHITECTURE.md that a test enforces.

pub mod app;
pub mod audit;
pub mod cache;
pub mod cli;
pub mod config;
pub mod gate;
pub mod markup;
pub mod oci;
pub mod policy;
pub mod prefetch;
pub mod resolve;
pub mod rulebook;
pub mod runtime;
pub mod sample;
pub mod scope;
pub mod server;
pub mod store;
pub mod trust;
pub mod upstream;
pub mod va;
