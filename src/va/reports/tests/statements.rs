//! VEX statements that take an exemption back, from the report itself and from other files.

use super::*;

const EARLY: &str = "2026-01-15T00:00:00Z";
const LATE: &str = "2026-03-20T00:00:00Z";

/// An OpenVEX statement on CVE-2024-0002, made at a time.
fn stated(at: &str, mut statement: Value) -> String {
    statement["timestamp"] = at.into();
    open_vex(&statement)
}

fn image(digit: char) -> Value {
    json!({"@id": format!("pkg:oci/app@{}", digest(digit))})
}

/// Whether CVE-2024-0002 is exempt if a scanner that the gate asked answers this, beside these files of statements.
fn is_exempt_if_scanned(answer: &str, statements: &[&str]) -> bool {
    let (manifest, config) = (digest(MANIFEST), digest(CONFIG));
    let target = ReportTarget { manifest, config, honour_ignores: false, now: now(), built: None };
    let report = scanned_report(answer.as_bytes(), &target).unwrap();
    let image = ImageDigests { own: &[manifest, config], parents: &[] };
    let issues = index(statements).with_statements_of(&report.issues, &image, false).unwrap_or(report.issues);
    issues.iter().find(|issue| issue.id == "CVE-2024-0002").unwrap().exempt
}

/// What a report says itself is a statement too, made at its time or that of its analysis.
#[test]
fn a_later_statement_withdraws_an_exemption_of_a_report() {
    let mut bom = value(VDR);
    bom["metadata"]["timestamp"] = "2026-03-01T00:00:00Z".into();
    bom["vulnerabilities"] =
        json!([{"id": "CVE-2024-0002", "analysis": {"state": "not_affected"}}, {"id": "CVE-2024-0099"}]);
    let mut old_analysis = bom.clone();
    old_analysis["vulnerabilities"][0]["analysis"]["lastUpdated"] = "2026-01-01T00:00:00Z".into();
    let found = json!({"VulnerabilityID": "CVE-2024-0002", "PkgName": "libc6", "Severity": "HIGH"});
    let with = |key: &str, finding: Value| {
        let mut trivy = value(TRIVY_CLEAN);
        trivy["CreatedAt"] = "2026-03-01T00:00:00Z".into();
        trivy["Results"][0][key] = json!([finding]);
        trivy
    };
    let by_distribution = with("Vulnerabilities", {
        let mut found = found.clone();
        found["Status"] = "not_affected".into();
        found
    });
    let by_vex = with(
        "ExperimentalModifiedFindings",
        json!({"Type": "vulnerability", "Status": "not_affected", "Finding": found}),
    );
    let affected = |at| stated(at, json!({"products": [image(CONFIG)], "status": "affected"}));
    for (name, report, at, exempt) in [
        ("analysis", &bom, None, true),
        ("analysis", &bom, Some(EARLY), true),
        ("analysis", &bom, Some(LATE), false),
        ("old analysis", &old_analysis, None, true),
        ("old analysis", &old_analysis, Some(EARLY), false),
        ("distribution", &by_distribution, None, true),
        ("distribution", &by_distribution, Some(EARLY), true),
        ("distribution", &by_distribution, Some(LATE), false),
        // When that statement was made is not known.
        ("VEX in Trivy", &by_vex, None, true),
        ("VEX in Trivy", &by_vex, Some(EARLY), false),
    ] {
        let mut files = vec![report.to_string()];
        files.extend(at.map(affected));
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(find(&lookup(&files), "CVE-2024-0002").exempt, exempt, "{name} {at:?}");
        if report.get("SchemaVersion").is_some() {
            assert_eq!(is_exempt_if_scanned(files[0], &files[1..]), exempt, "a scanner's answer: {name} {at:?}");
        }
    }
    let exploitable = vex(None, LATE, "exploitable", &[&format!("pkg:oci/x@{}", digest(CONFIG))]);
    assert!(!find(&lookup(&[&bom.to_string(), &exploitable]), "CVE-2024-0002").exempt);
}

