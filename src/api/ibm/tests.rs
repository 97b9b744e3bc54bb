//! The answers have the fields that IBM's clients require: those of the answers in the tests of IBM's SDK
//! (IBM/container-registry-go-sdk, `vulnerability_advisor_v4_test.go`).

use serde_json::{Value, json};

use super::*;
use crate::api::{AssessmentAnswer, ImageScan, IssueAnswer};
use crate::policy::{AffectedPackage, ExemptStatus, ExemptionRecord, Issue, IssueKind, IssueType, Purl, Severity};

/// `ScanReport`.
const REPORT: &str = r#"{"configuration_issues": [{"corrective_action": "CorrectiveAction", "description": "Description", "exempt": true, "meta": {"mapKey": "Inner"}, "type": "Type"}], "id": "ID", "os_distribution": {"distribution_id": "debian", "version_id": "11", "version_code_name": "bullseye"}, "scan_time": 8, "status": "Status", "vulnerabilities": [{"cve_exempt": false, "cve_id": "CveID", "exempt_security_notice_count": 25, "exempt_status": "ExemptStatus", "security_notice_count": 19, "security_notices": [{"notice": "Notice", "notice_exempt": true, "notice_id": "NoticeID", "summary": "Summary", "vulnerable_packages": [{"corrective_action": "CorrectiveAction", "description": "Description", "fix_version": "FixVersion", "installed_version": "InstalledVersion", "package_name": "PackageName"}]}], "summary": "Summary", "total_security_notice_count": 24}]}"#;
/// `ScanreportSummary`.
const SUMMARY: &str = r#"{"configuration_issue_count": 23, "exempt_configuration_issue_count": 29, "exempt_issue_count": 16, "exempt_vulnerability_count": 24, "issue_count": 10, "scan_time": 8, "status": "Status", "vulnerability_count": 18}"#;
/// `ScanreportImageSummaryList`.
const SUMMARIES: &str = r#"{"images": [{"configuration_issue_count": 23, "created_time": 11, "exempt_configuration_issue_count": 29, "exempt_issue_count": 16, "exempt_vulnerability_count": 24, "issue_count": 10, "name": "Name", "scan_time": 8, "status": "Status", "vulnerability_count": 18}]}"#;

/// Replaces every value by its kind, except names of fields. A map with free names has none.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("mapKey") || fields.contains_key("file") => json!("map"),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(values) => values.first().map_or_else(|| json!([]), |first| json!([shape(first)])),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::String(_) => json!("text"),
        Value::Null => json!(null),
    }
}

#[track_caller]
fn assert_shape(answer: &impl Serialize, recorded: &str) {
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    assert_eq!(shape(&serde_json::to_value(answer).unwrap()), shape(&recorded));
}

fn scan() -> ImageScan {
    let digest = format!("sha256:{}", "a".repeat(64));
    let package = AffectedPackage {
        name: "openssl".into(),
        installed: Some("3.0.9".into()),
        fixed: Some("3.0.11".into()),
        purl: Purl::parse("pkg:deb/debian/openssl@3.0.9"),
        ..AffectedPackage::default()
    };
    let vulnerability = Issue {
        aliases: vec!["DSA-5000-1".into()],
        packages: vec![package],
        title: Some("Out of bounds read".into()),
        ..Issue::new("CVE-2026-1", IssueKind::Vulnerability, Severity::High)
    };
    let file = AffectedPackage { name: "etc/mysql/my.cnf".into(), ..AffectedPackage::default() };
    let configuration = Issue {
        exempt: true,
        packages: vec![file],
        ..Issue::new("application_configuration:mysql.ssl-ca", IssueKind::Configuration, Severity::Unknown)
    };
    let issues = vec![
        IssueAnswer::new(vulnerability, true),
        IssueAnswer::new(configuration, false),
        IssueAnswer::new(
            Issue { exempt: true, ..Issue::new("CVE-2026-2", IssueKind::Vulnerability, Severity::Low) },
            false,
        ),
    ];
    ImageScan {
        end_of_life: None,
        reported_distribution: None,
        read_at: None,
        layers: Vec::new(),
        id: format!("us.icr.io/ns/app@{digest}"),
        image: "us.icr.io/ns/app:1".into(),
        observed_at: "2026-11-26T00:00:00Z".parse().ok(),
        assessment: AssessmentAnswer {
            digest: digest.parse().unwrap(),
            platform: None,
            status: VaStatus::Fail,
            security_status: None,
            source: Some("trivy".into()),
            why: None,
            decision: None,
            until: None,
            reasons: Vec::new(),
            issues,
        },
        generated_at: None,
        databases: Vec::new(),
        distribution: serde_json::from_value(json!({
            "id": "debian", "like": [], "version": "12", "codename": "bookworm", "pretty_name": "", "repository": null
        }))
        .unwrap(),
        packages: vec![],
        gaps: vec![],
    }
}

