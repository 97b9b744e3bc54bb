//! What reports say about packages and about the details of issues.

use super::*;
use crate::policy::{AffectedPackage, Purl};

const LAYER: char = 'd';

/// `name purl ecosystem source path layer`, with `-` for unknown values.
fn describe(package: &AffectedPackage) -> String {
    let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let purl = or(package.purl.as_ref().map(Purl::as_str));
    let (ecosystem, source, path) = (&package.ecosystem, &package.source, &package.path);
    let layer = package.layer.map(|layer| if layer == digest(LAYER) { "d" } else { "another" });
    let rest = [or(ecosystem.as_deref()), or(source.as_deref()), or(path.as_deref()), or(layer)];
    format!("{} {purl} {}", package.name, rest.join(" "))
}

fn packages(report: &Report, id: &str) -> Vec<String> {
    find(report, id).packages.iter().map(describe).collect()
}

fn time(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

/// `value source vector`
fn score(issue: &Issue) -> Option<String> {
    let score = issue.score.as_ref()?;
    Some(format!("{} {} {}", score.value(), score.source(), score.vector().unwrap_or("-")))
}

const V31: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";

#[test]
fn packages_of_trivy_reports() {
    let mut trivy = value(TRIVY);
    let result = &mut trivy["Results"][0];
    result["Packages"] = json!([{"ID": "libssl3@3.0.11-1", "SrcName": "openssl"}, "no package", {"ID": 1}]);
    let found = &mut result["Vulnerabilities"][0];
    found["PkgPath"] = json!("usr/lib/libssl.so.3");
    found["CVSS"] = json!({
        "nvd": {"V2Vector": "AV:N/AC:L/Au:N/C:C/I:C/A:C", "V2Score": 10, "V3Vector": V31, "V3Score": 9.8},
        "redhat": {"V3Vector": V31, "V3Score": 7.5}, "odd": {"V3Score": "high"}, "worse": {"V3Score": 99},
    });
    found["References"] = json!(["https://example.com/a", 1, "javascript:alert(1)"]);
    let report = lookup(&[&trivy.to_string()]);
    assert_eq!(
        packages(&report, "CVE-2024-0001"),
        [
            "libssl3 pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12.5 deb openssl usr/lib/libssl.so.3 d",
            "openssl pkg:deb/debian/openssl@3.0.11-1?arch=amd64&distro=debian-12.5 deb - - d",
        ]
    );
    let issue = find(&report, "CVE-2024-0001");
    assert_eq!(score(issue), Some(format!("9.8 nvd {V31}")));
    assert_eq!(issue.published, time("2024-01-09T10:15:10.447Z"));
    assert_eq!(issue.first_seen, report.generated_at);
    let references = ["https://avd.aquasec.com/nvd/cve-2024-0001", "https://example.com/a", "https://example.com/"];
    assert_eq!(issue.references, references);
}

#[test]
fn packages_of_grype_reports() {
    let mut grype = value(GRYPE);
    let found = &mut grype["matches"][0];
    found["artifact"]["locations"] = json!([{"path": "/var/lib/dpkg/status", "layerID": digest(LAYER)}]);
    found["artifact"]["upstreams"] = json!([{"name": "openssl"}]);
    found["vulnerability"]["cvss"] = json!([
        {"source": "nvd@nist.gov", "type": "Primary", "version": "3.1", "vector": V31, "metrics": {"baseScore": 9.8}},
        {"metrics": {}}, "odd",
    ]);
    let advisory = &mut grype["matches"][1];
    advisory["relatedVulnerabilities"][0]["cvss"] = json!([{"vector": V31, "metrics": {"baseScore": 10.0}}]);
    let report = lookup(&[&grype.to_string()]);
    let expected = "libssl3 pkg:deb/debian/libssl3@3.0.11-1?arch=amd64 deb openssl /var/lib/dpkg/status d";
    assert_eq!(packages(&report, "CVE-2024-0001"), [expected]);
    let issue = find(&report, "CVE-2024-0001");
    assert_eq!(score(issue), Some(format!("9.8 nvd@nist.gov {V31}")));
    let references =
        ["https://security-tracker.debian.org/tracker/CVE-2024-0001", "https://nvd.nist.gov/vuln/detail/CVE-2024-0001"];
    assert_eq!(issue.references, references);
    assert_eq!(score(find(&report, "CVE-2021-44228")), Some(format!("10 unknown {V31}")), "of the CVE behind a GHSA");
    assert_eq!(issue.published, None);
}

#[test]
fn packages_of_cyclonedx_reports() {
    let mut vdr = value(VDR);
    vdr["components"][0]["properties"] = json!([
        {"name": "aquasecurity:trivy:SrcName", "value": "openssl"},
        {"name": "aquasecurity:trivy:LayerDiffID", "value": digest(LAYER)},
    ]);
    vdr["components"][0]["evidence"] = json!({"occurrences": [{"location": "/var/lib/dpkg/status"}]});
    let found = &mut vdr["vulnerabilities"][0];
    found["ratings"][1]["vector"] = json!(V31);
    found["source"] = json!({"name": "debian", "url": "https://security-tracker.debian.org/"});
    found["advisories"] = json!([{"url": "https://example.com/a"}, {"title": "no address"}, 1]);
    let report = lookup(&[&vdr.to_string()]);
    let expected = "libssl3 pkg:deb/debian/libssl3@3.0.11-1?arch=amd64 deb openssl /var/lib/dpkg/status d";
    assert_eq!(packages(&report, "CVE-2024-0001"), [expected]);
    let issue = find(&report, "CVE-2024-0001");
    assert_eq!(score(issue), Some(format!("9.1 nvd {V31}")));
    assert_eq!(issue.published, time("2024-01-01T00:00:00Z"));
    assert_eq!(issue.references, ["https://security-tracker.debian.org/", "https://example.com/a"]);
    assert_eq!(packages(&report, "GHSA-dddd-eeee-ffff"), ["left-pad pkg:npm/left-pad@1.0.0 npm - - -"]);
    assert_eq!(score(find(&report, "CVE-2024-0022")), None);
}

/// A finding must not be lost because of a malformed detail.
#[test]
fn malformed_details_do_not_lose_findings() {
    let odd = [json!(null), json!(1), json!("x"), json!([]), json!({}), json!([[1]]), json!({"x": [1]})];
    for value_ in &odd {
        let (mut trivy, mut grype, mut vdr) = (value(TRIVY), value(GRYPE), value(VDR));
        for name in ["CVSS", "References", "PublishedDate", "PrimaryURL", "Layer", "PkgPath", "PkgID"] {
            trivy["Results"][0]["Vulnerabilities"][0][name] = value_.clone();
        }
        for name in ["cvss", "urls", "dataSource"] {
            grype["matches"][0]["vulnerability"][name] = value_.clone();
        }
        for name in ["locations", "upstreams"] {
            grype["matches"][0]["artifact"][name] = value_.clone();
        }
        for name in ["published", "source", "advisories"] {
            vdr["vulnerabilities"][0][name] = value_.clone();
        }
        vdr["components"][0]["evidence"] = value_.clone();
        for (report, issues) in [(trivy, 10), (grype, 7), (vdr, 5)] {
            assert_eq!(lookup(&[&report.to_string()]).issues.len(), issues, "{value_}");
        }
    }
}

/// Grace periods start at these times, so a future time must not extend them, and the earliest report counts.
#[test]
fn times_at_which_grace_periods_start() {
    let mut later = value(TRIVY);
    later["Results"][0]["Vulnerabilities"][2]["PublishedDate"] = json!("2027-01-01T00:00:00Z");
    assert_eq!(find(&lookup(&[&later.to_string()]), "CVE-2024-0002").published, None);

    let (mut whole, mut part) = (value(TRIVY), value(TRIVY));
    whole["CreatedAt"] = json!("2026-01-01T00:00:00Z");
    part["CreatedAt"] = json!("2026-02-01T00:00:00Z");
    part["Metadata"]["OS"]["EOSL"] = json!(true);
    let report = lookup(&[&whole.to_string(), &part.to_string()]);
    assert_eq!(report.source, "trivy 0.72.0");
    assert_eq!(find(&report, "CVE-2024-0001").first_seen, time("2026-01-01T00:00:00Z"));
    assert_eq!(find(&report, "CVE-2024-0001").packages.len(), 2, "each package once");
}

/// `name version purl licences`, with `-` for unknown values.
fn all_packages(report: &Report) -> Option<Vec<String>> {
    let line = |package: &crate::policy::ReportPackage| {
        let purl = package.purl.as_ref().map_or("-", Purl::as_str);
        format!(
            "{} {} {purl} {}",
            package.name,
            package.version,
            package.licences.iter().map(|licence| &*licence.written).collect::<Vec<_>>().join(" & ")
        )
    };
    report.packages.as_ref().map(|all| all.iter().map(line).collect())
}

#[test]
fn trivy_lists_all_packages_on_request() {
    let listed = |change: &dyn Fn(&mut Value)| {
        let mut trivy = value(TRIVY);
        trivy["Results"][0]["Packages"] = json!([{
            "ID": "openssl@3", "Name": "openssl", "Version": "3.0.11", "Release": "1", "Epoch": 1,
            "Identifier": {"PURL": "pkg:deb/debian/openssl@3.0.11-1?epoch=1"}, "Licenses": ["OpenSSL", "SSLeay"],
        }, {"ID": "x@1", "Name": "x", "Version": "1"}]);
        change(&mut trivy);
        all_packages(&lookup(&[&trivy.to_string()]))
    };
    let openssl = "openssl 1:3.0.11-1 pkg:deb/debian/openssl@3.0.11-1?epoch=1 OpenSSL & SSLeay".to_owned();
    assert_eq!(listed(&|_| {}), Some(vec![openssl, "x 1 - ".to_owned()]));
    for (why, change) in [
        (
            "one result lists none",
            (&|trivy: &mut Value| {
                let other = json!({"Class": "lang-pkgs", "Type": "npm", "Target": "package-lock.json"});
                trivy["Results"].as_array_mut().unwrap().push(other);
            }) as &dyn Fn(&mut Value),
        ),
        ("no list", &|trivy| drop(trivy["Results"][0].as_object_mut().unwrap().remove("Packages"))),
        ("a package without a name", &|trivy| trivy["Results"][0]["Packages"][1]["Name"] = json!("")),
        ("a package that is not a package", &|trivy| trivy["Results"][0]["Packages"][1] = json!("x")),
        ("licences that are none", &|trivy| trivy["Results"][0]["Packages"][1]["Licenses"] = json!([1])),
        ("too many packages", &|trivy| trivy["Results"][0]["Packages"] = json!(vec![json!({"Name": "x"}); 100_001])),
    ] {
        assert_eq!(listed(change), None, "{why}: it may be a banned one");
    }
}

/// A source package can have another version than the packages that are built from it.
#[test]
fn the_version_of_the_source_package_is_read() {
    let trivy = |source: Value| {
        let mut trivy = value(TRIVY);
        let mut gcc =
            json!({"Name": "gcc", "Version": "12.2.0", "Release": "3", "Epoch": 4, "SrcName": "gcc-defaults"});
        gcc.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        trivy["Results"][0]["Packages"] = json!([gcc]);
        trivy.to_string()
    };
    let bom = |properties: &[(&str, &str)], purl: &str| {
        let mut vdr = value(VDR);
        let property =
            |(name, text): &(&str, &str)| json!({"name": format!("aquasecurity:trivy:{name}"), "value": text});
        let properties: Vec<Value> = properties.iter().map(property).collect();
        let gcc =
            json!({"type": "library", "name": "gcc", "version": "4:12.2.0-3", "purl": purl, "properties": properties});
        vdr["components"].as_array_mut().unwrap().push(gcc);
        vdr["components"].as_array_mut().unwrap().push(json!({"type": "library", "name": "x", "version": "1"}));
        vdr.to_string()
    };
    let purl = "pkg:deb/debian/gcc@4:12.2.0-3";
    for (report, version) in [
        (trivy(json!({})), None),
        (trivy(json!({"SrcVersion": "1.203"})), Some("1.203")),
        (trivy(json!({"SrcVersion": "1.203", "SrcRelease": "2", "SrcEpoch": 1})), Some("1:1.203-2")),
        (trivy(json!({"Identifier": {"PURL": format!("{purl}?upstream=gcc-defaults%401.203")}})), Some("1.203")),
        (trivy(json!({"Identifier": {"PURL": format!("{purl}?upstream=other%401.203")}})), None),
        (bom(&[("SrcName", "gcc-defaults")], purl), None),
        (bom(&[("SrcName", "gcc-defaults"), ("SrcVersion", "1.203")], purl), Some("1.203")),
        (
            bom(&[("SrcName", "gcc-defaults"), ("SrcVersion", "1.203"), ("SrcRelease", "2"), ("SrcEpoch", "1")], purl),
            Some("1:1.203-2"),
        ),
    ] {
        let found = lookup(&[&report]);
        let gcc = found.packages.as_ref().unwrap().iter().find(|package| package.name == "gcc").unwrap();
        assert_eq!(gcc.source(), Some(("gcc-defaults", version)), "{gcc:?}");
    }
}

#[test]
fn cyclonedx_lists_components() {
    let mut vdr = value(VDR);
    assert_eq!(all_packages(&lookup(&[&vdr.to_string()])), None, "only what is affected may be listed");
    let components = vdr["components"].as_array_mut().unwrap();
    components.push(json!({
        "type": "library", "group": "@babel", "name": "core", "version": "7.0.0", "purl": "pkg:npm/%40babel/core@7.0.0",
        "licenses": [{"license": {"id": "MIT"}}, {"expression": "Apache-2.0 OR BSD-3-Clause"}],
    }));
    components.push(json!({"type": "operating-system", "name": "debian", "version": "12"}));
    let listed = all_packages(&lookup(&[&vdr.to_string()])).unwrap();
    let babel = "@babel/core 7.0.0 pkg:npm/%40babel/core@7.0.0 MIT & Apache-2.0 OR BSD-3-Clause";
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!((&*listed[2], listed[1].starts_with("left-pad 1.0.0")), (babel, true));
    vdr["components"][2]["licenses"][0] = json!({"license": {"text": {"content": "…"}}});
    assert_eq!(all_packages(&lookup(&[&vdr.to_string()])), None, "a licence that cannot be read");
    assert_eq!(all_packages(&lookup(&[GRYPE])), None);
}

/// The schema allows components within the subject, too.
#[test]
fn components_of_the_subject_are_packages_of_the_image() {
    let mut vdr = value(VDR);
    let banned = json!({"bom-ref": "e", "type": "library", "name": "evil", "version": "1", "purl": "pkg:npm/evil@1"});
    vdr["metadata"]["component"]["components"] = json!([{"type": "application", "name": "x", "components": [banned]}]);
    let listed = all_packages(&lookup(&[&vdr.to_string()])).unwrap();
    assert!(listed.contains(&"evil 1 pkg:npm/evil@1 ".to_owned()), "{listed:?}");
    vdr["vulnerabilities"][0]["affects"] = json!([{"ref": "e"}]);
    assert_eq!(packages(&lookup(&[&vdr.to_string()]), "CVE-2024-0001"), ["evil pkg:npm/evil@1 npm - - -"]);
    vdr["metadata"]["component"]["components"][0]["components"][0]["name"] = json!("");
    assert_eq!(all_packages(&lookup(&[&vdr.to_string()])), None, "it may be a banned one");
}

#[test]
fn a_list_of_packages_comes_from_reports_on_the_whole_image() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut trivy = value(TRIVY);
        trivy["Results"][0]["Packages"] = json!([{"Name": "openssl", "Version": "3"}]);
        change(&mut trivy);
        trivy.to_string()
    };
    let complete = with(&|_| {});
    let newer_part = with(&|trivy| {
        trivy["CreatedAt"] = json!("2026-03-01T07:00:00Z");
        trivy["Metadata"]["OS"]["EOSL"] = json!(true);
        trivy["Results"][0]["Packages"] = json!([{"Name": "bash", "Version": "5"}]);
    });
    let without = with(&|trivy| drop(trivy["Results"][0].as_object_mut().unwrap().remove("Packages")));
    assert_eq!(all_packages(&lookup(&[&complete, &newer_part])).map(|all| all.len()), Some(2));
    assert_eq!(all_packages(&lookup(&[&without, &newer_part])), None, "a list of a part");
    assert_eq!(
        all_packages(&lookup(&[&newer_part])).map(|all| all.len()),
        Some(1),
        "the report says that it is incomplete"
    );
}

