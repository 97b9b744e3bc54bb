//! The only PEM parser (RFC 7468), so that the linter and the verifier accept the same texts.
//!
//! It follows the "lax" grammar of the RFC: a block may contain white space anywhere, and text may surround it.
//! `rustls-pki-types` and `pem-rfc7468` reject an indented block, which is common in YAML. `pem` treats an empty line
//! as the end of the headers and skips a block without an END line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// A block as written in the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::policy) struct Block<'a> {
    /// The label of the BEGIN line, such as `PUBLIC KEY`.
    pub(in crate::policy) label: &'a str,
    /// The text between the BEGIN and END lines.
    body: &'a str,
}

impl Block<'_> {
    /// Decodes the content.
    ///
    /// # Errors
    /// The block is not base64, or is empty.
    pub(in crate::policy) fn decode(&self) -> Result<Vec<u8>, InvalidPem> {
        self.decode_text(self.body)
    }

    /// Decodes the content of OpenPGP armour (RFC 9580, section 6.2). Skips header lines, which contain a colon, and
    /// the checksum line, which begins with `=`.
    ///
    /// # Errors
    /// The block is not base64, or is empty.
    pub(super) fn decode_armor(&self) -> Result<Vec<u8>, InvalidPem> {
        let is_data = |line: &&str| !line.contains(':') && !line.trim_start().starts_with('=');
        self.decode_text(&self.body.lines().filter(is_data).collect::<String>())
    }

    fn decode_text(&self, text: &str) -> Result<Vec<u8>, InvalidPem> {
        let encoded: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        match STANDARD.decode(encoded) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(InvalidPem::Base64(self.label.into())),
        }
    }
}

/// Why a text is not valid PEM.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::policy) enum InvalidPem {
    #[error("the {0} block is not base64")]
    Base64(String),
    #[error("it must hold exactly one {0} block")]
    NotOne(&'static str),
    #[error("the {0} block has no END line")]
    Unfinished(String),
}

/// Decodes the only block of a text, which must have this label.
///
/// # Errors
/// There is no such block, there are several, or it is damaged.
pub(in crate::policy) fn only(text: &str, label: &'static str) -> Result<Vec<u8>, InvalidPem> {
    match &blocks(text)?[..] {
        [block] if block.label == label => block.decode(),
        _ => Err(InvalidPem::NotOne(label)),
    }
}

/// Returns all blocks of a text.
///
/// # Errors
/// A block has no END line.
pub(in crate::policy) fn blocks(text: &str) -> Result<Vec<Block<'_>>, InvalidPem> {
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
