//! The rim: listeners, TLS, who a client is, limits; the admin side on its own listener and socket.
//!
//! It turns bytes into requests with an identity and answers into bytes. It bounds in size and time everything that a
//! peer controls. It never decides whether an image may be served, and never reads more of a request than its head.

pub mod admin;
mod registry;
mod transport;

pub use admin::{AdminApi, JobState, PrefetchRequest, PrefetchedImage, check};
pub use registry::{Registry, manifest_response};
pub use transport::{
    BindError, Body, Bound, Certificates, Client, ClientCertificate, Config, Limits, ProxyHeader, Service, TlsConfig,
    TlsError, bind,
};
