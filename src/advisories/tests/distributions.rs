//! What each distribution has its advisories about.

use super::*;

#[test]
fn alpine_and_its_descendants_compare_origins() {
    let rows = Rows::default()
        .row("alpine 3.19", "openssl", "CVE-2024-1", json!({"FixedVersion": "3.1.4-r6"}))
        .row("alpine 3.19", "openssl", "CVE-2024-2", json!({"FixedVersion": "0"}))
        .row("alpine 3.19", "openssl", "CVE-2024-3", json!({"FixedVersion": "3.1.4-r6", "AffectedVersion": "3.1.4-r6"}))
        .row("alpine edge", "openssl", "CVE-2024-4", json!({"FixedVersion": "3.2.0-r0"}))
        .row("wolfi", "openssl", "CVE-2024-5", json!({"FixedVersion": "3.1.4-r6"}))
        .row("chainguard", "openssl", "CVE-2024-6", json!({"FixedVersion": "3.1.4-r4"}));
    let package = json!({"ecosystem": "apk", "name": "libssl3", "version": "3.1.4-r5", "source": {"name": "openssl", "version": "3.1.4-r5"}});
    let packages = std::slice::from_ref(&package);
    expect(&rows, &inventory("alpine", "3.19.1", packages), &["libssl3 CVE-2024-1 3.1.4-r6"]);
    expect(&rows, &inventory("wolfi", "20230201", packages), &["libssl3 CVE-2024-5 3.1.4-r6"]);
    expect(&rows, &inventory("chainguard", "20230214", packages), &[]);
    let mut edge = inventory("alpine", "3.19.1", packages);
    edge.distribution.as_mut().unwrap().repository = Some("edge".to_owned());
    // From which release a package is, is not known if os-release and the repositories differ.
    expect(&rows, &edge, &["libssl3 CVE-2024-1 3.1.4-r6", "libssl3 CVE-2024-4 3.2.0-r0"]);
    edge.distribution.as_mut().unwrap().version = "3.18.4".to_owned();
    let gaps: Vec<_> = findings(&rows, &edge).gaps.into_iter().map(|gap| gap.problem).collect();
    assert_eq!(gaps, ["no database has advisories for alpine 3.18"]);
    let mut newer = edge.clone();
    newer.distribution.as_mut().unwrap().repository = Some("3.23".to_owned());
    newer.distribution.as_mut().unwrap().version = "3.19.1".to_owned();
    let gaps: Vec<_> = findings(&rows, &newer).gaps.into_iter().map(|gap| gap.problem).collect();
    assert_eq!(gaps, ["no database has advisories for alpine 3.23"]);
    for snapshot in ["3.23_alpha20250612", "3.23.0_alpha20251016"] {
        edge.distribution.as_mut().unwrap().version = snapshot.to_owned();
        expect(&rows, &edge, &["libssl3 CVE-2024-4 3.2.0-r0"]);
        assert!(findings(&rows, &edge).gaps.is_empty(), "it names a release that does not exist yet");
    }
    let records = Records::default()
        .record("Alpine:edge", "openssl", json!({"id": "EDGE-1"}), json!([{"introduced": "0"}]))
        .record("Alpine:v3.18", "openssl", json!({"id": "OLD-1"}), json!([{"introduced": "0"}]));
    edge.distribution.as_mut().unwrap().version = "3.18.4".to_owned();
    let found = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &edge, now());
    let ids: Vec<_> = found.matches.iter().map(|matched| &*matched.id).collect();
    assert_eq!((&ids[..], found.gaps.len()), (&["EDGE-1", "OLD-1"][..], 0));
}

#[test]
fn ubuntu_and_amazon_and_suse_have_their_buckets() {
    let rows = Rows::default()
        .row("ubuntu 22.04", "curl", "CVE-2024-1", json!({"FixedVersion": "7.81.0-1ubuntu1.16"}))
        .row("amazon linux 2023", "curl", "CVE-2024-2", json!({"FixedVersion": "8.5.0-1.amzn2023.0.1"}))
        .row("SUSE Linux Enterprise 15.5", "curl", "SUSE-SU-2024:1-1", json!({"FixedVersion": "8.0.1-150400.5.41.1"}))
        .row("openSUSE Tumbleweed", "curl", "CVE-2024-3", json!({"FixedVersion": "8.0.1-150400.5.41.1"}));
    let deb = json!({"ecosystem": "deb", "name": "curl", "version": "7.81.0-1ubuntu1.15"});
    expect(&rows, &inventory("ubuntu", "22.04", &[deb]), &["curl CVE-2024-1 7.81.0-1ubuntu1.16"]);
    let amazon =
        json!({"ecosystem": "rpm", "name": "curl", "version": "8.3.0-1.amzn2023.0.2", "vendor": "Amazon Linux"});
    expect(&rows, &inventory("amzn", "2023", &[amazon]), &["curl CVE-2024-2 8.5.0-1.amzn2023.0.1"]);
    let suse = json!({"ecosystem": "rpm", "name": "curl", "version": "8.0.1-150400.5.36.1", "vendor": "SUSE LLC <https://www.suse.com/>"});
    expect(
        &rows,
        &inventory("sles", "15.5", std::slice::from_ref(&suse)),
        &["curl SUSE-SU-2024:1-1 8.0.1-150400.5.41.1"],
    );
    expect(&rows, &inventory("opensuse-tumbleweed", "20240301", &[suse]), &["curl CVE-2024-3 8.0.1-150400.5.41.1"]);
}

