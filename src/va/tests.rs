use std::fs;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::oci::{Digest, ImageName, Manifest};
use crate::policy::{Issue, IssueKind, Report, Severity, VaEvidence};
use crate::runtime::Secret;
use crate::store::Store;

const TRIVY: &str = include_str!("../../tests/data/va/trivy.json");

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn image(host: &str) -> ImageName {
    ImageName { host: host.parse().unwrap(), repository: "team/app".parse().unwrap() }
}

/// A service at an address where nothing listens: queries report it as unavailable.
fn ibm() -> ibm::Config {
    ibm::Config {
        url: Some("http://127.0.0.1:1".into()),
        iam_url: "http://127.0.0.1:1/token".into(),
        retry_wait: Duration::ZERO,
        ..ibm::Config::new(Secret::Env("PATH".into()))
    }
}

/// An image with one configuration and no layers, in a registry with this host.
fn subject(host: &str, config: char) -> VaSubject {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": 2});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []});
    let manifest = Manifest::parse(manifest.to_string().into(), Some(media_type)).unwrap();
    VaSubject::new(image(host), Arc::new(manifest)).unwrap()
}

fn services(store: FactStore, tasks: &Tasks) -> VaServices {
    VaServices {
        store,
        upstreams: None,
        tasks: tasks.clone(),
        clock: Clock::system(),
        readiness: Readiness::new(),
        epoch: Epoch::new(),
        metrics: Metrics::default(),
    }
}

/// Only these sources.
async fn va_of(sources: Vec<Box<dyn VaSource>>) -> Va {
    let (tasks, state) = (Tasks::new(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).await.unwrap().facts;
    let va = Va::new(Config::default(), services(store, &tasks)).await;
    Va { sources, ..va.unwrap() }
}

/// Queries with a proof of whether the layers are those of the configuration, given by `bound`.
async fn ask_bound(
    reports: &[PathBuf],
    ibm: Option<ibm::Config>,
    subject: &VaSubject,
    bound: Option<bool>,
) -> VaEvidence {
    let (tasks, state) = (Tasks::new(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).await.unwrap();
    if let Some(bound) = bound {
        let at = Timestamp::UNIX_EPOCH;
        let proof = Observed { value: json!({"Known": bound}).to_string(), at, until: None };
        store.facts.record_evidence("binding-2", &subject.manifest().digest.to_string(), proof).await.unwrap();
    }
    let config = Config { reports: reports.to_vec(), ibm, ..Config::default() };
    let va = Va::new(config, services(store.facts, &tasks)).await.unwrap();
    let evidence = va.evidence(subject).await;
    tasks.stop();
    evidence.value.clone()
}

async fn ask(reports: &[PathBuf], ibm: Option<ibm::Config>, host: &str, config: char) -> VaEvidence {
    ask_bound(reports, ibm, &subject(host, config), Some(true)).await
}

fn word(evidence: &VaEvidence) -> String {
    format!("{evidence:?}").split([' ', '(']).next().unwrap().to_owned()
}

#[tokio::test]
async fn local_reports_come_first() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("r.json"), TRIVY).unwrap();
    let (here, missing) = (root.path().to_owned(), root.path().join("missing"));
    for (reports, with_ibm, host, config, expected) in [
        (vec![here.clone()], true, "us.icr.io", 'c', "Report"),
        (vec![here.clone()], false, "docker.io", 'c', "Report"),
        (vec![here.clone()], true, "us.icr.io", 'd', "Unavailable"),
        (vec![here.clone()], true, "docker.io", 'd', "NoReport"),
        (vec![], true, "docker.io", 'c', "NoReport"),
        (vec![], false, "us.icr.io", 'c', "NoReport"),
        (vec![missing.clone()], false, "docker.io", 'c', "Unavailable"),
        (vec![missing, here], false, "docker.io", 'c', "Report"),
    ] {
        let evidence = ask(&reports, with_ibm.then(ibm), host, config).await;
        assert_eq!(word(&evidence), expected, "{reports:?} {with_ibm} {host} {config}");
    }
}