/// What another scanner reported is as old as its report. The gate's own scanner looks up what is known now, in
/// databases whose ages are another matter.
#[test]
fn the_time_of_a_scan_is_when_vulnerabilities_were_looked_up() {
    for (source, scan_time) in
        [("trivy 0.72.0", 1_700_000_000), ("pullgate 0.1.0 (osv-go of 2023-11-14)", 1_795_651_200)]
    {
        let mut scan = ImageScan { generated_at: jiff::Timestamp::from_second(1_700_000_000).ok(), ..scan() };
        scan.assessment.source = Some(source.to_owned());
        assert_eq!(IbmScanReport::new(&scan).scan_time, scan_time, "{source}");
    }
}

#[test]
fn reports_have_the_fields_of_ibms() {
    let report = IbmScanReport::new(&scan());
    assert_shape(&report, REPORT);
    assert_eq!(report.scan_time, 1_795_651_200);
    assert_eq!(report.vulnerabilities.len(), 2);
    assert_eq!(
        serde_json::to_value(&report.vulnerabilities[0]).unwrap(),
        json!({
            "cve_id": "CVE-2026-1", "cve_exempt": false, "exempt_status": "active", "summary": "Out of bounds read",
            "security_notice_count": 1, "exempt_security_notice_count": 0, "total_security_notice_count": 1,
            "security_notices": [{
                "notice_id": "DSA-5000-1", "notice": "https://security-tracker.debian.org/tracker/DSA-5000-1",
                "notice_exempt": false, "summary": "Out of bounds read",
                "vulnerable_packages": [{
                    "package_name": "openssl", "installed_version": "3.0.9", "fix_version": "3.0.11",
                    "description": "Out of bounds read",
                    "corrective_action": "Upgrade openssl to 3.0.11: apt-get install --only-upgrade openssl=3.0.11"
                }]
            }]
        })
    );
    let exempt = &report.vulnerabilities[1];
    assert_eq!((exempt.exempt_status, exempt.cve_exempt), (ExemptStatus::Exempt, true));
    assert_eq!((exempt.security_notice_count, exempt.exempt_security_notice_count), (0, 1));
    assert_eq!(exempt.security_notices[0].notice_id, "CVE-2026-2", "without a notice, the vulnerability itself");
    let image = serde_json::to_value(IbmImageReport::new("app", &scan())).unwrap();
    assert_eq!(image.as_object().unwrap().keys().collect::<Vec<_>>(), ["image", "status", "vulnerabilities"]);
    // Why an image without an issue fails; IBM's clients ignore what they do not know.
    let reasons = vec!["bannedPackages: evil".to_owned()];
    let assessment = AssessmentAnswer { reasons: reasons.clone(), issues: Vec::new(), ..scan().assessment };
    let denied = ImageScan { assessment, ..scan() };
    assert_eq!(serde_json::to_value(IbmScanReport::new(&denied)).unwrap()["reasons"], json!(reasons));
    assert_eq!(serde_json::to_value(IbmImageReport::new("app", &denied)).unwrap()["reasons"], json!(reasons));
    // An image in which nothing was recognised.
    let bare = ImageScan { distribution: None, ..scan() };
    assert_eq!(IbmScanReport::new(&bare).os_distribution, IbmDistribution::default());
    let reported = ImageScan { reported_distribution: Some("opensuse leap 15.6".into()), ..bare };
    let named = IbmScanReport::new(&reported).os_distribution;
    assert_eq!((&*named.distribution_id, &*named.version_id), ("opensuse leap", "15.6"), "as the report states it");
}

/// IBM's three exemption states, and who is exempt: the CVE, or all its notices.
#[test]
fn a_vulnerability_whose_notices_are_exempt_is_not_exempt_itself() {
    let answer = |kind: IssueType, id: &str| {
        let record = ExemptionRecord::new("*".parse().unwrap(), kind, Some(id), None).unwrap();
        let issue = Issue {
            exempt: true,
            aliases: vec!["DSA-5000-1".into()],
            ..Issue::new("CVE-2026-1", IssueKind::Vulnerability, Severity::High)
        };
        let exemptions = vec![(&record).into()];
        let found = IssueAnswer { exemptions, ..IssueAnswer::new(issue, false) };
        let assessment = AssessmentAnswer { issues: vec![found], ..scan().assessment };
        IbmScanReport::new(&ImageScan { assessment, ..scan() }).vulnerabilities.remove(0)
    };
    for (kind, id, is_exempt) in
        [(IssueType::Cve, "CVE-2026-1", true), (IssueType::SecurityNotice, "DSA-5000-1", false)]
    {
        let found = answer(kind, id);
        assert_eq!((found.cve_exempt, found.exempt_status), (is_exempt, ExemptStatus::Exempt), "{id}");
        assert_eq!((found.security_notice_count, found.exempt_security_notice_count), (0, 1), "{id}");
        assert!(found.security_notices[0].notice_exempt, "{id}");
    }
}

