mod audited;
mod signatures;

use jiff::SignedDuration;

use super::*;
use crate::oci::ImageReference;
use crate::policy::rules::exemption::tests::{all, of_issue, of_package, until};
use crate::policy::rules::va_rule::Unscanned;
use crate::policy::{
    self, AffectedPackage, Authority, Behaviour, ChildFinding, ExemptPackage, Issue, IssueKind, Observed, PublicKey,
    Report, Requirement, Scheme, Severity, Signatory, SignedPart, TrustEvidence, TrustOutcome, Unseen, VaAssessment,
    VaRule, VaStatus,
};
use crate::scope::Scope;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn authority(name: &str) -> Arc<Authority> {
    Arc::new(Authority::new(name, Scheme::cosign_keys(vec![PublicKey::for_test(name)])))
}

fn by(name: &str) -> Requirement {
    Requirement::Authority(authority(name))
}

#[derive(Clone, Copy)]
enum Outcome {
    Verified(Option<i64>),
    Unsigned,
    Down,
    NoScheme,
}
use Outcome::{Down, NoScheme, Unsigned, Verified};

fn evidence(outcomes: &[(&str, Outcome)]) -> TrustEvidence {
    let mut evidence = TrustEvidence::default();
    for (name, outcome) in outcomes {
        let (value, until) = match *outcome {
            Verified(until) => (verified(&[name]), until),
            Unsigned => (TrustOutcome::Unverified { found: Vec::new() }, None),
            Down => (TrustOutcome::unknown("no answer", true), None),
            NoScheme => (TrustOutcome::unknown("unknown scheme", false), None),
        };
        evidence.insert(authority(name).id().clone(), Observed { value, at: NOW, until: until.map(at) });
    }
    evidence
}

fn verified(keys: &[&str]) -> TrustOutcome {
    let signatory = |key: &&str| Signatory::of_key(&PublicKey::for_test(key), (*key).into());
    TrustOutcome::Verified { by: keys.iter().map(signatory).collect(), found: Vec::new(), unseen: None }
}

fn own(outcomes: &[(&str, Outcome)]) -> TrustFindings {
    TrustFindings { own: evidence(outcomes), ..TrustFindings::default() }
}

fn trust(requirement: Requirement, kind: Kind, findings: &TrustFindings) -> Verdict {
    let rule = Rule { trust: Some(requirement), ..Rule::default() };
    let [trust, simple] = trust_verdict(&rule, kind, findings, NOW);
    assert_eq!(simple, Verdict::Skipped);
    trust
}

/// One letter for a verdict: `u` for an unknown result that a retry may resolve, `U` for one that it cannot.
fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::Pass(_) => 'P',
        Verdict::Fail(_) => 'F',
        Verdict::Skipped => 'S',
        Verdict::Unknown { temporary: true, .. } => 'u',
        Verdict::Unknown { temporary: false, .. } => 'U',
    }
}

type Decision = Result<Permit, Denial>;

fn image(rule: Rule, findings: &TrustFindings, va: Option<&VaFindings>, kind: Kind) -> Decision {
    decided(Mode::Enforce, rule, findings, va, kind)
}

fn decided(mode: Mode, rule: Rule, findings: &TrustFindings, va: Option<&VaFindings>, kind: Kind) -> Decision {
    let name: ImageReference = "icr.io/a/b:v1".parse().unwrap();
    let subject = Subject::new(name.name.clone(), name.reference(), Scope::CLUSTER);
    let selected = Selected { document: "ClusterImagePolicy/p".into(), entry: "*".into(), rule: Some(Arc::new(rule)) };
    let digest = Digest::sha256(b"image");
    let outcome = weigh(&Question {
        subject: &subject,
        digest,
        kind,
        selected: &selected,
        trust: findings,
        va,
        exemptions: &VaExemptions::default(),
        history: &ImageHistory::default(),
        now: NOW,
    });
    let opinion = Opinion { selected, outcome };
    decide(&Opinions { subject: &subject, digest, mode, enforced: &[&opinion], audited: &[] })
}

fn stage(decision: &Decision) -> Option<(Stage, DenialKind)> {
    match decision {
        Ok(_) => None,
        Err(denial) => Some((denial.stage, denial.kind)),
    }
}

