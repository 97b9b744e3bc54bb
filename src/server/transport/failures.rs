//! Logs connections that fail before their first request. Clients cause these failures, so they are logged at a limited
//! rate.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustls::AlertDescription;

use super::limits::Capacity;
use crate::runtime::LogLimit;

/// How often failed accepts are logged.
static ACCEPTS: LogLimit = LogLimit::new(1, Duration::from_secs(60));
/// How often failed TLS handshakes are logged.
static HANDSHAKES: LogLimit = LogLimit::new(5, Duration::from_secs(10));
/// How often TLS handshakes on a listener without TLS are logged.
static UNEXPECTED_TLS: LogLimit = LogLimit::new(5, Duration::from_secs(10));
/// How often it is logged that no connection is free.
static FULL: LogLimit = LogLimit::new(1, Duration::from_secs(60));
/// How often connections beyond the share of an address are logged.
static CROWDED: LogLimit = LogLimit::new(5, Duration::from_secs(10));

/// Logs that a listener cannot accept a connection, which is usually so until files or memory become free.
pub(in crate::server) fn accept_failed(listener: &dyn fmt::Display, error: &io::Error) {
    if let Some(omitted) = ACCEPTS.admit() {
        tracing::warn!(%listener, %error, omitted, "cannot accept connections");
    }
}

/// Logs a TLS handshake that failed.
pub(super) fn handshake_failed(listener: &str, client: IpAddr, error: &io::Error) {
    // Health checks of load balancers connect and leave.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return;
    }
    if let Some(omitted) = HANDSHAKES.admit() {
        let hint = hint(error);
        tracing::warn!(listener, client.address = %client, %error, hint, omitted, "TLS handshake failed");
    }
}

/// Logs that a client speaks TLS to a listener without it, and what to do.
pub(in crate::server) fn unexpected_tls(listener: &str, client: IpAddr, hint: &str) {
    if let Some(omitted) = UNEXPECTED_TLS.admit() {
        tracing::warn!(listener, client.address = %client, hint, omitted, "the client speaks TLS to a listener without TLS");
    }
}

/// Logs that new clients have to wait because the maximum number of connections is open, and which client has the most.
pub(super) fn no_room(listener: &str, capacity: &Capacity) {
    let Some(omitted) = FULL.admit() else { return };
    let most = capacity.limits.max_connections;
    let (client, connections) = capacity.busiest().unzip();
    let client = client.map(tracing::field::display);
    tracing::warn!(
        listener,
        limits.max_connections = most,
        client.address = client,
        client.connections = connections,
        omitted,
        "all connections are in use, and new clients wait for one; client.address, if it is known, has the most"
    );
}

/// Logs that a client has more connections than its share.
pub(super) fn too_many_connections(listener: &str, client: IpAddr) {
    if let Some(omitted) = CROWDED.admit() {
        tracing::warn!(
            listener,
            client.address = %client,
            omitted,
            "an address has more connections than limits.max_connections_per_address; requests on further ones get 503"
        );
    }
}

/// What is probably wrong with the client.
fn hint(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown | AlertDescription::UnknownCA,
        ) => Some("the client does not trust the certificate of this listener"),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            Some("the certificate of this listener has expired, according to the client's clock")
        }
        rustls::Error::NoCertificatesPresented => Some("this listener requires a client certificate (tls.client_ca)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_usual_causes() {
        let hint_of = |error: rustls::Error| hint(&io::Error::new(io::ErrorKind::InvalidData, error));
        let untrusted = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(hint_of(untrusted).unwrap().contains("does not trust"));
        assert!(hint_of(rustls::Error::NoCertificatesPresented).unwrap().contains("client_ca"));
        assert_eq!(hint_of(rustls::Error::DecryptError), None);
        assert_eq!(hint(&io::Error::from(io::ErrorKind::TimedOut)), None);
    }
}
