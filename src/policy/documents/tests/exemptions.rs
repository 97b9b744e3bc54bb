//! Exemptions: of documents, and of Trivy's ignore files.

use super::*;

fn exemption(spec: &str) -> String {
    format!("apiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {{name: x}}\nspec: {{{spec}}}\n")
}

#[test]
fn exemptions_are_read_with_all_their_fields() {
    let text = exemption(
        "scope: us.icr.io/birds/bluebird, issueType: cve, issueId: CVE-2024-1, package: openssl, \
         expires: 2026-12-31, reason: not reachable, by: ann",
    );
    let parsed = parse(&[&text, &policy("pullgate", "{name: '*'}")]);
    let rules = parsed.rules.unwrap_or_else(|| panic!("{:#?}", parsed.problems));
    let found: Vec<_> = rules.exemptions().iter().collect();
    let [record] = found[..] else { panic!("{found:?}") };
    assert_eq!(record.to_string(), "cve CVE-2024-1 in openssl, scope us.icr.io/birds/bluebird");
    assert_eq!(record.expires, Some("2026-12-31T00:00:00Z".parse().unwrap()));
    let texts = [&record.reason, &record.by].map(|text| text.as_deref());
    assert_eq!((texts, record.document.as_deref()), ([Some("not reachable"), Some("ann")], Some("Exemption/x")));
    assert_eq!(parsed.files.iter().map(|file| file.policies).collect::<Vec<_>>(), [1, 1]);
    let list = format!(
        "apiVersion: pullgate.io/v1\nkind: ExemptionList\nitems:\n- {{metadata: {{name: a}}, spec: {{{}}}}}\n",
        "scope: '*', issueType: package, package: 'pkg:deb/debian/openssl'"
    );
    assert_eq!(parse(&[&list]).rules.unwrap().exemptions().len(), 1);
}