fn issue(id: &str, severity: Severity, fixed: bool, exempt: bool) -> Issue {
    let package = AffectedPackage {
        name: "openssl".into(),
        fixed: fixed.then(|| "3.0.11".to_owned()),
        ..AffectedPackage::default()
    };
    Issue {
        aliases: vec![format!("GHSA-{id}")],
        packages: vec![package],
        exempt,
        ..Issue::new(id, IssueKind::Vulnerability, severity)
    }
}

fn report(issues: Vec<Issue>) -> VaEvidence {
    VaEvidence::Report(Report { source: "s".into(), generated_at: Some(NOW), issues, ..Report::default() })
}

fn observed(value: VaEvidence, until: Option<i64>) -> Observed<VaEvidence> {
    Observed { value, at: NOW, until: until.map(at) }
}

fn partial(issues: Vec<Issue>) -> VaEvidence {
    VaEvidence::Report(Report {
        source: "s".into(),
        generated_at: Some(NOW),
        issues,
        incomplete: Some("nothing was assessed".into()),
        ..Report::default()
    })
}

fn assess_with(rule: &VaRule, evidence: &VaEvidence, exemptions: &VaExemptions, now: Timestamp) -> VaAssessment {
    policy::assess(rule, evidence, &AssessmentContext { exemptions, history: &ImageHistory::default(), now })
}

/// An assessment without exemptions.
fn assess(rule: &VaRule, evidence: &VaEvidence, now: Timestamp) -> VaAssessment {
    assess_with(rule, evidence, &VaExemptions::default(), now)
}

/// An exempt issue does not count, and the decision ends when the exemption ends.
#[test]
fn exempt_issues_do_not_count_until_the_exemption_ends() {
    let (high, low) = (issue("CVE-1", Severity::High, true, false), issue("CVE-2", Severity::Low, true, false));
    let evidence = report(vec![high, low]);
    let rule = VaRule { max_report_age: Some(SignedDuration::from_secs(100)), ..va_rule() };
    let of = |id: &str, end| until(of_issue(id), at(end));
    let openssl = || of_package(ExemptPackage::Named("openssl".into()));
    for (line, exemptions, now, expected) in [
        (line!(), vec![], 0, (VaStatus::Fail, 0, Some(at(100)))),
        (line!(), vec![of("CVE-1", 9)], 0, (VaStatus::Warn, 1, Some(at(9)))),
        (line!(), vec![of("GHSA-CVE-1", 9)], 8, (VaStatus::Warn, 1, Some(at(9)))),
        (line!(), vec![of("CVE-1", 9)], 9, (VaStatus::Fail, 0, Some(at(100)))),
        (line!(), vec![of("CVE-1", 9), of("CVE-2", 5)], 0, (VaStatus::Warn, 2, Some(at(9)))),
        (line!(), vec![of("CVE-1", 900)], 0, (VaStatus::Warn, 1, Some(at(100)))),
        (line!(), vec![of("CVE-2", 9)], 0, (VaStatus::Fail, 1, Some(at(100)))),
        (line!(), vec![openssl()], 0, (VaStatus::Warn, 2, Some(at(100)))),
        (line!(), vec![until(openssl(), at(9))], 9, (VaStatus::Fail, 0, Some(at(100)))),
    ] {
        let exemptions = all(exemptions);
        let found = assess_with(&rule, &evidence, &exemptions, at(now));
        assert_eq!((found.status, found.exempt, found.until), expected, "line {line}");
    }
    let part = partial(vec![issue("CVE-1", Severity::High, true, false)]);
    let exempt = all([of_issue("CVE-1")]);
    assert_eq!(
        assess_with(&va_rule(), &part, &exempt, NOW).status,
        VaStatus::Incomplete,
        "an incomplete report never passes"
    );
    assert_eq!(assess_with(&va_rule(), &VaEvidence::Unscanned, &exempt, NOW).status, VaStatus::Unscanned);
}

fn va_rule() -> VaRule {
    VaRule { severity: Severity::High, fixable_only: true, always_block: vec!["CVE-9".into()], ..VaRule::ibm() }
}

