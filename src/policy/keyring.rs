//! OpenPGP key rings (RFC 9580), interpreted once when a document is loaded.
//!
//! With the feature `gpg`, the ring contains certificates that signatures can be verified with. Without it, only the
//! packets are kept, so that documents mean the same and the authority can say why it verifies nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::material::InvalidMaterial;
use super::pem::{self, Block};
use crate::oci::Digest;

const LABEL: &str = "PGP PUBLIC KEY BLOCK";

/// An OpenPGP key ring: one or more public keys with their subkeys. Two rings are equal if their packets are equal. Cheap
/// to clone, because the ring of an authority is handed to each verification.
#[derive(Clone)]
pub struct KeyRing {
    packets: Arc<[u8]>,
    #[cfg(feature = "gpg")]
    certificates: Arc<[sequoia_openpgp::Cert]>,
}

impl KeyRing {
    /// Reads a ring as `gpg --export` writes it: binary packets, or any number of `PGP PUBLIC KEY BLOCK`s in ASCII
    /// armour (RFC 9580, section 6.2). Armour headers and the optional checksum are dropped.
    ///
    /// # Errors
    /// There is no public key, a key cannot be read, or the ring contains a secret key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidMaterial> {
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(InvalidMaterial::KeyBox);
        }
        // Every packet begins with a byte whose highest bit is set, which no armour does (RFC 9580, section 4.2).
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Self::from_packets(bytes.to_vec());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidMaterial::Missing(LABEL))?;
        let blocks = pem::blocks(text)?;
        let rings = blocks.iter().filter(|block| block.label == LABEL);
        let packets = rings.map(Block::decode_armor).collect::<Result<Vec<_>, _>>()?.concat();
        if packets.is_empty() { Err(InvalidMaterial::Missing(LABEL)) } else { Self::from_packets(packets) }
    }

    #[cfg(feature = "gpg")]
    fn from_packets(packets: Vec<u8>) -> Result<Self, InvalidMaterial> {
        use sequoia_openpgp::cert::CertParser;
        use sequoia_openpgp::parse::Parse;

        let invalid = |error: &dyn fmt::Display| InvalidMaterial::OpenPgp(format!("{error:#}"));
        let parser = CertParser::from_bytes(&packets).map_err(|error| invalid(&error))?;
        let certificates = parser.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(&error))?;
        if certificates.is_empty() {
            return Err(InvalidMaterial::OpenPgp("there is no key in it".into()));
        }
        if certificates.iter().any(sequoia_openpgp::Cert::is_tsk) {
            return Err(InvalidMaterial::Private);
        }
        Ok(Self { packets: packets.into(), certificates: certificates.into() })
    }

    #[cfg(not(feature = "gpg"))]
    fn from_packets(packets: Vec<u8>) -> Result<Self, InvalidMaterial> {
        Ok(Self { packets: packets.into() })
    }

    /// The SHA-256 digest of the packets.
    pub fn fingerprint(&self) -> Digest {
        Digest::sha256(&self.packets)
    }

    /// The public keys with their subkeys.
    #[cfg(feature = "gpg")]
    pub fn certificates(&self) -> &[sequoia_openpgp::Cert] {
        &self.certificates
    }

    /// The identifier of a key as a signer, the same in every ring. A key and its subkeys are one signer.
    #[cfg(feature = "gpg")]
    pub fn signer(certificate: &sequoia_openpgp::Cert) -> String {
        format!("openpgp:{}", certificate.fingerprint())
    }

    /// The identifiers of all keys.
    pub(super) fn signers(&self) -> BTreeSet<String> {
        #[cfg(feature = "gpg")]
        if !self.certificates.is_empty() {
            return self.certificates.iter().map(Self::signer).collect();
        }
        [format!("keyring {}", self.fingerprint())].into()
    }

    /// A ring of packets that are not keys.
    #[cfg(test)]
    pub(crate) fn for_test(packets: &[u8]) -> Self {
        Self {
            packets: packets.into(),
            #[cfg(feature = "gpg")]
            certificates: Arc::new([]),
        }
    }
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        self.packets == other.packets
    }
}

impl Eq for KeyRing {}

impl fmt::Display for KeyRing {
    /// Writes the beginning of the digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint().short())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing {:?}", self.signers())
    }
}

#[cfg(test)]
#[cfg(feature = "gpg")]
mod tests;
