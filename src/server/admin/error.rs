//! Why the admin server cannot start.

use std::io;
use std::path::PathBuf;

use crate::server::transport::bind_hint;

/// Why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("admin: cannot listen on {address}: {source}{}", bind_hint(source))]
    Address {
        /// The configured address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The listener is reachable from other machines and has no token, which is a configuration error.
    #[error("admin: {address} can be reached from other machines; set admin.token_file, or listen on 127.0.0.1")]
    Exposed {
        /// The configured address.
        address: String,
    },
    /// The Unix socket cannot be created.
    #[error("admin: {}: {source}; admin.socket names the path of the socket", path.display())]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The token file cannot be used, which is a configuration error.
    #[error("admin: token_file {}: {what}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
}
