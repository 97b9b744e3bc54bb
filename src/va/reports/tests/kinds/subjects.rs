//! Which images a report is about.

use super::*;

/// A report on this image with this time: named by its configuration or its manifest, and listed under these manifests.
pub(super) fn made(text: &str, time: &str, own: char, listed: &[char]) -> String {
    let mut value = value(text);
    value["CreatedAt"] = time.into();
    value["Metadata"]["ImageID"] = digest(own).to_string().into();
    let listed: Vec<_> = listed.iter().map(|digit| format!("registry.test/app@{}", digest(*digit))).collect();
    value["Metadata"]["RepoDigests"] = json!(listed);
    value.to_string()
}

pub(super) const OLD: &str = "2026-01-01T00:00:00Z";
pub(super) const NEW: &str = "2026-02-01T00:00:00Z";

/// The report on another image that also lists this manifest removes nothing from the image's own report.
#[test]
fn a_report_that_only_lists_the_manifest_never_replaces_the_images_own() {
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
    let alone = lookup(&[&made(TRIVY, OLD, OTHER, &[MANIFEST])]);
    assert_eq!(alone.issues.len(), 10, "its findings count where there is none");
    assert!(alone.incomplete.is_some_and(|why| why.contains(&format!("another image, {}", digest(OTHER)))));
    let clean = made(TRIVY_CLEAN, OLD, OTHER, &[MANIFEST]);
    assert!(lookup(&[&clean]).incomplete.is_some(), "it does not show that this image is clean");
    let mut unnamed = value(&made(TRIVY_CLEAN, OLD, OTHER, &[MANIFEST]));
    unnamed["Metadata"].as_object_mut().unwrap().remove("ImageID");
    let unnamed = unnamed.to_string();
    assert_eq!(part(look(&index(&[&unnamed]), MANIFEST, CONFIG)), "whole", "it names no other image");
    let files = [unnamed, made(TRIVY, NEW, OTHER, &[MANIFEST])];
    let both = lookup(&[&files[0], &files[1]]);
    assert_eq!((both.issues.len(), both.incomplete), (10, None), "one on another image only adds to it");
    let files = [made(TRIVY, OLD, CONFIG, &[MANIFEST]), made(TRIVY_CLEAN, NEW, OTHER, &[MANIFEST])];
    assert_eq!(lookup(&[&files[0], &files[1]]).issues.len(), 10, "one that names both is the image's own");
}

#[test]
fn a_report_on_a_configuration_counts_if_it_is_proven() {
    let (vulnerable, clean) = (made(TRIVY, OLD, CONFIG, &[]), made(TRIVY_CLEAN, OLD, CONFIG, &[]));
    let both = made(TRIVY_CLEAN, OLD, CONFIG, &[MANIFEST]);
    let (own, newer) = (made(TRIVY, NEW, MANIFEST, &[]), made(TRIVY_CLEAN, "2026-03-01T00:00:00Z", CONFIG, &[]));
    let statement = vex(None, OLD, "not_affected", &[&format!("pkg:oci/x@{}", digest(CONFIG))]);
    // The issues that are not exempt; one of the ten in the report is exempt.
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
            let found = index.lookup(&ReportQuery { config, ..subject(MANIFEST, CONFIG) }, false)?;
            Ok(found.map(|found| report(Some(found)).issues.iter().filter(|issue| !issue.exempt).count()))
        };
        let bound = [ConfigBinding::Proven, ConfigBinding::Unproven, ConfigBinding::Refuted];
        let answers = bound.map(|bound| open(bound(digest(CONFIG))));
        assert_eq!(answers, [Ok(proven), unproven, Ok(refuted)]);
    }
}

#[test]
fn a_statement_about_an_index_applies_to_its_images() {
    let products = json!([{"@id": format!("pkg:oci/app@{}", digest(INDEX))}]);
    let statement = open_vex(&json!({"products": products, "status": "fixed"}));
    let index = index(&[TRIVY, &statement]);
    for (parents, exempt) in [(&[][..], false), (&[digest(OTHER)], false), (&[digest(OTHER), digest(INDEX)], true)] {
        let found = index.lookup(&ReportQuery { parents, ..subject(MANIFEST, CONFIG) }, false).unwrap();
        assert_eq!(find(&report(found), "CVE-2024-0002").exempt, exempt, "{parents:?}");
    }
}

#[test]
fn a_future_time_is_unknown() {
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
