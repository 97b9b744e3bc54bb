use std::fs;
use std::path::PathBuf;

use super::*;
use crate::policy::EvidencedRegistry;

/// The tutorial's policy, as it stands there; lines 13 and 15 are the two switches.
const TUTORIAL: &str = "\
# Cluster Wide Policy .YAML - false/false
apiVersion: securityenforcement.admission.cloud.ibm.com/v1beta1
kind: ClusterImagePolicy
metadata:
  name: ibmcloud-default-cluster-image-policy
spec:
   repositories:
    # This enforces that all images deployed to this cluster pass trust and VA
    # To override, set an ImagePolicy for a specific Kubernetes namespace or modify this policy
    - name: \"*\"
      policy:
        trust:
          enabled: false
        va:
          enabled: false
";

fn run(files: &[(&str, &str)], command: impl Fn(&Path, &mut Streams<'_>) -> u8) -> (u8, Vec<Value>, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command(dir.path(), &mut Streams { out: &mut out, err: &mut err });
    let lines = String::from_utf8(out).unwrap();
    (code, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), String::from_utf8(err).unwrap())
}

/// A file can be checked without the others of its directory.
#[test]
fn one_file_is_checked_alone() {
    let files = [("p.yaml", TUTORIAL), ("broken.yaml", "kind: ["), ("q.txt", TUTORIAL)];
    for (name, expected) in
        [("p.yaml", EXIT_OK), ("q.txt", EXIT_OK), ("broken.yaml", EXIT_FINDINGS), ("", EXIT_FINDINGS)]
    {
        let check_one = |dir: &Path, streams: &mut Streams<'_>| {
            check(&dir.join(name), &Settings::default(), None, Output::Json, streams).unwrap()
        };
        let (code, problems, _) = run(&files, check_one);
        assert_eq!(code, expected, "{name}: {problems:?}");
    }
}

