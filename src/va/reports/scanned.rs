//! Reports that a scanner made about one image on request, as opposed to those that are found in a directory.

use jiff::Timestamp;

use super::document::{self, ImageNames, InvalidReport, ReportFinding, ScannerReport, issues};
use super::harbor;
use crate::oci::Digest;
use crate::policy::{ImageFacts, Issue, Report, known_time};

/// The image that a scanner was asked about.
#[derive(Clone, Debug)]
pub(in crate::va) struct ReportTarget {
    pub(in crate::va) manifest: Digest,
    /// The configuration, whose layers are proven to be those of the manifest.
    pub(in crate::va) config: Digest,
    /// Whether issues that the scanner was told to ignore are exempt.
    pub(in crate::va) honour_ignores: bool,
    /// The current time.
    pub(in crate::va) now: Timestamp,
    /// When the scanner's database was built, if that is known.
    pub(in crate::va) built: Option<Timestamp>,
}

/// Parses the output of a program.
///
/// # Errors
/// If it is not a report of a known format, or is about anything but this image.
pub(in crate::va) fn scanned_report(bytes: &[u8], image: &ReportTarget) -> Result<Report, String> {
    let file = document::parse(bytes).map_err(|error| error.to_string())?;
    let assessment = file.assessment.ok_or("it lists no findings of a scanner")?;
    image.check(&file.image).map_err(|error| error.to_string())?;
    Ok(image.report(assessment))
}

/// Parses the report of a service with the API of Harbor's scanners.
///
/// # Errors
/// If it is no such report, or is about anything but this image.
pub(in crate::va) fn harbor_report(bytes: &[u8], image: &ReportTarget) -> Result<Report, String> {
    let (about, assessment) = harbor::parse(bytes).map_err(|error| error.to_string())?;
    if about != image.manifest {
        return Err(format!("it is about {about}"));
    }
    Ok(image.report(assessment))
}

impl ReportTarget {
    /// Every digest by which a report names its image must be one of this image.
    fn check(&self, names: &ImageNames) -> Result<(), InvalidReport> {
        let other = names.own.iter().find(|digest| ![self.manifest, self.config].contains(digest));
        match (other, names.own.is_empty()) {
            (Some(other), _) => Err(InvalidReport::new(format!("it is about {other}"))),
            (None, true) => Err(InvalidReport::new("it does not say which image it is about")),
            (None, false) => Ok(()),
        }
    }

    fn report(&self, assessment: ScannerReport) -> Report {
        let ScannerReport { source, generated_at, incomplete, data_of, findings, packages, system } = assessment;
        let known = |at: Timestamp| known_time(at, self.now);
        let made = generated_at.and_then(known);
        let issue = |ReportFinding { issue, ignored, stated }: ReportFinding| {
            let is_ignored = self.honour_ignores && ignored;
            // As for reports in a directory: a time that is not known is the earliest.
            let since = stated.map_or(made, known).unwrap_or(Timestamp::MIN);
            Issue {
                exempt: issue.exempt || is_ignored,
                exempt_since: (issue.exempt && !is_ignored).then_some(since),
                published: issue.published.and_then(known),
                ..issue
            }
        };
        // What the scanner knew is as old as its database.
        let generated_at = made.map(|made| [data_of, self.built].into_iter().flatten().fold(made, Timestamp::min));
        let database_built = [data_of, self.built].into_iter().flatten().min();
        Report {
            source,
            generated_at,
            issues: issues(findings.into_iter().map(issue)),
            incomplete,
            is_only_past_support: system.is_past_support,
            image: ImageFacts {
                database_built,
                end_of_life: system.end_of_life(made.unwrap_or(self.now)),
                has_ended_before: system.is_past_support,
                distribution: system.distribution,
                ..ImageFacts::default()
            },
            packages,
            ..Report::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Severity;

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    fn image() -> ReportTarget {
        ReportTarget {
            manifest: digest('a'),
            config: digest('b'),
            honour_ignores: false,
            now: "2026-11-26T12:00:00Z".parse().unwrap(),
            built: Some("2026-11-25T00:00:00Z".parse().unwrap()),
        }
    }

    fn trivy(id: &str) -> Value {
        json!({
            "SchemaVersion": 2, "Trivy": {"Version": "0.72.0"}, "CreatedAt": "2026-11-26T11:00:00Z",
            "ArtifactName": "/var/lib/pullgate/scans/image-x/image", "ArtifactType": "container_image",
            "Metadata": {"OS": {"Family": "debian", "Name": "12.5"}, "ImageID": id},
            "Results": [{"Class": "os-pkgs", "Type": "debian", "Packages": [{"ID": "openssl@3"}], "Vulnerabilities": [
                {"VulnerabilityID": "CVE-2024-1", "PkgName": "openssl", "Severity": "HIGH"}
            ]}]
        })
    }

    #[test]
    fn a_report_is_about_the_image_that_was_scanned() {
        let read = |report: &Value| scanned_report(report.to_string().as_bytes(), &image());
        let report = read(&trivy(&digest('b').to_string())).unwrap();
        assert_eq!((&*report.source, report.issues.len()), ("trivy 0.72.0", 1));
        assert_eq!(report.generated_at, image().built, "it knows no more than its database");
        assert!(read(&trivy(&digest('a').to_string())).is_ok());
        let other = read(&trivy(&digest('c').to_string())).unwrap_err();
        assert!(other.contains(&digest('c').to_string()), "{other}");
        let mut listed = trivy("");
        listed["Metadata"]["RepoDigests"] = json!([format!("team/app@{}", digest('a'))]);
        assert!(read(&listed).unwrap_err().contains("does not say"), "a list of names proves nothing");
        let mut both = trivy(&digest('b').to_string());
        both["ArtifactName"] = json!(format!("team/other@{}", digest('d')));
        assert!(read(&both).is_err(), "it names another image, too");
        let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "author": "x", "version": 1,
            "timestamp": "2026-01-01T00:00:00Z", "statements": []});
        assert!(read(&vex).is_err());
    }

