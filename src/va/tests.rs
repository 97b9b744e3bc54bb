use std::fs;

use super::*;
use crate::oci::Digest;
use crate::policy::VaEvidence;

const TRIVY: &str = include_str!("../../tests/data/va/trivy.json");

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn image(host: &str) -> ImageName {
    ImageName { host: host.parse().unwrap(), repository: "team/app".parse().unwrap() }
}

/// A service that nobody runs: asking it shows as unavailable.
fn ibm() -> ibm::Config {
    ibm::Config {
        url: Some("http://127.0.0.1:1".into()),
        iam_url: "http://127.0.0.1:1/token".into(),
        retry_wait: Duration::ZERO,
        ..ibm::Config::new(ibm::ApiKey::Value("key".into()))
    }
}

async fn ask(reports: &[PathBuf], ibm: Option<ibm::Config>, host: &str, config: char) -> VaEvidence {
    let tasks = Tasks::new();
    let config_ = Config { reports: reports.to_vec(), ibm, ..Config::default() };
    let (clock, readiness) = (Clock::system(), Readiness::new());
    let sources = Sources::new(config_, &tasks, clock, readiness, &Metrics::default()).await.unwrap();
    let subject = Subject { manifest: digest('a'), config: ConfigBinding::Proven(digest(config)), parents: &[] };
    let evidence = sources.evidence(&image(host), &subject, None).await.unwrap();
    tasks.stop();
    evidence.value.clone()
}

#[tokio::test]
async fn local_reports_come_first() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("r.json"), TRIVY).unwrap();
    let (here, missing) = (root.path().to_owned(), root.path().join("missing"));
    let word = |evidence: VaEvidence| format!("{evidence:?}").split([' ', '(']).next().unwrap().to_owned();
    for (reports, with_ibm, host, config, expected) in [
        (vec![here.clone()], true, "us.icr.io", 'c', "Report"),
        (vec![here.clone()], false, "docker.io", 'c', "Report"),
        (vec![here.clone()], true, "us.icr.io", 'd', "Unavailable"),
        (vec![here.clone()], true, "docker.io", 'd', "Unscanned"),
        (vec![], true, "docker.io", 'c', "Unscanned"),
        (vec![], false, "us.icr.io", 'c', "Unscanned"),
        (vec![missing.clone()], false, "docker.io", 'c', "Unavailable"),
        (vec![missing, here], false, "docker.io", 'c', "Report"),
    ] {
        let evidence = ask(&reports, with_ibm.then(ibm), host, config).await;
        assert_eq!(word(evidence), expected, "{reports:?} {with_ibm} {host} {config}");
    }
}

#[tokio::test]
async fn a_broken_report_leaves_the_image_unscanned() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("r.json"), &TRIVY[..TRIVY.len() / 2]).unwrap();
    let evidence = ask(&[root.path().to_owned()], Some(ibm()), "us.icr.io", 'c').await;
    assert!(matches!(evidence, VaEvidence::Unavailable { .. }), "another source is asked: {evidence:?}");
    assert_eq!(ask(&[root.path().to_owned()], None, "docker.io", 'c').await, VaEvidence::Unreadable { problems: 1 });
}
