//! Keys, certificates and key rings, checked to be the public half of what they should be before anything relies on
//! them.

use crate::policy::key::PublicKey;
use crate::policy::pem;

/// The largest key, certificate chain or key ring, in bytes.
const MAX_MATERIAL: usize = 256 * 1024;

/// A public key: what is read here is what signatures are verified with.
///
/// # Errors
/// What is wrong with it; never its content. So it is for all functions here.
pub(super) fn public_key(bytes: &[u8]) -> Result<PublicKey, String> {
    PublicKey::from_pem(text(bytes, "PUBLIC KEY")?).map_err(|invalid| invalid.to_string())
}

/// PEM, `CERTIFICATE`; several may follow each other.
pub(super) fn certificates(bytes: &[u8]) -> Result<String, String> {
    let text = text(bytes, "CERTIFICATE")?;
    pem_of(text, &["CERTIFICATE"])?;
    Ok(text.to_owned())
}

/// PEM, one `PUBLIC KEY` or `CERTIFICATE`: Docker Content Trust delegations come as both.
pub(super) fn signer_key(bytes: &[u8]) -> Result<String, String> {
    let text = text(bytes, "PUBLIC KEY or CERTIFICATE")?;
    match pem_of(text, &["PUBLIC KEY", "CERTIFICATE"])? {
        1 => Ok(text.to_owned()),
        _ => Err("more than one block in it; list several keys one by one".into()),
    }
}

/// Armoured OpenPGP, `PGP PUBLIC KEY BLOCK`. Its headers and its checksum are for the OpenPGP library to read.
pub(super) fn key_ring(bytes: &[u8]) -> Result<String, String> {
    const LABEL: &str = "PGP PUBLIC KEY BLOCK";
    let text = text(bytes, LABEL)?;
    let blocks = pem::blocks(text).map_err(|invalid| invalid.to_string())?;
    if blocks.iter().any(|block| block.label == LABEL) { Ok(text.to_owned()) } else { Err(missing(LABEL)) }
}

/// The bytes as text that holds no private key.
fn text<'a>(bytes: &'a [u8], expected: &str) -> Result<&'a str, String> {
    if bytes.len() > MAX_MATERIAL {
        return Err(format!("larger than {MAX_MATERIAL} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| format!("not text; expected a {expected} block"))?;
    if text.contains("PRIVATE KEY") {
        return Err("it holds a private key, which does not belong here".into());
    }
    Ok(text)
}

/// How many blocks there are, all of them base64; at least one has one of the labels.
fn pem_of(text: &str, labels: &[&str]) -> Result<usize, String> {
    let blocks = pem::blocks(text).map_err(|invalid| invalid.to_string())?;
    blocks.iter().try_for_each(|block| block.decode().map(drop)).map_err(|invalid| invalid.to_string())?;
    let found = blocks.iter().any(|block| labels.contains(&block.label));
    if found { Ok(blocks.len()) } else { Err(missing(&labels.join(" or "))) }
}

fn missing(expected: &str) -> String {
    format!("no {expected} block in it")
}
