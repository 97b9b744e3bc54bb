//! The server: listeners, TLS, client identity and limits; the admin API on a separate listener and socket.
//!
//! It converts bytes into requests with an identity, and responses into bytes. It bounds everything that a peer
//! controls in size and time. It never decides whether an image may be served, and never reads more of a request than
//! its headers.

pub mod admin;
mod own_error;
mod registry;
mod sockets;
mod transport;

pub use admin::AdminApi;
pub use registry::{RegistryService, manifest_response};
pub use sockets::{InheritedSockets, PassedSocket, SocketError};
pub use transport::{
    BindError, Body, BoundListeners, Certificates, ClientIdentity, Config, Limits, ProxyHeader, ServerTasks, Service,
    SharedLimits, TlsConfig, TlsError, TlsReport, bind, bind_hint, check_tls,
};
