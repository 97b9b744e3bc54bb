//! pullgate between real programs: the clients of current distributions in front of it, Debian's `docker-registry`
//! behind it.
//!
//! For each client, an admitted image arrives complete. A denied image fails with the reason in the client's own
//! output, the fallback registry is reachable but receives no request, and the upstream's log shows that no blob of the
//! denied image was requested. An image labelled as something else, which the client would accept from the registry
//! itself, is denied as well, and none of its blobs is served by the gate.
//!
//! `cargo test` skips this target, because it needs programs that `tests/tools` installs. `tests/run` runs it, with one
//! suite per module; to run one by hand: `cargo test --test interop -- podman::`. `PULLGATE_PROGRAM` selects another
//! program to test, such as an installed package.

mod harness;

mod airgap;
mod conformance;
mod containerd;
mod cosign;
mod crane;
mod curl;
mod debian;
mod dockerd;
mod gpg;
mod notary;
mod notation;
mod papers;
mod podman;
mod sigstore;
mod skopeo;
mod trivy;
mod upstreams;
mod va;
