//! An embedded registry with small, valid images, used by the demo, the tests and the soak.
//!
//! The registry keeps everything in memory and implements the pull endpoints of the OCI distribution specification.
//! Content is added only through the functions of this module, never over the network. It can simulate every failure of
//! an upstream ([`Fault`]). It must never serve content that anyone depends on.

mod demo;
/// Builders for images, indexes, artifacts and attachments.
pub mod image;
mod notary;
mod registry;
mod signing;

pub use demo::{DemoImage, Package, demo_images};
pub use notary::{Edit, NotaryKey, NotaryRepository, SampleDelegation};
pub use registry::{Access, Credentials, Fault, Injected, Listening, LoggedRequest, On, Registry};
pub use signing::{SigningError, SigningKey};
