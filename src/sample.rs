//! An embedded registry with small genuine images: what the demo, the canary, the tests and the soak pull from.
//!
//! The registry keeps everything in memory and speaks the pull half of the OCI distribution specification; content gets
//! into it through this module's functions, never over the network. It can misbehave on demand ([`Fault`]), so that every
//! failure of an upstream can be had at will. It never stands between clients and content that somebody relies on.

mod demo;
/// Builders of images, indexes, artifacts and attachments.
pub mod image;
mod registry;
mod signing;

pub use demo::{DemoImage, Package, demo_images};
pub use registry::{Access, Credentials, Fault, Injected, Listening, LoggedRequest, On, Registry};
pub use signing::{SigningError, SigningKey};