/// Trivy reads from which version on a package is affected only in rows of Alpine.
#[test]
fn the_first_affected_version_counts_for_alpine_alone() {
    for (id, version, bucket, kind, expected) in [
        ("alpine", "3.19.1", "alpine 3.19", "apk", &[][..]),
        ("debian", "12.5", "debian 12", "deb", &["x CVE-2024-1 9.0"]),
        ("wolfi", "20230201", "wolfi", "apk", &["x CVE-2024-1 9.0"]),
    ] {
        let row = json!({"FixedVersion": "9.0", "AffectedVersion": "5.0"});
        let rows = Rows::default().row(bucket, "x", "CVE-2024-1", row);
        let package = json!({"ecosystem": kind, "name": "x", "version": "1.0"});
        expect(&rows, &inventory(id, version, &[package]), expected);
    }
}

#[test]
fn photon_and_azure_name_source_packages() {
    let rows = Rows::default()
        .row("Photon OS 5.0", "curl", "CVE-2024-1", json!({"FixedVersion": "8.1.2-3.ph5"}))
        .row("Azure Linux 3.0", "curl", "CVE-2024-2", json!({"FixedVersion": "0:8.8.0-2.azl3"}))
        .row("Azure Linux 3.0", "curl", "CVE-2024-3", json!({}));
    let package = |version: &str, vendor: &str| json!({"ecosystem": "rpm", "name": "curl-libs", "version": version, "vendor": vendor, "source": {"name": "curl", "version": version}});
    let photon = inventory("photon", "5.0", &[package("8.1.2-2.ph5", "VMware, Inc.")]);
    expect(&rows, &photon, &["curl-libs CVE-2024-1 8.1.2-3.ph5"]);
    let azure = inventory("azurelinux", "3.0", &[package("8.8.0-1.azl3", "Microsoft Corporation")]);
    expect(&rows, &azure, &["curl-libs CVE-2024-2 8.8.0-2.azl3", "curl-libs CVE-2024-3 Affected"]);
}

#[test]
fn rebuilds_of_red_hat_compare_modules_architectures_and_flavours() {
    let entry = |fixed: &str, arches: &[&str]| json!({"FixedVersion": fixed, "Arches": arches, "VendorIDs": ["ADV-1"]});
    let rows = Rows::default()
        .row("alma 8", "nodejs:18::npm", "CVE-2024-1", json!({"FixedVersion": "1:9.5.0-1.module_el8"}))
        .row("alma 8", "npm", "CVE-2024-2", json!({"FixedVersion": "1:99"}))
        .row(
            "rocky 9",
            "curl",
            "CVE-2024-3",
            json!({"FixedVersion": "0.0.0", "Entries": [
            entry("7.76.1-29.el9", &["x86_64"]), entry("0:7.76.1-31.el9", &["x86_64"]), entry("7.76.1-30.el9", &["x86_64"])]}),
        )
        .row("rocky 9", "curl", "CVE-2024-4", json!({"FixedVersion": "9", "Entries": [entry("9", &["aarch64"])]}))
        .row("rocky 9", "curl", "CVE-2024-5", json!({"FixedVersion": "9"}))
        .row(
            "Oracle Linux 8",
            "curl",
            "CVE-2024-6",
            json!({"Entries": [
            entry("10:7.61.1-40.0.1.el8_fips", &["x86_64"]), entry("7.61.1-34.el8", &["x86_64"])]}),
        )
        .row(
            "Oracle Linux 8",
            "curl",
            "CVE-2024-7",
            json!({"Entries": [entry("2:7.61.1-40.ksplice1.el8", &["x86_64"])]}),
        );
    let npm = json!({"ecosystem": "rpm", "name": "npm", "version": "1:8.19.4-1.module_el8", "module": "nodejs:18:8060020230523:ad008a3a", "vendor": "AlmaLinux"});
    expect(&rows, &inventory("almalinux", "8.9", &[npm]), &["npm CVE-2024-1 1:9.5.0-1.module_el8"]);
    let curl =
        |version: &str| json!({"ecosystem": "rpm", "name": "curl", "version": version, "architecture": "x86_64"});
    let rocky = inventory("rocky", "9.3", &[curl("7.76.1-26.el9")]);
    expect(&rows, &rocky, &["curl CVE-2024-3 7.76.1-31.el9", "curl CVE-2024-5 9"]);
    assert_eq!(findings(&rows, &rocky).matches[0].aliases, ["ADV-1"]);
    expect(&rows, &inventory("ol", "8.9", &[curl("7.61.1-33.el8")]), &["curl CVE-2024-6 7.61.1-34.el8"]);
    let mut everywhere = inventory("ol", "8.9", &[curl("7.61.1-33.el8")]);
    everywhere.packages[0].architecture = "noarch".to_owned();
    expect(&rows, &everywhere, &["curl CVE-2024-6 7.61.1-34.el8"]);
    let unlabelled = inventory(
        "almalinux",
        "8.9",
        &[json!({"ecosystem": "rpm", "name": "npm", "version": "1:8-1.module_el8", "vendor": "AlmaLinux"})],
    );
    let found = findings(&rows, &unlabelled);
    assert_eq!((found.matches.len(), &*found.gaps[0].place), (0, "npm"), "the stream is not known");
}

