//! Why there is no answer, or not a whole one. What a failure of TLS or of name resolution means, and what can be done,
//! is said here once.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use hyper_util::client::legacy;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::connect::{PrivateAddress, UnresolvedName};

/// Why there is no answer, or not a whole one. The text does not name the host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HttpError {
    /// The connection ended before the body did.
    #[error("the response was interrupted: {0}")]
    BrokenOff(String),
    /// No connection, or no HTTP on it.
    #[error("{0}")]
    Connection(String),
    /// The certificate of the peer has expired, or is not valid yet.
    #[error("{0}; the server needs a new certificate, unless the clock of this machine is wrong")]
    Expired(String),
    /// The peer closed the connection instead of answering.
    #[error("{0}")]
    HungUp(String),
    /// No head of an answer within this time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The answer to a request without TLS is not HTTP.
    #[error("{0}; the answer is not HTTP: does it expect https?")]
    NotHttp(String),
    /// The peer has no version of TLS that is used here.
    #[error("{0}; it must offer TLS 1.2 or 1.3; older versions are not used")]
    OldTls(String),
    /// The answer to a TLS handshake is not TLS.
    #[error("{0}; the answer is not TLS: is it plain http?")]
    PlainHttp(String),
    /// An answer named a host with a private address.
    #[error("a private address")]
    PrivateAddress,
    /// No piece of the body within this time.
    #[error("no data received for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The body was not complete within this time.
    #[error("the response was not complete within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// The body has more bytes than this.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    /// The host of the URL has no address.
    #[error("{0}; is the host spelled correctly, and do the DNS servers of this machine know it?")]
    UnknownName(String),
    /// The certificate of the peer is not from an authority that is known.
    #[error("{0}; the certificate authority is unknown: name its file as `ca`, or install it on this machine")]
    Untrusted(String),
    /// The certificate of the peer is for other names.
    #[error("{0}; write a name of the certificate in the URL, or give the server a certificate for this name")]
    WrongName(String),
}

/// The error of a request without an answer.
pub(super) fn no_connection(error: &(dyn StdError + 'static)) -> HttpError {
    if cause::<PrivateAddress>(error).is_some() {
        return HttpError::PrivateAddress;
    }
    let by_name = cause::<UnresolvedName>(error).map(|_| HttpError::UnknownName as fn(String) -> HttpError);
    let by_tls = || cause(error).and_then(of_tls);
    let by_http = || cause(error).and_then(of_http);
    let kind = by_name.or_else(by_tls).or_else(by_http).unwrap_or(HttpError::Connection);
    kind(causes(error))
}

/// An error and its causes, in one line. Of the HTTP client's own error only its cause, because it names a step in the
/// client: `client error (Connect)`.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let telling = chain.filter(|error| !error.is::<legacy::Error>() || error.source().is_none());
    let mut words: Vec<String> = telling.map(said).collect();
    words.dedup();
    words.join(": ")
}

/// What an error itself says.
fn said(error: &(dyn StdError + 'static)) -> String {
    let of_tls = if error.is::<io::Error>() { cause::<rustls::Error>(error) } else { error.downcast_ref() };
    match of_tls.is_some_and(is_of_authority) {
        true => "invalid peer certificate: it is that of an authority, not of a server".to_owned(),
        false => error.to_string(),
    }
}

/// The error of this type that an error is, or has among its causes. The error that rustls reports is inside of an I/O
/// error, which does not name it as its cause.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error
        .downcast_ref()
        .or_else(|| inner.and_then(|inner| cause(inner)))
        .or_else(|| error.source().and_then(|source| cause(source)))
}

/// The kind of an error of TLS, if it has a hint.
fn of_tls(error: &rustls::Error) -> Option<fn(String) -> HttpError> {
    use rustls::Error;
    let kind: fn(String) -> HttpError = match error {
        // The peer answered the handshake with something else.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => HttpError::PlainHttp,
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => HttpError::OldTls,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => HttpError::Untrusted,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => HttpError::WrongName,
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => HttpError::Expired,
        error if is_of_authority(error) => HttpError::Untrusted,
        _ => return None,
    };
    Some(kind)
}

/// Whether the certificate of the peer is itself that of an authority, as `openssl req -x509` makes it. rustls shows
/// this only as text.
fn is_of_authority(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("{other:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

/// The kind of an error of HTTP, if it has a hint.
fn of_http(error: &hyper::Error) -> Option<fn(String) -> HttpError> {
    // As SSH servers do. hyper shows this only as text.
    let spoke_first = || error.to_string() == "received unexpected message from connection";
    if error.is_parse() || spoke_first() {
        return Some(HttpError::NotHttp);
    }
    // As many servers with TLS do after a request without it.
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let is_reset = source.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionReset);
    (error.is_incomplete_message() || is_reset).then_some(HttpError::HungUp)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn kind_of(error: rustls::Error) -> HttpError {
        // As tokio-rustls and hyper-rustls nest it.
        no_connection(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn failures_of_tls_have_kinds_with_hints() {
        use rustls::Error;
        let (name, time) = (ServerName::try_from("a.test").unwrap(), UnixTime::since_unix_epoch(Duration::ZERO));
        let other_name = CertificateError::NotValidForNameContext { expected: name, presented: Vec::new() };
        let ended = CertificateError::ExpiredContext { time, not_after: time };
        let early = CertificateError::NotValidYetContext { time, not_before: time };
        for (error, hint) in [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "is it plain http?"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "TLS 1.2 or 1.3"),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), "TLS 1.2 or 1.3"),
            (CertificateError::UnknownIssuer.into(), "name its file as `ca`"),
            (CertificateError::NotValidForName.into(), "a name of the certificate"),
            (other_name.into(), "a name of the certificate"),
            (CertificateError::Expired.into(), "a new certificate, unless the clock"),
            (ended.into(), "a new certificate, unless the clock"),
            (early.into(), "a new certificate, unless the clock"),
        ] {
            let text = error.to_string();
            let said = kind_of(error).to_string();
            assert!(said.starts_with(&text) && said.contains(hint), "{said}");
        }
        let without_hint = Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert_eq!(kind_of(without_hint.clone()), HttpError::Connection(without_hint.to_string()));
    }
}
