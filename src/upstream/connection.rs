//! From a URL to a response: addresses, TLS, proxies, and the client that sends single requests.

mod address;
pub(super) mod client;
pub(super) mod connect;
mod tls;
