//! From a URL to an answer: addresses, TLS, proxies, and the client that sends one request.

mod address;
pub(super) mod client;
pub(super) mod connect;
mod tls;
