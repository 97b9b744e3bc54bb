//! Why a listener cannot be bound, and what to do about it.

use std::io;

use super::tls::TlsError;

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", bind_hint(source))]
    Address {
        /// The configured address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The TLS files cannot be used, which is a configuration error.
    #[error("cannot listen on {address}: {source}")]
    Tls {
        /// The configured address.
        address: String,
        /// The cause.
        source: TlsError,
    },
    /// The threads that serve connections cannot be started.
    #[error(
        "cannot start the threads that serve connections: {source}; is the limit of threads or open files too low?"
    )]
    Workers {
        /// The cause.
        source: io::Error,
    },
}

/// What to do about an address that cannot be bound, to follow the error.
pub fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; no network interface of this machine has this address",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities in systemd), or choose another port"
        }
        _ => "",
    }
}
