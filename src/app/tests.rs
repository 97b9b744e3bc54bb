use std::collections::BTreeMap;

use super::*;

/// The table of `docs/metrics.md`: names as in `# TYPE` lines, with type and labels.
fn documented() -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let name = cells[0].trim_end_matches('`');
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let name = match cells[1] {
            "counter" => name.strip_suffix("_total").expect("a counter ends in _total"),
            "info" => name.strip_suffix("_info").expect("an info ends in _info"),
            _ => name,
        };
        Some((name.to_owned(), (cells[1].to_owned(), labels.trim_end_matches('}').to_owned())))
    };
    include_str!("../../docs/metrics.md").lines().filter_map(row).collect()
}

/// The labels of a sample, sorted, without those of histograms.
fn labels(sample: &str) -> String {
    let inside = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').expect("its end").0);
    let names = inside.split("\",").filter_map(|label| label.split_once("=\""));
    let mut names: Vec<&str> = names.map(|(name, _)| name).filter(|name| *name != "le").collect();
    names.sort_unstable();
    names.join(",")
}

/// A configuration with one policy directory, which is empty, and these lines at its end.
pub(super) fn configured(folder: &Path, last: &str) -> Config {
    std::fs::create_dir(folder.join("policies")).unwrap();
    let text = format!(
        "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"registry.test\"\nurl = \"http://127.0.0.1:1\"\n{last}"
    );
    let path = folder.join("pullgate.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path), std::iter::empty()).unwrap()
}

#[tokio::test]
async fn documented_metrics_are_those_of_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    // Any variable will do as a key: nothing is sent.
    let config = configured(folder.path(), "[va.ibm]\napi_key_env = \"PATH\"\n");
    let parts = build(config).await.unwrap().parts;
    let (rendered, documented) = (parts.metrics.render(), documented());
    let types = rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let rendered_types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let exposed: BTreeMap<String, String> = rendered_types.chain(parts.metrics.names()).collect();
    let types: BTreeMap<String, String> =
        documented.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(exposed, types, "docs/metrics.md lists exactly the metrics of a gate");
    let mut name = "";
    for line in rendered.lines().filter(|line| *line != "# EOF") {
        match line.strip_prefix("# ") {
            Some(comment) => name = comment.split(' ').nth(1).unwrap(),
            None => assert_eq!(labels(line), documented[name].1, "{line}"),
        }
    }
    // A bound such as 0.009000000000000001 was computed.
    let bounds = rendered.split("le=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(
        bounds.clone().count() > 20 && bounds.clone().all(|bound| bound.len() < 10),
        "{:?}",
        bounds.collect::<Vec<_>>()
    );
    parts.tasks.drain(Duration::ZERO).await;
    parts.close().await;
}
