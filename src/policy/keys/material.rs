//! Trusted material other than plain public keys. It is parsed once, when a document is loaded.

use x509_cert::der::{Decode, Encode};

use super::key::{self, InvalidKey, PublicKey};
use super::pem::{self, Block, InvalidPem};
use crate::oci::Digest;

const CERTIFICATE: &str = "CERTIFICATE";
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Why a text does not contain usable material. Messages never quote the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidMaterial {
    /// A `CERTIFICATE` block that is not an X.509 certificate.
    #[error("a CERTIFICATE block is not an X.509 certificate")]
    Certificate,
    /// A keybox, which only GnuPG itself reads.
    #[error("it is a GnuPG keybox; export its keys with `gpg --export`")]
    KeyBox,
    /// A public key that cannot be used.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// No block has the expected label.
    #[error("no {0} block in it")]
    Missing(&'static str),
    /// An OpenPGP key ring that cannot be read.
    #[error("not an OpenPGP key ring: {0}")]
    OpenPgp(String),
    /// A block that cannot be read.
    #[error("{0}")]
    Pem(String),
    /// A secret key.
    #[error("it contains a private key, which does not belong here")]
    Private,
    /// More than one block where one is expected.
    #[error("more than one block in it; list several keys one by one")]
    Several,
}

impl From<InvalidPem> for InvalidMaterial {
    fn from(invalid: InvalidPem) -> Self {
        Self::Pem(invalid.to_string())
    }
}

/// An X.509 certificate (RFC 5280) that a policy trusts. Two certificates are equal if their DER encodings are equal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The SHA-256 digest of the SubjectPublicKeyInfo.
    key: Digest,
}

impl Certificate {
    /// Reads all `CERTIFICATE` blocks of a PEM text. There must be at least one. Other blocks are ignored.
    ///
    /// # Errors
    /// There is no such block, a block is damaged, or a block does not contain a certificate.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, InvalidMaterial> {
        let blocks = decoded(text)?;
        let certificates = blocks.iter().filter(|(block, _)| block.label == CERTIFICATE);
        let certificates = certificates.map(|(_, der)| Self::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() { Err(InvalidMaterial::Missing(CERTIFICATE)) } else { Ok(certificates) }
    }

    fn from_der(der: &[u8]) -> Result<Self, InvalidMaterial> {
        let certificate = x509_cert::Certificate::from_der(der).map_err(|_| InvalidMaterial::Certificate)?;
        let key = certificate.tbs_certificate.subject_public_key_info.to_der();
        let key = key::fingerprint(&key.map_err(|_| InvalidMaterial::Certificate)?);
        Ok(Self { der: der.to_vec(), key })
    }

    /// See [`key::fingerprint`].
    pub fn key_fingerprint(&self) -> Digest {
        self.key
    }

    /// Whether subject and issuer are the same, as in the certificate of a root.
    pub fn is_self_issued(&self) -> bool {
        let parsed = x509_cert::Certificate::from_der(&self.der);
        parsed.is_ok_and(|parsed| parsed.tbs_certificate.subject == parsed.tbs_certificate.issuer)
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 digest of the certificate's DER encoding.
    pub fn fingerprint(&self) -> Digest {
        Digest::sha256(&self.der)
    }
}

/// The key of a Docker Content Trust signer. A delegation contains either a bare key or a certificate, and notary
/// assigns different key IDs to the two.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few of them, and each is made once")]
pub enum SignerKey {
    /// A certificate.
    Certificate(Certificate),
    /// A bare public key.
    Key(PublicKey),
}

impl SignerKey {
    /// Reads a PEM text with exactly one block, a `PUBLIC KEY` or a `CERTIFICATE`.
    ///
    /// # Errors
    /// There is no such block, there are several, or the block cannot be used.
    pub fn from_pem(text: &str) -> Result<Self, InvalidMaterial> {
        match &*decoded(text)? {
            [(block, der)] if block.label == CERTIFICATE => Ok(Self::Certificate(Certificate::from_der(der)?)),
            [(block, _)] if block.label == PUBLIC_KEY => Ok(Self::Key(PublicKey::from_pem(text)?)),
            blocks if !blocks.iter().any(|(block, _)| [CERTIFICATE, PUBLIC_KEY].contains(&block.label)) => {
                Err(InvalidMaterial::Missing("PUBLIC KEY or CERTIFICATE"))
            }
            _ => Err(InvalidMaterial::Several),
        }
    }

    /// Reads all `PUBLIC KEY` and `CERTIFICATE` blocks of a PEM text. There must be at least one. Other blocks are
    /// ignored.
    ///
    /// # Errors
    /// There is no such block, or a block cannot be used.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, InvalidMaterial> {
        let mut keys = Vec::new();
        for (block, der) in decoded(text)? {
            match block.label {
                CERTIFICATE => keys.push(Self::Certificate(Certificate::from_der(&der)?)),
                PUBLIC_KEY => keys.push(Self::Key(PublicKey::from_spki(&der)?)),
                _ => {}
            }
        }
        if keys.is_empty() { Err(InvalidMaterial::Missing("PUBLIC KEY or CERTIFICATE")) } else { Ok(keys) }
    }

    /// The SHA-256 digest of the SubjectPublicKeyInfo, the same for a key and for every certificate of it.
    pub fn key_fingerprint(&self) -> Digest {
        match self {
            Self::Certificate(certificate) => certificate.key_fingerprint(),
            Self::Key(key) => key.fingerprint(),
        }
    }

    /// The SHA-256 digest of the key or the certificate in DER.
    pub fn fingerprint(&self) -> Digest {
        match self {
            Self::Certificate(certificate) => certificate.fingerprint(),
            Self::Key(key) => key.fingerprint(),
        }
    }
}

/// Decodes all blocks of a text. One damaged block makes the whole text invalid, regardless of its label.
fn decoded(text: &str) -> Result<Vec<(Block<'_>, Vec<u8>)>, InvalidMaterial> {
    let blocks = pem::blocks(text)?;
    Ok(blocks.into_iter().map(|block| Ok((block, block.decode()?))).collect::<Result<_, InvalidPem>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED_BY: &str = "localhost";

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn certificates_are_parsed_and_compared_by_content() {
        let (one, other) = (certificate(SIGNED_BY), certificate("other"));
        let both = Certificate::all_from_pem(&format!("{one}\n{other}")).unwrap();
        assert_eq!(both.len(), 2);
        assert_ne!(both[0].fingerprint(), both[1].fingerprint());
        let indented = one.replace('\n', "\r\n  ");
        assert_eq!(Certificate::all_from_pem(&indented).unwrap()[0], both[0]);
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(Certificate::all_from_pem(rubbish), Err(InvalidMaterial::Certificate));
        assert_eq!(Certificate::all_from_pem(""), Err(InvalidMaterial::Missing("CERTIFICATE")));
    }

    #[test]
    fn signer_keys_are_one_key_or_one_certificate() {
        let (key, certificate) = (PublicKey::for_test("k").to_pem(), certificate(SIGNED_BY));
        assert_eq!(SignerKey::from_pem(&key), Ok(SignerKey::Key(PublicKey::for_test("k"))));
        assert!(matches!(SignerKey::from_pem(&certificate), Ok(SignerKey::Certificate(_))));
        assert_eq!(SignerKey::from_pem(&(key + &certificate)), Err(InvalidMaterial::Several));
        assert_eq!(SignerKey::from_pem("x"), Err(InvalidMaterial::Missing("PUBLIC KEY or CERTIFICATE")));
    }
}
