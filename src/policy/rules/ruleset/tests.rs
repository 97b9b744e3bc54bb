use std::time::{Duration, Instant};

use super::*;
use crate::oci::{Digest, ImageReference};
use crate::policy::{Document, NoMaterials, Settings};
use crate::scope::Scope;

fn rules(documents: &[(&str, &[&str])]) -> RuleSet {
    let mut text = String::new();
    for (i, (namespace, names)) in documents.iter().enumerate() {
        let kind = if namespace.is_empty() { "ClusterImagePolicy" } else { "ImagePolicy" };
        text.push_str(&format!("---\napiVersion: portieris.cloud.ibm.com/v1\nkind: {kind}\nmetadata:\n  name: d{i}\n"));
        if !namespace.is_empty() {
            text.push_str(&format!("  namespace: {namespace}\n"));
        }
        text.push_str("spec:\n  repositories:\n");
        names.iter().for_each(|name| text.push_str(&format!("  - name: \"{name}\"\n")));
    }
    let parsed = RuleSet::parse(&[Document { path: "t.yaml".into(), text }], &NoMaterials, &Settings::default());
    parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems))
}

fn subject(image: &str, namespace: &str, tags: &[&str]) -> Subject {
    let reference: ImageReference = image.parse().unwrap();
    let asked = reference.reference();
    let mut subject = Subject::new(reference.name, asked, namespace.parse().unwrap());
    subject.known_tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    subject
}

fn chosen(rules: &RuleSet, subject: &Subject) -> Vec<String> {
    match rules.select(subject) {
        Selection::Entries { enforced, .. } => enforced.iter().map(|entry| entry.entry.to_string()).collect(),
        Selection::Deny(message) => vec![message],
    }
}

#[test]
fn most_specific_wins_then_the_first() {
    for (names, image, winner) in [
        (&["*", "icr.io/*", "icr.io/a/*"][..], "icr.io/a/b:v1", "icr.io/a/*"),
        (&["icr.io/a/b*v1", "icr.io/a/b:*1"], "icr.io/a/b:v1", "icr.io/a/b*v1"),
        (&["icr.io/*/b:v1", "icr.io/a/b"], "icr.io/a/b:v1", "icr.io/*/b:v1"),
        (&["icr.io/a/b:*", "icr.io/a/b"], "icr.io/a/b:v1", "icr.io/a/b:*"),
        (&["icr.io/a/b:*t*e*", "icr.io/a/b"], "icr.io/a/b", "icr.io/a/b"),
        (&["*", "nginx"], "nginx", "nginx"),
        (&["*", "docker.io/nginx"], "docker.io/library/nginx:v1", "docker.io/nginx"),
        (&["*", "index.docker.io/library/nginx"], "nginx:v1", "index.docker.io/library/nginx"),
        (&["*", "library/nginx"], "nginx:v1", "library/nginx"),
        (&["*", "acme/*"], "docker.io/acme/app", "acme/*"),
        (&["*", "nginx:1.*"], "docker.io/library/nginx:1.27", "nginx:1.*"),
        (&["*", "DOCKER.io/library/nginx"], "nginx:v1", "DOCKER.io/library/nginx"),
    ] {
        assert_eq!(chosen(&rules(&[("", names)]), &subject(image, "", &[])), [winner], "{names:?} {image}");
    }
}

/// `docker.io/icr.io/x` is an image on Docker Hub, even if its path looks like another registry.
#[test]
fn docker_hub_path_does_not_match_another_registry() {
    let rules = rules(&[("", &["icr.io/*"])]);
    let name = ImageName { host: "docker.io".parse().unwrap(), repository: "icr.io/x".parse().unwrap() };
    let subject = Subject::new(name, Reference::Tag(Tag::latest()), Scope::CLUSTER);
    assert!(matches!(rules.select(&subject), Selection::Deny(_)));
}

#[test]
fn a_namespace_with_a_policy_uses_only_its_own() {
    let rules = rules(&[("", &["*"]), ("prod", &["icr.io/*"]), ("empty", &[])]);
    assert_eq!(chosen(&rules, &subject("icr.io/a", "prod", &[])), ["icr.io/*"]);
    assert_eq!(chosen(&rules, &subject("icr.io/a", "dev", &[])), ["*"]);
    assert_eq!(chosen(&rules, &subject("icr.io/a", "", &[])), ["*"]);
    for namespace in ["prod", "empty"] {
        assert_eq!(
            chosen(&rules, &subject("quay.io/a", namespace, &[])),
            ["Deny \"quay.io/a:latest\", no matching repositories in the ImagePolicies"]
        );
    }
}

#[test]
fn denials_use_the_messages_of_portieris() {
    let none = RuleSet::default();
    assert_eq!(
        chosen(&none, &subject("a.io/b:v1", "x", &[])),
        ["Deny \"a.io/b:v1\", no image policies or cluster polices"]
    );
    let rules = rules(&[("", &["icr.io/*"])]);
    assert_eq!(
        chosen(&rules, &subject("a.io/b:v1", "x", &[])),
        [
            "Deny \"a.io/b:v1\", no matching repositories in ClusterImagePolicy and no ImagePolicies in the \"x\" namespace"
        ]
    );
}