#[test]
fn mistakes_in_exemptions_are_errors_with_places() {
    let good = "scope: birds, issueType: cve, issueId: CVE-2024-1";
    for (spec, message) in [
        ("issueType: cve, issueId: CVE-2024-1", "scope of spec is missing"),
        ("scope: birds, issueId: CVE-2024-1", "issueType of spec is missing"),
        ("scope: birds, issueType: cve", "the issue is missing"),
        ("scope: birds, issueType: package", "needs a package"),
        ("scope: birds, issueType: package, issueId: CVE-2024-1, package: x", "every vulnerability of a package"),
        ("scope: 'birds:v1', issueType: cve, issueId: CVE-2024-1", "NAMESPACE/REPOSITORY:TAG"),
        ("scope: birds, issueType: rpm, issueId: x", "the type is cve"),
        ("scope: birds, issueType: sn, issueId: CVE-2024-1", "a CVE has the type cve"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, package: 'pkg:x'", "not a package URL"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: 30d", "the end is a date"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expire: 2026-12-31", "did you mean \"expires\""),
        ("scope: birds, issueType: cve, issueId: [CVE-2024-1]", "must be text"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: 5", "must be text"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: ", "expires is empty"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, package: ~", "package is empty"),
        ("scope: birds, issueType: cve, issueId: 'CVE-2024-*'", "no pattern"),
        ("scope: birds, issueType: package, package: 'openssl*'", "a package is not a pattern"),
        ("scope: birds, issueType: package, package: 'pkg:deb/debian/openssl@<3.0.12'", "has no range of versions"),
        ("scope: birds, issueType: configuration, issueId: CVE-2024-1", "have the type cve or sn"),
        ("scope: birds, issueType: sn, issueId: 'application_configuration:x'", "has the type configuration"),
    ] {
        let parsed = parse(&[&exemption(spec)]);
        let said = parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(parsed.rules.is_none() && said.contains(message) && said.contains("0.yaml:4:"), "{spec}: {said}");
    }
    let other = |from: &str, to: &str| said(&exemption(good).replace(from, to));
    assert_eq!(said(&exemption(good)), "");
    assert!(other("{name: x}", "{name: x, namespace: prod}").contains("not in a Kubernetes namespace"));
    assert!(other("kind: Exemption", "kind: Exemptions").contains("unknown kind"));
    assert!(other("name: x", "labels: {}").contains("name of metadata is missing"));
    assert!(other("pullgate.io/v1", "portieris.cloud.ibm.com/v1").contains("unknown kind"));
    let twice = parse(&[&exemption(good), &exemption(good).replace("name: x", "name: other")]);
    let problems: Vec<_> = twice.problems.iter().map(ToString::to_string).collect();
    assert!(twice.rules.is_none() && problems[0].contains("exempts the same as Exemption/x"), "{problems:?}");
    let namesakes = parse(&[&exemption(good), &exemption(good).replace("CVE-2024-1", "CVE-2024-2")]);
    let problems: Vec<_> = namesakes.problems.iter().map(ToString::to_string).collect();
    assert!(namesakes.rules.is_some() && problems[0].contains("a cluster keeps only one of them"), "{problems:?}");
    let settings = Settings { now: Some("2027-01-01T00:00:00Z".parse().unwrap()), ..Settings::default() };
    let document = Document { path: "a.yaml".into(), text: exemption(&format!("{good}, expires: 2026-12-31")) };
    let parsed = RuleSet::parse(&[document], &NoMaterials, &settings);
    assert!(parsed.rules.is_some() && parsed.problems[0].to_string().contains("has no effect: it ended on 2026-12-31"));
}

/// Files of the configuration, by their paths.
struct IgnoreFiles(Vec<(&'static str, &'static str)>);

impl Materials for IgnoreFiles {
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".into())
    }

    fn folder(&self, _: &str, _: &str) -> Result<Vec<OsString>, String> {
        Err("no folder".into())
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The exemptions of one ignore file, sorted, or the problems.
fn ignored(path: &'static str, text: &'static str) -> Result<Vec<String>, String> {
    let settings = Settings { ignore_files: vec![path.into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(vec![(path, text)]), &settings);
    let Some(rules) = parsed.rules else {
        return Err(parsed.problems.iter().map(|problem| format!("{problem}\n")).collect());
    };
    let shown = |record: &Arc<crate::policy::ExemptionRecord>| {
        assert_eq!(record.document.as_deref(), Some(path));
        let end = record.expires.map(|end| format!(" until {end}")).unwrap_or_default();
        let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{record}{end}{reason}")
    };
    let mut all: Vec<_> = rules.exemptions().iter().map(shown).collect();
    all.sort();
    Ok(all)
}

#[test]
fn ignore_files_of_trivy_are_read() {
    let text = "# accepted\n\nCVE-2024-1\n  CVE-2024-2 exp:2026-12-31 # not reachable\nX-1 # two kinds\n";
    let expected = [
        "configuration X-1, scope * (two kinds)",
        "cve CVE-2024-1, scope *",
        "cve CVE-2024-2, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "sn X-1, scope * (two kinds)",
    ];
    assert_eq!(ignored(".trivyignore", text).unwrap(), expected);
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  paths: [usr/lib/python3/**, 'app/{a,b}/*']\n  purls: ['pkg:pypi/x']\n  \
                expired_at: 2026-12-31\n  statement: not reachable\n- id: GHSA-1\nmisconfigurations:\n- id: AVD-DS-0002\n\
                secrets:\n- id: jwt-token\n";
    let expected = [
        "configuration AVD-DS-0002, scope *",
        "configuration jwt-token, scope *",
        "cve CVE-2024-1 in pkg:pypi/x at app/{a,b}/*, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "cve CVE-2024-1 in pkg:pypi/x at usr/lib/python3/**, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "sn GHSA-1, scope *",
    ];
    assert_eq!(ignored("a/.trivyignore.yaml", text).unwrap(), expected);
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  statement: |\n    not reachable,\n    see the ticket\n";
    assert_eq!(ignored("i.yaml", text).unwrap(), ["cve CVE-2024-1, scope * (not reachable, see the ticket)"]);
    assert_eq!(ignored(".trivyignore", "GHSA-1\n").unwrap(), ["sn GHSA-1, scope *"]);
    // Trivy looks for an end in all words.
    let text = "CVE-2024-1 # until exp:2020-01-01 by ann\n";
    let expected = ["cve CVE-2024-1, scope * until 2020-01-01T00:00:00Z (until exp:2020-01-01 by ann)"];
    assert_eq!(ignored(".trivyignore", text).unwrap(), expected);
    assert_eq!(ignored(".trivyignore", "").unwrap(), Vec::<String>::new());
    assert_eq!(ignored(".trivyignore.yml", "vulnerabilities: []\n").unwrap(), Vec::<String>::new());
}

#[test]
fn an_absolute_path_does_not_match_in_trivys_notation() {
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  paths: [/usr/lib/x]\n";
    let settings = Settings { ignore_files: vec!["i.yaml".into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(vec![("i.yaml", text)]), &settings);
    let said: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(parsed.rules.is_some() && said.len() == 1, "{said:?}");
    assert!(
        said[0].contains("warning: \"/usr/lib/x\" matches no path") && said[0].contains("write usr/lib/x"),
        "{said:?}"
    );
}

/// Trivy ignores what it does not know, and then exempts more than the author of the file meant.
#[test]
fn mistakes_in_ignore_files_are_errors_with_places() {
    for (path, text, message) in [
        (".trivyignore", "\nCVE-2024-1 exp:tomorrow\n", ".trivyignore:2:1: error: \"exp:tomorrow\""),
        (".trivyignore", "CVE-2024-1 expires:2026-12-31\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 CVE-2024-2\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 exp:2026-12-31 exp:2027-12-31\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 # exp:soon\n", "\"exp:soon\": "),
        (".trivyignore", "CVE-2024-1#why\n", "error: \"CVE-2024-1#why\""),
        (".trivyignore", "*\n", "an issue is one word"),
        ("i.yaml", "vulnerabilities:\n- id: CVE-2024-1\n  path: [a]\n", "i.yaml:3:3: error: unknown key \"path\""),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: []}\n", "a non-empty list of strings"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: ['!a']}\n", "does not start with !"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: ['a{b']}\n", "a path is a pattern"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, purls: [openssl]}\n", "not a package URL"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, purls: [5]}\n", "must be a non-empty list of strings"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, expired_at: 5}\n", "must be text"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, expired_at: soon}\n", "the end is a date"),
        ("i.yaml", "vulnerabilities:\n- {statement: x}\n", "id of an entry is missing"),
        ("i.yaml", "vulnerability: []\n", "unknown key"),
        (
            "i.yaml",
            "vulnerabilities: []\n---\nvulnerabilities: []\n",
            "i.yaml:3:1: error: Trivy reads only the first document",
        ),
    ] {
        let problems = ignored(path, text).unwrap_err();
        assert!(problems.contains(message), "{text}: {problems}");
    }
    let settings = Settings { ignore_files: vec!["absent".into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(Vec::new()), &settings);
    assert!(parsed.rules.is_none() && parsed.problems[0].to_string().contains("va.ignore_files: no such file"));
}