#[test]
fn severities_by_source() {
    let ratings = |issue: &Issue| -> Vec<String> {
        issue.ratings.iter().map(|(source, severity)| format!("{source} {}", severity.as_str())).collect()
    };
    let mut trivy = value(TRIVY);
    let found = &mut trivy["Results"][0]["Vulnerabilities"][0];
    found["SeveritySource"] = json!("debian");
    found["VendorSeverity"] =
        json!({"nvd": 4, "redhat": 1, "Debian": 1, "Redhat": 2, "ghsa": 0, "odd": "x", "high": 9});
    found["CVSS"] = json!({"nvd": {"V3Score": 5.0, "V3Vector": V31}, "oracle": {"V3Score": 7.5, "V3Vector": V31}});
    trivy["Results"][0]["Vulnerabilities"].as_array_mut().unwrap().truncate(1);
    let report = lookup(&[&trivy.to_string()]);
    let issue = find(&report, "CVE-2024-0001");
    assert_eq!(issue.severity_source.as_deref(), Some("debian"));
    assert_eq!(ratings(issue), ["debian low", "nvd critical", "oracle high", "redhat medium"]);

    let mut grype = value(GRYPE);
    grype["matches"][0]["relatedVulnerabilities"][0]["severity"] = json!("Critical");
    grype["matches"][5]["vulnerability"]["namespace"] = json!("github:language:javascript");
    let report = lookup(&[&grype.to_string()]);
    let issue = find(&report, "CVE-2024-0001");
    assert_eq!(
        (issue.severity_source.as_deref(), &ratings(issue)[..]),
        (Some("debian"), &["nvd critical".to_owned()][..])
    );
    assert_eq!(find(&report, "GHSA-dddd-eeee-ffff").severity_source.as_deref(), Some("ghsa"));

    let report = lookup(&[VDR]);
    assert_eq!(ratings(find(&report, "CVE-2024-0001")), ["debian low", "nvd critical"]);
}