#[test]
fn digests_match_by_repository_and_by_known_tags() {
    let hex = Digest::sha256(b"x").to_string();
    let image = format!("icr.io/a@{hex}");
    let choose = |names: &[&str], tags: &[&str]| chosen(&rules(&[("", names)]), &subject(&image, "", tags));
    assert_eq!(choose(&["icr.io/a", "*"], &[]), ["icr.io/a"]);
    assert_eq!(choose(&["icr.io/a:v1", "*"], &[]), ["*"]);
    assert_eq!(choose(&["icr.io/a:v1", "icr.io/*"], &["v1", "v2"]), ["icr.io/a:v1", "icr.io/*"]);
    assert_eq!(choose(&["icr.io/a:v1", "icr.io/a:latest"], &["v1", "latest"]).len(), 2);
    // No tag is implied, and a reference by tag does not have other tags.
    assert!(choose(&["icr.io/a:latest"], &[])[0].starts_with("Deny"));
    let tagged = chosen(&rules(&[("", &["icr.io/a:v1", "*"])]), &subject("icr.io/a:v2", "", &["v1"]));
    assert_eq!(tagged, ["*"]);
    // An entry for exactly this digest applies alone.
    let exact = format!("icr.io/a@{hex}");
    assert_eq!(choose(&["icr.io/*", &exact], &["v1"]), [&*exact]);
}

#[test]
fn thousands_of_entries_are_searched_quickly() {
    let names: Vec<String> = (0..5000).map(|i| format!("registry{i}.acme.com/team/*")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = rules(&[("", &names)]);
    let subject = subject("nginx:v1", "", &[]);
    let begin = Instant::now();
    for _ in 0..100 {
        assert!(matches!(rules.select(&subject), Selection::Deny(_)));
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

proptest::proptest! {
    /// The index must find the same entry as a search through all entries.
    #[test]
    fn index_finds_the_same_entry_as_a_full_search(
        names in proptest::collection::vec("(\\*|[Ab]\\.io)(/[ab*]{1,3}){0,2}(:[12*]{1,2})?", 40..120),
        image in "[ab]\\.io/[ab]{1,3}(/[ab]{1,2})?(:[12]{1,2})?",
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rules = rules(&[("", &names)]);
        let entries = &rules.enforced.cluster;
        proptest::prop_assert!(entries.index.is_some());
        let without = Entries { index: None, ..entries.clone() };
        let subject = subject(&image, "", &[]);
        let position = |entries: &Entries| entries.winner(&own_spellings(&subject)).map(|hit| (hit.at, hit.exact));
        proptest::prop_assert_eq!(position(entries), position(&without));
    }
}

/// An audited document is a preview: it changes what is recorded, but not what is enforced.
#[test]
fn audited_entries_are_separate_from_enforced_ones() {
    let document = |kind: &str, name: &str, namespace: &str, mode: &str, entry: &str| {
        let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
        format!(
            "---\napiVersion: pullgate.io/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
             spec: {{mode: {mode}, repositories: [{{name: \"{entry}\"}}]}}\n"
        )
    };
    let text = [
        document("ClusterImagePolicy", "all", "", "enforce", "*"),
        document("ClusterImagePolicy", "library", "", "audit", "docker.io/library/*"),
        document("ImagePolicy", "own", "prod", "audit", "icr.io/*"),
        document("ImagePolicy", "own", "bank", "enforce", "quay.io/*"),
    ];
    let parsed =
        RuleSet::parse(&[Document { path: "t.yaml".into(), text: text.concat() }], &NoMaterials, &Settings::default());
    let rules = parsed.rules.unwrap_or_else(|| panic!("{:?}", parsed.problems));
    let names = |list: &[Selected]| list.iter().map(|one| one.entry.to_string()).collect::<Vec<_>>().join(" ");
    for (image, namespace, wanted) in [
        ("nginx:v1", "", Some(("*", "docker.io/library/*"))),
        ("icr.io/a", "", Some(("*", ""))),
        ("icr.io/a", "prod", Some(("*", "icr.io/*"))),
        ("nginx:v1", "prod", Some(("*", ""))),
        ("nginx:v1", "bank", None),
        ("quay.io/a", "bank", Some(("quay.io/*", ""))),
    ] {
        let found = match rules.select(&subject(image, namespace, &[])) {
            Selection::Entries { enforced, audited } => Some((names(&enforced), names(&audited))),
            Selection::Deny(_) => None,
        };
        let wanted = wanted.map(|(enforced, audited)| (enforced.to_owned(), audited.to_owned()));
        assert_eq!(found, wanted, "{image} {namespace}");
    }
}