#[test]
fn which_issues_count() {
    let ibm = VaRule::ibm;
    // `va.fixable_only`
    let fixable = || VaRule { fixable_only: true, ..ibm() };
    for (rule, issue, status) in [
        (ibm(), issue("CVE-1", Severity::Negligible, false, false), VaStatus::Fail),
        (ibm(), issue("CVE-1", Severity::Critical, true, true), VaStatus::Warn),
        (fixable(), issue("CVE-1", Severity::Critical, false, false), VaStatus::Ok),
        (fixable(), issue("MAL-1", Severity::High, false, false), VaStatus::Fail),
        (fixable(), issue("MAL-1", Severity::High, false, true), VaStatus::Warn),
        (va_rule(), issue("CVE-1", Severity::High, true, false), VaStatus::Fail),
        (va_rule(), issue("CVE-1", Severity::High, false, false), VaStatus::Ok),
        (va_rule(), issue("CVE-1", Severity::Medium, true, false), VaStatus::Ok),
        (va_rule(), issue("CVE-1", Severity::Unknown, true, false), VaStatus::Fail),
        (va_rule(), issue("CVE-9", Severity::Low, false, false), VaStatus::Fail),
        (va_rule(), issue("cve-9", Severity::Low, false, false), VaStatus::Fail),
    ] {
        assert_eq!(assess(&rule, &report(vec![issue.clone()]), NOW).status, status, "{issue:?}");
    }
    assert_eq!(assess(&ibm(), &report(Vec::new()), NOW).status, VaStatus::Ok);
}

#[test]
fn images_without_an_assessment() {
    let why = || "why".to_owned();
    let policy = DenialKind::Policy;
    for (evidence, ibm, strict) in [
        (VaEvidence::Unscanned, Some(policy), Some(policy)),
        (VaEvidence::Unreadable { problems: 1 }, Some(policy), Some(policy)),
        (partial(Vec::new()), Some(policy), Some(policy)),
        (VaEvidence::Incomplete { why: why() }, Some(policy), Some(policy)),
        (VaEvidence::Unsupported { why: why(), issues: Vec::new() }, None, Some(policy)),
        (VaEvidence::Unavailable { why: why() }, Some(DenialKind::Unavailable), Some(DenialKind::Unavailable)),
        (VaEvidence::Pending { why: why() }, Some(DenialKind::Pending), Some(DenialKind::Pending)),
    ] {
        let all = |behaviour| VaRule {
            unscanned: if behaviour == Behaviour::Allow { Unscanned::Allow } else { Unscanned::Deny },
            incomplete: behaviour,
            unsupported: behaviour,
            unavailable: behaviour,
            ..VaRule::ibm()
        };
        for (rule, expected) in [(VaRule::ibm(), ibm), (all(Behaviour::Deny), strict), (all(Behaviour::Allow), None)] {
            let rule = Rule { va: Some(rule), ..Rule::default() };
            let va = VaFindings::Image(Arc::new(observed(evidence.clone(), None)));
            let decision = image(rule, &TrustFindings::default(), Some(&va), Kind::Image);
            assert_eq!(stage(&decision), expected.map(|kind| (Stage::Va, kind)), "{evidence:?}");
        }
    }
}

/// A denial says what releases the image, also in the dialects of IBM, whose documents have no keys for it.
#[test]
fn denials_without_an_assessment_name_the_way_out() {
    let why = || "why".to_owned();
    for (evidence, expected) in [
        (VaEvidence::Unscanned, "UNSCANNED: no report covers this image (released once a report covers it)"),
        (VaEvidence::Incomplete { why: why() }, "INCOMPLETE: why (released once everything can be assessed)"),
        (VaEvidence::Unavailable { why: why() }, "no assessment yet: why (released once a source can assess it)"),
        (VaEvidence::Pending { why: why() }, "no assessment yet: why (released once the assessment has ended)"),
    ] {
        let rule = Rule { va: Some(VaRule::ibm()), ..Rule::default() };
        let va = VaFindings::Image(Arc::new(observed(evidence, None)));
        let Err(denial) = image(rule, &TrustFindings::default(), Some(&va), Kind::Image) else { panic!() };
        assert!(denial.to_string().contains(expected), "{denial}");
    }
}