/// Whoever reads why an image is unscanned learns which source lacks what.
#[tokio::test]
async fn an_unscanned_image_says_what_its_sources_lack() {
    let root = tempfile::tempdir().unwrap();
    let scanner = "the gate's own scanner has no advisory database; run `pullgate db update` or `db import`";
    let reports = "no file in va.reports is about its digest";
    for (directories, expected) in
        [(vec![], scanner.to_owned()), (vec![root.path().to_owned()], format!("{reports}; {scanner}"))]
    {
        let expected = VaEvidence::NoReport { why: expected, issues: Vec::new() };
        assert_eq!(ask(&directories, None, "docker.io", 'c').await, expected);
    }
}

/// Accounts have different exemptions, so an answer for one account is not valid for another, even after a restart.
#[tokio::test]
async fn an_answer_of_ibm_is_bound_to_its_account() {
    let (tasks, state) = (Tasks::new(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).await.unwrap();
    let subject = subject("us.icr.io", 'c');
    let (at, until) = (Timestamp::UNIX_EPOCH, Some(Timestamp::MAX));
    let answer = Observed { value: json!("Unscanned").to_string(), at, until };
    let image = format!("{}@{}", subject.image(), subject.manifest().digest);
    for (kept_for, account, named, expected) in [
        ("", None, None, "Unscanned"),
        ("", Some("configured"), None, "Unavailable"),
        ("one", Some("one"), None, "Unscanned"),
        ("one", Some("two"), None, "Unavailable"),
        ("one", Some("two"), Some("one"), "Unscanned"),
    ] {
        store.forget_before(Timestamp::MAX).await.unwrap();
        store.facts.record_evidence("va", &format!("{image} {kept_for}"), answer.clone()).await.unwrap();
        let ibm = Some(ibm::Config { account: account.map(str::to_owned), ..ibm() });
        let config = Config { ibm, ..Config::default() };
        let va = Va::new(config, services(store.facts.clone(), &tasks)).await.unwrap();
        let mut asked = subject.clone();
        asked.account = named.map(str::to_owned);
        let evidence = va.evidence(&asked).await;
        assert_eq!(word(&evidence.value), expected, "{kept_for} {account:?} {named:?}");
    }
}

/// A list of a thousand images must not ask a service a thousand times.
#[tokio::test]
async fn listing_and_rejudging_send_no_requests() {
    let (tasks, state) = (Tasks::new(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).await.unwrap();
    let config = Config { ibm: Some(ibm()), ..Config::default() };
    let va = Va::new(config, services(store.facts.clone(), &tasks)).await.unwrap();
    for (may_ask, is_background, expected) in
        [(false, false, "Pending"), (false, true, "Unavailable"), (true, false, "Unavailable")]
    {
        let mut asked = subject("us.icr.io", 'c');
        (asked.may_ask, asked.is_background) = (may_ask, is_background);
        let evidence = &va.evidence(&asked).await.value;
        assert_eq!(word(evidence), expected);
        assert_eq!(format!("{evidence:?}").contains("the service was not queried"), !may_ask, "{evidence:?}");
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

/// A report names the configuration. Unless the layers are those of the configuration, it says nothing about this
/// image. While that is unknown, no other source's answer replaces it.
#[tokio::test]
async fn a_report_on_the_configuration_requires_proof() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("r.json"), TRIVY).unwrap();
    let reports = [root.path().to_owned()];
    for (bound, with_ibm, expected) in [
        (Some(true), false, "Report"),
        (Some(false), false, "NoReport"),
        (None, false, "Unavailable"),
        (None, true, "Unavailable"),
    ] {
        let evidence = ask_bound(&reports, with_ibm.then(ibm), &subject("us.icr.io", 'c'), bound).await;
        assert_eq!(word(&evidence), expected, "{bound:?} {with_ibm}");
        let VaEvidence::Unavailable { why } = evidence else { continue };
        assert!(why.contains("could not be compared with its configuration"), "IBM is not asked: {why}");
    }
}

/// A source with a fixed answer.
struct Scripted(Option<(&'static str, bool)>);

impl VaSource for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn evidence<'a>(&'a self, _: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        let observed = |why: &str| {
            Arc::new(Observed {
                value: VaEvidence::Incomplete { why: why.into() },
                at: Timestamp::UNIX_EPOCH,
                until: None,
            })
        };
        let answer = match self.0 {
            Some((why, true)) => SourceAnswer::Decides(observed(why)),
            Some((why, false)) => SourceAnswer::Doubts(observed(why)),
            None => SourceAnswer::Silent,
        };
        std::future::ready(answer).boxed()
    }
}

#[tokio::test]
async fn the_first_source_that_decides_is_used() {
    let (decides, doubts) = (|why| Some((why, true)), |why| Some((why, false)));
    for (script, expected) in [
        (vec![], None),
        (vec![None, None], None),
        (vec![None, decides("b"), decides("c")], Some("b")),
        (vec![doubts("a"), decides("b")], Some("b")),
        (vec![doubts("a"), doubts("b"), None], Some("a")),
    ] {
        let sources: Vec<Box<dyn VaSource>> =
            script.into_iter().map(|answer| Box::new(Scripted(answer)) as Box<dyn VaSource>).collect();
        let va = va_of(sources).await;
        let found = va.evidence(&subject("docker.io", 'c')).await.value.clone();
        let expected = expected.map_or(VaEvidence::Unscanned, |why: &str| VaEvidence::Incomplete { why: why.into() });
        assert_eq!(found, expected);
    }
}

/// Knows that every image is fine.
struct AlwaysFine;

impl VaSource for AlwaysFine {
    fn name(&self) -> &'static str {
        "content"
    }

    fn evidence<'a>(&'a self, _: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        let value = VaEvidence::Report(Report::default());
        let evidence = Arc::new(Observed { value, at: Timestamp::UNIX_EPOCH, until: None });
        async move { SourceAnswer::Decides(evidence) }.boxed()
    }
}

