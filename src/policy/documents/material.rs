//! Keys, certificates and key rings, checked to be the public half of what they should be before anything relies on
//! them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The largest key, certificate chain or key ring, in bytes.
const MAX_MATERIAL: usize = 256 * 1024;

/// What kind of block a text must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Block {
    /// PEM, `CERTIFICATE`; several may follow each other.
    Certificate,
    /// PEM, `PUBLIC KEY` (SubjectPublicKeyInfo).
    PublicKey,
    /// Armoured OpenPGP, `PGP PUBLIC KEY BLOCK`.
    PgpPublicKey,
    /// PEM, `PUBLIC KEY` or `CERTIFICATE`: Docker Content Trust delegations come as both.
    SignerKey,
}

impl Block {
    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Certificate => &["CERTIFICATE"],
            Self::PublicKey => &["PUBLIC KEY"],
            Self::PgpPublicKey => &["PGP PUBLIC KEY BLOCK"],
            Self::SignerKey => &["PUBLIC KEY", "CERTIFICATE"],
        }
    }
}

/// The bytes as text that holds such a block, and no private one.
///
/// # Errors
/// What is wrong with them; never their content.
pub(super) fn check(bytes: &[u8], block: Block) -> Result<String, String> {
    let expected = block.labels().join(" or ");
    if bytes.len() > MAX_MATERIAL {
        return Err(format!("larger than {MAX_MATERIAL} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| format!("not text; expected a {expected} block"))?;
    if text.contains("PRIVATE KEY") {
        return Err("it holds a private key, which does not belong here".into());
    }
    let blocks = text.matches("-----BEGIN ").count();
    let Some((label, body)) = block.labels().iter().find_map(|label| Some((*label, body(text, label)?))) else {
        return Err(format!("no {expected} block in it"));
    };
    if blocks > 1 && matches!(block, Block::PublicKey | Block::SignerKey) {
        return Err("more than one block in it; list several keys one by one".into());
    }
    // An armoured OpenPGP block may have headers and a checksum; the OpenPGP library reads those.
    let is_pem = label != "PGP PUBLIC KEY BLOCK";
    let encoded: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if is_pem && (encoded.is_empty() || STANDARD.decode(encoded).is_err()) {
        return Err(format!("the {label} block is not base64"));
    }
    Ok(text.to_owned())
}

/// What stands between the first BEGIN and END lines of that label.
fn body<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {label}-----");
    let from = text.find(&begin)? + begin.len();
    let length = text[from..].find(&format!("-----END {label}-----"))?;
    Some(&text[from..from + length])
}
