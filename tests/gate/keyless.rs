//! Keyless signatures through the whole gate: who may sign, and a trusted root that changes.

use pullgate::sample::image::{self, Built, Layer};
use serde_json::json;

use crate::harness::{HOST, TestGate};
use crate::pull::simple;
use crate::sigstore::{BUNDLE_V03, Content, IDENTITY, ISSUER, Instance, Subject, Witnessed};
use crate::support::{TestRegistry, request};

/// Requires a signature by the default identity of the test's instance.
fn document(cosign: &str) -> String {
    format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
         - {{name: ci, cosign: {cosign}}}\n  repositories:\n  - {{name: \"*\", policy: {{trust: ci}}}}\n"
    )
}

pub(crate) fn keyless() -> String {
    document(&format!("{{keyless: {{issuer: {ISSUER:?}, identity: {IDENTITY:?}}}}}"))
}

/// The image's signature by this subject, as cosign attaches it.
pub(crate) fn signature(instance: &Instance, subject: &Subject, image: &Built) -> Built {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": image.root.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}
    });
    let bundle = instance.bundle(&instance.issue(subject), Content::Statement(&statement), Witnessed::default());
    image::referrer(image, BUNDLE_V03, &[Layer::of(BUNDLE_V03, bundle.to_string())], &[])
}

#[tokio::test]
async fn keyless_signatures_admit_and_a_changed_root_judges_again() {
    let registry = TestRegistry::start().await;
    let (instance, other) = (Instance::new(), Instance::new());
    let (good, foreign) = (simple("good"), simple("foreign"));
    registry.push("library/good", Some("1"), &good);
    registry.push("library/good", None, &signature(&instance, &Subject::default(), &good));
    registry.push("library/foreign", Some("1"), &foreign);
    let mallory = Subject { identities: vec!["https://github.com/mallory/app"], ..Subject::default() };
    registry.push("library/foreign", None, &signature(&instance, &mallory, &foreign));

    let made = TestGate::new(&registry, &keyless()).with("[trust]\ntrusted_roots = [\"root.json\"]");
    let gate = made.file("root.json", &instance.trusted_root().to_string()).start().await;
    assert_eq!(gate.get("/library/good/manifests/1").await.status, 200);
    let denied = gate.get("/library/foreign/manifests/1").await;
    assert!(denied.status == 403 && denied.text().contains("was made by"), "{}", denied.text());

    // The root in use is said, with its age, wherever an operator looks.
    let checked = request("GET", &gate.admin_url(&format!("/api/v1/check?image={HOST}/library/good:1")), &[]).await;
    let root = checked.json()["rules"][0]["authorities"][0]["trusted_roots"][0].clone();
    let status = root["status"].as_str().unwrap();
    assert!(
        root["name"].as_str().unwrap().ends_with("root.json") && status.contains("its file is 0 days old"),
        "{root}"
    );
    let details = request("GET", &gate.admin_url("/readyz?verbose=json"), &[]).await.text();
    assert!(details.contains("\"trusted roots\":[") && details.contains("root.json: "), "{details}");
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_trusted_root_written_timestamp_seconds{root="), "{metrics}");

    std::fs::write(gate.file("root.json"), other.trusted_root().to_string()).unwrap();
    gate.set_policy(&keyless());
    let denied = gate.get("/library/good/manifests/1").await;
    assert!(denied.status == 403 && denied.text().contains("its log is not one of"), "{}", denied.text());

    // A damaged root is refused, and the one in use stays.
    std::fs::write(gate.file("root.json"), "{").unwrap();
    gate.set_policy(&keyless());
    assert_eq!(gate.get("/library/good/manifests/1").await.status, 403);
    std::fs::write(gate.file("root.json"), instance.trusted_root().to_string()).unwrap();
    gate.set_policy(&keyless());
    assert_eq!(gate.get("/library/good/manifests/1").await.status, 200);
}

/// `COSIGN_REPOSITORY`: signatures of all images are in one repository, and nothing in an image's own counts.
#[tokio::test]
async fn signatures_can_be_in_another_repository() {
    let registry = TestRegistry::start().await;
    let image = simple("elsewhere");
    registry.push("library/app", Some("1"), &image);
    let here = document(&format!("{{key: {{file: release.pub}}, repository: \"{HOST}/sigs\"}}"));
    let made = TestGate::new(&registry, &here);
    let name = format!("{HOST}/library/app");
    let signature = || image::attachment(&[made.key.signature(&name, image.root).unwrap()]);
    let tag = image::attachment_tag(&image.root, ".sig");
    let signed = signature();
    registry.push("library/app", Some(&tag), &signed);
    let gate = made.start().await;
    let denied = gate.get("/library/app/manifests/1").await;
    assert!(denied.status == 403 && denied.text().contains("not signed"), "{}", denied.text());

    registry.push("sigs", Some(&tag), &signed);
    // A different authority, for which nothing is remembered.
    gate.set_policy(&here.replace("name: ci", "name: again").replace("trust: ci", "trust: again"));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let unknown = document("{key: {file: release.pub}, repository: \"elsewhere.test/sigs\"}");
    gate.set_policy(&unknown);
    let denied = gate.get("/library/app/manifests/1").await;
    assert!(denied.text().contains("elsewhere.test, which is not a configured upstream"), "{}", denied.text());
}
