//! The JSON of each request and answer, which other programs depend on.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::check::authority::{AuthorityOutcome, RootAnswer};
use super::*;
use crate::policy::{AffectedPackage, Issue, IssueKind, Kind, Severity, VaStatus};

/// Checks that a value serializes to the JSON and deserializes from it.
fn is_json<T>(value: &T, json: &Value)
where
    T: DeserializeOwned + PartialEq + Serialize + std::fmt::Debug,
{
    assert_eq!(serde_json::to_value(value).unwrap(), *json);
    assert_eq!(serde_json::from_value::<T>(json.clone()).unwrap(), *value);
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn issue() -> Issue {
    Issue {
        aliases: vec!["GHSA-1".into()],
        packages: vec![AffectedPackage {
            name: "openssl".into(),
            installed: Some("3.0.9".into()),
            fixed: Some("3.0.11".into()),
            ..AffectedPackage::default()
        }],
        ..Issue::new("CVE-2026-1", IssueKind::Vulnerability, Severity::High)
    }
}

fn assessment() -> (AssessmentAnswer, Value) {
    let answer = AssessmentAnswer {
        digest: digest().parse().unwrap(),
        platform: Some("linux/amd64".into()),
        status: VaStatus::Fail,
        security_status: Some("1 Issue".into()),
        source: Some("trivy 0.72.0".into()),
        why: None,
        decision: Some(Decision::Deny),
        until: Some(Timestamp::UNIX_EPOCH),
        reasons: vec!["reason".into()],
        issues: vec![IssueAnswer { counts_from: Some(Timestamp::UNIX_EPOCH), ..IssueAnswer::new(issue(), true) }],
    };
    let json = json!({
        "digest": digest(), "platform": "linux/amd64", "status": "FAIL", "source": "trivy 0.72.0", "why": null,
        "security_status": "1 Issue", "decision": "deny", "until": "1970-01-01T00:00:00Z", "reasons": ["reason"],
        "issues": [{
            "id": "CVE-2026-1", "aliases": ["GHSA-1"], "kind": "Vulnerability", "severity": "high",
            "packages": [{"name": "openssl", "installed": "3.0.9", "fixed": "3.0.11"}],
            "exempt": false, "title": null, "blocks": true, "exempt_status": "active",
            "counts_from": "1970-01-01T00:00:00Z"
        }]
    });
    (answer, json)
}

fn check_answer() -> (CheckAnswer, Value) {
    let (assessment, assessment_json) = assessment();
    let authority = |outcome| AuthorityAnswer {
        authority: "acme".into(),
        scheme: "notation".into(),
        outcome,
        details: vec!["why".into()],
        signatures: vec![SignatureAnswer {
            manifest: Some(digest().parse().unwrap()),
            place: "tag t".into(),
            form: "bundle 1".into(),
            signer: Some(SignerAnswer {
                id: "sha256:1".into(),
                identity: "ci@acme.com".into(),
                issuer: Some("https://i".into()),
                signed_at: Some(Timestamp::UNIX_EPOCH),
            }),
            why: Some("why".into()),
            hint: Some("help".into()),
        }],
        hint: Some("sign it".into()),
        trusted_roots: vec![RootAnswer {
            name: "root.json".into(),
            status: "ends".into(),
            written: Some(Timestamp::UNIX_EPOCH),
            newest_key: Some(Timestamp::UNIX_EPOCH),
            until: Some(Timestamp::UNIX_EPOCH),
            ended: Some("all".into()),
        }],
    };
    let outcomes = [
        (AuthorityOutcome::Verified, "verified"),
        (AuthorityOutcome::NotVerified, "not verified"),
        (AuthorityOutcome::Unknown, "unknown"),
        (AuthorityOutcome::Inherited, "inherited"),
        (AuthorityOutcome::NotRequired, "not required"),
    ];
    let answer = CheckAnswer {
        image: "icr.io/acme/app:1".into(),
        namespace: "team".into(),
        digest: Some(digest().parse().unwrap()),
        kind: Some(Kind::Artifact),
        skipped: vec!["va".into()],
        decision: Decision::WouldDeny,
        message: "reason".into(),
        would_deny: vec!["reason".into()],
        warnings: vec![],
        rules: vec![RuleAnswer {
            document: "ClusterImagePolicy/default".into(),
            rule: "icr.io/*".into(),
            audited: true,
            admits: false,
            message: "reason".into(),
            authorities: outcomes.map(|(outcome, _)| authority(outcome)).into(),
            assessments: vec![assessment],
        }],
    };
    let authorities = outcomes.map(|(outcome, text)| {
        assert_eq!(outcome.as_str(), text);
        json!({
            "authority": "acme", "scheme": "notation", "outcome": text, "details": ["why"], "hint": "sign it",
            "trusted_roots": [{
                "name": "root.json", "status": "ends", "written": "1970-01-01T00:00:00Z",
                "newest_key": "1970-01-01T00:00:00Z", "until": "1970-01-01T00:00:00Z", "ended": "all"
            }],
            "signatures": [{
                "manifest": digest(), "place": "tag t", "form": "bundle 1", "why": "why", "hint": "help",
                "signer": {
                    "id": "sha256:1", "identity": "ci@acme.com", "issuer": "https://i", "signed_at": "1970-01-01T00:00:00Z"
                }
            }]
        })
    });
    let json = json!({
        "image": "icr.io/acme/app:1", "namespace": "team", "digest": digest(), "kind": "artifact", "skipped": ["va"],
        "decision": "would-deny", "message": "reason", "would_deny": ["reason"],
        "rules": [{
            "document": "ClusterImagePolicy/default", "rule": "icr.io/*", "audited": true, "admits": false,
            "message": "reason", "authorities": authorities, "assessments": [assessment_json]
        }]
    });
    (answer, json)
}

#[test]
fn checks() {
    let (full, json) = check_answer();
    is_json(&full, &json);
    let bare = CheckAnswer {
        digest: None,
        kind: None,
        skipped: vec![],
        decision: Decision::Admit,
        would_deny: vec![],
        warnings: vec![],
        rules: vec![],
        ..full
    };
    let json = json!({
        "image": "icr.io/acme/app:1", "namespace": "team", "digest": null, "kind": null, "decision": "admit",
        "message": "reason", "rules": []
    });
    is_json(&bare, &json);
    for (decision, text) in [(Decision::Admit, "admit"), (Decision::WouldDeny, "would-deny"), (Decision::Deny, "deny")]
    {
        is_json(&decision, &json!(text));
        assert_eq!(decision.as_str(), text);
    }
    for kind in [Kind::Artifact, Kind::Attachment, Kind::Image, Kind::Index] {
        is_json(&kind, &json!(kind.as_str()));
    }
    for status in
        [VaStatus::Fail, VaStatus::Incomplete, VaStatus::Ok, VaStatus::Unscanned, VaStatus::Unsupported, VaStatus::Warn]
    {
        is_json(&status, &json!(status.as_str()));
    }
}

#[test]
fn check_requests_are_queries() {
    let request = CheckRequest { image: "a.test/b c:1&x=ü".into(), namespace: "team-a".into() };
    let query = request.to_query();
    assert_eq!(query, "image=a%2Etest%2Fb%20c%3A1%26x%3D%C3%BC&namespace=team%2Da");
    assert_eq!(CheckRequest::from_query(&query), Some(request));
    let plain = CheckRequest::from_query("image=nginx%3A1+x").unwrap();
    assert_eq!((&*plain.image, &*plain.namespace), ("nginx:1 x", ""));
    for query in ["", "namespace=a", "image", "image=%ff"] {
        assert_eq!(CheckRequest::from_query(query), None, "{query}");
    }
}

#[test]
fn images() {
    let answer = ImageAnswer {
        repository: "icr.io/acme/app".into(),
        tag: "1".into(),
        digest: digest().parse().unwrap(),
        namespace: "acme".into(),
        created: Some("2026-01-02T03:04:05Z".into()),
        size: Some(7),
        security_status: "1 Issue".into(),
    };
    let json = json!({
        "repository": "icr.io/acme/app", "tag": "1", "digest": digest(), "namespace": "acme",
        "created": "2026-01-02T03:04:05Z", "size": 7, "security_status": "1 Issue"
    });
    is_json(&answer, &json);
}

#[test]
fn image_list_requests_are_queries() {
    let request = ImageListRequest {
        restrict: Some("icr.io/acme".into()),
        after: Some("localhost:5000/a/b:1".into()),
        limit: Some(7),
        without_va: true,
    };
    let query = request.to_query();
    assert_eq!(query, "restrict=icr%2Eio%2Facme&after=localhost%3A5000%2Fa%2Fb%3A1&limit=7&va=false");
    assert_eq!(ImageListRequest::from_query(&query), Ok(request));
    assert_eq!(ImageListRequest::from_query(""), Ok(ImageListRequest::default()));
    for query in ["limit=0", "limit=x", "limit=-1", "after=a", "after=localhost:5000/a"] {
        assert!(ImageListRequest::from_query(query).is_err(), "{query}");
    }
}

#[test]
fn jobs_and_prefetches() {
    let state = JobState { id: 3, done_bytes: 1, total_bytes: 2, at: "a".into(), result: Some(json!([])), error: None };
    let json = json!({"id": 3, "done_bytes": 1, "total_bytes": 2, "at": "a", "result": [], "error": null});
    is_json(&state, &json);
    let request = PrefetchRequest {
        images: vec!["nginx".into()],
        platforms: vec!["linux/arm64".into()],
        namespace: "team".into(),
    };
    is_json(&request, &json!({"images": ["nginx"], "platforms": ["linux/arm64"], "namespace": "team"}));
    let short: PrefetchRequest = serde_json::from_value(json!({"images": []})).unwrap();
    assert!(short.platforms.is_empty() && short.namespace.is_empty());
    assert!(serde_json::from_value::<PrefetchRequest>(json!({"images": [], "image": "x"})).is_err());
    let fetched = PrefetchedImage { image: "nginx".into(), blobs: 1, bytes: 2, error: Some("why".into()) };
    is_json(&fetched, &json!({"image": "nginx", "blobs": 1, "bytes": 2, "error": "why"}));
}

#[test]
fn caches() {
    let status = CacheStatus {
        max_bytes: 1,
        stored_bytes: 2,
        reserved_bytes: 3,
        blobs: 4,
        blob_bytes: 5,
        manifests: 6,
        manifest_bytes: 7,
        pins: 13,
        pinned_bytes: 14,
        pins_warning: None,
        memory_bytes: 8,
        disk_free_bytes: 9,
        database_bytes: 10,
        max_database_bytes: 11,
        fills: 12,
        trouble: Some("full".into()),
    };
    let json = json!({
        "max_bytes": 1, "stored_bytes": 2, "reserved_bytes": 3, "blobs": 4, "blob_bytes": 5, "manifests": 6,
        "manifest_bytes": 7, "memory_bytes": 8, "disk_free_bytes": 9, "database_bytes": 10, "max_database_bytes": 11,
        "fills": 12, "trouble": "full", "pins": 13, "pinned_bytes": 14, "pins_warning": null
    });
    is_json(&status, &json);
    let collected = Collected { freed_bytes: 1, forgotten_rows: 2, database_bytes: 3 };
    is_json(&collected, &json!({"freed_bytes": 1, "forgotten_rows": 2, "database_bytes": 3}));
    let verified = Verified { files: 1, bytes: 2, wrong: vec![digest().parse().unwrap()] };
    is_json(&verified, &json!({"files": 1, "bytes": 2, "wrong": [digest()]}));
}

#[test]
fn contents_of_the_cache() {
    let (digest, used) = (digest().parse().unwrap(), Timestamp::UNIX_EPOCH);
    let listed = CachedContent {
        digest,
        kind: ContentKind::Index,
        bytes: 1,
        repositories: vec!["icr.io/acme/app".into()],
        used,
        pinned: true,
    };
    let json = json!({
        "digest": digest, "kind": "index", "bytes": 1, "repositories": ["icr.io/acme/app"],
        "used": "1970-01-01T00:00:00Z", "pinned": true
    });
    is_json(&listed, &json);
    let removed = RemovedContent { digest, files: 1, bytes: 2, unpinned: vec![] };
    is_json(&removed, &json!({"digest": digest, "files": 1, "bytes": 2}));
    let removed = RemovedContent { unpinned: vec!["icr.io/acme/app:1".into()], ..removed };
    is_json(&removed, &json!({"digest": digest, "files": 1, "bytes": 2, "unpinned": ["icr.io/acme/app:1"]}));
    let causes =
        [(RemovalCause::Expired, "expired"), (RemovalCause::Space, "space"), (RemovalCause::Unnamed, "unnamed")];
    for (cause, text) in causes {
        let content = ForecastContent { digest, kind: ContentKind::Blob, bytes: 1, repository: None, used, cause };
        let forecast = Forecast { files: 1, freed_bytes: 2, contents: vec![content], more: true };
        let content = json!({
            "digest": digest, "kind": "blob", "bytes": 1, "repository": null, "used": "1970-01-01T00:00:00Z", "cause": text
        });
        is_json(&forecast, &json!({"files": 1, "freed_bytes": 2, "contents": [content], "more": true}));
    }
    assert_eq!(
        (ContentKind::Manifest.as_str(), serde_json::to_value(ContentKind::Manifest).unwrap()),
        ("manifest", json!("manifest"))
    );

    let request = ContentListRequest { after: Some(digest), limit: Some(7) };
    assert_eq!(ContentListRequest::from_query(&request.to_query()), Ok(request));
    assert_eq!(ContentListRequest::from_query(""), Ok(ContentListRequest::default()));
    for query in ["after=x", "limit=0", "limit=x"] {
        assert!(ContentListRequest::from_query(query).is_err(), "{query}");
    }
    for force in [true, false] {
        let request = RemovalRequest { name: "icr.io/a/b:1".into(), force };
        assert_eq!(RemovalRequest::from_query(&request.to_query()), Some(request));
    }
    assert_eq!(RemovalRequest::from_query("force=true"), None);
}

#[test]
fn reloads_and_errors() {
    is_json(&Reloaded { reloaded: true, ..Reloaded::default() }, &json!({"reloaded": true}));
    let reloaded = Reloaded {
        changed: vec!["gate.mode".into()],
        rules_changed: true,
        needs_restart: vec!["state_dir".into()],
        ..Reloaded::default()
    };
    let json = json!({
        "reloaded": false, "changed": ["gate.mode"], "rules_changed": true, "needs_restart": ["state_dir"],
        "refused": {"policy": "why"}, "in_use": ["audit", "certificates", "configuration"], "error": "policy: why"
    });
    is_json(&reloaded.clone().refusing([("policy".to_owned(), "why".to_owned())].into()), &json);
    let all = json!({
        "reloaded": true, "changed": ["gate.mode"], "rules_changed": true, "needs_restart": ["state_dir"]
    });
    is_json(&reloaded.refusing([].into()), &all);
    is_json(&ErrorAnswer { error: "why".into() }, &json!({"error": "why"}));
}

#[test]
fn verdicts() {
    let request = VerdictsRequest { which: ListedChange::WouldDeny, since_seconds: 60 };
    assert_eq!(request.to_query(), "which=would-deny&since=60");
    for which in [ListedChange::Changed, ListedChange::WouldDeny] {
        let request = VerdictsRequest { which, since_seconds: 7 };
        assert_eq!(VerdictsRequest::from_query(&request.to_query()), Some(request));
    }
    for query in ["", "which=changed", "which=all&since=1", "which=changed&since=-1"] {
        assert_eq!(VerdictsRequest::from_query(query), None, "{query}");
    }
    let outcome = |decision: &str, reason: &str| OutcomeAnswer {
        decision: decision.into(),
        reason: reason.into(),
        databases: "0c1d2e3f4a5b".into(),
        rules: "9b8c7d6e5f4a".into(),
    };
    let answer = VerdictsAnswer {
        verdicts: vec![VerdictAnswer {
            repository: "docker.io/library/nginx".into(),
            tag: Some("1".into()),
            digest: digest().parse().unwrap(),
            kind: "image".into(),
            namespace: "prod".into(),
            last_pulled: Timestamp::UNIX_EPOCH,
            now: outcome("deny", "CVE-2026-1"),
            judged: Timestamp::UNIX_EPOCH,
            doubt: None,
            before: Some(outcome("admit", "")),
            changed: Some(Timestamp::UNIX_EPOCH),
            cause: Some("databases".into()),
            changed_databases: Some("1d2e3f4a5b6c".into()),
            clients: vec![ClientAnswer { address: "10.0.0.1".into(), name: None, last_pulled: Timestamp::UNIX_EPOCH }],
        }],
        more: false,
        outdated: 0,
    };
    let epoch = "1970-01-01T00:00:00Z";
    let outcome = |decision: &str, reason: &str| json!({"decision": decision, "reason": reason, "databases": "0c1d2e3f4a5b", "rules": "9b8c7d6e5f4a"});
    let json = json!({
        "verdicts": [{
            "repository": "docker.io/library/nginx", "tag": "1", "digest": digest(), "kind": "image", "namespace": "prod",
            "last_pulled": epoch, "now": outcome("deny", "CVE-2026-1"), "judged": epoch, "before": outcome("admit", ""),
            "changed": epoch, "cause": "databases", "changed_databases": "1d2e3f4a5b6c",
            "clients": [{"address": "10.0.0.1", "last_pulled": epoch}]
        }],
        "more": false, "outdated": 0
    });
    is_json(&answer, &json);
}
