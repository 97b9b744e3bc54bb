//! Errors that prevent a gate from starting explain the problem and the remedy.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::{ALLOW_ALL, TestGate};
use crate::program::Program;
use crate::support::{TestRegistry, request, soon};

async fn why_not(made: TestGate) -> (String, bool) {
    match made.try_start().await {
        Ok(_) => panic!("it started"),
        Err((_, error)) => (error.to_string(), error.is_configuration()),
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_state_directory_is_refused() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let state = gate.file("state");
    let error = pullgate::StateDir::open(&state).unwrap_err().to_string();
    assert!(error.contains("another pullgate is running") && error.contains("state_dir"), "{error}");
    gate.stop().await;
    pullgate::StateDir::open(&state).unwrap();
}

#[tokio::test]
async fn invalid_or_unreadable_policies_are_reported() {
    let registry = TestRegistry::start().await;
    let (why, is_configuration) = why_not(TestGate::new(&registry, "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec:\n  repositories:\n  - name: '*'\n    policy: {va: {enabled: true}}\n")).await;
    assert!(is_configuration && why.contains("default.yaml:7:"), "{why}");
    let made = TestGate::new(&registry, ALLOW_ALL);
    std::fs::remove_file(made.path().join("policies/release.pub")).unwrap();
    std::fs::remove_file(made.path().join("policies/default.yaml")).unwrap();
    std::fs::remove_dir(made.path().join("policies")).unwrap();
    let (why, is_configuration) = why_not(made).await;
    assert!(is_configuration && why.contains("policies"), "{why}");
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let registry = TestRegistry::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let made = TestGate::new(&registry, ALLOW_ALL).with(&format!("[[listener]]\naddress = \"{address}\""));
    let (why, is_configuration) = why_not(made).await;
    assert!(!is_configuration && why.contains(&address.to_string()), "{why}");
    assert!(why.contains("another process listens there"), "{why}");
}

#[tokio::test]
async fn a_gate_starts_with_an_expired_certificate_and_is_degraded() {
    let registry = TestRegistry::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let made = TestGate::new(&registry, ALLOW_ALL)
        .file("old.crt", &certificate.pem())
        .file("old.key", &key.serialize_pem())
        .listener("tls = { certificate = \"old.crt\", key = \"old.key\" }");
    let gate = made.start().await;
    let ready = request("GET", &gate.admin_url("/readyz?verbose"), &[]).await;
    assert_eq!(ready.status, 200, "the other listeners serve");
    assert!(ready.text().contains("[-]certificates: ") && ready.text().contains("old.crt"), "{}", ready.text());
    assert!(ready.text().contains("expired on 2021-01-01T00:00:00Z"), "{}", ready.text());
}

#[tokio::test]
async fn unusable_state_directories_are_reported() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    std::fs::create_dir(made.path().join("state")).unwrap();
    std::fs::write(made.path().join("state/pullgate.db"), "no database, but long enough to be looked at as one")
        .unwrap();
    let (why, _) = why_not(made).await;
    assert!(why.contains("pullgate.db") && why.contains("database"), "{why}");
    let made = TestGate::new(&registry, ALLOW_ALL).file("state", "a file where the directory should be");
    let (why, _) = why_not(made).await;
    assert!(why.contains("state directory cannot be used"), "{why}");
}

/// A script that rotates logs may send the signal at any time. Nothing that the gate had read before is left in use.
#[tokio::test]
async fn a_hangup_during_the_start_is_a_reload_after_it() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let mut program = Program::spawn_after(&made, "umask 022", "log", &[]);
    program.wait_until_it_catches(Signal::HUP).await;
    program.hang_up();
    program.wait_until_ready(&made).await;
    soon(async {
        while !program.log().contains("SIGHUP: reloading") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let log = made.path().join("log");
    assert!(program.stop().await.success());
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("the gate has stopped"), "{log}");
    assert!(!log.contains("part=\"draining\""), "a gate that stops does not become ready: {log}");
}

/// Nothing was served, so nothing was cut.
#[tokio::test]
async fn a_gate_that_is_stopped_before_it_serves_ends_without_a_failure() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let state = made.path().join("state");
    std::fs::create_dir_all(&state).expect("a folder");
    // A start waits for another process that has the state directory and passes nothing.
    let lock = std::fs::File::create(state.join("lock")).expect("a file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let mut program = Program::spawn_after(&made, "umask 022", "log", &["--take-over"]);
    program.wait_until_it_catches(Signal::TERM).await;
    let log = made.path().join("log");
    let status = program.stop().await;
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(status.success() && log.contains("stopped before it served"), "{status} {log}");
}
