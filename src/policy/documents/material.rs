//! Keys, certificates and key rings, checked to be public and of the right kind before anything relies on them.

use crate::oci::Digest;
use crate::policy::keys::key::PublicKey;
use crate::policy::keys::keyring::KeyRing;
use crate::policy::keys::material::{Certificate, InvalidMaterial, SignerKey};
use crate::policy::keys::pem;
use crate::policy::keys::trusted_root::TrustedRoot;
use crate::policy::signatures::authority::{NotaryRoot, PinnedRoot};
use crate::tuf::{Root, SignedDocument};
use crate::x509::RevocationList;

/// The largest key, certificate chain or key ring, in bytes.
const MAX_MATERIAL: usize = 256 * 1024;
/// How DER that is a SEQUENCE begins; PEM never does.
const DER_SEQUENCE: u8 = 0x30;

/// The text in the label of every block with a private key.
const PRIVATE: &str = "PRIVATE KEY";

/// A public key, as signatures are verified with it.
///
/// # Errors
/// A description of the problem, never the content. This applies to all functions here.
pub(super) fn public_key(bytes: &[u8]) -> Result<PublicKey, String> {
    PublicKey::from_pem(text(bytes, "PUBLIC KEY")?).map_err(|invalid| invalid.to_string())
}

/// Certificates in PEM; several may follow each other.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, String> {
    Certificate::all_from_pem(text(bytes, "CERTIFICATE")?).map_err(|invalid| invalid.to_string())
}

/// The DER encodings of certificates in PEM, or of one certificate in DER.
pub(super) fn certificates_or_der(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.first() == Some(&DER_SEQUENCE) && bytes.len() <= MAX_MATERIAL {
        return Ok(vec![bytes.to_vec()]);
    }
    Ok(certificates(bytes)?.iter().map(|certificate| certificate.der().to_vec()).collect())
}

/// A certificate revocation list in DER or PEM.
pub(super) fn revocation_list(bytes: &[u8]) -> Result<RevocationList, String> {
    let der = if bytes.first() == Some(&DER_SEQUENCE) {
        bytes.to_vec()
    } else {
        let text = std::str::from_utf8(bytes).map_err(|_| "neither DER nor PEM")?;
        pem::only(text, "X509 CRL").map_err(|invalid| invalid.to_string())?
    };
    RevocationList::from_der(&der).map_err(|invalid| invalid.to_string())
}

/// A text that holds no private key.
pub(super) fn plain_text(bytes: &[u8]) -> Result<String, String> {
    text(bytes, "JSON").map(str::to_owned)
}

/// One public key or one certificate in PEM: Docker Content Trust delegations come as both.
pub(super) fn signer_key(bytes: &[u8]) -> Result<SignerKey, String> {
    SignerKey::from_pem(text(bytes, "PUBLIC KEY or CERTIFICATE")?).map_err(|invalid| invalid.to_string())
}

/// The root of Docker Content Trust: a `root.json`, or the keys that sign such documents, as certificates or public
/// keys in PEM.
pub(super) fn notary_root(bytes: &[u8]) -> Result<NotaryRoot, String> {
    let text = text(bytes, "root.json, CERTIFICATE or PUBLIC KEY")?;
    if !text.trim_start().starts_with('{') {
        let keys = SignerKey::all_from_pem(text).map_err(|invalid| invalid.to_string())?;
        return Ok(NotaryRoot::Keys(keys.iter().map(SignerKey::key_fingerprint).collect()));
    }
    let wrong = |invalid: crate::tuf::InvalidDocument| format!("not a root document: {invalid}");
    let envelope = SignedDocument::parse(bytes).map_err(wrong)?;
    let root = Root::read(&envelope).map_err(wrong)?;
    envelope.verify(&root.keys, root.role("root")).map_err(wrong)?;
    let fingerprint = Digest::sha256(envelope.message());
    Ok(NotaryRoot::Document(PinnedRoot { document: bytes.to_vec(), fingerprint }))
}

/// An OpenPGP key ring, binary or in ASCII armour.
pub(super) fn key_ring(bytes: &[u8]) -> Result<KeyRing, String> {
    bounded(bytes)?;
    if bytes.windows(PRIVATE.len()).any(|window| window == PRIVATE.as_bytes()) {
        return Err(InvalidMaterial::Private.to_string());
    }
    KeyRing::from_bytes(bytes).map_err(|invalid| invalid.to_string())
}

/// A trusted root of Sigstore. `name` is how messages refer to it.
pub(super) fn trusted_root(name: &str, bytes: &[u8]) -> Result<TrustedRoot, String> {
    if bytes.len() > MAX_MATERIAL {
        return Err(format!("larger than {MAX_MATERIAL} bytes"));
    }
    TrustedRoot::from_json(name, bytes)
}

/// The bytes as text that holds no private key.
fn text<'a>(bytes: &'a [u8], expected: &str) -> Result<&'a str, String> {
    bounded(bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|_| format!("not text; expected a {expected} block"))?;
    if text.contains(PRIVATE) { Err(InvalidMaterial::Private.to_string()) } else { Ok(text) }
}

/// A password: one line of text, of at most 4 KiB.
pub(super) fn password(bytes: &[u8]) -> Result<String, String> {
    const MAX_PASSWORD: usize = 4096;
    let text = std::str::from_utf8(bytes).map_err(|_| "not text; expected a password")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty; expected a password".into()),
        password if password.len() > MAX_PASSWORD || password.contains(char::is_control) => {
            Err(format!("not one line of at most {MAX_PASSWORD} bytes; expected a password"))
        }
        password => Ok(password.to_owned()),
    }
}

fn bounded(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_MATERIAL { Err(format!("larger than {MAX_MATERIAL} bytes")) } else { Ok(()) }
}