/// An issue in two packages has the worse severity of the two, and keeps what each source says.
#[test]
fn merged_findings_keep_every_rating() {
    let finding = |severity, source: &str, nvd| Issue {
        severity_source: Some(source.into()),
        ratings: [("nvd".to_owned(), nvd)].into(),
        ..Issue::new("CVE-1", IssueKind::Vulnerability, severity)
    };
    use Severity::{Critical, High, Low, Medium};
    let merged = document::issues([finding(High, "debian", Low), finding(Critical, "ghsa", Medium)]);
    assert_eq!((merged[0].severity, merged[0].severity_source.as_deref()), (Critical, Some("ghsa")));
    let expected = [("debian", High), ("ghsa", Critical), ("nvd", Medium)];
    assert_eq!(merged[0].ratings, expected.map(|(source, severity)| (source.to_owned(), severity)).into());
}

#[test]
fn reports_with_too_many_findings_are_rejected() {
    let (mut trivy, mut grype, mut vdr) = (value(TRIVY), value(GRYPE), value(VDR));
    let refused = |report: &Value| read(report).unwrap_err().contains("more than 100000 findings");
    trivy["Results"][0]["Vulnerabilities"] = json!(vec![json!({"VulnerabilityID": "CVE-1"}); 100_001]);
    assert!(refused(&trivy));
    let many =
        |count: usize, prefix: &str| (0..count).map(|n| json!({"id": format!("{prefix}{n}")})).collect::<Value>();
    grype["matches"][0]["relatedVulnerabilities"] = many(1000, "CVE-");
    assert!(refused(&grype), "1000 findings with 1000 names each");
    grype["matches"][0]["relatedVulnerabilities"] = many(100, "CVE-");
    assert!(read(&grype).is_ok());
    vdr["vulnerabilities"][0]["references"] = many(2000, "GHSA-");
    vdr["vulnerabilities"][0]["affects"] = json!(vec![json!({"ref": "nested"}); 600]);
    assert!(refused(&vdr));
}
