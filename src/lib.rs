//! pullgate: a caching OCI registry proxy that enforces image policy when an image is pulled.
//!
//! # The life of a request
//!
//! ```text
//! client -> server (TLS, limits) -> identity (scope) -> route (parsed once) -> select (which document and rule)
//!        -> pin (tag -> the digest that content trust signed, where a scheme signs tags)
//!        -> resolve (tag or pin -> digest -> manifest bytes, verified)
//!        -> evidence (trust, then va; single-flight, memoised) -> decide (pure)
//!        -> serve (cache or upstream, streaming; only with a permit) -> audit (one record per decision)
//! ```
//!
//! [`gate::Gate::handle`] implements this pipeline. The modules, in the order of the flow:
//!
//! * [`server`]: listeners, TLS, client identity, the registry and admin HTTP APIs.
//! * [`api`]: the requests and answers of the admin API.
//! * [`gate`]: the pipeline.
//! * [`rulebook`]: loads the rules; [`policy`]: their semantics, and the decision, which alone creates permits.
//! * [`resolve`]: resolves tags and manifests.
//! * [`trust`] and [`va`]: gather evidence, without judging it.
//! * [`cache`]: stores content, which can be opened only with a permit.
//! * [`upstream`]: the clients of upstream registries.
//! * [`audit`]: decision records; `store`: the database; `events`: what other systems are told.
//! * [`markup`]: parses TOML and YAML into one kind of tree with source positions.
//! * `http_client`: sends every request to another service; [`pki`]: certificates for development.
//! * `inventory`: what is installed in an image; `version`: how versions are ordered.
//! * `advisories`: advisory databases, and which advisories apply to an inventory.
//! * `hardening`: what is unsafe in files and configurations of images.
//! * `licence`: licences as SPDX expressions.
//! * `sqlite`: reads SQLite databases that are not trusted.
//! * `otlp`: traces of requests for a collector.
//! * `tuf`: the documents of Docker Content Trust.
//! * [`oci`], [`scope`], [`runtime`], [`x509`]: basic values and services used by all modules.
//! * `preflight`: opens everything that a configuration names, before a gate starts.
//! * [`prefetch`]: loads images into the cache in advance, through the gate like any client.
//! * [`config`], [`app`], [`cli`]: configuration, wiring and commands. [`sample`]: a registry with sample images.
//!
//! ARCHITECTURE.md lists which module may use which; a test enforces it.
//! Public modules are those that the program, its tests and its benchmarks use; the others are private to the crate, so
//! the compiler reports dead code.

// `missing_docs` for what is public, this one for what other modules of the crate see (see clippy.toml).
#![warn(clippy::missing_docs_in_private_items)]

pub(crate) mod advisories;
pub(crate) mod api;
pub mod app;
pub(crate) mod audit;
pub(crate) mod cache;
pub mod cli;
pub mod config;
pub(crate) mod events;
pub(crate) mod gate;
pub(crate) mod hardening;
pub(crate) mod http_client;
pub(crate) mod inventory;
pub(crate) mod licence;
pub(crate) mod markup;
pub mod oci;
pub(crate) mod otlp;
pub(crate) mod pki;
pub mod policy;
pub(crate) mod prefetch;
pub(crate) mod preflight;
pub(crate) mod resolve;
pub(crate) mod rulebook;
pub mod runtime;
pub mod sample;
pub mod scope;
pub(crate) mod server;
pub(crate) mod sqlite;
pub(crate) mod store;
pub(crate) mod trust;
pub(crate) mod tuf;
pub(crate) mod upstream;
pub(crate) mod va;
pub(crate) mod version;
pub mod x509;

// For the benchmark of the hot path.
#[doc(hidden)]
pub use server::manifest_response;
// For tests that hold a state directory, as another process does.
#[doc(hidden)]
pub use store::StateDir;