/// A statement that takes an exemption back is not lost because a part of it cannot be read.
#[test]
fn withdrawals_apply_widely() {
    let exempting = stated(EARLY, json!({"products": [image(CONFIG)], "status": "fixed"}));
    let package = json!({"@id": "pkg:deb/debian/libc6", "subcomponents": [{"@id": "pkg:generic/x"}]});
    let in_image = |part: &str| {
        let mut product = image(CONFIG);
        product["subcomponents"] = json!([{"@id": part}]);
        product
    };
    for (products, status, is_exempt) in [
        (json!([{"@id": "pkg:oci/app"}]), "affected", false),
        (json!([{"@id": "registry.example.com/team/app:1.0"}]), "affected", false),
        (json!([]), "affected", false),
        (json!(null), "under_investigation", false),
        (json!([in_image("libc6")]), "affected", false),
        (json!([package]), "affected", false),
        (json!([image(CONFIG)]), "Affected", false),
        (json!([{"@id": format!("r.io/app@{}", digest(CONFIG))}]), "affected", false),
        // What is identified is about nothing else.
        (json!([image(OTHER)]), "affected", true),
        (json!([{"@id": format!("r.io/app@{}", digest(OTHER))}]), "affected", true),
        (json!([{"@id": "pkg:deb/debian/zlib1g"}]), "affected", true),
        (json!([in_image("pkg:deb/debian/zlib1g")]), "affected", true),
        // This takes nothing back, although it has no justification.
        (json!([image(CONFIG)]), "not_affected", true),
    ] {
        let other = stated(LATE, json!({"products": products, "status": status}));
        let exempt = find(&lookup(&[TRIVY, &exempting, &other]), "CVE-2024-0002").exempt;
        assert_eq!(exempt, is_exempt, "{other}");
        let earlier = stated("2026-01-01T00:00:00Z", json!({"products": products, "status": status}));
        assert!(find(&lookup(&[TRIVY, &exempting, &earlier]), "CVE-2024-0002").exempt, "an earlier one: {earlier}");
    }
    for (product, affects, is_exempt) in [
        (None, &["unknown"][..], false),
        (None, &["pkg:oci/app"], false),
        (None, &[], false),
        (Some("registry.example.com/team/app:1.0"), &["product"], false),
        (Some("registry.example.com/team/app:1.0"), &["pkg:deb/debian/libc6"], false),
        (Some("registry.example.com/team/app:1.0"), &["pkg:deb/debian/zlib1g"], true),
    ] {
        let other = vex(product, LATE, "exploitable", affects);
        assert_eq!(find(&lookup(&[TRIVY, &exempting, &other]), "CVE-2024-0002").exempt, is_exempt, "{other}");
    }
}

/// The image and the package of a statement that takes an exemption back may be named in another way than by the one
/// that exempts.
#[test]
fn a_withdrawal_may_use_other_names_than_the_exemption() {
    let trivy = TRIVY.replace("libc6@2.36-9?arch=amd64", "libc6@2.36-9?upstream=glibc%402.36-9&arch=amd64");
    assert_ne!(trivy, TRIVY);
    let package = |purl: &str| json!({"@id": purl});
    let in_image =
        |part: &str| json!({"@id": format!("pkg:oci/app@{}", digest(MANIFEST)), "subcomponents": [{"@id": part}]});
    let of_platform = |digit| json!({"@id": format!("pkg:oci/app@{}?arch=amd64&os=linux", digest(digit))});
    for exempting in [image(MANIFEST), package("pkg:deb/debian/libc6"), in_image("pkg:deb/debian/libc6@2.36-9")] {
        let fixed = stated(EARLY, json!({"products": [exempting], "status": "fixed"}));
        for (product, is_exempt) in [
            (of_platform(INDEX), false),
            (of_platform(OTHER), true),
            (in_image("pkg:deb/debian/glibc?arch=source"), false),
            (in_image("pkg:deb/debian/curl?arch=source"), true),
            (package("pkg:deb/debian/glibc?arch=source"), false),
            (package("pkg:deb/debian/glibc"), false),
            (package("pkg:deb/debian/glibc@2.36-9?arch=source&distro=bookworm"), false),
            (package("pkg:deb/debian/glibc@2.35-1?arch=source"), true),
            (package("pkg:deb/debian/libc6?distro=bookworm"), false),
            (package("pkg:deb/debian/libc6@2.36-9?arch=arm64"), false),
            (package("pkg:deb/debian/libc6@2.35-1"), true),
            (package("pkg:deb/libc6"), false),
            (package("pkg:deb/ubuntu/libc6"), true),
            (package("pkg:rpm/redhat/libc6"), true),
        ] {
            let affected = stated(LATE, json!({"products": [product], "status": "affected"}));
            let bom = product["subcomponents"].is_null().then(|| product["@id"].as_str()).flatten();
            let bom = bom.map(|reference| vex(None, LATE, "exploitable", &[reference]));
            for text in [Some(affected), bom].into_iter().flatten() {
                let subject = ReportQuery { parents: &[digest(INDEX)], ..subject(MANIFEST, CONFIG) };
                let found = report(index(&[&trivy, &fixed, &text]).lookup(&subject, false).unwrap());
                assert_eq!(find(&found, "CVE-2024-0002").exempt, is_exempt, "{fixed} {text}");
            }
        }
    }
}

/// A digest says which image is meant, also outside a package URL.
#[test]
fn images_are_named_by_digests_of_all_kinds() {
    let hex = |digit: char| digit.to_string().repeat(64);
    for (product, exempt) in [
        (json!({"@id": format!("r.io/app@{}", digest(CONFIG))}), true),
        (json!({"@id": format!("r.io/app@{}", digest(OTHER))}), false),
        (json!({"@id": "x", "hashes": {"sha-256": hex(CONFIG)}}), true),
        (json!({"@id": "x", "hashes": {"sha-256": hex(OTHER)}}), false),
        (json!({"@id": format!("r.io/app@{}", digest(CONFIG)), "hashes": {"sha-256": hex(OTHER)}}), false),
        (json!({"@id": "pkg:oci/app", "hashes": {"sha-256": hex(CONFIG)}}), false),
    ] {
        let statement = stated(EARLY, json!({"products": [product], "status": "fixed"}));
        assert_eq!(find(&lookup(&[TRIVY, &statement]), "CVE-2024-0002").exempt, exempt, "{statement}");
    }
}