    #[test]
    fn the_end_of_support_is_known_of_what_was_scanned() {
        for (os, end, says_ended) in [
            (json!({"Family": "debian", "Name": "9"}), Some("2022-06-30T23:59:59Z"), false),
            (json!({"Family": "debian", "Name": "9", "EOSL": true}), Some("2022-06-30T23:59:59Z"), true),
            (json!({"Family": "debian", "Name": "13", "EOSL": true}), Some("2026-11-26T11:00:00Z"), true),
            (json!({"Family": "wolfi", "Name": "20230201"}), None, false),
        ] {
            let mut text = trivy(&digest('b').to_string());
            text["Metadata"]["OS"] = os;
            text["Results"][0]["Type"] = Value::Null;
            let facts = scanned_report(text.to_string().as_bytes(), &image()).unwrap().image;
            assert_eq!(facts.end_of_life.map(|at| at.to_string()).as_deref(), end, "{text}");
            assert_eq!(facts.has_ended_before, says_ended, "{text}");
        }
    }

    fn harbor(about: Digest) -> Value {
        json!({
            "generated_at": "2026-11-26T11:00:00Z", "severity": "High",
            "artifact": {"repository": "team/app", "digest": about},
            "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "0.72.0"},
            "vulnerabilities": [{
                "id": "CVE-2024-1", "package": "openssl", "version": "3.0.11", "fix_version": "3.0.13",
                "severity": "High", "description": "A flaw.\nMore about it.",
                "links": ["https://example.com/CVE-2024-1", 7],
                "preferred_cvss": {"score_v3": 7.5, "vector_v3": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}
            }, {"id": "CVE-2024-1", "package": "libssl3", "version": "3.0.11", "severity": "Urgent"}]
        })
    }

    #[test]
    fn a_report_of_harbors_scanners_is_read() {
        let report = harbor_report(harbor(digest('a')).to_string().as_bytes(), &image()).unwrap();
        assert_eq!(report.source, "Trivy 0.72.0");
        let [issue] = &report.issues[..] else { panic!("{report:?}") };
        assert_eq!((&*issue.id, issue.severity), ("CVE-2024-1", Severity::Unknown), "an unknown word is not harmless");
        assert_eq!((issue.packages.len(), issue.packages[0].fixed.as_deref()), (2, Some("3.0.13")));
        assert_eq!((issue.title.as_deref(), issue.references.len()), (Some("A flaw."), 1));
        assert!(issue.score.as_ref().is_some_and(|score| score.value() == 7.5));
    }

    #[test]
    fn a_fix_that_cannot_be_read_is_a_fix() {
        for (fix, package, expected) in [
            (json!("3.0.13"), json!("openssl"), Some("3.0.13")),
            (json!(""), json!("openssl"), None),
            (Value::Null, json!("openssl"), None),
            (json!(4), json!("openssl"), Some("a later version")),
            (json!(["3.0.13"]), json!(""), Some("a later version")),
        ] {
            let mut report = harbor(digest('a'));
            report["vulnerabilities"] = json!([{"id": "CVE-1", "package": package, "fix_version": fix}]);
            let report = harbor_report(report.to_string().as_bytes(), &image()).unwrap();
            assert_eq!(report.issues[0].packages[0].fixed.as_deref(), expected, "{fix}");
        }
    }

    #[test]
    fn reports_on_other_images_are_errors() {
        let read = |report: &Value| harbor_report(report.to_string().as_bytes(), &image()).map(|report| report.issues);
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut report = harbor(digest('a'));
            change(&mut report);
            read(&report)
        };
        assert!(read(&harbor(digest('c'))).unwrap_err().contains("is about"));
        assert_eq!(
            changed(&|r| {
                r["vulnerabilities"] = Value::Null;
                r["severity"] = json!("Unknown");
            }),
            Ok(vec![])
        );
        for (why, change) in [
            ("no artifact", (&|r: &mut Value| r["artifact"] = Value::Null) as &dyn Fn(&mut Value)),
            ("no digest", &|r| r["artifact"] = json!({"repository": "team/app"})),
            ("no list", &|r| drop(r.as_object_mut().unwrap().remove("vulnerabilities"))),
            ("another type", &|r| r["vulnerabilities"] = json!({})),
            ("a list in other letters", &|r| r["Vulnerabilities"] = json!([])),
            ("a key in other letters", &|r| r["vulnerabilities"][0]["Severity"] = json!("Low")),
            ("a digest in other letters", &|r| r["artifact"]["Digest"] = json!(digest('b'))),
            ("a score in other letters", &|r| r["vulnerabilities"][0]["preferred_cvss"]["Score_V3"] = json!(1.0)),
            ("a severity of nothing", &|r| r["vulnerabilities"] = json!([])),
            ("no identifier", &|r| r["vulnerabilities"][0]["id"] = json!("")),
            ("an error", &|r| *r = json!({"error": {"message": "x"}})),
            ("a list", &|r| *r = json!([])),
        ] {
            assert!(changed(change).is_err(), "{why}");
        }
    }
}
