//! Whether clients can use the files of a listener, before a gate serves with them.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::{Certificate, Version};

use super::tls::{TlsConfig, TlsError, TlsFiles, certificates, checked_validity, client_verifier, private_key, read};
use crate::x509::timestamp;

/// The uses that servers may have: `id-kp-serverAuth` and `anyExtendedKeyUsage` (RFC 5280, section 4.2.1.12).
const SERVER_USES: [&str; 2] = ["1.3.6.1.5.5.7.3.1", "2.5.29.37.0"];

/// The findings about the files of a listener. Each finding has the key of the configuration that names the file.
#[derive(Debug, Default)]
pub struct TlsReport {
    /// What prevents TLS.
    pub errors: Vec<(&'static str, TlsError)>,
    /// Why clients may refuse certificates.
    pub warnings: Vec<(&'static str, String)>,
    /// When the certificate begins and when the first one of its chain ends, if it can be used.
    pub validity: Option<(Timestamp, Timestamp)>,
}

/// Checks the files of a listener at a time.
pub fn check_tls(config: &TlsConfig, now: Timestamp) -> TlsReport {
    let mut report = TlsReport::default();
    let certificate = read(&config.certificate).and_then(|pem| {
        let chain = certificates(&config.certificate, &pem)?;
        checked_validity(&config.certificate, &chain, now)?;
        let chain: Vec<Certificate> = chain.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
        let shown = |why: String| ("certificate", format!("{}: {why}", config.certificate.display()));
        report.warnings.extend(doubts(&chain, now).into_iter().map(shown));
        Ok(pem)
    });
    let key = read(&config.key).and_then(|pem| private_key(&config.key, &pem).map(|_| pem));
    // Whether certificate and key belong together does not depend on the CA of clients, which may be wrong, too.
    match (certificate, key) {
        (Ok(certificate), Ok(key)) => {
            let alone = TlsConfig { client_ca: None, ..config.clone() };
            match (TlsFiles { certificate, key, client_ca: None }).build(&alone, false, now) {
                Ok((_, validity)) => report.validity = Some((validity.from, validity.first_end)),
                Err(error) => report.errors.push(("key", error)),
            }
        }
        (certificate, key) => {
            report.errors.extend(certificate.err().map(|error| ("certificate", error)));
            report.errors.extend(key.err().map(|error| ("key", error)));
        }
    }
    if let Some(path) = &config.client_ca {
        let checked = read(path).and_then(|pem| client_verifier(path, &pem).and_then(|_| certificates(path, &pem)));
        match checked {
            Ok(all) if all.iter().all(|der| has_ended(der, now)) => {
                let message = format!("{}: all certificates in it have expired", path.display());
                report.warnings.push(("client_ca", message));
            }
            Ok(all) if !all.iter().any(may_issue) => {
                let message = format!(
                    "{}: no certificate in it is that of a CA; each admits only the client that presents it",
                    path.display()
                );
                report.warnings.push(("client_ca", message));
            }
            Ok(_) => {}
            Err(error) => report.errors.push(("client_ca", error)),
        }
    }
    report
}

fn end(certificate: &Certificate) -> Timestamp {
    timestamp(certificate.tbs_certificate.validity.not_after)
}

fn has_ended(der: &CertificateDer<'_>, now: Timestamp) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| end(&certificate) < now)
}

/// Whether this is the certificate of a CA, or too old to state that (RFC 5280, section 4.2.1.9).
fn may_issue(der: &CertificateDer<'_>) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| {
        let certificate = certificate.tbs_certificate;
        let is_ca = certificate.get::<BasicConstraints>().is_ok_and(|found| found.is_some_and(|(_, basic)| basic.ca));
        is_ca || certificate.version == Version::V1
    })
}

