//! Whether a signature names the image that is pulled (`signedIdentity`, containers-policy.json(5)).

use super::claim::SignatureClaim;
use crate::oci::{ImageReference, Reference};
use crate::policy::SignedIdentity;
use crate::trust::scheme::ImageSubject;

/// Compares the name that a classic signature was made for with the image's. cosign signs the name of a repository
/// without a tag, next to the digest: together they are a reference by digest.
///
/// # Errors
/// The names differ, or the signature names no image, as a bundle.
pub(super) fn check(wanted: &SignedIdentity, claim: &SignatureClaim, image: &ImageSubject) -> Result<(), String> {
    let Some(signed) = &claim.reference else {
        return Err("names no image, like every cosign bundle, but this authority has a signedIdentity".into());
    };
    let digest = image.manifest.digest;
    let is_bare = |signed: ImageReference| signed.tag.is_none() && signed.digest.is_none();
    let full = if signed.parse().is_ok_and(is_bare) { format!("{signed}@{digest}") } else { signed.clone() };
    if wanted.accepts(&full, &image.name, &Reference::Digest(digest)) {
        return Ok(());
    }
    Err(format!("was made for {signed:?}, but the image is {:?}", image.name.to_string()))
}
