//! What is installed in an image and which vulnerabilities are known in it, whatever the policy says. Used by
//! `pullgate va`.

use std::sync::Arc;

use super::platforms::manifest_if_there;
use super::{Gate, GateError, Target};
use crate::inventory::Inventory;
use crate::oci::{Content, Digest, Manifest, Reference};
use crate::policy::{Observed, VaEvidence};

/// One image that was examined.
#[derive(Clone, Debug)]
pub struct ScannedImage {
    /// The image's digest.
    pub digest: Digest,
    /// The platform, if an index states it.
    pub platform: Option<String>,
    /// What is known about its vulnerabilities.
    pub evidence: Arc<Observed<VaEvidence>>,
    /// What is installed in it; or why that cannot be read.
    pub inventory: Result<Arc<Inventory>, String>,
}

impl Gate {
    /// Examines an image, or the relevant images of an index.
    ///
    /// # Errors
    /// If the image cannot be had: it is unknown, or the upstream does not respond.
    pub async fn scan(&self, target: &Target, reference: &Reference) -> Result<Vec<ScannedImage>, GateError> {
        let manifest = self.resolver.resolve(&target.upstream, &target.name, reference, None).await?.manifest;
        if let Content::Image { .. } = &manifest.content {
            return Ok(self.scan_image(target, &manifest, None).await?.into_iter().collect());
        }
        let mut scanned = Vec::new();
        for child in self.judge.evidence.platforms.relevant_children(target, &manifest).await? {
            let Some(image) = manifest_if_there(&self.resolver, target, child.digest).await? else { continue };
            let platform = child.platform.as_ref().map(ToString::to_string);
            scanned.extend(self.scan_image(target, &image, platform).await?);
        }
        Ok(scanned)
    }

    async fn scan_image(
        &self,
        target: &Target,
        image: &Arc<Manifest>,
        platform: Option<String>,
    ) -> Result<Option<ScannedImage>, GateError> {
        let Some(subject) = self.judge.evidence.va_subject(target, image, None).await? else { return Ok(None) };
        let va = &self.judge.evidence.va;
        let inventory = match va.scanner().inventory(&subject).await {
            Ok(inventory) => inventory.ok_or_else(|| "the layers were not read".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let evidence = va.evidence(&subject).await;
        Ok(Some(ScannedImage { digest: image.digest, platform, evidence, inventory }))
    }
}
