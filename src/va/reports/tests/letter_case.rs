//! Keys in other letters, which the readers of these formats in Go take for the known ones.

use super::*;

/// The keys of a document that hold names instead of fields.
const NAMED: [&str; 2] = ["/CVSS", "/VendorSeverity"];

/// Every key of a document, with the JSON pointer of the object that has it.
fn keys(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                found.push((at.to_owned(), key.clone()));
                keys(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (place, inner) in list.iter().enumerate() {
                keys(inner, &format!("{at}/{place}"), found);
            }
        }
        _ => {}
    }
}

/// The document with a change in the object at this place.
fn changed(document: &Value, at: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Value {
    let mut document = document.clone();
    change(document.pointer_mut(at).unwrap().as_object_mut().unwrap());
    document
}

fn swapped(key: &str) -> String {
    let swap = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    key.chars().map(swap).collect()
}

/// The fixtures, with details that they lack.
fn documents() -> [Value; 4] {
    let (mut trivy, mut grype) = (value(TRIVY), value(GRYPE));
    let found = &mut trivy["Results"][0]["Vulnerabilities"][0];
    found["CVSS"] = json!({"nvd": {"V2Score": 9.5, "V2Vector": "AV:N/AC:L/Au:N/C:C/I:C/A:C", "V3Score": 1.5}});
    found["VendorSeverity"] = json!({"nvd": 4});
    found["PkgPath"] = json!("usr/lib/libssl.so");
    trivy["Results"][0]["Packages"][0] = json!({
        "ID": "libssl3@3.0.11-1", "Name": "libssl3", "Version": "3.0.11", "Release": "1", "Epoch": 1,
        "SrcName": "openssl", "SrcVersion": "3.0.11", "SrcRelease": "1", "SrcEpoch": 1, "FilePath": "a",
        "Identifier": {"PURL": "pkg:deb/debian/libssl3"}, "Licenses": ["MIT"],
    });
    trivy["Results"][2]["Misconfigurations"][0]["Resolution"] = json!("Add a user");
    let found = &mut grype["matches"][0];
    found["vulnerability"]["cvss"] =
        json!([{"source": "nvd", "vector": "AV:N/AC:L/Au:N/C:C/I:C/A:C", "metrics": {"baseScore": 9.5}}]);
    found["artifact"]["locations"] = json!([{"path": "a", "layerID": digest('d')}]);
    found["artifact"]["upstreams"] = json!([{"name": "openssl"}]);
    grype["alertsByPackage"] = json!([{"alerts": [{"type": "distro-unknown"}]}]);
    [trivy, grype, value(VDR), value(VEX)]
}

/// Each key that has an effect on what is read is known. Beside it, the same key in other letters would have another
/// effect on other readers.
#[test]
fn a_key_that_is_read_is_refused_in_other_letters() {
    for document in documents() {
        let (original, mut all) = (read(&document), Vec::new());
        assert!(original.is_ok(), "{original:?}");
        keys(&document, "", &mut all);
        let mut refused = 0;
        for (at, key) in all.iter().filter(|(at, _)| !NAMED.iter().any(|named| at.ends_with(named))) {
            if read(&changed(&document, at, |object| drop(object.remove(key)))) == original {
                continue;
            }
            let both = changed(&document, at, |object| drop(object.insert(swapped(key), json!("x"))));
            let error = read(&both).expect_err(&format!("{at}/{key}"));
            assert!(error.contains("differs from") && error.contains(&format!("{key:?}")), "{at}/{key}: {error}");
            refused += 1;
        }
        assert!(refused > 5, "{refused} keys have an effect");
    }
}

/// Names are no fields, and what is not read may have any key.
#[test]
fn names_and_unknown_keys_may_have_any_letters() {
    for (at, key) in [
        ("/Results/0/Vulnerabilities/0/CVSS", "NVD"),
        ("/Results/0/Vulnerabilities/0/VendorSeverity", "NVD"),
        ("/Metadata/ImageConfig", "OS"),
        ("/Results/0/Vulnerabilities/0", "description"),
        ("/Results/0/Vulnerabilities/0/DataSource", "severity"),
    ] {
        let [document, ..] = documents();
        let both = changed(&document, at, |object| drop(object.insert(key.to_owned(), json!({}))));
        assert!(read(&both).is_ok(), "{at}/{key}: {:?}", read(&both));
    }
}

/// What a reader in Go sees is never left out: no finding becomes harmless by a second key.
#[test]
fn letters_of_keys_do_not_hide_a_finding() {
    let vulnerability = "/Results/0/Vulnerabilities/0";
    for (at, key, other) in [
        (vulnerability, "severity", json!("LOW")),
        (vulnerability, "SEVERITY", json!("LOW")),
        (vulnerability, "\u{17f}everity", json!("LOW")),
        (vulnerability, "status", json!("not_affected")),
        (vulnerability, "fixedVersion", json!("")),
        (vulnerability, "vulnerabilityID", json!("CVE-2000-1")),
        (vulnerability, "P\u{212a}gName", json!("other")),
        ("/Results/0/ExperimentalModifiedFindings/0", "status", json!("not_affected")),
        ("/Results/0/ExperimentalModifiedFindings/0", "finding", json!({})),
        ("/Results/0/ExperimentalModifiedFindings/0/Finding", "severity", json!("LOW")),
        ("/Results/2/Misconfigurations/0", "status", json!("PASS")),
        ("/Results/1/Secrets/0", "severity", json!("LOW")),
        ("/Metadata/OS", "eosl", json!(true)),
        ("/Metadata", "imageID", json!(digest(OTHER))),
    ] {
        let both = changed(&value(TRIVY), at, |object| drop(object.insert(key.to_owned(), other)));
        let error = read(&both).expect_err(key);
        assert!(error.contains("in case"), "{at}/{key}: {error}");
    }
}

/// A statement must not exempt what another reader takes back, and must not be lost.
#[test]
fn a_vex_statement_with_keys_in_other_letters_takes_back() {
    let image = json!({"@id": format!("pkg:oci/app@{}", digest(CONFIG))});
    let exempting = json!({"products": [image], "status": "fixed"});
    assert!(find(&lookup(&[TRIVY, &open_vex(&exempting)]), "CVE-2024-0002").exempt);
    for (key, other) in [
        ("Status", json!("affected")),
        ("\u{17f}tatus", json!("affected")),
        ("Products", json!([])),
        ("Vulnerability", json!({"name": "CVE-2024-0001"})),
        ("Justification", json!("x")),
        ("Timestamp", json!("2025-01-01T00:00:00Z")),
    ] {
        let mut statement = exempting.clone();
        statement[key] = other;
        let text = open_vex(&statement);
        assert!(!find(&lookup(&[TRIVY, &open_vex(&exempting), &text]), "CVE-2024-0002").exempt, "{key}");
        assert!(index(&[&text]).problems.iter().any(|problem| problem.contains("in case")), "{key}");
    }
    let alone = open_vex(&exempting).replace("\"vulnerability\":", "\"Vulnerability\":");
    assert!(!find(&lookup(&[TRIVY, &open_vex(&exempting), &alone]), "CVE-2024-0002").exempt);
    let document = open_vex(&exempting).replace("\"statements\":", "\"Statements\":[],\"statements\":");
    assert!(parse(document.as_bytes()).unwrap_err().to_string().contains("differs from \"statements\" in case"));
}
