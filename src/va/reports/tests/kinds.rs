//! Crafted reports: what was assessed, which image it is of, which times and suppressions count.

use super::*;

fn trivy_of(os: Value, results: Value) -> String {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["Metadata"]["OS"] = os;
    trivy["Results"] = results;
    trivy.to_string()
}

/// A report is clean only for what was assessed.
#[test]
fn what_trivy_assessed() {
    let debian = || json!({"Family": "debian", "Name": "12.5"});
    let eosl = |eosl: Value| json!({"Family": "debian", "Name": "8", "EOSL": eosl});
    let none = || json!({"Family": "none", "Name": ""});
    let system = || json!({"Target": "x", "Class": "os-pkgs"});
    let binary = || json!({"Target": "app", "Class": "lang-pkgs", "Type": "gobinary"});
    let listing = |mut result: Value, packages: Value| {
        result["Packages"] = packages;
        result
    };
    for (os, results, missing) in [
        (debian(), json!([system()]), "whole"),
        (debian(), json!([listing(system(), json!([{"Name": "x"}]))]), "whole"),
        (debian(), json!([listing(system(), json!([]))]), "packages of debian 12.5 were not assessed"),
        (debian(), json!([system(), listing(binary(), json!([{"Name": "x"}]))]), "packages of debian 12.5"),
        (debian(), json!(null), "packages of debian 12.5"),
        (debian(), json!([]), "packages of debian 12.5"),
        (debian(), json!([{"Target": "x", "Class": "secret"}]), "packages of debian 12.5"),
        (debian(), json!([binary()]), "packages of debian 12.5"),
        (eosl(json!(true)), json!([system()]), "debian 8 is past its end of support"),
        (eosl(json!(null)), json!([system()]), "whole"),
        (none(), json!([binary()]), "whole"),
        (json!(null), json!([binary()]), "whole"),
        (json!(null), json!([listing(binary(), json!([]))]), "nothing was assessed"),
        (json!(null), json!(null), "nothing was assessed"),
        (none(), json!([]), "nothing was assessed"),
        (none(), json!([{"Class": "secret"}, {"Class": "config"}, {"Class": "license"}]), "nothing was assessed"),
    ] {
        let text = trivy_of(os, results);
        let found = part(look(&index(&[&text]), '0', CONFIG));
        assert!(found.contains(missing), "{found}: {text}");
    }
}

#[test]
fn what_grype_assessed() {
    let matched = |kind: &str| json!([{"vulnerability": {"id": "CVE-1"}, "artifact": {"name": "x", "type": kind}}]);
    let eol = json!([{"package": {}, "alerts": [{"type": "distro-eol", "message": "m"}]}]);
    for (changes, missing) in [
        (json!({}), "whole"),
        (json!({"distro": {"name": "wolfi", "version": ""}}), "whole"),
        (json!({"distro": null}), "nothing was assessed"),
        (json!({"distro": {"name": "", "version": "", "idLike": null}}), "nothing was assessed"),
        (json!({"distro": {"name": null, "version": null}}), "nothing was assessed"),
        (json!({"distro": {"name": "debian", "version": ""}}), "packages of debian were not assessed"),
        (json!({"distro": {"name": "debian"}, "matches": matched("npm")}), "packages of debian were not assessed"),
        (json!({"distro": null, "matches": matched("go-module")}), "whole"),
        (json!({"distro": null, "ignoredMatches": matched("go-module")}), "whole"),
        (json!({"distro": null, "matches": matched("deb")}), "packages of the system were not assessed"),
        (json!({"alertsByPackage": eol}), "debian 12 is past its end of support"),
        (json!({"alertsByPackage": null}), "whole"),
        (json!({"descriptor": {"configuration": {"exclude": ["/usr/**"]}}}), "told to leave out /usr/**"),
        (json!({"descriptor": {"configuration": {"exclude": [], "only-fixed": true}}}), "whole"),
        (json!({"descriptor": {"db": {"status": {"valid": false}}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"error": "no database"}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"status": {"valid": true}}}}), "whole"),
    ] {
        let mut grype = value(GRYPE);
        grype["matches"] = json!([]);
        grype["ignoredMatches"] = json!(null);
        grype.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let found = part(look(&index(&[&grype.to_string()]), MANIFEST, CONFIG));
        assert!(found.contains(missing), "{found}: {changes}");
    }
}

