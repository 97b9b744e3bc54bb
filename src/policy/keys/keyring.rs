//! OpenPGP key rings (RFC 9580), interpreted once when a document is loaded.
//!
//! With the feature `gpg`, the ring contains certificates that signatures can be verified with. Without it, only the
//! packets are kept, so that documents have the same meaning, and the authority can report why it verifies nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::material::InvalidMaterial;
use super::pem::{self, Block};
use crate::oci::Digest;
#[cfg(feature = "gpg")]
use crate::x509::{canonical_public_key, canonical_rsa_key};

const LABEL: &str = "PGP PUBLIC KEY BLOCK";

/// An OpenPGP key ring: one or more public keys with their subkeys. Two rings are equal if their packets are equal.
/// Cheap to clone, because the ring of an authority is handed to each verification.
#[derive(Clone)]
pub struct KeyRing {
    packets: Arc<[u8]>,
    #[cfg(feature = "gpg")]
    certificates: Arc<[sequoia_openpgp::Cert]>,
    /// For each certificate, the identifiers of its keys, the primary key first.
    #[cfg(feature = "gpg")]
    keys: Arc<[Vec<String>]>,
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
        let keys = certificates.iter().map(|one| one.keys().map(|key| key_id(key.key())).collect()).collect();
        Ok(Self { packets: packets.into(), certificates: certificates.into(), keys })
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

    /// The identifier of a key as a signer, the same in every ring: that of its primary key. A key and its subkeys are
    /// one signer.
    #[cfg(feature = "gpg")]
    pub fn signer(certificate: &sequoia_openpgp::Cert) -> String {
        key_id(certificate.primary_key().key())
    }

    /// For each key of the ring, the identifiers of its primary key and of its subkeys.
    pub(in crate::policy) fn key_sets(&self) -> Vec<BTreeSet<String>> {
        #[cfg(feature = "gpg")]
        return self.keys.iter().map(|keys| keys.iter().cloned().collect()).collect();
        #[cfg(not(feature = "gpg"))]
        Vec::new()
    }

    /// The identifiers of all keys.
    pub(in crate::policy) fn signers(&self) -> BTreeSet<String> {
        #[cfg(feature = "gpg")]
        if !self.keys.is_empty() {
            return self.keys.iter().filter_map(|keys| keys.first().cloned()).collect();
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
            #[cfg(feature = "gpg")]
            keys: Arc::new([]),
        }
    }
}

/// The fingerprint of a key, as other schemes know it; for a kind of key that no other scheme has, that of OpenPGP.
#[cfg(feature = "gpg")]
fn key_id<R>(key: &sequoia_openpgp::packet::Key<sequoia_openpgp::packet::key::PublicParts, R>) -> String
where
    R: sequoia_openpgp::packet::key::KeyRole,
{
    use sequoia_openpgp::crypto::mpi::PublicKey as Numbers;
    use sequoia_openpgp::types::Curve;

    let canonical = match key.mpis() {
        Numbers::RSA { e, n } => canonical_rsa_key(n.value(), e.value()),
        Numbers::ECDSA { curve: Curve::NistP256 | Curve::NistP384 | Curve::NistP521, q } => {
            canonical_public_key(q.value())
        }
        // A prefix of one byte announces a native point (RFC 9580, section 11.2).
        Numbers::EdDSA { curve: Curve::Ed25519, q } => q.value().strip_prefix(&[0x40]).and_then(canonical_public_key),
        Numbers::Ed25519 { a } => canonical_public_key(a),
        _ => None,
    };
    match canonical {
        Some(spki) => Digest::sha256(&spki).to_string(),
        None => format!("openpgp:{}", key.fingerprint()),
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
