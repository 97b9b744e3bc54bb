//! The whole program, from configuration file to bound sockets, against an in-process registry.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/program.rs"]
mod program;

#[allow(clippy::unwrap_used, reason = "a test fails there")]
#[path = "../support/sigstore.rs"]
mod sigstore;

mod adapters;
mod answers;
mod api_reference;
mod attack;
mod audited;
mod binding;
mod blobs;
mod bundle;
mod cache;
mod carried_reports;
mod commands;
mod config_check;
mod content;
mod contents;
mod damaged;
mod demo;
mod exemptions;
#[cfg(feature = "gpg")]
mod gpg;
mod grace;
mod harness;
mod hints;
mod hostile;
mod ibm_api;
mod java;
mod keyless;
mod kinds;
mod lists;
mod livescan;
mod logged;
mod notary;
mod notation;
mod observe;
mod offline;
mod origin;
mod platforms;
mod polyglots;
mod printed;
mod pull;
mod reload;
mod rounds;
mod routes;
mod rules;
mod scanner;
mod scanners;
mod shown;
mod shutdown;
mod startup;
mod state;
#[allow(clippy::unwrap_used, reason = "a test fails there")]
mod traced;
mod unmet;
mod warm;