/// Decides with this evidence.
struct Certain(Arc<Observed<VaEvidence>>);

impl VaSource for Certain {
    fn name(&self) -> &'static str {
        "certain"
    }

    fn evidence<'a>(&'a self, _: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        let evidence = self.0.clone();
        async move { SourceAnswer::Decides(evidence) }.boxed()
    }
}

/// Cannot tell whether it knows an image.
struct Doubtful(Arc<Observed<VaEvidence>>);

impl VaSource for Doubtful {
    fn name(&self) -> &'static str {
        "doubtful"
    }

    fn evidence<'a>(&'a self, _: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        let evidence = self.0.clone();
        async move { SourceAnswer::Doubts(evidence) }.boxed()
    }
}

/// A document that is not the report of a scanner adds what it states, and does not make an image assessed.
#[tokio::test]
async fn what_a_document_states_is_added_to_what_is_known() {
    let (tasks, state, root) = (Tasks::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let asked = subject("docker.io", 'c');
    let purl = format!("pkg:oci/app@{}", asked.manifest().digest);
    let analysis = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "timestamp": "2026-01-01T00:00:00Z",
            "component": {"type": "container", "bom-ref": "image", "name": "app", "purl": purl},
        },
        "components": [{"type": "library", "bom-ref": "p", "name": "left-pad", "purl": "pkg:npm/left-pad@1.0.0"}],
        "vulnerabilities": [{"id": "CVE-2026-1", "analysis": {"state": "exploitable"}, "affects": [{"ref": "p"}]}],
    });
    fs::write(root.path().join("analysis.json"), analysis.to_string()).unwrap();
    let config = Config { reports: vec![root.path().to_owned()], ..Config::default() };
    let store = Store::open(state.path()).await.unwrap().facts;
    let mut va = Va::new(config, services(store, &tasks)).await.unwrap();
    let (why, issues, image) = (String::new, Vec::new, crate::policy::ImageFacts::default);
    let report = |incomplete| VaEvidence::Report(Report { incomplete, ..Report::default() });
    for (decides, value, word_of, found) in [
        (true, report(None), "Report", 1),
        (false, report(Some("x".into())), "Report", 1),
        (true, VaEvidence::Opaque { why: why(), issues: issues(), image: image() }, "Opaque", 1),
        (true, VaEvidence::Unsupported { why: why(), issues: issues() }, "Unsupported", 1),
        (false, VaEvidence::Unreadable { problems: 1 }, "NoReport", 1),
        (false, VaEvidence::Unavailable { why: why() }, "Unavailable", 0),
    ] {
        let observed = Arc::new(Observed { value, at: Timestamp::UNIX_EPOCH, until: None });
        let source: Box<dyn VaSource> = match decides {
            true => Box::new(Certain(observed)),
            false => Box::new(Doubtful(observed)),
        };
        va.sources = vec![source];
        let known = va.evidence(&asked).await;
        assert_eq!((&*word(&known.value), known.value.issues().len()), (word_of, found));
    }
    va.sources = Vec::new();
    let known = va.evidence(&asked).await;
    assert_eq!((&*word(&known.value), known.value.issues().len()), ("NoReport", 1), "no source knows the image");
    assert_eq!(va.evidence(&subject("docker.io", 'd')).await.value, VaEvidence::Unscanned);
    tasks.stop();
}