/// A statement that takes an exemption back counts however its vulnerability is named, and whatever else is in its
/// file.
#[test]
fn no_withdrawing_open_vex_statement_is_lost() {
    let products = json!([image(CONFIG)]);
    let exempting = stated(EARLY, json!({"products": products, "status": "fixed"}));
    let of = |vulnerability: Value, others: &[Value]| {
        let affected = json!({"vulnerability": vulnerability, "products": products, "status": "affected"});
        let mut document = value(&stated(LATE, json!({})));
        document["timestamp"] = LATE.into();
        document["statements"] = others.iter().cloned().chain([affected]).collect();
        document.to_string()
    };
    let named = json!({"name": "CVE-2024-0002"});
    let other = |statement: Value| {
        let mut whole = json!({"vulnerability": {"name": "CVE-1-1"}, "products": products, "status": "fixed"});
        whole.as_object_mut().unwrap().extend(statement.as_object().unwrap().clone());
        whole
    };
    for (name, file, exempt) in [
        ("another vulnerability", of(json!({"name": "CVE-1-1"}), &[]), true),
        ("name", of(named.clone(), &[]), false),
        ("space", of(json!({"name": "CVE-2024-0002 "}), &[]), false),
        ("address", of(json!({"@id": "https://nvd.nist.gov/vuln/detail/CVE-2024-0002"}), &[]), false),
        ("address with a slash", of(json!({"@id": "https://example.com/CVE-2024-0002/"}), &[]), false),
        ("identifier", of(json!({"@id": "CVE-2024-0002"}), &[]), false),
        ("text", of(json!("CVE-2024-0002"), &[]), false),
        ("beside one without a status", of(named.clone(), &[other(json!({"status": null}))]), false),
        ("beside one with products as text", of(named.clone(), &[other(json!({"products": "x"}))]), false),
        ("beside one that is none", of(named.clone(), &[json!("x")]), false),
        ("own products as text", alone(&other(json!({"vulnerability": named, "products": "x"}))), true),
    ] {
        assert_eq!(find(&lookup(&[TRIVY, &exempting, &file]), "CVE-2024-0002").exempt, exempt, "{name}");
    }
    let unreadable = |status: &str| {
        alone(&other(json!({"vulnerability": {"name": "CVE-2024-0002"}, "products": "x", "status": status})))
    };
    assert!(!find(&lookup(&[TRIVY, &exempting, &unreadable("affected")]), "CVE-2024-0002").exempt);
    assert!(!find(&lookup(&[TRIVY, &unreadable("fixed")]), "CVE-2024-0002").exempt, "it exempts nothing");
    assert!(index(&[&unreadable("fixed")]).problems[0].contains("cannot be read"));
    let by_address = json!({"vulnerability": {"@id": "https://example.com/CVE-2024-0002"}});
    assert!(!find(&lookup(&[TRIVY, &alone(&other(by_address))]), "CVE-2024-0002").exempt, "an address exempts nothing");
}

/// A document of one statement.
fn alone(statement: &Value) -> String {
    let mut document = value(&stated(LATE, json!({})));
    document["timestamp"] = LATE.into();
    document["statements"] = json!([statement]);
    document.to_string()
}

/// Readers differ about which of the two they take.
#[test]
fn a_statement_with_a_key_twice_exempts_nothing() {
    let once = stated(LATE, json!({"products": [image(CONFIG)], "status": "fixed"}));
    assert!(find(&lookup(&[TRIVY, &once]), "CVE-2024-0002").exempt);
    let twice = once.replacen(r#""status":"#, r#""status":"affected","status":"#, 1);
    assert_ne!(twice, once);
    assert!(!find(&lookup(&[TRIVY, &twice]), "CVE-2024-0002").exempt);
    assert!(index(&[&twice]).problems[0].contains("duplicate field"));
    let exempting = stated(EARLY, json!({"products": [image(CONFIG)], "status": "fixed"}));
    assert!(find(&lookup(&[TRIVY, &exempting]), "CVE-2024-0002").exempt);
    assert!(!find(&lookup(&[TRIVY, &exempting, &twice]), "CVE-2024-0002").exempt, "one of the two takes it back");
    let damaged = twice.replacen(r#""products":"#, r#""products":5,"products":"#, 1);
    assert_ne!(damaged, twice);
    assert!(!find(&lookup(&[TRIVY, &exempting, &damaged]), "CVE-2024-0002").exempt, "whatever else is wrong");
}
