//! docs/policy.schema.json, compared with the parser: at each place of a document, both know the same keys.

use std::collections::BTreeSet;

use super::*;

/// Documents that have each mapping of the format. Keys are valid, because the parser reads no further after a wrong
/// one.
fn samples() -> Vec<Value> {
    let pem = crate::sample::SigningKey::generate().unwrap().public_pem();
    let key = || json!({"data": pem, "validFrom": "2026-01-01T00:00:00Z"});
    let ring = || json!({"data": include_str!("../../../../tests/data/gpg/ring.asc")});
    let identity = || json!({"type": "matchRepository"});
    let keyless = json!({
        "issuer": "https://issuer.test", "identity": {"glob": "https://a.test/*"}, "trustedRoot": {"file": "root.json"},
        "claims": {"ref": {"regex": "refs/heads/.*"}},
    });
    let attestation = json!({"predicateType": "https://slsa.dev/provenance/v1", "maxAge": "1d", "condition": "true"});
    let store = json!({"url": "https://a.test", "username": "u", "password": {"data": "x"}});
    let mut authorities = vec![
        json!({"name": "a", "cosign": {
            "key": key(), "attestation": attestation, "annotations": {"a": "b"}, "signedIdentity": identity(),
        }}),
        json!({"name": "b", "cosign": {"keys": [key()], "repository": "a.test/b", "transparencyLog": "require"}}),
        json!({"name": "c", "cosign": {"keyless": keyless}}),
        json!({"name": "d", "notation": {"certificates": [{"file": "a.crt"}], "identities": ["*"]}}),
        json!({"name": "e", "notation": {"trustPolicy": {"file": "p.json"}, "trustStore": "store"}}),
        json!({"name": "f", "notary": {"server": "https://a.test", "signers": [{"name": "x", "key": key()}]}}),
        json!({"name": "g", "notary": {"root": {"file": "root.json"}, "firstUse": "deny"}}),
        json!({"name": "h", "cosign": {"key": {"secret": {"name": "s", "key": "k"}}}}),
    ];
    // Without this feature, key rings cannot be read.
    if cfg!(feature = "gpg") {
        authorities
            .push(json!({"name": "i", "gpg": {"keyring": ring(), "signedIdentity": identity(), "store": store}}));
        authorities.push(json!({"name": "j", "gpg": {"keyrings": [ring()], "store": "https://a.test/x"}}));
    }
    // Each name is that of an authority that can be read, because the parser stops at the first part that is wrong.
    let least = json!({"atLeast": {"count": 1, "of": ["f"]}});
    let trust = json!({"anyOf": ["a", {"allOf": ["b", "notary"]}, {"every": ["f"]}, least]});
    let va = json!({
        "severity": "high", "severitySource": ["nvd"], "ignore": ["CVE-2024-1", {"id": "CVE-2024-2", "until": "2099-01-01"}],
        "grace": {"from": "published", "high": "7d"}, "licences": {"deny": ["GPL-3.0-only"], "unknown": "allow"},
        "coolDown": {"image": "1d", "packages": "1d"}, "baseImages": {"deny": ["a.test/*"]}, "epss": 0.5, "when": "true",
        "unscanned": "wait", "maxReportAge": "1w 2d", "exploited": "deny", "fixableOnly": true, "configuration": "deny",
    });
    let policy = json!({
        "apiVersion": "pullgate.io/v1", "kind": "ImagePolicy", "metadata": {"name": "a", "namespace": "ci"},
        "spec": {"mode": "audit", "authorities": authorities, "repositories": [
            {"name": "*", "policy": {"trust": trust, "signed": "either", "va": va}},
        ]},
    });
    let exemption = json!({
        "apiVersion": "pullgate.io/v1", "kind": "Exemption", "metadata": {"name": "a"},
        "spec": {"scope": "*", "issueType": "cve", "issueId": "CVE-2024-1", "expires": "2099-01-01", "reason": "why", "by": "ann"},
    });
    vec![policy, exemption]
}

/// What a schema is made of, following its references.
fn resolved(schema: &Value) -> Value {
    let Some(name) = schema["$ref"].as_str() else { return schema.clone() };
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    resolved(&root["definitions"][name.strip_prefix("#/definitions/").unwrap()])
}

