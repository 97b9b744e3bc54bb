//! docs/api.md is compared with what a gate answers: the endpoints of the registry and the calls of the admin API.

use std::collections::{BTreeMap, BTreeSet};

use pullgate::oci::{Endpoint, Route};

use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate};
use crate::pull::simple;
use crate::support::{Answer, TestRegistry, request};

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

/// The endpoints of the registry in the table, with their statuses.
fn documented_endpoints() -> BTreeMap<String, Vec<u16>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `GET ")?.split_once("` | "));
    let statuses = |text: &str| {
        let text = text.split(':').next().expect("statuses before the colon");
        text.split([' ', ',']).filter_map(|word| word.parse().ok()).collect::<Vec<u16>>()
    };
    rows.filter(|(path, _)| path.starts_with("/v2/")).map(|(path, text)| (path.to_owned(), statuses(text))).collect()
}

/// The name of an endpoint. A new one does not compile until it is here, and then must be documented.
fn kind(route: &Route) -> &'static str {
    match route.endpoint {
        None => "version",
        Some(Endpoint::Blob { .. }) => "blob",
        Some(Endpoint::Manifest { .. }) => "manifest",
        Some(Endpoint::Referrers { .. }) => "referrers",
        Some(Endpoint::Tags { .. }) => "tags",
    }
}

/// The rows of the table of headers that are `in` these responses.
fn documented_headers(place: &str) -> Vec<&'static str> {
    let rows = PAGE.split("| header | in | meaning |").nth(1).and_then(|rest| rest.split("\n\n").next());
    let rows = rows.expect("a table").lines().map(|line| line.trim_matches('|').split('|').map(str::trim));
    let found =
        rows.filter_map(|mut cells| Some((cells.next()?, cells.next()?))).filter(|(_, place_of)| *place_of == place);
    let names: Vec<&str> = found.map(|(name, _)| name.trim_matches('`')).collect();
    assert!(!names.is_empty(), "no header is documented for: {place}");
    names
}

async fn ask(gate: &Gate, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = request(method, &gate.any_url(path), headers).await;
    for name in documented_headers("every response") {
        assert!(answer.header(&name.to_lowercase()).is_some(), "{method} {path} has no {name}");
    }
    answer
}

#[tokio::test]
async fn documented_endpoints_are_those_of_the_registry() {
    let registry = TestRegistry::start().await;
    let image = simple("documented");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let documented = documented_endpoints();
    let kinds: BTreeSet<&str> = documented
        .keys()
        .map(|path| {
            let (blob, name) = (image.layers[0].to_string(), format!("{HOST}/library/app"));
            let path = path.replace("NAME", &name).replace("REFERENCE", "1").replace("DIGEST", &blob);
            kind(&Route::parse(&path, None).unwrap_or_else(|error| panic!("{path}: {error}")))
        })
        .collect();
    assert_eq!(kinds, BTreeSet::from(["blob", "manifest", "referrers", "tags", "version"]));
    assert_eq!(documented_headers("manifests and blobs"), ["Docker-Content-Digest", "Warning"]);
    for (path, statuses) in &documented {
        let is_blob = path.contains("/blobs/");
        let digest = if is_blob { image.layers[0] } else { image.root }.to_string();
        let path = path.replace("NAME", &format!("{HOST}/library/app")).replace("DIGEST", &digest);
        for path in [path.replace("REFERENCE", "1"), path.replace("REFERENCE", &digest)] {
            let got = ask(&gate, "GET", &path, &[]).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            assert_eq!(ask(&gate, "HEAD", &path, &[]).await.status, 200, "{path}");
            let part = ask(&gate, "GET", &path, &[("range", "bytes=0-3")]).await.status;
            assert_eq!(
                [200, part].iter().copied().collect::<BTreeSet<_>>(),
                statuses.iter().copied().collect(),
                "{path}"
            );
            if path.contains("/manifests/") || is_blob {
                assert_eq!(got.header("docker-content-digest"), Some(&*digest), "{path}");
                let same = ask(&gate, "GET", &path, &[("if-none-match", got.header("etag").expect("an ETag"))]).await;
                assert_eq!(same.status, 304, "{path}");
            }
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                assert_eq!(ask(&gate, method, &path, &[]).await.status, 405, "{method} {path}");
            }
        }
    }
    let unknown = ask(&gate, "GET", &format!("/v2/{HOST}/library/app/uploads/"), &[]).await;
    assert_eq!(unknown.status, 404, "no other path is an endpoint");
}
