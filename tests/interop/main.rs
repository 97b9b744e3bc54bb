//! pullgate between real programs: clients of today's distributions in front of it, Debian's `docker-registry` behind it.
//!
//! For each client: an admitted image arrives whole, a denied one fails with the reason in the client's own output, the
//! registry that the client could turn to instead is reachable and sees no request, and the upstream's own log shows that
//! no blob of a denied image was asked for. An image under the labels of something else, which the client takes when it
//! asks the registry itself, is denied as well, and none of its blobs is to be had from the gate.
//!
//! `cargo test` leaves this target out, because it needs programs that `tests/tools` installs. `tests/run` runs it, one row
//! per module; by hand: `cargo test --test interop -- podman::`. `PULLGATE_PROGRAM` names another program to test, such as
//! an installed package's.

mod harness;

mod conformance;
mod containerd;
mod cosign;
mod crane;
mod curl;
mod debian;
mod dockerd;
mod podman;
mod skopeo;
mod upstreams;
