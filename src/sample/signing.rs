//! Signs sample images as cosign does with a key, as classic signatures under a `.sig` tag.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::json;

use super::Registry;
use super::image::{Layer, attachment, attachment_tag};
use crate::oci::Digest;

/// The layer type of a classic cosign signature.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A signing key generated for a demo or a test. It is never written to disk.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// Generates an ECDSA P-256 key, like `cosign generate-key-pair`.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn generate() -> Result<Self, SigningError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// The public key, as a PEM `PUBLIC KEY` block.
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// Signs an image, and attaches the signature in the same repository. `reference` is the name recorded in the
    /// signature, such as `registry.test/library/nginx`.
    ///
    /// # Errors
    /// The signature cannot be created.
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

    /// A layer with the signed payload, and the signature as an annotation.
    ///
    /// # Errors
    /// The signature cannot be created.
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
        let annotation = STANDARD.encode(self.0.sign(&payload)?);
        Ok(Layer::of(SIMPLE_SIGNING, payload).annotation("dev.cosignproject.cosign/signature", &annotation))
    }
}

/// A signature could not be created.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SigningError(#[from] rcgen::Error);
