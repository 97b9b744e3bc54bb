//! The one reader of PEM (RFC 7468): what the linter takes, the verifier takes.
//!
//! It reads as laxly as the RFC's "lax" grammar: white space may stand anywhere within a block, and any text around it.
//! `rustls-pki-types` and `pem-rfc7468` refuse an indented block, which YAML makes easily; `pem` takes an empty line for
//! the end of headers and passes over a block that does not end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// A block as it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Block<'a> {
    /// What stands after `BEGIN`: `PUBLIC KEY`.
    pub(super) label: &'a str,
    /// What stands between the two lines.
    body: &'a str,
}

impl Block<'_> {
    /// The content.
    ///
    /// # Errors
    /// The block is not base64, or is empty.
    pub(super) fn decode(&self) -> Result<Vec<u8>, InvalidPem> {
        let encoded: String = self.body.chars().filter(|c| !c.is_whitespace()).collect();
        match STANDARD.decode(encoded) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(InvalidPem::Base64(self.label.into())),
        }
    }
}

/// Why a text is no PEM.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidPem {
    #[error("the {0} block is not base64")]
    Base64(String),
    #[error("the {0} block has no END line")]
    Unfinished(String),
}

/// All blocks of a text.
///
/// # Errors
/// A block does not end.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, InvalidPem> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let Some((label, after)) = rest.split_once(DASHES) else { break };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = after.split_once(&end) else {
            return Err(InvalidPem::Unfinished(label.chars().take(40).collect()));
        };
        found.push(Block { label, body });
        rest = after;
    }
    Ok(found)
}
