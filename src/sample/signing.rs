//! Signing sample images as cosign signs them with a key: the classic form, under a `.sig` tag.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use sigstore_crypto::KeyPair;

use super::Registry;
use super::image::{Layer, attachment, attachment_tag};
use crate::oci::Digest;

/// The layer type of a classic cosign signature.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A signing key made for a demo or a test; it lives in memory alone.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// A new ECDSA P-256 key, the kind that `cosign generate-key-pair` makes.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, SigningError> {
        KeyPair::generate_ecdsa_p256().map(Self).map_err(|error| SigningError(error.to_string()))
    }

    /// The public key, PEM.
    ///
    /// # Errors
    /// Never for a key of this kind.
    pub fn public_pem(&self) -> Result<String, SigningError> {
        self.0.public_key_der().map(|der| der.to_pem()).map_err(|error| SigningError(error.to_string()))
    }

    /// Signs an image and attaches the signature in the same repository. `reference` is the name that the signature
    /// speaks of, such as `registry.test/library/nginx`.
    ///
    /// # Errors
    /// When the signature cannot be made.
    pub fn sign(
        &self,
        registry: &Registry,
        repository: &str,
        reference: &str,
        image: Digest,
    ) -> Result<(), SigningError> {
        let layer = self.signature(reference, image)?;
        registry.push(repository, Some(&attachment_tag(&image, ".sig")), &attachment(&[layer]));
        Ok(())
    }

    /// A layer that holds the signed statement, with the signature as an annotation.
    ///
    /// # Errors
    /// When the signature cannot be made.
    pub fn signature(&self, reference: &str, image: Digest) -> Result<Layer, SigningError> {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": image.to_string()},
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = Bytes::from(payload.to_string());
        let signature = self.0.sign(&payload).map_err(|error| SigningError(error.to_string()))?;
        let annotation = STANDARD.encode(signature.as_bytes());
        Ok(Layer::of(SIMPLE_SIGNING, payload).annotation("dev.cosignproject.cosign/signature", &annotation))
    }
}

/// A signature cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SigningError(String);
