//! From sockets to requests: listeners, TLS, limits, and client identity.

mod accepting;
pub(super) mod addresses;
mod bind_error;
mod body;
mod certificates;
pub(super) mod connection;
mod counters;
pub(super) mod failures;
mod identity;
pub(super) mod limits;
mod listener;
mod plain_http;
mod proxy_protocol;
mod read_progress;
mod send_file;
pub(super) mod stream;
mod tls;
mod tls_check;
mod workers;

pub use bind_error::{BindError, bind_hint};
pub use body::Body;
pub use certificates::Certificates;
pub use identity::{ClientIdentity, ProxyHeader};
pub use limits::{Limits, SharedLimits};
pub use listener::{BoundListeners, Config, ServerTasks, Service, bind};
pub use tls::{TlsConfig, TlsError};
pub use tls_check::{TlsReport, check_tls};
