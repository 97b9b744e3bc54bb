//! Which content a bundle of an image has: its manifests, and those that are attached to it.

use std::collections::BTreeSet;

use super::{FetchError, Prefetcher};
use crate::gate::{BundledImage, BundledManifest, MAX_BUNDLED_IMAGE, MAX_BUNDLED_MANIFESTS, report_names};
use crate::oci::{Digest, ImageReference, Manifest, Platform, Reference};
use crate::scope::Scope;

/// The most manifests that are attached to one manifest and are carried.
const MAX_ATTACHED: usize = 200;

/// What a bundle has of an image, and what is known about it besides.
#[derive(Debug)]
pub struct PlannedBundle {
    /// What the bundle has.
    pub image: BundledImage,
    /// The digests by which reports name the image: of its manifests, their configurations, and its index.
    pub names: BTreeSet<Digest>,
    /// How many files of reports and VEX statements are about it.
    pub reports: usize,
}

impl Prefetcher {
    /// Fetches the manifests of an image and of what is attached to it, and describes them. Each is judged like a pull; an
    /// image that is denied cannot be exported. An attached manifest that is unavailable is noted.
    ///
    /// # Errors
    /// The denial, or any other reason why a client could not pull the image.
    pub async fn plan_bundle(
        &self,
        image: &ImageReference,
        platforms: &[Platform],
        scope: &Scope,
    ) -> Result<PlannedBundle, String> {
        let planned = self.plan(image, platforms, scope).await.map_err(|error| format!("{image}: {error}"))?;
        // Noticed here, not on the other side, where nothing can be exported again.
        match serde_json::to_vec(&planned.image) {
            Ok(text) if text.len() <= MAX_BUNDLED_IMAGE => Ok(planned),
            Ok(_) => {
                Err(format!("{image}: its lists of attached manifests are too long to import; export fewer platforms"))
            }
            Err(error) => Err(format!("{image}: {error}")),
        }
    }

    async fn plan(
        &self,
        image: &ImageReference,
        platforms: &[Platform],
        scope: &Scope,
    ) -> Result<PlannedBundle, FetchError> {
        let name = self.inspector.target_of(image, scope)?.name;
        let root = self.manifest(&name, image.reference(), scope).await?;
        let mut own = vec![root.clone()];
        for part in self.parts(image, &root, platforms, scope).await? {
            own.push(self.manifest(&name, Reference::Digest(part), scope).await?);
        }
        let tag = match image.reference() {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let seen = self.inspector.tag_seen(&name, tag.as_ref()).await;
        let (mut manifests, mut attached, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        manifests.extend(own.iter().map(|manifest| described(manifest, false)));
        let mut known: BTreeSet<Digest> = own.iter().map(|manifest| manifest.digest).collect();
        for subject in &own {
            let (list, more) = self.inspector.list_attached(image, subject.digest, scope).await?;
            notes.extend(more);
            let digests: Vec<_> = list.list.digests().into_iter().filter(|digest| known.insert(*digest)).collect();
            let most = most_attached(own.len(), manifests.len());
            if digests.len() > most {
                notes.push(format!("only {most} of {} attached manifests of {}", digests.len(), subject.digest));
            }
            for digest in digests.into_iter().take(most) {
                match self.manifest(&name, Reference::Digest(digest), scope).await {
                    Ok(manifest) => manifests.push(described(&manifest, true)),
                    Err(error) => notes.push(format!("attached manifest {digest}: {error}")),
                }
            }
            attached.push(list);
        }
        let names: BTreeSet<Digest> = own.iter().flat_map(|manifest| report_names(manifest)).collect();
        let reports = self.inspector.count_reports(&names);
        let image = BundledImage { name, tag, digest: root.digest, seen, manifests, attached, notes };
        Ok(PlannedBundle { image, names, reports })
    }
}

/// How many manifests can be attached to one more manifest, so that an import accepts the image: `own` are part of it, and
/// `so_far` are in the bundle already.
fn most_attached(own: usize, so_far: usize) -> usize {
    MAX_BUNDLED_MANIFESTS.saturating_sub(so_far.max(own)).min(MAX_ATTACHED)
}

fn described(manifest: &Manifest, is_attached: bool) -> BundledManifest {
    BundledManifest {
        digest: manifest.digest,
        size: manifest.bytes.len() as u64,
        media_type: manifest.media_type.clone(),
        is_attached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_no_more_manifests_than_an_import_accepts() {
        let own = 13;
        let total = (0..own).fold(own, |so_far, _| so_far + most_attached(own, so_far));
        assert_eq!((most_attached(1, 1), total), (MAX_ATTACHED, MAX_BUNDLED_MANIFESTS));
        assert_eq!(most_attached(own, MAX_BUNDLED_MANIFESTS), 0);
    }
}
