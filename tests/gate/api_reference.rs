//! docs/api.md is compared with the calls that a gate answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{ALLOW_ALL, TestGate};
use crate::support::{TestRegistry, request};

const PAGE: &str = include_str!("../../docs/api.md");
const TOKEN: &str = "a token of the test";

/// The calls of the table, by path, with their methods and statuses. Names in capitals are replaced by values.
fn documented() -> BTreeMap<String, BTreeMap<String, BTreeSet<u16>>> {
    let mut calls: BTreeMap<String, BTreeMap<String, BTreeSet<u16>>> = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.contains("` |") && line.contains(" /api/v1/")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [call, _, _, statuses] = cells[..] else { panic!("four cells: {line}") };
        let (method, path) = call.trim_matches('`').split_once(' ').expect("a method and a path");
        let path = path.replace("NUMBER", "1").replace("ID", "0123456789ab");
        let statuses = statuses.split(", ").map(|status| status.parse().expect("a status")).collect();
        let before = calls.entry(path).or_default().insert(method.to_owned(), statuses);
        assert!(before.is_none(), "{call} is there twice");
    }
    calls
}

/// The paths of all calls, from the module that clients and server share.
fn paths() -> BTreeSet<String> {
    let source = include_str!("../../src/api.rs");
    let constants = source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = \""));
    let values = constants.map(|(_, rest)| rest.split('"').next().expect("the end of the text"));
    values.filter(|value| !value.starts_with('/')).map(|value| format!("/api/v1/{value}")).collect()
}

#[tokio::test]
async fn documented_calls_are_those_of_the_admin_api() {
    let documented = documented();
    let paths = paths();
    let is_known = |path: &String| {
        paths.iter().any(|known| {
            path == known || path.starts_with(&format!("{known}/")) || known.ends_with('/') && path.starts_with(known)
        })
    };
    let unknown: Vec<_> = documented.keys().filter(|path| !is_known(path)).collect();
    assert!(unknown.is_empty(), "docs/api.md has calls that do not exist: {unknown:?}");
    let is_documented = |path: &&String| {
        documented.keys().any(|known| known == *path || path.ends_with('/') && known.starts_with(path.as_str()))
    };
    let missing: Vec<_> = paths.iter().filter(|path| !is_documented(path)).collect();
    assert!(paths.len() > 15 && missing.is_empty(), "docs/api.md does not have {missing:?}");

    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).admin_token(TOKEN).start().await;
    let token = format!("Bearer {TOKEN}");
    for (path, methods) in &documented {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let answer = request(method, &gate.admin_url(path), &[("authorization", &token)]).await;
            match methods.get(method) {
                // Without a body and a query, most calls are refused; they answer nevertheless.
                Some(statuses) => {
                    assert!(statuses.contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
                    assert_ne!(answer.text(), "{\"error\":\"no such API call\"}", "{method} {path}");
                }
                None => assert!(answer.status >= 400, "{method} {path} is not documented: {}", answer.status),
            }
        }
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(PAGE.contains(&format!("| `GET {path}` |")), "{path}");
        assert_eq!(request("GET", &gate.admin_url(path), &[]).await.status, 200, "{path}");
    }
}
