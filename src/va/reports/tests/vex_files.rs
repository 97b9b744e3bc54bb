//! Statements of VEX documents.

use super::*;

/// Statements on a product that is not known by digest, each with an id, the state and the affected components.
pub(super) fn vex(product: Option<&str>, at: &str, state: &str, affects: &[&str]) -> String {
    let affects: Vec<_> = affects.iter().map(|r| json!({"ref": r})).collect();
    let mut metadata = json!({"timestamp": at});
    if let Some(name) = product {
        metadata["component"] = json!({"type": "container", "name": name, "bom-ref": "product"});
    }
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "metadata": metadata,
        "vulnerabilities": [{"id": "cve-2024-0002", "analysis": {"state": state}, "affects": affects}],
    })
    .to_string()
}

#[test]
fn the_latest_statement_applies() {
    let image = format!("pkg:oci/x@{}", digest(CONFIG));
    let statement = |at, state| vex(None, at, state, &[&image]);
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    for (first, second, exempt) in [
        ((old, "not_affected"), (new, "exploitable"), false),
        ((new, "not_affected"), (old, "exploitable"), true),
        ((new, "resolved"), (new, "in_triage"), false),
        ((new, "resolved_with_pedigree"), (old, "resolved"), true),
    ] {
        let files = [TRIVY, &statement(first.0, first.1), &statement(second.0, second.1)];
        assert_eq!(find(&lookup(&files), "CVE-2024-0002").exempt, exempt, "{first:?} {second:?}");
    }
}

#[test]
fn statements_on_an_unknown_product_have_no_effect() {
    for (product, affects, exempt) in [
        (None, &["pkg:deb/debian/libc6"][..], true),
        (None, &["pkg:deb/debian/libc6@1.0"], false),
        (None, &["pkg:deb/debian/zlib1g"], false),
        (None, &[], false),
        (None, &["pkg:oci/app@1.0"], false),
        (Some("registry.example.com/team/app:1.0"), &["pkg:deb/debian/libc6"], false),
        (Some("registry.example.com/team/app:1.0"), &["product"], false),
        (Some("registry.example.com/team/app:1.0"), &[], false),
    ] {
        let statement = vex(product, "2026-01-01T00:00:00Z", "not_affected", affects);
        assert_eq!(find(&lookup(&[TRIVY, &statement]), "CVE-2024-0002").exempt, exempt, "{product:?} {affects:?}");
    }
}

/// One OpenVEX statement on CVE-2024-0002, which affects `libc6` in the Trivy fixture.
pub(super) fn open_vex(statement: &Value) -> String {
    let mut whole = json!({"vulnerability": {"name": "X-1", "aliases": ["CVE-2024-0002"]}});
    whole.as_object_mut().unwrap().extend(statement.as_object().unwrap().clone());
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex", "author": "A",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1, "statements": [whole],
    })
    .to_string()
}

/// Touching a document, or a time that cannot be read, must not let an exemption win over a later statement.
#[test]
fn open_vex_statements_are_ordered_by_when_they_were_made() {
    let image = json!([{"@id": format!("pkg:oci/app@{}", digest(CONFIG))}]);
    let claim = |status: &str, times: Value| {
        let mut claim = json!({"products": image, "status": status, "justification": "vulnerable_code_not_present"});
        claim.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        open_vex(&claim)
    };
    let of_document = |text: String, times: Value| {
        let mut document: Value = serde_json::from_str(&text).unwrap();
        document.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        document.to_string()
    };
    let (march, april, may) = ("2025-03-01T00:00:00Z", "2025-04-01T00:00:00Z", "2025-05-01T00:00:00Z");
    let at = |time: &str| json!({"timestamp": time});
    let affected = || claim("affected", at(april));
    for (name, exempting, other, exempt) in [
        ("later", claim("fixed", at(may)), affected(), true),
        ("earlier", claim("fixed", at(march)), affected(), false),
        ("touched", claim("fixed", json!({"timestamp": march, "last_updated": may})), affected(), false),
        (
            "document touched",
            of_document(claim("fixed", json!({})), json!({"timestamp": march, "last_updated": may})),
            affected(),
            false,
        ),
        ("unreadable", of_document(claim("fixed", at("yesterday")), at(may)), affected(), false),
        ("document unreadable", of_document(claim("fixed", json!({})), at("yesterday")), affected(), false),
        (
            "withdrawn later",
            claim("fixed", at(april)),
            claim("affected", json!({"timestamp": march, "last_updated": may})),
            false,
        ),
        (
            "withdrawn without a time",
            claim("fixed", at(may)),
            of_document(claim("affected", json!({})), json!({"timestamp": null})),
            false,
        ),
    ] {
        let reports = lookup(&[TRIVY, &exempting, &other]);
        assert_eq!(find(&reports, "CVE-2024-0002").exempt, exempt, "{name}");
    }
}

#[test]
fn a_context_may_end_without_a_version() {
    let statement = json!({"products": [{"@id": format!("pkg:oci/app@{}", digest(CONFIG))}], "status": "fixed"});
    let with = |context: &str| open_vex(&statement).replace("https://openvex.dev/ns/v0.2.0", context);
    for (context, is_read) in [
        ("https://openvex.dev/ns", true),
        ("https://openvex.dev/ns/", true),
        ("https://openvex.dev/ns/v0.0.1", true),
        ("https://openvex.dev/ns//", false),
        ("https://openvex.dev/nsx", false),
        ("https://openvex.dev/nsv0.2.0", false),
        ("https://openvex.dev/ns/1", false),
    ] {
        assert_eq!(parse(with(context).as_bytes()).is_ok(), is_read, "{context}");
    }
}

#[test]
fn open_vex_statements() {
    let image = json!({"@id": format!("pkg:oci/app@{}?repository_url=r.io", digest(CONFIG))});
    let with = |parts: &[&str]| {
        let parts: Vec<_> = parts.iter().map(|id| json!({"@id": id})).collect();
        json!({"@id": format!("pkg:oci/app@{}", digest(CONFIG)), "subcomponents": parts})
    };
    let because = "vulnerable_code_not_present";
    for (product, status, justification, exempt) in [
        (image.clone(), "not_affected", because, true),
        (image.clone(), "not_affected", "", false),
        (image.clone(), "fixed", "", true),
        (image.clone(), "affected", because, false),
        (image.clone(), "under_investigation", because, false),
        (image, "fine", because, false),
        (with(&["pkg:deb/debian/libc6"]), "fixed", "", true),
        (with(&["pkg:deb/debian/zlib1g"]), "fixed", "", false),
        (with(&["libc6"]), "fixed", "", false),
        (json!({"@id": format!("pkg:oci/app@{}", digest(OTHER))}), "fixed", "", false),
        (json!({"@id": "pkg:oci/app@1.0"}), "fixed", "", false),
        (json!({"@id": "pkg:oci/app", "subcomponents": [{"@id": "pkg:deb/debian/libc6"}]}), "fixed", "", false),
        (json!({"@id": "pkg:deb/debian/libc6"}), "fixed", "", true),
        (json!({"@id": "x", "identifiers": {"purl": "pkg:deb/debian/libc6@2.36-9"}}), "fixed", "", true),
        (json!({"@id": "registry.example.com/team/app:1.0"}), "fixed", "", false),
    ] {
        let text = open_vex(&json!({"products": [product], "status": status, "justification": justification}));
        assert_eq!(find(&lookup(&[TRIVY, &text]), "CVE-2024-0002").exempt, exempt, "{text}");
        assert_eq!(look(&index(&[&text]), '0', CONFIG), None, "statements are not a report");
    }
}
