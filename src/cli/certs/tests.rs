//! `certs init`, run again and again over one directory.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use clap::Parser;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

fn args(dir: &Path, names: &[&str]) -> InitArgs {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    InitArgs { dir: dir.to_owned(), names, days: 825, force: false }
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
fn makes_a_chain_that_clients_trust_and_keeps_keys_private() {
    let dir = tempfile::tempdir().unwrap();
    let done = init(&args(dir.path(), &["gate.example", "192.0.2.7", "*.gate.example"]), now()).unwrap();
    assert_eq!((done.ca, done.server), (Outcome::Made, Outcome::Made));
    for name in ["localhost", "127.0.0.1", "::1", "gate.example", "192.0.2.7", "eu.gate.example"] {
        assert!(is_trusted(dir.path(), name, now()), "{name}");
    }
    assert!(!is_trusted(dir.path(), "other.example", now()));
    assert!(!is_trusted(dir.path(), "localhost", later(826)));
    for (file, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("ca.crt", 0o644), ("server.crt", 0o644)] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    assert!(done.to_string().contains("docker      cp "), "says what to do next");
}

#[test]
fn a_second_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    init(&args(dir.path(), &["gate.example"]), now()).unwrap();
    let before = ["ca.crt", "ca.key", "server.crt", "server.key"].map(|file| text(dir.path(), file));
    let done = init(&args(dir.path(), &[]), now()).unwrap();
    assert_eq!((done.ca, done.server), (Outcome::Kept, Outcome::Kept));
    assert_eq!(before, ["ca.crt", "ca.key", "server.crt", "server.key"].map(|file| text(dir.path(), file)));
}

#[test]
fn a_new_name_or_a_near_end_renews_under_the_same_ca_and_keeps_names() {
    let dir = tempfile::tempdir().unwrap();
    init(&args(dir.path(), &["one.example"]), now()).unwrap();
    let ca = text(dir.path(), "ca.crt");
    assert_eq!(init(&args(dir.path(), &["two.example"]), now()).unwrap().server, Outcome::Renewed);
    assert_eq!(init(&args(dir.path(), &[]), later(794)).unwrap().server, Outcome::Kept);
    assert_eq!(init(&args(dir.path(), &[]), later(796)).unwrap().server, Outcome::Renewed);
    assert_eq!(text(dir.path(), "ca.crt"), ca);
    for name in ["one.example", "two.example"] {
        assert!(is_trusted(dir.path(), name, later(900)), "{name}");
    }
}

#[test]
fn what_it_did_not_make_stays() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init(&args(ours.path(), &[]), now()).unwrap();
    init(&args(theirs.path(), &[]), now()).unwrap();
    fs::copy(theirs.path().join("server.crt"), ours.path().join("server.crt")).unwrap();
    let before = text(ours.path(), "server.crt");
    assert!(matches!(init(&args(ours.path(), &[]), now()), Err(CertsError::Foreign { .. })));
    assert_eq!(text(ours.path(), "server.crt"), before);
    fs::copy(theirs.path().join("ca.key"), ours.path().join("ca.key")).unwrap();
    assert!(matches!(init(&args(ours.path(), &[]), now()), Err(CertsError::Unusable { .. })));
    let forced = InitArgs { force: true, ..args(ours.path(), &[]) };
    assert_eq!(init(&forced, now()).unwrap().ca, Outcome::Made);
    assert!(is_trusted(ours.path(), "localhost", now()));
}

#[test]
fn half_a_ca_an_expired_one_and_bad_names_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(init(&args(dir.path(), &["a b"]), now()), Err(CertsError::Name(name)) if name == "a b"));
    assert!(matches!(init(&args(dir.path(), &[]), later(3651)), Err(CertsError::Expired { .. })));
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(matches!(init(&args(dir.path(), &[]), now()), Err(CertsError::Io { .. })));
}

#[test]
fn arguments() {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        init: InitArgs,
    }
    let command = Command::try_parse_from(["x", "--name", "a.example", "--name", "b.example", "--days", "30"]).unwrap();
    assert_eq!((command.init.names.len(), command.init.days, command.init.dir.to_str()), (2, 30, Some("certs")));
    assert!(Command::try_parse_from(["x", "--days", "0"]).is_err());
}
