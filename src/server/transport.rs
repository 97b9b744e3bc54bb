//! From sockets to requests: listeners, TLS, limits, and client identity.

mod body;
mod certificates;
pub(super) mod connection;
pub(super) mod failures;
mod identity;
pub(super) mod limits;
mod listener;
mod proxy_protocol;
mod send_file;
pub(super) mod stream;
mod tls;
mod workers;

pub use body::Body;
pub use certificates::Certificates;
pub use identity::{ClientIdentity, ProxyHeader};
pub use limits::Limits;
pub use listener::{BindError, BoundListeners, Config, Service, bind};
pub use tls::TlsConfig;
