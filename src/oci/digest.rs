//! Content digests: `sha256:…` and `sha512:…` with lower-case hex, as registered in the OCI image specification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The length of the longest hash, in bytes.
const MAX_HASH: usize = 64;
/// The length of `sha256:` and of `sha512:`.
const PREFIX: usize = 7;

/// The digest of some content. It is small and `Copy`, because it is the key of most maps in the program.
///
/// Grammar: OCI image-spec, descriptor.md, "Digests". Only registered algorithms are accepted, because a digest of an
/// unknown algorithm cannot be verified.
///
/// ```
/// let digest = pullgate::oci::Digest::sha256(b"");
/// let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(text.parse(), Ok(digest));
/// assert_eq!(digest.short(), "e3b0c44298fc");
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    algorithm: Algorithm,
    /// The hash, padded with zeros to the length of the longest algorithm.
    bytes: [u8; MAX_HASH],
}

impl Digest {
    /// Computes the SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// Computes the digest of `content` with `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The digest with a raw hash: 32 bytes of SHA-256, or 64 of SHA-512.
    ///
    /// # Errors
    /// [`InvalidDigest::Form`] if the hash has another length.
    pub fn from_bytes(hash: &[u8]) -> Result<Self, InvalidDigest> {
        let is_long = |algorithm: &Algorithm| algorithm.len() == hash.len();
        let algorithm = Algorithm::ALL.into_iter().find(is_long).ok_or(InvalidDigest::Form)?;
        let mut bytes = [0; MAX_HASH];
        bytes[..hash.len()].copy_from_slice(hash);
        Ok(Self { algorithm, bytes })
    }

    /// The hash algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw hash: 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.len()]
    }

    /// The hash in lower-case hex, without the algorithm prefix.
    pub fn hex(&self) -> String {
        self.with_text(|text| text[PREFIX..].to_owned())
    }

    /// The name of content with this digest in an OCI image layout: `blobs/sha256/9f86…` (Image Layout Specification,
    /// "Blobs").
    pub fn layout_name(&self) -> String {
        format!("blobs/{}/{}", self.algorithm.name(), self.hex())
    }

    /// Uses the text of the digest, without an allocation.
    fn with_text<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        let mut text = [b':'; PREFIX + 2 * MAX_HASH];
        text[..PREFIX - 1].copy_from_slice(self.algorithm.name().as_bytes());
        for (pair, byte) in text[PREFIX..].chunks_exact_mut(2).zip(self.as_bytes()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        // These are ASCII characters.
        use_it(std::str::from_utf8(&text[..PREFIX + 2 * self.algorithm.len()]).unwrap_or_default())
    }

    /// The first twelve hex digits, for display.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (name, hex) = text.split_once(':').ok_or(InvalidDigest::Form)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest::Algorithm),
        };
        if hex.len() != 2 * algorithm.len() {
            return Err(InvalidDigest::Form);
        }
        let mut bytes = [0; MAX_HASH];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }
}

fn nibble(c: u8) -> Result<u8, InvalidDigest> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(InvalidDigest::Form),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A hash algorithm registered in the OCI image specification.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// SHA-256, which nearly all registries use.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All supported algorithms.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon; also the directory name in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// Computes a digest incrementally.
pub struct Hasher(HashState);

enum HashState {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Creates a hasher without input.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => HashState::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => HashState::Sha512(sha2::Sha512::new()),
        })
    }

    /// Adds bytes to the input.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HashState::Sha256(state) => state.update(bytes),
            HashState::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all input.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; MAX_HASH];
        let algorithm = match self.0 {
            HashState::Sha256(state) => {
                bytes[..32].copy_from_slice(&state.finalize());
                Algorithm::Sha256
            }
            HashState::Sha512(state) => {
                bytes.copy_from_slice(&state.finalize());
                Algorithm::Sha512
            }
        };
        Digest { algorithm, bytes }
    }
}

/// Why a string is not a valid digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidDigest {
    /// An algorithm other than `sha256` and `sha512`.
    #[error("unknown digest algorithm; supported are sha256 and sha512")]
    Algorithm,
    /// No colon, the wrong length, or a character that is not lower-case hex.
    #[error("a digest is sha256: followed by 64 lower-case hex digits, or sha512: followed by 128")]
    Form,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_and_printing_round_trip() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::sha256(b""));
        let long = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
        assert_eq!(Digest::sha256(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn raw_hashes_are_told_apart_by_their_lengths() {
        for digest in [Digest::sha256(b"x"), Digest::of(Algorithm::Sha512, b"x")] {
            assert_eq!(Digest::from_bytes(digest.as_bytes()), Ok(digest));
        }
        for length in [0, 31, 33, 65] {
            assert_eq!(Digest::from_bytes(&vec![0; length]), Err(InvalidDigest::Form));
        }
    }

    #[test]
    fn invalid_digests_are_rejected() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, why) in [
            (hex.to_owned(), InvalidDigest::Form),
            (format!("SHA256:{hex}"), InvalidDigest::Algorithm),
            (format!("sha384:{hex}"), InvalidDigest::Algorithm),
            (format!("md5:{hex}"), InvalidDigest::Algorithm),
            (format!("sha256:{}", hex.to_uppercase()), InvalidDigest::Form),
            (format!("sha256:{}", &hex[1..]), InvalidDigest::Form),
            (format!("sha256:{hex}0"), InvalidDigest::Form),
            (format!("sha512:{hex}"), InvalidDigest::Form),
            (format!("sha256: {}", &hex[1..]), InvalidDigest::Form),
            (String::new(), InvalidDigest::Form),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text}");
        }
    }
}