/// Whether a value is valid. Knows the words that the schema uses.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let schema = resolved(schema);
    let branches = |word: &str| {
        schema[word].as_array().map(|branches| branches.iter().filter(|branch| is_valid(branch, value)).count())
    };
    let kind = schema["type"].as_str().is_none_or(|kind| match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    });
    let number = |word: &str| schema[word].as_f64();
    let pattern = |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(value.as_str().unwrap_or_default());
    let member = |(key, value): (&String, &Value)| match (&schema["properties"][key], &schema["additionalProperties"]) {
        (Value::Null, Value::Bool(false)) => false,
        (Value::Null, others) => others.is_null() || is_valid(others, value),
        (known, _) => is_valid(known, value),
    };
    let required = |key: &Value| value.get(key.as_str().unwrap()).is_some();
    kind && schema["enum"].as_array().is_none_or(|words| words.contains(value))
        && (schema["const"].is_null() || schema["const"] == *value)
        && schema["pattern"].as_str().is_none_or(pattern)
        && number("minimum").is_none_or(|least| value.as_f64().is_some_and(|number| number >= least))
        && number("maximum").is_none_or(|most| value.as_f64().is_some_and(|number| number <= most))
        && schema["minItems"]
            .as_u64()
            .is_none_or(|least| value.as_array().is_some_and(|items| items.len() as u64 >= least))
        && branches("anyOf").is_none_or(|count| count > 0)
        && branches("oneOf").is_none_or(|count| count == 1)
        && schema["required"].as_array().is_none_or(|keys| keys.iter().all(required))
        && value.as_object().is_none_or(|members| members.iter().all(member))
        && (schema["items"].is_null()
            || value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(&schema["items"], item))))
}

/// The schema of a mapping: the branch that it meets, where there are several.
fn of_mapping(schema: &Value, value: &Value) -> Value {
    let schema = resolved(schema);
    let branches = ["oneOf", "anyOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
    let mut fitting = branches.filter(|branch| !resolved(branch)["properties"].is_null() && is_valid(branch, value));
    fitting.next().map_or_else(|| schema.clone(), resolved)
}

/// Calls `visit` with the path and the schema of each mapping in a value.
fn mappings(schema: &Value, value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            let schema = of_mapping(schema, value);
            visit(path, &schema);
            for (key, member) in members {
                mappings(&schema["properties"][key], member, &format!("{path}/{key}"), visit);
            }
        }
        Value::Array(items) => {
            let schema = resolved(schema);
            let list =
                schema["anyOf"].as_array().and_then(|branches| branches.iter().find(|branch| is_valid(branch, value)));
            let schema = list.cloned().unwrap_or(schema);
            for (index, item) in items.iter().enumerate() {
                mappings(&schema["items"], item, &format!("{path}/{index}"), visit);
            }
        }
        _ => (),
    }
}

/// The keys that the parser knows at a place: it names them for a key that resembles none.
fn known_keys(document: &Value, path: &str) -> Option<BTreeSet<String>> {
    const STRANGE: &str = "0000000000000000000000000000";
    let mut document = document.clone();
    document.pointer_mut(path).unwrap()[STRANGE] = json!(1);
    let text = document.to_string();
    let (_, lines, _) = run(&[("a.yaml", &text)], |dir, streams| {
        check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
    });
    let problem = lines.iter().find(|line| line["message"].as_str().unwrap().contains(STRANGE))?;
    let hint = problem["hint"].as_str()?.strip_prefix("known here: ")?;
    Some(hint.split(", ").map(str::to_owned).collect())
}

#[test]
fn the_schema_and_the_parser_know_the_same_keys() {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut count = 0;
    for sample in samples() {
        assert!(is_valid(&root, &sample), "{sample:#}");
        let mut places = Vec::new();
        mappings(&root, &sample, "", &mut |path, schema| places.push((path.to_owned(), schema.clone())));
        for (path, schema) in places {
            // Any annotation can be required.
            if schema["additionalProperties"] != json!(false) {
                continue;
            }
            let keys: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
            let known = known_keys(&sample, &path).unwrap_or_else(|| panic!("{path}: the parser accepts any key"));
            assert_eq!(keys, known, "{path}");
            count += 1;
        }
    }
    assert!(count > 35, "only {count} places were compared");
}

#[test]
fn the_documents_of_the_project_are_valid() {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let ours =
        ["observe", "signed", "vulnerabilities"].map(|name| read(&format!("config/policies/pullgate/{name}.yaml")));
    let pages = ["policies", "trust", "conditions", "exemptions", "simple-signing", "configuration-issues"];
    let pages = pages.map(|name| read(&format!("docs/{name}.md")));
    let blocks =
        pages.iter().flat_map(|page| page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next()));
    let documents = ours.iter().map(String::as_str).chain(blocks).flat_map(|text| text.split("\n---\n"));
    let mut count = 0;
    for text in documents.filter(|text| text.contains("apiVersion: pullgate.io/v1")) {
        let problems = crate::markup::Problems::default();
        let tree = crate::markup::read_yaml(text, problems.file("block"), &problems).into_iter().next().unwrap();
        let value = tree.to_json();
        assert!(is_valid(&root, &value), "{text}");
        count += 1;
    }
    assert!(count > 5, "only {count} documents were found");
    let wrong = json!({"apiVersion": "pullgate.io/v1", "kind": "ClusterImagePolicy", "metadata": {"name": "a"},
        "spec": {"repositories": [{"name": "*", "policy": {"va": {"severity": "hgih"}}}]}});
    assert!(!is_valid(&root, &wrong));
}
