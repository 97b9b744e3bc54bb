//! The pages about signatures, and about policies that are taken from other tools.

use std::fs;
use std::path::Path;

use pullgate::sample::{NotaryRepository, SampleDelegation};

use super::{OTHER_CONFIGURATION, Shop, debian, status};
use crate::harness::{Machine, Registry, Variant};

/// A folder of the machine, as commands and files name it.
fn path(machine: &Machine, name: &str) -> String {
    machine.dir().join(name).display().to_string()
}

/// Has commands use the configuration of the page.
fn configure(machine: &mut Machine) {
    let configuration = path(machine, OTHER_CONFIGURATION);
    machine.set("PULLGATE_CONFIG", &configuration);
}

#[test]
fn keep_trusted_roots() {
    let mut shop = Shop::with_configuration();
    configure(&mut shop.machine);
    let url = shop.elsewhere.url();
    shop.machine.replace("https://notary.example.com", url.clone());
    let upstream = format!("[[upstream]]\nhost = \"registry.example.com\"\nurl = \"{url}\"\nnotary = \"{url}\"");
    shop.machine.append(OTHER_CONFIGURATION, &upstream);

    let mut walk = shop.machine.walk("docs/trust.md").without("yaml").without("text");
    walk.take_with("toml", "[trust.authority.release.cosign]");
    let roots = walk.take_with("toml", "trusted_roots");
    walk.machine.append(OTHER_CONFIGURATION, &format!("{}\nfirst_use = \"remember\"", roots.text));
    let commands = walk.take_with("elsewhere", "--root 12.root.json");
    let commands: Vec<&str> = commands.text.lines().collect();
    let refused = walk.machine.sh(commands[1]).refusal();
    assert!(refused.contains("no root of this repository is known yet; name it with --root"), "{refused}");
    let root = "pullgate certs init > /dev/null
cosign trusted-root create --fulcio=url=https://fulcio.acme.com,certificate-chain=certs/ca.crt --out made.json
pullgate trust update --from made.json";
    walk.machine.sh(root).bytes();
    let shown = walk.machine.sh(commands[2]).text();
    assert!(shown.contains("certificate authority https://fulcio.acme.com"), "{shown}");

    publish_signed_tag(&shop);
    shop.machine.serve(OTHER_CONFIGURATION);
    let signed = "http://127.0.0.1:5000/v2/registry.example.com/app/manifests/v1";
    assert_eq!(status(&shop.machine, signed), "200");
    let mut walk = shop.machine.walk("docs/trust.md").without("yaml").without("text").without("toml");
    walk.take("elsewhere");
    let forget = walk.take_with("sh", "pullgate trust forget");
    let shown = walk.machine.sh("pullgate trust status").text();
    assert!(shown.contains("/v2/registry.example.com/app: notary root version 1"), "{shown}");
    walk.run(&forget);
    walk.finish();
}