/// Even if incomplete assessments are allowed, the issues that were found count.
#[test]
fn issues_of_an_incomplete_assessment_count() {
    let rule = VaRule { incomplete: Behaviour::Allow, ..VaRule::ibm() };
    let open = issue("CVE-1", Severity::High, true, false);
    for (evidence, status, why) in [
        (partial(vec![open]), VaStatus::Fail, None),
        (partial(vec![issue("CVE-1", Severity::High, true, true)]), VaStatus::Incomplete, Some("nothing was assessed")),
        (partial(Vec::new()), VaStatus::Incomplete, Some("nothing was assessed")),
    ] {
        let assessment = assess(&rule, &evidence, NOW);
        assert_eq!((assessment.status, assessment.why.as_deref()), (status, why));
    }
}

#[test]
fn reason_states_the_number_of_unreadable_reports() {
    for (problems, part) in [(1, "and 1 report file"), (3, "and 3 report files")] {
        let assessment = assess(&VaRule::ibm(), &VaEvidence::Unreadable { problems }, NOW);
        assert_eq!(assessment.status, VaStatus::Unscanned);
        assert!(assessment.why.unwrap().contains(part));
    }
}

#[test]
fn reports_and_assessments_expire() {
    let rule = |age| VaRule { max_report_age: Some(SignedDuration::from_secs(age)), ..VaRule::ibm() };
    let age = |rule: &VaRule, now| assess(rule, &report(Vec::new()), at(now));
    assert_eq!((age(&rule(10), 9).status, age(&rule(10), 9).until), (VaStatus::Ok, Some(at(10))));
    assert_eq!(age(&rule(10), 10).status, VaStatus::Unscanned);
    let dated = |generated_at| VaEvidence::Report(Report { source: "s".into(), generated_at, ..Report::default() });
    let undated = dated(None);
    assert_eq!(assess(&rule(10), &undated, NOW).status, VaStatus::Unscanned);
    assert_eq!(assess(&VaRule::ibm(), &undated, NOW).status, VaStatus::Ok);
    // The clock of another system may be slightly ahead. A time further in the future has no known age.
    for (ahead, status) in [(300, VaStatus::Ok), (301, VaStatus::Unscanned), (2_000_000_000, VaStatus::Unscanned)] {
        assert_eq!(assess(&rule(10), &dated(Some(at(ahead))), NOW).status, status, "{ahead}");
    }
    let decision = |until| {
        let va = VaFindings::Image(Arc::new(observed(report(Vec::new()), until)));
        let rule = Rule { va: Some(rule(10)), ..Rule::default() };
        image(rule, &TrustFindings::default(), Some(&va), Kind::Image)
    };
    let Ok(permit) = decision(Some(3)) else { panic!() };
    assert_eq!(permit.until(), Some(at(3)));
    assert_eq!(stage(&decision(Some(0))), Some((Stage::Va, DenialKind::Unavailable)));
}

#[test]
fn index_is_denied_when_every_child_is_denied() {
    let (bad, good) = (report(vec![issue("CVE-1", Severity::High, true, false)]), report(Vec::new()));
    let down = VaEvidence::Unavailable { why: "down".into() };
    let decide_for = |children: &[(&VaEvidence, Option<i64>)]| {
        let child = |(value, until): &(&VaEvidence, Option<i64>)| ChildFinding {
            digest: Digest::sha256(b"child"),
            platform: "linux/amd64".into(),
            evidence: Arc::new(observed((*value).clone(), *until)),
        };
        let va = VaFindings::Children(children.iter().map(child).collect());
        let rule = Rule { va: Some(VaRule::ibm()), ..Rule::default() };
        image(rule, &TrustFindings::default(), Some(&va), Kind::Index)
    };
    let denied = |kind| Some((Stage::Va, kind));
    assert_eq!(stage(&decide_for(&[(&bad, None), (&good, None)])), None);
    assert_eq!(stage(&decide_for(&[(&bad, None), (&bad, None)])), denied(DenialKind::Policy));
    assert_eq!(stage(&decide_for(&[(&bad, None), (&down, None)])), denied(DenialKind::Unavailable));
    assert_eq!(stage(&decide_for(&[])), denied(DenialKind::Policy));
    let Ok(permit) = decide_for(&[(&good, Some(5)), (&good, Some(9)), (&bad, None)]) else { panic!() };
    assert_eq!(permit.until(), Some(at(9)));
}

