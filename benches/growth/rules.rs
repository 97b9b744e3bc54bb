//! Rule sets of many entries: how long one takes to be read, and how long the choice of an entry takes.

use std::hint::black_box;
use std::time::Instant;

use pullgate::oci::ImageName;
use pullgate::policy::{Document, NoMaterials, RuleSet, Selection, Settings, Subject};
use pullgate::scope::Scope;

/// Entries as people write them: a folder of a team, a repository of every registry, one tag.
fn document(entries: usize) -> Document {
    let mut text =
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: default}\nspec:\n  repositories:\n"
            .to_owned();
    for n in 0..entries {
        let name = match n % 10 {
            0 => format!("registry.acme.com/team-{n}/app:v{n}"),
            1 => format!("*/shared-{n}/*"),
            2 => format!("registry.acme.com/*/tool-{n}"),
            _ => format!("registry.acme.com/team-{n}/*"),
        };
        text.push_str(&format!("  - {{name: \"{name}\", policy: {{}}}}\n"));
    }
    Document { path: "bench.yaml".into(), text }
}

/// Milliseconds to read so many entries, and microseconds to choose one: for a name that one entry selects, and for one
/// that no entry selects.
pub(crate) fn measure(entries: usize) -> (f64, f64, f64) {
    let source = [document(entries)];
    let began = Instant::now();
    let rules = RuleSet::parse(&source, &NoMaterials, &Settings::default()).rules.unwrap();
    let reload = began.elapsed().as_secs_f64() * 1e3;
    let matched = subject("registry.acme.com", &format!("team-{}/app", entries - 1));
    assert!(matches!(rules.select(&matched), Selection::Entries { .. }));
    let unmatched = subject("registry.acme.com", "nobody/app");
    assert!(matches!(rules.select(&unmatched), Selection::Deny(_)));
    (reload, select(&rules, &matched), select(&rules, &unmatched))
}

fn select(rules: &RuleSet, subject: &Subject) -> f64 {
    let (rounds, began) = (200, Instant::now());
    for _ in 0..rounds {
        black_box(rules.select(black_box(subject)));
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
}

fn subject(host: &str, repository: &str) -> Subject {
    let name = ImageName { host: host.parse().unwrap(), repository: repository.parse().unwrap() };
    Subject::new(name, "1.27".parse().unwrap(), Scope::CLUSTER)
}