/// Signs a tag by Docker Content Trust, and has a policy require that.
fn publish_signed_tag(shop: &Shop) {
    let registry = &shop.elsewhere.registry;
    let image = debian();
    registry.push("app", Some("v1"), &image);
    let mut repository = NotaryRepository::new("registry.example.com/app").expect("keys");
    repository.delegations.push(SampleDelegation::new("targets/releases").expect("a key"));
    let size = image.manifests.iter().find(|manifest| manifest.digest == image.root).expect("the root").bytes.len();
    repository.sign("targets/releases", "v1", image.root, size as u64);
    repository.publish();
    repository.put(registry);
    let policy = "apiVersion: securityenforcement.admission.cloud.ibm.com/v1beta1
kind: ClusterImagePolicy
metadata: {name: signed}
spec:
  repositories: [{name: \"registry.example.com/*\", policy: {trust: {enabled: true}}}]
";
    shop.machine.write("policies/signed.yaml", policy);
}

#[test]
fn take_the_trust_policy_of_notation() {
    let mut shop = Shop::with_configuration();
    let policies = path(&shop.machine, "etc/policies");
    shop.machine.replace("/etc/pullgate/policies", policies);
    shop.machine.write(".config/notation/truststore/x509/ca/acme/acme.crt", "");
    shop.machine.write(".config/notation/trustpolicy.json", "{}");
    shop.machine.walk("docs/policies.md").without("yaml").finish();
    for file in ["truststore/x509/ca/acme/acme.crt", "trustpolicy.json"] {
        assert!(shop.machine.dir().join("etc/policies/notation").join(file).exists(), "{file}");
    }
}

#[test]
fn sign_with_gpg() {
    let mut shop = Shop::with_configuration();
    configure(&mut shop.machine);
    let dir = shop.machine.dir().to_owned();
    let registry = Registry::start("registry", Variant::Plain, &dir, &dir.join("storage"));
    let (address, elsewhere) = (registry.address().to_owned(), shop.elsewhere.url().replace("http://", "docker://"));
    let (etc, signatures) = (path(&shop.machine, "etc/containers"), path(&shop.machine, "signatures"));
    shop.machine.replace("/etc/containers", etc);
    shop.machine.replace("/srv/signatures", signatures.clone());
    shop.machine.replace("https://signatures.acme.com/store", format!("file://{signatures}"));
    // The name of the registry is that in the signature.
    let name = "docker://registry.acme.com/team/app:v1";
    let options = "--dest-tls-verify=false --sign-identity registry.acme.com/team/app:v1";
    shop.machine.replace(name, format!("{options} docker://{address}/team/app:v1"));
    let upstream = format!("[[upstream]]\nhost = \"registry.acme.com\"\nurl = \"{}\"", registry.url());
    fs::write(dir.join("upstream.toml"), upstream).expect("a file");
    shop.machine.sh("cat upstream.toml >> pullgate.toml").bytes();
    prepare_containers(&shop.machine);
    fs::remove_file(dir.join("policies/scanned.yaml")).expect("the other policy");

    let mut walk = shop.machine.walk("docs/simple-signing.md");
    let document = walk.take_with("yaml", "gpg:");
    let imported = fs::read_to_string(dir.join("policies/containers.yaml")).expect("the document");
    assert!(imported.contains("gpg"), "{imported}");
    fs::remove_file(dir.join("policies/containers.yaml")).expect("the document");
    walk.machine.write("policies/signed.yaml", &document.text);
    let signing = walk.take_with("sh", "lookaside-staging");
    let staging = signing.text.lines().find_map(|line| line.strip_prefix("#   docker: ")).expect("a line");
    let staging = format!("docker: {}\n", staging.replace("registry.acme.com", &address));
    walk.machine.write(".config/containers/registries.d/acme.yaml", &staging);
    let image =
        format!("skopeo copy --quiet --src-tls-verify=false {elsewhere}/library/nginx:1.27 docker-archive:app.tar");
    walk.machine.sh(&image).bytes();
    walk.run(&signing);
    let checked = walk.machine.sh("pullgate check registry.acme.com/team/app:v1; gpgconf --kill all").text();
    assert!(checked.contains("(release@acme.com)"), "{checked}");
    walk.take_with("yaml", "insecure: true");
    walk.finish();
}

/// The files of podman and skopeo: those of the host, and those with which skopeo copies images here.
fn prepare_containers(machine: &Machine) {
    let ring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gpg/ring.asc");
    fs::copy(ring, machine.dir().join("ring.asc")).expect("a key ring");
    let keys = path(machine, "ring.asc");
    let policy = format!(
        r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"registry.acme.com": [
  {{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "{keys}"}}]}}}}}}"#
    );
    machine.write("etc/containers/policy.json", &policy);
    let lookaside = "docker: {registry.acme.com: {lookaside: \"https://signatures.acme.com/store\"}}\n";
    machine.write("etc/containers/registries.d/acme.yaml", lookaside);
    machine.write(".config/containers/policy.json", "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}");
}