/// Why clients may refuse a server's certificate with its intermediates.
fn doubts(chain: &[Certificate], now: Timestamp) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(server) = chain.first() {
        if !matches!(server.tbs_certificate.get::<SubjectAltName>(), Ok(Some(_))) {
            doubts.push("it has no subjectAltName, so containerd, docker and podman refuse it".to_owned());
        }
        let uses = server.tbs_certificate.get::<ExtendedKeyUsage>().ok().flatten();
        let is_for_servers = |oid: &ObjectIdentifier| SERVER_USES.contains(&&*oid.to_string());
        if uses.is_some_and(|(_, ExtendedKeyUsage(uses))| !uses.iter().any(is_for_servers)) {
            doubts.push("it is not a server certificate: its extendedKeyUsage lacks serverAuth".to_owned());
        }
    }
    doubts.extend(broken_path(chain, now));
    doubts
}

/// Why no client can build a path from the server's certificate to an authority with the certificates in the chain.
/// Clients use the others in any order and skip those that they do not need; they know roots, including roots with the
/// name of an intermediate that another root signed.
fn broken_path(chain: &[Certificate], now: Timestamp) -> Option<String> {
    if chain.is_empty() { None } else { find_way(0, chain, &mut vec![false; chain.len()], now).err().flatten() }
}

