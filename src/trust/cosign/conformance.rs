//! The bundle verification cases of sigstore-conformance, as their suite says.

use std::path::Path;

use bytes::Bytes;
use sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use super::*;
use crate::oci::{Content, media_type};
use crate::policy::TextPattern;

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Who must have signed a case; `None` if its key or its root cannot be read.
fn authority(case: &Path, log: TransparencyLog) -> Option<CosignAuthority> {
    let read = |name: &str| std::fs::read(case.join(name)).ok();
    let text = |name: &str| read(name).map(|bytes| String::from_utf8(bytes).unwrap());
    let root = text("trusted_root.json").unwrap_or_else(|| SIGSTORE_PRODUCTION_TRUSTED_ROOT.to_owned());
    let roots = vec![TrustedRoot::from_json("root", root.as_bytes()).ok()?];
    let exact = |name, default: &str| TextPattern::Exact(text(name).unwrap_or_else(|| default.to_owned()));
    let signers = match text("key.pub") {
        Some(key) => CosignSigners::Keys(vec![PublicKey::from_pem(&key).ok()?.into()]),
        None => CosignSigners::Keyless(Keyless {
            issuer: exact("issuer", ISSUER),
            identity: exact("identity", IDENTITY),
            claims: BTreeMap::new(),
        }),
    };
    Some(CosignAuthority { signers, log, roots, ..CosignAuthority::of_keys(vec![]) })
}

/// A manifest stands for the artifact, whose bytes the cases sign. Most of them sign the artifact or provenance of it,
/// so who signed is verified whatever the predicate.
fn outcome(bundle: &Bytes, artifact: Vec<u8>, cosign: CosignAuthority) -> Result<(), String> {
    let authority = Arc::new(Authority::new("a", Scheme::Cosign(cosign.into())));
    let image = ImageSubject {
        name: "registry.acme.com/app".parse::<crate::oci::ImageReference>().unwrap().name,
        manifest: artifact_manifest(artifact).into(),
        now: "2026-06-01T00:00:00Z".parse().unwrap(),
    };
    let part = Part::new(&Sought { authority, known: Vec::new() }, &image);
    part.unusable.clone().map_or(Ok(()), Err)?;
    let claim = claim::read(bundle, Form::Bundle, &image.manifest, claim::MAX_PAYLOAD)?;
    part.verify(&claim, image.now, &mut Tried::default()).map(drop).map_err(|refusal| refusal.why)
}

/// Every case, and how many there are.
fn disagreements(log: TransparencyLog, expected: impl Fn(&str) -> bool) -> (usize, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/sigstore-conformance");
    let cases = std::fs::read_dir(root.join("bundle-verify")).unwrap();
    let (mut number, mut wrong) = (0, Vec::new());
    for case in cases.map(|case| case.unwrap().path()) {
        let Ok(bundle) = std::fs::read(case.join("bundle.sigstore.json")) else { continue };
        let read_a = |_| std::fs::read(root.join("a.txt")).unwrap();
        let artifact = std::fs::read(case.join("artifact")).unwrap_or_else(read_a);
        let said = authority(&case, log).ok_or_else(|| "its key or its root cannot be read".to_owned());
        let said = said.and_then(|cosign| outcome(&bundle.into(), artifact, cosign));
        let name = case.file_name().unwrap().to_string_lossy();
        if said.is_ok() != expected(&name) {
            wrong.push(format!("{name}: {said:?}"));
        }
        number += 1;
    }
    (number, wrong)
}

#[test]
#[ignore = "reads ../shared"]
fn sigstore_conformance() {
    assert_eq!(disagreements(TransparencyLog::Require, |name| !name.ends_with("_fail")), (70, vec![]));
}

/// Without a log, what only concerns the log does not count against a signature; everything else still does.
#[test]
#[ignore = "reads ../shared"]
fn sigstore_conformance_without_transparency_log() {
    let concerns_the_log = [
        "checkpoint-bad-keyhint_fail",
        "inclusion-proof-corrupted-hash_fail",
        "intoto-missing-inclusion-proof_fail",
        "invalid-checkpoint-signature_fail",
        "rekor2-checkpoint-no-matching-signature_fail",
        "rekor2-no-inclusion-proof_fail",
    ];
    let expected = |name: &str| !name.ends_with("_fail") || concerns_the_log.contains(&name);
    assert_eq!(disagreements(TransparencyLog::Ignore, expected), (70, vec![]));
}

fn artifact_manifest(bytes: Vec<u8>) -> Manifest {
    Manifest {
        digest: Digest::sha256(&bytes),
        bytes: bytes.into(),
        media_type: media_type::OCI_INDEX.into(),
        content: Content::Index(Vec::new()),
        subject: None,
        artifact_type: None,
    }
}
