//! The content of an image's bundle: its manifests, and those attached to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{FetchError, Prefetcher};
use crate::gate::{BundledImage, BundledManifest, MAX_BUNDLED_IMAGE, MAX_BUNDLED_MANIFESTS, report_names};
use crate::oci::{Descriptor, Digest, ImageName, ImageReference, Manifest, Platform, Reference};
use crate::scope::Scope;

/// The maximum number of attached manifests per manifest in a bundle.
const MAX_ATTACHED: usize = 200;

/// The annotations with which BuildKit lists an attestation in an index: what it is, and the image that it is about.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION: &str = "attestation-manifest";

/// The content of an image in a bundle, and other facts about the image.
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
    /// Fetches the manifests of an image and of what is attached to it, and describes them. Each is judged like a pull;
    /// an image that is denied cannot be exported. An attached manifest that is unavailable is noted.
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
        // Detected here rather than at the import, where nothing can be exported again.
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
        let mut notes = self.add_attestations(&name, &mut own, scope).await;
        let (mut manifests, mut attached) = (Vec::new(), Vec::new());
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

    /// Adds BuildKit's attestations about these manifests. They are parts of the index as far as a client can tell, but
    /// an image is complete without them: one that is unavailable is noted.
    async fn add_attestations(&self, name: &ImageName, own: &mut Vec<Arc<Manifest>>, scope: &Scope) -> Vec<String> {
        let (digests, mut notes) = (attestations(own), Vec::new());
        let most = most_attached(own.len(), own.len());
        if digests.len() > most {
            notes.push(format!("only {most} of {} attestations in the index", digests.len()));
        }
        for digest in digests.into_iter().take(most) {
            match self.manifest(name, Reference::Digest(digest), scope).await {
                Ok(manifest) => own.push(manifest),
                Err(error) => notes.push(format!("attestation {digest}: {error}")),
            }
        }
        notes
    }
}

/// The attestations about these manifests that the indexes among them list.
fn attestations(own: &[Arc<Manifest>]) -> BTreeSet<Digest> {
    let known: BTreeSet<Digest> = own.iter().map(|manifest| manifest.digest).collect();
    let is_about_own = |entry: &&Descriptor| {
        let about = entry.annotation(REFERENCE_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        entry.annotation(REFERENCE_TYPE) == Some(ATTESTATION)
            && about.is_some_and(|about| known.contains(&about))
            && !known.contains(&entry.digest)
    };
    own.iter().flat_map(|manifest| manifest.children()).filter(is_about_own).map(|entry| entry.digest).collect()
}

/// How many manifests can be attached to one more manifest, so that an import accepts the image: `own` are part of it,
/// and `so_far` are in the bundle already.
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
