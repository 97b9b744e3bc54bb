//! The identity of a client: its address, its certificate, and the resulting scope.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use x509_cert::der::{Decode as _, asn1::Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::scope::Scope;

/// Who sent a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// The client's own address, as far as trusted proxies report it.
    pub address: IpAddr,
    /// The same as text, for records and logs; formatted once per connection.
    pub address_text: Arc<str>,
    /// The peer of the connection: the client, or the last proxy.
    pub peer: SocketAddr,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// The listener of the connection, by its configured address.
    pub listener: Arc<str>,
    /// The verified client certificate, if the listener requires one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

/// The contents of a verified client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// The common name of the subject.
    pub common_name: Option<Arc<str>>,
    /// The subject alternative names: DNS names, e-mail addresses and URIs, unchanged.
    pub names: Vec<String>,
    /// The SHA-256 fingerprint of the certificate, in lower-case hex.
    pub fingerprint: String,
}

/// How trusted proxies report the client. Only one way is accepted, because a proxy that sets one header passes on the
/// other as the client wrote it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyHeader {
    /// The `Forwarded` header (RFC 7239).
    Forwarded,
    /// The PROXY protocol, version 1 or 2, at the start of the connection; trusted proxies are then required to send
    /// it.
    ProxyProtocol,
    /// The `X-Forwarded-For` header.
    #[default]
    XForwardedFor,
}

/// Which proxies are trusted, and how they report the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    pub(super) trusted: Vec<IpNet>,
    pub(super) header: ProxyHeader,
}

impl Proxies {
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// The rightmost address that is not a trusted proxy: entries to the left of it cannot be trusted. If an entry is
    /// not an address, the proxy that added it counts as the client.
    pub(super) fn client_address(&self, connected: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(connected) {
            return connected;
        }
        let mut address = connected;
        for entry in self.entries(headers) {
            if !self.trusts(address) {
                break;
            }
            let Some(before) = entry else { break };
            address = before;
        }
        address
    }

    /// The addresses added by proxies, last first; `None` for entries that are not addresses.
    fn entries(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let (name, parse): (&str, fn(&str) -> Option<IpAddr>) = match self.header {
            ProxyHeader::Forwarded => ("forwarded", forwarded_for),
            ProxyHeader::ProxyProtocol => return Vec::new(),
            ProxyHeader::XForwardedFor => ("x-forwarded-for", node_address),
        };
        let lines = headers.get_all(name).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|c| *c == b','));
        entries.map(|entry| std::str::from_utf8(entry).ok().and_then(|entry| parse(entry.trim()))).collect()
    }
}

impl ClientCertificate {
    /// Parses a certificate that was verified in the handshake. `None` if it cannot be parsed.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        Some(Self {
            common_name: common_name(&certificate),
            names: alternative_names(&certificate)?,
            fingerprint: Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The scope for the names in the certificate: `fallback` if no name is listed, and `None` if they map to several
    /// scopes.
    pub(super) fn scope(&self, scopes: &BTreeMap<String, Scope>, fallback: &Scope) -> Option<Scope> {
        let names = self.names.iter().map(String::as_str).chain(self.common_name.as_deref());
        let found: BTreeSet<&Scope> = names.filter_map(|name| scopes.get(name)).collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (None, _) => Some(fallback.clone()),
            (Some(scope), None) => Some(scope.clone()),
            (Some(_), Some(_)) => None,
        }
    }
}

/// The `for=` parameter of one element of a `Forwarded` header.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, node) = nodes.next()?;
    node_address(node.trim().trim_matches('"'))
}

/// An address in the formats that proxies use: plain, in brackets, or with a port.
fn node_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

fn common_name(certificate: &x509_cert::Certificate) -> Option<Arc<str>> {
    let subject = &certificate.tbs_certificate.subject;
    let attributes = subject.0.iter().flat_map(|rdn| rdn.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid.to_string() == "2.5.4.3");
    let value = &names.next()?.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().into());
    utf8.or_else(|| std::str::from_utf8(value.value()).ok().map(Arc::from))
}

fn alternative_names(certificate: &x509_cert::Certificate) -> Option<Vec<String>> {
    let Some((_, SubjectAltName(names))) = certificate.tbs_certificate.get::<SubjectAltName>().ok()? else {
        return Some(Vec::new());
    };
    let text = |name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::Rfc822Name(name) => Some(name.as_str().to_owned()),
        GeneralName::UniformResourceIdentifier(name) => Some(name.as_str().to_owned()),
        _ => None,
    };
    Some(names.into_iter().filter_map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ProxyHeader, lines: &[&str]) -> String {
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let name = if header == ProxyHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        Proxies { trusted, header }.client_address("10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        let cases: [(&[&str], &str); 10] = [
            (&[], "10.0.0.1"),
            (&["192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.9, 192.0.2.1, 10.2.2.2"], "192.0.2.1"),
            (&["192.0.2.9", "192.0.2.1,10.2.2.2"], "192.0.2.1"),
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (&["192.0.2.9, unknown"], "10.0.0.1"),
            (&["192.0.2.9, , 10.2.2.2"], "10.2.2.2"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711, 2001:db8:1::7"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(ProxyHeader::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_headers_follow_rfc_7239() {
        let cases: [(&[&str], &str); 6] = [
            (&["for=192.0.2.1"], "192.0.2.1"),
            (&["For=\"[2001:db8::1]:80\";proto=https;by=10.0.0.1"], "2001:db8::1"),
            (&["for=192.0.2.9, proto=https ; for=192.0.2.1"], "192.0.2.1"),
            (&["for=192.0.2.9, for=_hidden"], "10.0.0.1"),
            (&["for=192.0.2.9, proto=https"], "10.0.0.1"),
            (&["for=\"192.0.2.9, for=192.0.2.1"], "192.0.2.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(ProxyHeader::Forwarded, lines), expected, "{lines:?}");
        }
    }
}