/// A listed signer whose key is not valid at the time of the case did not sign.
#[test]
fn keys_count_within_their_validity() {
    let policy = |validity: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
             - {{name: a, cosign: {{key: {{data: \"-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\\n-----END PUBLIC KEY-----\\n\"{validity}}}}}}}\n  \
             repositories:\n  - {{name: '*', policy: {{trust: a}}}}\n"
        )
    };
    let case = r#"{"id":1,"image":"r.io/app:v1","now":"2026-11-26T00:00:00Z","trust":{"signers":["a"]}}"#;
    for (validity, decision) in [
        ("", "admit"),
        (", validUntil: 2026-11-27T00:00:00Z", "admit"),
        (", validUntil: 2026-11-26T00:00:00Z", "deny"),
        (", validFrom: 2026-11-26T00:00:01Z", "deny"),
    ] {
        let (_, answers) = evaluate(&policy(validity), case);
        assert_eq!(answers[0]["decision"], decision, "{validity}: {answers:?}");
        assert!(decision == "admit" || answers[0]["message"].as_str().unwrap().contains("not valid"), "{answers:?}");
    }
}

fn evaluate(policy: &str, cases: &str) -> (u8, Vec<Value>) {
    let (code, lines, _) = run(&[("p.yaml", policy)], |dir, streams| {
        eval(dir, &Settings::default(), None, &mut cases.as_bytes(), streams).unwrap()
    });
    (code, lines)
}

/// The tutorial's four cases, for an image that is unsigned and vulnerable.
#[test]
fn tutorial() {
    four_cases(TUTORIAL);
}

/// The tutorial's own directory as it stands: the policy, and the deployments next to it, which are not policies.
#[test]
#[ignore = "reads ../shared"]
fn the_tutorials_own_files_work_unchanged() {
    let shared: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "shared", "tutorial"].iter().collect();
    four_cases(&fs::read_to_string(shared.join("defaultcluster-wide.yaml")).unwrap());
    let mut out = Vec::new();
    let mut streams = Streams { out: &mut out, err: &mut Vec::new() };
    assert_eq!(check(&shared, &Settings::default(), None, Output::Json, &mut streams).unwrap(), EXIT_OK);
    assert_eq!(String::from_utf8(out).unwrap().lines().filter(|line| line.contains("Deployment")).count(), 2);
}

fn four_cases(text: &str) {
    let case = r#"{"id":1,"namespace":"default","image":"nginx","trust":{"signers":null},"va":{"status":"FAIL"}}"#;
    for (trust, va, decision, stage, consulted) in [
        (false, false, "admit", Value::Null, false),
        (false, true, "deny", json!("va"), true),
        (true, false, "deny", json!("trust"), false),
        (true, true, "deny", json!("trust"), false),
    ] {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[12] = lines[12].replace("false", &trust.to_string());
        lines[14] = lines[14].replace("false", &va.to_string());
        let (code, answers) = evaluate(&lines.join("\n"), case);
        let answer = &answers[0];
        assert_eq!((code, &answer["id"], &answer["decision"]), (0, &json!(1), &json!(decision)), "{answer}");
        assert_eq!((&answer["stage"], &answer["va_consulted"]), (&stage, &json!(consulted)), "{answer}");
    }
}

#[test]
fn deployments_beside_policies_are_skipped() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: t}\nspec: {}\n";
    let (code, lines, _) = run(&[("p.yaml", TUTORIAL), ("t.yaml", deployment)], |dir, streams| {
        check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert_eq!((code, lines.len(), &lines[0]["severity"]), (EXIT_OK, 1, &json!("note")));
}

/// The tutorial's directory as it stands: one policy, and two Deployments that are passed over.
#[test]
fn tutorial_folder_is_read_unchanged() {
    let shared: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "shared", "tutorial"].iter().collect();
    if !shared.exists() {
        return;
    }
    let snapshot = Directory::new(&shared).snapshot().unwrap();
    let parsed = RuleSet::parse(&snapshot.documents, &*snapshot.materials, &Settings::default());
    assert_eq!(parsed.rules.map(|rules| (rules.documents(), rules.len())), Some((1, 1)));
    let notes = parsed.problems.iter().filter(|problem| problem.severity == ProblemSeverity::Note).count();
    assert_eq!((parsed.problems.len(), notes), (2, 2), "{:?}", parsed.problems);
}

#[test]
fn every_word_of_ibm() {
    let policy = TUTORIAL.replace("va:\n          enabled: false", "va:\n          enabled: true");
    for (va, decision) in [
        (r#"{"status":"OK"}"#, "admit"),
        (r#"{"status":"WARN"}"#, "admit"),
        (r#"{"status":"WARN","issues":[{"id":"CVE-1","severity":"critical","exempt":true}]}"#, "admit"),
        (r#"{"status":"UNSUPPORTED"}"#, "admit"),
        (r#"{"status":"FAIL"}"#, "deny"),
        (r#"{"status":"FAIL","issues":3}"#, "deny"),
        (r#"{"status":"FAIL","issues":["CVE-1"]}"#, "deny"),
        (r#"{"status":"FAIL","issues":[{"id":"CVE-1","exempt":true}]}"#, "deny"),
        (r#"{"status":"BLOCK"}"#, "deny"),
        (r#"{"status":"INCOMPLETE"}"#, "deny"),
        (r#"{"status":"UNSCANNED"}"#, "deny"),
        (r#"{"status":"ok"}"#, "deny"),
        (r#"{"status":null}"#, "deny"),
        ("null", "deny"),
    ] {
        let (code, answers) = evaluate(&policy, &format!(r#"{{"id":"x","image":"icr.io/a/b:v1","va":{va}}}"#));
        assert_eq!((code, &answers[0]["decision"]), (0, &json!(decision)), "{va}: {}", answers[0]);
        assert_eq!(answers[0]["va_consulted"], json!(true));
    }
}

#[test]
fn signers() {
    let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\\n-----END PUBLIC KEY-----";
    let secret = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-key}}\nstringData: {{name: {name}, publicKey: \"{pem}\"}}\n"
        )
    };
    let any = TUTORIAL.replacen("enabled: false", "enabled: true", 1);
    let two =
        any.replacen("enabled: true", "enabled: true\n          signerSecrets: [{name: a-key}, {name: b-key}]", 1);
    let with_secrets = format!("{two}{}{}", secret("a"), secret("b"));
    for (policy, trust, decision) in [
        (&any, r#"{"signers":[]}"#, "admit"),
        (&any, r#"{"signers":["x"]}"#, "admit"),
        (&any, r#"{"signers":null}"#, "deny"),
        (&any, r#"{"signers":["x"],"error":"unable to reach trust server at this time: 0."}"#, "deny"),
        (&any, "null", "deny"),
        (&with_secrets, r#"{"signers":["a","b","c"]}"#, "admit"),
        (&with_secrets, r#"{"signers":["a"]}"#, "deny"),
        (&two, r#"{"signers":["a"]}"#, "deny"),
        (&two, r#"{"signers":["a-key","b-key"]}"#, "admit"),
    ] {
        let case = format!(r#"{{"id":1,"namespace":"default","image":"nginx","trust":{trust},"va":null}}"#);
        let (code, answers) = evaluate(policy, &case);
        assert_eq!((code, &answers[0]["decision"]), (0, &json!(decision)), "{trust}: {}", answers[0]);
    }
}

#[test]
fn simple_after_trust() {
    let policy = "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec: {repositories: \
                  [{name: '*', policy: {trust: {enabled: true}, simple: {requirements: [{type: signedBy, keySecret: k}]}}}]}";
    for (trust, stage) in [
        (r#"{"signers":[],"simple":["k"]}"#, Value::Null),
        (r#"{"signers":[],"simple":["j"]}"#, json!("simple")),
        (r#"{"signers":[],"simple":null}"#, json!("simple")),
        (r#"{"signers":null,"simple":["k"]}"#, json!("trust")),
    ] {
        let (_, answers) = evaluate(policy, &format!(r#"{{"id":1,"image":"nginx","trust":{trust}}}"#));
        assert_eq!(answers[0]["stage"], stage, "{}", answers[0]);
    }
}

#[test]
fn malformed_cases_are_answered() {
    let long = format!(r#"{{"id":9,"image":"{}"}}"#, "x".repeat(1024 * 1024));
    let cases = format!(
        "{{\n\n{{\"id\":2}}\n{{\"id\":3,\"image\":\"nginx\",\"digest\":\"sha256:1\"}}\n{{\"id\":4,\"image\":\"?\"}}\n{long}\n{}",
        r#"{"id":5,"image":"nginx"}"#
    );
    let (code, answers) = evaluate(TUTORIAL, &cases);
    assert_eq!(code, EXIT_FAILURE);
    let ids: Vec<_> = answers.iter().map(|answer| (answer["id"].clone(), answer.get("error").is_some())).collect();
    let expected = [
        (Value::Null, true),
        (json!(2), true),
        (json!(3), true),
        (json!(4), false),
        (Value::Null, true),
        (json!(5), false),
    ];
    assert_eq!(ids, expected);
    assert_eq!(
        (&answers[3]["stage"], &answers[3]["message"]),
        (&json!("policy"), &json!("Deny \"?\", invalid image name"))
    );
    assert_eq!(answers[5]["decision"], json!("admit"));
    let (_, answers) = evaluate(TUTORIAL, "[1]");
    assert_eq!(answers[0]["error"], "a case is a JSON object");
    let (code, answers) = evaluate(TUTORIAL, "\u{feff}{\"id\":1,\"image\":\"nginx\"}");
    assert_eq!((code, &answers[0]["decision"]), (EXIT_OK, &json!("admit")), "with a byte order mark");
}

#[test]
fn matching() {
    let own = "apiVersion: portieris.cloud.ibm.com/v1\nkind: ImagePolicy\nmetadata: {name: own, namespace: prod}\n\
               spec: {repositories: [{name: 'icr.io/*', policy: {trust: {enabled: true}}}]}\n";
    let (code, lines, _) = run(&[("a.yaml", TUTORIAL), ("b.yaml", own)], |dir, streams| {
        let images = ["icr.io/a".to_owned(), "nginx".to_owned(), "Bad?".to_owned()];
        match_images(dir, "prod", &images, &Settings::default(), None, Output::Json, streams).unwrap();
        match_images(dir, "", &images[..1], &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert_eq!(code, EXIT_OK);
    assert_eq!(
        lines[0],
        json!({"image": "icr.io/a", "namespace": "prod", "source": "ImagePolicy", "document": "own", "repository": "icr.io/*",
               "outcome": "rule", "message": "checks: trust"})
    );
    assert_eq!(
        lines[1],
        json!({"image": "nginx", "namespace": "prod", "source": "none", "document": null, "repository": null,
               "outcome": "deny", "message": "Deny \"nginx\", no matching repositories in the ImagePolicies"})
    );
    assert_eq!(lines[2]["message"], json!("Deny \"Bad?\", invalid image name"));
    assert_eq!((&lines[3]["outcome"], &lines[3]["source"]), (&json!("allow"), &json!("ClusterImagePolicy")));
}

/// A client that was given a tag and a digest asks for the digest.
#[test]
fn a_name_with_a_tag_and_a_digest_means_the_digest() {
    let policies = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec:\n  repositories:\n  \
                    - {name: '*', policy: {}}\n  - {name: 'icr.io/ns/app:v1', policy: {trust: reject}}\n";
    let digest = format!("sha256:{}", "a".repeat(64));
    let names = ["icr.io/ns/app:v1", "icr.io/ns/app", "icr.io/ns/app:v1"];
    let images = [names[0].to_owned(), format!("{}@{digest}", names[1]), format!("{}@{digest}", names[2])];
    let (_, lines, _) = run(&[("p.yaml", policies)], |dir, streams| {
        match_images(dir, "", &images, &Settings::default(), None, Output::Json, streams).unwrap()
    });
    let found: Vec<_> = lines.iter().map(|line| line["repository"].as_str().unwrap()).collect();
    assert_eq!(found, ["icr.io/ns/app:v1", "*", "*"]);
    assert_eq!(lines[1]["message"], "no checks");
    let also = "no checks; if the gate knows the tag, also ClusterImagePolicy/p \"icr.io/ns/app:v1\": checks: trust";
    assert_eq!(lines[2]["message"], also);
}

/// The policies of a gate see the host of its upstream, whatever a client writes.
#[test]
fn images_are_named_as_the_gate_names_them() {
    let policies = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec:\n  repositories:\n  \
                    - {name: '*', policy: {}}\n  - {name: 'r.test/*', policy: {trust: reject}}\n  \
                    - {name: 'docker.io/library/nginx', policy: {trust: reject}}\n";
    let registry = |host: &str, alias: &str| EvidencedRegistry {
        host: host.parse().unwrap(),
        aliases: vec![alias.parse().unwrap()],
        path: None,
        has_va: false,
        has_notary: false,
    };
    let registries = vec![registry("reg.test:5000", "r.test"), registry("docker.io", "registry.hub.docker.com")];
    let sources = EvidenceSources { registries, ..EvidenceSources::default() };
    for (image, entry, outcome) in [
        ("r.test/app:v1", Some("*"), "allow"),
        ("reg.test:5000/app:v1", Some("*"), "allow"),
        ("registry.hub.docker.com/nginx", Some("docker.io/library/nginx"), "rule"),
        ("reg.test/app:v1", Some("*"), "allow"),
        ("elsewhere.test/app:v1", Some("*"), "allow"),
    ] {
        let files = [("p.yaml", policies)];
        let (_, found, noted) = run(&files, |dir, streams| {
            let images = [image.to_owned()];
            match_images(dir, "", &images, &Settings::default(), Some(&sources), Output::Json, streams).unwrap()
        });
        let is_served = !matches!(image, "reg.test/app:v1" | "elsewhere.test/app:v1");
        assert_eq!(noted.contains("is not an upstream of this gate"), !is_served, "{image}: {noted}");
        assert_eq!((found[0]["repository"].as_str(), &found[0]["outcome"]), (entry, &json!(outcome)), "{image}");
        let case = json!({"id": 1, "image": image}).to_string();
        let (_, decided, _) = run(&files, |dir, streams| {
            eval(dir, &Settings::default(), Some(&sources), &mut case.as_bytes(), streams).unwrap()
        });
        let expected = if outcome == "allow" { "admit" } else { "deny" };
        assert_eq!(decided[0]["decision"], expected, "{image}: {decided:?}");
    }
    // Without a gate, names are taken as they are written.
    let (_, found, _) = run(&[("p.yaml", policies)], |dir, streams| {
        match_images(dir, "", &["r.test/app".to_owned()], &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert_eq!(found[0]["repository"], "r.test/*");
}

#[test]
fn exit_codes() {
    let broken = TUTORIAL.replace("policy:", "polcy:");
    let (code, lines, _) = run(&[("p.yaml", &broken)], |dir, streams| {
        check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert_eq!((code, &lines[0]["line"], &lines[0]["severity"]), (EXIT_FINDINGS, &json!(11), &json!("error")));
    let (code, _, err) = run(&[("p.yaml", &broken)], |dir, streams| {
        match_images(dir, "", &[], &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert!(code == EXIT_CONFIGURATION && err.contains("p.yaml:11:7: error: unknown key \"polcy\""), "{err}");
    let (code, _, _) =
        run(&[], |dir, streams| check(&dir.join("absent"), &Settings::default(), None, Output::Json, streams).unwrap());
    assert_eq!(code, EXIT_FAILURE);
    let large = "#".repeat(1024 * 1024 + 1);
    let (code, lines, err) = run(&[("p.yaml", &broken), ("q.yaml", &large)], |dir, streams| {
        check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
    });
    assert!(code == EXIT_FAILURE && lines[0]["line"] == 11 && err.contains("q.yaml: larger than 1 MiB"), "{err}");
}

/// What is shipped can be loaded, each directory on its own, and only IBM's own slip gives a warning.
#[test]
fn shipped_policies_load() {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), "config", "policies"].iter().collect();
    // Keyless authorities need one.
    let trusted_root = tempfile::NamedTempFile::new().unwrap();
    fs::write(trusted_root.path(), sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    let trusted_roots = vec![trusted_root.path().display().to_string()];
    let settings = Settings { trusted_roots, ..Settings::default() };
    for (folder, documents, entries) in [
        ("cise-2018", 3, 11),
        ("cise-2021", 3, 35),
        ("portieris-iks", 4, 22),
        ("portieris-none", 1, 1),
        ("pullgate", 3, 4),
    ] {
        let snapshot = Directory::new(root.join(folder)).snapshot().unwrap();
        let parsed = RuleSet::parse(&snapshot.documents, &*snapshot.materials, &settings);
        let rules = parsed.rules.unwrap_or_else(|| panic!("{:#?}", parsed.problems));
        assert_eq!((rules.documents(), rules.len()), (documents, entries), "{folder}");
        let said: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        match folder {
            "cise-2018" => assert!(said.len() == 1 && said[0].contains("\"policies\" is not a key"), "{said:?}"),
            _ => assert_eq!(said, [""; 0], "{folder}"),
        }
    }
}

mod cases;
mod schema;
mod va;