/// The order is trust, simple, vulnerabilities. The first failed check decides.
#[test]
fn first_failed_stage_decides() {
    let bad = VaFindings::Image(Arc::new(observed(report(vec![issue("CVE-1", Severity::High, true, false)]), None)));
    let rule = || Rule { trust: Some(by("t")), simple: Some(by("s")), va: Some(VaRule::ibm()), ..Rule::default() };
    let yes = Verified(None);
    for (t, s, va, expected) in [
        (Unsigned, Unsigned, Some(&bad), Some(Stage::Trust)),
        (yes, Unsigned, Some(&bad), Some(Stage::Simple)),
        (yes, yes, Some(&bad), Some(Stage::Va)),
        (yes, yes, None, Some(Stage::Va)),
    ] {
        let found = own(&[("t", t), ("s", s)]);
        let decision = image(rule(), &found, va, Kind::Image);
        assert_eq!(stage(&decision).map(|(stage, _)| stage), expected);
        let Ok(permit) = decided(Mode::Audit, rule(), &found, va, Kind::Image) else { panic!() };
        assert_eq!(permit.would_deny().iter().map(|denial| denial.stage).next(), expected);
    }
    // Pending assessments do not make a signature check pending.
    let pending = VaFindings::Image(Arc::new(observed(VaEvidence::Pending { why: String::new() }, None)));
    let down = image(rule(), &own(&[("t", Down), ("s", yes)]), Some(&pending), Kind::Image);
    assert_eq!(stage(&down), Some((Stage::Trust, DenialKind::Unavailable)));
}

#[test]
fn each_kind_of_manifest_is_judged_correctly() {
    let rule = || Rule { trust: Some(by("a")), va: Some(VaRule::ibm()), ..Rule::default() };
    let signed = own(&[("a", Verified(None))]);
    let none = TrustFindings::default();
    assert_eq!(stage(&image(rule(), &none, None, Kind::Attachment)), None);
    assert_eq!(stage(&image(rule(), &signed, None, Kind::Artifact)), None);
    assert_eq!(stage(&image(rule(), &own(&[("a", Unsigned)]), None, Kind::Artifact)).unwrap().0, Stage::Trust);
    let strict = Rule { va: Some(VaRule { unsupported: Behaviour::Deny, ..VaRule::ibm() }), ..rule() };
    assert_eq!(stage(&image(strict, &signed, None, Kind::Artifact)).unwrap().0, Stage::Va);
    let when = Some(policy::checks::assess::when_condition("!report.complete").unwrap());
    let of_images = Rule { va: Some(VaRule { when, ..VaRule::ibm() }), ..rule() };
    assert_eq!(stage(&image(of_images, &signed, None, Kind::Artifact)), None, "conditions are about images");
    assert_eq!(stage(&image(Rule::default(), &none, None, Kind::Image)), None);
}

#[test]
fn reasons_name_document_rule_and_worst_issue() {
    let issues = ["CVE-1", "CVE-2", "CVE-3"].map(|id| match id {
        "CVE-2" => issue(id, Severity::Critical, true, false),
        _ => issue(id, Severity::Low, false, false),
    });
    let va = VaFindings::Image(Arc::new(observed(report(issues.into()), None)));
    let rule = Rule { va: Some(VaRule::ibm()), ..Rule::default() };
    let Err(denial) = image(rule, &TrustFindings::default(), Some(&va), Kind::Image) else { panic!() };
    assert_eq!(
        denial.to_string(),
        "icr.io/a/b:v1 denied by ClusterImagePolicy/p \"*\": va: 3 issues not exempt (CVE-2 critical openssl \
         fixed in 3.0.11; +2 more); `pullgate va` lists all; released by an update and an exemption of CVE-1, CVE-3, \
         which an update does not resolve"
    );
}

#[test]
fn a_rule_about_configurations_needs_a_source_that_checks_them() {
    let rule =
        VaRule { configuration: Some(Severity::Low), needs_configuration: Some("configuration"), ..VaRule::ibm() };
    let report = |checks_configuration| {
        VaEvidence::Report(Report { checks_configuration, generated_at: Some(NOW), ..Report::default() })
    };
    assert_eq!(assess(&rule, &report(true), NOW).status, VaStatus::Ok);
    assert_eq!(assess(&rule, &report(false), NOW).status, VaStatus::Incomplete);
    assert_eq!(assess(&VaRule::ibm(), &report(false), NOW).status, VaStatus::Ok);
}
