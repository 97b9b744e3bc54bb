//! What is said about rules that decide nothing or only deny.

use super::*;
use crate::policy::EvidencedRegistry;

fn cluster(mode: &str, entries: &str) -> String {
    format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: all}}\nspec:\n  mode: {mode}\n  \
         repositories:\n{entries}"
    )
}

fn entry(name: &str, policy: &str) -> String {
    format!("  - {{name: \"{name}\", policy: {policy}}}\n")
}

/// One registry, whose images no source of vulnerabilities knows unless a database has been imported.
fn known(imported: &Mutex<bool>) -> EvidenceSources {
    let registry = EvidencedRegistry {
        host: "reg.test".parse().unwrap(),
        aliases: vec!["r.test".parse().unwrap()],
        path: None,
        has_va: *imported.lock().unwrap(),
        has_notary: false,
    };
    EvidenceSources { registries: vec![registry], ..EvidenceSources::default() }
}

/// Policies change while a gate runs, so its start alone cannot say this.
#[test]
fn rules_that_are_probably_mistakes_are_reported_while_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    let all = entry("*", "{}");
    fs::write(&file, cluster("enforce", &all)).unwrap();
    let imported: Arc<Mutex<bool>> = Arc::default();
    let asked = imported.clone();
    let of_gate = RuleInputs {
        evidence: Box::new(move || known(&asked)),
        ..inputs(sources(&[dir.path()]), Settings::default(), false)
    };
    let (readiness, metrics) = (Readiness::new(), Metrics::default());
    let rulebook = Rulebook::load(of_gate, None, readiness.clone(), Epoch::new(), Clock::system(), &metrics).unwrap();
    assert_eq!(rulebook.warnings(), [""; 0]);
    let both = |name, policy| format!("{all}{}", entry(name, policy));
    let own =
        cluster("enforce", &all).replace("ClusterImagePolicy", "ImagePolicy").replace("all}", "own, namespace: ci}");
    for (text, wanted) in [
        (cluster("enforce", &both("r.test/*", "{trust: reject}")), "r.test is another name of reg.test"),
        (cluster("enforce", &entry("reg.test/*", "{va: {}}")), "every image that this entry selects is denied"),
        (cluster("enforce", &entry("reg.test/*", "{trust: notary}")), "no notary server is known for reg.test"),
        (cluster("enforce", &entry("other.test/*", "{}")), "no policy selects an image of reg.test"),
        (format!("{}---\n{own}", cluster("enforce", &all)), "no client has the namespace \"ci\""),
        (cluster("audit", &all), ONLY_AUDITED),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(rulebook.reload(), None, "{wanted}");
        let warned = rulebook.warnings();
        assert!(warned.len() == 1 && warned[0].contains(wanted), "{wanted} {warned:#?}");
    }
    let of_topic = || readiness.report().details.get(TOPIC).cloned().unwrap_or_default();
    assert_eq!(of_topic(), [ONLY_AUDITED]);
    // What is known is asked for each time.
    fs::write(&file, cluster("enforce", &entry("reg.test/*", "{va: {}}"))).unwrap();
    rulebook.reload();
    assert_eq!((rulebook.warnings().len(), of_topic()), (1, Vec::new()));
    *imported.lock().unwrap() = true;
    assert_eq!(rulebook.warnings(), [""; 0]);
}

/// An entry that decides nothing must not hide that the others are only audited.
#[test]
fn the_entries_in_audit_mode_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let audited = cluster("audit", &entry("*", "{}"));
    let enforced = cluster("enforce", &entry("other.test/*", "{}")).replace("name: all", "name: other");
    fs::write(dir.path().join("all.yaml"), format!("{audited}---\n{enforced}")).unwrap();
    let (readiness, metrics) = (Readiness::new(), Metrics::default());
    let settings = Settings::default();
    let rules =
        load(sources(&[dir.path()]), settings, false, readiness.clone(), Epoch::new(), Clock::system(), &metrics);
    assert_eq!(rules.unwrap().rules().audited_len(), 1);
    assert_eq!(readiness.report().details.get(TOPIC), Some(&vec!["1 of 2 entries is in audit mode".to_owned()]));
}
