//! `init`, run several times over one directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::DAY;
use super::*;

fn request(dir: &Path, names: &[&str]) -> CertificateRequest {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateRequest { dir: dir.to_owned(), names, days: 825, replace: false }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn later(days: u64) -> Timestamp {
    now() + Duration::from_secs(days * DAY)
}

fn text(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

/// Whether a client that trusts `ca.crt` takes `server.crt` for this name.
fn is_trusted(dir: &Path, name: &str, at: Timestamp) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(text(dir, "ca.crt").as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let server = CertificateDer::from_pem_slice(text(dir, "server.crt").as_bytes()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap()));
    verifier.verify_server_cert(&server, &[], &ServerName::try_from(name).unwrap(), &[], at).is_ok()
}

#[test]
fn clients_trust_the_chain_and_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let done = init(&request(dir.path(), &["gate.example", "192.0.2.7", "*.gate.example"]), now()).unwrap();
    assert_eq!((done.ca, done.server), (CertificateState::Made, CertificateState::Made));
    for name in ["localhost", "127.0.0.1", "::1", "gate.example", "192.0.2.7", "eu.gate.example"] {
        assert!(is_trusted(dir.path(), name, now()), "{name}");
    }
    assert!(!is_trusted(dir.path(), "other.example", now()));
    assert!(!is_trusted(dir.path(), "localhost", later(826)));
    for (file, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("ca.crt", 0o644), ("server.crt", 0o644)] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
}

#[test]
fn a_second_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    init(&request(dir.path(), &["gate.example"]), now()).unwrap();
    let before = ["ca.crt", "ca.key", "server.crt", "server.key"].map(|file| text(dir.path(), file));
    let done = init(&request(dir.path(), &[]), now()).unwrap();
    assert_eq!((done.ca, done.server), (CertificateState::Kept, CertificateState::Kept));
    assert_eq!(before, ["ca.crt", "ca.key", "server.crt", "server.key"].map(|file| text(dir.path(), file)));
}

#[test]
fn a_new_name_or_an_imminent_expiry_renews_under_the_same_ca_and_keeps_names() {
    let dir = tempfile::tempdir().unwrap();
    init(&request(dir.path(), &["one.example"]), now()).unwrap();
    let ca = text(dir.path(), "ca.crt");
    assert_eq!(init(&request(dir.path(), &["two.example"]), now()).unwrap().server, CertificateState::Renewed);
    assert_eq!(init(&request(dir.path(), &[]), later(794)).unwrap().server, CertificateState::Kept);
    assert_eq!(init(&request(dir.path(), &[]), later(796)).unwrap().server, CertificateState::Renewed);
    assert_eq!(text(dir.path(), "ca.crt"), ca);
    for name in ["one.example", "two.example"] {
        assert!(is_trusted(dir.path(), name, later(900)), "{name}");
    }
}

#[test]
fn certificates_of_other_cas_are_kept() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init(&request(ours.path(), &[]), now()).unwrap();
    init(&request(theirs.path(), &[]), now()).unwrap();
    fs::copy(theirs.path().join("server.crt"), ours.path().join("server.crt")).unwrap();
    let before = text(ours.path(), "server.crt");
    assert!(matches!(init(&request(ours.path(), &[]), now()), Err(PkiError::Foreign { .. })));
    assert_eq!(text(ours.path(), "server.crt"), before);
    fs::copy(theirs.path().join("ca.key"), ours.path().join("ca.key")).unwrap();
    assert!(matches!(init(&request(ours.path(), &[]), now()), Err(PkiError::Unusable { .. })));
    let replacing = CertificateRequest { replace: true, ..request(ours.path(), &[]) };
    assert_eq!(init(&replacing, now()).unwrap().ca, CertificateState::Made);
    assert!(is_trusted(ours.path(), "localhost", now()));
}

#[test]
fn an_incomplete_ca_an_expired_ca_and_bad_names_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(init(&request(dir.path(), &["a b"]), now()), Err(PkiError::Name(name)) if name == "a b"));
    assert!(matches!(init(&request(dir.path(), &[]), later(3651)), Err(PkiError::Expired { .. })));
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(matches!(init(&request(dir.path(), &[]), now()), Err(PkiError::Io { .. })));
}
