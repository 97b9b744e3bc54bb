//! Which notary server belongs to a registry.

use crate::oci::Host;

/// The server of a registry with a well-known server: Docker Hub, Quay and IBM Cloud, as in Portieris.
pub(super) fn known_notary(host: &Host) -> Option<String> {
    let host = host.as_str();
    let is_ibm = host == "icr.io"
        || host.ends_with(".icr.io")
        || (host.starts_with("registry") && host.ends_with(".bluemix.net"));
    match host {
        "docker.io" => Some("https://notary.docker.io".into()),
        "quay.io" => Some("https://quay.io:443".into()),
        _ if is_ibm => Some(format!("https://{host}:4443")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_known_registries() {
        for (host, server) in [
            ("docker.io", Some("https://notary.docker.io")),
            ("quay.io", Some("https://quay.io:443")),
            ("icr.io", Some("https://icr.io:4443")),
            ("us.icr.io", Some("https://us.icr.io:4443")),
            ("registry.eu-gb.bluemix.net", Some("https://registry.eu-gb.bluemix.net:4443")),
            ("evilicr.io", None),
            ("registry.bluemix.net.evil.io", None),
            ("us.icr.io:5000", None),
            ("registry.acme.com", None),
        ] {
            assert_eq!(known_notary(&host.parse().unwrap()).as_deref(), server, "{host}");
        }
    }
}
