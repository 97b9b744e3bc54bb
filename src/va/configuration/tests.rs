use std::collections::BTreeSet;

use super::*;
use crate::oci::Digest;

const DOCUMENT: &str = include_str!("../../../docs/configuration-issues.md");

#[test]
fn the_document_lists_all_checks() {
    let row = |text: &CheckText| {
        format!("| `{}` | {} | {} | {} |", text.id(), text.severity.as_str(), text.practice, text.action)
    };
    let rows: Vec<String> = checks().map(row).collect();
    let documented: Vec<&str> =
        DOCUMENT.lines().filter(|line| line.starts_with("| `application_configuration:")).collect();
    assert_eq!(documented, rows, "docs/configuration-issues.md");
}

#[test]
fn policies_know_the_identifiers_of_all_checks() {
    let ids: Vec<String> = checks().map(CheckText::id).collect();
    assert_eq!(crate::policy::CONFIGURATION_CHECKS, ids);
}

#[test]
fn each_check_has_one_text() {
    let texts: Vec<&CheckText> = checks().collect();
    let distinct: BTreeSet<_> = texts.iter().map(|text| text.check).collect();
    let names: BTreeSet<_> = texts.iter().map(|text| text.name).collect();
    assert_eq!((distinct.len(), names.len()), (texts.len(), texts.len()));
    assert!(texts.is_sorted_by_key(|text| text.check));
    // The last check of the type: with the order above, none is left out.
    assert_eq!(texts.len(), HardeningCheck::SshPrivateKey as usize + 1);
}

#[test]
fn findings_become_one_issue_for_each_check() {
    let finding = |check, path: Option<&str>, line, detail: &str| HardeningFinding {
        check,
        path: path.map(str::to_owned),
        line,
        detail: detail.into(),
        layer: path.map(|_| Digest::sha256(b"layer")),
    };
    let found = issues(&[
        finding(HardeningCheck::SecretGithub, Some("app/a"), Some(3), "GitHub token"),
        finding(HardeningCheck::SecretGithub, Some("app/b"), None, ""),
        finding(HardeningCheck::ImageUser, None, None, "User is not set, which means root"),
    ]);
    let [user, token] = &found[..] else { panic!("{found:?}") };
    assert_eq!(user.id, "application_configuration:image.user");
    assert_eq!(user.packages[0].name, "the image's configuration");
    assert_eq!(user.packages[0].detail.as_deref(), Some("User is not set, which means root"));
    assert_eq!(token.id, "application_configuration:secret.github");
    assert_eq!(token.kind, IssueKind::Configuration);
    assert!(token.is_fixable() && token.corrective_action.is_some() && token.title.is_some());
    assert_eq!(token.severity_source.as_deref(), Some(OWN_CHECKS));
    let places: Vec<_> = token.packages.iter().map(|place| (&*place.name, place.detail.as_deref())).collect();
    assert_eq!(places, [("app/a", Some("line 3: GitHub token")), ("app/b", None)]);
    assert_eq!(token.packages[0].layer, Some(Digest::sha256(b"layer")));
}

#[test]
fn configurations_are_read_as_clients_do() {
    let read = |text: &str| parse(text.as_bytes());
    let full = r#"{"os": "linux", "config": {"User": "app:app", "Env": ["A=b"], "Entrypoint": ["/a"], "Cmd": ["b"],
        "ExposedPorts": {"22/tcp": {}}}, "history": [{"created_by": "ENV A=b"}, {"empty_layer": true}]}"#;
    let wanted = ImageSettings {
        os: "linux".into(),
        user: "app:app".into(),
        env: vec!["A=b".into()],
        command: vec!["/a".into(), "b".into()],
        exposed_ports: vec!["22/tcp".into()],
        history: vec!["ENV A=b".into(), String::new()],
    };
    assert_eq!(read(full), Ok(wanted));
    let root =
        |text: &str| findings(read(text), &Superusers::new()).into_iter().map(|found| found.check).collect::<Vec<_>>();
    for text in ["{}", r#"{"config": null}"#, r#"{"config": {"User": "", "Env": null}}"#] {
        assert_eq!(root(text), [HardeningCheck::ImageUser], "{text}");
    }
    for text in [
        "no JSON",
        "[]",
        r#"{"config": {"User": 0}}"#,
        r#"{"config": {"User": "app", "user": "root"}}"#,
        r#"{"config": {"User": "app", "User": "root"}}"#,
        r#"{"config": {"Env": "A=b"}}"#,
        r#"{"config": {"Env": [1]}}"#,
    ] {
        assert_eq!(root(text), [HardeningCheck::ImageUnreadable], "{text}");
    }
}