#[test]
fn red_hat_s_advisories_hold_for_products() {
    let entry = |cpes: &[u64], fixed: &str, cves: Value| json!({"Affected": cpes, "FixedVersion": fixed, "Cves": cves});
    let mut rows = Rows::default()
        .source("Red Hat", "redhat")
        .row("Red Hat", "openssl-libs", "RHSA-2024:1", json!({"Entries": [
            entry(&[1, 2], "1:3.0.7-25.el9", json!([{"ID": "CVE-2024-1", "Severity": 3}, {"ID": "CVE-2024-2", "Severity": 2}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:2", json!({"Entries": [
            entry(&[1], "1:3.0.7-27.el9", json!([{"ID": "CVE-2024-1", "Severity": 3}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:3", json!({"Entries": [entry(&[99], "9:1", json!([{"ID": "CVE-2024-3"}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:4", json!({"Entries": [
            {"Affected": [1], "FixedVersion": "9:1", "Arches": ["aarch64"], "Cves": [{"ID": "CVE-2024-4"}]}]}))
        .row("Red Hat", "openssl-libs", "CVE-2024-5", json!({"Entries": [{"Affected": [1], "Status": 7, "Cves": [{"Severity": 1}]}]}))
        .row("Red Hat", "nodejs:18::npm", "CVE-2024-6", json!({"Entries": [{"Affected": [3], "Status": 5, "Cves": [{"Severity": 1}]}]}))
        .detail("CVE-2024-1", json!({"VendorSeverity": {"nvd": 4, "redhat": 2}}));
    rows.cpes = BTreeMap::from([
        ("rhel-9-for-x86_64-baseos-rpms", vec![1]),
        ("rhel-9-for-x86_64-appstream-rpms", vec![2]),
        ("custom-rpms", vec![99]),
        ("ubi9-container-9.4-1-x86_64", vec![3]),
    ]);
    let openssl =
        json!({"ecosystem": "rpm", "name": "openssl-libs", "version": "1:3.0.7-24.el9", "architecture": "x86_64"});
    let default = inventory("rhel", "9.4", std::slice::from_ref(&openssl));
    expect(
        &rows,
        &default,
        &[
            "openssl-libs CVE-2024-1 1:3.0.7-27.el9",
            "openssl-libs CVE-2024-2 1:3.0.7-25.el9",
            "openssl-libs CVE-2024-5 EndOfLife",
        ],
    );
    let first = findings(&rows, &default).matches.remove(0);
    assert_eq!(
        (first.severity, first.severity_source.as_deref()),
        (Severity::High, Some("redhat")),
        "the advisory's own"
    );
    assert_eq!(first.aliases, ["RHSA-2024:2"], "the advisory with the latest fix");

    let layer = crate::oci::Digest::sha256(b"layer");
    let mut npm = json!({"ecosystem": "rpm", "name": "npm", "version": "1:8", "module": "nodejs:18:1:2", "architecture": "x86_64"});
    let mut built = openssl;
    (npm["layer"], built["layer"]) = (json!(layer), json!(layer));
    let mut custom = inventory("rhel", "9.4", &[npm, built]);
    let build =
        json!({"content_sets": ["custom-rpms__9"], "images": ["none-1-1-x86_64", "ubi9-container-9.4-1-x86_64"]});
    custom.red_hat_builds.insert(layer, serde_json::from_value(build).unwrap());
    expect(&rows, &custom, &["npm CVE-2024-6 WillNotFix", "openssl-libs CVE-2024-3 9:1"]);

    let mut partly = custom.clone();
    partly.red_hat_builds.get_mut(&layer).unwrap().content_sets.push("private-rpms".to_owned());
    let found = findings(&rows, &partly);
    assert_eq!(listed(&found, &partly).len(), 2);
    assert_eq!(found.gaps[0].problem, "trivy-db does not know the repository private-rpms");

    let found = findings(&rows, &inventory("rhel", "10.0", &[json!(default.packages[0])]));
    assert_eq!((found.matches.len(), &*found.gaps[0].place), (0, "root/buildinfo"), "the repositories are not known");
}