/// An image that was never scanned has no scan time.
#[test]
fn an_image_that_was_not_scanned_has_no_scan_time() {
    let assessment = AssessmentAnswer { status: VaStatus::Unscanned, issues: Vec::new(), ..scan().assessment };
    let unscanned = ImageScan { assessment, ..scan() };
    assert_eq!(IbmSummary::from(&unscanned), IbmSummary::unscanned());
    assert_eq!(IbmScanReport::new(&unscanned).scan_time, 0);
}

#[test]
fn summaries_count_exempt_issues_separately() {
    let summary = IbmSummary::from(&scan());
    assert_shape(&summary, SUMMARY);
    let counts = [
        (summary.issue_count, summary.exempt_issue_count),
        (summary.vulnerability_count, summary.exempt_vulnerability_count),
        (summary.configuration_issue_count, summary.exempt_configuration_issue_count),
    ];
    assert_eq!(counts, [(1, 2), (1, 1), (0, 1)]);
    let image = IbmImageSummary::new("us.icr.io/ns/app:1".into(), Some("1970-01-01T00:00:11Z"), summary);
    assert_eq!(image.created_time, 11);
    assert_eq!(IbmImageSummary::new("a".into(), Some("yesterday"), summary).created_time, 0);
    assert_shape(&IbmSummaryList { images: vec![image], next: None }, SUMMARIES);
    assert_shape(&IbmSummary::unscanned(), SUMMARY);
    let list = IbmReportList { assessments: [("a".to_owned(), IbmScanReport::new(&scan()))].into(), next: None };
    assert_eq!(serde_json::to_value(&list).unwrap()["assessments"]["a"]["status"], "FAIL");
}

#[test]
fn errors_name_code_and_message() {
    let error = IbmError { code: NOT_SCANNED.into(), message: not_scanned("us.icr.io/ns/app:1") };
    let errors = IbmErrors { errors: vec![error], status_code: 404 };
    let json = json!({
        "errors": [{
            "code": "BXNVA0009E", "message": "us.icr.io/ns/app:1 has not been scanned. Try again later."
        }],
        "status_code": 404
    });
    assert_eq!(serde_json::to_value(&errors).unwrap(), json);
}

/// `Exemption`, `ExemptionTypeInfo`, `ExemptionDeletionInfo`.
#[test]
fn exemptions_have_the_fields_of_ibms() {
    let exemption = |scope: &str| {
        let record = ExemptionRecord::new(scope.parse().unwrap(), IssueType::Cve, Some("CVE-2020-0001"), None).unwrap();
        serde_json::to_value(IbmExemption::from(&record)).unwrap()
    };
    let recorded = r#"{"account_id": "AccountID", "issue_id": "IssueID", "issue_type": "IssueType", "scope": {"scope_type": "ScopeType", "namespace": "Namespace", "repository": "Repository", "tag": "Tag"}}"#;
    assert_shape(&exemption("birds/blue:1"), recorded);
    let digest = format!("sha256:{}", "a".repeat(64));
    for (scope, wanted) in [
        ("*", json!({"scope_type": "account"})),
        ("us.icr.io/*", json!({"scope_type": "account", "registry": "us.icr.io"})),
        ("birds", json!({"scope_type": "namespace", "namespace": "birds"})),
        ("birds/blue", json!({"scope_type": "repository", "namespace": "birds", "repository": "blue"})),
        ("birds/blue:1", json!({"scope_type": "image", "namespace": "birds", "repository": "blue", "tag": "1"})),
        (
            &format!("us.icr.io/birds/blue/sky@{digest}"),
            json!({
                "scope_type": "image", "namespace": "birds", "repository": "blue/sky", "tag": digest,
                "registry": "us.icr.io"
            }),
        ),
    ] {
        assert_eq!(exemption(scope)["scope"], wanted, "{scope}");
    }
    let types = IbmExemptionType::all();
    let recorded = r#"{"display_name": "DisplayName", "identifier": "Identifier", "translationKey": "TranslationKey", "validation_regex": "ValidationRegex"}"#;
    assert_shape(&types[0], recorded);
    assert_shape(&IbmDeletion { number_of_exemptions_deleted: 25 }, r#"{"number_of_exemptions_deleted": 25}"#);
}