/// A large report is not copied for each pull of its image.
#[tokio::test]
async fn statements_on_findings_of_another_source_are_applied_once() {
    let (tasks, state, root) = (Tasks::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let asked = subject("docker.io", 'c');
    let id = format!("pkg:oci/app@{}", asked.manifest().digest);
    let vex = json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex", "author": "A",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1,
        "statements": [{
            "vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": id}], "status": "not_affected",
            "justification": "vulnerable_code_not_present"
        }],
    });
    fs::write(root.path().join("vex.json"), vex.to_string()).unwrap();
    let config = Config { reports: vec![root.path().to_owned()], ..Config::default() };
    let store = Store::open(state.path()).await.unwrap().facts;
    let mut va = Va::new(config, services(store, &tasks)).await.unwrap();
    let issue = Issue::new("CVE-2026-1", IssueKind::Vulnerability, Severity::High);
    let report = VaEvidence::Report(Report { issues: vec![issue], ..Report::default() });
    let found = Arc::new(Observed { value: report, at: Timestamp::UNIX_EPOCH, until: None });
    va.sources = vec![Box::new(Certain(found.clone()))];
    let (first, second) = (va.evidence(&asked).await, va.evidence(&asked).await);
    let VaEvidence::Report(with_statements) = &first.value else { panic!("{first:?}") };
    assert!(with_statements.issues[0].exempt, "{first:?}");
    assert!(Arc::ptr_eq(&first, &second));
    // An index that lists the image may be what a statement names.
    let mut listed = asked.clone();
    listed.parents = vec![digest('e')];
    assert!(!Arc::ptr_eq(&first, &va.evidence(&listed).await));
    let other = va.evidence(&subject("docker.io", 'd')).await;
    assert!(Arc::ptr_eq(&other, &found), "the statement is about another image");
    tasks.stop();
}

#[tokio::test]
async fn in_the_background_no_other_source_replaces_a_scanner_that_was_not_asked() {
    let (tasks, state) = (Tasks::new(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).await.unwrap().facts;
    let program = ProgramConfig { command: "/no/such/trivy".into(), ..ProgramConfig::new(ScannerTool::Trivy) };
    let scanners = vec![ScannerConfig::new("trivy", ScannerKind::Program(program))];
    let config = Config { scanners, scratch: state.path().to_owned(), ..Config::default() };
    let mut va = Va::new(config, services(store, &tasks)).await.unwrap();
    va.sources.push(Box::new(AlwaysFine));
    let mut subject = subject("docker.io", 'c');
    assert_eq!(word(&va.evidence(&subject).await.value), "Report");
    subject.is_background = true;
    assert_eq!(word(&va.evidence(&subject).await.value), "Unavailable");
    tasks.stop();
}