/// Whether there is a way from the certificate at an index. The error says why not, if that is known: each other
/// certificate is tried once, and nothing follows from one that was tried before.
fn find_way(at: usize, chain: &[Certificate], tried: &mut [bool], now: Timestamp) -> Result<(), Option<String>> {
    let issuer = &chain[at].tbs_certificate.issuer;
    if *issuer == chain[at].tbs_certificate.subject {
        return Ok(());
    }
    let issuers = (1..chain.len()).filter(|other| chain[*other].tbs_certificate.subject == *issuer);
    let (ended, valid): (Vec<usize>, Vec<usize>) = issuers.partition(|other| end(&chain[*other]) < now);
    match ended.first() {
        _ if !valid.is_empty() => {
            let mut doubt = None;
            for other in valid {
                if !std::mem::replace(&mut tried[other], true) {
                    match find_way(other, chain, tried, now) {
                        Ok(()) => return Ok(()),
                        Err(why) => doubt = why.or(doubt),
                    }
                }
            }
            Err(doubt)
        }
        Some(&other) if at == 0 || *issuer == chain[other].tbs_certificate.issuer => {
            Err(Some(format!("certificate {} in it expired on {}", other + 1, end(&chain[other]))))
        }
        None if at == 0 && chain.len() > 1 => {
            Err(Some("none of the other certificates in it has issued the server's".to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn params(name: &str, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        params
    }

    /// The certificate of a CA that is valid until this year, and of a server that it issued.
    fn issued(server: &CertificateParams, until: i32) -> (String, String, KeyPair) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = params("ca.test", until);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let server = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        (ca_pem, server.pem(), key)
    }

    fn checked(dir: &Path, certificate: &str, key: &str, client_ca: Option<&str>) -> TlsReport {
        let file = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        let config = TlsConfig {
            certificate: file("server.crt", certificate),
            key: file("server.key", key),
            client_ca: client_ca.map(|text| file("ca.crt", text)),
            ..TlsConfig::default()
        };
        check_tls(&config, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn certificates_that_clients_refuse_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |params: CertificateParams, until: i32, has_chain: bool| {
            let (ca, server, key) = issued(&params, until);
            let chain = if has_chain { server + &ca } else { server };
            let report = checked(dir.path(), &chain, &key.serialize_pem(), None);
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            (report.warnings.into_iter().map(|(_, why)| why).collect::<Vec<_>>().join("\n"), report.validity)
        };
        let (why, validity) = told(params("a.test", 2090), 2050, true);
        assert_eq!((why, validity.unwrap().1.to_string()), (String::new(), "2050-01-01T00:00:00Z".to_owned()));
        let mut nameless = params("a.test", 2090);
        nameless.subject_alt_names.clear();
        assert!(
            told(nameless, 2090, false)
                .0
                .ends_with("it has no subjectAltName, so containerd, docker and podman refuse it")
        );
        let mut client = params("a.test", 2090);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert!(told(client, 2090, false).0.contains("its extendedKeyUsage lacks serverAuth"));
        let mut both = params("a.test", 2090);
        both.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        assert_eq!(told(both, 2090, true).0, "");
        assert!(told(params("a.test", 2090), 2021, true).0.contains("certificate 2 in it expired on 2021-01-01"));
        let (_, server, key) = issued(&params("a.test", 2090), 2090);
        let other = KeyPair::generate().unwrap();
        let other = params("other.test", 2090).self_signed(&other).unwrap().pem();
        let report = checked(dir.path(), &(server + &other), &key.serialize_pem(), Some(&other));
        let warnings: Vec<String> = report.warnings.iter().map(|(key, why)| format!("{key}: {why}")).collect();
        assert!(warnings.len() == 2 && warnings[0].contains("none of the other certificates in it has issued the"));
        assert!(warnings[1].starts_with("client_ca: ") && warnings[1].contains("no certificate in it is that of a CA"));
        let old = KeyPair::generate().unwrap();
        let old = params("old.test", 2021).self_signed(&old).unwrap().pem();
        let report = checked(dir.path(), &other, &key.serialize_pem(), Some(&old));
        assert!(report.warnings.iter().any(|(key, why)| *key == "client_ca" && why.contains("have expired")));
        assert!(report.errors.len() == 1 && report.errors[0].0 == "key", "{:?}", report.errors);
    }

    /// Each certificate is written `SUBJECT<ISSUER`, and `!` if it has expired.
    #[test]
    fn clients_take_intermediates_in_any_order_and_leave_out_others() {
        let certificate = |text: &&str| {
            let (names, until) = text.strip_suffix('!').map_or((*text, 2090), |names| (names, 2021));
            let (subject, issuer) = names.split_once('<').unwrap();
            let (key, issuer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
            let issuer = Issuer::new(params(issuer, 2090), issuer_key);
            Certificate::from_der(params(subject, until).signed_by(&key, &issuer).unwrap().der()).unwrap()
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (chain, wanted) in [
            (&["a<root"][..], ""),
            (&["a<int", "int<root"], ""),
            (&["a<int", "root<root", "int<root"], ""),
            (&["a<int", "other<else", "int<root"], ""),
            (&["a<a", "other<else"], ""),
            (&["a<int", "int<old!", "int<root"], ""),
            (&["a<int", "int<root", "root<old!"], ""),
            (&["a<int", "int<root!"], "certificate 2 in it expired on 2021"),
            (&["a<int", "int<root", "root<root!"], "certificate 3 in it expired on 2021"),
            (&["a<int", "other<else"], "none of the other certificates in it has issued the server's"),
            (&["a<int", "int<a"], ""),
            (&["a<int", "int<mid", "int<mid", "mid<root", "root<root!"], "certificate 5 in it expired on 2021"),
            (&["a<int", "int<loop", "loop<int", "int<root", "root<root!"], "certificate 5 in it expired on 2021"),
            (&["a<int", "int<loop", "loop<int", "int<root"], ""),
        ] {
            let found = broken_path(&chain.iter().map(certificate).collect::<Vec<_>>(), now).unwrap_or_default();
            assert!(found.contains(wanted) && found.is_empty() == wanted.is_empty(), "{chain:?} {found}");
        }
    }

    #[test]
    fn findings_belong_to_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let server = params("a.test", 2090).self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let of = |certificate: &str, key: &str, client_ca: Option<&str>| {
            let errors = checked(dir.path(), certificate, key, client_ca).errors;
            errors.into_iter().map(|(key, error)| format!("{key}: {error}")).collect::<Vec<_>>()
        };
        let report = of(&server, &key, Some(&key));
        assert!(report.len() == 1 && report[0].starts_with("client_ca: ") && report[0].contains("no certificate"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(of(&server, encrypted, None)[0].contains("the private key is encrypted"));
        let legacy = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
            -----END EC PRIVATE KEY-----\n";
        assert!(of(&server, legacy, None)[0].contains("the private key is encrypted"));
        let unknown = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(of(&server, unknown, None)[0].contains("keys of this kind or size cannot be used"));
        let marked = |text: &str| format!("\u{feff}{text}");
        assert_eq!(of(&marked(&server), &marked(&key), None), [""; 0], "a byte order mark hides nothing");
        let cut = &server[..server.len() / 2];
        assert!(of(cut, &key, None)[0].contains("the file is cut off"), "{:?}", of(cut, &key, None));
    }
}
