//! The rim: listeners, TLS, who a client is, limits; the admin side on its own listener and socket.
//!
//! It turns bytes into requests with an identity and answers into bytes. It bounds in size and time everything that a
//! peer controls. It never decides whether an image may be served, and never reads more of a request than its head.

mod accept;
/// The admin side.
pub mod admin;
mod api;
mod body;
mod certificates;
mod connection;
mod errors;
mod identity;
mod jobs;
mod limits;
mod listener;
mod proxy_protocol;
mod range;
mod registry;
mod request_log;
mod response;
mod send_file;
mod stream;
mod tls;

pub use api::{AdminApi, PrefetchRequest, PrefetchedImage, check};
pub use body::Body;
pub use certificates::Certificates;
pub use identity::{Client, ClientCertificate, ProxyHeader};
pub use jobs::JobState;
pub use limits::Limits;
pub use listener::{BindError, Bound, Config, Service, bind};
pub use registry::Registry;
pub use response::manifest_response;
pub use tls::{TlsConfig, TlsError};