/// A suppression exempts when it says something of the image, not when somebody did not want to see the finding.
#[test]
fn which_suppressions_exempt() {
    let kernel = json!({"match-type": "exact-indirect-match", "package": {"upstream-name": "linux"}});
    for (rules, exempt) in [
        (json!([{"namespace": "vex", "vex-status": "not_affected"}]), true),
        (json!([{"namespace": "vex", "vex-status": "fixed"}]), true),
        (json!([{"fix-state": "not-fixed"}, {"vex-status": "fixed"}]), true),
        (json!([{"vulnerability": "CVE-2024-0013", "reason": "Distro Not Vulnerable"}]), true),
        (json!([kernel]), true),
        (json!([{"vex-status": "under_investigation"}]), false),
        (json!([{"namespace": "", "fix-state": "not-fixed"}]), false),
        (json!([{"vulnerability": "CVE-2024-0013", "reason": "accepted"}]), false),
        (json!([]), false),
        (json!(null), false),
    ] {
        let mut grype = value(GRYPE);
        grype["ignoredMatches"][0]["appliedIgnoreRules"] = rules.clone();
        let index = index(&[&grype.to_string()]);
        assert_eq!(find(&report(look(&index, MANIFEST, CONFIG)), "CVE-2024-0013").exempt, exempt, "{rules}");
        let honoured = report(index.lookup(&subject(MANIFEST, CONFIG), true).unwrap());
        assert!(find(&honoured, "CVE-2024-0013").exempt, "{rules}");
    }
    for (status, exempt) in [("ignored", false), ("not_affected", true), ("fixed", true), ("affected", false)] {
        let text = TRIVY.replace(r#""Status": "ignored""#, &format!(r#""Status": "{status}""#));
        let index = index(&[&text]);
        assert_eq!(find(&report(look(&index, '0', CONFIG)), "CVE-2024-0006").exempt, exempt, "{status}");
        let honoured = report(index.lookup(&subject('0', CONFIG), true).unwrap());
        assert_eq!(find(&honoured, "CVE-2024-0006").exempt, status != "affected", "{status}");
    }
}

/// A report of this image, made then: named by its configuration or its manifest, and listed under manifests.
fn made(text: &str, time: &str, own: char, listed: &[char]) -> String {
    let mut value = value(text);
    value["CreatedAt"] = time.into();
    value["Metadata"]["ImageID"] = digest(own).to_string().into();
    let listed: Vec<_> = listed.iter().map(|digit| format!("registry.test/app@{}", digest(*digit))).collect();
    value["Metadata"]["RepoDigests"] = json!(listed);
    value.to_string()
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-02-01T00:00:00Z";

/// The report of another image, which is said to have this manifest too, takes nothing from the image's own.
#[test]
fn a_report_that_lists_the_manifest_never_displaces_its_own() {
    for (own, other, issues, at, why) in [
        ((TRIVY, OLD, CONFIG), (TRIVY_CLEAN, NEW), 10, OLD, "newer and clean"),
        ((TRIVY, OLD, MANIFEST), (TRIVY_CLEAN, NEW), 10, OLD, "newer and clean, own by the manifest"),
        ((TRIVY_CLEAN, OLD, CONFIG), (TRIVY, NEW), 10, OLD, "what is newer may know more"),
        ((TRIVY_CLEAN, NEW, CONFIG), (TRIVY, OLD), 0, NEW, "what is older knows less"),
    ] {
        let files = [made(own.0, own.1, own.2, &[]), made(other.0, other.1, OTHER, &[MANIFEST, INDEX])];
        let found = lookup(&[&files[0], &files[1]]);
        assert_eq!((found.issues.len(), found.generated_at), (issues, at.parse().ok()), "{why}");
    }
    assert_eq!(lookup(&[&made(TRIVY, OLD, OTHER, &[MANIFEST])]).issues.len(), 10, "it counts where there is none");
    let files = [made(TRIVY, OLD, CONFIG, &[MANIFEST]), made(TRIVY_CLEAN, NEW, OTHER, &[MANIFEST])];
    assert_eq!(lookup(&[&files[0], &files[1]]).issues.len(), 10, "one that names both is the image's own");
}

#[test]
fn a_configuration_counts_when_it_is_proven() {
    let (vulnerable, clean) = (made(TRIVY, OLD, CONFIG, &[]), made(TRIVY_CLEAN, OLD, CONFIG, &[]));
    let both = made(TRIVY_CLEAN, OLD, CONFIG, &[MANIFEST]);
    let (own, newer) = (made(TRIVY, NEW, MANIFEST, &[]), made(TRIVY_CLEAN, "2026-03-01T00:00:00Z", CONFIG, &[]));
    let statement = vex(None, OLD, "not_affected", &[&format!("pkg:oci/x@{}", digest(CONFIG))]);
    // Issues that are not exempt, of the ten in the report one is.
    for (files, proven, unproven, refuted) in [
        (vec![&vulnerable], Some(9), Err(NeedsProof), None),
        (vec![&clean], Some(0), Err(NeedsProof), None),
        (vec![&both], Some(0), Ok(Some(0)), Some(0)),
        (vec![&own], Some(9), Ok(Some(9)), Some(9)),
        (vec![&own, &clean], Some(9), Ok(Some(9)), Some(9)),
        (vec![&own, &newer], Some(0), Err(NeedsProof), Some(9)),
        (vec![&own, &statement], Some(8), Err(NeedsProof), Some(9)),
        (vec![&statement], None, Ok(None), None),
    ] {
        let files: Vec<&str> = files.into_iter().map(String::as_str).collect();
        let index = index(&files);
        let open = |config: ConfigBinding| {
            let found = index.lookup(&Subject { config, ..subject(MANIFEST, CONFIG) }, false)?;
            Ok(found.map(|found| report(Some(found)).issues.iter().filter(|issue| !issue.exempt).count()))
        };
        let bound = [ConfigBinding::Proven, ConfigBinding::Unproven, ConfigBinding::Refuted];
        let answers = bound.map(|bound| open(bound(digest(CONFIG))));
        assert_eq!(answers, [Ok(proven), unproven, Ok(refuted)]);
    }
}

#[test]
fn a_statement_about_an_index_is_about_what_it_lists() {
    let products = json!([{"@id": format!("pkg:oci/app@{}", digest(INDEX))}]);
    let statement = open_vex(&json!({"products": products, "status": "fixed"}));
    let index = index(&[TRIVY, &statement]);
    for (parents, exempt) in [(&[][..], false), (&[digest(OTHER)], false), (&[digest(OTHER), digest(INDEX)], true)] {
        let found = index.lookup(&Subject { parents, ..subject(MANIFEST, CONFIG) }, false).unwrap();
        assert_eq!(find(&report(found), "CVE-2024-0002").exempt, exempt, "{parents:?}");
    }
}

#[test]
fn a_time_to_come_is_not_known() {
    let of = |text, time: &str| made(text, time, CONFIG, &[]);
    for (clean, issues, problems) in
        [("2099-01-01T00:00:00Z", 10, 1), ("2026-04-01T00:05:01Z", 10, 1), ("2026-04-01T00:05:00Z", 0, 0)]
    {
        let index = index(&[&of(TRIVY, OLD), &of(TRIVY_CLEAN, clean)]);
        assert_eq!(report(look(&index, '0', CONFIG)).issues.len(), issues, "{clean}");
        assert_eq!(index.problems.len(), problems, "{clean}: {:?}", index.problems);
    }
    assert_eq!(lookup(&[&of(TRIVY, "2099-01-01T00:00:00Z")]).generated_at, None);
    let image = format!("pkg:oci/x@{}", digest(CONFIG));
    let statement = |at, state| vex(None, at, state, &[&image]);
    let files = [TRIVY, &statement("2099-01-01T00:00:00Z", "not_affected"), &statement(OLD, "exploitable")];
    assert!(!find(&lookup(&files), "CVE-2024-0002").exempt);
    assert!(index(&files).problems[0].contains("2099"));
}

#[test]
fn cyclonedx_within_the_schema() {
    let of = |vulnerabilities: Value| {
        let mut vdr = value(VDR);
        vdr["components"] = json!([{"bom-ref": "p", "name": "openssl", "version": "1", "purl": null}]);
        vdr["vulnerabilities"] = vulnerabilities;
        lines(&lookup(&[&vdr.to_string()]))
    };
    for (rating, severity) in [
        (json!({"severity": "none", "score": 9.8}), "critical"),
        (json!({"severity": "info", "score": 7.1}), "high"),
        (json!({"severity": "Unknown", "score": 9.8}), "critical"),
        (json!({"severity": "none", "score": 0.0}), "negligible"),
        (json!({"severity": "none", "score": null}), "negligible"),
        (json!({"severity": "low", "score": 9.8}), "low"),
        (json!({"severity": null, "score": null}), "unknown"),
    ] {
        let found = of(json!([{"id": "X", "ratings": [rating], "affects": null}]));
        assert_eq!(found, [format!("X {severity}: ")], "{rating}");
    }
    let low = json!([{"severity": "low"}]);
    for (vulnerability, name) in [
        (json!({"ratings": low}), "unnamed"),
        (json!({"id": null, "bom-ref": "v1", "ratings": low, "description": 5}), "v1"),
        (json!({"id": "", "ratings": low, "references": [{"id": null}], "analysis": null}), "unnamed"),
    ] {
        assert_eq!(of(json!([vulnerability])), [format!("{name} low: ")]);
    }
    for (versions, counts) in [
        (json!([{"version": "1", "status": "unaffected"}]), false),
        (json!([{"version": "1", "status": "affected"}]), true),
        (json!([{"version": "1"}]), true),
        (json!([{"version": "1", "status": "unknown"}]), true),
        (json!([{"version": "2", "status": "unaffected"}]), true),
        (json!([{"version": "1", "status": "unaffected"}, {"version": "1", "status": "affected"}]), true),
        (json!([{"version": "1", "status": "unaffected"}, {"range": "vers:deb/<3", "status": "affected"}]), true),
        (json!([{"range": "vers:deb/>=2", "status": "unaffected"}]), true),
        (json!(null), true),
    ] {
        let found = of(json!([
            {"id": "A", "ratings": low, "affects": [{"ref": "p", "versions": versions}]},
            {"id": "Z", "ratings": low, "affects": [{"ref": "p"}]},
        ]));
        assert_eq!(found.len() == 2, counts, "{versions}");
    }
}

/// No report is lost to its encoding, nor to a title that is none.
#[test]
fn other_encodings() {
    let wanted = lines(&lookup(&[TRIVY]));
    let surrogate = TRIVY.replace("bash: something is wrong", r"bad \ud83d");
    assert!(surrogate.contains(r"bad \ud83d"));
    assert_eq!(lines(&lookup(&[&surrogate])), wanted);
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(TRIVY.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(parse(&wide), parse(TRIVY.as_bytes()));
    let mut trivy = value(TRIVY);
    trivy["Results"][0]["Vulnerabilities"][0]["Title"] = json!({"not": "a title"});
    assert_eq!(lines(&lookup(&[&trivy.to_string()])), wanted);
}
